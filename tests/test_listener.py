"""How a pipeline tells what it is doing, where nobody listens but the log."""

from __future__ import annotations

import pytest

from japagen.listener import Logged


def test_steps_are_logged_and_notes_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    told = Logged()
    with caplog.at_level("INFO", logger="japagen"):
        told.stage("train", "done", "3.1")
        told.stage("align", "kept", "")
        told.note("Only 3 texts.")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", "train: done (3.1)"),
        ("INFO", "align: kept"),
        ("WARNING", "Only 3 texts."),
    ]


@pytest.mark.parametrize("bars", [True, False])
def test_bars_are_shown_unless_they_are_not_wanted(
    bars: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(Logged(bars=bars).track([1, 2, 3], 3, "generate")) == [1, 2, 3]
    assert ("generate" in capsys.readouterr().err) == bars
