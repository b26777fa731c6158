"""Markdown as the cards of datasets and models write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

MISSING = "not measured"
Cells = Sequence[object]


def table(heads: Cells, rows: Iterable[Cells]) -> str:
    """A table; its cells cannot break it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(plain(str(cell)) for cell in row) + " |" for row in lines)


def plain(text: str) -> str:
    """One line without Markdown tables or HTML in it."""
    escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return escaped.replace("|", "\\|")


def number(value: float | None, form: str = ".3f") -> str:
    """A number, or that it was not measured."""
    return MISSING if value is None else format(value, form)


def share(value: float | None) -> str:
    """A percentage with one decimal."""
    return number(value, ".1%")


def bounded(value: float | Mapping[str, float] | None, sign: str = "") -> str:
    """A number, with its interval where it has one."""
    if not isinstance(value, Mapping):
        return number(value)
    shown, low, high = (format(value[key], f"{sign}.3f") for key in ("value", "low", "high"))
    return f"{shown} [{low}, {high}]"


def not_measured() -> str:
    """The sentence in place of a section."""
    return f"{MISSING.capitalize()}."
