"""The only reader and writer of JSONL, CSV and Parquet files of examples."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from japagen.data.dataset import Dataset, Example, Split
from japagen.data.files import atomic, parse_json
from japagen.errors import DamagedError, JapagenError

Format = Literal["jsonl", "csv", "tsv", "parquet"]
_SUFFIXES: Mapping[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_DELIMITERS: Mapping[Format, str] = {"csv": ",", "tsv": "\t"}
_PARQUET_ROWS = 1024  # that are in memory at a time
_NESTED = ("register_asked", "register_seen", "rejected", "shot_ids")
_COLUMNS = frozenset(Example.__dataclass_fields__)


def read_examples(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: Split = "synthetic",
    encoding: str = "utf-8",
    require_label: bool = False,
) -> Dataset:
    """Reads a CSV, TSV, JSONL or Parquet file of examples.

    Args:
        path: The file; its suffix says the format.
        columns: Our column name to the file's, for example ``{"text": "本文"}``.
        split: The split of rows that name none.
        encoding: Encoding of CSV, TSV and JSONL files.
        require_label: Refuse rows without a label.

    Returns:
        The examples in file order. A ``weight`` column becomes ``weight_distribution``;
        columns that japagen does not know are left out.

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
    encoding: str = "utf-8",
    require_label: bool = False,
) -> tuple[Dataset, list[str]]:
    """Reads examples, and where in the file each stands, for messages: ``line 3``.

    Arguments and errors as of `read_examples`.
    """
    path = Path(path)
    form = _format_of(path)
    if not path.is_file():
        raise JapagenError(f"There is no file at {path}.", "Check the path.")
    if path.stat().st_size == 0:
        raise JapagenError(f"Expected examples in {path}, found an empty file.", "Fill it in.")
    rows: Iterable[tuple[str, dict[str, Any]]]
    if form == "parquet":
        rows = _parquet_rows(path)
    else:
        text = _decode(path, encoding)
        delimiter = _DELIMITERS.get(form)
        lines = io.StringIO(text, newline="" if delimiter else "\n")
        rows = _table_rows(lines, path, delimiter) if delimiter else _jsonl_rows(lines, path)
    mapping = {"text": "text", **({"label": "label"} if require_label else {}), **(columns or {})}
    places, examples = [], []
    for where, row in rows:
        examples.append(_example(row, where, mapping, path, split))
        places.append(where)
    if not examples:
        raise JapagenError(f"Expected examples in {path}, found none.", "Fill it in.")
    if require_label:
        for number, example in enumerate(examples, start=1):
            if example.label is None or example.label == "":
                raise JapagenError(
                    f"Expected a label on every row of {path}, found none on row {number}: "
                    f"'{example.text[:30]}'.",
                    "Label the row or remove it.",
                )
    return Dataset.of(examples), places


def stream_examples(path: Path) -> Iterator[Example]:
    """Reads a UTF-8 file of examples a row at a time, in memory that does not grow with it.

    Raises:
        JapagenError: As `read_examples`, but only when it comes to the row that is wrong.
    """
    form = _format_of(path)
    if not path.is_file():
        raise JapagenError(f"There is no file at {path}.", "Check the path.")
    parquet = form == "parquet"
    rows = _parquet_rows(path) if parquet else _streamed_rows(path, _DELIMITERS.get(form))
    for where, row in rows:
        yield _example(row, where, {"text": "text"}, path, "unlabelled")


def _streamed_rows(path: Path, delimiter: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="" if delimiter else "\n") as lines:
            yield from (
                _table_rows(lines, path, delimiter) if delimiter else _jsonl_rows(lines, path)
            )
    except UnicodeDecodeError:
        raise wrong_encoding(path, path.read_bytes(), "utf-8", setting=False) from None


def load_dataset(path: Path) -> Dataset:
    """Reads a Parquet file that `write_examples` wrote in a run directory, exactly as it was.

    Unlike `read_examples` it takes rows without a text, which failed requests leave.

    Raises:
        DamagedError: If the file is not whole.
    """
    try:
        return Dataset.from_table(pq.read_table(path))
    except (pa.ArrowException, KeyError, OSError, TypeError, ValueError) as error:
        raise DamagedError(path) from error


def read_table(path: Path) -> pa.Table:
    """Reads a Parquet file that `write_table` wrote.

    Raises:
        DamagedError: If the file is missing or not whole.
    """
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedError(path) from error


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a table of anything but examples as Parquet, whole or not at all."""
    with atomic(path) as temporary:
        pq.write_table(table, temporary)


def write_examples(path: str | Path, dataset: Dataset, *, bom: bool = False) -> None:
    """Writes a dataset with its provenance and final ``weight``; the suffix says the format.

    The file appears whole or not at all.

    Args:
        path: A ``.jsonl``, ``.csv``, ``.tsv`` or ``.parquet`` file; replaced if it exists.
        dataset: The examples.
        bom: Start a CSV or TSV with a byte order mark, which Excel needs to see UTF-8.

    Raises:
        JapagenError: If the suffix is not a known format.
    """
    path = Path(path)
    form = _format_of(path)
    with atomic(path) as temporary:
        if form == "parquet":
            weight = pa.array(dataset.weights, pa.float64())
            pq.write_table(dataset.table.append_column("weight", weight), temporary)
        elif form == "jsonl":
            with temporary.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
                for row in _rows(dataset):
                    kept = {k: v for k, v in row.items() if v is not None}
                    file.write(json.dumps(kept, ensure_ascii=False) + "\n")
        else:
            encoding = "utf-8-sig" if bom else "utf-8"
            fields = [*Example.__dataclass_fields__, "weight"]
            with temporary.open("w", encoding=encoding, errors="replace", newline="") as file:
                writer = csv.DictWriter(file, fields, delimiter=_DELIMITERS[form])
                writer.writeheader()
                writer.writerows(_flat(row) for row in _rows(dataset))


def check_new(path: str | Path, *, overwrite: bool = False) -> None:
    """Refuses a path that `write_examples` could not write, or that is taken.

    Raises:
        JapagenError: If the suffix is not a known format, or something is there already.
    """
    path = Path(path)
    _format_of(path)
    if path.is_dir() or (path.exists() and not overwrite):
        raise JapagenError(
            f"{path} is there already.",
            "Choose another path."
            if path.is_dir()
            else "Choose another path, or say overwrite (--overwrite) to replace it.",
        )


def _rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    weights = iter(dataset.weights.tolist())
    for batch in dataset.table.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            yield {**row, "weight": round(next(weights), 6)}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    def cell(value: Any) -> Any:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value

    return {k: cell(v) for k, v in row.items()}


def is_known(path: Path) -> bool:
    """Whether the suffix is one of a file of examples."""
    return path.suffix.lower() in _SUFFIXES


def _format_of(path: Path) -> Format:
    if not is_known(path):
        raise JapagenError(
            f"Expected a .jsonl, .csv, .tsv or .parquet file, found '{path.name}'.",
            "Save or convert it as one of these, with the suffix that says so.",
        )
    return _SUFFIXES[path.suffix.lower()]


def _decode(path: Path, encoding: str) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except LookupError:
        raise JapagenError(
            f"Unknown encoding '{encoding}' for {path}.", "Use utf-8, cp932 or euc_jp."
        ) from None
    except UnicodeDecodeError:
        raise wrong_encoding(path, raw, encoding) from None


def wrong_encoding(path: Path, raw: bytes, encoding: str, *, setting: bool = True) -> JapagenError:
    """The error for a file in another encoding, which it guesses.

    Args:
        path: The file.
        raw: What is in it.
        encoding: What was expected.
        setting: Whether a task file can name the encoding instead.
    """
    for guess, name in (("cp932", "Shift_JIS"), ("euc_jp", "EUC-JP"), ("utf-16", "UTF-16")):
        try:
            raw.decode(guess)
        except UnicodeDecodeError:
            continue
        shell = f"iconv -f {guess.upper().replace('_', '-')} -t UTF-8 {path.name}"
        say_so = f" or say so in the task file: encoding: {guess}" if setting else ""
        return JapagenError(
            f"Expected {path} to be {encoding}, found what reads as {name} ({guess}).",
            f"Convert it ({shell} > utf8{path.suffix}){say_so}",
        )
    return JapagenError(
        f"Expected {path} to be {encoding}, found bytes that are not.", "Save it as UTF-8."
    )


def _jsonl_rows(lines: Iterable[str], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise JapagenError(
                f"Expected one JSON object a line in {path}, found a broken one on line {number}: "
                f"{_where(error)}.",
                "The line may be cut short: repair or remove it.",
            ) from None
        if not isinstance(row, dict):
            raise JapagenError(
                f"Expected one JSON object a line in {path}, found {type(row).__name__} "
                f"on line {number}.",
                'Write each line as {"text": "…", "label": "…"}.',
            )
        yield f"line {number}", row


def _where(error: ValueError) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    return f"{error.msg.removesuffix(' at')} at column {error.colno}"


def _table_rows(
    lines: Iterable[str], path: Path, delimiter: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(lines, strict=True, delimiter=delimiter)
    try:
        for row in reader:
            where = f"line {reader.line_num}"
            if None in row or any(value is None for value in row.values()):
                # The reader gathers cells beyond the header under None, and fills up with None.
                beyond = len(row.get(None) or ())
                cells = sum(v is not None for k, v in row.items() if k is not None) + beyond
                raise JapagenError(
                    f"Expected {len(reader.fieldnames or ())} cells on {where} of {path}, "
                    f"found {cells}.",
                    "Quote cells that contain the delimiter or line breaks.",
                )
            yield where, {k: v if v != "" else None for k, v in row.items()}
    except csv.Error as error:
        raise JapagenError(
            f"Line {reader.line_num} of {path} is not {path.suffix[1:].upper()}: {error}.",
            "Repair the line.",
        ) from None


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pa.ArrowException, OSError, ValueError) as error:
        raise JapagenError(f"{path} is not a Parquet file: {error}.", "Write it again.") from None


def _example(
    row: dict[str, Any], where: str, mapping: Mapping[str, str], path: Path, split: Split
) -> Example:
    for ours, theirs in mapping.items():
        if theirs not in row:
            raise JapagenError(
                f"Expected a column '{theirs}' for the {ours} in {path}, "
                f"found on {where}: {', '.join(map(str, row)) or 'nothing'}.",
                f"Name it in the task file, columns: {{{ours}: YOUR_COLUMN}}, or for --synthetic "
                f"with --column {ours}=YOUR_COLUMN",
            )
    values = {k: v for k, v in row.items() if k in _COLUMNS or k == "weight"}
    values.update({ours: row[theirs] for ours, theirs in mapping.items()})
    values = {k: v for k, v in values.items() if v is not None}
    text = values.get("text")
    if not isinstance(text, str) or not (text.strip() or values.get("rejected")):
        raise JapagenError(
            f"Expected a text on {where} of {path}, found {text!r}.",
            "Fill it in or remove the row.",
        )
    try:
        for name, convert in _CONVERT.items():
            if name in values:
                values[name] = convert(values[name])
        weight = values.pop("weight", None)
        if weight is not None:
            # The written weight is the product; reading both factors and it would count twice.
            values.setdefault("weight_distribution", float(weight))
        return Example.from_row({"split": split, "source": path.name, **values})
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise JapagenError(
            f"A value on {where} of {path} is not what its column holds: {error}.", "Correct it."
        ) from None


def _parsed(value: Any) -> Any:
    return parse_json(value) if isinstance(value, str) else value


def _label(value: Any) -> Any:
    if isinstance(value, str):
        return parse_json(value) if value.startswith("[") and value.endswith("]") else value.strip()
    if isinstance(value, bool) or not isinstance(value, int | float | Sequence):
        raise ValueError(f"a label is text, a number or a list of texts, not {value!r}")
    return [str(v) for v in value] if isinstance(value, Sequence) else float(value)


_CONVERT: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_NESTED, _parsed),
    "label": _label,
    "label_asked": _label,
    "id": str,
    "round": int,
    "seed": int,
    "weight_distribution": float,
    "weight_label": float,
}


def read_texts(file: Path | None, stream: Iterable[str]) -> Iterator[str]:
    """Yields the texts of a CSV, TSV, JSONL or Parquet file, or the lines of any other file.

    Whatever the file, it is read a few rows at a time.

    Args:
        file: The file; ``-`` or None for the stream.
        stream: Read line by line, so that answers can come before it ends.

    Raises:
        JapagenError: If the file is missing, is a directory, or is not UTF-8.
    """
    if file is None or str(file) == "-":
        yield from (line.rstrip("\r\n") for line in stream)
        return
    if is_known(file):
        yield from (example.text for example in stream_examples(file))
        return
    if not file.is_file():
        raise JapagenError(f"There is no file at {file}.", "Check the path.")
    try:
        with file.open(encoding="utf-8-sig") as lines:
            yield from (line.rstrip("\n") for line in lines)
    except UnicodeDecodeError:
        raise wrong_encoding(file, file.read_bytes(), "utf-8", setting=False) from None


def read_pairs(file: Path | None, stream: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yields pairs: a file's columns text and text_pair, or lines with a tab in between.

    Args:
        file: As of `read_texts`.
        stream: As of `read_texts`.

    Raises:
        JapagenError: As `read_texts`; if a row or line holds one text alone.
    """
    if file is not None and is_known(file):
        for number, example in enumerate(stream_examples(file), start=1):
            if not example.text_pair:
                raise JapagenError(
                    f"Expected a pair of texts on row {number} of {file}, found one text.",
                    "Name the second texts' column text_pair.",
                )
            yield example.text, example.text_pair
        return
    for number, line in enumerate(read_texts(file, stream), start=1):
        first, tab, second = line.partition("\t")
        if not tab:
            raise JapagenError(
                f"Expected two texts with a tab between them on line {number}, found "
                f"'{line[:30]}'.",
                "This classifier was trained on pairs.",
            )
        yield first, second
