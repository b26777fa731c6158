"""Folds widths and dashes for searching, and finds the way back to the given text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from japagen.japanese.normalization import normalize

_DASH = re.compile(r"(?<=[0-9])[‐‑‒–—―−ー─〜~](?=[0-9])")
_VOICING = "\uff9e\uff9f"


@lru_cache(maxsize=20_000)
def _folded(char: str) -> str:
    """One character, or none: white space is a space, and what nobody sees vanishes."""
    if char.isspace():
        return " "
    folded = normalize(char)
    return folded if len(folded) < 2 else char


@dataclass(frozen=True, slots=True)
class Folded:
    """A text in one width, with the place of each of its characters in the given text.

    Attributes:
        text: The folded text.
        places: Start of each character in the given text, and its length at the end.
    """

    text: str
    places: tuple[int, ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in the given text of a piece of the folded one."""
        return self.places[start], self.places[end - 1] + 1 if end > start else self.places[start]


def fold(text: str) -> Folded:
    """Folds full-width and half-width forms, drops what nobody sees, and unifies dashes.

    Characters that would become several (㈱) are left as they are, so that a place in the
    folded text always has one place in the given text. A dash of any kind between two digits
    becomes a hyphen: 03ー1234−5678 is a telephone number.

    >>> fold("０３ー１２３４").text
    '03-1234'
    """
    found: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        if char in _VOICING and found:
            voiced = unicodedata.normalize("NFKC", found[-1] + char)
            if len(voiced) == 1:
                found[-1] = voiced
                continue
        folded = _folded(char)
        if folded:
            found.append(folded)
            places.append(place)
    return Folded(_DASH.sub("-", "".join(found)), (*places, len(text)))
