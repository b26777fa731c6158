"""What the report shows of diversity: against gold, and from round to round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from japagen.reporting import charts
from japagen.reporting.text import Words
from japagen.reporting.views import Rows, safe


def diversity(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """A verdict in words, the measures of each set, their figures, and rounds if any."""
    found = metrics.get("diversity")
    if not found:
        return None
    against, rounds = found["against_gold"], found.get("rounds")
    alarms = found.get("alarms") or []
    beside = "gold" in against["groups"]
    return {
        "verdict": _verdict(against, rounds, alarms, words),
        "alarm": bool(alarms),
        "alarms": [alarm_text(alarm, words) for alarm in alarms],
        "table": _table(against, words),
        "chart": _relative("diversity", against, "gold", words) if beside else None,
        "series": _names(against, words),
        "curve": _curve("vocabulary", against, words),
        "size": words(
            "diversity.size",
            n=words.count(against["size"]),
            tokens=words.count(against["tokens"][-1]),
            k=words.count(against["topics"]) if against["topics"] else words("not_measured"),
        ),
        "rounds": rounds and _rounds(rounds, words),
    }


def _verdict(
    against: Mapping[str, Any],
    rounds: Mapping[str, Any] | None,
    alarms: Sequence[Mapping[str, Any]],
    words: Words,
) -> str:
    kinds = {alarm["kind"] for alarm in alarms}
    said = []
    if rounds:
        said.append(words("diversity.collapse" if "round" in kinds else "diversity.steady"))
    if "gold" in kinds:
        said.append(words("diversity.narrow"))
    elif "gold" in against["groups"]:
        said.append(words("diversity.wide"))
    return " ".join(said) or words("diversity.alone")


def alarm_text(alarm: Mapping[str, Any], words: Words) -> str:
    """Says which measure has fallen, below what, and by how much."""
    return words(
        f"diversity.alarm.{alarm['kind']}",
        round=int(alarm["group"]) + 1 if alarm["kind"] == "round" else "",
        measure=words(f"diversity.{alarm['measure']}"),
        change=f"{-alarm['change']:.0%}",
        low=f"{max(-alarm['high'], 0.0):.0%}",
        high=f"{-alarm['low']:.0%}",
    )


def _group(name: str, words: Words) -> str:
    if name.isdigit():
        return words("diversity.round", number=int(name) + 1)
    return words(f"diversity.group.{name}")


def _names(compared: Mapping[str, Any], words: Words) -> list[str]:
    return [_group(name, words) for name in compared["groups"]]


def _table(compared: Mapping[str, Any], words: Words) -> dict[str, Any]:
    groups = compared["groups"]
    measured = list(next(iter(groups.values()))["measures"])
    rows: Rows = []
    for measure in measured:
        cells = (_cell(group["measures"].get(measure), words) for group in groups.values())
        rows.append((words(f"diversity.{measure}"), *cells))
    return {"heads": [words("measure"), *_names(compared, words)], "rows": rows}


def _cell(found: Mapping[str, float] | None, words: Words) -> str:
    if found is None:
        return words("not_measured")
    value, low, high = (words.number(found[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _relative(name: str, compared: Mapping[str, Any], other: str, words: Words) -> Any:
    """Every set's diversity as a share of one set's, which is the mark."""
    groups = compared["groups"]
    rows: list[tuple[str, list[charts.Range | None]]] = []
    for measure, theirs in groups[other]["measures"].items():
        goal = _more(measure, theirs["value"])
        if goal > 0:  # Texts all alike are no measure for others.
            mine = (group["measures"].get(measure) for n, group in groups.items() if n != other)
            shares = [_shares(measure, found, goal) for found in mine]
            rows.append((words(f"diversity.{measure}"), shares))
    title = words(f"diversity.chart.{'gold' if other == 'gold' else 'rounds'}")
    return safe(charts.ranges(name, title, rows, lambda value: f"{value:.0%}", 1.0))


def _shares(measure: str, found: Mapping[str, float] | None, goal: float) -> charts.Range | None:
    if found is None:
        return None
    low, value, high = sorted(_more(measure, found[k]) / goal for k in ("low", "value", "high"))
    return low, value, high


def _more(measure: str, value: float) -> float:
    """The measure as something of which more is more diverse."""
    if measure == "self_bleu":
        return 100.0 - value
    return value - 1.0 if measure == "topics" else value


def _curve(name: str, compared: Mapping[str, Any], words: Words) -> Any:
    points = [0.0, *compared["tokens"]]
    lines = [[0.0, *group["curve"]] for group in compared["groups"].values()]
    ends = ("0", words("diversity.tokens", n=words.count(points[-1])))
    title = words("diversity.curve")
    return safe(charts.curves(name, title, points, lines, ends, words.count))


def _rounds(rounds: Mapping[str, Any], words: Words) -> dict[str, Any]:
    first, *others = rounds["groups"]
    return {
        "table": _table(rounds, words),
        # The figure has four colours; the table holds every round.
        "chart": _relative(
            "rounds",
            {"groups": {n: rounds["groups"][n] for n in [first, *others[-3:]]}},
            first,
            words,
        ),
        "series": [_group(n, words) for n in others[-3:]],
    }
