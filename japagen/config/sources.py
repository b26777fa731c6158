"""Sections of a task file on files: where texts, seed rows and what else is read come from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from japagen.config.sections import Count, Name, Section, validated
from japagen.data.dataset import Dataset, Split, as_dataset
from japagen.data.labels import Kind
from japagen.errors import JapagenError

_COLUMNS = ("text", "text_pair", "label", "id", "weight")


def _known_columns(columns: dict[str, str]) -> dict[str, str]:
    for name in columns:
        if name not in _COLUMNS:
            raise ValueError(f"'{name}' is none of {', '.join(_COLUMNS)}; write OURS: YOURS")
    return columns


# Our column name to the file's.
Columns = Annotated[dict[str, str], AfterValidator(_known_columns)]


class Pair(Section):
    """Texts come in pairs.

    Attributes:
        first: What the first text is called in Japanese, for example 前提.
        second: What the second is called, for example 仮説.
    """

    first: Annotated[str, Field(min_length=1)] = "文1"
    second: Annotated[str, Field(min_length=1)] = "文2"


class _TextSource(Section):
    """Texts: a file of them, in whose place code may give them (a run writes those to a file)."""

    _data: Dataset | None = PrivateAttr(None)

    @property
    def data(self) -> Dataset | None:
        """The texts, where they are given in code."""
        return self._data


class Source(_TextSource):
    """A file of examples.

    Attributes:
        path: CSV, JSONL or Parquet; relative to the task file.
        columns: Our column name to the file's, for example ``{text: 本文, label: 分類}``.
        encoding: The file's encoding; CSV and JSONL only.
        per_label: Draw this many texts per label (seeded) instead of using all; for gold only.
    """

    path: Path
    columns: Columns = {}
    encoding: str = "utf-8"
    per_label: Count | None = None


class SourceEntry(_TextSource):
    """A writer of synthetic texts: an LLM whose texts are in a file, or the task's own generator.

    Attributes:
        name: What the source is called in data and reports: letters, digits, ``_``, ``.`` and
            ``-``; a source has it alone.
        path: CSV, JSONL or Parquet of labelled texts that were written already; relative to the
            task file.
        columns: Our column name to the file's, for example ``{text: 本文, label: 分類}``.
        encoding: The file's encoding; CSV and JSONL only.
        generator: In place of a path, the task's ``generator`` writes ``generation.per_label``
            texts per label; one source at most.
        yen: What the texts cost. The generator's are counted at its price when absent.
    """

    name: Annotated[Name, Field(max_length=64)]
    path: Path | None = None
    columns: Columns = {}
    encoding: str = "utf-8"
    generator: bool = False
    yen: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _file_or_generator(self) -> SourceEntry:
        if self.generator == (self.path is not None):
            raise ValueError(
                f"the source '{self.name}' needs a path or generator: true, and not both"
            )
        return self

    @property
    def file(self) -> Source | None:
        """The file; None of the generator."""
        if self.path is None:
            return None
        source = Source(path=self.path, columns=self.columns, encoding=self.encoding)
        source._data = self._data
        return source


def _distinct(sources: tuple[SourceEntry, ...]) -> tuple[SourceEntry, ...]:
    if not sources:
        raise ValueError("name at least one source, or leave the key out to use only the generator")
    names = [source.name for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two sources are called '{twice}'; give each a name of its own")
    own = [source.name for source in sources if source.generator]
    if len(own) > 1:
        raise ValueError(
            f"the generator of the task can be only one source, found {' and '.join(own)}"
        )
    return sources


_SPLITS: Mapping[str | None, Split] = {"gold": "train", "test": "test", "sources": "synthetic"}


def _with_data(value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Reads a source that code gives: its path alone, examples in memory, or those with keys."""
    data = None
    if isinstance(value, str | Path):
        value = {"path": value}
    elif isinstance(value, Mapping) and "data" in value:
        data, value = value["data"], {key: part for key, part in value.items() if key != "data"}
    elif value is not None and not isinstance(value, Section | Mapping):
        data, value = value, {}
    if data is None:
        return validate(value)
    source = validate({"path": Path(type(data).__name__), **value})
    split = _SPLITS.get(info.field_name, "unlabelled")
    # Of a task, whose kind and labels stand before its texts.
    classes = info.data.get("labels", ()) if info.data.get("kind") == "classification" else ()
    source._data = as_dataset(data, columns=source.columns, split=split, classes=classes)
    return source


GivenSource = Annotated[Source | None, WrapValidator(_with_data)]
"""A file, or what `as_dataset` takes: alone, or as ``data`` beside ``columns``."""


def _listed(value: Any) -> Any:
    """Sources as code may give them: texts by the names of their writers, or texts alone."""
    if isinstance(value, Mapping) and "text" in value:  # columns
        return [{"name": "synthetic", "data": value}]
    if isinstance(value, Mapping):
        # A task file that forgot the list has the keys of an entry.
        misplaced = value and value.keys() <= SourceEntry.model_fields.keys()
        return value if misplaced else [_named(name, one) for name, one in value.items()]
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, list | tuple) and not _are_records(value):
        return value
    return [{"name": "synthetic", "data": value}]


def _named(name: str, one: Any) -> dict[str, Any]:
    if isinstance(one, str | Path):
        return {"name": name, "path": one}
    if not isinstance(one, Source | SourceEntry):
        return {"name": name, "data": one}
    if one.data is not None:
        return {"name": name, "data": one.data}
    return {**one.model_dump(exclude={"name", "per_label"}), "name": name}


def _are_records(values: Sequence[Any]) -> bool:
    return bool(values) and all(
        isinstance(one, tuple) or (isinstance(one, Mapping) and "text" in one) for one in values
    )


Sources = Annotated[
    tuple[Annotated[SourceEntry, WrapValidator(_with_data)], ...],
    BeforeValidator(_listed),
    AfterValidator(_distinct),
]


class _Given(Section):
    """Sources that are given beside a task, of whose labels they are."""

    kind: str | None = None
    labels: tuple[str, ...] = ()
    sources: Sources


def given_sources(given: Any, kind: Kind | None = None, labels: Iterable[str] = ()) -> Sources:
    """Makes sources of what is given beside a task.

    Args:
        given: A file or several, each of which is named after itself; texts in memory; or a
            mapping from the names of writers to any of these.
        kind: The task's.
        labels: The task's.

    Raises:
        JapagenError: If two files have one name, a name cannot be that of a source, or texts are
            not what they should be.
    """
    listed = given if isinstance(given, list | tuple) else [given]
    if isinstance(given, Mapping) and all(isinstance(name, str) for name in given):
        given = dict(given)
    elif all(isinstance(one, str | Path | Source | SourceEntry) for one in listed):
        given = [_entry(one) for one in listed]
    else:
        given = {"synthetic": given}
    known = {"kind": kind, "labels": tuple(labels), "sources": given}
    return validated(_Given, known, "synthetic").sources


def _entry(one: str | Path | Source | SourceEntry) -> Any:
    if isinstance(one, SourceEntry):
        return one
    file = one if isinstance(one, Source) else Source(path=Path(one))
    return {**file.model_dump(exclude={"per_label"}), "name": _name_of(file.path)}


def sources_from_options(
    files: Iterable[str], columns: Iterable[str], encoding: str = "utf-8"
) -> Sources:
    """Parses the sources of ``--synthetic``, each ``FILE`` or ``NAME=FILE``.

    Args:
        files: What the option was given.
        columns: Our columns to those of all the files, as ``OURS=YOURS``.
        encoding: Of all the text files.

    Raises:
        JapagenError: If a column is written otherwise or is none of ours, or two sources have
            one name.
    """
    mapping = column_options(columns)
    entries = []
    for file in files:
        name, equals, path = file.partition("=")
        # A file's own name may have the sign in it.
        if not equals or Path(file).is_file():
            name, path = _name_of(Path(file)), file
        entries.append({"name": name, "path": path, "columns": mapping, "encoding": encoding})
    return validated(_Given, {"sources": entries}, "--synthetic").sources


def column_options(given: Iterable[str] | None) -> dict[str, str]:
    """Our columns to a file's, from options ``OURS=YOURS`` or ``FILE.OURS=YOURS``.

    Raises:
        JapagenError: If one is written otherwise, or is none of our columns.
    """
    mapping = {}
    for option in given or ():
        ours, equals, theirs = option.partition("=")
        if not (ours and equals and theirs):
            raise JapagenError(
                f"Expected --column key=value, found '{option}'.",
                "For example: --column text=本文",
            )
        mapping[ours.strip()] = theirs
    known = {ours.rpartition(".")[2]: theirs for ours, theirs in mapping.items()}
    validated(Source, {"path": Path(), "columns": known}, "--column")
    return mapping


def _name_of(path: Path) -> str:
    """A file's name without its suffix, and without what a source's name cannot have."""
    return re.sub(r"[^\w.\-]+", "-", path.stem).strip("-")[:64] or "file"


class SeedSource(Section):
    """A table whose columns prompts may name: each text is asked for with one of its rows.

    Attributes:
        path: CSV, Excel, JSONL, Parquet or a directory of `datasets`; relative to the task file.
        columns: The columns that prompts may name, in the order in which the built-in ones say
            them; all but ``id``, ``uuid`` and ``weight`` if not set.
        role: What a row is to the built-in prompts: the ``writer`` of the text, or ``material``
            that it is about.
        order: ``in_order`` takes the rows as they stand, from the first one for every label,
            ``shuffled`` in an order that the task's ``seed`` draws; either way no row comes again
            before the others of its label did. ``weighted`` takes them as often as they weigh.
        weight: The column of weights; a row of weight 0 is never drawn.
        encoding: The file's encoding; CSV and JSONL only.
    """

    path: Path
    columns: tuple[str, ...] = ()
    role: Literal["writer", "material"] = "writer"
    order: Literal["in_order", "shuffled", "weighted"] = "shuffled"
    weight: str | None = None
    encoding: str = "utf-8"

    @model_validator(mode="after")
    def _weight_when_weighted(self) -> SeedSource:
        if (self.order == "weighted") != (self.weight is not None):
            raise ValueError("order: weighted and a weight, the name of a column, go together")
        return self
