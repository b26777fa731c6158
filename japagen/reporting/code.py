"""The report and the card of programs with tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from japagen.data.code import CodeSummary, Program, ProgramCounts
from japagen.i18n import Language, localized
from japagen.reporting.cards import row_card
from japagen.reporting.report import render_rows
from japagen.reporting.text import Words

_SHOWN = 5
_BANDS = 10


def render_report(
    summary: CodeSummary, programs: Sequence[Program], *, language: Language = "ja"
) -> str:
    """Renders what came of a run: one HTML page without scripts or other files."""
    words = Words(language)
    kept = [one for one in programs if one.rejected is None]
    rejected = [one for one in programs if one.rejected]
    return render_rows(
        "code",
        summary,
        words,
        counts=[
            ("topic", _count_rows(summary.per_topic, words)),
            ("difficulty", _count_rows(summary.per_difficulty, words)),
        ],
        rejections=rejection_rows(summary, words),
        bands=_bands(summary, words),
        examples=[
            (words("code.examples"), _spread(kept)),
            (words("code.rejected"), _spread(rejected)),
        ],
    )


def _spread(programs: Sequence[Program]) -> Sequence[Program]:
    """A few, at even distances."""
    return programs[:: max(1, -(-len(programs) // _SHOWN))][:_SHOWN]


def _count_rows(counts: Mapping[str, ProgramCounts], words: Words) -> list[tuple[str, ...]]:
    return [
        (
            name or words("none"),
            words.count(found.written),
            words.count(found.kept),
            words.share(found.kept / found.written),
        )
        for name, found in counts.items()
    ]


def rejection_rows(summary: CodeSummary, words: Words) -> list[tuple[str, str]]:
    """Checks and how many programs each rejected, in the order of the checks."""
    found = summary.rejections
    return [(words(f"code.check.{name}"), words.count(n)) for name, n in found.items()]


def _bands(summary: CodeSummary, words: Words) -> list[tuple[str, str]]:
    """How many programs have a score in each tenth, the best first."""
    bands = [min(_BANDS - 1, int(score * _BANDS)) for score in summary.scores.values()]
    return [
        (f"{band / _BANDS:.1f}–{(band + 1) / _BANDS:.1f}", words.count(bands.count(band)))
        for band in reversed(range(_BANDS))
        if band in bands
    ]


def program_card(summary: CodeSummary) -> str:
    """Returns the card of a run's programs: Markdown with YAML front matter."""
    words = Words("en")
    front = {
        "language": ["ja", "code"],
        "task_categories": ["text-generation"],
        "tags": ["synthetic", "japanese", "code", "python", "japagen"],
    }
    japanese = localized(
        f"{summary.counts.kept:,} Japanese instructions with programs that a language model wrote "
        "and no human has checked. Read the terms of use (Terms) and the limits (Limits).",
        "ja",
    )
    return row_card(
        "reporting/program_card.md.j2",
        summary,
        front,
        japanese=japanese,
        topics=_count_rows(summary.per_topic, words),
        rejections=rejection_rows(summary, words),
    )
