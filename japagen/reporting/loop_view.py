"""What the report shows of the closed loop: each round's distances, and what texts cover."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from japagen.reporting.text import Words
from japagen.reporting.views import ChartRows, Rows, bars

_MISSING_SHOWN = 20


def loop(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """Rounds, what was missing after each, concepts and cases, balance; None without any."""
    found, coverage = metrics.get("rounds"), metrics.get("coverage")
    if not found and not coverage:
        return None
    rounds = found["rounds"] if found else []
    drawn: ChartRows = [
        (_round(row, words), [row["distances"]["words"]["value"]])
        for row in rounds
        if row["distances"]
    ]
    return {
        "rounds": [_figures(row, words) for row in rounds],
        "chart": bars("rounds", words("loop.chart"), drawn, words.number) if drawn else None,
        "ended": _ended(found, words) if found else "",
        "missing": [(_round(row, words), rows) for row in rounds if (rows := _missing(row, words))],
        "covered": _covered(coverage or {}, words),
        "balanced": _balanced(coverage or {}, words),
    }


def _round(row: Mapping[str, Any], words: Words) -> str:
    return words("loop.round", n=row["round"])


def _figures(row: Mapping[str, Any], words: Words) -> tuple[str, ...]:
    distances = [row["distances"].get(name) for name in ("words", "pos")]
    return (
        _round(row, words),
        *(words.count(row[name]) for name in ("requests", "kept")),
        words.count(sum(row["named"].values())),
        *(
            f"{words.number(d['value'])} ± {words.number(d['error'])}" if d else words("none")
            for d in distances
        ),
    )


def _ended(found: Mapping[str, Any], words: Words) -> str:
    done = len(found["rounds"])
    early = found["stopped"] and done < found["planned"]
    return words("loop.stopped", done=done, planned=found["planned"]) if early else ""


def _missing(row: Mapping[str, Any], words: Words) -> Rows:
    rows = [(label, each) for label, items in row["missing"].items() for each in items]
    rows.sort(key=lambda pair: pair[1]["synthetic"] - pair[1]["target"])
    return [
        (
            label,
            words.name("knowledge", each["kind"]),
            each["item"],
            words.share(each["target"]),
            words.share(each["synthetic"]),
        )
        for label, each in rows[:_MISSING_SHOWN]
    ]


def _covered(coverage: Mapping[str, Any], words: Words) -> Rows:
    return [
        (
            label,
            words.name("knowledge", row["kind"]),
            row["item"],
            words.share(row["wanted"]),
            words.share(row["share"]),
            words.count(row["asked"]),
            words.count(row["answered"]),
            "—" if row["met"] is None else words.count(row["met"]),
        )
        for label, found in coverage.items()
        for row in found["covered"]
    ]


def _balanced(coverage: Mapping[str, Any], words: Words) -> Rows:
    return [
        (
            label,
            row["attribute"],
            row["value"],
            words.share(row["wanted"]),
            words.share(row["share"]),
            words.share(row["weighted"]),
            words.count(row["found"]),
        )
        for label, found in coverage.items()
        for row in found["balanced"]
    ]
