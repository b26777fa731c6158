"""How the report and the terminal show baselines beside the run's own classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from japagen.reporting.learnt import added, not_used
from japagen.reporting.text import Words
from japagen.reporting.views import Rows, led_by


def baselines(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """A row a baseline, then the run's own classifiers; None where there are no baselines.

    Returns:
        ``heads``, ``rows``, and ``notes``: what the rows are and why others are left out.
    """
    scores = metrics.get("scores") or {}
    shown = [row for row in scores.get("baselines") or () if row["reason"] is None]
    if not shown:
        return None
    names = led_by(scores)
    gain = words("baselines.gain", metric=words(names[0]))
    rows: Rows = [
        (_title(row, words), *_bounded(row, names, words), _gain(row["gain"], words))
        for row in shown
    ]
    rows += [(title, *_bounded(arm, names, words), "") for title, arm in own_arms(metrics, words)]
    notes = [words("baselines.note")]
    notes += [
        words("baselines.sampled", title=_title(row, words), n=words.count(row["n"]))
        for row in shown
        if row["n"] < scores["n"]
    ]
    return {
        "heads": [words("baselines.classifier"), *map(words, names), gain],
        "rows": rows,
        "notes": [*notes, *left_out(scores, words)],
    }


def own_arms(metrics: Mapping[str, Any], words: Words) -> list[tuple[str, Mapping[str, Any]]]:
    """The run's own classifiers that were measured, as baselines are called."""
    scores = metrics["scores"]
    more = words(f"added.{added(metrics)}")
    if not_used(metrics):
        return [(words("baselines.own_gold"), scores["with_synthetic"])]
    titles = {
        "gold_only": words("baselines.own_gold"),
        "with_synthetic": words("baselines.own_more", added=more),
    }
    return [(title, scores[name]) for name, title in titles.items() if scores.get(name)]


def left_out(scores: Mapping[str, Any], words: Words) -> list[str]:
    """Which baselines were left out, and why; one that nobody wanted is not named."""
    return [
        f"{_title(row, words)}: {words('baselines.without.' + row['reason'])}"
        for row in scores.get("baselines") or ()
        if row["reason"] not in (None, "not_wanted")
    ]


def lines(metrics: Mapping[str, Any], words: Words) -> list[tuple[str, Mapping[str, Any]]]:
    """The baselines that were measured, by title."""
    return [
        (_title(row, words), row)
        for row in (metrics.get("scores") or {}).get("baselines") or ()
        if row["reason"] is None
    ]


def _title(row: Mapping[str, Any], words: Words) -> str:
    return f"{words('baseline.' + row['name'])} / {words('learnt.' + row['learnt'])}"


def _bounded(arm: Mapping[str, Any], names: Sequence[str], words: Words) -> list[str]:
    found = []
    for name in names:
        bounds = arm["intervals"][name]
        low, high = words.number(bounds["low"]), words.number(bounds["high"])
        found.append(f"{words.number(arm[name])} [{low}, {high}]")
    return found


def _gain(gain: Mapping[str, float], words: Words) -> str:
    value, low, high = (words.signed(gain[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
