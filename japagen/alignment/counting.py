"""Counts what a text is made of: words, POS bigrams, endings, scripts, length.

Texts are read one at a time and only counts are kept, so memory grows with the number of
distinct words in each text and not with the analyses.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from japagen.examples import Dataset
from japagen.japanese.morphology import Morpheme, Tagger
from japagen.japanese.normalization import normalize
from japagen.japanese.registers import Register

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]

SCRIPTS = ("kanji", "hiragana", "katakana", "latin", "digit")
_SCRIPT_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        "[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]",
        "[\u3041-\u309f]",
        "[\u30a1-\u30ff]",
        "[A-Za-z]",
        "[0-9]",
    )
)
_TERMINATORS = frozenset("。．！？!?…♪")
_SYMBOLS = ("補助記号", "記号", "空白")
_FUNCTIONAL = ("助動詞", "助詞")


class Vocabulary:
    """Numbers for words, POS bigrams and endings, given in order of first appearance.

    Words are told apart by lemma and shown by the base form that writers use most.
    """

    def __init__(self) -> None:
        self.words: dict[str, int] = {}
        self.pos: dict[str, int] = {}
        self.endings: dict[str, int] = {}
        self._spellings: dict[str, Counter[str]] = {}

    def add_word(self, morpheme: Morpheme) -> int:
        """Returns the number of the morpheme's lemma and notes how it is spelt."""
        self._spellings.setdefault(morpheme.lemma, Counter())[morpheme.orth_base] += 1
        return self.words.setdefault(morpheme.lemma, len(self.words))

    def readable_words(self) -> list[str]:
        """Returns each word's most frequent base form, in the order of their numbers."""
        return [
            min(self._spellings[lemma].items(), key=lambda item: (-item[1], item[0]))[0]
            for lemma in self.words
        ]


@dataclass
class _Rows:
    """A count matrix under construction, in CSR form."""

    indptr: array[int] = field(default_factory=lambda: array("q", [0]))
    indices: array[int] = field(default_factory=lambda: array("q"))
    values: array[int] = field(default_factory=lambda: array("q"))

    def append(self, counts: Counter[int]) -> None:
        self.indices.extend(counts.keys())
        self.values.extend(counts.values())
        self.indptr.append(len(self.indices))

    def matrix(self, width: int) -> sparse.csr_array:
        shape = (len(self.indptr) - 1, width)
        parts = (
            np.array(self.values, dtype=np.float64),
            np.array(self.indices, dtype=np.int64),
            np.array(self.indptr, dtype=np.int64),
        )
        return sparse.csr_array(parts, shape=shape)


@dataclass(frozen=True)
class Counts:
    """What n texts are made of.

    Attributes:
        words: Sparse (n, words): occurrences of each lemma.
        pos: Sparse (n, pairs): occurrences of each POS bigram, text borders included.
        endings: Sparse (n, endings): how many sentences end in each form.
        scripts: Shape (n, 5): share of each of `SCRIPTS` among all characters, 0 to 1.
        lengths: Shape (n,): characters after normalisation.
    """

    words: sparse.csr_array
    pos: sparse.csr_array
    endings: sparse.csr_array
    scripts: Floats
    lengths: Floats


@dataclass(frozen=True)
class Measured:
    """The counts of a dataset.

    Attributes:
        first: Counts of the texts.
        second: Counts of the second texts, for pairs.
        registers: Register preset of each row, "other" outside the presets, None if unknown.
    """

    first: Counts
    second: Counts | None
    registers: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.registers)

    @property
    def words(self) -> sparse.csr_array:
        """Sparse (n, words): occurrences in both sides together."""
        return self.first.words + self.second.words if self.second else self.first.words

    @property
    def pos(self) -> sparse.csr_array:
        """Sparse (n, pairs): POS bigrams of both sides together."""
        return self.first.pos + self.second.pos if self.second else self.first.pos


def measure(datasets: Sequence[Dataset], tagger: Tagger) -> tuple[list[Measured], Vocabulary]:
    """Counts several datasets over one vocabulary.

    Args:
        datasets: What to count; all of pairs or none.
        tagger: The morphological analyser, the same for all.

    Returns:
        One `Measured` a dataset, and the vocabulary that numbers their columns.
    """
    vocabulary = Vocabulary()
    pairs = any(len(d) and d.is_pair for d in datasets)
    sides: list[list[_SideRows]] = []
    for dataset in datasets:
        columns = [dataset.texts] + ([dataset.column("text_pair")] if pairs else [])
        sides.append([_read(column, tagger, vocabulary) for column in columns])
    measured = []
    # Matrices are built last: only then is the vocabulary's size known.
    for dataset, rows in zip(datasets, sides, strict=True):
        counts = [side.counts(vocabulary) for side in rows]
        registers = tuple(_preset(row) for row in dataset.column("register_seen"))
        measured.append(Measured(counts[0], counts[1] if pairs else None, registers))
    return measured, vocabulary


def _preset(row: dict[str, object] | None) -> str | None:
    return None if row is None else Register.from_dict(row).name


@dataclass
class _SideRows:
    words: _Rows = field(default_factory=_Rows)
    pos: _Rows = field(default_factory=_Rows)
    endings: _Rows = field(default_factory=_Rows)
    scripts: array[float] = field(default_factory=lambda: array("d"))
    lengths: array[float] = field(default_factory=lambda: array("d"))

    def counts(self, vocabulary: Vocabulary) -> Counts:
        return Counts(
            self.words.matrix(len(vocabulary.words)),
            self.pos.matrix(len(vocabulary.pos)),
            self.endings.matrix(len(vocabulary.endings)),
            np.array(self.scripts, dtype=np.float64).reshape(-1, len(SCRIPTS)),
            np.array(self.lengths, dtype=np.float64),
        )


def _read(texts: Iterable[str | None], tagger: Tagger, vocabulary: Vocabulary) -> _SideRows:
    rows = _SideRows()
    for text in texts:
        clean = normalize(text or "")
        morphemes = tagger.tokenize(clean)
        rows.words.append(Counter(vocabulary.add_word(m) for m in morphemes))
        tags = ["BOS", *(m.pos1 for m in morphemes), "EOS"]
        bigrams = (f"{a} {b}" for a, b in pairwise(tags))
        rows.pos.append(Counter(_number(vocabulary.pos, b) for b in bigrams))
        rows.endings.append(Counter(_number(vocabulary.endings, e) for e in endings(morphemes)))
        rows.scripts.extend(len(p.findall(clean)) / max(1, len(clean)) for p in _SCRIPT_PATTERNS)
        rows.lengths.append(len(clean))
    return rows


def _number(known: dict[str, int], key: str) -> int:
    return known.setdefault(key, len(known))


def endings(morphemes: Sequence[Morpheme]) -> list[str]:
    """Returns how each sentence ends: its last two particles or auxiliaries in base form.

    A sentence that ends in anything else gives that part of speech: 名詞 for 体言止め.
    """
    found = []
    sentence: list[Morpheme] = []
    for morpheme in morphemes:
        if morpheme.pos1 not in _SYMBOLS:
            sentence.append(morpheme)
        elif morpheme.surface[:1] in _TERMINATORS and sentence:
            found.append(_ending(sentence))
            sentence = []
    if sentence:
        found.append(_ending(sentence))
    return found


def _ending(sentence: Sequence[Morpheme]) -> str:
    tail = [m.orth_base if m.pos1 in _FUNCTIONAL else "" for m in sentence[-2:]]
    if not tail[-1]:
        return sentence[-1].pos1
    return "+".join(word for word in tail if word)
