"""Sections of the report on texts, rounds and the audit."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from japagen.data.dataset import HELD_BACK, Label
from japagen.data.summary import (
    FieldSummary,
    MissingItem,
    RoundSummary,
    RunSummary,
    SourceReport,
    SourceValue,
    StepCounts,
    TaskSummary,
    UntilSummary,
)
from japagen.i18n import localized
from japagen.japanese.registers import OTHER, PRESETS, Register
from japagen.reporting import charts
from japagen.reporting.text import View, Words, undirected

if TYPE_CHECKING:
    from japagen.data.dataset import Dataset, Example


_SAMPLES_PER_LABEL = 5
_EXAMPLES_PER_REASON = 3
STEPS = ("requested", "failed", "generated", "rewritten", "synthesised", "rejected", "kept")
Rows = list[tuple[str, ...]]
ChartRows = list[tuple[str, list[float | None]]]
Series = list[tuple[str, charts.Role]]
# What registers are compared between: real texts, wishes, and texts before and after control.
SIDES: dict[str, charts.Role] = {
    "gold": "gold",
    "asked": "asked",
    "before": "before",
    "seen": "synthetic",
}
# What the share of texts is given for that can be answered without a person.
PRECISION = 0.9


def tiles(summary: RunSummary, words: Words) -> list[View]:
    """The figures at the top, of what the run took and left: name, value and a note."""
    counts = summary.counts
    left_out = summary.not_used or summary.added == "unlabelled"
    of_made = ""
    if left_out:
        of_made = words("tile.unused", n=words.count(counts.generated))
    elif counts.generated:
        share = words.share(counts.kept / counts.generated)
        of_made = words("tile.of_generated", n=words.count(counts.generated), share=share)
    took = words.duration(sum(summary.seconds.values()) or None)
    tiles = [
        (words("tile.time"), took, _charged(summary, words)),
        (words("tile.passed" if left_out else "tile.kept"), words.count(counts.kept), of_made),
    ]
    saved = summary.economics.labelling if summary.economics else None
    if saved and saved.state in ("worth", "beyond"):
        hours, yen = (
            f"{found.limit if found.value is None else found.value:,.{places}f}"
            for found, places in ((saved.hours, 1), (saved.yen, 0))
        )
        key = "tile.saved_hours" if saved.state == "worth" else "tile.saved_more"
        sure = saved.texts.low is None or saved.texts.low > 0
        note = words("tile.saved_yen" if sure else "tile.saved_unsure", yen=yen)
        tiles.append((words("tile.saved"), words(key, hours=hours), note))
    if summary.scores and summary.scores.with_synthetic.coverage:
        answered = summary.scores.with_synthetic.answered(PRECISION)
        share = f"{answered.share:.0%}" if answered else "0%"
        note = words("tile.answered_note")
        if answered:
            note = words("tile.answered_from", confidence=f"{answered.confidence:.2f}")
        tiles.insert(0, (words("tile.answered", precision=f"{PRECISION:.0%}"), share, note))
    missing = words("not_measured")
    return [
        {"name": name, "value": value, "note": note, "missing": value == missing}
        for name, value, note in tiles
    ]


def _charged(summary: RunSummary, words: Words) -> str:
    """What the generator cost, beside the time."""
    yen = summary.economics.run.generator_yen if summary.economics else None
    return words("tile.no_price") if yen is None else words("tile.charged", yen=words.count(yen))


def flow(counts: StepCounts, words: Words) -> View:
    """How many texts each step left."""
    steps = [s for s in STEPS if counts.requested or s not in ("requested", "failed")]
    steps = [s for s in steps if s != "synthesised" or counts.synthesised]
    drawn: ChartRows = [(words(f"counts.{step}"), [counts.at(step)]) for step in steps]
    names = (*steps, "relabelled", "gold", "unlabelled", "test")
    return {
        "chart": charts.bars(
            words("counts"), words("counts.number"), drawn, [("", "synthetic")], words.count, "~s"
        ),
        # A run of an earlier version relabelled nothing.
        "names": [name for name in names if counts.at(name) is not None],
    }


def rejections(summary: RunSummary, dataset: Dataset, words: Words) -> list[View]:
    """Each reason with its count and a few examples drawn at random."""
    by_filter: dict[str, list[int]] = {}
    for index, row in enumerate(dataset.column("rejected")):
        if row:
            by_filter.setdefault(row["filter"], []).append(index)

    def drawn(name: str) -> list[Example]:
        return _drawn(dataset, by_filter.get(name, []), _EXAMPLES_PER_REASON, summary.task.seed)

    return [
        {
            "row": (words.name("filter", name), words.count(count)),
            "examples": [_rejected(example, words) for example in drawn(name)],
        }
        for name, count in summary.rejections.items()
    ]


def _rejected(example: Example, words: Words) -> dict[str, str]:
    found = example.rejected
    assert found is not None
    texts = [example.text] if example.text_pair is None else [example.text, example.text_pair]
    return {
        "text": "\n".join(texts),
        "value": words.general(found.value),
        "threshold": words.general(found.threshold),
        "detail": _why(example, words),
    }


def _why(example: Example, words: Words) -> str:
    """The detail of a rejection; of one for its register, in the reader's language."""
    assert example.rejected is not None
    if example.rejected.filter == "judge":
        return words.name("judge", example.rejected.detail)
    if example.rejected.filter in ("truncated", "failed"):
        # Said by japagen itself, not by the text.
        return localized(example.rejected.detail, words.language)
    if example.rejected.filter not in HELD_BACK:
        return example.rejected.detail
    asked, seen = example.register_asked, example.register_seen
    return words("rejections.register", asked=_register(asked, words), seen=_register(seen, words))


def _drawn(dataset: Dataset, indices: Sequence[int], most: int, seed: int) -> list[Example]:
    """A random sample, in the dataset's order."""
    chosen = random.Random(seed).sample(indices, min(most, len(indices)))
    return list(dataset.take(sorted(chosen))) if chosen else []


def samples(task: TaskSummary, dataset: Dataset, words: Words) -> list[tuple[str, list[View]]]:
    """Kept examples of each label, drawn at random, labels in the task's order."""
    by_label: dict[str, list[int]] = {label: [] for label in task.labels}
    labels = dataset.labels
    for index in np.flatnonzero(dataset.kept_mask).tolist():
        by_label.setdefault(label_name(labels[index], task.labels), []).append(index)
    weights = dict(zip(dataset.column("id"), dataset.weights, strict=True))
    return [
        (
            label,
            [
                {
                    "text": example.text,
                    "text_pair": example.text_pair,
                    "weight": words.number(weights[example.id]),
                    "asked": _register(example.register_asked, words),
                    "seen": _register(example.register_seen, words),
                }
                for example in _drawn(dataset, indices, _SAMPLES_PER_LABEL, task.seed)
            ],
        )
        for label, indices in by_label.items()
        if indices
    ]


def label_text(label: Label | None) -> str:
    """A class, a number or a list of classes as text."""
    if isinstance(label, float):
        return f"{label:.2f}".rstrip("0").rstrip(".")
    return "、".join(label) if isinstance(label, list) else "—" if label is None else str(label)


def label_name(label: Label | None, names: dict[str, str]) -> str:
    """What an example is listed under: of a number the nearest anchor."""
    if isinstance(label, float):
        return min(names, key=lambda name: abs(float(name) - label))
    return label_text(label)


def _register(register: Register | None, words: Words) -> str:
    return "—" if register is None else words.name("register", register.name)


def registers(summary: RunSummary, words: Words) -> View | None:
    """Shares of each register in gold, as asked for, and as seen before and after control."""
    found = summary.registers
    if found is None:
        return None
    sides = [(name, shares) for name in SIDES if (shares := found.side(name))]
    series: Series = [(words(f"registers.{side}"), SIDES[side]) for side, _ in sides]
    names = [n for n in (*PRESETS, OTHER) if n != OTHER or any(n in s for _, s in sides)]
    drawn: ChartRows = [
        (words.name("register", name), [shares.get(name, 0.0) for _, shares in sides])
        for name in names
    ]
    return {
        "series": series,
        "chart": charts.bars(
            words("registers.chart"), words("axis.share"), drawn, series, words.share, ".0%"
        ),
        "rows": [(name, *map(words.share, values)) for name, values in drawn],
        "codes": names,
        "names": [words.name("register", name) for name in names],
    }


_MISSING_SHOWN = 20


def loop(summary: RunSummary, words: Words) -> View | None:
    """Rounds, what was missing or came of each label, concepts and cases; None without any."""
    found, coverage, until = summary.rounds, summary.coverage or {}, summary.until
    if not found and not coverage and not until:
        return None
    rounds = found.rounds if found else []
    drawn: ChartRows = [
        (_round(row, words), [row.distances["words"].value]) for row in rounds if row.distances
    ]
    return {
        "chart": charts.bars(
            words("loop.chart"), words("axis.bits"), drawn, [("", "synthetic")], words.number
        )
        if drawn
        else None,
        "missing": [(_round(row, words), rows) for row in rounds if (rows := _missing(row))],
        "covered": [(label, row) for label, one in coverage.items() for row in one.covered],
        "until": until_rows(until, words) if until else [],
    }


def field_rows(found: Sequence[FieldSummary], words: Words) -> list[tuple[str, ...]]:
    """Of each field its type, the share of texts that have it, values, and the register."""
    return [
        (
            one.name,
            " / ".join(filter(None, [words(f"fields.{one.type}"), one.role])),
            words.share(one.filled / one.texts),
            _values(one, words),
            *_register_of(one, words),
        )
        for one in found
    ]


def _values(field: FieldSummary, words: Words) -> str:
    if field.values:
        return "、".join(f"{value} {words.count(n)}" for value, n in field.values.items())
    if field.characters is None:
        return ""
    return words("fields.characters", n=words.general(field.characters))


def _register_of(field: FieldSummary, words: Words) -> tuple[str, str]:
    if field.register_match is None:
        return "", ""
    own = field.asked_register
    asked = words.name("register", own) if own else words("fields.as_asked")
    return asked, words.share(field.register_match)


def until_rows(found: UntilSummary, words: Words) -> list[tuple[str, str, str, str]]:
    """Of each label the texts asked for, those kept, and why it was not asked again."""
    return [
        (label, words.count(row.asked), words.count(row.kept), words(f"until.{row.reason}"))
        for label, row in found.labels.items()
    ]


def _round(row: RoundSummary, words: Words) -> str:
    return words("loop.round", n=row.round)


def _missing(row: RoundSummary) -> list[tuple[str, MissingItem]]:
    """What each label's texts lack, most first."""
    rows = [(label, item) for label, items in row.missing.items() for item in items]
    return sorted(rows, key=lambda pair: pair[1].synthetic - pair[1].target)[:_MISSING_SHOWN]


def sources(summary: RunSummary, words: Words) -> View | None:
    """Every source's figures in a column of its own; None where the generator is alone."""
    found = summary.sources
    if not summary.files:
        return None
    measures: dict[str, Callable[[SourceReport], str]] = {
        "kind": lambda s: words(f"sources.{s.kind}"),
        "origin": lambda s: undirected(s.origin) or words("not_measured"),
        "texts": lambda s: words.count(s.texts),
        "kept": lambda s: _kept(s, words),
        "relabelled": lambda s: words.count(s.relabelled),
        "label_trust": lambda s: words.share(s.label_trust),
        "distinct_2": lambda s: words.interval(s.distinct_2),
        "distance": lambda s: words.number(s.distance),
        "yen": lambda s: words.count(s.yen),
        "tokens": lambda s: words.count(s.tokens),
        "seconds": lambda s: words.duration(s.seconds),
        "used": lambda s: words("sources.yes" if s.value.used else "sources.no"),
        "share": lambda s: words.share(s.value.share),
        "worth": lambda s: worth_text(s.value, words),
    }
    names = [undirected(source.name) for source in found]
    return {
        "heads": [words("measure"), *names],
        "rows": [
            (words(f"sources.{name}"), *(show(source) for source in found))
            for name, show in measures.items()
        ],
        "filter_heads": [words("reason"), *names],
        "filters": _filters(found, words),
        "reasons": [
            (s.name, words.name("value", s.value.reason, words.name("mix", s.value.reason)))
            for s in found
        ],
    }


def worth_text(value: SourceValue, words: Words) -> str:
    """What a source is worth in gold texts per label, with the interval if there is one."""
    if value.texts_worth is None:
        return words("not_measured")
    texts = rounded(value.texts_worth)
    if value.low is None and value.high is None:
        return texts
    low, high = (
        words("sources.open") if end is None else rounded(end) for end in (value.low, value.high)
    )
    return f"{texts} [{low}, {high}]"


def rounded(value: float) -> str:
    """One decimal, none for whole numbers: 4.7, −3."""
    return f"{value:.1f}".removesuffix(".0").replace("-", "−")


def _kept(source: SourceReport, words: Words) -> str:
    kept = words.count(source.kept)
    return f"{kept} ({words.share(source.kept / source.texts)})" if source.texts else kept


def _filters(found: Sequence[SourceReport], words: Words) -> Rows:
    """How many texts of each source every filter rejected, most in all first."""
    names = dict.fromkeys(name for source in found for name in source.rejected)
    counts = {name: [source.rejected.get(name, 0) for source in found] for name in names}
    return [
        (words.name("filter", name), *map(words.count, row))
        for name, row in sorted(counts.items(), key=lambda item: -sum(item[1]))
    ]
