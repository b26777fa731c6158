"""From tables to the fields of examples: of files, and of those that other libraries hold.

pandas, polars and `datasets` are known by the names of their types, so that none of them is
imported, or needed, by who uses another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from japagen.data.files import parse_json
from japagen.data.labels import parse_label, unify_labels
from japagen.data.tables import (
    Row,
    Table,
    arrow_table,
    class_names,
    column,
    folded,
    is_missing,
)
from japagen.errors import JapagenError

logger = logging.getLogger(__name__)
NESTED = ("register_asked", "register_seen", "rejected", "shot_ids", "scores", "fields")
# What is read of tables that japagen did not write, unless the others are named.
_PLAIN = ("id", "text", "text_pair", "label")
_LABELS = ("label", "label_asked")
SHARD = "the shard"
"""What a piece of a larger table is called."""
# What columns are usually called: one of these is taken where there is none of our own name.
_USUAL = {
    "text": "text texts sentence content body document message review comment "
    "本文 テキスト 文 文章 内容 原文 発話 コメント メッセージ",
    "label": "label labels category categories class classes target tag tags "
    "ラベル カテゴリ カテゴリー 分類 クラス 種別 区分 タグ",
}
_USUAL_PAIRS = (
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("premise", "hypothesis"),
    ("文1", "文2"),
    ("前提", "仮説"),
)


def read_records(
    table: Table,
    known: Collection[str],
    *,
    columns: Mapping[str, str] | None = None,
    classes: Collection[str] = (),
    unlabelled: bool = False,
    require_label: bool = False,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Reads the fields of examples from the rows of a table.

    Args:
        table: The table.
        known: Every field, all of which are read of a table that japagen wrote; of any other only
            ``id``, ``text``, ``text_pair`` and ``label`` are, and what ``columns`` names.
        columns: Our column name to the table's. Where there is neither a column that is named
            here nor one of our own name, texts and labels are taken from the one with a usual
            name; the log says from which.
        classes: As of `unify_labels`.
        unlabelled: Leave labels out.
        require_label: Refuse rows without a label.

    Returns:
        The fields of each row, labels all of one kind, and where each row stands.

    Raises:
        JapagenError: If there is no row, a needed column is missing, or a value is not what its
            column holds.
    """
    given = columns or {}
    optional = [
        n for n in (known if table.is_own else _PLAIN) if not unlabelled or n not in _LABELS
    ]
    taken = {} if table.is_own else usual_columns(table.names, given)
    taken = {ours: theirs for ours, theirs in taken.items() if ours in optional}
    if table.path != SHARD:  # of which the whole is told of
        log_taken(taken, table.path)
    needed = ("text", "label") if require_label else ("text",)
    wanted = {**{ours: taken.get(ours, ours) for ours in needed}, **given}
    mapping = {**{name: name for name in optional}, **taken, **wanted}
    places, rows = [], []
    there: dict[str, str | None] = {}
    names: Collection[str] | None = None
    for where, row in table.rows([column(n, table.names) or n for n in mapping.values()]):
        if not table.typed and not any(row.values()):
            continue  # Excel ends a CSV with rows of commas alone.
        if row.keys() != names:  # Those of JSON may differ from row to row.
            names, there = row.keys(), {o: column(theirs, row) for o, theirs in mapping.items()}
        if missing := next((ours for ours in wanted if there[ours] is None), None):
            raise no_column(missing, mapping[missing], row, where, table.path)
        rows.append(_fields(row, where, there, table))
        places.append(where)
    if not rows:
        raise JapagenError(f"Expected examples in {table.path}, found none.", "Fill it in.")
    if require_label:
        need_labels([row.get("label") for row in rows], [row["text"] for row in rows], table.path)
    ids = [row["id"] for row in rows if "id" in row]
    if not table.is_own and "id" not in wanted and len(set(ids)) < len(ids):
        # They name something else than texts, such as customers.
        for row in rows:
            row.pop("id", None)
    cells = [row.get(name) for name in _LABELS for row in rows]
    if table.is_own and table.typed and not _is_excel(table):
        # Where japagen wrote lists as such, no text is one.
        classes = [cell for cell in cells if isinstance(cell, str)]
    found = unify_labels(cells, classes=classes, is_own=table.is_own, typed=table.typed)
    for number, label in enumerate(found):
        rows[number % len(rows)][_LABELS[number // len(rows)]] = label
    return rows, places


def _is_excel(table: Table) -> bool:
    return str(table.path).lower().endswith(".xlsx")


def log_taken(taken: Mapping[str, str], where: Path | str) -> None:
    """Says which columns were taken for ours, as `usual_columns` finds them."""
    for ours, theirs in taken.items():
        logger.info("Took the column '%s' of %s for the %s.", theirs, where, ours)


def need_labels(labels: Sequence[Any], texts: Sequence[str], where: Path | str) -> None:
    """Refuses rows without a label.

    Raises:
        JapagenError: Naming the first of them.
    """
    for number, (label, text) in enumerate(zip(labels, texts, strict=True), start=1):
        if label is None:
            raise JapagenError(
                f"Expected a label on every row of {where}, found none on row {number}: "
                f"'{text[:30]}'.",
                "Label the row or remove it. Where a text may have none of several labels, "
                "write [].",
            )


def usual_columns(
    names: Sequence[str], given: Collection[str] = (), *, pairs: bool = True
) -> dict[str, str]:
    """Our columns to those of a table that have a usual name for them.

    Args:
        names: The table's columns.
        given: Those of ours that are not looked for.
        pairs: Whether a text may come in two columns.

    Returns:
        Those of ours that the table lacks, where it has just one with a usual name.
    """
    by_key = {folded(name).casefold(): name for name in names}
    missing = [n for n in ("text", "label") if n not in given and column(n, names) is None]
    found = {}
    for ours in missing:
        there = [by_key[key] for key in _USUAL[ours].split() if key in by_key]
        if len(there) == 1:
            found[ours] = there[0]
    if pairs and "text" in missing and "text" not in found and "text_pair" not in given:
        for first, second in _USUAL_PAIRS:
            if first in by_key and second in by_key:
                return {**found, "text": by_key[first], "text_pair": by_key[second]}
    return found


def _fields(
    row: Mapping[str, Any],
    where: str,
    there: Mapping[str, str | None],
    table: Table,
) -> dict[str, Any]:
    """What a row says under our names, of which ``there`` says which column has them."""
    path, values = table.path, {}
    for ours, theirs in there.items():
        if theirs is not None and not is_missing(row[theirs]):
            values[ours] = row[theirs]
    if _is_excel(table):  # where a text of digits is a number
        for ours in ("text", "text_pair"):
            if isinstance(values.get(ours), int | float):
                values[ours] = str(values[ours])
    text = values.get("text")
    if not isinstance(text, str) or not (text.strip() or values.get("rejected")):
        raise JapagenError(
            f"Expected a text on {where} of {path}, found {text!r}.",
            "Fill it in or remove the row.",
        )
    try:
        for ours in _LABELS:
            if ours in values:
                classes = table.classes.get(there[ours] or "")
                values[ours] = parse_label(values[ours], classes)
        for name, convert in _CONVERT.items():
            if name in values:
                values[name] = convert(values[name])
        weight = values.pop("weight", None)
        if weight is not None:
            # The written weight is the product; reading both factors and it would count twice.
            values.setdefault("weight_distribution", float(weight))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise unreadable(where, path, error) from None
    return values


def unreadable(where: str, path: Path | str, error: Exception) -> JapagenError:
    """The error for a value that is not what its column holds."""
    return JapagenError(
        f"A value on {where} of {path} is not what its column holds: {error}.", "Correct it."
    )


def no_column(
    ours: str, theirs: str, row: Mapping[str, Any], where: str, path: Path | str
) -> JapagenError:
    """The error for a column that is not there."""
    return JapagenError(
        f"Expected a column '{theirs}' for the {ours} in {path}, "
        f"found on {where}: {', '.join(map(str, row)) or 'nothing'}.",
        f"Name it: columns={{'{ours}': 'YOUR_COLUMN'}}"
        if isinstance(path, str)
        else f"Name it in the task file, columns: {{{ours}: YOUR_COLUMN}}, or on the command line "
        f"with --column {ours}=YOUR_COLUMN",
    )


def _parsed(value: Any) -> Any:
    return parse_json(value) if isinstance(value, str) else value


def _mapping(value: Any) -> dict[str, Any]:
    value = _parsed(value)
    if not isinstance(value, dict):
        raise TypeError(f"an object of fields is expected, not {value!r:.40}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is expected, not {value!r}")
    return value


_CONVERT: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(NESTED, _parsed),
    "fields": _mapping,
    "text_pair": _text,
    "id": str,
    "round": int,
    "seed": int,
    "weight_distribution": float,
    "weight_label": float,
}


# Tables that are not in files.


def table_of(data: Any) -> Table:
    """Makes a table of what another library, or the user's own code, holds in memory.

    Args:
        data: A DataFrame or Series of pandas or polars, a `Dataset` of `datasets`, an Arrow table,
            texts with their labels ``(texts, labels)``, a mapping of columns, or records: texts,
            ``(text, label)``, ``(text, text_pair, label)`` or dictionaries.

    Raises:
        JapagenError: If it is anything else.
    """
    library, name = library_of(data), type(data).__name__
    if library == "polars" and hasattr(data, "collect"):
        data, name = data.collect(), "DataFrame"
    if library == "polars" and name == "DataFrame":
        data, library = data.to_arrow(), "pyarrow"
    if library == "pyarrow" and isinstance(data, pa.Table):
        return arrow_table(name, name, lambda: data.schema, lambda _: data.to_batches())
    if library == "pandas" and name.endswith("Frame"):
        cells = [_values(data.iloc[:, at]) for at in range(data.shape[1])]
        return _of_columns([str(each) for each in data.columns], cells, name)
    if library == "datasets":
        return _of_datasets(data, name)
    if isinstance(data, Mapping):
        return _of_columns([str(each) for each in data], [*map(_values, data.values())], name)
    if isinstance(data, tuple) and len(data) == 2 and not any(isinstance(d, str) for d in data):
        cells = [*map(_values, data)]
        return _of_columns(["text", "label"], cells, "(texts, labels)")
    if isinstance(data, str | bytes | Path) or not (hasattr(data, "__iter__")):
        raise _no_table(data)
    return _of_records(_values(data), name)


def library_of(data: Any) -> str:
    """The package that an object's type comes from, or one that it is made from."""
    homes = [base.__module__.partition(".")[0] for base in type(data).__mro__]
    return next((home for home in homes if home in ("pandas", "polars", "datasets")), homes[0])


def _no_table(data: Any) -> JapagenError:
    return JapagenError(
        f"Expected texts as a Dataset, a DataFrame or a list, found {type(data).__name__}.",
        "Give a DataFrame with columns text and label, a list of (text, label), or what "
        "read_examples reads from a file.",
    )


def _values(column: Any) -> list[Any]:
    """A column's values as Python has them: None where one is missing."""
    if library_of(column) == "pandas":
        column = column.astype(object).where(column.notna(), None)
    listed = column.to_list() if hasattr(column, "to_list") else list(column)
    return [_plain(value) for value in listed]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _of_columns(names: Sequence[str], cells: Sequence[Sequence[Any]], name: str) -> Table:
    lengths = sorted({len(column) for column in cells})
    if len(lengths) > 1:
        raise JapagenError(
            f"Expected as many texts as labels, found {lengths[0]} and {lengths[-1]} in {name}.",
            "Give one label per text.",
        )

    def rows(_: Collection[str] | None = None) -> Iterator[Row]:
        for number, row in enumerate(zip(*cells, strict=True), start=1):
            yield f"row {number}", dict(zip(names, row, strict=True))

    return Table(name, names, rows)


_TUPLES = {1: ("text",), 2: ("text", "label"), 3: ("text", "text_pair", "label")}


def _of_records(records: Sequence[Any], name: str) -> Table:
    """A table of records of one form."""
    if all(isinstance(record, Mapping) for record in records):
        named: Sequence[Mapping[str, Any]] = records
    else:
        listed = [(r,) if isinstance(r, str) or r is None else r for r in records]
        widths = {len(r) if isinstance(r, tuple | list) else 0 for r in listed}
        if len(widths) != 1 or not widths <= set(_TUPLES):
            kinds = sorted({type(record).__name__ for record in records})
            raise JapagenError(
                f"Expected records of one form, found {', '.join(kinds)} in {name}.",
                "Give texts alone, (text, label), (text, text_pair, label) or dictionaries.",
            )
        named = [dict(zip(_TUPLES[len(r)], map(_plain, r), strict=True)) for r in listed]
    names = list(dict.fromkeys(map(str, chain.from_iterable(named))))

    def rows(_: Collection[str] | None = None) -> Iterator[Row]:
        for number, record in enumerate(named, start=1):
            yield f"row {number}", {key: _plain(record.get(key)) for key in names}

    return Table(name, names, rows)


def _of_datasets(data: Any, name: str) -> Table:
    """A split of `datasets`; its class ids are read as the names of the classes."""
    if isinstance(data, Mapping):
        raise JapagenError(
            f"Expected one split, found {', '.join(map(str, data))} in {name}.",
            f"Give one of them: data['{next(iter(data), 'train')}']",
        )
    if not hasattr(data, "with_format") or not hasattr(data, "num_rows"):
        return _of_records(list(data), name)  # streamed
    table = data.with_format("arrow")[:]
    schema = data.features.arrow_schema
    found = arrow_table(name, name, lambda: table.schema, lambda _: table.to_batches())
    return Table(name, found.names, found.rows, class_names(schema))
