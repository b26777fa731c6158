"""The report of a run: one HTML file that loads nothing from anywhere."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from japagen.data.summary import RunSummary
from japagen.i18n import Language, user_language
from japagen.reporting import sections_alignment, sections_overview, sections_training
from japagen.reporting.browser import Provenance, browser, pack
from japagen.reporting.text import LANGUAGES, View, Words, undirected

if TYPE_CHECKING:
    from jinja2 import Template

    from japagen.data.dataset import Dataset
    from japagen.data.export import RowSummary

# What an engineer reads is open; what an auditor reads comes after it, folded.
_PARTS = (
    "scores",
    "errors",
    "mix",
    "likeness",
    "samples",
    "counts",
    "audit",
    "economics",
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


def render_report(
    summary: RunSummary,
    dataset: Dataset,
    *,
    language: Language = "ja",
    known: Provenance | None = None,
    switch: bool = True,
) -> str:
    """Renders what a run measured: for a manager first, then an engineer, then an auditor.

    Args:
        summary: What the run measured. Parts that are None read "not measured".
        dataset: The synthetic examples, rejected ones included.
        language: Shown first, of everything but the texts themselves.
        known: What else is known of the texts, for the record browser.
        switch: Whether the page holds the other language too, and a switch between them.

    Returns:
        A complete HTML page without references to other files; the same page for the same
        arguments. Without scripts everything but the record browser can be read.
    """
    from markupsafe import Markup

    others = [other for other in LANGUAGES if other != language] if switch else []
    script = _own("report.js")
    page = {
        "language": language,
        "name": undirected(summary.task.name),
        "style": page_style(),
        "script": Markup(script),
        "script_hash": f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
        "summary": summary,
        "created": when(summary.created),
        "records": pack(dataset, known or Provenance(), summary.task.seed) if len(dataset) else "",
        "bodies": [
            {
                "language": each,
                "words": Words(each),
                "html": Markup(_body(summary, dataset, each, "" if each == language else each)),
            }
            for each in (language, *others)
        ],
    }
    return page_template("report.html.j2").render(page)


def _body(summary: RunSummary, dataset: Dataset, language: Language, prefix: str) -> str:
    """All that is said in one language; ids begin with the prefix."""
    words = Words(language)
    loop = sections_overview.loop(summary, words)
    sources = sections_overview.sources(summary, words)
    likeness = sections_alignment.likeness(summary, dataset, words)
    rare = {"loop": loop, "sources": sources, "likeness": likeness}
    scores = summary.scores
    few = words("verdict.few", n=words.count(scores.n)) if scores and scores.few else ""
    view = {
        "w": words,
        "at": prefix and f"{prefix}-",
        "undirected": undirected,
        # Most runs have no such thing, and need no section to say so.
        "parts": [part for part in _PARTS if rare.get(part, True)],
        "summary": summary,
        "label_text": sections_overview.label_text,
        "amount": sections_training.amount,
        "or_unset": sections_training.or_unset,
        "from_files": "、".join(summary.files),
        "sources": sources,
        "verdict": _verdict(summary, words),
        "few": few,
        "worth": None if summary.not_used else sections_training.worth(summary, words),
        "scale": sections_training.scale(summary, words),
        "baselines": sections_training.baselines(summary, words),
        "tests": sections_training.tests_of(summary, words),
        "tiles": sections_overview.tiles(summary, words),
        "flow": sections_overview.flow(summary.counts, words),
        "rejections": sections_overview.rejections(summary, dataset, words),
        "samples": sections_overview.samples(summary.task, dataset, words),
        "browser": browser(summary, dataset, words),
        "fields": sections_overview.field_rows(summary.text_fields or (), words),
        "registers": sections_overview.registers(summary, words),
        "closed_loop": loop,
        "likeness": likeness,
        "alignment": sections_alignment.alignment(summary, words),
        "diversity": sections_alignment.diversity(summary, words),
        "mix": sections_training.mix(summary, words),
        "scores": sections_training.scores(summary, words),
        "doubtful_tests": sections_training.doubtful_tests(summary),
        "economics": sections_training.economics(summary, words),
    }
    return page_template("body.html.j2").render(view)


def render_rows(kind: str, summary: RowSummary, words: Words, **more: Any) -> str:
    """Renders what came of a run of other rows: one HTML page without scripts or other files.

    The sections stand in the template ``KIND.html.j2``, which names ``more``; the names of its
    texts begin with the kind.
    """
    return page_template("rows.html.j2").render(
        w=words,
        undirected=undirected,
        language=words.language,
        style=page_style(),
        kind=kind,
        title=words(f"{kind}.title"),
        summary=summary,
        created=when(summary.created),
        **more,
    )


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

    return Markup(_own("report.css"))


@cache
def _own(name: str) -> str:
    """A file of ours, not data: escaped quotes would break it."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def verdict_texts(summary: RunSummary, language: Language | None = None) -> list[str]:
    """The verdict in words: what came of the run, its figures, and what to do."""
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
        return {**said, "figures": None, "covers": ""}
    shown = {
        "metric": metric,
        "gain": words.signed(gain.value),
        "low": words.signed(gain.low),
        "high": words.signed(gain.high),
    }
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
    }
