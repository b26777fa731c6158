"""Counts what texts are made of: words, POS bigrams, endings, scripts, length.

Texts are counted in blocks, here or in worker processes, and the blocks put together over one
vocabulary. Its columns are in the order of their keys, so that nothing depends on which block was
ready first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from japagen.alignment.blocks import SCRIPTS, Block, Csr
from japagen.alignment.workers import count_blocks, default_workers, spans
from japagen.errors import JapagenError
from japagen.examples import Dataset
from japagen.japanese.morphology import Tagger
from japagen.japanese.registers import Register

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
# Wraps a stream of finished blocks, given their number, to show how far it is.
Progress: TypeAlias = Callable[[Iterable[Any], int], Iterable[Any]]


class Vocabulary:
    """Numbers for words, POS bigrams and endings, in the order of their keys.

    Words are told apart by lemma and shown by the base form that writers use most.

    Args:
        blocks: The blocks whose keys to number.
    """

    def __init__(self, blocks: Iterable[Block]) -> None:
        words: set[str] = set()
        pos: set[str] = set()
        endings: set[str] = set()
        self._spellings: dict[str, Counter[str]] = {}
        for block in blocks:
            words.update(block.lemmas)
            pos.update(block.pairs)
            endings.update(block.ending_keys)
            for column, base, count in block.spellings:
                self._spellings.setdefault(block.lemmas[column], Counter())[base] += count
        self.words, self.pos, self.endings = (
            {key: i for i, key in enumerate(sorted(keys))} for keys in (words, pos, endings)
        )

    def readable_words(self) -> list[str]:
        """Returns each word's most frequent base form, in the order of their numbers."""
        return [
            min(self._spellings[lemma].items(), key=lambda item: (-item[1], item[0]))[0]
            for lemma in self.words
        ]


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
        register_names: The register presets that occur, sorted; "other" outside the presets.
        register_codes: Shape (n,): place of each row's register among them, -1 if unknown.
    """

    first: Counts
    second: Counts | None
    register_names: tuple[str, ...]
    register_codes: Ints

    def __len__(self) -> int:
        return len(self.register_codes)

    @property
    def words(self) -> sparse.csr_array:
        """Sparse (n, words): occurrences in both sides together."""
        return self.first.words + self.second.words if self.second else self.first.words

    @property
    def pos(self) -> sparse.csr_array:
        """Sparse (n, pairs): POS bigrams of both sides together."""
        return self.first.pos + self.second.pos if self.second else self.first.pos


def measure(
    datasets: Sequence[Dataset],
    tagger: Tagger,
    *,
    workers: int | None = None,
    progress: Progress = lambda blocks, _: blocks,
) -> tuple[list[Measured], Vocabulary]:
    """Counts several datasets over one vocabulary.

    Args:
        datasets: What to count; all of pairs or none.
        tagger: The morphological analyser, the same for all.
        workers: How many processes; None decides by the amount of text. The counts are the same.
        progress: Wraps the stream of blocks of up to 16,384 texts (iterable, total).

    Returns:
        One `Measured` a dataset, and the vocabulary that numbers their columns.

    Raises:
        JapagenError: If ``workers`` is below 1.
    """
    if workers is not None and workers < 1:
        raise JapagenError(
            f"Expected at least 1 worker, found {workers}.", "Leave it out to have it chosen."
        )
    columns = ["text"]
    if any(len(d) and d.is_pair for d in datasets):
        columns.append("text_pair")
    texts = [d.table.column(name) for d in datasets for name in columns]
    cuts = [
        (number, column.slice(start, stop - start))
        for number, column in enumerate(texts)
        for start, stop in spans(column)
    ]
    if workers is None:
        workers = default_workers(sum(map(_size, texts)))
    blocks: list[list[Block]] = [[] for _ in texts]
    with closing(count_blocks([cut for _, cut in cuts], tagger, workers)) as found:
        for (number, _), block in zip(cuts, progress(found, len(cuts)), strict=True):
            blocks[number].append(block)
    vocabulary = Vocabulary(block for column in blocks for block in column)
    measured = []
    for dataset in datasets:
        # Taken out one by one: a million texts are not to be held twice.
        first, *second = [_joined(blocks.pop(0), vocabulary) for _ in columns]
        measured.append(Measured(first, second[0] if second else None, *_registers(dataset)))
    return measured, vocabulary


def _size(texts: pa.ChunkedArray) -> int:
    return int(pc.sum(pc.binary_length(texts)).as_py() or 0)


def _joined(blocks: Sequence[Block], vocabulary: Vocabulary) -> Counts:
    lengths = np.concatenate([np.empty(0), *(b.lengths for b in blocks)])
    scripts = np.concatenate([np.empty((0, len(SCRIPTS))), *(b.scripts for b in blocks)])
    return Counts(
        _stacked([(b.words, b.lemmas) for b in blocks], vocabulary.words),
        _stacked([(b.pos, b.pairs) for b in blocks], vocabulary.pos),
        _stacked([(b.endings, b.ending_keys) for b in blocks], vocabulary.endings),
        scripts / np.maximum(lengths, 1.0)[:, None],
        lengths,
    )


def _stacked(parts: Sequence[tuple[Csr, list[str]]], number: dict[str, int]) -> sparse.csr_array:
    """One matrix over the common columns; these keep the order within a block."""
    sizes = np.array([len(csr.indices) for csr, _ in parts], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    index = np.int32 if sizes.sum() < 2**31 else np.int64
    indices, data = np.empty(sizes.sum(), dtype=index), np.empty(sizes.sum())
    indptr = [np.zeros(1, dtype=index)]
    for (csr, keys), start, size in zip(parts, starts, sizes, strict=True):
        column = np.array([number[key] for key in keys], dtype=index)
        indices[start : start + size] = column[csr.indices] if size else 0
        data[start : start + size] = csr.values
        indptr.append((csr.indptr[1:] + start).astype(index))
    rows = np.concatenate(indptr)
    return sparse.csr_array((data, indices, rows), shape=(len(rows) - 1, len(number)))


def _registers(dataset: Dataset) -> tuple[tuple[str, ...], Ints]:
    """The presets of a dataset's rows: the few distinct registers are looked at once each."""
    seen = dataset.table.column("register_seen").combine_chunks()
    if seen.null_count == len(seen):
        return (), np.full(len(seen), -1, dtype=np.int64)
    if isinstance(seen, pa.ChunkedArray):
        seen = pa.concat_arrays(seen.chunks)
    style, keigo, *_ = seen.flatten()
    keys = pc.binary_join_element_wise(
        pc.fill_null(style, ""), pc.fill_null(pc.binary_join(keigo, "+"), ""), ":"
    )
    coded = pc.if_else(seen.is_null(), None, keys).dictionary_encode()
    presets = []
    for key in coded.dictionary.to_pylist():
        first, _, second = key.partition(":")
        honorifics = second.split("+") if second else []
        presets.append(Register.from_dict({"style": first, "keigo": honorifics}).name)
    names = tuple(sorted(set(presets)))
    place = np.array([names.index(p) for p in presets], dtype=np.int64)
    codes = np.asarray(pc.fill_null(coded.indices, -1).to_numpy(), dtype=np.int64)
    return names, np.where(codes < 0, -1, place[codes])
