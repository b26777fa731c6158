"""Counts what texts are made of, in blocks and in several processes.

Texts are counted in blocks, here or in worker processes, and the blocks put together over one
vocabulary. Its columns are in the order of their keys, so that nothing depends on which block was
ready first.
"""

from __future__ import annotations

import os
import warnings
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from joblib import Parallel, cpu_count, delayed
from scipy import sparse

from japagen.data.dataset import Dataset
from japagen.data.engines import ctrl_c_held, obey
from japagen.data.labels import Floats, Ints
from japagen.errors import JapagenError
from japagen.japanese.morphology import Morpheme, Tagger
from japagen.japanese.normalization import normalize
from japagen.japanese.registers import Register

# Wraps a stream of finished blocks, given their number, to show how far it is.
Progress: TypeAlias = Callable[[Iterable[Any], int], Iterable[Any]]


class Vocabulary:
    """Numbers for words, POS bigrams and endings, in the order of their keys.

    Words are told apart by lemma and shown by the base form that writers use most.

    Args:
        blocks: The blocks whose keys to number.
        also: Words, POS bigrams and endings that have a number whether they occur or not.
    """

    def __init__(
        self, blocks: Iterable[Block], also: Sequence[Iterable[str]] = ((), (), ())
    ) -> None:
        words, pos, endings = map(set, also)
        self._spellings: dict[str, Counter[str]] = {}
        for block in blocks:
            words.update(block.words.keys)
            pos.update(block.pos.keys)
            endings.update(block.endings.keys)
            for lemma, base, count in block.spellings:
                self._spellings.setdefault(lemma, Counter())[base] += count
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
    also: Sequence[Iterable[str]] = ((), (), ()),
) -> tuple[list[Measured], Vocabulary]:
    """Counts several datasets over one vocabulary.

    Args:
        datasets: What to count; all of pairs or none.
        tagger: The morphological analyser, the same for all.
        workers: How many processes; None decides by the amount of text. The counts are the same.
        progress: Wraps the stream of blocks of up to 16,384 texts (iterable, total).
        also: Keys that the vocabulary has whether they occur or not; see `Vocabulary`.

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
    vocabulary = Vocabulary((block for column in blocks for block in column), also)
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
        _stacked([b.words for b in blocks], vocabulary.words),
        _stacked([b.pos for b in blocks], vocabulary.pos),
        _stacked([b.endings for b in blocks], vocabulary.endings),
        scripts / np.maximum(lengths, 1.0)[:, None],
        lengths,
    )


def _stacked(parts: Sequence[Keyed], number: dict[str, int]) -> sparse.csr_array:
    """One matrix over the common columns; these keep the order within a block."""
    rows = [sparse.csr_array((0, len(number)))]
    for counts, keys in parts:
        column = np.array([number[key] for key in keys], dtype=np.int32)
        shape = (counts.shape[0], len(number))
        found = (counts.data, column[counts.indices], counts.indptr)
        rows.append(sparse.csr_array(found, shape=shape))
    return sparse.csr_array(sparse.vstack(rows, format="csr", dtype=np.float64))


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


# Counts one block of texts with array operations; the block is what workers pass around.
#
# A text is a sequence of morpheme numbers, so a block is one long array of them with the texts'
# lengths. Only the look-up of a morpheme's number runs in Python, once a morpheme.

Codes: TypeAlias = npt.NDArray[np.int32]
Strings: TypeAlias = npt.NDArray[np.object_]

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


class Keyed(NamedTuple):
    """Counts, sparse (n, len(keys)) with ascending columns, and the sorted keys of these."""

    counts: sparse.csr_array
    keys: list[str]


@dataclass(frozen=True)
class Block:
    """The counts of n texts.

    Attributes:
        words: By lemma.
        pos: By POS bigram.
        endings: By ending.
        scripts: Shape (n, 5): characters of each of `SCRIPTS`.
        lengths: Shape (n,): characters after normalisation.
        spellings: Lemma, base form and occurrences of every base form.
    """

    words: Keyed
    pos: Keyed
    endings: Keyed
    scripts: Codes
    lengths: Codes
    spellings: list[tuple[str, str, int]]


def count_block(texts: Sequence[str | None], tagger: Tagger) -> Block:
    """Counts what texts are made of.

    Args:
        texts: Raw texts, n of them; None is an empty text.
        tagger: The morphological analyser.
    """
    clean = [normalize(text) if text else "" for text in texts]
    number: dict[str, int] = {}
    morphemes: list[Morpheme] = []
    numbers, ends = array("i"), array("q")
    for text in clean:
        names, size = tagger.names(text), len(numbers)
        try:
            numbers.extend(map(number.__getitem__, names))
        except KeyError:
            del numbers[size:]
            for name, morpheme in zip(names, tagger.tokenize(text), strict=True):
                if number.setdefault(name, len(morphemes)) == len(morphemes):
                    morphemes.append(morpheme)
            numbers.extend(map(number.__getitem__, names))
        ends.append(len(numbers))
    tokens, stops = np.array(numbers, dtype=np.int32), np.array(ends, dtype=np.int64)
    row = np.repeat(np.arange(len(texts)), np.diff(stops, prepend=0))
    lengths = np.array([len(text) for text in clean], dtype=np.int32)
    lemmas, tags = (_column(m.lemma for m in morphemes), _column(m.pos1 for m in morphemes))
    spellings = Counter[tuple[str, str]]()
    times = np.bincount(tokens, minlength=len(morphemes)).tolist()
    for morpheme, count in zip(morphemes, times, strict=True):
        spellings[morpheme.lemma, morpheme.orth_base] += count
    return Block(
        words=_counted(row, lemmas, tokens, len(texts)),
        pos=_pos_pairs(tags, tokens, row, stops),
        endings=_endings(morphemes, tags, tokens, row, len(texts)),
        scripts=_scripts("".join(clean), lengths),
        lengths=lengths,
        spellings=[(lemma, base, count) for (lemma, base), count in spellings.items()],
    )


def _column(values: Iterable[str]) -> Strings:
    return np.array([*values], dtype=object)


def _counted(row: Ints, keys: Strings, which: npt.NDArray[np.integer[Any]], n: int) -> Keyed:
    """Counts which of the keys occur in which of n rows; ``row`` is ascending."""
    coded = pa.array(keys, pa.string()).dictionary_encode()
    names = coded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.argsort(np.array(order, dtype=np.int64))[coded.indices.to_numpy()]
    ones = np.ones(len(row), dtype=np.int32)
    # Of equal cells it makes a sum.
    counts = sparse.csr_array((ones, (row, place[which])), shape=(n, len(names)))
    return Keyed(counts, [names[i] for i in order])


def _pos_pairs(tags: Strings, tokens: Codes, row: Ints, stops: Ints) -> Keyed:
    """Bigrams of parts of speech; a text of k morphemes has k + 1, borders included."""
    kinds, tag = np.unique(tags, return_inverse=True)
    n, border, tag = len(stops), len(kinds), tag[tokens]
    starts = np.concatenate([[0], stops[:-1]]) if n else stops
    pairs = np.insert(tag, starts, border) * (border + 1) + np.insert(tag, stops, border)
    seen, which = np.unique(pairs, return_inverse=True)
    left, right = np.append(kinds, "BOS"), np.append(kinds, "EOS")
    names = left[seen // (border + 1)] + " " + right[seen % (border + 1)]
    return _counted(np.insert(row, stops, np.arange(n)), names, which, n)


def _endings(
    morphemes: Sequence[Morpheme], tags: Strings, tokens: Codes, row: Ints, n: int
) -> Keyed:
    """How each sentence ends: its last two particles or auxiliaries in base form.

    A sentence that ends in anything else gives that part of speech: 名詞 for 体言止め.
    """
    bases = _column(m.orth_base for m in morphemes)
    is_symbol, is_functional = np.isin(tags, _SYMBOLS), np.isin(tags, _FUNCTIONAL)
    is_mark = is_symbol & np.array([m.surface[:1] in _TERMINATORS for m in morphemes], dtype=bool)
    # Ascending, and alike for words of one sentence alone: texts and marks both raise it.
    sentence = row + np.cumsum(is_mark[tokens])
    at = np.flatnonzero(~is_symbol[tokens])
    words, sentence = tokens[at], sentence[at]
    last = np.flatnonzero(np.diff(sentence, append=-1) != 0)
    final, before = words[last], np.maximum(last - 1, 0)
    previous = words[before]
    joined = (last > 0) & (sentence[before] == sentence[last]) & is_functional[previous]
    form = np.where(joined, bases[previous] + "+" + bases[final], bases[final])
    keys = np.where(is_functional[final], form, tags[final])
    return _counted(row[at][last], keys, np.arange(len(keys)), n)


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


# Cuts texts into blocks and counts them, here or in joblib's worker processes.

# Fixed, so that where blocks begin does not depend on how many workers count them.
BLOCK_ROWS, BLOCK_BYTES = 16_384, 8_000_000
# UTF-8 bytes that a worker must have to do before it is worth starting: it takes half a second,
# in which some 20,000 short sentences are counted.
_BYTES_A_WORKER = 3_000_000
# Seconds that an idle worker waits for more.
_IDLE_SECONDS = 5


def default_workers(size: int) -> int:
    """Returns how many processes are worth it for ``size`` bytes of text; 1 is this one."""
    return max(1, min(int(cpu_count()), size // _BYTES_A_WORKER))


def spans(texts: pa.ChunkedArray) -> list[tuple[int, int]]:
    """Cuts texts into blocks of at most 16,384 rows and, beyond one row, 8 MB of UTF-8."""
    sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
    ends = np.cumsum(sizes, dtype=np.int64)
    found = []
    start, read = 0, 0
    while start < len(ends):
        full = int(np.searchsorted(ends, read + BLOCK_BYTES, side="right"))
        stop = min(max(full, start + 1), start + BLOCK_ROWS, len(ends))
        found.append((start, stop))
        start, read = stop, int(ends[stop - 1])
    return found


def count_blocks(
    texts: Sequence[pa.ChunkedArray], tagger: Tagger, workers: int
) -> Generator[Block, None, None]:
    """Yields the counts of each block of texts, in order.

    Args:
        texts: The texts of each block.
        tagger: The morphological analyser.
        workers: How many processes; with 1 nothing is started.

    Raises:
        JapagenError: If a process ends without an answer.
        Exception: Whatever counting raises, in a worker or here.
    """
    workers = max(1, min(workers, len(texts)))
    # Threads would share one MeCab, so the caller's choice of joblib's backend does not count.
    parallel = Parallel(
        n_jobs=workers,
        backend="loky",
        return_as="generator",
        batch_size=1,
        idle_worker_timeout=_IDLE_SECONDS,
        initializer=obey,
        initargs=(os.getpid(),),
    )
    with ctrl_c_held() if workers > 1 else nullcontext():  # The workers start here.
        blocks = parallel(delayed(count_block)(t.to_numpy().tolist(), tagger) for t in texts)
    try:
        for block in blocks:  # noqa: UP028 (closed below, not by `yield from`)
            yield block
    except BrokenExecutor as error:
        raise JapagenError(
            "A worker process ended before its work was done.",
            "It may have run out of memory: use fewer workers.",
        ) from error
    finally:
        with warnings.catch_warnings():
            # Whoever stops early knows that blocks are left.
            warnings.simplefilter("ignore", UserWarning)
            blocks.close()
