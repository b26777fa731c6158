"""Examples and datasets: one text with its label, and an immutable Arrow table of them."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from japagen.data.files import parse_json
from japagen.data.records import NESTED, library_of, read_records, table_of, unreadable
from japagen.data.tables import Table
from japagen.errors import JapagenError, MissingExtraError, nearest
from japagen.japanese.registers import Register

Label = str | float | list[str]
Split = Literal["train", "test", "synthetic", "unlabelled"]
# Values of `derived` for rewritten texts: into another register, or refined.
REWRITTEN = "rewritten"
# How texts were derived that a reviewer edited, and the filter of those that they replaced.
EDITED = "edited"
# How texts were derived that were synthesised towards gold's gradients, and the filter of those
# that they replaced.
SYNTHESISED = "synthesised"
# Filters that reject rows for their register alone.
HELD_BACK = ("register", "rewritten")
SPLITS: tuple[Split, ...] = ("train", "test", "synthetic", "unlabelled")


@dataclass(frozen=True, slots=True)
class Rejection:
    """The filter that rejected an example, with the value and the threshold.

    Attributes:
        filter: Name of the filter.
        value: What the filter measured.
        threshold: The bound that `value` crossed.
        detail: What a reader needs to understand it (the text copied, the word found).
    """

    filter: str
    value: float
    threshold: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """One text or text pair with its label and where it came from.

    >>> Example("届きません。", "配送").label
    '配送'

    Attributes:
        text: The text, or the first of a pair.
        text_pair: The second text of a pair.
        label: A class, a number (regression) or a list of classes (multi-label).
        id: Stable identifier; derived from the content where the file has none.
        split: What the example may be used for.
        source: Name of the source that wrote it (`sources` in the task file), or the file that it
            was read from. What is derived from a text keeps its source.
        derived: How it was made of its parent, such as `REWRITTEN`; None as it was written.
        label_asked: The label that the request asked for.
        register_asked: The register that the request asked for.
        register_seen: The register found in the text.
        request_id: The request that produced it.
        parent_id: The example it was rewritten from, or the first text that a pair was made of.
        shot_ids: Gold examples that the prompt showed or that what it asked for was found in; a
            fold that holds one out must drop this.
        round: Round of iterative generation, from 0.
        generator: Identity of the generator.
        prompt_id: Name and hash of the prompt template.
        seed: The request's seed.
        weight_distribution: Weight from aligning distributions, at least 0.
        weight_label: Confidence in the label, at least 0.
        rejected: Set when curation rejected the example.
        seed_row: Id of the row of ``generation.seed`` that the prompt told of.
        fields: What the text was made of (``generation.fields``): name to value; None where it
            is a text alone.
        scores: What ``curation.judge`` gave each criterion, 1 to 5; None where it was not asked.
    """

    text: str
    label: Label | None = None
    text_pair: str | None = None
    id: str = ""
    split: Split = "synthetic"
    source: str = ""
    derived: str | None = None
    label_asked: Label | None = None
    register_asked: Register | None = None
    register_seen: Register | None = None
    request_id: str | None = None
    parent_id: str | None = None
    shot_ids: tuple[str, ...] = ()
    round: int = 0
    generator: str | None = None
    prompt_id: str | None = None
    seed: int | None = None
    weight_distribution: float = 1.0
    weight_label: float = 1.0
    rejected: Rejection | None = None
    seed_row: str | None = None
    fields: Mapping[str, Any] | None = None
    scores: dict[str, float] | None = None

    def to_row(self) -> dict[str, Any]:
        """Returns the Arrow and JSON form."""
        row = {name: _plain(name, getattr(self, name)) for name in _NAMES}
        return {**row, "fields": None if self.fields is None else dict(self.fields)}

    @property
    def texts(self) -> list[str]:
        """The text, or both of a pair."""
        return [self.text] if self.text_pair is None else [self.text, self.text_pair]

    @property
    def written(self) -> list[str]:
        """The texts, or all fields that are strings where the text was made of some of them."""
        if self.fields is None:
            return self.texts
        return [value for value in self.fields.values() if isinstance(value, str)]

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Example:
        """Inverse of `to_row`; absent and null columns take their defaults."""
        known = {k: v for k, v in row.items() if k in _NAMES and v is not None}
        for name in ("register_asked", "register_seen"):
            if name in known:
                known[name] = Register.from_dict(known[name])
        if "rejected" in known:
            known["rejected"] = Rejection(**known["rejected"])
        if "shot_ids" in known:
            known["shot_ids"] = tuple(known["shot_ids"])
        if isinstance(known.get("fields"), str):
            known["fields"] = parse_json(known["fields"])
        if "scores" in known:
            known["scores"] = _scores(known["scores"])
        return cls(**known)


def _plain(name: str, value: Any) -> Any:
    """One field as a table holds it."""
    if value is None:
        return None
    if name.startswith("register_"):
        return value.to_dict()
    if name == "rejected":
        return {f.name: getattr(value, f.name) for f in fields(Rejection)}
    if name == "fields":
        return json.dumps(dict(value), ensure_ascii=False)
    if name == "scores":
        return _listed(value)
    return list(value) if name == "shot_ids" else value


def _listed(scores: Mapping[str, float] | None) -> list[dict[str, Any]] | None:
    """Scores as a table holds them: their names are the task's own."""
    return [{"criterion": n, "score": s} for n, s in scores.items()] if scores else None


def _scores(found: Any) -> dict[str, float] | None:
    """Inverse of `_listed`; takes a mapping, as JSON has it, too."""
    pairs = (
        found.items() if isinstance(found, dict) else [(r["criterion"], r["score"]) for r in found]
    )
    return {str(name): float(score) for name, score in pairs} or None


_NAMES = tuple(f.name for f in fields(Example))
COLUMNS = (*_NAMES, "weight")
"""The columns of what is written for others: an example's fields and its final weight."""
_SHOWN = 10  # rows that a notebook shows
_SHOWN_LABELS = 12
_REGISTER_TYPE = pa.struct(
    {
        "style": pa.string(),
        "keigo": pa.list_(pa.string()),
        "channel": pa.string(),
        "dialect": pa.bool_(),
    }
)
_REJECTION_TYPE = pa.struct(
    {
        "filter": pa.string(),
        "value": pa.float64(),
        "threshold": pa.float64(),
        "detail": pa.string(),
    }
)
_TYPES: dict[str, pa.DataType] = {
    "round": pa.int32(),
    "seed": pa.int64(),
    "shot_ids": pa.list_(pa.string()),
    "register_asked": _REGISTER_TYPE,
    "register_seen": _REGISTER_TYPE,
    "weight_distribution": pa.float64(),
    "weight_label": pa.float64(),
    "rejected": _REJECTION_TYPE,
    "scores": pa.list_(pa.struct({"criterion": pa.string(), "score": pa.float64()})),
}


def _label_type(labels: Iterable[Label | None]) -> pa.DataType:
    for label in labels:
        if isinstance(label, str):
            return pa.string()
        if isinstance(label, list):
            return pa.list_(pa.string())
        if label is not None:
            return pa.float64()
    return pa.string()


def _schema(label_type: pa.DataType) -> pa.Schema:
    return pa.schema(
        [
            (name, label_type if name.startswith("label") else _TYPES.get(name, pa.string()))
            for name in _NAMES
        ]
    )


def _ids(examples: Sequence[Example]) -> list[str]:
    """Returns every example's id, derived from its content where it has none.

    The n-th repetition of a content gets its own id, so ids do not depend on the order
    of other rows and repeated rows stay apart.
    """
    seen: Counter[str] = Counter()
    out = []
    for example in examples:
        name = example.id
        if not name:
            content = json.dumps(
                [example.text, example.text_pair, example.label], ensure_ascii=False
            )
            name = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]
            seen[name] += 1
            if seen[name] > 1:
                name = f"{name}-{seen[name]}"
        out.append(name)
    return out


def _encodable(example: Example) -> Example:
    return Example.from_row(parse_json(json.dumps(example.to_row())))


def _default_column(name: str, rows: int, of_type: pa.DataType) -> pa.Array:
    """The default of a column that a file lacks."""
    given = next(f for f in fields(Example) if f.name == name)
    if given.default is MISSING and given.default_factory is MISSING:
        raise KeyError(name)
    default = list(given.default) if isinstance(given.default, tuple) else given.default
    return pa.array([default] * rows, of_type)


@dataclass(frozen=True, eq=False)
class Dataset:
    """An ordered, immutable set of examples in an Arrow table.

    >>> Dataset.from_records([("届きません。", "配送"), ("返品したい。", "返品")])
    <Dataset: 2 examples, 配送 1, 返品 1>

    Attributes:
        table: One row per example, columns as the fields of `Example`.
    """

    table: pa.Table = field(repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.table, pa.Table):
            raise JapagenError(
                f"Expected the table of a dataset, found {type(self.table).__name__}.",
                "Use Dataset.from_pandas, from_polars, from_hf or from_records.",
            )

    @classmethod
    def of(cls, examples: Iterable[Example]) -> Dataset:
        """Builds a dataset, deriving missing ids from the content.

        Raises:
            JapagenError: If two examples share an id or labels are of different kinds.
        """
        rows = list(examples)
        ids = _ids(rows)
        if len(set(ids)) < len(ids):
            repeated = next(k for k, n in Counter(ids).items() if n > 1)
            raise JapagenError(
                f"Expected ids to be unique, found '{repeated}' more than once.",
                "Remove the id column to have ids derived from the text, or make them unique.",
            )
        schema = _schema(_label_type(e.label for e in rows))
        # By column: a dictionary a row would take ten times the time and memory.
        columns = []
        for name in schema.names:
            values: list[Any] = ids if name == "id" else [getattr(e, name) for e in rows]
            if name in NESTED:
                values = [_plain(name, value) for value in values]
            try:
                columns.append(pa.array(values, schema.field(name).type))
            except UnicodeEncodeError:  # half an emoji, which no file could hold either
                return cls.of(_encodable(e) for e in rows)
            except (pa.ArrowException, OverflowError, TypeError) as error:
                if not name.startswith("label"):
                    raise JapagenError(
                        f"A value in the column {name} is not what it holds: {error}.",
                        "Correct it.",
                    ) from error
                raise JapagenError(
                    "Expected labels of one kind (text, numbers or lists), found a mixture: "
                    f"{error}.",
                    "Make the label column uniform.",
                ) from error
        table = pa.Table.from_arrays(columns, schema=schema)
        return cls(table)

    @classmethod
    def from_table(cls, table: pa.Table) -> Dataset:
        """Takes a table that was written from a dataset; other columns are left out.

        Columns that an earlier version did not write are filled with their defaults, ids with
        those that the contents give.

        Raises:
            KeyError: If there is no column of texts.
        """
        labels = table.schema.field("label").type if "label" in table.column_names else pa.string()
        schema = _schema(pa.list_(pa.string()) if pa.types.is_list(labels) else labels)
        columns = [
            table.column(name).cast(schema.field(name).type)
            if name in table.column_names
            else _default_column(name, len(table), schema.field(name).type)
            for name in schema.names
        ]
        # Parquet renames the items of lists, and tables of unlike schemas cannot be joined.
        dataset = cls(pa.Table.from_arrays(columns, schema=schema).combine_chunks())
        return dataset if "id" in table.column_names else dataset.with_columns(id=_ids([*dataset]))

    @classmethod
    def from_pandas(
        cls, frame: Any, *, columns: Mapping[str, str] | None = None, split: Split = "synthetic"
    ) -> Dataset:
        """Reads a DataFrame, or a Series of texts, as `read_examples` reads a file.

        >>> import pandas as pd
        >>> Dataset.from_pandas(pd.DataFrame({"本文": ["届きません"], "分類": ["配送"]})).labels
        ['配送']

        Args:
            frame: A column of texts and perhaps one of labels, under a usual name.
            columns: Our column name to the frame's, for example ``{"text": "質問"}``.
            split: The split of rows that name none.

        Raises:
            JapagenError: If there is no column of texts, or a value is not what it should be.
        """
        return as_dataset(frame, columns=columns, split=split)

    @classmethod
    def from_polars(
        cls, frame: Any, *, columns: Mapping[str, str] | None = None, split: Split = "synthetic"
    ) -> Dataset:
        """Reads a DataFrame or LazyFrame of polars; see `from_pandas`."""
        return as_dataset(frame, columns=columns, split=split)

    @classmethod
    def from_hf(
        cls, data: Any, *, columns: Mapping[str, str] | None = None, split: Split = "synthetic"
    ) -> Dataset:
        """Reads a `Dataset` of the package `datasets`, with the names of its classes as labels.

        Arguments and errors as of `from_pandas`; of several splits give one.
        """
        return as_dataset(data, columns=columns, split=split)

    @classmethod
    def from_records(
        cls,
        records: Any,
        *,
        columns: Mapping[str, str] | None = None,
        split: Split = "synthetic",
    ) -> Dataset:
        """Reads dictionaries, ``(text, label)`` or ``(text, text_pair, label)``, or texts alone.

        >>> Dataset.from_records([("届きません", "配送"), ("返品したい", "返品")]).texts
        ['届きません', '返品したい']

        Arguments and errors as of `from_pandas`; also taken are ``(texts, labels)`` and a mapping
        of columns.
        """
        return as_dataset(records, columns=columns, split=split)

    @property
    def fields(self) -> list[dict[str, Any] | None]:
        """What each text was made of; see `Example`."""
        return [None if row is None else parse_json(row) for row in self.column("fields")]

    @cached_property
    def field_names(self) -> list[str]:
        """The names of all fields, each a column of what is written for others."""
        if self.table.column("fields").null_count == len(self):
            return []
        names = dict.fromkeys(name for row in self.fields for name in row or ())
        return [name for name in names if name not in COLUMNS]

    @property
    def weighted_table(self) -> pa.Table:
        """The table as it is written for others.

        Behind its columns stand ``weight``, the final weights, and one for each field.
        """
        table = self.table.append_column("weight", pa.array(self.weights, pa.float64()))
        fields = self.fields if self.field_names else []
        for name in self.field_names:
            values = [(row or {}).get(name) for row in fields]
            whole = all(isinstance(value, int) for value in values if value is not None)
            texts = [value if value is None else str(value) for value in values]
            cells = pa.array(values, pa.int64()) if whole else pa.array(texts, pa.string())
            table = table.append_column(name, cells)
        return table

    def to_pandas(self) -> Any:
        """A DataFrame of every field and the final weight; `from_pandas` reads it as it was.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        _need("pandas", "A DataFrame of pandas")
        return self.weighted_table.to_pandas()

    def to_polars(self) -> Any:
        """A DataFrame of polars; see `to_pandas`.

        Raises:
            MissingExtraError: If polars is not installed.
        """
        return _need("polars", "A DataFrame of polars").from_arrow(self.weighted_table)

    def to_hf(self) -> Any:
        """A `Dataset` of the package `datasets`; see `to_pandas`.

        Raises:
            MissingExtraError: If `datasets` is not installed.
        """
        datasets = _need("datasets", "A Dataset of `datasets`")
        return datasets.Dataset(datasets.table.InMemoryTable(self.weighted_table))

    def to_records(self) -> list[dict[str, Any]]:
        """A dictionary per example: every field, and the final weight."""
        return list(self.iter_records())

    def iter_records(self) -> Iterator[dict[str, Any]]:
        """Yields what `to_records` lists."""
        weights = iter(self.weights.tolist())
        for batch in self.table.to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                given = row["fields"] and parse_json(row["fields"])
                own = {"scores": row["scores"] and _scores(row["scores"]), "fields": given}
                yield {**row, "weight": round(next(weights), 6), **(given or {}), **own}

    @classmethod
    def concat(cls, parts: Sequence[Dataset]) -> Dataset:
        """Joins datasets in order; empty ones take the label kind of the others."""
        filled = [p for p in parts if len(p)] or list(parts[:1])
        return cls(pa.concat_tables([p.table for p in filled]).combine_chunks())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> Dataset: ...

    @overload
    def __getitem__(self, index: str) -> list[Any]: ...

    def __getitem__(self, index: int | slice | str) -> Example | Dataset | list[Any]:
        """An example, some of them, or a column."""
        if isinstance(index, str):
            if index not in _NAMES:
                raise KeyError(f"'{index}'{nearest(index, _NAMES)}")
            return self.column(index)
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        return Example.from_row(self.table.slice(range(len(self))[index], 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Example]:
        # A column of nulls says nothing, and taking each out costs as much as a text.
        table = self.table
        told = [n for n in table.column_names if table.column(n).null_count < len(table)]
        for batch in table.select(told).to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                yield Example.from_row(row)

    def __repr__(self) -> str:
        return f"<Dataset: {', '.join(self._facts())}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: how many there are of each label, and the first rows."""
        names = ["text", "text_pair", "label", "weight", "rejected"]
        names = [name for name in names if name != "text_pair" or self.is_pair]
        rows = [
            {**row, "rejected": row["rejected"] and row["rejected"]["filter"]}
            for row in self[:_SHOWN].to_records()
        ]
        if self.kept_mask.all():
            names.remove("rejected")
        return html_table(
            ", ".join(self._facts()), names, [[row[name] for name in names] for row in rows]
        )

    def _facts(self) -> list[str]:
        """How many examples there are, of which labels, and how many of them are rejected."""
        counts = list(self.label_counts().items())
        facts = [f"{len(self):,} example{'' if len(self) == 1 else 's'}"]
        facts += [f"{label} {n:,}" for label, n in counts[:_SHOWN_LABELS]]
        facts += [f"{len(counts) - _SHOWN_LABELS} more labels"] * (len(counts) > _SHOWN_LABELS)
        rejected = int((~self.kept_mask).sum())
        return facts + [f"{rejected:,} rejected"] * (rejected > 0)

    def column(self, name: str) -> list[Any]:
        """Returns one column as a Python list."""
        values = self.table.column(name)
        # Much faster for strings than a Scalar each.
        strings = pa.types.is_string(values.type)
        return list(values.to_numpy().tolist() if strings else values.to_pylist())

    @property
    def texts(self) -> list[str]:
        """The texts, in order."""
        return self.column("text")

    @property
    def joined_texts(self) -> list[str]:
        """The texts, in order; the two of a pair with a line break between them."""
        pairs = zip(self.texts, self.column("text_pair"), strict=True)
        return [text if pair is None else f"{text}\n{pair}" for text, pair in pairs]

    @property
    def labels(self) -> list[Any]:
        """The labels, in order."""
        return self.column("label")

    @cached_property
    def is_pair(self) -> bool:
        """True when any example has a second text."""
        return int(self.table.column("text_pair").null_count) < len(self)

    @property
    def kept_mask(self) -> npt.NDArray[np.bool_]:
        """Shape (n,): True where curation has not rejected the example."""
        return np.asarray(self.table.column("rejected").is_null(), dtype=bool)

    @property
    def kept(self) -> Dataset:
        """The examples that curation has not rejected."""
        return self.where(self.kept_mask)

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """Shape (n,): distribution weight times label weight, mean 1 over the kept.

        Rejected examples weigh 0.
        """
        product: npt.NDArray[np.float64] = (
            self.table.column("weight_distribution").to_numpy()
            * self.table.column("weight_label").to_numpy()
            * self.kept_mask
        )
        kept = int(self.kept_mask.sum())
        total = float(product.sum())
        return product / total * kept if total > 0 else product

    @property
    def distinct(self) -> Dataset:
        """The rows without repetitions: the first of each label, text and pair."""
        columns = ("label", "text", "text_pair")
        keys = list(zip(*(self.column(name) for name in columns), strict=True))
        first = {repr(key): row for row, key in reversed(list(enumerate(keys)))}
        return self if len(first) == len(keys) else self.take(sorted(first.values()))

    def where(self, mask: npt.NDArray[np.bool_]) -> Dataset:
        """Returns the rows where ``mask`` (shape (n,)) is true."""
        return Dataset(self.table.filter(pa.array(mask)))

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> Dataset:
        """Returns the rows at ``indices``, in that order."""
        return Dataset(self.table.take(pa.array(indices, pa.int64())))

    def with_columns(self, **columns: Any) -> Dataset:
        """Returns a copy with whole columns replaced by equally long sequences."""
        table = self.table
        for name, values in columns.items():
            at = table.schema.get_field_index(name)
            array = pa.array(values, type=table.schema.field(at).type)
            table = table.set_column(at, name, array)
        return Dataset(table)

    def only(self, *names: str) -> Dataset:
        """Returns a copy with the defaults in all other columns, for who should not read them."""
        table = self.table
        for at, name in enumerate(table.column_names):
            if name not in names:
                empty = _default_column(name, len(self), table.schema.field(at).type)
                table = table.set_column(at, name, empty)
        return Dataset(table)

    def with_registers(self, seen: Sequence[Register]) -> Dataset:
        """Returns a copy with the register found in each text."""
        return self.with_columns(register_seen=[r.to_dict() for r in seen])

    @property
    def rejections(self) -> list[Rejection | None]:
        """Why each row was rejected; None where it was not."""
        return [row and Rejection(**row) for row in self.table.column("rejected").to_pylist()]

    def with_rejections(self, rejections: Sequence[Rejection | None]) -> Dataset:
        """Returns a copy with each row's rejection (None keeps it)."""
        return self.with_columns(rejected=[_plain("rejected", r) for r in rejections])

    def with_scores(self, scores: Sequence[Mapping[str, float] | None]) -> Dataset:
        """Returns a copy with each row's scores (None where it was not judged)."""
        return self.with_columns(scores=[_listed(given) for given in scores])

    @property
    def rejection_counts(self) -> dict[str, int]:
        """Counts rejected examples by filter, most frequent first."""
        counts = Counter(row["filter"] for row in self.column("rejected") if row)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def label_counts(self) -> dict[str, int]:
        """Counts examples per class, in order of first appearance; numbers are left out."""
        counts: Counter[str] = Counter()
        for label in self.labels:
            tags = [label] if isinstance(label, str) else label
            counts.update(tags if isinstance(tags, list) else ())
        return dict(counts)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of every row and column, independent of Arrow's chunking."""
        digest = hashlib.sha256(str(self.table.column_names).encode())
        for batch in self.table.combine_chunks().to_batches(max_chunksize=8192):
            rows = json.dumps(batch.to_pylist(), ensure_ascii=False, sort_keys=True)
            digest.update(rows.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


Data: TypeAlias = Any
"""A `Dataset`, or what `as_dataset` takes in its place."""


def as_dataset(
    data: Data,
    *,
    columns: Mapping[str, str] | None = None,
    split: Split = "synthetic",
    classes: Collection[str] = (),
) -> Dataset:
    """Takes examples in any form that a user may have them in.

    Args:
        data: A `Dataset`, which is returned as it is; `Example`s; or what `records.table_of` takes.
        columns: Our column name to that of the data.
        split: The split of rows that name none.
        classes: As of `labels.unify_labels`.

    Raises:
        JapagenError: If it is anything else, or lacks a needed column.
    """
    if isinstance(data, Dataset):
        return data
    if library_of(data) == "builtins" and not isinstance(data, Mapping | str | tuple):
        data = list(data) if hasattr(data, "__iter__") else data
        if isinstance(data, list) and data and all(isinstance(e, Example) for e in data):
            return Dataset.of(data)
    return dataset_of(table_of(data), columns=columns, split=split, classes=classes)[0]


def dataset_of(
    table: Table,
    *,
    columns: Mapping[str, str] | None = None,
    split: Split = "synthetic",
    classes: Collection[str] = (),
    require_label: bool = False,
) -> tuple[Dataset, list[str]]:
    """Reads examples from a table, and where in it each stands, for messages: ``line 3``.

    Arguments and errors as of `read_examples`.
    """
    if split not in SPLITS:
        raise JapagenError(
            f"Unknown split '{split}'{nearest(split, SPLITS)}.",
            "Use train for gold, test, synthetic or unlabelled.",
        )
    rows, places = read_records(
        table,
        COLUMNS,
        columns=columns,
        classes=classes,
        unlabelled=split == "unlabelled",
        require_label=require_label,
    )
    source, examples = Path(table.path).name, []
    for row, where in zip(rows, places, strict=True):
        try:
            examples.append(Example.from_row({"split": split, "source": source, **row}))
        except (TypeError, ValueError, AttributeError) as error:
            raise unreadable(where, table.path, error) from None
    return Dataset.of(examples), places


def _need(package: str, purpose: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtraError(package, EXTRAS[package], purpose) from None


EXTRAS = {"pandas": "pandas", "polars": "polars", "datasets": "hf"}
"""The extra of japagen that brings each library whose tables are made."""


def html_table(title: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table for a notebook; everything in it is escaped.

    Args:
        title: Stands above it.
        names: Of the columns.
        rows: Their cells; numbers are rounded.
    """

    def cell(value: Any) -> str:
        if isinstance(value, float):
            value = f"{value:.3g}"
        return escape("、".join(value) if isinstance(value, list) else str(value or ""))

    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{cell(c)}</td>" for c in row) + "</tr>"
        for row in rows
    )
    shown = f"<thead><tr>{head}</tr></thead>" if names else ""
    return f"<div><b>{escape(title)}</b><table>{shown}<tbody>{body}</tbody></table></div>"


# How gold is split, so that what a text was written after can be told from what it was not.
# Shots are drawn from as few blocks of a label as hold them, and cross-validation holds out whole
# blocks: a synthetic text then judges the blocks that its prompt did not touch.

# Many small blocks: of n texts with s shown, whole blocks leave up to 1 - s/n of them untouched,
# and a fold that holds out one block of eight still trains on seven eighths of the gold.
BLOCKS = 8
# Labels with fewer texts show all they have in every prompt: there is nothing to hold out.
LEAST_TO_HOLD_OUT = 4


def gold_blocks(gold: Dataset, seed: int) -> dict[str, int]:
    """Assigns each label's texts to at most `BLOCKS` blocks of sizes that differ by one at most.

    The deal depends on ids, labels and the seed, not on the order of rows. Repetitions of one
    text share a block: one of them held out must not be known from the other.

    Args:
        gold: Labelled texts.
        seed: Of the deal.

    Returns:
        Id to the number of its block within its label, from 0.
    """
    copies: dict[tuple[str, str, str | None], list[str]] = defaultdict(list)
    columns = (gold.column(name) for name in ("text", "text_pair", "id"))
    for label, text, pair, id_ in zip(gold.labels, *columns, strict=True):
        copies[str(label), text, pair].append(id_)
    by_label: dict[str, list[list[str]]] = defaultdict(list)
    for (label, _, _), ids in copies.items():
        by_label[label].append(sorted(ids))
    found = {}
    for label, groups in by_label.items():
        groups.sort(key=lambda ids: hash_rank(f"{seed}/blocks/{label}/{ids[0]}"))
        number = min(BLOCKS, len(groups))
        found.update({id_: at % number for at, ids in enumerate(groups) for id_ in ids})
    return found


def hash_rank(key: str) -> str:
    """A key's place in an order that looks random and depends on nothing else."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def assign_folds(targets: npt.NDArray[np.int64], count: int, seed: int) -> npt.NDArray[np.int64]:
    """Deals rows into folds at random, each label evenly; shape (rows,)."""
    order = np.random.default_rng(seed).permutation(len(targets))
    order = order[np.argsort(targets[order], kind="stable")]
    folds = np.empty(len(targets), dtype=np.int64)
    folds[order] = np.arange(len(targets)) % count
    return folds
