"""What the report shows of the mix: why each source weighs what it does, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from japagen.reporting import charts
from japagen.reporting.learnt import added
from japagen.reporting.text import Words, undirected
from japagen.reporting.views import Rows, safe


def mix(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """The share with its reason, every source, the curves and the worth."""
    found = metrics.get("mix")
    if not found:
        return None
    return {
        "facts": [
            *_facts(found, words, added(metrics)),
            *_pseudo(metrics.get("pseudo_labels"), words),
        ],
        "sources": _sources(found, words),
        "sentences": _sentences(found, words),
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
    return facts


def _pseudo(found: Mapping[str, Any] | None, words: Words) -> list[tuple[str, str]]:
    if not found:
        return []
    facts = [
        (words("pseudo"), words.count(found["texts"])),
        (words("pseudo.why"), words(f"pseudo.{found['reason']}")),
    ]
    if "right" in found:
        facts.append((words("pseudo.right"), words.share(found["right"])))
    return facts


def _sources(found: Mapping[str, Any], words: Words) -> Rows:
    """Each source's reliability, what a text of it counts for, and its share of the loss."""
    carried = {n: s["texts"] * s["text_weight"] for n, s in found["sources"].items()}
    total = sum(carried.values())
    return [
        (
            undirected(name),
            words.count(source["texts"]),
            _reliability(source["reliability"], words),
            words.number(source["text_weight"]),
            words.share(found["share"] * carried[name] / total if total else 0.0),
        )
        for name, source in found["sources"].items()
    ]


def _reliability(found: Mapping[str, Any] | None, words: Words) -> str:
    if found is None:
        return words("not_measured")
    mean, low, high = (words.number(found[name]) for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _sentences(found: Mapping[str, Any], words: Words) -> list[str]:
    """The evidence on every source's labels, in a sentence each."""
    said = []
    for name, source in found["sources"].items():
        known = source["reliability"] or {}
        evidence = known.get("evidence")
        if not evidence:
            continue
        said.append(
            words(
                "mix.evidence",
                name=undirected(name),
                recognized=words.count(evidence["recognized"]),
                gold=words.count(evidence["gold"]),
                agreed=words.count(evidence["agreed"]),
                texts=words.count(evidence["texts"]),
                transferred=words.count(evidence["transferred"]),
                right=words.share(
                    1 / evidence["labels"] + (1 - 1 / evidence["labels"]) * known["mean"]
                ),
                weight=words.number(source["text_weight"]),
            )
        )
    return said


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
