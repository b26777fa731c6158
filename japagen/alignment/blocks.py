"""Counts one block of texts with array operations; the block is what workers pass around.

A text is a sequence of morpheme numbers, so a block is one long array of them with the texts'
lengths, and every count is a sort of (text, key) pairs. Only the look-up of a morpheme's number
runs in Python, once a morpheme. What a block holds depends on its texts alone, never on what its
process has read before: keys are sorted and numbered within the block.
"""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from japagen.japanese.morphology import Morpheme, Tagger
from japagen.japanese.normalization import normalize

Codes: TypeAlias = npt.NDArray[np.int32]

SCRIPTS = ("kanji", "hiragana", "katakana", "latin", "digit")
_SCRIPT_RANGES = (
    ((0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FFFF)),
    ((0x3041, 0x309F),),
    ((0x30A1, 0x30FF),),
    ((ord("A"), ord("Z")), (ord("a"), ord("z"))),
    ((ord("0"), ord("9")),),
)
_LAST_SCRIPT_CHARACTER = 0x2FFFF
_TERMINATORS = frozenset("。．！？!?…♪")
_SYMBOLS = ("補助記号", "記号", "空白")
_FUNCTIONAL = ("助動詞", "助詞")
_BORDERS = ("BOS", "EOS")
# Distinct morphemes that a process remembers between blocks.
_LEXICON_LIMIT = 400_000
_MAX_TABLE = 2_000_000


class Csr(NamedTuple):
    """A count matrix: the parts of a CSR matrix, column numbers ascending within a row."""

    indptr: npt.NDArray[np.int64]
    indices: Codes
    values: Codes


@dataclass(frozen=True)
class Block:
    """The counts of n texts and the keys of their columns, each sorted.

    Attributes:
        words: Shape (n, len(lemmas)).
        pos: Shape (n, len(pairs)).
        endings: Shape (n, len(ending_keys)).
        scripts: Shape (n, 5): characters of each of `SCRIPTS`.
        lengths: Shape (n,): characters after normalisation.
        lemmas: Lemma of each column of ``words``.
        pairs: POS bigram of each column of ``pos``.
        ending_keys: Ending of each column of ``endings``.
        spellings: (column of ``words``, base form, occurrences) of every base form.
    """

    words: Csr
    pos: Csr
    endings: Csr
    scripts: Codes
    lengths: Codes
    lemmas: list[str]
    pairs: list[str]
    ending_keys: list[str]
    spellings: list[tuple[int, str, int]]


class Lexicon(dict[str, int]):
    """Numbers morphemes in order of first appearance in this process.

    Pickled, it becomes one lexicon, empty at first, in each process that reads it.

    Args:
        tagger: The morphological analyser.
    """

    def __init__(self, tagger: Tagger) -> None:
        super().__init__()
        self._tagger = tagger
        self._name = uuid4().hex
        self.morphemes: list[Morpheme] = []

    def __reduce__(self) -> tuple[Callable[[str, bytes], Lexicon], tuple[str, bytes]]:
        return _process_lexicon, (self._name, pickle.dumps(self._tagger))

    def extend(self, numbers: array[int], text: str) -> None:
        """Appends the numbers of the morphemes of a normalised text, in order."""
        names, size = self._tagger.names(text), len(numbers)
        try:
            numbers.extend(map(self.__getitem__, names))
        except KeyError:
            del numbers[size:]
            for name, morpheme in zip(names, self._tagger.tokenize(text), strict=True):
                if name not in self:
                    self[name] = len(self.morphemes)
                    self.morphemes.append(morpheme)
            numbers.extend(map(self.__getitem__, names))

    def tidy(self) -> None:
        """Forgets everything when there is too much of it; only between blocks."""
        if len(self.morphemes) > _LEXICON_LIMIT:
            self.clear()
            self.morphemes.clear()


@lru_cache(maxsize=1)
def _process_lexicon(name: str, tagger: bytes) -> Lexicon:
    """The copy of the lexicon ``name`` in this process; that of an earlier one is let go."""
    return Lexicon(pickle.loads(tagger))


def count_block(texts: Sequence[str | None], lexicon: Lexicon) -> Block:
    """Counts what texts are made of.

    Args:
        texts: Raw texts, n of them; None is an empty text.
        lexicon: The process's morphemes.
    """
    lexicon.tidy()
    clean = [normalize(text) if text else "" for text in texts]
    numbers, ends = array("i"), array("q")
    for text in clean:
        lexicon.extend(numbers, text)
        ends.append(len(numbers))
    stops = np.array(ends, dtype=np.int64)
    seen, tokens = _compact(np.array(numbers, dtype=np.int32), len(lexicon.morphemes))
    morphemes = [lexicon.morphemes[number] for number in seen]
    table = _Table(morphemes)
    row = np.repeat(np.arange(len(texts)), np.diff(stops, prepend=0))
    words, lemmas = _counted(
        row, table.lemma[tokens], len(texts), len(table.lemmas), table.lemmas.__getitem__
    )
    pos, pairs = _pos_pairs(table, tokens, row, stops)
    ends_csr, ending_keys = _endings(table, tokens, row, len(texts))
    times = np.bincount(tokens, minlength=len(morphemes))
    lengths = np.array([len(text) for text in clean], dtype=np.int32)
    return Block(
        words=words,
        pos=pos,
        endings=ends_csr,
        scripts=_scripts("".join(clean), lengths),
        lengths=lengths,
        lemmas=lemmas,
        pairs=pairs,
        ending_keys=ending_keys,
        spellings=_spellings(table, times),
    )


class _Table:
    """Attributes of the distinct morphemes of a block, as numbers into sorted lists."""

    def __init__(self, morphemes: Sequence[Morpheme]) -> None:
        self.lemmas, self.lemma = _numbered([m.lemma for m in morphemes])
        self.bases, self.base = _numbered([m.orth_base for m in morphemes])
        self.tags, self.tag = _numbered([m.pos1 for m in morphemes])
        symbol = [m.pos1 in _SYMBOLS for m in morphemes]
        self.is_word = ~np.array(symbol, dtype=bool)
        self.is_mark = np.array(
            [s and m.surface[:1] in _TERMINATORS for s, m in zip(symbol, morphemes, strict=True)],
            dtype=bool,
        )
        self.is_functional = np.array([m.pos1 in _FUNCTIONAL for m in morphemes], dtype=bool)


def _numbered(values: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    keys = sorted(set(values))
    number = {key: i for i, key in enumerate(keys)}
    return keys, np.array([number[v] for v in values], dtype=np.int64)


def _counted(
    row: npt.NDArray[np.int64],
    key: npt.NDArray[np.int64],
    n: int,
    size: int,
    name: Callable[[int], str],
) -> tuple[Csr, list[str]]:
    """Counts the pairs (row, key) and names the keys that occur, in the order of their names.

    Args:
        row: Text of each occurrence, ascending.
        key: What occurs, 0 to ``size`` - 1.
        n: Number of texts.
        size: Number of possible keys.
        name: Says what a key stands for; no two alike.
    """
    keys, column = _compact(key, size)
    labels = [name(int(k)) for k in keys]
    order = sorted(range(len(labels)), key=labels.__getitem__)
    place = np.empty(len(labels), dtype=np.int64)
    place[order] = np.arange(len(labels))
    width = max(1, len(labels))
    cells = row * width + place[column]
    if n * width < 2**31:
        cells = cells.astype(np.int32)  # Sorts twice as fast.
    cells, values = np.unique(cells, return_counts=True)
    indptr = np.searchsorted(cells, np.arange(n + 1) * width)
    csr = Csr(indptr, (cells % width).astype(np.int32), values.astype(np.int32))
    return csr, [labels[i] for i in order]


def _compact(
    values: npt.NDArray[np.integer[Any]], size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The distinct values, ascending, and the place of each value among them."""
    if size > _MAX_TABLE:
        return np.unique(values, return_inverse=True)
    # Without the sort that np.unique needs to invert itself.
    seen = np.flatnonzero(np.bincount(values, minlength=size))
    place = np.zeros(size, dtype=np.int64)
    place[seen] = np.arange(len(seen))
    return seen, place[values]


def _pos_pairs(
    table: _Table,
    tokens: npt.NDArray[np.int64],
    row: npt.NDArray[np.int64],
    stops: npt.NDArray[np.int64],
) -> tuple[Csr, list[str]]:
    """Bigrams of parts of speech; a text of k morphemes has k + 1, borders included."""
    border = len(table.tags)
    width, n = border + 1, len(stops)
    tags = table.tag[tokens]
    starts = np.concatenate([[0], stops[:-1]]) if n else stops
    left, right = np.insert(tags, starts, border), np.insert(tags, stops, border)

    def name(pair: int) -> str:
        a, b = divmod(pair, width)
        first = _BORDERS[0] if a == border else table.tags[a]
        return f"{first} {_BORDERS[1] if b == border else table.tags[b]}"

    return _counted(np.insert(row, stops, np.arange(n)), left * width + right, n, width**2, name)


def _endings(
    table: _Table, tokens: npt.NDArray[np.int64], row: npt.NDArray[np.int64], n: int
) -> tuple[Csr, list[str]]:
    """How each sentence ends: its last two particles or auxiliaries in base form.

    A sentence that ends in anything else gives that part of speech: 名詞 for 体言止め.
    """
    # Ascending, and alike for words of one sentence alone: texts and marks both raise it.
    sentence = row + np.cumsum(table.is_mark[tokens])
    at = np.flatnonzero(table.is_word[tokens])
    words, sentence = tokens[at], sentence[at]
    last = np.flatnonzero(np.diff(sentence, append=-1) != 0)
    final = words[last]
    before = np.maximum(last - 1, 0)
    previous = words[before]
    joined = (last > 0) & (sentence[before] == sentence[last]) & table.is_functional[previous]
    tags, bases = len(table.tags), len(table.bases)
    # Keys below `tags` are parts of speech; above, a base form with the one before it or none.
    tail = np.where(joined, table.base[previous], bases) * bases + table.base[final]
    key = np.where(table.is_functional[final], tags + tail, table.tag[final])

    def name(ending: int) -> str:
        if ending < tags:
            return table.tags[ending]
        first, second = divmod(ending - tags, bases)
        return (
            table.bases[second]
            if first == bases
            else "+".join((table.bases[first], table.bases[second]))
        )

    return _counted(row[at][last], key, n, tags + bases * (bases + 1), name)


def _script_table() -> npt.NDArray[np.uint8]:
    """Script of each character up to the last one of any, 1 more than its place in `SCRIPTS`."""
    table = np.zeros(_LAST_SCRIPT_CHARACTER + 2, dtype=np.uint8)
    for script, ranges in enumerate(_SCRIPT_RANGES, start=1):
        for first, last in ranges:
            table[first : last + 1] = script
    return table


_SCRIPT_OF = _script_table()


def _scripts(text: str, lengths: Codes) -> Codes:
    characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    script = _SCRIPT_OF[np.minimum(characters, _LAST_SCRIPT_CHARACTER + 1)]
    width = len(SCRIPTS) + 1
    cell = np.repeat(np.arange(len(lengths)) * width, lengths) + script
    counts = np.bincount(cell, minlength=len(lengths) * width).reshape(-1, width)
    return counts[:, 1:].astype(np.int32)


def _spellings(table: _Table, times: npt.NDArray[np.int64]) -> list[tuple[int, str, int]]:
    found: dict[tuple[int, int], int] = {}
    pairs = zip(table.lemma.tolist(), table.base.tolist(), strict=True)
    for pair, count in zip(pairs, times.tolist(), strict=True):
        found[pair] = found.get(pair, 0) + count
    return [(lemma, table.bases[base], count) for (lemma, base), count in sorted(found.items())]
