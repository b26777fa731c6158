"""Finds out whether a text mentions a term of several morphemes, in whatever form."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from japagen.japanese.morphology import Tagger
from japagen.japanese.normalization import normalize


class Terms:
    """Terms to look for in texts.

    A term is there where consecutive morphemes have its lemmas, so that 引き落とす is found in
    引き落とされた and 母 is not found in 母音; or where they spell it, because the same characters
    can be cut otherwise beside other words.

    Args:
        terms: What to look for, as people write it.
        tagger: The morphological analyser.
    """

    def __init__(self, terms: Iterable[str], tagger: Tagger) -> None:
        self._tagger = tagger
        self._terms: list[tuple[str, str, tuple[str, ...]]] = []
        for term in dict.fromkeys(terms):
            clean = normalize(term)
            lemmas = tuple(m.lemma for m in tagger.tokenize(clean))
            if lemmas:
                self._terms.append((term, clean.replace(" ", ""), lemmas))

    def found(self, text: str) -> frozenset[str]:
        """Returns the terms that a text mentions."""
        morphemes = self._tagger.tokenize(normalize(text))
        lemmas = tuple(m.lemma for m in morphemes)
        spelled = "".join(m.surface for m in morphemes)
        starts = [0, *accumulate(len(m.surface) for m in morphemes)]
        return frozenset(
            term
            for term, clean, wanted in self._terms
            if _has(lemmas, wanted) or _spells(spelled, clean, starts)
        )


def _has(lemmas: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    size = len(wanted)
    return any(lemmas[i : i + size] == wanted for i in range(len(lemmas) - size + 1))


def _spells(text: str, term: str, starts: list[int]) -> bool:
    borders = set(starts)
    at = text.find(term)
    while at >= 0:
        if at in borders and at + len(term) in borders:
            return True
        at = text.find(term, at + 1)
    return False
