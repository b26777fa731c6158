"""What the report shows of the return on investment: labelling saved, queries, assumptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from japagen.reporting.text import Words
from japagen.reporting.views import Rows

_ASSUMED = (
    *("yen_per_hour", "texts_per_hour", "queries_per_month"),
    *("llm_yen_per_1000", "machine_yen_per_hour"),
)
_SAVED = ("per_label", "texts", "hours", "yen")


def headline(metrics: Mapping[str, Any], words: Words) -> str | None:
    """The labelling saved, in a sentence; None where none is shown."""
    found = metrics.get("economics")
    if not found or "yen" not in found["labelling"]:
        return None
    labelling, assumed = found["labelling"], found["assumptions"]
    beyond = labelling["state"] == "beyond"
    at = "limit" if beyond else "value"
    figures = {name: _amount(labelling[name][at]) for name in ("texts", "hours", "yen")}
    low, high = (_yen(labelling["yen"], end, words) for end in ("low", "high"))
    said = words(
        "economics.beyond" if beyond else "economics.saved",
        **figures,
        low=low,
        high=high,
        labels=words.count(labelling["labels"]),
        rate=_amount(assumed["yen_per_hour"]),
        speed=_amount(assumed["texts_per_hour"]),
    )
    bottom = labelling["texts"]["low"]
    if bottom is None or bottom > 0:
        return said
    return said + words("economics.uncertain")


def economics(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """Labelling saved, the run against a language model for every query, and what was assumed."""
    found = metrics.get("economics")
    if not found:
        return None
    state = found["labelling"]["state"]
    return {
        "said": headline(metrics, words) or words(f"economics.{state}"),
        "saved": _saved(found["labelling"], words),
        "run": _run(found["run"], words),
        "queries": _queries(found, words),
        "break_even": _break_even(found["break_even"], words),
        "notes": _notes(found, words),
        "assumed": [
            (words(f"economics.{name}"), _or_unset(found["assumptions"][name], words))
            for name in _ASSUMED
        ],
    }


def _saved(found: Mapping[str, Any], words: Words) -> Rows:
    if "yen" not in found:
        return []
    return [
        (
            words(f"economics.saved.{name}"),
            *(_bound(found[name], end, words) for end in ("value", "low", "high")),
        )
        for name in _SAVED
    ]


def _run(found: Mapping[str, float | None], words: Words) -> Rows:
    return [
        (words("economics.run.seconds"), _amount(found["seconds"] or 0.0)),
        *(
            (words(f"economics.run.{name}"), _or_unset(found[name], words))
            for name in ("generator_yen", "machine_yen")
        ),
    ]


def _queries(found: Mapping[str, Any], words: Words) -> Rows:
    llm, ours = found["query"]["llm"], found["query"]["classifier"]
    month = found["assumptions"]["queries_per_month"]

    def monthly(yen: float | None) -> str:
        return _or_unset(None if yen is None else yen * month, words)

    return [
        (words("economics.tokens"), _or_missing(llm["tokens"], words), "—"),
        (
            words("economics.seconds"),
            *(_or_missing(side["seconds"], words) for side in (llm, ours)),
        ),
        (words("economics.query_yen"), *(_or_unset(side["yen"], words) for side in (llm, ours))),
        (
            words("economics.month_yen", n=_amount(month)),
            *(monthly(side["yen"]) for side in (llm, ours)),
        ),
    ]


def _break_even(found: Mapping[str, Any], words: Words) -> str:
    if found["state"] != "reached":
        return words(f"economics.break_even.{found['state']}")
    if not found["queries"]:
        return words("economics.break_even.at_once")
    return words(
        "economics.break_even.reached",
        queries=words.count(found["queries"]),
        months=_amount(found["months"]),
    )


def _notes(found: Mapping[str, Any], words: Words) -> list[str]:
    llm = found["query"]["llm"]
    notes = []
    if llm["seconds"] is not None:
        notes.append(words("economics.measured"))
    if llm["price"] == "given":
        notes.append(words("economics.price_given"))
    if found["assumptions"]["machine_yen_per_hour"] is None:
        notes.append(words("economics.no_machine"))
    return notes


def _yen(found: Mapping[str, float | None], end: str, words: Words) -> str:
    value = found[end]
    if value is None:
        return words("economics.more_yen", limit=_amount(found["limit"] or 0))
    return words("economics.yen", amount=_amount(value))


def _bound(found: Mapping[str, float | None], end: str, words: Words) -> str:
    """An end of an interval; past the curve, that it is more than what can be read off."""
    value = found[end]
    if value is None:
        return words("economics.more", limit=_amount(found["limit"] or 0))
    return _amount(value)


def _or_missing(value: float | None, words: Words) -> str:
    return words("not_measured") if value is None else _amount(value)


def _or_unset(value: float | None, words: Words) -> str:
    return words("economics.unset") if value is None else _amount(value)


def _amount(value: float) -> str:
    """At most three places that count: 12,340, 3.1, 0.0245."""
    if abs(value) >= 100:
        shown = f"{value:,.0f}"
    elif abs(value) >= 1:
        shown = f"{value:.1f}".removesuffix(".0")
    else:
        shown = f"{value:.3g}" if abs(value) >= 1e-4 or not value else f"{value:.6f}"
    return shown.replace("-", "−")
