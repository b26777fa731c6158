"""Edits found on a normalised text, carried out on the text as it was written."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from japagen.japanese.normalization import normalize
from japagen.japanese.register.rules import Words

_VOICING_MARKS = frozenset("ﾞﾟ\u3099\u309a")


class RefusedError(Exception):
    """A conversion is not sure; the message says why and where."""

    def __init__(self, why: str, surface: str = "") -> None:
        super().__init__(f"{why}: {surface}" if surface else why)


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces the characters ``start`` to ``end`` (excluded) of the normalised text."""

    start: int
    end: int
    text: str


def replacing(words: Words, first: int, last: int, text: str) -> Edit:
    """Makes the smallest edit that turns the words ``first`` to ``last`` into ``text``."""
    start, end = words.starts[first], words.ends[last]
    old = words.text[start:end]
    same = 0
    while same < min(len(old), len(text)) and old[same] == text[same]:
        same += 1
    return Edit(start + same, end, text[same:])


def apply(edits: Iterable[Edit], raw: str, words: Words) -> str:
    """Carries the edits out on ``raw``, whose words were read after normalisation.

    Raises:
        RefusedError: If an edited place cannot be found in the raw text.
    """
    begins: list[int] | range
    ends: list[int] | range
    if raw == words.text:
        begins, ends = range(len(raw)), range(1, len(raw) + 1)
    else:
        begins, ends = _spans(raw, words.text)
    out: list[str] = []
    at = 0
    for edit in sorted(edits, key=lambda e: e.start):
        # An insertion goes right after the character before it.
        start = begins[edit.start] if edit.end > edit.start else ends[edit.start - 1]
        end = ends[edit.end - 1]
        if start < at or -1 in (start, end):
            raise RefusedError(
                "an unusual spelling has to change", words.text[edit.start : edit.end]
            )
        out += (raw[at:start], edit.text)
        at = end
    return "".join(out) + raw[at:]


def _spans(raw: str, text: str) -> tuple[list[int], list[int]]:
    """Returns where each normalised character begins and ends in the raw text.

    -1 stands where one raw character became several and the place falls between them.
    """
    begins: list[int] = []
    ends: list[int] = []
    made: list[str] = []
    offset = 0
    for line in raw.splitlines(keepends=True):
        body = line.splitlines()[0]
        piece = _line_spans(body, offset, begins, ends, bool(made))
        if piece:
            made.append(piece)
        offset += len(line)
    if "\n".join(made) != text:
        raise RefusedError("the text changes too much when normalised")
    return begins, ends


def _line_spans(line: str, offset: int, begins: list[int], ends: list[int], later: bool) -> str:
    """Appends the spans of one line and returns its normalised text."""
    made: list[str] = []
    i = 0
    space: int | None = None
    while i < len(line):
        j = i + 1
        while j < len(line) and (line[j] in _VOICING_MARKS or unicodedata.combining(line[j])):
            j += 1
        if line[i].isspace():
            space = i if made else None
        elif piece := normalize(line[i:j]):
            if not made and later:
                begins.append(-1)  # the line break between two lines
                ends.append(-1)
            if space is not None:
                begins.append(offset + space)
                ends.append(offset + space + 1)
                made.append(" ")
                space = None
            middle = [-1] * (len(piece) - 1)
            begins += [offset + i, *middle]
            ends += [*middle, offset + j]
            made.append(piece)
        i = j
    return "".join(made)
