"""The report of a run: one HTML file that loads nothing from anywhere."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from japagen.data.summary import RunSummary
from japagen.i18n import Language, user_language
from japagen.reporting import charts, sections_alignment, sections_overview, sections_training
from japagen.reporting.text import View, Words, undirected

if TYPE_CHECKING:
    from jinja2 import Template

    from japagen.data.dataset import Dataset

# What an engineer reads is open; what an auditor reads comes after it, folded.
_PARTS = (
    "scores",
    "errors",
    "mix",
    "counts",
    "economics",
    "samples",
    "audit",
    "registers",
    "sources",
    "rejections",
    "privacy",
    "bias",
    "loop",
    "alignment",
    "diversity",
    "leakage",
    "cost",
    "reproduce",
)


def render_report(summary: RunSummary, dataset: Dataset, *, language: Language = "ja") -> str:
    """Renders what a run measured, for a manager at the top and an engineer at the bottom.

    Args:
        summary: What the run measured. Parts that are None read "not measured".
        dataset: The synthetic examples, rejected ones included.
        language: Language of everything but the texts themselves.

    Returns:
        A complete HTML page without scripts or references to other files; the same page for
        the same arguments.
    """
    words = Words(language)
    loop = sections_overview.loop(summary, words)
    sources = sections_overview.sources(summary, words)
    rare = {"loop": loop, "sources": sources}
    scores = summary.scores
    few = words("verdict.few", n=words.count(scores.n)) if scores and scores.few else ""
    page = {
        "w": words,
        "undirected": undirected,
        "language": language,
        "style": page_style(),
        # Most runs have no such thing, and need no section to say so.
        "parts": [part for part in _PARTS if rare.get(part, True)],
        "summary": summary,
        "label_text": sections_overview.label_text,
        "amount": sections_training.amount,
        "or_unset": sections_training.or_unset,
        "created": when(summary.created),
        "from_files": "、".join(summary.files),
        "sources": sources,
        "verdict": _verdict(summary, words),
        "few": few,
        "worth": sections_training.worth(summary, words),
        "saved": sections_training.headline(summary, words),
        "scale": sections_training.scale(summary, words),
        "baselines": sections_training.baselines(summary, words),
        "tests": sections_training.tests_of(summary, words),
        "tiles": sections_overview.tiles(summary, words),
        "flow": sections_overview.flow(summary.counts, words),
        "rejections": sections_overview.rejections(summary, dataset, words),
        "samples": sections_overview.samples(summary.task, dataset, words),
        "registers": sections_overview.registers(summary, words),
        "judge": sections_overview.judge(summary, words),
        "personal": sections_overview.personal(summary, words),
        "closed_loop": loop,
        "alignment": sections_alignment.alignment(summary, words),
        "diversity": sections_alignment.diversity(summary, words),
        "mix": sections_training.mix(summary, words),
        "scores": sections_training.scores(summary, words),
        "cost": sections_overview.cost(summary, words),
        "seconds": sections_overview.seconds(summary, words),
        "economics": sections_training.economics(summary, words),
        "reproduce": sections_overview.reproduce(summary, words),
    }
    return page_template("report.html.j2").render(page)


def when(created: str | None) -> str:
    """A time stamp in ISO 8601 for readers, or nothing."""
    return datetime.fromisoformat(created).strftime("%Y-%m-%d %H:%M %z") if created else ""


@cache
def page_template(name: str) -> Template:
    """The template of a page of reports."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


@cache
def page_style() -> str:
    """The style sheet of the pages, safe in a template."""
    from markupsafe import Markup

    # Our own file, not data: escaped quotes would break the font names.
    return Markup(Path(__file__).with_name("report.css").read_text(encoding="utf-8"))


def verdict_texts(summary: RunSummary, language: Language | None = None) -> list[str]:
    """The verdict in words: what came of the run, its figures, and what to do.

    Args:
        summary: The run.
        language: The user's when None.
    """
    said = _verdict(summary, Words(language or user_language()))
    return [str(said[part]) for part in ("title", "figures", "advice") if said.get(part)]


def _verdict(summary: RunSummary, words: Words) -> View:
    scores = summary.scores
    metric = words(scores.metric) if scores else ""
    if summary.not_used:
        alone = scores.gold_only.score(scores.metric) if scores and scores.gold_only else None
        return {
            "code": "not_used",
            "title": words("verdict.not_used"),
            "advice": words("advice.not_used"),
            "figures": words("verdict.alone", metric=metric, gold=words.number(alone))
            if alone is not None
            else None,
            "covers": "",
            "chart": "",
        }
    gain, gold = (scores.gain, scores.gold_only) if scores else (None, None)
    code = scores.verdict if scores and gain and gold else "not_measured"
    added = words(f"added.{summary.added}")
    said: View = {
        "code": code,
        "title": words(f"verdict.{code}", added=added),
        "advice": words.name(f"advice.{code}", summary.added, words(f"advice.{code}")),
    }
    if not scores or not gain or not gold:
        return {**said, "figures": None, "covers": "", "chart": ""}
    shown = {
        "metric": metric,
        "gain": words.signed(gain.value),
        "low": words.signed(gain.low),
        "high": words.signed(gain.high),
    }
    drawn = charts.interval(
        "gain",
        words("gain.chart", **shown),
        (gain.low, gain.value, gain.high),
        (words("gain.worse"), words("gain.better")),
    )
    return {
        **said,
        "figures": words(
            "verdict.figures",
            gold=words.number(gold.score(scores.metric)),
            synthetic=words.number(scores.with_synthetic.score(scores.metric)),
            added=added,
            **shown,
        ),
        "covers": words("verdict.covers", n=words.count(scores.n)),
        "chart": sections_overview.safe(drawn),
    }
