"""What of a step's inputs counts, and that a step is made again where that changes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from japagen.config.curation import Curation
from japagen.config.sections import Training
from japagen.config.task import Task
from japagen.data.dataset import Dataset, Example
from japagen.data.files import write_json
from japagen.listener import Silent
from japagen.llm.backend import Answer
from japagen.pipeline.cache import Cache, Step, canonical, only
from japagen.pipeline.run import step_versions
from japagen.pipeline.run_directory import RunDirectory
from tests.pipeline.test_run import Heard

NUMBERS = Step("numbers", 1, ("numbers.json",))
TEXTS = Dataset.of([Example("荷物が届きません。", "配送"), Example("返したいです。", "返品")])


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    directory = RunDirectory(tmp_path / "run", "small")
    yield Cache(directory, Silent())
    directory.release()


class Doubling:
    """Counts how often it is called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, numbers: list[int], **uses: Any) -> list[int]:
        self.calls += 1
        return [2 * number for number in numbers]


def test_a_step_is_made_again_only_where_what_it_is_given_or_its_code_changes(
    cache: Cache,
) -> None:
    double = Doubling()
    for number in (1, 1, 2, 2):
        assert cache.step(NUMBERS, double, numbers=[number]) == [2 * number]
    assert double.calls == 2
    cache.step(NUMBERS, double, uses={"listener": Silent()}, numbers=[2])
    assert double.calls == 2
    cache.step(Step("numbers", 2, NUMBERS.files), double, numbers=[2])
    assert double.calls == 3


def test_a_step_says_which_input_changed(tmp_path: Path) -> None:
    heard, double = Heard(), Doubling()
    cache = Cache(RunDirectory(tmp_path / "run", "small"), heard)
    for number in (1, 2):
        cache.step(NUMBERS, double, numbers=[number], seed=0)
    assert heard.stages[-2] == ("numbers", "start", "changed: numbers")


def test_what_got_no_answer_is_used_and_made_again(cache: Cache) -> None:
    unanswered: list[str] = []

    def ask(name: str) -> list[str]:
        unanswered.append(name)
        return [name]

    for times in (1, 2):
        assert cache.step(NUMBERS, ask, unanswered=unanswered, name="a") == ["a"]
        assert len(unanswered) == times
    unanswered.clear()
    kept = cache.step(NUMBERS, lambda name: [name], unanswered=unanswered, name="a")
    assert kept == cache.step(NUMBERS, ask, unanswered=unanswered, name="a")
    assert unanswered == []


def test_each_part_of_a_result_is_kept_in_a_file_of_its_own(cache: Cache) -> None:
    step = Step("parts", 1, ("texts.parquet", "array.npy", "found.json"))

    def make(texts: Dataset) -> tuple[Dataset, np.ndarray[Any, Any], dict[str, int]]:
        return texts, np.eye(2), {"texts": len(texts)}

    first = cache.step(step, make, texts=TEXTS)
    second = cache.step(step, make, texts=TEXTS)
    for dataset, array, found in (first, second):
        assert dataset.fingerprint == TEXTS.fingerprint
        np.testing.assert_array_equal(array, np.eye(2))
        assert found == {"texts": 2}
    assert first[0] is TEXTS
    assert second[0] is not TEXTS


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TEXTS, TEXTS.with_columns(label=["返品", "返品"])),
        (Curation(), Curation(min_characters=7)),
        ({"配送": "a", "返品": "b"}, {"返品": "b", "配送": "a"}),
        (np.zeros(2), np.zeros((2, 1))),
        (Answer("r", "荷物", "stop"), Answer("r", "返品", "stop")),
        ([1, 2], [2, 1]),
        ({"a"}, {"b"}),
    ],
)
def test_what_differs_is_told_apart(one: Any, other: Any) -> None:
    assert canonical(one) == canonical(one)
    assert canonical(one) != canonical(other)


def test_what_cannot_be_compared_is_refused(cache: Cache) -> None:
    with pytest.raises(TypeError, match="function has no fingerprint"):
        cache.step(NUMBERS, Doubling(), numbers=lambda: None)


def test_settings_that_a_step_does_not_read_neither_count_nor_reach_it(
    raw_task: dict[str, Any],
) -> None:
    task = Task.parse(raw_task)
    edited = task.model_copy(update={"training": Training(seeds=3), "seed": 0})
    names = ("labels", "text_type", "seed")
    assert canonical(only(task, *names)) == canonical(only(edited, *names))
    assert only(edited, *names).training == Training()
    assert only(task, *names).labels == task.labels
    some = only(edited, "labels", training=only(edited.training, "seeds"))
    assert some.training.seeds == 3


def test_columns_that_a_step_does_not_read_neither_count_nor_reach_it() -> None:
    weighted = TEXTS.with_columns(weight_label=[0.5, 1.0])
    assert weighted.fingerprint != TEXTS.fingerprint
    one, other = (d.only("text", "label") for d in (weighted, TEXTS))
    assert one.fingerprint == other.fingerprint
    assert one.column("weight_label") == [1.0, 1.0]
    assert one.labels == TEXTS.labels


def test_every_step_has_a_version() -> None:
    names = {"generate", "curate", "trust", "align", "train", "zero_shot", "report"}
    found = step_versions()
    assert names <= set(found)
    assert all(version > 0 for version in found.values())


class Counted:
    """Makes a value and counts how often."""

    def __init__(self, tmp_path: Path) -> None:
        self.times = 0
        self.heard = Heard()
        self.cache = Cache(RunDirectory(tmp_path / "run", "t"), self.heard)
        self.file = self.cache.directory.file

    def __call__(self, **_: Any) -> dict[str, int]:
        self.times += 1
        return {"made": self.times}

    def step(self, **inputs: Any) -> Any:
        return self.cache.step(Step("curate", 1, ("out.json",)), self, **inputs)


@pytest.fixture
def made(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


def test_a_step_is_kept_while_its_inputs_stay_and_says_what_changed(made: Counted) -> None:
    assert made.step(gold="g", curation={"min": 1}) == {"made": 1}
    assert made.step(gold="g", curation={"min": 1}) == {"made": 1}
    assert made.step(gold="g", curation={"min": 2}) == {"made": 2}
    assert ("curate", "kept", "") in made.heard.stages
    assert ("curate", "start", "changed: curation") in made.heard.stages


def test_a_step_whose_output_is_gone_runs_again(made: Counted) -> None:
    made.step()
    made.file("out.json").unlink()
    assert made.step() == {"made": 2}
    assert made.heard.stages[-2] == ("curate", "start", "its output is missing")


def test_a_file_beside_an_output_is_no_damage_but_a_cut_one_is(made: Counted) -> None:
    def make() -> int:
        folder = made.file("model")
        folder.mkdir(exist_ok=True)
        (folder / "weights").write_bytes(b"1234")
        made()
        return made.times

    def step() -> int:
        return made.cache.step(Step("train", 1, ("out.json", "model")), make)

    assert step() == 1
    made.file("model", "README.md").write_text("# card")
    assert step() == 1
    made.file("model", "weights").write_bytes(b"12")
    assert step() == 2
    made.file("model", "weights").unlink()
    assert step() == 3


def test_a_step_that_fails_leaves_no_record(made: Counted) -> None:
    made.step(a=1)

    def fail(a: int) -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        made.cache.step(Step("curate", 1, ("out.json",)), fail, a=2)
    assert made.step(a=1) == {"made": 2}


def test_a_step_whose_output_is_damaged_runs_again(made: Counted) -> None:
    made.step()
    made.file("out.json").write_text('{"made"', encoding="utf-8")
    assert made.step() == {"made": 2}
    assert made.heard.stages[-2] == ("curate", "start", "its output is damaged")
    made.file("stages", "curate.json").write_text("", encoding="utf-8")
    assert made.step() == {"made": 3}


def test_a_directory_belongs_to_the_step_that_left_it_last(made: Counted) -> None:
    written: list[str] = []

    def step(name: str) -> None:
        def make() -> str:
            made.file("model").mkdir(exist_ok=True)
            made.file("model", "weights").write_text(name, encoding="utf-8")
            written.append(name)
            return name

        made.cache.step(Step(name, 1, (f"{name}.json", "model")), make)

    for name in ("train-0", "train-0", "train-1", "train-0"):
        step(name)
    assert written == ["train-0", "train-1", "train-0"]
    assert made.file("model", "weights").read_text(encoding="utf-8") == "train-0"


def test_the_time_of_steps_that_another_run_left_does_not_count(made: Counted) -> None:
    made.step()
    write_json(made.file("stages", "train-7.json"), {"fingerprint": {}, "seconds": 5.0})
    assert set(made.cache.took("seconds")) == {"curate"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep no peak of a step")
def test_each_step_has_the_peak_of_its_own(made: Counted) -> None:
    def hold(size: int) -> dict[str, int]:
        return {"made": len(bytearray(b"x" * size))}

    for name, size in (("small", 1), ("large", 200 << 20), ("last", 1)):
        made.cache.step(Step(name, 1, (f"{name}.json",)), hold, size=size)
    peaks = made.cache.took("peak_bytes")
    assert peaks["large"] - peaks["small"] > 150 << 20
    assert peaks["large"] - peaks["last"] > 150 << 20
    write_json(made.file("stages", "train-7.json"), {"fingerprint": {}, "peak_bytes": 5})
    assert set(made.cache.took("peak_bytes")) == {"small", "large", "last"}
