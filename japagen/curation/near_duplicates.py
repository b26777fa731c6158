"""Near-duplicates by MinHash over character bigrams, and by encoder vectors.

Broder (1997), "On the resemblance and containment of documents": the share of equal minima of
two sets under random permutations estimates their Jaccard similarity. Minima are cut into bands
(Leskovec et al., Mining of Massive Datasets, ch. 3), texts that share a band are compared
exactly, so that the estimate decides only what is looked at.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from japagen.data.dataset import Dataset, Rejection
from japagen.japanese.overlap import jaccard, mix, shingle_hashes, shingles

# Two texts share a band with probability 0.9998 at similarity 0.7 and 0.93 at 0.5; the exact
# comparison pays for what the bands let through.
_BANDS, _ROWS_A_BAND = 20, 3
_BLOCK = 50_000
# Kept texts of a band that a text is compared with: a template that fills a band with unlike
# texts would cost the square of their number.
_MOST_COMPARED = 32


@dataclass(frozen=True, slots=True)
class Near:
    """The kept text that another is too near to.

    Attributes:
        index: Its place.
        similarity: From 0 to 1.
    """

    index: int
    similarity: float


def reject_near_duplicates(
    dataset: Dataset, threshold: float, gold: Dataset | None = None, first: int = 0
) -> Dataset:
    """Rejects texts that are too like gold or an earlier kept text, by their characters.

    Args:
        dataset: Synthetic examples; of two alike the earlier is kept, whatever its label.
        threshold: See `find_near_duplicates`; 1 rejects nothing but what is spelt the same.
        gold: Training gold, which is never rejected.
        first: Nor are rows before this one, which were compared before.
    """
    kept = np.flatnonzero(dataset.kept_mask)
    golden = gold.joined_texts if gold is not None else []
    protected = len(golden) + int((kept < first).sum())
    found = find_near_duplicates([*golden, *dataset.take(kept).joined_texts], threshold, protected)
    return _rejected(dataset, kept, gold, found, "near_duplicate", threshold)


def reject_near_vectors(
    dataset: Dataset,
    threshold: float,
    vectors: npt.NDArray[np.float32],
    gold: Dataset | None = None,
    gold_vectors: npt.NDArray[np.float32] | None = None,
    first: int = 0,
) -> Dataset:
    """Rejects texts that say what gold or an earlier kept text says, by encoder vectors.

    Args:
        dataset: Synthetic examples.
        threshold: See `find_near_vectors`.
        vectors: Shape (len(dataset), width).
        gold: Training gold, which is never rejected.
        gold_vectors: Shape (len(gold), width).
        first: Rows before this one were compared before, and are not rejected either.
    """
    kept = np.flatnonzero(dataset.kept_mask)
    golden = gold_vectors if gold is not None and gold_vectors is not None else vectors[:0]
    protected = len(golden) + int((kept < first).sum())
    found = find_near_vectors(np.concatenate([golden, vectors[kept]]), threshold, protected)
    return _rejected(dataset, kept, gold, found, "same_meaning", threshold)


def _rejected(
    dataset: Dataset,
    kept: npt.NDArray[np.int64],
    gold: Dataset | None,
    found: Sequence[Near | None],
    name: str,
    threshold: float,
) -> Dataset:
    """Rejects the kept rows with a near text; gold comes first in what was searched."""
    before = len(found) - len(kept)
    ids, rejections = dataset.column("id"), dataset.rejections
    golden = gold.texts if gold is not None and before else []
    for place, near in zip(kept.tolist(), found[before:], strict=True):
        if near is None:
            continue
        of_gold = near.index < before
        detail = golden[near.index][:200] if of_gold else ids[kept[near.index - before]]
        kind = f"{name}_of_gold" if of_gold else name
        rejections[place] = Rejection(kind, round(near.similarity, 3), threshold, detail)
    return dataset.with_rejections(rejections)


def find_near_duplicates(
    texts: Sequence[str], threshold: float, protected: int = 0
) -> list[Near | None]:
    """Finds the texts that are too like an earlier text that is kept.

    A text is compared with kept texts alone, so a chain of small changes is cut, not dropped
    whole. Of several kept texts that are near enough the most similar counts, of equals the
    first. The same texts in the same order give the same answer.

    Args:
        texts: The texts, those to be preferred first.
        threshold: Least Jaccard similarity of character bigrams that makes a duplicate.
        protected: The first so many are kept whatever they are like (gold).

    Returns:
        For each text the kept one it is too near to, or None.
    """
    places = _places(band_keys(texts))
    bands = [_Band(len(texts)) for _ in range(_BANDS)]
    known: dict[int, frozenset[str]] = {}
    found: list[Near | None] = [None] * len(texts)
    for index in np.flatnonzero((places >= 0).any(axis=1)).tolist():
        own = shingles(texts[index])
        groups = [
            (bands[band], start) for band, start in enumerate(places[index].tolist()) if start >= 0
        ]
        if index >= protected:
            found[index] = _nearest(own, groups, known, threshold)
        if found[index] is None:
            known[index] = own
            for band, start in groups:
                band.keep(start, index)
    return found


class _Band:
    """The kept texts of one band, those that share a key side by side.

    Plain arrays: a dictionary of lists would take ten times the memory of a million texts.
    """

    def __init__(self, size: int) -> None:
        self._members = array("i", bytes(4 * size))
        self._counts = array("i", bytes(4 * size))

    def keep(self, start: int, index: int) -> None:
        """Adds a text to the group that begins at ``start``."""
        self._members[start + self._counts[start]] = index
        self._counts[start] += 1

    def latest(self, start: int) -> array[int]:
        """The texts of a group that are compared with."""
        end = start + self._counts[start]
        return self._members[max(start, end - _MOST_COMPARED) : end]


def _nearest(
    own: frozenset[str],
    groups: Sequence[tuple[_Band, int]],
    known: dict[int, frozenset[str]],
    threshold: float,
) -> Near | None:
    seen: set[int] = set()
    size = len(own)
    # Sets of other sizes cannot be that similar.
    least, most = threshold * size, size / threshold if threshold else np.inf
    best: Near | None = None
    for band, start in groups:
        for other in band.latest(start):
            if other in seen:
                continue
            seen.add(other)
            theirs = known[other]
            if not least <= len(theirs) <= most:
                continue
            similarity = jaccard(own, theirs)
            if similarity >= threshold and (
                best is None or (similarity, -other) > (best.similarity, -best.index)
            ):
                best = Near(other, similarity)
    return best


def band_keys(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """A hash of each band of each text's minima, shape (texts, bands)."""
    from rensa import RMinHash

    out = np.empty((len(texts), _BANDS), np.uint64)
    for start in range(0, len(texts), _BLOCK):
        block = texts[start : start + _BLOCK]
        hashes, offsets = shingle_hashes(block)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            hashes, offsets, _BANDS * _ROWS_A_BAND, 0
        )
        minima = np.array(matrix.to_rows(), np.uint64).reshape(len(block), _BANDS, _ROWS_A_BAND)
        key = np.zeros((len(block), _BANDS), np.uint64)
        for place in range(_ROWS_A_BAND):
            key = mix(key ^ minima[:, :, place])
        out[start : start + len(block)] = key
    return out


def _places(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
    """Where the group of each text's key begins among a band's texts sorted by key.

    Most texts share no key and need no look: they have -1. Shapes are (texts, bands).
    """
    places = np.empty(keys.shape, np.int32)
    for band in range(keys.shape[1]):
        _, group, counts = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        starts = np.cumsum(counts) - counts
        places[:, band] = np.where(counts > 1, starts, -1)[group]
    return places


def find_near_vectors(
    vectors: npt.NDArray[np.float32], threshold: float, protected: int = 0, block: int = 1024
) -> list[Near | None]:
    """Finds the rows whose vector is too near to an earlier kept one's; see above.

    Encoders map everything into a narrow cone, in which unrelated texts have a cosine of 0.8:
    the mean vector is taken off first.

    Args:
        vectors: Shape (rows, width).
        threshold: Least cosine similarity that makes a duplicate.
        protected: The first so many are kept whatever they are like.
        block: Rows compared at a time; the time grows with the square of the rows, the memory
            with this times the rows.

    Returns:
        For each row the kept one it is too near to, or None.
    """
    centred = vectors - vectors.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.maximum(norms, 1e-12)
    found: list[Near | None] = [None] * len(unit)
    kept = np.ones(len(unit), bool)
    for start in range(0, len(unit), block):
        rows = unit[start : start + block]
        near = rows @ unit[: start + len(rows)].T
        for offset in np.flatnonzero((near >= threshold).sum(axis=1) > 1).tolist():
            index = start + offset
            if index < protected:
                continue
            similar = np.where(kept[:index], near[offset, :index], -1.0)
            best = int(similar.argmax()) if index else 0
            if index and similar[best] >= threshold:
                found[index] = Near(best, float(similar[best]))
                kept[index] = False
    return found
