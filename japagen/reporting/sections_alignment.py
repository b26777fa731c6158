"""What the report shows of alignment, before and after weighting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from japagen.reporting import charts
from japagen.reporting.text import Words
from japagen.reporting.views import ChartRows, Rows, bars, safe

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
