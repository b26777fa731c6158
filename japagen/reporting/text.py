"""Texts of the report in the reader's language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from japagen.data.registry import FILTERS, METHODS, METRICS
from japagen.data.scores import Interval, Measured
from japagen.i18n import Language as Language
from japagen.i18n import localized, page_texts, translated, user_language

if TYPE_CHECKING:
    from jinja2 import Environment

Cells = Sequence[object]
# What a section gives the template, which reads it by name.
View = dict[str, Any]
LANGUAGES: tuple[Language, ...] = ("ja", "en")
# Marks that turn the direction of what follows. Elements isolate them; attributes cannot.
_DIRECTION_MARKS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@cache
def strings(language: Language) -> dict[str, str]:
    """Every sentence of the report by key, in a language."""
    found = dict(page_texts(Path(__file__).with_name("report.yaml"), language))
    # Plug-ins may be broken, and are asked for their names one by one.
    for prefix, entries in (("filter.", FILTERS.own), ("method.", METHODS), ("", METRICS)):
        found |= {f"{prefix}{e.name}": e.title(language) for e in entries.values()}
    return found


class Words:
    """The sentences of one language, and numbers in its manner.

    Args:
        language: ``ja`` or ``en``; the user's when None.
    """

    def __init__(self, language: Language | None = None) -> None:
        self.language: Language = language or user_language()

    @property
    def gap(self) -> str:
        """What stands between two sentences."""
        return "" if self.language == "ja" else " "

    def __call__(self, key: str, **values: object) -> str:
        """Returns the sentence ``key`` with its {names} filled in."""
        return strings(self.language)[key].format(**values)

    def name(self, kind: str, code: str, otherwise: str | None = None) -> str:
        """Returns what ``code`` is called, or ``otherwise``, or the code where it has no name."""
        found = strings(self.language).get(f"{kind}.{code}")
        if found is None and kind == "filter":
            found = FILTERS.title(code, self.language)
        return found or otherwise or code

    def say(self, text: str) -> str:
        """Says an English message in the language."""
        return localized(text, self.language)

    def cell(self, text: str) -> str:
        """Says a cell of a table."""
        return translated("table", text, self.language)

    def heads(self, *texts: str) -> tuple[str, ...]:
        """Says the names of columns."""
        return tuple(map(self.cell, texts))

    def stage(self, code: str) -> str:
        """Names a stage such as ``train-gold-0``, whose last part is a seed."""
        kind, _, seed = code.rpartition("-")
        texts = strings(self.language)
        known = texts.get(f"stage.{code}") or texts.get(f"stage.{kind}")
        return known.format(seed=seed) if known else self.name("stage", code)

    def _or_missing(self, value: Any, show: Callable[[Any], str]) -> str:
        return self("not_measured") if value is None else show(value)

    def count(self, value: float | None) -> str:
        """A whole number with separators: 1,234."""
        return self._or_missing(value, lambda v: f"{v:,.0f}")

    def number(self, value: float | None) -> str:
        """Three decimals: 0.812."""
        return self._or_missing(value, lambda v: f"{v:.3f}")

    def general(self, value: float | None) -> str:
        """At most three decimals, none for whole numbers: 0.6, 12."""
        return self._or_missing(value, lambda v: f"{v:.3f}".rstrip("0").rstrip("."))

    def share(self, value: float | None) -> str:
        """A percentage with one decimal: 61.0%."""
        return self._or_missing(value, lambda v: f"{v:.1%}")

    def duration(self, seconds: float | None) -> str:
        """Seconds below two minutes, then minutes, then hours with one decimal."""
        if seconds is None:
            return self("not_measured")
        if seconds < 120:
            return self("duration.seconds", n=f"{seconds:,.0f}")
        if seconds < 7200:
            return self("duration.minutes", n=f"{seconds / 60:,.0f}")
        return self("duration.hours", n=f"{seconds / 3600:,.1f}")

    def signed(self, value: float | None) -> str:
        """Three decimals with a sign: +0.020, −0.010, ±0.000 where it rounds to nothing."""
        return self._or_missing(value, _signed)

    def interval(self, found: Measured, *, signed: bool = False) -> str:
        """Three decimals, with the interval where there is one: 0.812 [0.790, 0.834]."""
        show = self.signed if signed else self.number
        if not isinstance(found, Interval):
            return show(found)
        return f"{show(found.value)} [{show(found.low)}, {show(found.high)}]"

    def yes_no(self, value: bool | None) -> str:
        """Yes, no, or that the user has to check."""
        return self("check") if value is None else self("yes" if value else "no")


def _signed(value: float) -> str:
    shown = f"{abs(value):.3f}"
    sign = "±" if float(shown) == 0 else "−" if value < 0 else "+"
    return sign + shown


def undirected(text: str) -> str:
    """Drops marks that change text direction, for places where they cannot be isolated."""
    return _DIRECTION_MARKS.sub("", text)


def rendered(template: str, view: Mapping[str, Any], language: Language) -> str:
    """A text or a card, as its template says it in a language.

    In templates the filter ``said`` says English, one sentence a line, in the reader's language;
    ``lines`` does without joining them, and ``whole`` says all at once. ``head`` and ``row`` make
    lines of a Markdown table, and ``plain`` keeps a text from breaking one.

    Args:
        template: Its path in the package.
        view: What the template names.
        language: The reader's.
    """
    page = _templates(language).get_template(template).render(view)
    return re.sub(r"\n{3,}", "\n\n", page).strip() + "\n"


@cache
def _templates(language: Language) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = Words(language)
    environment.filters |= {
        "said": partial(_said, words=words),
        "lines": lambda text: "\n".join(words.say(line) for line in text.split("\n") if line),
        "whole": lambda text: words.say(text.strip()) + "\n",
        "plain": plain,
        "row": _row,
        "head": _head,
    }
    environment.globals["table"] = table
    return environment


def _said(text: str, words: Words) -> str:
    """English in the reader's language: each line but those of tables, which have been said."""
    paragraphs = []
    for paragraph in filter(None, re.split(r"\n{2,}", text.strip())):
        listed = [line for line in paragraph.split("\n") if line]
        if listed[0].startswith("- "):
            paragraphs.append("\n".join(f"- {words.say(line[2:])}" for line in listed))
        elif listed[0].startswith("|"):
            paragraphs.append(paragraph)
        else:
            paragraphs.append(words.gap.join(map(words.say, listed)))
    return "\n\n".join(paragraphs)


def table(heads: Cells, rows: Iterable[Cells]) -> str:
    """A table; its cells cannot break it."""
    return "\n".join([_head(heads), *map(_row, rows)])


def _head(heads: Cells) -> str:
    return f"{_row(heads)}\n{_row(['---'] * len(heads))}"


def _row(cells: Cells) -> str:
    return "| " + " | ".join(plain(str(cell)) for cell in cells) + " |"


def plain(text: str) -> str:
    """One line without Markdown tables or HTML in it."""
    escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return escaped.replace("|", "\\|")
