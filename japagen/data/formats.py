"""The only reader and writer of files of examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from japagen.data.dataset import Dataset, Example, Split
from japagen.data.files import atomic, parse_json, refuse_existing
from japagen.data.labels import parse_label, unify_labels
from japagen.data.tables import (
    Table,
    column,
    decoded_lines,
    format_of,
    is_known,
    is_missing,
    open_table,
    text_lines,
    write_rows,
)
from japagen.errors import DamagedError, JapagenError

_NESTED = ("register_asked", "register_seen", "rejected", "shot_ids")
_COLUMNS = (*Example.__dataclass_fields__, "weight")
# What is read of files that japagen did not write, unless the others are named.
_PLAIN = ("id", "text", "text_pair", "label")
_LABELS = ("label", "label_asked")


def read_examples(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: Split = "synthetic",
    encoding: str | None = "utf-8",
    require_label: bool = False,
) -> Dataset:
    """Reads a file of examples: CSV, TSV, JSON, Parquet, Excel or a directory of `datasets`.

    Of a file that japagen wrote every column is read, and ``weight`` becomes
    ``weight_distribution``. Of any other only ``id``, ``text``, ``text_pair`` and ``label`` are,
    and what ``columns`` names: its ``round`` or ``weight`` may be anything, and ids that repeat
    name something else. Labels are left out where the split is ``unlabelled``.

    Args:
        path: The file; its suffix says the format.
        columns: Our column name to the file's, for example ``{"text": "本文"}``.
        split: The split of rows that name none.
        encoding: Encoding of a text file; found out when None.
        require_label: Refuse rows without a label.

    Returns:
        The examples in file order. Their labels are of one kind: lists where any row has a list;
        classes where any has a text or all are whole numbers; else numbers.

    Raises:
        JapagenError: If the file is missing, empty, of another encoding, broken, or lacks a
            needed column.
    """
    examples, _ = read_with_places(
        path, columns=columns, split=split, encoding=encoding, require_label=require_label
    )
    return examples


def read_with_places(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: Split = "synthetic",
    encoding: str | None = "utf-8",
    require_label: bool = False,
) -> tuple[Dataset, list[str]]:
    """Reads examples, and where in the file each stands, for messages: ``line 3``.

    Arguments and errors as of `read_examples`.
    """
    table = open_table(Path(path), encoding)
    needed = {"text": "text", **({"label": "label"} if require_label else {}), **(columns or {})}
    optional = _COLUMNS if table.is_own else _PLAIN
    if split == "unlabelled":
        optional = tuple(name for name in optional if name not in _LABELS)
    mapping = {**{name: name for name in optional}, **needed}
    places, rows = [], []
    for where, row in table.rows([column(n, table.names) or n for n in mapping.values()]):
        if not table.typed and not any(row.values()):
            continue  # Excel ends a CSV with rows of commas alone.
        rows.append(_fields(row, where, mapping, needed, table))
        places.append(where)
    if not rows:
        raise JapagenError(f"Expected examples in {path}, found none.", "Fill it in.")
    if require_label:
        for number, row in enumerate(rows, start=1):
            if row.get("label") is None:
                raise JapagenError(
                    f"Expected a label on every row of {path}, found none on row {number}: "
                    f"'{row['text'][:30]}'.",
                    "Label the row or remove it. Where a text may have none of several labels, "
                    "write [].",
                )
    ids = [row["id"] for row in rows if "id" in row]
    if not table.is_own and "id" not in needed and len(set(ids)) < len(ids):
        # They name something else than texts, such as customers.
        for row in rows:
            row.pop("id", None)
    cells = [row.get(name) for name in _LABELS for row in rows]
    found = unify_labels(cells, is_own=table.is_own, typed=table.typed)
    for number, label in enumerate(found):
        rows[number % len(rows)][_LABELS[number // len(rows)]] = label
    made = (
        _example(row, where, table.path, split) for row, where in zip(rows, places, strict=True)
    )
    return Dataset.of(made), places


def _fields(
    row: dict[str, Any],
    where: str,
    mapping: Mapping[str, str],
    needed: Mapping[str, str],
    table: Table,
) -> dict[str, Any]:
    """What a row says under our names."""
    path, values = table.path, {}
    for ours, theirs in mapping.items():
        there = column(theirs, row)
        if there is None and ours in needed:
            raise _no_column(ours, theirs, row, where, path)
        if there is not None and not is_missing(row[there]):
            values[ours] = row[there]
    if path.suffix.lower() == ".xlsx":  # where a text of digits is a number
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
                there = column(mapping[ours], row) or ""
                values[ours] = parse_label(values[ours], table.classes.get(there))
        for name, convert in _CONVERT.items():
            if name in values:
                values[name] = convert(values[name])
        weight = values.pop("weight", None)
        if weight is not None:
            # The written weight is the product; reading both factors and it would count twice.
            values.setdefault("weight_distribution", float(weight))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _unreadable(where, path, error) from None
    return values


def _example(row: dict[str, Any], where: str, path: Path, split: Split) -> Example:
    try:
        return Example.from_row({"split": split, "source": path.name, **row})
    except (TypeError, ValueError, AttributeError) as error:
        raise _unreadable(where, path, error) from None


def _unreadable(where: str, path: Path, error: Exception) -> JapagenError:
    return JapagenError(
        f"A value on {where} of {path} is not what its column holds: {error}.", "Correct it."
    )


def _no_column(
    ours: str, theirs: str, row: Mapping[str, Any], where: str, path: Path
) -> JapagenError:
    return JapagenError(
        f"Expected a column '{theirs}' for the {ours} in {path}, "
        f"found on {where}: {', '.join(map(str, row)) or 'nothing'}.",
        f"Name it in the task file, columns: {{{ours}: YOUR_COLUMN}}, or on the command line with "
        f"--column {ours}=YOUR_COLUMN",
    )


def _parsed(value: Any) -> Any:
    return parse_json(value) if isinstance(value, str) else value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is expected, not {value!r}")
    return value


_CONVERT: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_NESTED, _parsed),
    "text_pair": _text,
    "id": str,
    "round": int,
    "seed": int,
    "weight_distribution": float,
    "weight_label": float,
}


def load_dataset(path: Path) -> Dataset:
    """Reads a Parquet file that `write_examples` wrote in a run directory, exactly as it was.

    Unlike `read_examples` it takes rows without a text, which failed requests leave.

    Raises:
        DamagedError: If the file is not whole.
    """
    try:
        return Dataset.from_table(_whole(path))
    except (pa.ArrowException, KeyError, OSError, TypeError, ValueError) as error:
        raise DamagedError(path) from error


def read_table(path: Path) -> pa.Table:
    """Reads a Parquet file that `write_table` wrote.

    Raises:
        DamagedError: If the file is missing or not whole.
    """
    try:
        return _whole(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedError(path) from error


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a table of anything but examples as Parquet, whole or not at all."""
    with atomic(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def _whole(path: Path) -> pa.Table:
    """Reads Parquet and checks all of it: a flipped bit may leave text that is none."""
    table = pq.read_table(path, page_checksum_verification=True)
    table.validate(full=True)
    return table


def write_examples(
    path: str | Path, dataset: Dataset, *, bom: bool = False, escape_formulas: bool | None = None
) -> None:
    """Writes a dataset with its provenance and final ``weight``; the suffix says the format.

    The file appears whole or not at all. `read_examples` reads it as it was.

    Args:
        path: A file in a format that `read_examples` reads; replaced if it exists.
        dataset: The examples.
        bom: For Excel: start a CSV or TSV with a byte order mark.
        escape_formulas: Put ``'`` before texts of a CSV or TSV that a spreadsheet would take for
            formulas; as ``bom`` when None.

    Raises:
        JapagenError: If the suffix is not a known format.
    """
    path = Path(path)
    if format_of(path) == "parquet":
        weight = pa.array(dataset.weights, pa.float64())
        write_table(path, dataset.table.append_column("weight", weight))
    else:
        escape = bom if escape_formulas is None else escape_formulas
        write_rows(path, _rows(dataset), _COLUMNS, bom=bom, escape_formulas=escape)


def check_new(path: str | Path, *, overwrite: bool = False) -> None:
    """Refuses a path that `write_examples` could not write, or that is taken.

    Raises:
        JapagenError: If the suffix is not a known format, or something is there already.
    """
    path = Path(path)
    format_of(path)
    if path.is_dir():
        raise JapagenError(f"{path} is there already.", "Choose another path.")
    refuse_existing(path, overwrite)


def _rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    weights = iter(dataset.weights.tolist())
    for batch in dataset.table.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            yield {**row, "weight": round(next(weights), 6)}


@dataclass(frozen=True)
class TextRow:
    """A text, or a pair, with all that its file says beside it.

    Attributes:
        text: The text; empty where the row has none.
        text_pair: The second text, where pairs are read.
        values: The row by the file's own columns; of a line its text alone.
    """

    text: str
    text_pair: str | None
    values: Mapping[str, Any]


def read_rows(
    file: Path | None,
    stream: Iterable[str | bytes],
    *,
    pairs: bool = False,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> Iterator[TextRow]:
    """Yields the rows of a file that `read_examples` reads, or the lines of any other.

    Whatever the file, it is read a few rows at a time.

    Args:
        file: The file; ``-`` or None for the stream.
        stream: Read line by line, so that answers can come before it ends.
        pairs: Whether every row holds two texts: columns text and text_pair, or a line with a
            tab in between.
        columns: Our column name to the file's.
        encoding: Of a text file or of bytes in the stream; found out when None.

    Raises:
        JapagenError: If the file cannot be read, or a row of pairs holds one text alone.
    """
    if file is not None and str(file) != "-" and is_known(file):
        table = open_table(file, encoding)
        names = ("text", "text_pair") if pairs else ("text",)
        for where, row in table.rows(None):
            texts = []
            for ours in names:
                theirs = (columns or {}).get(ours, ours)
                there = column(theirs, row)
                if there is None:
                    raise _no_column(ours, theirs, row, where, file)
                texts.append(_written(row[there], where, file))
            yield TextRow(texts[0], texts[1] if pairs else None, row)
        return
    for number, line in enumerate(_plain_lines(file, stream, encoding), start=1):
        first, tab, second = line.partition("\t")
        if not pairs:
            yield TextRow(line, None, {"text": line})
            continue
        if not tab and line.strip():
            raise JapagenError(
                f"Expected two texts with a tab between them on line {number}, found "
                f"'{line[:30]}'.",
                "This classifier was trained on pairs.",
            )
        yield TextRow(first, second, {"text": first, "text_pair": second})


def read_texts(
    file: Path | None,
    stream: Iterable[str | bytes],
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> Iterator[str]:
    """Yields the texts alone; arguments and errors as of `read_rows`."""
    rows = read_rows(file, stream, columns=columns, encoding=encoding)
    return (row.text for row in rows)


def _written(value: Any, where: str, path: Path) -> str:
    """A cell as text: what is missing, also as NaN, is empty, and Excel holds 123 as a number."""
    if is_missing(value):
        return ""
    if isinstance(value, str | int | float):
        return str(value)
    raise JapagenError(
        f"Expected a text on {where} of {path}, found {value!r}.", "Fill it in or remove the row."
    )


def _plain_lines(
    file: Path | None, stream: Iterable[str | bytes], encoding: str | None
) -> Iterator[str]:
    if file is None or str(file) == "-":
        # What lies under standard input as text.
        lines = getattr(stream, "buffer", stream)
        yield from (line.rstrip("\r\n") for line in decoded_lines(lines, encoding))
        return
    if file.is_dir() or not file.exists():  # it may be a pipe
        raise JapagenError(f"There is no file at {file}.", "Check the path.")
    yield from (line.rstrip("\r\n") for line in text_lines(file, encoding))
