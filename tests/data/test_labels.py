from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.config.sections import Training
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.data.dataset import Dataset, Example
from japagen.data.labels import NO_TAGS, Floats, LabelSpace, PseudoLabels
from japagen.errors import JapagenError
from japagen.llm.backend import Request
from japagen.pipeline.run import run
from japagen.training.encoder import Encoder, load_encoder
from japagen.training.head import head_of
from japagen.training.trainer import train
from tests.conftest import GOLD, write_jsonl
from tests.scripted import ScriptedGenerator

TAGS = LabelSpace("multi_label", ("配送", "請求", "解約"), may_be_empty=True)
SCALE = LabelSpace("regression", ("0", "2.5", "5"))
CLASSES = LabelSpace("classification", ("正", "負"))
tag_sets = st.lists(st.sampled_from(TAGS.names), unique=True)


@given(tag_sets)
def test_a_set_of_tags_has_one_name(tags: list[str]) -> None:
    name = TAGS.name(tags)
    assert sorted(TAGS.label(name)) == sorted(tags)  # type: ignore[arg-type]
    assert TAGS.name(list(reversed(tags))) == name
    assert TAGS.read("|".join(tags)) == TAGS.label(name)
    assert (name == NO_TAGS) == (not tags)


@given(st.floats(0, 5))
def test_a_number_is_asked_for_by_the_nearest_anchor(value: float) -> None:
    distances = {name: abs(float(name) - value) for name in SCALE.names}
    assert distances[SCALE.name(value)] == min(distances.values())
    assert SCALE.read(str(value)) == value


@given(st.lists(tag_sets, min_size=1, max_size=8))
def test_what_is_certain_is_decided(rows: list[list[str]]) -> None:
    codes = TAGS.codes(rows)
    assert TAGS.labels(TAGS.decide(codes)) == [TAGS.label(TAGS.name(row)) for row in rows]
    numbers = np.array([[-3.0], [0.2], [9.0]])
    assert SCALE.labels(SCALE.decide(numbers)) == [0.0, 0.2, 5.0]
    np.testing.assert_array_equal(SCALE.by_name(numbers), np.eye(3)[[0, 0, 2]])
    assert CLASSES.labels(CLASSES.decide(np.array([[0.4, 0.6]]))) == ["負"]


def test_a_text_has_a_tag_unless_it_may_have_none() -> None:
    unsure = np.array([[0.1, 0.3, 0.2]])
    assert TAGS.labels(TAGS.decide(unsure)) == [[]]
    strict = LabelSpace("multi_label", TAGS.names)
    assert strict.labels(strict.decide(unsure)) == [["請求"]]


def test_tags_are_asked_for_in_the_sets_that_gold_has() -> None:
    gold = [["配送"], ["請求", "配送"], ["配送", "請求"], ["解約"]]
    asked = TAGS.asked(gold)
    assert asked == pytest.approx({"配送": 0.75, "配送、請求": 1.5, "解約": 0.75})
    assert TAGS.asked() == dict.fromkeys(TAGS.names, 1.0)
    assert SCALE.asked([0.1, 0.2]) == dict.fromkeys(SCALE.names, 1.0)


def test_the_kind_is_read_off_the_labels() -> None:
    kinds = {
        "classification": ["a", "b"],
        "regression": [0.5, 3.0],
        "multi_label": [["a"], ["a", "b"]],
    }
    for kind, labels in kinds.items():
        data = Dataset.of(Example(f"文{i}", label) for i, label in enumerate(labels))  # type: ignore[arg-type]
        assert LabelSpace.of(data).kind == kind
    assert LabelSpace.of(Dataset.of([Example("文", 0.5), Example("章", 3.0)])).bounds == (0.5, 3)


def _task(tmp_path: Path, rows: list[dict[str, Any]], **more: Any) -> Task:
    return Task.parse(
        {
            "name": "kinds",
            "gold": {"path": str(write_jsonl(tmp_path / "gold.jsonl", rows))},
            "generation": {"per_label": 8, "shots": 3},
            "curation": {"register_miss": "ignore"},
            "alignment": {"method": "labels"},
            "evaluation": {"bootstrap": 100},
            **more,
        }
    )


def _tag_rows() -> list[dict[str, Any]]:
    sets = [["配送"], ["請求"], ["配送", "請求"], ["解約", "請求"]]
    return [
        {"text": f"{'と'.join(tags)}について{n}回目の連絡です。", "label": tags}
        for n in range(6)
        for tags in sets
    ]


def _number_rows() -> list[dict[str, Any]]:
    return [
        {"text": f"満足度は{n}割くらいの出来だと思いました。", "label": n / 2} for n in range(1, 11)
    ]


@pytest.mark.parametrize(
    ("row", "more", "message"),
    [
        ({"label": ["配送", "請球"]}, {"kind": "multi_label"}, "'請球' .did you mean '請求'"),
        ({"label": 7}, {"scale": {0: "低い", 5: "高い"}}, "label 7; expected a number from 0 to 5"),
        ({"label": "高"}, {"scale": {0: "低い", 5: "高い"}}, "'高'; expected a number"),
        ({"label": "配送", "text_pair": "二つ目"}, {}, "has a second text .* on 1 of 1 rows"),
        ({"label": "配送"}, {"pair": {"first": "前提"}}, "lacks a second text on 1 of 1 rows"),
    ],
)
def test_labels_of_another_kind_are_refused(
    tmp_path: Path, row: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    if "scale" not in more:
        more = {**more, "labels": ["配送", "請求", "解約"]}
    with pytest.raises(JapagenError, match=message):
        load_data(_task(tmp_path, [{"text": "文章です。", **row}], **more))


def test_gold_of_tags_is_drawn_until_every_tag_has_enough(tmp_path: Path) -> None:
    task = _task(tmp_path, _tag_rows(), kind="multi_label", labels=list(TAGS.names))
    assert task.gold is not None
    task = task.model_copy(update={"gold": task.gold.model_copy(update={"per_label": 2})})
    gold = load_data(task).gold
    assert gold is not None
    counts = gold.label_counts()
    assert all(counts[tag] >= 2 for tag in TAGS.names)
    assert len(gold) < 8


def test_held_out_gold_has_every_tag(tmp_path: Path) -> None:
    data = load_data(_task(tmp_path, _tag_rows(), kind="multi_label", labels=list(TAGS.names)))
    assert data.test is not None
    assert set(data.test.label_counts()) == set(TAGS.names)


@pytest.mark.parametrize(
    ("message", "more"),
    [
        ("goes with a scale", {"kind": "regression", "labels": ["1", "2"]}),
        ("hold none of", {"kind": "multi_label", "labels": ["a、b", "c"]}),
        ("one of spearman, pearson", {"scale": {0: "", 1: ""}, "evaluation": {"metric": "f1"}}),
        ("rounds: only where", {"scale": {0: "", 1: ""}, "generation": {"rounds": 2}}),
        ("do not go with numbers", {"scale": {0: "", 1: ""}, "label_prior": {"0": 0.5, "1": 0.5}}),
    ],
)
def test_settings_of_another_kind_are_refused(message: str, more: dict[str, Any]) -> None:
    with pytest.raises(JapagenError, match=message):
        Task.parse({"name": "x", **more})


def test_a_task_with_a_scale_means_the_same_when_written(tmp_path: Path) -> None:
    task = Task.parse({"name": "x", "scale": {0: "低い", 2.5: "中ほど", 5: "高い"}})
    path = tmp_path / "task.yaml"
    path.write_text(task.to_yaml(), encoding="utf-8")
    assert Task.load(path) == task
    assert task.labels == {"0": "低い", "2.5": "中ほど", "5": "高い"}
    assert task.metric == "spearman"


def _write(request: Request) -> str:
    return f"これは{request.label}についての文章で、番号は{request.seed}です。"


def test_tags_run_to_the_report(tmp_path: Path, tiny_encoder: str) -> None:
    training = {"encoder": tiny_encoder, "min_steps": 2, "max_steps": 2, "max_length": 64}
    task = _task(
        tmp_path, _tag_rows(), kind="multi_label", labels=list(TAGS.names), training=training
    )
    generator = ScriptedGenerator(_write)
    result = run(task, tmp_path / "run", generator=generator)
    asked = Counter(r.label for r in generator.asked)
    assert sum(asked.values()) == 24
    assert set(asked) == {"配送", "請求", "配送、請求", "請求、解約"}
    last = str(generator.asked[0].prompt).splitlines()[-1]
    assert last == f"- 【{generator.asked[0].label}】"
    assert ["配送", "請求"] in result.dataset.labels
    scores = result.metrics["scores"]
    assert scores["with_synthetic"].keys() >= {"macro_f1", "micro_f1", "exact_match"}
    assert "confusion" not in scores["with_synthetic"]
    assert result.metrics["per_label"]["請求"]["generated"] == asked["配送、請求"] + sum(
        n for name, n in asked.items() if name in ("請求", "請求、解約")
    )
    found = result.classifier.predict(["荷物が届きません。"])[0]
    assert isinstance(found.label, list)
    assert set(found.probabilities) == set(TAGS.names)


def test_numbers_run_to_the_report(tmp_path: Path, tiny_encoder: str) -> None:
    training = {"encoder": tiny_encoder, "min_steps": 2, "max_steps": 2, "max_length": 64}
    task = _task(
        tmp_path,
        _number_rows(),
        scale={0: "とても低い", 2: "低め", 4: "高い", 5: "とても高い"},
        training=training,
    )
    generator = ScriptedGenerator(_write)
    result = run(task, tmp_path / "run", generator=generator)
    assert Counter(r.label for r in generator.asked) == dict.fromkeys(task.labels, 8)
    assert set(result.dataset.labels) == {0.0, 2.0, 4.0, 5.0}
    scores = result.metrics["scores"]
    assert scores["metrics"] == ["spearman", "pearson"]
    assert scores["with_synthetic"]["mean_absolute_error"] >= 0
    assert all(isinstance(e["predicted"], float) for e in result.metrics["errors"])
    assert isinstance(result.classifier.predict(["良い品です。"])[0].label, float)
    page = (result.path / "report.html").read_text(encoding="utf-8")
    assert "スピアマンの順位相関係数" in page


DESCRIPTIONS = {"配送": "荷物、届け先", "返品": "返品、交換"}
LABELS = list(DESCRIPTIONS)


@pytest.fixture(scope="module")
def encoder(tiny_encoder: str) -> Encoder:
    return load_encoder(tiny_encoder)


def rows(split: str, start: int, end: int) -> Dataset:
    return Dataset.of(
        Example(text, label, split=split)  # type: ignore[arg-type]
        for label in LABELS
        for text in GOLD[label][start:end]
    )


def direction(gold: Dataset, encoder: Encoder, pseudo: PseudoLabels | None = None) -> Floats:
    """Weight and bias of the head, apart from the temperature that calibration gave it."""
    settings = Training(tune="never")
    made = train(
        None, gold, encoder=encoder, descriptions=DESCRIPTIONS, settings=settings, pseudo=pseudo
    )
    head = head_of(made)
    both = np.concatenate([head.weight.ravel(), head.bias])
    return np.asarray(both / np.linalg.norm(both))


def one_hot(texts: Dataset) -> Floats:
    return np.eye(2)[[LABELS.index(str(label)) for label in texts.labels]]


def test_what_labelers_are_sure_of_counts_as_gold_does(encoder: Encoder) -> None:
    gold, more = rows("train", 0, 3), rows("unlabelled", 3, 6)
    alone = direction(gold, encoder)
    voted = direction(gold, encoder, PseudoLabels(more, one_hot(more)))
    np.testing.assert_allclose(voted, direction(Dataset.concat([gold, more]), encoder), atol=1e-5)
    assert not np.allclose(voted, alone, atol=1e-3)


def test_probabilities_are_learnt_and_not_the_likeliest_label(encoder: Encoder) -> None:
    gold, more = rows("train", 0, 3), rows("unlabelled", 3, 6)
    sure = direction(gold, encoder, PseudoLabels(more, one_hot(more)))
    unsure = direction(gold, encoder, PseudoLabels(more, 0.2 * one_hot(more) + 0.4))
    assert not np.allclose(sure, unsure, atol=1e-3)


def test_a_text_counts_for_as_many_gold_texts_as_it_says(encoder: Encoder) -> None:
    gold, more = rows("train", 0, 3), rows("unlabelled", 3, 6)
    twice = PseudoLabels(more, one_hot(more), text_weight=2.0)
    repeated = Dataset.concat([gold, more, more])
    np.testing.assert_allclose(
        direction(gold, encoder, twice), direction(repeated, encoder), atol=1e-5
    )
    none = PseudoLabels(more, one_hot(more), text_weight=1e-6)
    np.testing.assert_allclose(direction(gold, encoder, none), direction(gold, encoder), atol=1e-3)


def test_real_texts_that_were_voted_on_count_towards_tuning() -> None:
    assert not Training().tunes(31, 2)
    assert Training().tunes(32, 2)
