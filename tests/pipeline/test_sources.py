from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from japagen.examples import REWRITTEN, Dataset, Example, Rejection
from japagen.mixing.mix import Mix, SourceMix
from japagen.running.data import TaskData
from japagen.stages.metrics import Parts
from japagen.stages.source_report import SourceValue, report_sources, value_of
from japagen.tasks.settings import SourceEntry
from japagen.tasks.tasks import Task


@pytest.fixture
def parts(task: Task) -> Parts:
    sources = (
        SourceEntry(name="own", generator=True),
        SourceEntry(name="claude", path=Path("claude.csv"), yen=300),
        SourceEntry(name="none", path=Path("none.csv")),
    )
    task = task.model_copy(update={"sources": sources})
    return Parts(
        task,
        TaskData(None, None, None),
        cost={"prompt_tokens": 200, "completion_tokens": 50, "yen": 1.5},
        seconds={"generate": 12.5, "curate": 1.0},
        distances={"own": 0.8, "claude": 0.9},
    )


def _dataset() -> Dataset:
    def row(number: int, source: str, rejected: str = "", **more: object) -> Example:
        known = {"id": f"{number}", "source": source, "label_asked": "配送"}
        found = Rejection(rejected, 1, 0) if rejected else None
        return Example(f"{number}です。", "配送", rejected=found, **{**known, **more})  # type: ignore[arg-type]

    return Dataset.of(
        [
            row(1, "own", weight_distribution=1.0),
            row(2, "own", "failed"),
            row(3, "own", "rewritten"),
            row(4, "own", derived=REWRITTEN, parent_id="3"),
            row(5, "claude", weight_label=0.5),
            row(6, "claude", label_asked="返品", weight_label=0.5),
            row(7, "claude", "too_short"),
            row(8, "none", "duplicate"),
        ]
    )


def test_every_source_has_its_own_texts_and_cost(parts: Parts) -> None:
    own, claude, none = report_sources(_dataset(), parts)
    assert (own.texts, own.kept, own.rejected, own.relabelled) == (2, 2, {"rewritten": 1}, 0)
    assert (own.yen, own.tokens, own.seconds) == (1.5, 250, 12.5)
    assert (claude.texts, claude.kept, claude.relabelled) == (3, 2, 1)
    assert (claude.kind, claude.origin) == ("file", "claude.csv")
    assert (claude.yen, claude.tokens, claude.seconds) == (300, None, None)
    assert (own.label_trust, claude.label_trust, none.label_trust) == (1.0, 0.5, None)
    assert (own.distance, claude.distance, none.distance) == (0.8, 0.9, None)
    assert none.to_dict()["value"]["reason"] == "nothing_kept"


def test_a_source_has_the_value_that_was_found_for_it(parts: Parts) -> None:
    found = SourceValue(True, 0.5, 4.0, 1.0, None, "reliable")
    own, claude, none = report_sources(_dataset(), replace(parts, values={"claude": found}))
    assert claude.value == found
    assert own.value == SourceValue(False, 0.0, None, None, None, "not_measured")
    assert none.value.reason == "nothing_kept"


def test_a_source_carries_what_its_texts_count_for_of_the_loss() -> None:
    sources = {
        "own": SourceMix(10, 0.2, "reliable"),
        "claude": SourceMix(4, 1.0, "reliable"),
        "noise": SourceMix(9, 0.0, "unreliable"),
        "none": SourceMix(0, 0.0, "no_synthetic"),
    }
    mix = Mix(0.6, "reliable", sources)
    worth = {"curves": {"sources": {"claude": {"texts": 4.0, "low": 1.0, "high": None}}}}
    own, claude, noise, none = (value_of(name, mix, worth) for name in sources)
    # 2 gold texts against 4, of 60% of the loss.
    assert own.share == pytest.approx(0.2)
    assert claude.share == pytest.approx(0.4)
    assert (own.used, own.texts_worth, own.reason) == (True, None, "reliable")
    assert (claude.texts_worth, claude.low, claude.high) == (4.0, 1.0, None)
    assert noise == SourceValue(False, 0.0, None, None, None, "unreliable")
    assert none == SourceValue(False, 0.0, 0.0, 0.0, 0.0, "nothing_kept")
    assert value_of("claude", mix, None).texts_worth is None
    alone = Mix(0.0, "given", sources)
    assert not any(value_of(name, alone, None).used for name in sources)
