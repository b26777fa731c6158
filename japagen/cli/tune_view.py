"""What `japagen tune` shows of its trials and of what it chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from japagen.cli import terminal
from japagen.cli.terminal import say

_VERDICTS = {
    "better": "better than the task as it stands",
    "worse": "worse than the task as it stands, whose settings are kept",
    "no_clear_difference": "no clear difference from the task as it stands",
    "unchanged": "the task as it stands did best; nothing is changed",
}


def print_trials(found: Mapping[str, Any]) -> None:
    """Prints a line a trial, the last comparison, and where the task file is."""
    rows = [
        (
            row["rung"],
            changes_text(row["changes"]),
            row["requests"],
            row["kept"],
            f"{row['agreement']:.3f}",
            f"{row['distance']:.3f}",
            f"{row['score']:.3f} ± {row['error']:.3f}",
        )
        for row in found["trials"]
    ]
    columns = ["rung", "settings", "requests", "kept", "agreement", "distance", "score"]
    terminal.print_table("trials, the best of each rung first", columns, rows)
    if found["gain"]:
        say(gain_text(found))
    say(_VERDICTS[found["verdict"]])
    say(f"trials: {found['out']}")
    say(f"task file: {found['file']}")


def changes_text(changes: Mapping[str, Any]) -> str:
    """Settings on one line."""
    if not changes:
        return "(as it stands)"
    return ", ".join(f"{key.removeprefix('generation.')}: {v}" for key, v in changes.items())


def gain_text(found: Mapping[str, Any]) -> str:
    """What the last comparison found."""
    gain = found["gain"]
    asked = gain["winner"]["requests"] + gain["now"]["requests"]
    return (
        f"{changes_text(found['winner'])}: score {gain['value']:+.3f} (95% interval "
        f"{gain['low']:+.3f} to {gain['high']:+.3f}, on {asked} requests of its own)"
    )


def heading(found: Mapping[str, Any]) -> list[str]:
    """The comment that the task file begins with."""
    gain = [gain_text(found)] if found["gain"] else []
    return ["Written by japagen tune.", *gain, _VERDICTS[found["verdict"]]]
