"""What a run saves and costs: labelling by hand, and asking a language model for every text."""

from __future__ import annotations

import math

from japagen.config.sections import Economics
from japagen.data.summary import (
    Bounds,
    BreakEven,
    EconomicsSummary,
    Labelling,
    QueryCosts,
    RunCosts,
    RunSummary,
    Worth,
)


def economics_of(
    settings: Economics,
    summary: RunSummary,
    *,
    free: bool = False,
    latency: float | None = None,
) -> EconomicsSummary:
    """Returns the return on investment; what is unknown is None.

    Args:
        settings: The assumptions.
        summary: The rest of what the run measured.
        free: Whether nobody charges for the generator's tokens.
        latency: Seconds that the classifier takes for one text.
    """
    run, llm = _run(settings, summary, free), _llm(settings, summary)
    yen = None if latency is None else _machine(settings, latency)
    classifier = QueryCosts(seconds=latency, yen=yen)
    return EconomicsSummary(
        assumptions=settings.model_dump(),
        labelling=_labelling(settings, summary),
        run=run,
        query={"llm": llm, "classifier": classifier},
        break_even=_break_even(settings, run.yen, llm.yen, classifier.yen or 0.0),
    )


def _labelling(settings: Economics, summary: RunSummary) -> Labelling:
    """Labelling that the synthetic set stands for, where it stands for any."""
    worth = summary.mix.curves.worth if summary.mix and summary.mix.curves else None
    state = _state(summary, worth)
    if worth is None or state not in ("worth", "beyond"):
        return Labelling(state=state)
    labels = len(summary.per_label)
    per_label = Bounds(value=worth.texts, low=worth.low, high=worth.high, limit=worth.limit)
    texts = per_label.times(labels)
    hours = texts.times(1 / settings.texts_per_hour)
    yen = hours.times(settings.yen_per_hour)
    return Labelling(
        state=state, labels=labels, per_label=per_label, texts=texts, hours=hours, yen=yen
    )


def _state(summary: RunSummary, worth: Worth | None) -> str:
    if summary.synthetic_share == 0:
        return "not_used"
    if worth is None:
        return "not_measured"
    # What cross-validation on gold promised has failed on the test texts.
    if summary.scores and summary.scores.verdict == "worse":
        return "worse"
    if worth.texts is None:
        return "beyond"
    return "worth" if worth.texts > 0 else "none"


def _run(settings: Economics, summary: RunSummary, free: bool) -> RunCosts:
    seconds = sum(summary.seconds.values())
    charged, machine = _charged(summary, free), _machine(settings, seconds)
    return RunCosts(
        seconds=seconds,
        generator_yen=charged,
        machine_yen=machine,
        yen=None if charged is None else charged + (machine or 0.0),
    )


def _charged(summary: RunSummary, free: bool) -> float | None:
    """What the run's own generator and those that wrote its files have charged, if all is known."""
    files = [source.yen for source in summary.sources if source.kind == "file"]
    given = [source.yen for source in summary.sources if source.kind == "generator"]
    metered = (summary.cost or {}).get("yen", 0.0 if free else None)
    own = [metered if yen is None else yen for yen in given] or ([] if files else [metered])
    charged = [yen for yen in (*own, *files) if yen is not None]
    return sum(charged) if len(charged) == len(own) + len(files) else None


def _machine(settings: Economics, seconds: float) -> float | None:
    rate = settings.machine_yen_per_hour
    return None if rate is None else seconds / 3600 * rate


def _llm(settings: Economics, summary: RunSummary) -> QueryCosts:
    """An answer of the run's own generator, which writes a text where a query names a label."""
    cost, given = summary.cost or {}, settings.llm_yen_per_1000
    answers = cost.get("answers") or 0
    tokens = cost.get("prompt_tokens", 0) + cost.get("completion_tokens", 0)
    # A server that does not count its tokens leaves 0, which is no measurement.
    measured = bool(answers and tokens)
    priced = measured and "yen" in cost
    own = cost["yen"] / answers if priced else None
    return QueryCosts(
        tokens=tokens / answers if measured else None,
        seconds=cost["request_seconds"] / answers if answers else None,
        yen=own if given is None else given / 1000,
        price="given" if given is not None else "measured" if priced else None,
    )


def _break_even(
    settings: Economics, spent: float | None, theirs: float | None, ours: float
) -> BreakEven:
    """How many queries until the run has cost less than asking a model for each."""
    if theirs is None or spent is None:
        return BreakEven(state="not_measured")
    if theirs <= ours:
        return BreakEven(state="never")
    queries = math.ceil(spent / (theirs - ours))
    return BreakEven(state="reached", queries=queries, months=queries / settings.queries_per_month)
