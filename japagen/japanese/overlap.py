"""Overlap of texts by character n-grams."""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

from japagen.japanese.normalization import normalize

_N = 5  # Word n-grams need a tokenizer; five characters are about two Japanese words.


def _ngrams(text: str) -> set[str]:
    """Distinct character n-grams of the normalised text; the whole text where it is shorter."""
    text = normalize(text)
    return {text[i : i + _N] for i in range(max(len(text) - _N + 1, 1))} if text else set()


@dataclass(frozen=True, slots=True)
class Copied:
    """The longest run of characters that a text shares with a reference.

    Attributes:
        text: The run, normalised; empty when not even an n-gram is shared.
        reference: Index of the reference; -1 when nothing is shared.
    """

    text: str = ""
    reference: int = -1


class OverlapIndex:
    """Finds, among reference texts, the one that holds most of a text's n-grams.

    Args:
        references: The texts to compare with.
    """

    def __init__(self, references: Iterable[str]) -> None:
        self._references: Sequence[str] = list(references)
        self._holders: dict[str, list[int]] = defaultdict(list)
        for index, text in enumerate(self._references):
            for gram in _ngrams(text):
                self._holders[gram].append(index)

    def nearest(self, text: str) -> tuple[float, str]:
        """Returns the share of the text's n-grams in the best reference, and that reference.

        The share is 0 and the reference empty when nothing is shared.
        """
        share, index = self.nearest_index(text)
        return share, self._references[index] if index >= 0 else ""

    def nearest_index(self, text: str) -> tuple[float, int]:
        """As `nearest`, with the reference's index; -1 when nothing is shared."""
        if not self._holders:
            return 0.0, -1
        grams = _ngrams(text)
        known = filter(None, map(self._holders.get, grams))
        hits = Counter(chain.from_iterable(known))
        if not hits:
            return 0.0, -1
        # Ties go to the earliest reference, so that the answer does not depend on hashing.
        index, count = min(hits.items(), key=lambda item: (-item[1], item[0]))
        return count / len(grams), index

    @cached_property
    def _places(self) -> tuple[list[str], dict[str, list[tuple[int, int]]]]:
        """The normalised references, and where each n-gram starts in them."""
        plain = [normalize(text) for text in self._references]
        places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for index, text in enumerate(plain):
            for start in range(len(text) - _N + 1):
                places[text[start : start + _N]].append((index, start))
        return plain, places

    def longest_copy(self, text: str) -> Copied:
        """Returns the longest run of the text that stands in any reference, the first of equals.

        Runs shorter than an n-gram are not looked for.
        """
        best = Copied()
        if not self._holders:
            return best
        text = normalize(text)
        plain, places = self._places
        for start in range(len(text) - _N + 1):
            for index, place in places.get(text[start : start + _N], ()):
                reference = plain[index]
                # A run that could begin earlier was measured from there.
                if start and place and text[start - 1] == reference[place - 1]:
                    continue
                length = _N
                most = min(len(text) - start, len(reference) - place)
                while length < most and text[start + length] == reference[place + length]:
                    length += 1
                if length > len(best.text):
                    best = Copied(text[start : start + length], index)
        return best


N = 2
# すごい〜, すごいー and すごい are one word said in three moods; punctuation says even less.
_DRAWN_OUT = re.compile(r"[ーｰ〜~～∼−―—‐-]+")
_SILENT = re.compile(r"[\s、。,.!?！？…・「」『』()（）♪☆★♡♥]+")


def plain_form(text: str) -> str:
    """What two spellings of one text share: no width, case, drawing out or punctuation.

    >>> plain_form("すご～い！！ ｻｰﾋﾞｽ") == plain_form("すごーい。サービス")
    True
    """
    return _SILENT.sub("", _DRAWN_OUT.sub("", normalize(text).casefold()))


def shingles(text: str) -> frozenset[str]:
    """Distinct character bigrams of a text's plain form, with its first and last character.

    Words need a tokenizer, and most of a short text's longer n-grams change with one particle.
    The edges are marked so that every character counts twice, also in a text of one.
    """
    plain = f"\x02{plain_form(text)}\x03"
    # A million texts have each bigram once.
    return frozenset(sys.intern(plain[i : i + N]) for i in range(len(plain) - N + 1))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Size of the intersection over that of the union."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def shingle_hashes(
    texts: Sequence[str],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """64-bit hashes of every text's bigrams in one array, and where each text's begin.

    Returns:
        Hashes, shape (bigrams,), and offsets, shape (len(texts) + 1,). Repeated bigrams are
        not removed: a minimum does not mind them.
    """
    codes, offsets = bigram_codes([plain_form(text) for text in texts])
    return mix(codes), offsets.astype(np.uint64)


def bigram_codes(
    plain: Sequence[str],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The bigrams of texts in their plain form, as numbers of 64 bits, and where each text's begin.

    The first character is in the upper half of a number, the second in the lower one.
    """
    edged = [f"\x02{text}\x03" for text in plain]
    lengths = np.fromiter(map(len, edged), np.int64, len(edged))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths - 1)])
    joined = "".join(edged).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(joined, np.uint32).astype(np.uint64)
    pairs = (codes[:-1] << np.uint64(32)) | codes[1:]
    # The pair of one text's end and the next one's start is nobody's.
    own = np.ones(len(pairs), bool)
    own[np.cumsum(lengths)[:-1] - 1] = False
    return pairs[own], offsets


def mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spreads 64-bit values evenly: the finaliser of SplitMix64 (Steele et al. 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
