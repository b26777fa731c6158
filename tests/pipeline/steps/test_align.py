from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import japagen as jg
from japagen.config.curation import Selection
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.formats import load_dataset
from japagen.errors import JapagenError
from japagen.gradmm.target import FILTER, select_by_gradient
from japagen.pipeline.steps import align
from tests.scripted import ScriptedGenerator


def _chosen(rows: list[Example], wanted: int) -> Dataset:
    """Chooses texts of the first of two labels, which has the gold g0 and g1."""
    gold = [Example(f"例{i}", "あ" if i < 2 else "い", id=f"g{i}") for i in range(4)]
    rng = np.random.default_rng(0)
    vectors, gold_vectors = (rng.normal(size=(len(part), 3)) for part in (rows, gold))
    parts = (Dataset.of(rows), Dataset.of(gold), vectors, gold_vectors, ["あ", "い"])
    return select_by_gradient(*parts, settings=Selection(per_label=wanted))


def test_what_is_not_chosen_is_rejected_and_old_rejections_stay() -> None:
    rejected = Rejection("too_short", 1.0, 6.0)
    rows = [Example(text=f"文{i}", label="あ") for i in range(5)]
    rows[1] = Example(text="短", label="あ", rejected=rejected)
    found = _chosen(rows, 2)
    assert found.texts == [row.text for row in rows]
    assert found[1].rejected == rejected
    left = [e.rejected for e in found if e.rejected not in (None, rejected)]
    assert left == [Rejection(FILTER, 0.0, 2.0, "2 of 4 texts were chosen")] * 2
    assert len(found.kept) == 2


def test_a_run_trains_on_what_was_chosen(
    raw_task: dict[str, Any], tiny_encoder: str, tmp_path: Path
) -> None:
    raw_task |= {
        "selection": {"per_label": 3},
        "training": {"encoder": tiny_encoder, "synthetic_share": 0.4},
        "alignment": {"method": "labels", "label_trust": "none"},
    }
    task = Task.parse(raw_task)
    jg.run(task, tmp_path / "run", until="align", generator=ScriptedGenerator())
    found = load_dataset(tmp_path / "run" / "aligned.parquet")
    assert found.kept.label_counts() == {"配送": 3, "返品": 3}
    assert any(e.rejected and e.rejected.filter == FILTER for e in found)
    gold = load_data(task).gold
    assert gold is not None
    registers = load_dataset(tmp_path / "run" / "registers.parquet")
    before = dict(zip(registers.column("id"), registers.column("shot_ids"), strict=True))
    for example in found.kept:
        own = {e.id for e in gold if e.label == example.label}
        assert set(example.shot_ids) - set(before[example.id]) <= own
        # It was chosen by three of four texts; a fold that holds out the fourth can use it.
        assert len(own & set(example.shot_ids)) == len(own) - 1 == 3
    left = [e for e in found if e.rejected]
    assert all(list(e.shot_ids) == before[e.id] for e in left)


def test_texts_of_unknown_descent_stay_so() -> None:
    rows = [Example(f"文{i}", "あ", shot_ids=("g9",) if i else (), id=f"s{i}") for i in range(3)]
    found = _chosen(rows, 3)
    assert found.column("shot_ids") == [[], ["g9", "g0", "g1"], ["g9", "g0", "g1"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gold": None}, "needs gold"),
        ({"kind": "multi_label"}, "only for classification"),
    ],
)
def test_what_gradients_cannot_choose_for_is_refused(
    raw_task: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    raw = raw_task | {"selection": {"per_label": 3}} | changes
    with pytest.raises(JapagenError, match=message):
        Task.parse({key: value for key, value in raw.items() if value is not None})


class _Placed:
    """Gives texts the vectors that they are named after."""

    def vectors(self, data: Dataset) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.array([list(map(float, t.split())) for t in data.texts], dtype=np.float32)


def test_gold_among_texts_of_another_label_is_to_be_looked_at() -> None:
    right = [Example(f"1 0.0{i}", "あ", id=f"a{i}") for i in range(6)]
    other = [Example(f"-1 0.0{i}", "い", id=f"b{i}") for i in range(6)]
    wrong = Example("1 0.015", "い", id="wrong")
    gold, encoder = Dataset.of([*right, *other, wrong]), _Placed()
    (found,) = align._doubtful(gold, encoder.vectors(gold))
    assert (found["text"], found["label"], found["nearest_label"]) == ("1 0.015", "い", "あ")
    assert (found["agreeing"], found["of"]) == (5, 5)
    tags = Dataset.of([Example(f"{i} 1", ["あ"], id=str(i)) for i in range(9)])
    assert align._doubtful(tags, encoder.vectors(tags)) == []


def test_the_map_holds_gold_and_kept_texts_and_is_the_same_again() -> None:
    gold = Dataset.of([Example(f"1 0.{i}", "あ", id=f"g{i}") for i in range(5)])
    texts = Dataset.of([Example(f"-1 0.{i}", "い", id=f"s{i}") for i in range(7)])
    encoder: Any = _Placed()
    found = align._mapped(texts, gold, encoder, 3)
    assert found == align._mapped(texts, gold, encoder, 3)
    assert [point["text"] for point in found["map"]["gold"]] == gold.texts
    assert [point["id"] for point in found["map"]["synthetic"]] == texts.column("id")
    assert all(np.isfinite([point["x"], point["y"]]).all() for point in found["map"]["gold"])
    few = align._mapped(texts.take([0]), gold.take([0]), encoder, 3)
    assert few["map"] is None
    assert align._mapped(texts, None, encoder, 3)["map"] is None
