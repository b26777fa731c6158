from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import japagen as jg
from japagen.config.generation import GeneratorSettings
from japagen.config.sources import Source
from japagen.config.task import Task
from japagen.config.task_data import TaskData, load_data
from japagen.data.dataset import Dataset, Example
from japagen.data.files import read_array, read_json
from japagen.data.formats import load_dataset, write_examples
from japagen.errors import JapagenError
from japagen.evaluation.drift import Profile
from japagen.llm.backend import Answer, Request
from japagen.pipeline.steps import labels as labels_module
from japagen.pipeline.steps.labels import chat_labeler, sample_of
from tests.pipeline.steps.test_label_checking import Weighing, label_of, misled
from tests.pipeline.test_run import Heard, _changed
from tests.scripted import ScriptedGenerator

_HALVES = {
    "配送": ("荷物がまだ届きません", "再配達を頼みたいです", "届け先を変えたいです"),
    "返品": ("商品を返したいです", "定期便をやめたいです", "サイズを交換できますか"),
}
TEXTS = [f"{body}（{i}件目）。" for i in range(8) for own in _HALVES.values() for body in own]


@pytest.fixture
def task(raw_task: dict[str, Any], tiny_encoder: str, tmp_path: Path) -> Task:
    """A small task with 48 unlabelled texts."""
    path = tmp_path / "unlabelled.jsonl"
    write_examples(path, Dataset.of(Example(text) for text in TEXTS))
    raw_task["unlabelled"] = {"path": str(path)}
    # Whether the chat model is installed shall not decide who is asked.
    raw_task["training"] = {
        "encoder": tiny_encoder,
        "min_steps": 2,
        "max_steps": 3,
        "synthetic_share": 0,
        "labeler": "generator",
    }
    return Task.parse(raw_task)


def always(task: Task, **more: Any) -> Task:
    return _changed(task, "training", pseudo_labels="always", **more)


def ran(task: Task, out: Path, generator: ScriptedGenerator, **how: Any) -> tuple[jg.Run, Heard]:
    heard = Heard()
    return jg.run(task, out, generator=generator, listener=heard, **how), heard


def test_unlabelled_texts_are_labelled_and_learnt(task: Task, tmp_path: Path) -> None:
    run, _ = ran(always(task), tmp_path / "run", Weighing())
    found = run.metrics["pseudo_labels"]
    assert found["reason"] == "always"
    assert found["texts"] == 36  # a quarter is left
    assert set(found["labelers"]) == {"encoder", "generator"}
    texts = load_dataset(run.path / "pseudo.parquet")
    assert [label_of(e.text) for e in texts] == [e.label for e in texts]
    chances = read_array(run.path / "pseudo.npy")
    assert chances.shape == (36, 2)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert found["per_label"] == texts.label_counts()
    assert 0 < found["text_weight"] <= found["reliability"] <= 1
    one, other = (read_array(run.path / "predictions" / f"train-{arm}-0.npy") for arm in ARMS)
    assert np.abs(one - other).max() > 0
    # The verdict is on what was added, though no synthetic text was.
    assert run.metrics["mix"]["share"] == 0
    assert run.metrics["scores"]["verdict"] != "not_used"


ARMS = ("gold", "synthetic")


def test_a_second_run_asks_nothing_and_finds_the_same(task: Task, tmp_path: Path) -> None:
    first, _ = ran(always(task), tmp_path / "run", Weighing())
    before = first.metrics["scores"]["with_synthetic"]
    generator = Weighing()
    again, heard = ran(always(task), tmp_path / "run", generator)
    assert generator.options == []
    assert "pseudo" in heard.kept()
    assert "train-synthetic-0" in heard.kept()
    assert again.metrics["scores"]["with_synthetic"] == before
    # Fewer texts are other texts: they are labelled, and trained on, anew.
    _, heard = ran(always(task, pseudo_label_texts=8), tmp_path / "run", Weighing())
    assert {"pseudo", "train-synthetic-0", "reference"} <= heard.ran()
    assert "train-gold-0" in heard.kept()


def test_probabilities_follow_the_order_of_the_labels(task: Task, tmp_path: Path) -> None:
    ran(always(task), tmp_path / "run", Weighing())
    turned = always(task).model_copy(update={"labels": dict(reversed(task.labels.items()))})

    class Turned(Weighing):
        def _right(self, document: str) -> int:
            return 1 - super()._right(document)

    run, heard = ran(turned, tmp_path / "run", Turned())
    assert "pseudo" in heard.ran()
    chances = read_array(run.path / "pseudo.npy")
    texts = load_dataset(run.path / "pseudo.parquet")
    names = [list(turned.labels)[i] for i in chances.argmax(axis=1)]
    assert names == [e.label for e in texts] == [label_of(e.text) for e in texts]


@pytest.mark.parametrize("mode", ["never", "auto"])
def test_they_are_left_out_where_nobody_can_tell_their_labels(
    task: Task, tmp_path: Path, mode: str
) -> None:
    # Nothing in gold says which of its labels, drawn at random, a text has.
    labels = np.random.default_rng(0).choice(list(task.labels), size=120)
    rows = [Example(f"{TEXTS[i % 6]}その{i}", str(label)) for i, label in enumerate(labels)]
    write_examples(tmp_path / "random.jsonl", Dataset.of(rows))
    at_random = task.model_copy(update={"gold": Source(path=tmp_path / "random.jsonl")})
    chosen = _changed(at_random, "training", pseudo_labels=mode)
    run, heard = ran(chosen, tmp_path / "run", Weighing())
    found = run.metrics["pseudo_labels"]
    if mode == "never":
        assert found is None
        assert "pseudo" not in heard.ran()
    else:
        assert found["reason"] == "guessing"
        assert found["texts"] == 0
        assert read_json(run.path / "pseudo.json") == found
    gold, shipped = (read_array(run.path / "predictions" / f"train-{a}-0.npy") for a in ARMS)
    np.testing.assert_array_equal(gold, shipped)
    assert run.metrics["scores"]["verdict"] == "not_used"


def test_the_surer_labelers_are_right_the_more_each_text_counts(task: Task, tmp_path: Path) -> None:
    class Unsure(Weighing):
        """A model that is wrong about every third text."""

        def _right(self, document: str) -> int:
            return super()._right(document) ^ (sum(map(ord, document)) % 3 == 0)

    found = [
        ran(always(task), tmp_path / name, generator)[0].metrics["pseudo_labels"]
        for name, generator in (("sure", Weighing()), ("unsure", Unsure()))
    ]
    assert found[0]["right"] > found[1]["right"]
    assert found[0]["reliability"] > found[1]["reliability"]
    assert found[0]["text_weight"] > found[1]["text_weight"]


@pytest.mark.parametrize("installed", [True, False])
def test_the_chat_model_labels_only_where_it_is_installed_and_nobody_better_is_named(
    task: Task, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    monkeypatch.setattr(labels_module, "chat_model_installed", lambda: installed)
    auto = _changed(task, "training", labeler="auto")
    embedded = auto.model_copy(update={"generator": GeneratorSettings()})
    found = chat_labeler(embedded)
    assert (found.model if found else None) == ("qwen" if installed else None)
    assert chat_labeler(_changed(embedded, "training", labeler="generator")) is None
    named = {"backend": "openai", "model": "m", "base_url": "http://localhost/v1"}
    assert chat_labeler(_changed(auto, "generator", **named)) is None


def test_a_generator_that_knows_the_labels_is_listened_to(task: Task, tmp_path: Path) -> None:
    run, _ = ran(task, tmp_path / "run", Weighing())
    found = run.metrics["pseudo_labels"]
    assert found["reason"] == "reliable"
    assert found["right"] == 1


def test_texts_of_a_file_have_no_generator_to_ask(task: Task, tmp_path: Path) -> None:
    rows = [Example(f"{text}お願いします。", label_of(text)) for text in TEXTS[:12]]
    write_examples(tmp_path / "given.jsonl", Dataset.of(rows))
    run, _ = ran(always(task), tmp_path / "run", Weighing(), synthetic=tmp_path / "given.jsonl")
    assert run.metrics["pseudo_labels"] == {"reason": "no_generator", "texts": 0}


def test_what_was_not_answered_is_asked_again(task: Task, tmp_path: Path) -> None:
    class Failing(ScriptedGenerator):
        """A chat model whose server fails on questions about unlabelled texts."""

        fails = True

        def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
            for request in requests:
                said = "" if isinstance(request.prompt, str) else request.prompt[-1].content
                if self.fails and request.template.startswith("judge") and "件目" in said:
                    yield Answer(request.id, "", "error", error="busy")
                else:
                    yield from super().stream([request])

    generator = Failing(misled, kind="chat")
    run, _ = ran(always(task), tmp_path / "run", generator)
    assert run.metrics["pseudo_labels"] == {"reason": "unanswered", "texts": 0}
    assert run.metrics["scores"]["verdict"] == "not_used"
    generator.fails = False
    run, heard = ran(always(task), tmp_path / "run", generator)
    assert "pseudo" in heard.ran()
    texts = load_dataset(run.path / "pseudo.parquet")
    assert [label_of(e.text) for e in texts] == [e.label for e in texts]


def test_a_server_that_is_down_is_asked_again(task: Task, tmp_path: Path) -> None:
    class Down(Weighing):
        def choose(
            self, documents: Sequence[str], options: Sequence[str]
        ) -> Iterator[tuple[int, list[float]]]:
            raise JapagenError("no connection")

    run, _ = ran(always(task), tmp_path / "run", Down())
    assert run.metrics["pseudo_labels"]["reason"] == "unanswered"
    run, _ = ran(always(task), tmp_path / "run", Weighing())
    assert run.metrics["pseudo_labels"]["texts"] == 36


def test_an_error_is_shown_beside_the_unlabelled_texts_nearest_to_it(
    task: Task, tmp_path: Path
) -> None:
    data = load_data(task)
    assert data.test is not None
    endings = ("。。", "お。", "か")
    alike = [Example(text + more) for text in data.test.texts for more in endings]

    class Mistaken(Weighing):
        """A model that is wrong about the unlabelled texts alone."""

        def _right(self, document: str) -> int:
            return super()._right(document) ^ (endings[0] in document or "お。" in document)

    path = tmp_path / "alike.jsonl"
    write_examples(path, Dataset.of(alike))
    run, _ = ran(
        always(task).model_copy(update={"unlabelled": Source(path=path)}),
        tmp_path / "run",
        Mistaken(),
    )
    errors = run.metrics["errors"]
    assert errors
    near = [row for error in errors for row in error["nearest"]]
    assert "unlabelled" in {row["source"] for row in near}
    assert all(row["label"] in task.labels for row in near)


def test_a_text_more_in_the_file_changes_the_sample_little(task: Task) -> None:
    data = load_data(task)
    assert data.unlabelled is not None
    before = sample_of(task, data)
    grown = Dataset.of([*data.unlabelled, *(Example(f"追加{i}。") for i in range(4))])
    after = sample_of(task, replace(data, unlabelled=grown))
    assert before is not None
    assert after is not None
    assert len(after) == 39
    assert len(set(before.texts) & set(after.texts)) >= 32


def test_new_traffic_is_compared_with_texts_that_were_not_learnt(
    task: Task, tmp_path: Path
) -> None:
    data = load_data(task)
    assert data.test is not None
    alone, _ = ran(_changed(task, "training", pseudo_labels="never"), tmp_path / "a", Weighing())
    assert len(Profile.load(alone.path)) == len(data.test) + len(TEXTS)
    run, _ = ran(always(task), tmp_path / "b", Weighing())
    assert len(Profile.load(run.path)) == len(data.test) + len(TEXTS) - 36


def test_the_sample_is_drawn_by_seed_and_has_no_gold_in_it(task: Task) -> None:
    data = load_data(task)
    assert data.gold is not None
    assert data.unlabelled is not None
    rows = [*data.unlabelled, *data.gold, *data.unlabelled]
    texts = Dataset.of(Example(e.text, id=str(i)) for i, e in enumerate(rows))
    doubled = TaskData(data.gold, data.test, texts)
    sample = sample_of(task, doubled)
    assert sample is not None
    assert len(sample) == len(set(sample.texts)) == 36
    assert not set(sample.texts) & set(data.gold.texts)
    again = sample_of(task, doubled)
    assert again is not None
    assert again.texts == sample.texts
    other = sample_of(task.model_copy(update={"seed": 5}), doubled)
    assert other is not None
    assert other.texts != sample.texts


def test_numbers_and_tags_have_no_labelers(task: Task) -> None:
    tags = task.model_copy(update={"kind": "multi_label"})
    assert sample_of(tags, load_data(task)) is None
