"""Sections of the report on scores, the mix and its worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from japagen.data.scores import (
    BaselineScores,
    Bounds,
    BreakEven,
    CalibrationBin,
    EconomicsSummary,
    ErrorCase,
    Interval,
    Labelling,
    ModelScores,
)
from japagen.data.summary import Curves, MixSummary, Point, PseudoSummary, RunSummary
from japagen.reporting import charts
from japagen.reporting.sections_overview import (
    PRECISION,
    ChartRows,
    Rows,
    Series,
    rounded,
)
from japagen.reporting.text import View, Words, undirected

if TYPE_CHECKING:
    from markupsafe import Markup

# Shown for each class, tag or anchor; the last but one is drawn, the last is a count.
_CLASS_COLUMNS = ("precision", "recall", "f1", "support")
# What a run is tested on that is no metric.
_TESTED = ("label_f1", "leakage", "register_match")
_NUMBER_COLUMNS = ("mean_predicted", "mean_absolute_error", "support")


def scores(summary: RunSummary, words: Words) -> View | None:
    """Both classifiers side by side, then the labels and the confusion matrix of each."""
    found, added = summary.scores, words(f"added.{summary.added}")
    if found is None:
        return None
    last, names = found.with_synthetic, found.ordered
    # Where nothing was added to gold, both are one classifier.
    shown: list[tuple[str, ModelScores | None]] = [(words("model.gold_only"), last)]
    roles: list[charts.Role] = ["gold", "synthetic"]
    if not summary.not_used:
        shown = [
            (words("model.gold_only"), found.gold_only),
            (words("model.with_synthetic", added=added), last),
        ]
    titles, models = [title for title, _ in shown], [model for _, model in shown]
    numbers = last.mean_absolute_error is not None
    columns = _NUMBER_COLUMNS if numbers else _CLASS_COLUMNS
    drawn: ChartRows = [
        (label, [model.per_label[label][columns[-2]] if model else None for model in models])
        for label in last.labels
    ]
    detail = words("per_anchor" if numbers else "f1.chart")
    series: Series = list(zip(titles, roles, strict=False))
    ends = found.gain and (found.gain.low, found.gain.value, found.gain.high)
    return {
        "titles": titles,
        "note": words(
            "scores.note" if len(last.seeds) > 1 else "scores.note_once",
            n=words.count(found.n),
            seeds=len(last.seeds),
        ),
        "rows": _score_rows(models, names, words),
        "seeds": _by_seed(models, names, words),
        "seed_heads": [f"{title} {words(name)}" for title in titles for name in names],
        "series": series,
        "chart": charts.bars(detail, words(columns[-2]), drawn, series, words.number, ".1f"),
        "gain": charts.ranges(
            words("gain", metric=words(found.metric)),
            words("axis.gain"),
            [(words(found.metric), [ends])],
            [("", "synthetic")],
            words.signed,
            0.0,
            "+.2f",
        )
        if ends
        else None,
        "coverage": _coverage(shown, series, words),
        "calibration": _calibration(shown, series, words),
        "detail": detail,
        "heads": [words("anchor" if numbers else "label"), *map(words, columns)],
        # Each has a table of its labels, and classes a confusion matrix.
        "models": [(title, model) for title, model in shown if model],
        "columns": columns,
    }


def _coverage(
    shown: Sequence[tuple[str, ModelScores | None]], series: Series, words: Words
) -> View | None:
    """Accuracy by the share of texts that are answered, in words and drawn."""
    models = [(model, name, role) for (_, model), (name, role) in zip(shown, series, strict=True)]
    lines = [
        charts.Line(name, role, _thinned([(p.share, p.accuracy) for p in model.coverage]))
        for model, name, role in models
        if model and model.coverage
    ]
    last = models[-1][0]
    if not lines or last is None:
        return None
    answered = last.answered(PRECISION)
    figures = {"precision": f"{PRECISION:.0%}"}
    said = words("coverage.none", **figures)
    if answered:
        figures |= {"share": f"{answered.share:.0%}", "confidence": f"{answered.confidence:.2f}"}
        said = words("coverage.said", **figures)
    bound = charts.Line(figures["precision"], "other", [(0.0, PRECISION), (1.0, PRECISION)], True)
    axes = words("axis.answered"), words("axis.right")
    chart = charts.curves(words("coverage"), axes, [*lines, bound], (".0%", ".0%"))
    return {"said": said, "chart": chart}


def _calibration(
    shown: Sequence[tuple[str, ModelScores | None]], series: Series, words: Words
) -> Markup | None:
    """Accuracy by confidence; on the dashed line both are alike."""
    lines = [
        charts.Line(name, role, _steady(model.calibration))
        for (_, model), (name, role) in zip(shown, series, strict=True)
        if model and _steady(model.calibration)
    ]
    if not lines:
        return None
    alike = charts.Line(words("calibration.alike"), "other", [(0.0, 0.0), (1.0, 1.0)], True)
    axes = words("axis.confidence"), words("axis.right")
    return charts.curves(words("calibration"), axes, [*lines, alike], (".1f", ".0%"))


_LEAST_BINNED = 5


def _steady(bins: Sequence[CalibrationBin]) -> list[tuple[float, float]]:
    """Confidence and accuracy of the bins whose accuracy is not that of a text or two."""
    return [(row.confidence, row.accuracy) for row in bins if row.texts >= _LEAST_BINNED]


_DRAWN_POINTS = 40


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Enough points to draw, without the first few texts, whose accuracy is all chance."""
    steady = [point for point in points if point[0] >= 0.05] or list(points)
    step = max(1, len(steady) // _DRAWN_POINTS)
    return [*steady[:-1:step], steady[-1]]


def _score_rows(models: Sequence[ModelScores | None], names: Sequence[str], words: Words) -> Rows:
    """Every metric with its interval; the leading one's deviation; what else is known."""
    rows: Rows = [
        (
            words(name),
            *(words.interval(model.measured(name) if model else None) for model in models),
        )
        for name in names
    ]
    deviation = words("deviation", metric=words(names[0]))
    for title, name in (
        (deviation, f"{names[0]}_sd"),
        (words("mean_absolute_error"), "mean_absolute_error"),
        (words("ece"), "ece"),
    ):
        values = [model.score(name) if model else None for model in models]
        if name.endswith("_sd") or any(value is not None for value in values):
            rows.append((title, *map(words.number, values)))
    return rows


def _by_seed(models: Sequence[ModelScores | None], names: Sequence[str], words: Words) -> Rows:
    rows = [{row["seed"]: row for row in model.seeds} if model else {} for model in models]
    return [
        (
            str(seed),
            *(words.number(side.get(seed, {}).get(name)) for side in rows for name in names),
        )
        for seed in rows[-1]
    ]


def mix(summary: RunSummary, words: Words) -> View | None:
    """The share with its reason, every source, the curves and the worth."""
    found = summary.mix
    if found is None:
        return None
    return {
        "facts": [*_facts(found, words, summary.added), *_pseudo(summary.pseudo_labels, words)],
        "sources": _sources(found, words),
        "sentences": _sentences(found, words),
        "worth": worth(summary, words, figures=True),
        "charts": _charts(found.curves, words) if found.curves else [],
        "needed": _needed(found.curves, words) if found.curves else [],
    }


def worth(summary: RunSummary, words: Words, *, figures: bool = False) -> str | None:
    """What the synthetic set is worth in gold, in a sentence; None where it was not measured.

    The learning curves are measured on gold, the verdict on the test texts; where the two differ
    the sentence says which counts.

    Few can read an interval that reaches below 0: it is added with ``figures``.
    """
    curves = summary.mix and summary.mix.curves
    if not curves:
        return None
    found, verdict = curves.worth, summary.scores.verdict if summary.scores else ""
    limit = rounded(found.limit)
    texts = words("worth.more", limit=limit)
    if found.texts is not None:
        texts = words("worth.about", texts=rounded(found.texts))
    low, high = (
        words("worth.over", limit=limit) if end is None else rounded(end)
        for end in (found.low, found.high)
    )
    if found.texts is not None and found.texts <= 0:
        key = "none.gained" if verdict == "better" else "none"
    elif verdict == "worse":
        key = "refuted"
    elif found.low is not None and found.low <= 0:
        key = "rough" if verdict == "better" else "open"
    elif verdict == "no_clear_difference":
        key = "unconfirmed"
    else:
        key = "value"
    said = words(f"worth.{key}", texts=texts)
    if not figures:
        return said
    return said + words("worth.interval", low=low, high=high, base=rounded(found.base))


def _facts(found: MixSummary, words: Words, added: str) -> list[tuple[str, str]]:
    facts = [
        (words("mix.share.both" if added == "both" else "mix.share"), words.share(found.share)),
        (words("mix.why"), words.name("mix", found.reason)),
    ]
    folds = found.folds
    if folds:
        said = words(
            "mix.folds_are",
            folds=len(folds.usable),
            repeats=folds.repeats,
            low=words.count(min(folds.usable)),
            high=words.count(max(folds.usable)),
            synthetic=words.count(folds.synthetic),
        )
        facts.append((words("mix.folds"), said))
        facts.append((words("mix.provenance"), words(f"mix.provenance.{found.provenance}")))
    return facts


def _pseudo(found: PseudoSummary | None, words: Words) -> list[tuple[str, str]]:
    if not found:
        return []
    facts = [
        (words("pseudo"), words.count(found.texts)),
        (words("pseudo.why"), words(f"pseudo.{found.reason}")),
    ]
    if found.right is not None:
        facts.append((words("pseudo.right"), words.share(found.right)))
    return facts


def _sources(found: MixSummary, words: Words) -> Rows:
    """Each source's reliability, what a text of it counts for, and its share of the loss."""
    carried = {name: s.texts * s.text_weight for name, s in found.sources.items()}
    total = sum(carried.values())
    return [
        (
            undirected(name),
            words.count(source.texts),
            words.interval(source.reliability.interval if source.reliability else None),
            words.number(source.text_weight),
            words.share(found.share * carried[name] / total if total else 0.0),
        )
        for name, source in found.sources.items()
    ]


def _sentences(found: MixSummary, words: Words) -> list[str]:
    """The evidence on every source's labels, in a sentence each."""
    said = []
    for name, source in found.sources.items():
        known = source.reliability
        if known is None or known.evidence is None:
            continue
        counts = {kind: words.count(count) for kind, count in known.evidence.items()}
        chance = 1 / known.evidence["labels"]
        said.append(
            words(
                "mix.evidence",
                **counts,
                name=undirected(name),
                right=words.share(chance + (1 - chance) * known.mean),
                weight=words.number(source.text_weight),
            )
        )
    return said


def _charts(curves: Curves, words: Words) -> list[tuple[str, Markup]]:
    sides: list[tuple[charts.Role, Sequence[Point]]] = [
        ("gold", curves.gold),
        ("synthetic", curves.synthetic),
    ]
    found = []
    for role, points in sides:
        title = words(f"curve.{role}")
        line = charts.Line(title, role, [(p.per_label, p.loss, p.low, p.high) for p in points])
        axes = words("curves.texts"), words("mix.loss")
        found.append((title, charts.curves(title, axes, [line], ("~f", ".2f"))))
    return found


# Curves are read on for three doublings, and no further: what lies beyond is a guess.
_REACH = 8


def _needed(curves: Curves, words: Words) -> list[str]:
    """How many texts per label the next round macro-F1 takes, by gold and by synthetic text."""
    best = max(point.macro_f1 for point in (*curves.gold, *curves.synthetic))
    goal = math.floor(best * 20 + 1) / 20
    if goal >= 1:
        return []
    said = []
    for name, points in (("gold", curves.gold), ("synthetic", curves.synthetic[1:])):
        texts = texts_for(goal, points)
        if texts is None:
            continue
        most = points[-1].per_label * _REACH
        key = "needed" if texts <= most else "needed.beyond"
        said.append(
            words(
                f"{key}.{name}",
                goal=f"{goal:.2f}",
                texts=words.count(math.ceil(min(texts, most))),
                now=f"{points[-1].macro_f1:.2f}",
                base=words.count(points[-1].per_label),
            )
        )
    return said


def texts_for(goal: float, points: Sequence[Point]) -> float | None:
    """Texts per label for a macro-F1, along the power law through what is measured.

    The error 1 − F1 falls as a·n^−b (Figueroa et al. 2012, without the floor, which so few points
    cannot show), so the number is on the low side.

    Returns:
        None where the error does not fall; infinity is not returned, but may be huge.
    """
    errors = [(p.per_label, 1 - p.macro_f1) for p in points if p.per_label > 0 and p.macro_f1 < 1]
    if len(errors) < 2:
        return None
    sizes, falls = zip(*errors, strict=True)
    slope, start = np.polyfit(np.log(sizes), np.log(falls), 1)
    if slope >= -1e-3:
        return None
    return float(np.exp(min((math.log(1 - goal) - start) / slope, 50.0)))


def headline(summary: RunSummary, words: Words) -> str | None:
    """The labelling saved, in a sentence; None where none is shown."""
    found = summary.economics
    if not found or found.labelling.state not in ("worth", "beyond"):
        return None
    saved, assumed = found.labelling, found.assumptions
    beyond = saved.state == "beyond"
    figures = {
        name: or_unset(bounds.limit if beyond else bounds.value, words)
        for name, bounds in (("texts", saved.texts), ("hours", saved.hours), ("yen", saved.yen))
    }
    said = words(
        "economics.beyond" if beyond else "economics.saved",
        **figures,
        low=_yen(saved.yen.low, saved.yen, words),
        high=_yen(saved.yen.high, saved.yen, words),
        labels=words.count(saved.labels),
        rate=or_unset(assumed["yen_per_hour"], words),
        speed=or_unset(assumed["texts_per_hour"], words),
    )
    if saved.texts.low is None or saved.texts.low > 0:
        return said
    return said + words("economics.uncertain")


def economics(summary: RunSummary, words: Words) -> View | None:
    """Labelling saved, the run against a language model for every query, and what was assumed."""
    found = summary.economics
    if found is None:
        return None
    said = headline(summary, words)
    return {
        "said": said or words(f"economics.{found.labelling.state}"),
        "saved": _saved(found.labelling, words) if said else [],
        "queries": _queries(found, words),
        "break_even": _break_even(found.break_even, words),
    }


def _saved(found: Labelling, words: Words) -> Rows:
    return [
        (
            words(f"economics.saved.{name}"),
            *(_bound(end, bounds, words) for end in (bounds.value, bounds.low, bounds.high)),
        )
        for name, bounds in (
            ("per_label", found.per_label),
            ("texts", found.texts),
            ("hours", found.hours),
            ("yen", found.yen),
        )
    ]


def _queries(found: EconomicsSummary, words: Words) -> Rows:
    llm, ours = found.query["llm"], found.query["classifier"]
    month = found.assumptions["queries_per_month"] or 0

    def monthly(yen: float | None) -> str:
        return or_unset(None if yen is None else yen * month, words)

    def or_missing(value: float | None) -> str:
        return words("not_measured") if value is None else amount(value)

    return [
        (words("economics.tokens"), or_missing(llm.tokens), "—"),
        (words("economics.seconds"), or_missing(llm.seconds), or_missing(ours.seconds)),
        (words("economics.query_yen"), or_unset(llm.yen, words), or_unset(ours.yen, words)),
        (
            words("economics.month_yen", n=amount(month)),
            monthly(llm.yen),
            monthly(ours.yen),
        ),
    ]


def _break_even(found: BreakEven, words: Words) -> str:
    if found.state != "reached":
        return words(f"economics.break_even.{found.state}")
    if not found.queries:
        return words("economics.break_even.at_once")
    return words(
        "economics.break_even.reached",
        queries=words.count(found.queries),
        months=amount(found.months),
    )


def _yen(end: float | None, bounds: Bounds, words: Words) -> str:
    if end is None:
        return words("economics.more_yen", limit=amount(bounds.limit or 0))
    return words("economics.yen", amount=amount(end))


def _bound(end: float | None, bounds: Bounds, words: Words) -> str:
    """An end of an interval; past the curve, that it is more than what can be read off."""
    if end is None:
        return words("economics.more", limit=amount(bounds.limit or 0))
    return amount(end)


def or_unset(value: float | None, words: Words) -> str:
    """An amount, or that the task does not say."""
    return words("economics.unset") if value is None else amount(value)


def amount(value: float) -> str:
    """At most three places that count: 12,340, 3.1, 0.0245."""
    if abs(value) >= 100:
        shown = f"{value:,.0f}"
    elif abs(value) >= 1:
        shown = f"{value:.1f}".removesuffix(".0")
    else:
        shown = f"{value:.3g}" if abs(value) >= 1e-4 or not value else f"{value:.6f}"
    return shown.replace("-", "−")


def tests_of(summary: RunSummary, words: Words) -> Rows:
    """The task's tests, each with its title, bound, what was found, and whether it passed."""
    return [
        (
            # A metric's title is under its own name.
            words.name("test", test.name) if test.name in _TESTED else words(test.name),
            words(f"tests.{test.kind}", bound=words.general(test.bound)),
            words.number(test.found),
            words("tests.passed" if test.passed else "tests.failed"),
        )
        for test in summary.tests
    ]


def scale(summary: RunSummary, words: Words) -> View | None:
    """Every classifier's leading metric with its interval, all on one axis of even tenths.

    Returns:
        ``metric``, the axis' ends ``low`` and ``high``, and ``rows``, whose places are in percent
        of the axis; None where nothing was scored.
    """
    scores = summary.scores
    if scores is None:
        return None
    own = own_models(summary, words)
    # The last learnt from synthetic text too, unless that was not used.
    roles = ["gold", "synthetic"] if not summary.not_used else ["gold"]
    roles = roles[-len(own) :]
    shown: list[tuple[str, ModelScores, str]] = [
        *((title, model, "") for title, model in lines(summary, words)),
        *((title, model, role) for (title, model), role in zip(own, roles, strict=True)),
    ]
    found = [
        (title, own, value if isinstance(value, Interval) else Interval(value, value, value))
        for title, model, own in shown
        if (value := model.measured(scores.metric)) is not None
    ]
    if not found:
        return None
    low = math.floor(min(each.low for *_, each in found) * 10) / 10
    high = math.ceil(max(each.high for *_, each in found) * 10) / 10
    span = (high - low) or 1.0

    def place(value: float) -> str:
        return f"{(value - low) / span * 100:.1f}"

    return {
        "metric": words(scores.metric),
        "low": f"{low:.1f}".replace("-", "−"),
        "high": f"{high:.1f}".replace("-", "−"),
        "rows": [
            {
                "title": title,
                "own": own,
                "shown": words.number(each.value),
                "low": place(each.low),
                "high": place(each.high),
                "at": place(each.value),
            }
            for title, own, each in found
        ],
    }


def baselines(summary: RunSummary, words: Words) -> View | None:
    """A row a baseline, then the run's own classifiers; None where there are no baselines.

    Returns:
        ``heads``, ``rows``, and ``notes``: what the rows are and why others are left out.
    """
    scores, shown = summary.scores, lines(summary, words)
    if scores is None or not shown:
        return None
    names = scores.ordered

    def row(title: str, model: ModelScores, gain: str) -> tuple[str, ...]:
        return (title, *(words.interval(model.measured(name)) for name in names), gain)

    rows: Rows = [
        row(title, model, words.interval(model.gain, signed=True)) for title, model in shown
    ]
    rows += [row(title, model, "") for title, model in own_models(summary, words)]
    sampled = [
        words("baselines.sampled", title=title, n=words.count(model.n))
        for title, model in shown
        if model.n < scores.n
    ]
    gain = words("baselines.gain", metric=words(names[0]))
    return {
        "heads": [words("baselines.classifier"), *map(words, names), gain],
        "rows": rows,
        "notes": [words("baselines.note"), *sampled, *left_out(summary, words)],
    }


def own_models(summary: RunSummary, words: Words) -> list[tuple[str, ModelScores]]:
    """The run's own classifiers that were measured, as baselines are called."""
    scores, own_gold = summary.scores, words("baselines.own_gold")
    if scores is None:
        return []
    if summary.not_used:
        return [(own_gold, scores.with_synthetic)]
    own_more = words("baselines.own_more", added=words(f"added.{summary.added}"))
    gold_only = [(own_gold, scores.gold_only)] if scores.gold_only else []
    return [*gold_only, (own_more, scores.with_synthetic)]


def left_out(summary: RunSummary, words: Words) -> list[str]:
    """Which baselines were left out, and why; one that nobody wanted is not named."""
    return [
        f"{_title(row, words)}: {words(f'baselines.without.{row.reason}')}"
        for row in (summary.scores.baselines if summary.scores else ())
        if row.reason not in (None, "not_wanted")
    ]


def lines(summary: RunSummary, words: Words) -> list[tuple[str, BaselineScores]]:
    """The baselines that were measured, by title."""
    rows = summary.scores.baselines if summary.scores else []
    return [(_title(row, words), row) for row in rows if row.reason is None]


def _title(row: BaselineScores, words: Words) -> str:
    return f"{words(f'baseline.{row.name}')} / {words(f'learnt.{row.learnt}')}"


# An error that is this sure, and agrees with its neighbours, may be the label's.
_SURE = 0.8


def doubtful_tests(summary: RunSummary) -> list[ErrorCase]:
    """Errors of which the test label may be wrong: all nearest texts have the label predicted."""
    return [
        error
        for error in summary.errors
        if (error.probability or 0.0) >= _SURE
        and error.nearest
        and all(near.label == error.predicted for near in error.nearest)
    ]
