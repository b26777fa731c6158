"""The only reader and writer of files of examples."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from japagen.data.dataset import COLUMNS, Dataset, Split, dataset_of
from japagen.data.files import atomic, refuse_existing
from japagen.data.records import SHARD, log_taken, no_column, usual_columns
from japagen.data.shards import ROW
from japagen.data.tables import (
    arrow_table,
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


def read_examples(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: Split = "synthetic",
    encoding: str | None = "utf-8",
    classes: Collection[str] = (),
    require_label: bool = False,
) -> Dataset:
    """Reads a file of examples: CSV, TSV, JSON, Parquet, Excel or a directory of `datasets`.

    Of a file that japagen wrote every column is read, and ``weight`` becomes
    ``weight_distribution``. Of any other only ``id``, ``text``, ``text_pair`` and ``label`` are,
    and what ``columns`` names: its ``round`` or ``weight`` may be anything, and ids that repeat
    name something else. Where it has no ``text`` or ``label``, the column with a usual name for
    them is taken, such as 本文, sentence, カテゴリ or category. Labels are left out where the
    split is ``unlabelled``.

    Args:
        path: The file; its suffix says the format.
        columns: Our column name to the file's, for example ``{"text": "本文"}``.
        split: The split of rows that name none.
        encoding: Encoding of a text file; found out when None.
        classes: The names of classes, where labels are known to be classes: one that looks like
            a list is none.
        require_label: Refuse rows without a label.

    Returns:
        The examples in file order. Their labels are of one kind: lists where any row has a list;
        classes where any has a text or all are whole numbers; else numbers.

    Raises:
        JapagenError: If the file is missing, empty, of another encoding, broken, or lacks a
            needed column.
    """
    examples, _ = read_with_places(
        path,
        columns=columns,
        split=split,
        encoding=encoding,
        classes=classes,
        require_label=require_label,
    )
    return examples


def read_with_places(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: Split = "synthetic",
    encoding: str | None = "utf-8",
    classes: Collection[str] = (),
    require_label: bool = False,
) -> tuple[Dataset, list[str]]:
    """Reads examples, and where in the file each stands, for messages: ``line 3``.

    Arguments and errors as of `read_examples`.
    """
    return dataset_of(
        open_table(Path(path), encoding),
        columns=columns,
        split=split,
        classes=classes,
        require_label=require_label,
    )


def dataset_of_shard(
    rows: pa.Table,
    *,
    columns: Mapping[str, str] | None = None,
    typed: bool = True,
    split: Split = "synthetic",
    require_label: bool = False,
) -> Dataset:
    """Reads examples from a piece of a larger table, as `read_examples` would from the whole.

    Ids that the input does not give are made of content and row number: contents may come again in
    other pieces.

    Args:
        rows: With the column `ROW`.
        columns: Our column name to the table's.
        typed: Whether the file told numbers from texts.
        split: The split of rows that name none.
        require_label: Refuse rows without a label.

    Raises:
        JapagenError: If a needed column is missing, or a value is not what it should be.
    """
    numbers, rest = rows.column(ROW).to_pylist(), rows.drop_columns([ROW])
    if not len(rows):
        return Dataset.of([])
    table = arrow_table(SHARD, "a table", lambda: rest.schema, lambda _: rest.to_batches())
    if table.is_own and not columns:
        with suppress(pa.ArrowException):  # as where JSON or CSV was cut
            return Dataset.from_table(rest)
    found, _ = dataset_of(
        replace(table, typed=typed), columns=columns, split=split, require_label=require_label
    )
    given = column((columns or {}).get("id", "id"), rest.column_names)
    if given is not None and [str(v) for v in rest.column(given).to_pylist()] == found.column("id"):
        return found
    made = zip(found.column("id"), numbers, strict=True)
    return found.with_columns(id=[f"{name[:16]}-{number}" for name, number in made])


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
        write_table(path, dataset.weighted_table)
    else:
        escape = bom if escape_formulas is None else escape_formulas
        names = [*COLUMNS, *dataset.field_names]
        write_rows(path, dataset.iter_records(), names, bom=bom, escape_formulas=escape)


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
        usual = usual_columns(table.names, columns or (), pairs=pairs)
        taken = {ours: theirs for ours, theirs in usual.items() if ours in names}
        log_taken(taken, file)
        known = {**taken, **(columns or {})}
        for where, row in table.rows(None):
            texts = []
            for ours in names:
                theirs = known.get(ours, ours)
                there = column(theirs, row)
                if there is None:
                    raise no_column(ours, theirs, row, where, file)
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
