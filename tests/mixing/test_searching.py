from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from japagen.examples import Dataset, Example
from japagen.japanese.morphology import default_tagger
from japagen.listeners import Silent
from japagen.mixing.linear_head import Floats
from japagen.mixing.mix import FoundMix
from japagen.mixing.searching import find_mix_of
from japagen.running.data import load_data
from japagen.tasks.settings import Training
from japagen.tasks.tasks import Task

ROOT = Path(__file__).parents[2]


def _pairs(count: int, split: str) -> Dataset:
    return Dataset.of(
        Example(
            f"荷物が{n}個届きました。",
            label,
            text_pair=f"荷物は{'届いた' if label == '含意' else '届いていない'}、{n}。",
            id=f"{split}-{label}-{n}",
            split="train" if split == "g" else "synthetic",
            request_id=None if split == "g" else "r",
            shot_ids=() if split == "g" else (f"g-{label}-{n % 4}",),
        )
        for n in range(count)
        for label in ("含意", "矛盾")
    )


@pytest.mark.parametrize("method", ["entropy", "none", "gradient_matching"])
def test_pairs_are_searched_like_texts(method: str, tiny_encoder: str) -> None:
    task = Task.parse(
        {
            "name": "pairs",
            "labels": ["含意", "矛盾"],
            "training": {"encoder": tiny_encoder},
            "mixing": {"repeats": 1},
        }
    )
    gold, synthetic = _pairs(4, "g"), _pairs(16, "s")
    found = find_mix_of(task, gold, synthetic, None, method, default_tagger(), Silent())
    assert found.reason in ("default", "better", "no_help")
    assert found.details["folds"]["usable"] == [24] * 4
    assert FoundMix.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.slow
@pytest.mark.parametrize("right", [True, False])
def test_real_texts_are_used_and_random_labels_are_not(
    right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Labels are taken as they are: a judge would put random ones right.
    changed = {"mixing.repeats": 2, "alignment.label_trust": "none", "training.soft_labels": 0}
    task = Task.load(ROOT / "configs/quickstart.yaml", changed)
    gold = load_data(task).gold
    assert gold is not None
    rows = (ROOT / "configs/quickstart/pool.jsonl").read_text(encoding="utf-8").splitlines()
    others = [r for r in map(json.loads, rows) if r["text"] not in set(gold.texts)]
    labels = [r["label"] for r in others]
    if not right:
        random.Random(0).shuffle(labels)
    made = Dataset.of(
        Example(r["text"], label, request_id="r") for r, label in zip(others, labels, strict=True)
    )
    found = find_mix_of(task, gold, made, None, "none", default_tagger(), Silent())
    worth = found.details["curves"]["worth"]["texts"]
    if right:
        assert found.mix.share > 0
        assert worth is None or worth > 0
        _is_confirmed_by_what_the_run_trains(task, gold, made, monkeypatch)
    else:
        assert found.mix.share == 0
        assert worth is not None
        assert worth <= 0


def _is_confirmed_by_what_the_run_trains(
    task: Task, gold: Dataset, made: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fold has fewer than the 16 texts a label from which the run is tuned, and is tuned too."""
    asked: list[Training] = []

    class Uniform:
        def probabilities(self, texts: list[str], _: list[str]) -> Floats:
            return np.full((len(texts), len(task.labels)), 1 / len(task.labels))

    def train(*_: object, settings: Training, **__: object) -> Uniform:
        asked.append(settings)
        return Uniform()

    monkeypatch.setattr("japagen.training.fitting.train", train)
    for gold_there in (gold, gold.take(range(len(gold) - 1))):
        mixing = task.mixing.model_copy(update={"confirm": True, "confirm_folds": 2})
        confirmed = task.model_copy(update={"mixing": mixing})
        find_mix_of(confirmed, gold_there, made, None, "none", default_tagger(), Silent())
    assert [settings.tune for settings in asked] == ["always"] * 4 + ["never"] * 4
    assert [settings.share > 0 for settings in asked] == [False, True] * 4
