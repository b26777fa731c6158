"""Turns counted texts into the features whose means alignment matches.

Words are document presences (0 or 1) and not counts. The tilt of a text is a sum over its
features, so raw counts let long texts run away with the weights, while counts divided by
length make one word of a three-word text worth ten of a long one. A presence is bounded, has a
binomial standard error whatever the length, and what remains of length's influence is taken
away by the length bands, which are matched beside it. POS bigrams and endings are nearly all
present in any long text, so these are shares of the text (each row sums to at most 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, PlainSerializer, PlainValidator
from scipy import sparse

from japagen.alignment.counting import SCRIPTS, Counts, Measured, Progress, Vocabulary, measure
from japagen.data.dataset import Dataset
from japagen.data.labels import Floats
from japagen.japanese.morphology import Tagger

# Enough for what a few hundred target texts can tell apart; more only adds noise and time.
MAX_WORDS, MAX_POS, MAX_ENDINGS = 400, 150, 40
MIN_DOCUMENTS, MIN_SHARE = 3, 0.005
_LENGTH_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_LOG_RATIO_LIMIT = 2.0


# Numbers as they are in memory, and as JSON has them, which keeps every one to the last bit.
Array = Annotated[
    npt.NDArray[Any],
    PlainValidator(np.asarray),
    PlainSerializer(np.ndarray.tolist, when_used="json"),
]


class Side(BaseModel, frozen=True):
    """What is counted of one side of the data: words, POS bigrams, endings, bands of length."""

    prefix: str
    words: tuple[str, ...]
    pos: tuple[str, ...]
    endings: tuple[str, ...]
    length_edges: Array


class FeatureSpace(BaseModel, frozen=True):
    """Features fitted once and applied to synthetic and target texts alike.

    Attributes:
        names: Readable name of each column, such as ``word:朝食`` or ``length:10-19``.
        groups: Group of each column: word, pos, ending, script, length, register or pair.
        dictionary: Identity of the morphological dictionary.
        normalization: How texts were normalised before analysis.
        sides: What is counted of the texts and, for pairs, of the second ones.
        registers: The presets told apart.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    dictionary: str
    normalization: str
    sides: tuple[Side, ...]
    registers: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        source: Measured,
        targets: Sequence[Measured],
        vocabulary: Vocabulary,
        dictionary: str,
    ) -> FeatureSpace:
        """Chooses the features by document frequency in source and target together.

        Register is left out unless every row of every dataset has one: a label that one side
        lacks would look like a difference.

        Args:
            source: The texts to weight.
            targets: Gold and unlabelled texts; empty ones are fine.
            vocabulary: The vocabulary that the counts were made with.
            dictionary: The tagger's identity, stored with the features.
        """
        parts = [p for p in (source, *targets) if len(p)]
        readable = dict(zip(vocabulary.words, vocabulary.readable_words(), strict=True))
        prefixes = ("1:", "2:") if source.second else ("",)
        sides, names, groups = [], [], []
        for number, prefix in enumerate(prefixes):
            counts = [_side_counts(p, number) for p in parts]
            target = [_side_counts(p, number).lengths for p in targets if len(p)]
            side = Side(
                prefix=prefix,
                words=_frequent([c.words for c in counts], vocabulary.words, MAX_WORDS),
                pos=_frequent([c.pos for c in counts], vocabulary.pos, MAX_POS),
                endings=_frequent([c.endings for c in counts], vocabulary.endings, MAX_ENDINGS),
                length_edges=_length_edges(np.concatenate(target or [source.first.lengths])),
            )
            sides.append(side)
            bounds = ["0", *(f"{edge:g}" for edge in side.length_edges), "∞"]
            for group, labels in (
                ("word", [readable[word] for word in side.words]),
                ("pos", side.pos),
                ("ending", side.endings),
                ("script", SCRIPTS),
                ("length", [f"{a}-{b}" for a, b in pairwise(bounds)]),
            ):
                names += [f"{prefix}{group}:{label}" for label in labels]
                groups += [group] * len(labels)
        registers = _registers(parts)
        names += [f"register:{r}" for r in registers]
        groups += ["register"] * len(registers)
        if source.second:
            names += ["pair:word overlap", "pair:log length ratio"]
            groups += ["pair", "pair"]
        return cls(
            names=tuple(names),
            groups=tuple(groups),
            dictionary=dictionary,
            normalization="NFKC, wave dash 〜",
            sides=tuple(sides),
            registers=registers,
        )

    @property
    def keys(self) -> tuple[list[str], list[str], list[str]]:
        """The words, POS bigrams and endings that are counted."""
        return (
            [word for side in self.sides for word in side.words],
            [pair for side in self.sides for pair in side.pos],
            [ending for side in self.sides for ending in side.endings],
        )

    def transform(self, measured: Measured, vocabulary: Vocabulary) -> sparse.csr_array:
        """Returns the features, sparse with shape (n, len(names)).

        Args:
            measured: What texts are made of.
            vocabulary: The vocabulary that they were counted over; it has all of `keys`.
        """
        blocks = []
        for number, side in enumerate(self.sides):
            blocks += _side_blocks(side, _side_counts(measured, number), vocabulary)
        if self.registers:
            blocks.append(_one_hot(measured, self.registers))
        if measured.second:
            blocks.append(_pair_block(measured.first, measured.second))
        return sparse.csr_array(sparse.hstack([sparse.csr_array(b) for b in blocks]))


def _one_hot(measured: Measured, registers: Sequence[str]) -> Floats:
    """Shape (n, registers): nothing in rows whose register is unknown or none of these."""
    known = {name: place for place, name in enumerate(registers)}
    other = len(registers)
    place = [*(known.get(name, other) for name in measured.register_names), other]
    seen = np.array(place, dtype=np.int64)[measured.register_codes]
    return np.eye(other + 1)[seen][:, :other]


def _side_counts(measured: Measured, number: int) -> Counts:
    return measured.second if number and measured.second else measured.first


def _frequent(
    matrices: Sequence[sparse.csr_array], number: Mapping[str, int], limit: int
) -> tuple[str, ...]:
    """Keys in enough documents, at most ``limit``, sorted: the order of rows changes nothing."""
    documents = sum(m.shape[0] for m in matrices)
    frequency = np.zeros(len(number))
    for matrix in matrices:
        frequency += np.bincount(matrix.indices, minlength=len(number))
    needed = max(MIN_DOCUMENTS, MIN_SHARE * documents)
    chosen = [key for key, column in number.items() if needed <= frequency[column]]
    chosen.sort(key=lambda key: (-frequency[number[key]], key))
    return tuple(sorted(chosen[:limit]))


def _length_edges(lengths: Floats) -> Floats:
    return np.unique(np.quantile(lengths, _LENGTH_QUANTILES)) if len(lengths) else np.empty(0)


def _registers(parts: Sequence[Measured]) -> tuple[str, ...]:
    if any((part.register_codes < 0).any() for part in parts):
        return ()
    return tuple(sorted({name for part in parts for name in part.register_names}))


def _side_blocks(
    side: Side, counts: Counts, vocabulary: Vocabulary
) -> list[sparse.csr_array | Floats]:
    words = counts.words[:, [vocabulary.words[key] for key in side.words]]
    words.data = np.ones_like(words.data)
    band = np.searchsorted(side.length_edges, counts.lengths, side="left")
    return [
        words,
        _shares(counts.pos)[:, [vocabulary.pos[key] for key in side.pos]],
        _shares(counts.endings)[:, [vocabulary.endings[key] for key in side.endings]],
        counts.scripts,
        np.eye(len(side.length_edges) + 1)[band],
    ]


def _shares(counts: sparse.csr_array) -> sparse.csr_array:
    totals = np.maximum(counts.sum(axis=1), 1.0)
    return sparse.csr_array(sparse.diags_array(1.0 / totals) @ counts)


def _pair_block(first: Counts, second: Counts) -> Floats:
    """Shape (n, 2): Jaccard overlap of the two word sets, and log length ratio, limited."""
    a, b = first.words.astype(bool).astype(float), second.words.astype(bool).astype(float)
    both = a.multiply(b).sum(axis=1)
    overlap = both / np.maximum(a.sum(axis=1) + b.sum(axis=1) - both, 1.0)
    ratio = np.log((second.lengths + 1.0) / (first.lengths + 1.0))
    return np.stack([overlap, np.clip(ratio, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)], axis=1)


@dataclass(frozen=True)
class AlignedTexts:
    """Counts and features of synthetic, gold and unlabelled texts, in this order."""

    measured: list[Measured]
    vocabulary: Vocabulary
    space: FeatureSpace
    features: list[sparse.csr_array]

    @classmethod
    def of(
        cls,
        source: Dataset,
        gold: Dataset,
        unlabelled: Dataset,
        tagger: Tagger,
        *,
        workers: int | None = None,
        progress: Progress = lambda blocks, _: blocks,
    ) -> AlignedTexts | None:
        """None when there is nothing to weight or no target text; see `measure`."""
        if not len(source) or not len(gold) + len(unlabelled):
            return None
        measured, vocabulary = measure(
            [source, gold, unlabelled], tagger, workers=workers, progress=progress
        )
        space = FeatureSpace.fit(measured[0], measured[1:], vocabulary, tagger.identity)
        return cls(measured, vocabulary, space, [space.transform(m, vocabulary) for m in measured])
