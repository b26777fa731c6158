"""What a run saves and costs: labelling by hand, and asking a language model for every text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from japagen.config.sections import Economics


def economics_of(
    settings: Economics,
    found: Mapping[str, Any],
    *,
    free: bool = False,
    latency: float | None = None,
) -> dict[str, Any]:
    """Returns what metrics.json says of the return on investment; what is unknown is None.

    Args:
        settings: The assumptions.
        found: The rest of metrics.json; its ``mix``, ``scores``, ``cost``, ``seconds``,
            ``sources`` and ``per_label`` are read.
        free: Whether nobody charges for the generator's tokens.
        latency: Seconds that the classifier takes for one text.
    """
    run = _run(settings, found, free)
    query = {"llm": _llm(settings, found), "classifier": _classifier(settings, latency)}
    return {
        "assumptions": settings.model_dump(),
        "labelling": _labelling(settings, found),
        "run": run,
        "query": query,
        "break_even": _break_even(settings, run["yen"], query),
    }


def _labelling(settings: Economics, found: Mapping[str, Any]) -> dict[str, Any]:
    """Labelling that the synthetic set stands for, where it stands for any.

    Bounds are those of the worth: None is beyond the curve, and then more than ``limit``.
    """
    mix, scores = found.get("mix") or {}, found.get("scores") or {}
    worth = (mix.get("curves") or {}).get("worth")
    state = _state(mix, scores, worth)
    if worth is None or state not in ("worth", "beyond"):
        return {"state": state}
    labels = len(found["per_label"])
    per_label = {"value": worth["texts"], **{k: worth[k] for k in ("low", "high", "limit")}}
    texts = _times(per_label, labels)
    hours = _times(texts, 1 / settings.texts_per_hour)
    return {
        "state": state,
        "labels": labels,
        "per_label": per_label,
        "texts": texts,
        "hours": hours,
        "yen": _times(hours, settings.yen_per_hour),
    }


def _state(
    mix: Mapping[str, Any], scores: Mapping[str, Any], worth: Mapping[str, Any] | None
) -> str:
    if mix.get("share") == 0:
        return "not_used"
    if worth is None:
        return "not_measured"
    # What cross-validation on gold promised has failed on the test texts.
    if scores.get("verdict") == "worse":
        return "worse"
    if worth["texts"] is None:
        return "beyond"
    return "worth" if worth["texts"] > 0 else "none"


def _times(bounds: Mapping[str, float | None], factor: float) -> dict[str, float | None]:
    return {name: None if value is None else value * factor for name, value in bounds.items()}


def _run(settings: Economics, found: Mapping[str, Any], free: bool) -> dict[str, float | None]:
    seconds = sum((found.get("seconds") or {}).values())
    charged = _charged(found, free)
    machine = _machine(settings, seconds)
    return {
        "seconds": seconds,
        "generator_yen": charged,
        "machine_yen": machine,
        "yen": None if charged is None else charged + (machine or 0.0),
    }


def _charged(found: Mapping[str, Any], free: bool) -> float | None:
    """What the run's own generator and those that wrote its files have charged, if all is known."""
    sources = found.get("sources") or ()
    files = [source["yen"] for source in sources if source["kind"] == "file"]
    given = [source["yen"] for source in sources if source["kind"] == "generator"]
    metered = (found.get("cost") or {}).get("yen", 0.0 if free else None)
    own = [metered if yen is None else yen for yen in given] or ([] if files else [metered])
    charged = [*own, *files]
    return None if None in charged else sum(charged)


def _machine(settings: Economics, seconds: float) -> float | None:
    rate = settings.machine_yen_per_hour
    return None if rate is None else seconds / 3600 * rate


def _llm(settings: Economics, found: Mapping[str, Any]) -> dict[str, Any]:
    """An answer of the run's own generator, which writes a text where a query names a label."""
    cost = found.get("cost") or {}
    answers = cost.get("answers") or 0
    tokens = cost.get("prompt_tokens", 0) + cost.get("completion_tokens", 0)
    # A server that does not count its tokens leaves 0, which is no measurement.
    measured = bool(answers and tokens)
    given = settings.llm_yen_per_1000
    priced = measured and "yen" in cost
    own = cost["yen"] / answers if priced else None
    return {
        "tokens": tokens / answers if measured else None,
        "seconds": cost["request_seconds"] / answers if answers else None,
        "yen": own if given is None else given / 1000,
        "price": "given" if given is not None else "measured" if priced else None,
    }


def _classifier(settings: Economics, latency: float | None) -> dict[str, float | None]:
    yen = None if latency is None else _machine(settings, latency)
    return {"seconds": latency, "yen": yen}


def _break_even(
    settings: Economics, spent: float | None, query: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """How many queries until the run has cost less than asking a model for each."""
    theirs, ours = query["llm"]["yen"], query["classifier"]["yen"] or 0.0
    if theirs is None or spent is None:
        return {"state": "not_measured"}
    if theirs <= ours:
        return {"state": "never"}
    queries = math.ceil(spent / (theirs - ours))
    return {
        "state": "reached",
        "queries": queries,
        "months": queries / settings.queries_per_month,
    }
