"""Rows of files in every format that texts come in, as the files have them, and files of rows.

Read are CSV, TSV, JSON (an array, or one object a line), Parquet, Excel and the directories of
`datasets`; CSV, TSV and JSON also compressed by gzip. What the columns mean is not known here.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from japagen.data.files import atomic
from japagen.errors import JapagenError, MissingExtraError

Row = tuple[str, dict[str, Any]]
"""Where in the file it stands, for messages, such as ``line 3``; and what each column says."""

_FORMATS = ("jsonl", "ndjson", "json", "csv", "tsv", "parquet", "xlsx")
_DELIMITERS: Mapping[str, str] = {"csv": ",", "tsv": "\t"}
_BLOCK = 1 << 20
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_CELL = 32_767  # characters that Excel holds in a cell
# No other program's file has all of these.
_OWN = frozenset(
    ("id", "text", "split", "source", "shot_ids", "round", "weight_distribution", "weight_label")
)
_RARE = re.compile("[\uff61-\uff9f\ue000-\uf8ff\ufffd]")  # half-width katakana, private use
# What a spreadsheet takes for the start of a formula, and what was escaped before.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_NOT_IN_EXCEL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
# What reading a damaged file of Arrow raises.
_DAMAGED = (pa.ArrowException, OSError, ValueError, LookupError)


@dataclass(frozen=True)
class Table:
    """A file of rows that is not read yet.

    Attributes:
        path: The file or directory.
        names: Its columns; of JSON those of the first row.
        rows: Reads a few rows at a time: of the given columns, or of all when None. Others may
            come too.
        classes: The names of a column's class ids, where the file says them (`datasets` does).
        typed: Whether numbers are told from texts.
    """

    path: Path
    names: Sequence[str]
    rows: Callable[[Collection[str] | None], Iterator[Row]] = field(repr=False)
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    typed: bool = True

    def __post_init__(self) -> None:
        twice = [name for name, n in Counter(self.names).items() if n > 1 and name]
        if twice:
            raise JapagenError(
                f"Expected every column of {self.path} to have a name of its own, found these "
                f"more than once: {', '.join(twice)}.",
                "Rename or remove one of them.",
            )

    @property
    def is_own(self) -> bool:
        """Whether japagen wrote it: only then its columns mean what they mean to japagen."""
        return frozenset(self.names) >= _OWN


def open_table(path: Path, encoding: str | None = None) -> Table:
    """Opens a file of rows, or a directory that ``save_to_disk`` of `datasets` wrote.

    Args:
        path: The file; its suffix says the format.
        encoding: Of a text file; found out when None.

    Raises:
        JapagenError: If it is missing, empty, broken, of another format or encoding, or two of
            its columns have one name.
        MissingExtraError: If it is of Excel and ``openpyxl`` is not installed.
    """
    if _splits(path):
        return _saved(path)
    form = format_of(path)
    if not path.is_file():
        raise JapagenError(f"There is no file at {path}.", "Check the path.")
    if path.stat().st_size == 0:
        raise JapagenError(f"Expected examples in {path}, found an empty file.", "Fill it in.")
    if form == "parquet":
        return _parquet(path)
    if form == "xlsx":
        return _excel(path)
    codec = encoding_of(path, encoding)
    if form in _DELIMITERS:
        return _delimited(path, codec, _DELIMITERS[form])

    def rows(_: Collection[str] | None = None) -> Iterator[Row]:
        return _json(path, codec, array=form == "json")

    return Table(path, list(next(rows(), ("", {}))[1]), rows)


def is_known(path: Path) -> bool:
    """Whether a file's suffix, or what is in a directory, says that it holds rows."""
    return _format(path) is not None or bool(_splits(path))


def _format(path: Path) -> str | None:
    *_, inner, last = ("", "", *path.name.lower().split("."))
    form = inner if last == "gz" and inner not in ("parquet", "xlsx") else last
    return form if form in _FORMATS else None


def format_of(path: Path) -> str:
    """The format that a path's suffix says.

    Raises:
        JapagenError: If it says none that is known.
    """
    form = _format(path)
    if form is None:
        raise JapagenError(
            f"Expected a .jsonl, .json, .csv, .tsv, .parquet or .xlsx file, found '{path.name}'.",
            "Save or convert it as one of these, with the suffix that says so.",
        )
    return form


def column(name: str, names: Collection[str]) -> str | None:
    """The column of that name, however its characters are composed and how wide they are."""
    if name in names:
        return name
    alike = [other for other in names if folded(other) == folded(name)]
    return alike[0] if len(alike) == 1 else None


def folded(name: str) -> str:
    """What names are compared by: NFKC, white space at the ends left out."""
    return unicodedata.normalize("NFKC", name).strip()


def _not_readable(path: Path, what: str, error: Exception) -> JapagenError:
    return JapagenError(
        f"{path} is not {what} that can be read: {' '.join(str(error).split())}.",
        "Write it again, or copy it again.",
    )


# Text files ------------------------------------------------------------------------------


@contextmanager
def _bytes(path: Path) -> Iterator[IO[bytes]]:
    compressed = path.suffix.lower() == ".gz"
    with gzip.open(path) if compressed else path.open("rb") as stream:
        try:
            yield cast(IO[bytes], stream)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _not_readable(path, "a compressed file", error) from None


@contextmanager
def _lines(path: Path, codec: str) -> Iterator[IO[str]]:
    with _bytes(path) as stream, io.TextIOWrapper(stream, codec, newline="") as lines:
        yield lines


def encoding_of(path: Path, given: str | None = None) -> str:
    """The encoding of a text file: UTF-8 (with or without byte order mark) or what was given.

    Where nothing was given and it is not UTF-8, it is found out among UTF-16, Shift_JIS (cp932)
    and EUC-JP.

    Raises:
        JapagenError: If the bytes are none of these, or not what was given.
    """
    codec = _codec(given or "utf-8", path)
    with _bytes(path) as stream:
        if _decodes(iter(lambda: stream.read(_BLOCK), b""), codec):
            return codec
    with _bytes(path) as stream:
        raw = stream.read()
    guess = guess_encoding(raw)
    if given is None and guess is not None:
        return guess
    raise _wrong_encoding(path, given or "utf-8", guess)


def _codec(encoding: str, path: Path) -> str:
    try:
        name = codecs.lookup(encoding).name
        b"    ".decode(name)
        # Every spelling of UTF-8 may begin with a byte order mark.
        return "utf-8-sig" if name in ("utf-8", "cp65001") else name
    except (LookupError, ValueError):
        raise JapagenError(
            f"Unknown encoding '{encoding}' for {path}.", "Use utf-8, cp932 or euc_jp."
        ) from None


def _decodes(blocks: Iterable[bytes], codec: str) -> bool:
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        for block in blocks:
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def guess_encoding(raw: bytes) -> str | None:
    """Tells the encoding of Japanese text that is not UTF-8; None where it is none of the usual.

    Of Shift_JIS and EUC-JP, where both can be read, it is the one with less that is rare in
    texts. UTF-8 with a few broken bytes is neither.
    """
    if raw.startswith(_UTF_16):
        return "utf-16" if _decodes([raw], "utf-16") else None
    beyond = sum(byte > 0x7F for byte in raw)
    whole = raw.decode("utf-8", "ignore")
    if 2 * sum(len(c.encode()) for c in whole if c > "\x7f") >= beyond:
        return None
    fitting = [codec for codec in ("cp932", "euc_jp") if _decodes([raw], codec)]
    return min(fitting, key=lambda codec: len(_RARE.findall(raw.decode(codec))), default=None)


def _wrong_encoding(path: Path, encoding: str, guess: str | None) -> JapagenError:
    if guess is None:
        return JapagenError(
            f"Expected {path} to be {encoding}, found bytes that are not.", "Save it as UTF-8."
        )
    name = {"cp932": "Shift_JIS", "euc_jp": "EUC-JP", "utf-16": "UTF-16"}[guess]
    shell = f"iconv -f {guess.upper().replace('_', '-')} -t UTF-8 {path.name}"
    return JapagenError(
        f"Expected {path} to be {encoding}, found what reads as {name} ({guess}).",
        f"Convert it ({shell} > utf8{path.suffix}) or say so: encoding: {guess} in the task file, "
        f"--encoding {guess} on the command line",
    )


def decoded_lines(stream: Iterable[str | bytes], encoding: str | None) -> Iterator[str]:
    """Decodes a stream a line at a time, so that an answer can come before it ends.

    Args:
        stream: Lines; text as it is, or bytes.
        encoding: Of the bytes. When None it is UTF-8 until a line is not, and then what that
            line and all after it are.

    Raises:
        JapagenError: If a line cannot be decoded.
    """
    codec = _codec(encoding or "utf-8", Path("-"))
    lines = iter(stream)
    for number, line in enumerate(lines, start=1):
        if isinstance(line, str):
            yield line
            continue
        if codec.startswith("utf-16") or (line.startswith(_UTF_16) and number == 1):
            # Its line breaks are two bytes, one of which is no line break.
            rest = b"".join(part for part in lines if isinstance(part, bytes))
            codec = codec if codec.startswith("utf-16") else "utf-16"
            yield from (line + rest).decode(codec, "replace").splitlines()
            return
        if not _decodes([line], codec):
            guess = guess_encoding(line) if encoding is None and codec == "utf-8-sig" else None
            if guess in (None, "utf-16"):
                raise JapagenError(
                    f"Expected standard input to be {codec.removesuffix('-sig')}, found bytes "
                    f"that are not on line {number}.",
                    "Name its encoding, such as --encoding cp932.",
                )
            codec = str(guess)
        yield line.decode(codec if number == 1 else codec.removesuffix("-sig"))


def _delimited(path: Path, codec: str, delimiter: str) -> Table:
    def cells() -> Iterator[tuple[list[str], int]]:
        csv.field_size_limit(2**31 - 1)  # A cell may hold a whole document.
        with _lines(path, codec) as lines:
            reader = csv.reader(lines, strict=True, delimiter=delimiter)
            try:
                yield from ((row, reader.line_num) for row in reader if row)
            except csv.Error as error:
                raise JapagenError(
                    f"Line {reader.line_num} of {path} is not {path.suffix[1:].upper()}: {error}.",
                    "Repair the line.",
                ) from None

    header = next(cells(), ([], 0))[0]
    with _bytes(path) as stream:
        marked = stream.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8

    def rows(_: Collection[str] | None = None) -> Iterator[Row]:
        # With a byte order mark it was written for Excel; see `write_rows`.
        read = _unescaped if marked and table.is_own else str
        for row, line in islice(cells(), 1, None):
            if len(row) != len(header):
                raise JapagenError(
                    f"Expected {len(header)} cells on line {line} of {path}, found {len(row)}.",
                    "Quote cells that contain the delimiter or line breaks.",
                )
            values = (read(value) if value else None for value in row)
            yield f"line {line}", dict(zip(header, values, strict=True))

    table = Table(path, header, rows, typed=False)
    return table


def _json(path: Path, codec: str, *, array: bool) -> Iterator[Row]:
    with _lines(path, codec) as lines:
        number = 0
        for line in lines:
            number += 1
            if not line.strip():
                continue
            if array and line.lstrip().startswith("["):
                listed = _loads(line + lines.read(), path, f"line {number}")
                for place, value in enumerate(listed, start=1):
                    yield f"item {place}", _object(value, path, f"item {place}")
                return
            array = False
            where = f"line {number}"
            yield where, _object(_loads(line, path, where), path, where)


def _object(value: Any, path: Path, where: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise JapagenError(
        f"Expected one JSON object a line in {path}, found {type(value).__name__} on {where}.",
        'Write each line as {"text": "…", "label": "…"}; an array of such objects is read from a '
        ".json file.",
    )


def _loads(text: str, path: Path, where: str) -> Any:
    try:
        value = json.loads(text, object_pairs_hook=_pairs)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}" if error.lineno > 1 else where
        raise JapagenError(
            f"Expected one JSON object a line in {path}, found a broken one on {place}: "
            f"{error.msg.removesuffix(' at')} at column {error.colno}.",
            "The line may be cut short, or an object may stand on several lines: write each on "
            "one, or all of them as an array in a .json file.",
        ) from None
    except (ValueError, RecursionError) as error:
        # Numbers of thousands of digits, lists within a thousand lists, keys that come twice.
        told = "too many lists within lists" if isinstance(error, RecursionError) else error
        raise JapagenError(
            f"Expected one JSON object a line in {path}, found one that cannot be read on "
            f"{where}: {told}.",
            "Correct it.",
        ) from None
    return _without_halves(value) if _HALF.search(text) else value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise ValueError(f"the key '{twice}' stands there twice")
    return found


def _without_halves(value: Any) -> Any:
    """Replaces halves of surrogate pairs, which JSON can carry and no other file can."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_without_halves(k): _without_halves(v) for k, v in value.items()}
    return [_without_halves(v) for v in value] if isinstance(value, list) else value


# Arrow -----------------------------------------------------------------------------------


def _parquet(path: Path) -> Table:
    def batches(wanted: Collection[str] | None) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield from file.iter_batches(1024, columns=wanted and list(wanted))

    return _arrow_table(path, "a Parquet file", lambda: pq.read_schema(path), batches)


def _splits(path: Path) -> list[Path]:
    """The directories that `datasets` saved there, one for each split."""
    if (path / "state.json").is_file():
        return [path]
    parts = path.iterdir() if (path / "dataset_dict.json").is_file() else ()
    return sorted(part for part in parts if (part / "state.json").is_file())


def _saved(path: Path) -> Table:
    """Reads what `datasets` saved; of several splits all, if japagen exported them."""
    splits = _splits(path)
    files = [str(file) for split in splits for file in sorted(split.glob("data-*.arrow"))]

    def batches(wanted: Collection[str] | None) -> Iterator[pa.RecordBatch]:
        for file in files:
            with pa.memory_map(file) as source:
                for batch in pa.ipc.open_stream(source):
                    yield batch if wanted is None else batch.select(list(wanted))

    def schema() -> pa.Schema:
        with pa.memory_map(files[0]) as source:
            return pa.ipc.open_stream(source).schema

    table = _arrow_table(path, "a directory of `datasets`", schema, batches)
    if len(splits) > 1 and not table.is_own:
        raise JapagenError(
            f"Expected one split in {path}, found {', '.join(split.name for split in splits)}.",
            f"Give the directory of one: {splits[0]}",
        )
    return table


def _arrow_table(
    path: Path,
    what: str,
    schema: Callable[[], pa.Schema],
    batches: Callable[[Collection[str] | None], Iterator[pa.RecordBatch]],
) -> Table:
    try:
        found = schema()
    except _DAMAGED as error:
        raise _not_readable(path, what, error) from None

    def rows(wanted: Collection[str] | None = None) -> Iterator[Row]:
        number = 0
        kept = None if wanted is None else [name for name in found.names if name in wanted]
        try:
            for batch in batches(kept):
                for row in zip(*map(_values, batch.columns), strict=True):
                    number += 1
                    yield f"row {number}", dict(zip(batch.schema.names, row, strict=True))
        except _DAMAGED as error:
            raise _not_readable(path, what, error) from None

    return Table(path, found.names, rows, _classes(found))


def _values(column: pa.Array) -> list[Any]:
    """A column's values; those of a time that Python has no word for as whole numbers."""
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        if not pa.types.is_temporal(column.type):
            raise
        return list(column.cast(pa.int64()).to_pylist())


def _classes(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """The names of class ids, as `datasets` leaves them in what it writes."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found: dict[str, Sequence[str]] = {}
        for name, feature in features.items():
            # Of a list of classes they stand one level down.
            inner = feature[0] if isinstance(feature, list) else feature
            names = inner.get("names") or (inner.get("feature") or {}).get("names")
            if names:
                found[name] = [str(each) for each in names]
        return found
    except (*_DAMAGED, TypeError, AttributeError):
        return {}


# Excel -----------------------------------------------------------------------------------


def _excel(path: Path) -> Table:
    openpyxl = _openpyxl("Reading an Excel file")

    def cells() -> Iterator[Sequence[Any]]:
        try:
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            # What a writer says of the size may be wrong.
            book.worksheets[0].reset_dimensions()
            yield from book.worksheets[0].iter_rows(values_only=True)
            book.close()
        except Exception as error:  # of a broken file it raises whatever comes
            raise _not_readable(path, "an Excel file", error) from None

    header = ["" if name is None else str(name) for name in next(cells(), ())]

    def rows(_: Collection[str] | None = None) -> Iterator[Row]:
        for number, row in enumerate(islice(cells(), 1, None), start=2):
            values = [None if value == "" else value for value in row]
            if any(value is not None for value in values[len(header) :]):
                raise JapagenError(
                    f"Expected {len(header)} cells on row {number} of {path}, found {len(row)}.",
                    "Name every column in the first row.",
                )
            if any(value is not None for value in values):
                yield f"row {number}", dict(zip_longest(header, values[: len(header)]))

    return Table(path, header, rows)


def _openpyxl(purpose: str) -> Any:
    try:
        import openpyxl
    except ImportError:
        raise MissingExtraError("openpyxl", "excel", purpose) from None
    return openpyxl


# Writing ---------------------------------------------------------------------------------


def write_rows(
    path: Path, rows: Iterable[Mapping[str, Any]], names: Sequence[str] = (), *, bom: bool = False
) -> None:
    """Writes rows; the suffix says the format. The file appears whole or not at all.

    Where a format has no lists and mappings they are written as JSON; what a row lacks is an
    empty cell, and is left out of JSON.

    Args:
        path: A .jsonl, .csv, .tsv, .parquet or .xlsx file; replaced if it exists.
        rows: Column to value.
        names: The columns in order; all that there are when empty.
        bom: Start a CSV or TSV with the mark that Excel needs to see UTF-8, and put ``'`` before
            what it would take for a formula.

    Raises:
        JapagenError: If the suffix is not a known format, or a text is too long for a cell.
    """
    form = written_form(path)
    if not names and form != "jsonl":
        rows = list(rows)
        names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic(path) as temporary:
        if form == "parquet":
            pq.write_table(_arrow(list(rows), names), temporary, write_page_checksum=True)
        elif form == "xlsx":
            _write_excel(temporary, rows, names, path)
        else:
            encoding = "utf-8-sig" if bom and form in _DELIMITERS else "utf-8"
            with temporary.open("w", encoding=encoding, errors="replace", newline="") as file:
                if form in _DELIMITERS:
                    writer = csv.writer(file, delimiter=_DELIMITERS[form])
                    writer.writerow(names)
                    for row in rows:
                        cells = (_cell(row.get(name)) for name in names)
                        writer.writerow([_escaped(cell) if bom else cell for cell in cells])
                    return
                for row in rows:
                    kept = {k: v for k, v in row.items() if v is not None}
                    file.write(json.dumps(kept, ensure_ascii=False, default=str) + "\n")


def written_form(path: Path) -> str:
    """The format of a file to write.

    Raises:
        JapagenError: If the suffix says none that is written.
    """
    form = path.suffix[1:].lower()
    if form not in (*_DELIMITERS, "jsonl", "parquet", "xlsx"):
        raise JapagenError(
            f"Expected a .jsonl, .csv, .tsv, .parquet or .xlsx file to write, found '{path.name}'.",
            "Give it one of these suffixes.",
        )
    return form


def _cell(value: Any) -> Any:
    nested = isinstance(value, dict | list | tuple)
    return json.dumps(value, ensure_ascii=False, default=str) if nested else value


def _escaped(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def _unescaped(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _arrow(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pa.Table:
    """Columns of one type each; those of several as text."""
    arrays = []
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            arrays.append(pa.array(values))
        except (pa.ArrowException, OverflowError):
            arrays.append(pa.array([None if v is None else str(_cell(v)) for v in values]))
    return pa.Table.from_arrays(arrays, names=list(names))


def _write_excel(
    temporary: Path, rows: Iterable[Mapping[str, Any]], names: Sequence[str], path: Path
) -> None:
    _openpyxl("Writing an Excel file")
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    book = Workbook(write_only=True)
    sheet = book.create_sheet()

    def cell(value: Any) -> Any:
        value = _cell(value)
        if not isinstance(value, str):
            return value
        if len(value) > _CELL:
            raise JapagenError(
                f"Expected texts of at most {_CELL:,} characters for {path}, found one of "
                f"{len(value):,}.",
                "Excel has no room for more: write .csv or .parquet.",
            )
        made = WriteOnlyCell(sheet, _NOT_IN_EXCEL.sub("", value))
        made.data_type = "s"  # also where it looks like a formula
        return made

    try:
        sheet.append([cell(name) for name in names])
        for row in rows:
            sheet.append([cell(row.get(name)) for name in names])
    finally:
        sheet.close()
    book.save(temporary)
