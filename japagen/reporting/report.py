"""The report of a run: one HTML file that loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from japagen.reporting import charts, sections_alignment, sections_overview, sections_training
from japagen.reporting.text import Language, Words, added, not_used, undirected

if TYPE_CHECKING:
    from jinja2 import Template

    from japagen.data.dataset import Dataset

_GAIN = (("gain", "value"), ("low", "low"), ("high", "high"))
_PARTS = (
    "counts",
    "sources",
    "rejections",
    "samples",
    "registers",
    "privacy",
    "bias",
    "loop",
    "alignment",
    "diversity",
    "mix",
    "scores",
    "errors",
    "leakage",
    "cost",
    "economics",
    "reproduce",
)


def render_report(
    metrics: Mapping[str, Any], dataset: Dataset, *, language: Language = "ja"
) -> str:
    """Renders what a run measured, for a manager at the top and an engineer at the bottom.

    Args:
        metrics: What metrics.json holds. Parts that are None or absent read "not measured".
        dataset: The synthetic examples, rejected ones included.
        language: Language of everything but the texts themselves.

    Returns:
        A complete HTML page without scripts or references to other files; the same page for
        the same arguments.
    """
    words = Words(language)
    loop = sections_overview.loop(metrics, words)
    sources = sections_overview.sources(metrics, words)
    rare = {"loop": loop, "sources": sources}
    scores = metrics.get("scores") or {}
    page = {
        "w": words,
        "undirected": undirected,
        "language": language,
        "style": _style(),
        # Most runs have no such thing, and need no section to say so.
        "parts": [part for part in _PARTS if rare.get(part, True)],
        "task": metrics["task"],
        "version": metrics["japagen"],
        "created": _when(metrics.get("created")),
        "from_files": "、".join(sections_overview.files(metrics)),
        "sources": sources,
        "verdict": _verdict(metrics, words),
        "few": scores.get("few") and words("verdict.few", n=words.count(scores["n"])),
        "worth": sections_training.worth(metrics, words),
        "saved": sections_training.headline(metrics, words),
        "baselines": sections_training.baselines(metrics, words),
        "tiles": sections_overview.tiles(metrics, words),
        "flow": sections_overview.flow(metrics["counts"], words),
        "per_label": sections_overview.per_label(metrics, words),
        "rejections": sections_overview.rejections(metrics, dataset, words),
        "samples": sections_overview.samples(metrics, dataset, words),
        "registers": sections_overview.registers(metrics, words),
        "privacy": sections_overview.privacy(metrics, words),
        "bias": sections_overview.bias(metrics, words),
        "closed_loop": loop,
        "alignment": sections_alignment.alignment(metrics, words),
        "diversity": sections_alignment.diversity(metrics, words),
        "mix": sections_training.mix(metrics, words),
        "scores": sections_training.scores(metrics, words),
        "errors": sections_training.errors(metrics, words),
        "leakage": sections_overview.leakage(metrics, words),
        "cost": sections_overview.cost(metrics, words),
        "seconds": sections_overview.seconds(metrics, words),
        "economics": sections_training.economics(metrics, words),
        "reproduce": sections_overview.reproduce(metrics, words),
        "versions": list((metrics.get("versions") or {}).items()),
        "terms": sections_overview.terms(metrics, words),
    }
    return _template().render(page)


def _when(created: str | None) -> str:
    """A time stamp in ISO 8601 for readers, or nothing."""
    return datetime.fromisoformat(created).strftime("%Y-%m-%d %H:%M %z") if created else ""


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.j2")


@cache
def _style() -> str:
    from markupsafe import Markup

    # Our own file, not data: escaped quotes would break the font names.
    return Markup(Path(__file__).with_name("report.css").read_text(encoding="utf-8"))


def _verdict(metrics: Mapping[str, Any], words: Words) -> dict[str, Any]:
    scores, more = metrics.get("scores") or {}, added(metrics)
    if not_used(metrics):
        metric = scores.get("metric", "macro_f1")
        alone = (scores.get("gold_only") or {}).get(metric)
        figures = words("verdict.alone", metric=words(metric), gold=words.number(alone))
        return {
            "code": "not_used",
            "title": words("verdict.not_used"),
            "advice": words("advice.not_used"),
            "figures": None if alone is None else figures,
            "covers": "",
            "chart": "",
        }
    gain, gold = scores.get("gain"), scores.get("gold_only")
    code = scores["verdict"] if gain and gold else "not_measured"
    said = {
        "code": code,
        "title": words(f"verdict.{code}", added=words(f"added.{more}")),
        "advice": words.name(f"advice.{code}", more, words(f"advice.{code}")),
    }
    if not gain or not gold:
        return {**said, "figures": None}
    metric = scores["metric"]
    shown = {name: words.signed(gain[at]) for name, at in _GAIN} | {"metric": words(metric)}
    drawn = charts.interval(
        "gain",
        words("gain.chart", **shown),
        (gain["low"], gain["value"], gain["high"]),
        (words("gain.worse"), words("gain.better")),
    )
    return {
        **said,
        "figures": words(
            "verdict.figures",
            gold=words.number(gold[metric]),
            synthetic=words.number(scores["with_synthetic"][metric]),
            added=words(f"added.{more}"),
            **shown,
        ),
        "covers": words("verdict.covers", n=words.count(scores["n"])),
        "chart": sections_overview.safe(drawn),
    }
