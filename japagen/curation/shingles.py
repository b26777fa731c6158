"""Character n-grams of Japanese texts, the same for spellings that say the same."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from japagen.japanese.normalization import normalize

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
    plain = [f"\x02{plain_form(text)}\x03" for text in texts]
    lengths = np.fromiter(map(len, plain), np.int64, len(plain))
    joined = "".join(plain).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(joined, np.uint32).astype(np.uint64)
    if not len(codes):
        return np.empty(0, np.uint64), np.zeros(1, np.uint64)
    pairs = (codes[:-1] << np.uint64(32)) | codes[1:]
    # The pair of one text's end and the next one's start is nobody's.
    own = np.ones(len(pairs), bool)
    own[np.cumsum(lengths)[:-1] - 1] = False
    offsets = np.concatenate([[0], np.cumsum(lengths - 1)])
    return mix(pairs[own]), offsets.astype(np.uint64)


def mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spreads 64-bit values evenly: the finaliser of SplitMix64 (Steele et al. 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
