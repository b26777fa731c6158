"""What the report shows of the mix: its search, both curves, and what the texts are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from japagen.reporting import charts
from japagen.reporting.learnt import added
from japagen.reporting.text import Words
from japagen.reporting.views import Rows, safe


def mix(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """The choice with its reason, every candidate, the curves and the worth."""
    found = metrics.get("mix")
    if not found:
        return None
    return {
        "facts": [
            *_facts(found, words, added(metrics)),
            *_pseudo(metrics.get("pseudo_labels"), words),
        ],
        "candidates": _candidates(found, words),
        "worth": worth(metrics, words),
        "chart": _chart(found, words),
        "points": _points(found, words),
    }


def worth(metrics: Mapping[str, Any], words: Words) -> str | None:
    """What the synthetic set is worth in gold, in a sentence; None where it was not measured."""
    curves = (metrics.get("mix") or {}).get("curves")
    if not curves:
        return None
    found = curves["worth"]
    figures = {
        "low": _texts(found["low"], found, words),
        "high": _texts(found["high"], found, words),
        "base": _rounded(found["base"]),
        "limit": _rounded(found["limit"]),
        "synthetic": words.count(curves["synthetic"][-1]["per_label"]),
    }
    if found["texts"] is None:
        return words("worth.beyond", **figures)
    if found["texts"] <= 0:
        return words("worth.none", **figures)
    return words("worth.value", texts=_rounded(found["texts"]), **figures)


def _texts(value: float | None, found: Mapping[str, Any], words: Words) -> str:
    if value is None:
        return words("worth.more", limit=_rounded(found["limit"]))
    return _rounded(value)


def _rounded(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0").replace("-", "−")


def _facts(found: Mapping[str, Any], words: Words, more: str) -> list[tuple[str, str]]:
    facts = [
        (words("mix.share.both" if more == "both" else "mix.share"), words.share(found["share"])),
        (words("mix.why"), words(f"mix.{found['reason']}")),
    ]
    if found["share"] and found["part"] < 1:
        facts.append((words("mix.part"), words("mix.part_of", part=words.share(found["part"]))))
    folds = found.get("folds")
    if folds:
        usable = folds["usable"]
        facts.append(
            (
                words("mix.folds"),
                words(
                    "mix.folds_are",
                    folds=len(usable),
                    repeats=folds["repeats"],
                    low=words.count(min(usable)),
                    high=words.count(max(usable)),
                    synthetic=words.count(folds["synthetic"]),
                ),
            )
        )
        facts.append((words("mix.provenance"), words(f"mix.provenance.{found['provenance']}")))
    check = found.get("confirmation")
    if check:
        facts.append(
            (
                words("mix.confirmation"),
                words(
                    "mix.confirmation_is",
                    n=words.count(check["texts"]),
                    gain=words.signed(check["gain"]),
                    error=words.number(check["error"]),
                ),
            )
        )
    return facts


def _pseudo(found: Mapping[str, Any] | None, words: Words) -> list[tuple[str, str]]:
    if not found:
        return []
    facts = [
        (words("pseudo"), words.count(found["texts"])),
        (words("pseudo.why"), words(f"pseudo.{found['reason']}")),
    ]
    if "gain" in found:
        lowered = f"{words.signed(found['gain'])} ({words.number(found['error'])})"
        facts += [
            (words("pseudo.gain"), lowered),
            (words("pseudo.right"), words.share(found["right"])),
        ]
    return facts


def _candidates(found: Mapping[str, Any], words: Words) -> Rows:
    return [
        (
            words.share(row["mix"]["share"]),
            words.share(row["mix"]["part"]) if row["mix"]["share"] else "—",
            words.number(row["loss"]),
            _with_error(row["over_gold"], words) if row["mix"]["share"] else "—",
            words.number(row["macro_f1"]),
        )
        for row in found.get("candidates") or ()
    ]


def _with_error(difference: Mapping[str, float], words: Words) -> str:
    return f"{words.signed(difference['value'])} ± {words.number(difference['error'])}"


def _chart(found: Mapping[str, Any], words: Words) -> Any:
    curves = found.get("curves")
    if not curves:
        return None
    panels = [
        (
            words(f"curve.{name}"),
            [(p["per_label"], p["loss"], p["low"], p["high"]) for p in curves[name]],
        )
        for name in ("gold", "synthetic")
    ]
    return safe(charts.banded_curves("curves", words("curves.chart"), panels))


def _points(found: Mapping[str, Any], words: Words) -> list[dict[str, Any]]:
    curves = found.get("curves") or {}
    return [
        {
            "title": words(f"curve.{name}"),
            "rows": [
                (
                    words.general(round(p["per_label"], 1)),
                    f"{words.number(p['loss'])} [{words.number(p['low'])}, "
                    f"{words.number(p['high'])}]",
                    words.number(p["macro_f1"]),
                )
                for p in curves[name]
            ],
        }
        for name in ("gold", "synthetic")
        if curves
    ]
