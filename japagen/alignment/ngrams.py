"""Counts of hashed n-grams, made when a method first asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from scipy import sparse

from japagen.japanese.morphology import Tagger
from japagen.japanese.normalization import normalize

UNITS = ("tokens", "characters")
# Xie et al. use 10,000; a power of two hashes evenly.
_BUCKETS = 2**14
_CHARACTERS = (1, 3)


class NGrams:
    """Hashed n-grams of several lists of texts: words and pairs of words, or characters.

    Args:
        parts: The lists of texts.
        tagger: The morphological analyser.
    """

    def __init__(self, parts: Sequence[Sequence[str]], tagger: Tagger) -> None:
        self._parts = parts
        self._tagger = tagger
        self._made: dict[str, list[sparse.csr_array]] = {}

    def counts(self, unit: str) -> list[sparse.csr_array]:
        """Returns one sparse (n, buckets) count matrix a list of texts.

        Args:
            unit: "tokens" (lemmas, 1 and 2 at a time) or "characters" (1 to 3).
        """
        if unit not in self._made:
            self._made[unit] = [self._count(texts, unit) for texts in self._parts]
        return self._made[unit]

    def _count(self, texts: Sequence[str], unit: str) -> sparse.csr_array:
        from sklearn.feature_extraction.text import HashingVectorizer

        analyzer: str | Callable[[str], list[str]] = "char"
        if unit == "tokens":
            analyzer = self._tokens
        vectorizer = HashingVectorizer(
            analyzer=analyzer,
            preprocessor=normalize,
            ngram_range=_CHARACTERS,
            n_features=_BUCKETS,
            alternate_sign=False,
            norm=None,
        )
        return sparse.csr_array(vectorizer.transform(texts))

    def _tokens(self, text: str) -> list[str]:
        words = [m.lemma for m in self._tagger.tokenize(normalize(text))]
        return words + [f"{a} {b}" for a, b in pairwise(words)]
