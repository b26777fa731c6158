"""Counts of hashed n-grams of words, made when a method first asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

from scipy import sparse

from japagen.japanese.morphology import Tagger
from japagen.japanese.normalization import normalize

# Xie et al. use 10,000; a power of two hashes evenly.
_BUCKETS = 2**14


class NGrams:
    """Hashed words and pairs of words of several lists of texts.

    Args:
        parts: The lists of texts.
        tagger: The morphological analyser.
    """

    def __init__(self, parts: Sequence[Sequence[str]], tagger: Tagger) -> None:
        self._parts = parts
        self._tagger = tagger

    @cached_property
    def counts(self) -> list[sparse.csr_array]:
        """One sparse (n, buckets) matrix a list of texts: lemmas, 1 and 2 at a time."""
        from sklearn.feature_extraction.text import HashingVectorizer

        vectorizer = HashingVectorizer(
            analyzer=self._tokens, n_features=_BUCKETS, alternate_sign=False, norm=None
        )
        return [sparse.csr_array(vectorizer.transform(texts)) for texts in self._parts]

    def _tokens(self, text: str) -> list[str]:
        words = [m.lemma for m in self._tagger.tokenize(normalize(text))]
        return words + [f"{a} {b}" for a, b in pairwise(words)]
