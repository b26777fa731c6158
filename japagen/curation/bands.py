"""Near-duplicates among more texts than fit into memory: the rule of `near_duplicates`, by files.

    keys     of every shard: a key for each band of each kept text
    shared   of every range of keys: the keys that more than one text has, by row
    texts    of every shard: what its texts with such keys are compared by, at each key
    pairs    of every range: the pairs of texts that share a key and are similar enough, exactly
    near     of all pairs, in one process: which row is too near to which, in the order of rows
    result   of every shard: rejections filled in

Nothing but files passes between workers, and each step is a kernel (`data.shards`). Gold has the
rows before 0, so that it comes first; of two alike the earlier row is kept. A text is rejected for
a kept one alone, as in memory, for all pairs that share a band are known when rows are decided on.

Where more than `_GROUP` unlike texts share a band, in memory the latest 32 kept ones are compared
with. Here a text is compared with those of the group's first `_FIRST` that are like none before
them, and is rejected with them: the square of a template's texts is not to be read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from japagen.config.curation import Validator
from japagen.curation.filters import validate
from japagen.curation.near_duplicates import band_keys
from japagen.data.dataset import Dataset, Rejection
from japagen.data.shards import ROW
from japagen.japanese.normalization import normalize
from japagen.japanese.overlap import bigram_codes, mix, plain_form

Ints = npt.NDArray[np.int64]

KEY = "band_key"
# Keys are numbers of 62 bits: the end of the last range is one of 64 bits too.
_KEY_BITS = 62
_GROUP, _FIRST = 32, 64
# Bitmaps of 256 bits do for texts of a hundred characters; longer ones are counted more often.
_WORDS = ("word_0", "word_1", "word_2", "word_3")
# So much at a time.
_TEXTS, _MEMBERS, _BIGRAMS = 50_000, 200_000, 4_000_000
_NEAR, _FOLLOWS, _SAME, _DUPLICATE = range(4)
_EDGES = pa.schema(
    [
        (ROW, pa.int64()),
        ("id", pa.large_string()),
        ("of", pa.int64()),
        ("of_id", pa.large_string()),
        ("similarity", pa.float64()),
        ("kind", pa.int8()),
    ]
)


def key_ranges(rows: int, rows_a_range: int = 250_000) -> list[tuple[int, int]]:
    """Cuts the keys of so many rows into ranges: the least key of each and the next one's.

    A range of a quarter of a million rows has five million keys at most. With what is said of
    its text beside each, some 150 bytes, a worker holds less than 2 GB.
    """
    number = max(4, -(-rows // rows_a_range))
    ends = [(place << _KEY_BITS) // number for place in range(number + 1)]
    return list(pairwise(ends))


def _keys(texts: Sequence[str]) -> Ints:
    """Shape (texts, bands); no key of one band is one of another."""
    keys = band_keys(texts)
    bands = mix(np.arange(keys.shape[1], dtype=np.uint64))
    return (mix(keys ^ bands) >> np.uint64(64 - _KEY_BITS)).astype(np.int64)


def _flat(texts: Sequence[str], rows: Ints) -> pa.Table:
    keys = _keys(texts)
    numbers = np.repeat(rows, keys.shape[1])
    return pa.table({KEY: pa.array(keys.ravel()), ROW: pa.array(numbers)})


def find_keys(rows: pa.Table) -> pa.Table:
    """A kernel: the keys of the kept texts, in their order."""
    kept = rows.filter(rows.column("rejected").is_null())
    return _flat(_joined(kept), kept.column(ROW).to_numpy()).sort_by(KEY)


def _joined(rows: pa.Table) -> list[str]:
    """As `Dataset.joined_texts`."""
    pairs = zip(rows.column("text").to_pylist(), rows.column("text_pair").to_pylist(), strict=True)
    return [text if pair is None else f"{text}\n{pair}" for text, pair in pairs]


@dataclass(frozen=True)
class Golden:
    """Gold texts, which come before all rows.

    Attributes:
        texts: The texts; a pair with a line break in it.
        shown: What is shown of each.
    """

    texts: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()

    @classmethod
    def of(cls, gold: Dataset | None) -> Golden:
        """Those of a dataset."""
        return cls() if gold is None else cls(tuple(gold.joined_texts), tuple(gold.texts))

    @property
    def rows(self) -> Ints:
        """Their rows, up to -1."""
        return np.arange(-len(self.texts), 0, dtype=np.int64)

    def keys(self, low: int, high: int) -> pa.Table:
        """Keys of a range."""
        table = _flat(self.texts, self.rows)
        keys = table.column(KEY).to_numpy()
        return table.filter(pa.array((keys >= low) & (keys < high)))

    def texts_with_keys(self, low: int, high: int) -> pa.Table:
        """As `join_texts` of a range; gold is like itself alone."""
        keys = self.keys(low, high)
        ids = pa.chunked_array([pa.repeat("", len(self.texts))])
        described = _described(self.texts, ids, pa.array(self.rows))
        taken = described.take(pc.add(keys.column(ROW), len(self.texts)))
        return pa.table(
            [*keys.columns, pa.repeat(False, len(keys)), *taken.columns],
            [KEY, ROW, "is_least", *taken.column_names],
        )


@dataclass(frozen=True)
class SharedKeys:
    """A kernel: of the keys of a range those that more than one text has, in the order of rows.

    Attributes:
        golden: Gold.
    """

    golden: Golden

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Rows of gold are left out: whoever needs them makes them again."""
        keys, numbers = rows.column(KEY).to_numpy(), rows.column(ROW).to_numpy()
        if not len(keys):
            return rows
        gold = self.golden.keys(int(keys.min()), int(keys.max()) + 1).column(KEY).to_numpy()
        _, place, counts = np.unique(
            np.concatenate([keys, gold]), return_inverse=True, return_counts=True
        )
        shared = (counts > 1)[place[: len(keys)]]
        order = np.argsort(numbers[shared], kind="stable")
        return pa.table({KEY: keys[shared][order], ROW: numbers[shared][order]})


def join_texts(rows: pa.Table) -> pa.Table:
    """A kernel: texts beside the keys that they share, in the order of keys.

    It is given both in one table: rows without a key are texts, rows without an id are keys.
    """
    is_key = np.asarray(rows.column(KEY).is_valid())
    keys = rows.select([KEY, ROW]).filter(pa.array(is_key)).sort_by(KEY)
    texts = rows.filter(pa.array(~is_key))
    # A text has some ten keys, and is read once.
    numbers, first, at = np.unique(
        keys.column(ROW).to_numpy(), return_index=True, return_inverse=True
    )
    found = texts.take(pa.array(np.searchsorted(texts.column(ROW), numbers)))
    pairs = zip(
        found.column("text").to_pylist(), found.column("text_pair").to_pylist(), strict=True
    )
    exact = pa.array([_content(*pair) for pair in pairs], pa.int64())
    described = _described(_joined(found), found.column("id"), exact)
    is_least = np.zeros(len(keys), bool)
    is_least[first] = True
    taken = described.take(pa.array(at))
    return pa.table(
        [*keys.columns, pa.array(is_least), *taken.columns],
        [KEY, ROW, "is_least", *taken.column_names],
    )


def _described(texts: Sequence[str], ids: pa.ChunkedArray, exact: pa.Array) -> pa.Table:
    """What texts are compared by: plain form, set of bigrams, its size, and a bitmap of it."""
    plain = [plain_form(text) for text in texts]
    blocks = [_bitmaps(plain[at : at + _TEXTS]) for at in range(0, len(plain), _TEXTS)]
    bitmaps = pa.concat_tables(blocks or [_bitmaps([])])
    columns = {
        "id": ids.cast(pa.large_string()),
        "exact": exact,
        "plain": pa.array(plain, pa.large_string()),
    }
    return pa.table([*columns.values(), *bitmaps.columns], [*columns, *bitmaps.column_names])


def _content(text: str, pair: str | None) -> int:
    content = f"{normalize(text)}\0{normalize(pair or '')}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)


@dataclass(frozen=True)
class SimilarPairs:
    """A kernel: the pairs of a range whose texts are alike.

    Attributes:
        golden: Gold.
        threshold: Least Jaccard similarity of character bigrams.
    """

    golden: Golden
    threshold: float

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Edges from a row to an earlier one (`_EDGES`), in the order of rows."""
        if not len(rows):
            return _EDGES.empty_table()
        keys = rows.column(KEY).to_numpy()
        golden = self.golden.texts_with_keys(int(keys.min()), int(keys.max()) + 1)
        every = pa.concat_tables([golden, rows])
        numbers, first, member = np.unique(
            every.column(ROW).to_numpy(), return_index=True, return_inverse=True
        )
        texts = _Texts.of(every, first, self.threshold)
        same = _first_of_equals(every.column("set").to_numpy()[first])
        groups = _groups(every.column(KEY).to_numpy(), member, same)
        gold = int((numbers < 0).sum())
        # What equals another shares all keys with it, and is told of once, where the least is.
        is_told = np.zeros(len(numbers), bool)
        is_told[member[every.column("is_least").to_numpy()]] = True
        exact = every.column("exact").to_numpy()[first]
        edges = (
            _equal_edges(_first_of_equals(exact), same, gold, is_told),
            _small(groups, texts, self.threshold),
            _large(groups, texts, self.threshold, gold),
        )
        row, of, similarity, kind = (np.concatenate(part) for part in zip(*edges, strict=True))
        later = row >= gold
        row, of, similarity, kind = (part[later] for part in (row, of, similarity, kind))
        order = np.lexsort((of, row))
        row, of = row[order], of[order]
        ids = every.column("id")
        return pa.table(
            [
                pa.array(numbers[row]),
                ids.take(pa.array(first[row])),
                pa.array(numbers[of]),
                ids.take(pa.array(first[of])),
                pa.array(similarity[order], pa.float64()),
                pa.array(kind[order], pa.int8()),
            ],
            schema=_EDGES,
        )


_Edges = tuple[Ints, Ints, npt.NDArray[np.float64], Ints]


def _bigrams(plain: Sequence[str]) -> tuple[npt.NDArray[np.uint64], Ints]:
    """Each text's distinct bigrams, as numbers, and where those of each begin."""
    codes, offsets = bigram_codes(plain)
    text = np.repeat(np.arange(len(plain), dtype=np.uint64), np.diff(offsets))
    # A character has 21 bits, which leaves 22 for the text's number.
    packed = (text << np.uint64(42)) | ((codes >> np.uint64(11)) & ~_LOW) | (codes & _LOW)
    packed.sort()
    packed = packed[np.diff(packed, prepend=~packed[:1]) != 0]
    starts = np.searchsorted(packed >> np.uint64(42), np.arange(len(plain) + 1))
    return packed & np.uint64((1 << 42) - 1), starts


_LOW = np.uint64((1 << 21) - 1)


def _bitmaps(plain: Sequence[str]) -> pa.Table:
    """Of each text's set of bigrams a number that equal sets alone share, its size, and a bitmap.

    In a bitmap, of some words, several bigrams share a bit.
    """
    bigrams, starts = _bigrams(plain)
    hashes = mix(bigrams)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes, dtype=np.uint64)])
    word, bit = np.divmod(hashes % np.uint64(64 * len(_WORDS)), np.uint64(64))
    bits = np.uint64(1) << bit
    words = [
        np.bitwise_or.reduceat(np.where(word == at, bits, np.uint64(0)), starts[:-1])
        for at in range(len(_WORDS))
    ]
    columns = [(sums[starts[1:]] - sums[starts[:-1]]).view(np.int64), np.diff(starts), *words]
    return pa.table([pa.array(column) for column in columns], ["set", "size", *_WORDS])


@dataclass(frozen=True)
class _Texts:
    """The texts of a range, in the order of rows.

    Attributes:
        plain: Their plain forms, in another order.
        place: Where each is in it.
        sizes: How many bigrams each has.
        words: Of their bitmaps, each of all texts.
        apart: Of two texts that are alike, no more bigrams are in one alone than the sum of theirs:
            of sets of m and n whose similarity is t, (m + n) (1 - t) / (1 + t) are.
    """

    plain: pa.Array
    place: Ints
    sizes: Ints
    words: tuple[npt.NDArray[np.uint64], ...]
    apart: npt.NDArray[np.float32]

    @classmethod
    def of(cls, table: pa.Table, rows: Ints, threshold: float) -> _Texts:
        """Those in some rows of a table."""
        sizes, *words = (table.column(name).to_numpy()[rows] for name in ("size", *_WORDS))
        apart = (sizes * (1 - threshold) / (1 + threshold) + 0.01).astype(np.float32)  # rounding
        # In one piece: else each look puts the pieces together again.
        return cls(table.column("plain").combine_chunks(), rows, sizes, tuple(words), apart)

    def may_be_alike(self, row: Ints, of: Ints) -> npt.NDArray[np.bool_]:
        """Knows most pairs that are too unlike (Sandes et al. 2020, "Bitmap filter").

        Each bit that one has alone is a bigram that it has alone.
        """
        counts = (np.bitwise_count(word[row] ^ word[of]) for word in self.words)
        return np.asarray(sum(counts, np.uint16(0)) <= self.apart[row] + self.apart[of])

    def similarities(self, row: Ints, of: Ints) -> npt.NDArray[np.float64]:
        """Jaccard similarity of the bigrams of each pair."""
        used, place = np.unique(np.concatenate([row, of]), return_inverse=True)
        sets, sizes = _sets(self.plain.take(pa.array(self.place[used]))), self.sizes[used]
        row, of = np.split(place, 2)
        ends = np.cumsum(sizes[row] + sizes[of])
        cuts = np.flatnonzero(np.diff(ends // _BIGRAMS, prepend=0)).tolist()
        shared = [np.empty(0, np.int64)]
        for start, end in pairwise([0, *cuts, len(row)]):
            both = sets[row[start:end]].multiply(sets[of[start:end]])
            shared.append(np.diff(both.indptr))
        found = np.concatenate(shared)
        return np.asarray(found / (sizes[row] + sizes[of] - found), np.float64)


def _sets(plain: pa.Array) -> sparse.csr_array:
    """Which text has which bigram, a row each."""
    bigrams, ends = [np.empty(0, np.uint64)], [np.zeros(1, np.int64)]
    for at in range(0, len(plain), _TEXTS):
        found, starts = _bigrams(plain.slice(at, _TEXTS).to_pylist())
        bigrams.append(found)
        ends.append(starts[1:] + ends[-1][-1])
    columns = np.concatenate(bigrams).view(np.int64)
    ones, shape = np.ones(len(columns), np.int8), (len(plain), 1 << 42)
    return sparse.csr_array((ones, columns, np.concatenate(ends)), shape)


def _first_of_equals(values: Ints) -> Ints:
    _, first, place = np.unique(values, return_index=True, return_inverse=True)
    return np.asarray(first[place], np.int64)


def _equal_edges(first: Ints, same: Ints, gold: int, is_told: npt.NDArray[np.bool_]) -> _Edges:
    """Edges of texts whose contents (``first``), or bigrams (``same``), an earlier one has."""
    own = np.arange(len(first))
    duplicate = (first != own) & (first >= gold)
    repeated = np.flatnonzero((same != own) & ~duplicate & is_told)
    duplicate = np.flatnonzero(duplicate & is_told)
    row = np.concatenate([duplicate, repeated])
    of = np.concatenate([first[duplicate], same[repeated]])
    kind = np.repeat([_DUPLICATE, _SAME], [len(duplicate), len(repeated)])
    return row, of, np.ones(len(row)), kind


def _groups(keys: Ints, member: Ints, same: Ints) -> tuple[Ints, Ints]:
    """The texts that share a key, key by key and sorted, each set of bigrams once; and the keys."""
    unlike = same[member] == member
    keys, member = keys[unlike], member[unlike]
    order = np.lexsort((member, keys))
    return member[order], keys[order]


def _starts(keys: Ints) -> Ints:
    """Where in sorted keys each of them begins."""
    return np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))


def _sizes(keys: Ints) -> Ints:
    """Of each member, in the order of keys, how many its group has."""
    counts = np.diff(_starts(keys), append=len(keys))
    return np.repeat(counts, counts)


def _small(groups: tuple[Ints, Ints], texts: _Texts, threshold: float) -> _Edges:
    """Edges of all pairs of each group that is not large."""
    sizes = _sizes(groups[1])
    few = (sizes > 1) & (sizes <= _GROUP)
    members, keys, sizes = groups[0][few], groups[1][few], sizes[few]
    pairs = [np.empty(0, np.int64)]
    for start in range(0, len(members), _MEMBERS):
        # Each member of this stretch with those of its group that come later.
        end = min(start + _MEMBERS, len(members))
        for distance in range(1, int(sizes[start:end].max())):
            at = np.arange(start, min(end, len(members) - distance))
            at = at[keys[at] == keys[at + distance]]
            row, of = members[at + distance], members[at]
            may_be = texts.may_be_alike(row, of)
            pairs.append((row[may_be] << 32) | of[may_be])
    # Texts that are much alike share most of their bands.
    found = np.unique(np.concatenate(pairs))
    row, of = found >> 32, found & 0xFFFFFFFF
    similarity = texts.similarities(row, of)
    near = similarity >= threshold
    return row[near], of[near], similarity[near], np.full(int(near.sum()), _NEAR)


def _large(groups: tuple[Ints, Ints], texts: _Texts, threshold: float, gold: int) -> _Edges:
    """Edges to the first texts of a large group that are like none before them."""
    many = _sizes(groups[1]) > _GROUP
    members, keys = groups[0][many], groups[1][many]
    is_left = members >= gold
    pairs = [np.empty((2, 0), np.int64)]
    for start, end in pairwise([*_starts(keys).tolist(), len(keys)]):
        first = int((~is_left[start:end]).sum()) + _FIRST
        front = np.arange(start, min(start + first, end))
        for at in range(start, end, _MEMBERS // _FIRST):
            own = np.arange(at, min(at + _MEMBERS // _FIRST, end))[:, None]
            may_be = texts.may_be_alike(members[own], members[front])
            later, before = np.nonzero(may_be & (own > front))
            pairs.append(np.stack([later + at, before + start]))
    row, of = np.concatenate(pairs, axis=1)
    # Two texts may share several bands.
    pair, place = np.unique((members[row] << 32) | members[of], return_inverse=True)
    similarity = texts.similarities(pair >> 32, pair & 0xFFFFFFFF)[place]
    near = np.flatnonzero(similarity >= threshold)
    near = near[np.lexsort((row[near], of[near]))]
    followers = [np.empty(0, np.int64)]
    for start, end in pairwise([*_starts(of[near]).tolist(), len(near)]):
        part = near[start:end]
        if is_left[of[part[0]]] or members[of[part[0]]] < gold:
            followers.append(part[is_left[row[part]]])
            is_left[row[part]] = False
    found = np.concatenate(followers)
    pairs = (members[row[found]] << 32) | members[of[found]]
    found = found[np.unique(pairs, return_index=True)[1]]
    kinds = np.full(len(found), _FOLLOWS)
    return members[row[found]], members[of[found]], similarity[found], kinds


def decide(edges: pa.Table, golden: Golden, threshold: float) -> pa.Table:
    """Decides which rows are rejected, in their order, from all edges.

    Args:
        edges: Those of every range.
        golden: Gold.
        threshold: What similarities are compared with.

    Returns:
        For each rejected row, ascending, the fields of its rejection.
    """
    of, kind, rows = (edges.column(name).to_numpy() for name in ("of", "kind", ROW))
    order = np.lexsort((of, kind, rows))
    rows, of, kind = rows[order], of[order], kind[order]
    # Texts that share bands of several ranges are told of in each.
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (np.diff(rows) != 0) | (np.diff(of) != 0) | (np.diff(kind) != 0)
    order, rows, of, kind = (column[is_first] for column in (order, rows, of, kind))
    similarity = edges.column("similarity").to_numpy()[order]
    by_of = np.argsort(of, kind="stable")
    sorted_of = of[by_of]
    starts = np.flatnonzero(np.diff(rows, prepend=np.iinfo(np.int64).min))
    # What each row with edges is too near to: similarity, that row, and the edge that names it.
    numbers = rows[starts]
    values, others, named_by = np.full(len(numbers), np.nan), numbers.copy(), numbers.copy()
    # Where the row that an edge leads to is among those; only they may be decided on.
    targets = np.minimum(np.searchsorted(numbers, of), max(len(numbers) - 1, 0))
    may_be_near = numbers[targets] == of

    def later_than(first: int, row: int) -> Iterator[tuple[float, int, int]]:
        """What a text of another with the same bigrams is near to, that has come in between."""
        here = slice(*np.searchsorted(sorted_of, (first, first + 1)))
        for edge in by_of[here]:
            at = np.searchsorted(numbers, rows[edge])
            if kind[edge] == _NEAR and rows[edge] < row and np.isnan(values[at]):
                yield float(similarity[edge]), -int(rows[edge]), int(edge)

    for place, (start, end) in enumerate(pairwise([*starts.tolist(), len(rows)])):
        row, found = int(rows[start]), []
        for edge in range(end - 1, start - 1, -1):  # duplicates first, then equal sets
            other, value = int(of[edge]), float(similarity[edge])
            at = targets[edge]
            if kind[edge] == _DUPLICATE or not may_be_near[edge] or np.isnan(values[at]):
                found.append((value, -other, edge))
            elif kind[edge] == _SAME:
                near = (float(values[at]), -int(others[at]), int(named_by[at]))
                found += [near, *later_than(other, row)]
            elif kind[edge] == _FOLLOWS:
                found.append((value, -int(others[at]), int(named_by[at])))
            if kind[edge] in (_SAME, _DUPLICATE):
                break
        if found:
            values[place], minus, named_by[place] = max(found)
            others[place] = -minus
    decided = np.flatnonzero(~np.isnan(values))
    numbers, values, others, named_by = (a[decided] for a in (numbers, values, others, named_by))
    duplicate = (kind[named_by] == _DUPLICATE) & (rows[named_by] == numbers)
    names = pa.array(["near_duplicate", "near_duplicate_of_gold", "duplicate"])
    # An edge names both its rows.
    of_id, own_id = (edges.column(n).take(pa.array(order[named_by])) for n in ("of_id", "id"))
    shown = pa.array([*(text[:200] for text in golden.shown), ""], pa.large_string())
    is_gold = others < 0
    texts = shown.take(pa.array(np.where(is_gold, others, 0) + len(golden.shown)))
    ids = pc.if_else(pa.array(others == of[named_by]), of_id, own_id)
    return pa.table(
        {
            ROW: pa.array(numbers),
            "near_filter": names.take(pa.array(np.where(duplicate, 2, is_gold.astype(int)))),
            "near_value": pa.array([round(v, 3) for v in values.tolist()], pa.float64()),
            "near_threshold": pa.array(np.where(duplicate, 0.0, threshold), pa.float64()),
            "near_detail": pc.if_else(pa.array(is_gold), texts, ids),
        }
    )


@dataclass(frozen=True)
class Rejected:
    """A kernel: rows with what `decide` found of them, and what the user's validators say.

    Attributes:
        validators: By name.
    """

    validators: dict[str, Validator]

    def __call__(self, rows: pa.Table) -> pa.Table:
        """It is given both in one table: of `decide` come the rows with a ``near_filter``."""
        if "near_filter" in rows.column_names:
            is_near = rows.column("near_filter").is_valid()
            near, rows = rows.filter(is_near), rows.filter(pc.invert(is_near))
        else:
            near = rows.slice(0, 0)
        texts = Dataset.from_table(rows)
        rejections = texts.rejections
        if len(near):
            places = np.searchsorted(rows.column(ROW).to_numpy(), near.column(ROW).to_numpy())
            fields = [near.column(f"near_{n}").to_pylist() for n in _FIELDS]
            for place, found in zip(places.tolist(), zip(*fields, strict=True), strict=True):
                rejections[place] = Rejection(*found)
        return validate(texts.with_rejections(rejections), self.validators).table


_FIELDS = ("filter", "value", "threshold", "detail")
