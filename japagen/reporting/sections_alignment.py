"""Sections of the report on alignment and diversity."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from japagen.data.scores import Interval, Measured
from japagen.data.summary import (
    Alarm,
    Change,
    Diagnostics,
    Diversity,
    DiversityComparison,
    LabelCounts,
    LabelPrior,
    LengthShares,
    RunSummary,
    TextMap,
)
from japagen.i18n import localized
from japagen.reporting import charts
from japagen.reporting.sections_overview import ChartRows, Rows, Series, label_text
from japagen.reporting.text import View, Words, undirected

if TYPE_CHECKING:
    from markupsafe import Markup

    from japagen.data.dataset import Dataset

# What a measure is where synthetic and target cannot be told apart.
_ALIKE, _AUC_ALIKE = 0.0, 0.5


def alignment(summary: RunSummary, words: Words) -> View | None:
    """Method, label shares, distances, effective sizes and shifted words."""
    found = summary.alignment
    if found is None:
        return None
    diagnostics = found.diagnostics
    series, rows = _label_shares(summary.per_label, found.prior, words)
    return {
        "weighted": found.method != "none",
        "series": series,
        "chart": charts.bars(
            words("labels.chart"), words("axis.share"), rows, series, words.share, ".0%"
        ),
        "labels": [(label, *map(words.share, values)) for label, values in rows],
        "distances": distance_rows(diagnostics, words),
        "remaining": _remaining(diagnostics, words),
    }


def notes(diagnostics: Diagnostics, words: Words) -> list[str]:
    """What else the reader must know."""
    return [localized(note, words.language) for note in diagnostics.notes]


def _label_shares(
    per_label: dict[str, LabelCounts], prior: LabelPrior, words: Words
) -> tuple[Series, ChartRows]:
    """Target shares where there is a prior, then shares before and after weighting."""
    target = prior.probabilities
    kept = sum(row.kept for row in per_label.values()) or 1
    rows: ChartRows = []
    for label, row in per_label.items():
        shares: list[float | None] = [row.kept / kept, row.weight_share]
        rows.append((label, [target.get(label, 0.0), *shares] if target else shares))
    series: Series = [(words("before"), "before"), (words("after"), "synthetic")]
    return ([(words("labels.target"), "asked"), *series] if target else series), rows


def _changes(diagnostics: Diagnostics) -> list[tuple[str, Change, float]]:
    """Every measure by name, and what it is where nothing is left of the distance."""
    unknown = Change(None, None)
    return [
        ("label_distance", diagnostics.label_distance, _ALIKE),
        ("word_divergence", diagnostics.word_divergence or unknown, _ALIKE),
        ("pos_divergence", diagnostics.pos_divergence or unknown, _ALIKE),
        ("mean_discrepancy", diagnostics.mean_discrepancy or unknown, _ALIKE),
        ("two_sample_auc", diagnostics.two_sample_auc, _AUC_ALIKE),
    ]


def distance_rows(diagnostics: Diagnostics, words: Words) -> Rows:
    """Every measure by name, before and after, the effective sample size among them."""
    rows: Rows = [
        (words(f"measure.{name}"), words.interval(change.before), words.interval(change.after))
        for name, change, _ in _changes(diagnostics)
    ]
    size = diagnostics.effective_sample_size
    if size.share > 0:
        before = words.count(size.rows / size.share)
        after = f"{words.count(size.rows)} ({words.share(size.share)})"
        rows.append((words("measure.effective"), before, after))
    return rows


def _remaining(diagnostics: Diagnostics, words: Words) -> Markup | None:
    """A figure of what is left of each distance."""
    rows: list[tuple[str, list[charts.Range | None]]] = []
    for name, change, least in _changes(diagnostics):
        before, after = _bounds(change.before), _bounds(change.after)
        if before and after and before[1] > least:
            low, value, high = ((x - least) / (before[1] - least) for x in after)
            rows.append((words(f"measure.{name}"), [(max(low, 0.0), max(value, 0.0), high)]))
    if not rows:
        return None
    series: Series = [(words("after"), "synthetic")]
    axis = words("axis.remaining")
    return charts.ranges(words("distances.chart"), axis, rows, series, _percent, 1.0)


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _bounds(value: Measured) -> charts.Range | None:
    if isinstance(value, Interval):
        return value.low, value.value, value.high
    return None if value is None else (value, value, value)


def diversity(summary: RunSummary, words: Words) -> View | None:
    """A verdict in words, the measures of each set, their figures, and rounds if any."""
    found = summary.diversity
    if found is None:
        return None
    against = found.against_gold
    points = [0.0, *against.tokens]
    named = [(_group(name, words), _ROLES.get(name, "other")) for name in against.groups]
    lines = [
        charts.Line(title, role, list(zip(points, [0.0, *group.curve], strict=True)))
        for (title, role), group in zip(named, against.groups.values(), strict=True)
    ]
    return {
        "verdict": _verdict(found, words),
        "alarm": bool(found.alarms),
        "alarms": [alarm_text(alarm, words) for alarm in found.alarms],
        "chart": _relative(against, "gold", list(against.groups), words)
        if "gold" in against.groups
        else None,
        "series": named,
        "curve": charts.curves(
            words("diversity.curve"),
            (words("axis.tokens"), words("axis.different")),
            lines,
            ("~s", "~s"),
            zero=True,
        ),
        "size": words(
            "diversity.size",
            n=words.count(against.size),
            tokens=words.count(points[-1]),
            k=words.count(against.topics or None),
        ),
        "rounds": _rounds(found.rounds, words) if found.rounds else None,
    }


def _verdict(found: Diversity, words: Words) -> str:
    kinds = {alarm.kind for alarm in found.alarms}
    said = []
    if found.rounds:
        said.append(words("diversity.collapse" if "round" in kinds else "diversity.steady"))
    if "gold" in kinds:
        said.append(words("diversity.narrow"))
    elif "gold" in found.against_gold.groups:
        said.append(words("diversity.wide"))
    return " ".join(said) or words("diversity.alone")


def alarm_text(alarm: Alarm, words: Words) -> str:
    """Says which measure has fallen, below what, and by how much."""
    return words(
        f"diversity.alarm.{alarm.kind}",
        round=int(alarm.group) + 1 if alarm.kind == "round" else "",
        measure=words(f"diversity.{alarm.measure}"),
        change=_percent(-alarm.change),
        low=_percent(max(-alarm.high, 0.0)),
        high=_percent(-alarm.low),
    )


def _group(name: str, words: Words) -> str:
    if name.isdigit():
        return words("diversity.round", number=int(name) + 1)
    return words(f"diversity.group.{name}")


_ROLES: dict[str, charts.Role] = {"synthetic": "synthetic", "gold": "gold"}
_ROUNDS: tuple[charts.Role, ...] = ("round-0", "round-1", "round-2")


def _relative(compared: DiversityComparison, other: str, shown: list[str], words: Words) -> Markup:
    """The shown sets' diversity as a share of one set's, which is the mark."""
    others = [group for group in shown if group != other]
    mine = [compared.groups[group].measures for group in others]
    series: Series = [
        (_group(group, words), _ROLES.get(group, _ROUNDS[at % len(_ROUNDS)]))
        for at, group in enumerate(others)
    ]
    rows: list[tuple[str, list[charts.Range | None]]] = []
    for measure, theirs in compared.groups[other].measures.items():
        goal = _more(measure, theirs.value)
        if goal > 0:  # Texts all alike are no measure for others.
            shares = [_shares(measure, measures.get(measure), goal) for measures in mine]
            rows.append((words(f"diversity.{measure}"), shares))
    side = "gold" if other == "gold" else "rounds"
    title, axis = words(f"diversity.chart.{side}"), words(f"axis.diversity.{side}")
    return charts.ranges(title, axis, rows, series, _percent, 1.0)


def _shares(measure: str, found: Interval | None, goal: float) -> charts.Range | None:
    if found is None:
        return None
    ends = (found.low, found.value, found.high)
    low, value, high = sorted(_more(measure, end) / goal for end in ends)
    return low, value, high


def _more(measure: str, value: float) -> float:
    """The measure as something of which more is more diverse."""
    if measure == "self_bleu":
        return 100.0 - value
    return value - 1.0 if measure == "topics" else value


def _rounds(rounds: DiversityComparison, words: Words) -> View:
    first, *others = rounds.groups
    # The figure has three colours; the table holds every round.
    return {
        "names": [_group(name, words) for name in rounds.groups],
        "chart": _relative(rounds, first, others[-3:], words),
        "series": [
            (_group(name, words), role) for name, role in zip(others[-3:], _ROUNDS, strict=False)
        ],
    }


_WORDS_SAID = 6
# Particles and endings, in hiragana, say little to a reader; the table has them.
_CONTENT = re.compile(r"[^\W\u3041-\u309f]")
# Changes of a distance below this share of it are none that anybody would notice.
_NOTABLE = 0.05


def likeness(summary: RunSummary, dataset: Dataset, words: Words) -> View | None:
    """Real and synthetic text side by side: length, words, a map; what weighting changed."""
    lengths, placed = summary.lengths, summary.map
    said = _said(summary, words)
    if not (lengths or placed or said):
        return None
    series: Series = [
        (words("counts.gold"), "gold"),
        (words("diversity.group.synthetic"), "synthetic"),
    ]
    return {
        "said": said,
        "series": series,
        "lengths": _lengths(lengths, series, words) if lengths else None,
        "map": _map(placed, dataset, series, words) if placed and placed.synthetic else None,
    }


def _lengths(found: LengthShares, series: Series, words: Words) -> Markup:
    middles = [edge + found.edges[1] / 2 for edge in found.edges]
    lines = [
        charts.Line(name, role, list(zip(middles, shares, strict=True)))
        for (name, role), shares in zip(series, (found.gold, found.synthetic), strict=True)
    ]
    axes = words("axis.characters"), words("axis.texts")
    return charts.curves(words("lengths"), axes, lines, (",d", ".0%"), zero=True)


def _map(found: TextMap, dataset: Dataset, series: Series, words: Words) -> Markup:
    texts = dict(zip(dataset.column("id"), dataset.texts, strict=True))
    points = [(point, 1) for point in found.gold] + [(point, 0) for point in found.synthetic]
    dots = [
        charts.Dot(
            point.x,
            point.y,
            group,
            f"{series[1 - group][0]}: {label_text(point.label)}\n"
            + _short(point.text or texts.get(point.id, "")),
            point.id,
        )
        for point, group in points
    ]
    axes = words("axis.map"), words("axis.map_too")
    return charts.dots(words("map"), axes, dots, [role for _, role in reversed(series)])


def _short(text: str) -> str:
    """What fits beside a dot, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:79] + "…"


def _said(summary: RunSummary, words: Words) -> list[str]:
    """What weighting changed and what words give synthetic text away, in sentences."""
    found = summary.alignment
    if found is None:
        return []
    diagnostics, said = found.diagnostics, []
    for side, shifts in (("over", diagnostics.overused), ("under", diagnostics.underused)):
        telling = [shift.word for shift in shifts if _CONTENT.search(shift.word)]
        if telling:
            named = "、".join(f"「{undirected(word)}」" for word in telling[:_WORDS_SAID])
            said.append(words(f"likeness.{side}", words=named))
    change = diagnostics.word_divergence
    before, after = (_bounds(change.before), _bounds(change.after)) if change else (None, None)
    if found.method != "none" and before and after and before[1] > 0:
        fallen = 1 - after[1] / before[1]
        size = words.share(diagnostics.effective_sample_size.share)
        key = "likeness.weighted" if fallen >= _NOTABLE else "likeness.unmoved"
        said.append(words(key, fallen=f"{fallen:.0%}", size=size))
    return said
