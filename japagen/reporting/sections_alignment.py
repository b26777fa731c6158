"""Sections of the report on alignment and diversity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from japagen.reporting import charts
from japagen.reporting.sections_overview import ChartRows, Rows, bars, safe
from japagen.reporting.text import Words

_MEASURES = (
    "label_distance",
    "word_divergence",
    "pos_divergence",
    "mean_discrepancy",
    "two_sample_auc",
)
# What each measure is where synthetic and target cannot be told apart.
_PERFECT = {"two_sample_auc": 0.5}
_WORD_FIGURES = ("target_per_1000", "synthetic_per_1000")
_WORD_RATIOS = ("log_ratio_before", "log_ratio_after")


def alignment(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """Method, label shares, distances, effective sizes and shifted words."""
    found = metrics.get("alignment")
    if not found:
        return None
    diagnostics = found.get("diagnostics") or {}
    series, rows = _label_shares(metrics, found.get("prior") or {}, words)
    return {
        "weighted": found["method"] != "none",
        "facts": _facts(found, diagnostics, words),
        "series": series,
        "chart": bars("labels", words("labels.chart"), rows, words.share),
        "labels": [(label, *map(words.share, values)) for label, values in rows],
        "distances": distance_rows(diagnostics, words),
        "remaining": _remaining(diagnostics, words),
        "effective": _effective(diagnostics, metrics.get("per_label") or {}, words),
        "words": _shifted_words(diagnostics, words),
    }


def _facts(
    found: Mapping[str, Any], diagnostics: Mapping[str, Any], words: Words
) -> list[tuple[str, str]]:
    prior = found.get("prior") or {}
    facts = [(words("alignment.method"), words.name("method", found["method"]))]
    if prior:
        facts.append((words("prior"), words.name("prior", prior["how"])))
        facts.append((words("prior.why"), _why(prior, words)))
    if diagnostics.get("tolerance") is not None:
        facts.append((words("tolerance"), words.number(diagnostics["tolerance"])))
    for label, factor in (diagnostics.get("tempered") or {}).items():
        facts.append((words("tempered", label=label), words.number(factor)))
    notes = list(diagnostics.get("notes") or ())
    reasons = diagnostics.get("note_reasons") or [None] * len(notes)
    for note, reason in zip(notes, reasons, strict=True):
        facts.append((words("notes"), words.reason(note, reason)))
    return facts


def _why(found: Mapping[str, Any], words: Words) -> str:
    return words.reason(found["why"], found.get("reason"))


def _label_shares(
    metrics: Mapping[str, Any], prior: Mapping[str, Any], words: Words
) -> tuple[list[str], ChartRows]:
    """Target shares where there is a prior, then shares before and after weighting."""
    target = prior.get("probabilities")
    kept = sum(row["kept"] for row in metrics["per_label"].values()) or 1
    rows: ChartRows = []
    for label, row in metrics["per_label"].items():
        shares = [row["kept"] / kept, row["weight_share"]]
        rows.append((label, [target.get(label, 0.0), *shares] if target else shares))
    series = [words("before"), words("after")]
    return ([words("labels.target"), *series] if target else series), rows


def distance_rows(diagnostics: Mapping[str, Any], words: Words) -> Rows:
    """Every measure by name, before and after, the effective sample size among them."""
    rows: Rows = [
        (
            words(f"measure.{name}"),
            *(_with_interval((diagnostics.get(name) or {}).get(at), words) for at in _SIDES),
        )
        for name in _MEASURES
        if name in diagnostics
    ]
    size = diagnostics.get("effective_sample_size")
    if size and size["share"] > 0:
        before = words.count(size["rows"] / size["share"])
        after = f"{words.count(size['rows'])} ({words.share(size['share'])})"
        rows.append((words("measure.effective"), before, after))
    return rows


def _remaining(diagnostics: Mapping[str, Any], words: Words) -> Any:
    """A figure of what is left of each distance, and of the effective sample size."""
    rows: list[tuple[str, list[charts.Range | None]]] = []
    for name in _MEASURES:
        before, after = (_bounds((diagnostics.get(name) or {}).get(at)) for at in _SIDES)
        least = _PERFECT.get(name, 0.0)
        if before and after and before[1] > least:
            low, value, high = ((x - least) / (before[1] - least) for x in after)
            rows.append((words(f"measure.{name}"), [(max(low, 0.0), max(value, 0.0), high)]))
    size = diagnostics.get("effective_sample_size")
    if size:
        rows.append((words("measure.effective"), [(size["share"],) * 3]))
    if not rows:
        return None
    return safe(charts.ranges("remaining", words("distances.chart"), rows, _percent, 1.0))


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _bounds(value: float | Mapping[str, float] | None) -> charts.Range | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return value["low"], value["value"], value["high"]
    return value, value, value


_SIDES = ("before", "after")


def _with_interval(value: float | Mapping[str, float] | None, words: Words) -> str:
    if isinstance(value, Mapping):
        figures = {name: words.number(value[name]) for name in ("value", "low", "high")}
        return "{value} [{low}, {high}]".format(**figures)
    return words.number(value)


def _effective(diagnostics: Mapping[str, Any], per_label: Mapping[str, Any], words: Words) -> Rows:
    size = diagnostics.get("effective_sample_size")
    if not size:
        return []
    shares = size["per_label"]
    return [
        (words("effective.all"), words.count(size["rows"]), words.share(size["share"])),
        *(
            # In the order of the task, as everywhere on the page.
            (label, words.count(shares[label] * row["kept"]), words.share(shares[label]))
            for label, row in per_label.items()
            if label in shares
        ),
    ]


def _shifted_words(diagnostics: Mapping[str, Any], words: Words) -> list[dict[str, Any]]:
    heads = [words("word"), *(words(f"words.{n}") for n in ("target", "synthetic", *_SIDES))]
    return [
        {
            "title": words(f"words.{name}"),
            "heads": heads,
            "rows": [
                (
                    row["word"],
                    *(f"{row[key]:.2f}" for key in _WORD_FIGURES),
                    *(words.signed(row[key]) for key in _WORD_RATIOS),
                )
                for row in diagnostics[name]
            ],
        }
        for name in ("overused", "underused")
        if diagnostics.get(name)
    ]


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
