"""Rows of files in every format that texts come in, as the files have them, and files of rows.

Read are CSV, TSV, JSON (an array, or one object per line), Parquet, Excel and the directories of
`datasets`; CSV, TSV and JSON also compressed by gzip. What the columns mean is not known here.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from japagen.data.files import atomic, parse_json
from japagen.errors import JapagenError, MissingExtraError

Row = tuple[str, dict[str, Any]]
"""Where in the file it stands, for messages, such as ``line 3``; and the value of each column."""
Rows = Callable[[Collection[str] | None], Iterator[Row]]

_FORMATS = ("jsonl", "ndjson", "json", "csv", "tsv", "parquet", "xlsx")
_DELIMITERS: Mapping[str, str] = {"csv": ",", "tsv": "\t"}
TABLES = (*_DELIMITERS, "parquet", "xlsx")
"""Formats in which every row has all columns."""
_BLOCK = 1 << 20
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NAMES = {
    "cp932": "Shift_JIS",
    "euc_jp": "EUC-JP",
    "iso2022_jp_ext": "ISO-2022-JP",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16LE",
    "utf-16-be": "UTF-16BE",
}
_ESCAPES = re.compile(rb"\x1b\$[@B]")  # what Japanese begins with in ISO-2022-JP
_CELL = 32_767  # characters that Excel holds in a cell
_SHEET = 1_048_576  # rows that it holds in a sheet
_EXACT = 10**15  # whole numbers from here on it rounds
# No other program's file has all of these.
_OWN = frozenset(
    ("id", "text", "split", "source", "shot_ids", "round", "weight_distribution", "weight_label")
)
_RARE = re.compile("[\uff61-\uff9f\ue000-\uf8ff]")  # half-width katakana, private use
_PRIVATE = re.compile("[\ue000-\uf8ff]")
_RETURN = re.compile(r"(?<=\r)(?!\n)")
# What a spreadsheet takes for the start of a formula, a Japanese one in full width too, and what
# looks as if it was escaped.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_ESCAPED = re.compile(rf"'(?={_FORMULA.pattern})")
_NOT_IN_EXCEL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
# What reading a damaged file raises; openpyxl raises whatever comes.
_DAMAGED = (pa.ArrowException, OSError, ValueError, LookupError, EOFError, zlib.error)


@dataclass(frozen=True)
class Table:
    """A table of rows that is not read yet.

    Attributes:
        path: The file or directory; of a table in memory what it is called.
        names: Its columns; of JSON those of the first row.
        rows: Reads a few rows at a time: of the given columns, or of all when None. Others may
            come too.
        classes: The names of a column's class ids, where the file says them (`datasets` does).
        typed: Whether numbers are told from texts.
    """

    path: Path | str
    names: Sequence[str]
    rows: Rows = field(repr=False)
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
        encoding: Of a text file; detected when None.

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
        _openpyxl("Reading an Excel file")
        return _named(path, partial(_excel_cells, path), typed=True)
    if form in _DELIMITERS:
        return _named(path, partial(_csv_cells, path, encoding, _DELIMITERS[form]), typed=False)

    def rows(_: Collection[str] | None = None) -> Iterator[Row]:
        return _json(path, encoding, array=form == "json")

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
    """The form in which names are compared: NFKC, without white space at the ends."""
    return unicodedata.normalize("NFKC", name).strip()


def _not_readable(path: Path | str, what: str, error: Exception) -> JapagenError:
    return JapagenError(
        f"{path} is not {what} that can be read: {' '.join(str(error).split())}.",
        "Write it again, or copy it again.",
    )


def text_lines(path: Path, encoding: str | None = None) -> Iterator[str]:
    """Reads the lines of a text file, perhaps compressed; see `decoded_lines`."""
    compressed = path.suffix.lower() == ".gz"
    with cast(IO[bytes], gzip.open(path) if compressed else path.open("rb")) as stream:
        try:
            yield from decoded_lines(stream, encoding, str(path))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _not_readable(path, "a compressed file", error) from None


def decoded_lines(
    stream: Iterable[str | bytes], encoding: str | None, what: str = "standard input"
) -> Iterator[str]:
    """Decodes a stream line by line, so that an answer can come before it ends.

    Args:
        stream: Lines; text as it is, or bytes.
        encoding: Of the bytes. When None it is UTF-8 or UTF-16; from the first line on that is
            not, ISO-2022-JP, Shift_JIS (cp932) or EUC-JP.
        what: What the stream is called in messages.

    Raises:
        JapagenError: If a line cannot be decoded.
    """
    codec = _codec(encoding or "utf-8", what)
    lines = iter(stream)
    for number, line in enumerate(lines, start=1):
        if isinstance(line, str):
            yield line
            continue
        checked = encoding is None or codec.startswith("utf-8")
        sign = _other_than_utf_8(line, number) if checked else None
        # Lines that came before as texts cannot be taken back.
        if sign and (encoding is not None or (number > 1 and sign.startswith("utf-16"))):
            raise _wrong_encoding(what, number, "utf-8", sign)
        codec = sign or codec
        if codec.startswith("utf-16"):
            # Its line breaks are two bytes, one of which is no line break.
            line += b"".join(part for part in lines if isinstance(part, bytes))
        try:
            text = line.decode(codec)
        except UnicodeDecodeError:
            guess = guess_encoding(line + _ahead(stream))
            if encoding is not None or guess is None or not codec.startswith("utf-8"):
                raise _wrong_encoding(what, number, codec.removesuffix("-sig"), guess) from None
            codec = guess
            text = line.decode(codec)
        if codec.startswith("utf-16"):
            yield from io.StringIO(text.removeprefix("\ufeff"), newline="")
            return
        codec = codec.removesuffix("-sig")
        yield text


def _other_than_utf_8(line: bytes, number: int) -> str | None:
    """The encoding whose signs a line has that could be read as UTF-8, though not as text."""
    if number == 1 and line.startswith(_UTF_16):
        return "utf-16"
    if number > 1 and line.startswith(b"\0"):  # the second half of a line break
        return "utf-16-le"
    high, low = b"\0" in line[::2], b"\0" in line[1::2]
    if number == 1 and high != low:
        return "utf-16-be" if high else "utf-16-le"
    return "iso2022_jp_ext" if _ESCAPES.search(line) else None


def _codec(encoding: str, what: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        b"    ".decode(name)
        # Every spelling of UTF-8 may begin with a byte order mark.
        return "utf-8-sig" if name in ("utf-8", "cp65001") else name
    except (LookupError, ValueError):
        raise JapagenError(
            f"Unknown encoding '{encoding}' for {what}.", "Use utf-8, cp932 or euc_jp."
        ) from None


def _ahead(stream: Any) -> bytes:
    """More of a file, to tell its encoding by; of a pipe nothing."""
    if not (hasattr(stream, "seekable") and stream.seekable()):
        return b""
    at = stream.tell()
    more: bytes = stream.read(_BLOCK)
    stream.seek(at)
    return more[: more.rfind(b"\n") + 1]


def guess_encoding(raw: bytes) -> str | None:
    """Detects the encoding of Japanese text that is not UTF-8; None if it is none of the usual.

    Of Shift_JIS and EUC-JP, where both can be read, it is the one with less that is rare in
    texts. UTF-8 with a few broken bytes is neither.
    """
    # Japanese is of three bytes in UTF-8, and hardly three of another encoding look like them.
    whole = sum(c >= "\u0800" for c in raw.decode("utf-8", "ignore"))
    if 2 * 3 * whole >= sum(byte > 0x7F for byte in raw):
        return None
    rare = {}
    for codec in ("cp932", "euc_jp"):
        try:
            text = raw.decode(codec)
        except UnicodeDecodeError:
            continue
        if 2 * len(_PRIVATE.findall(text)) < sum(c > "\x7f" for c in text):
            rare[codec] = len(_RARE.findall(text))
    return min(rare, key=rare.__getitem__, default=None)


def _wrong_encoding(what: str, number: int, encoding: str, guess: str | None) -> JapagenError:
    if guess is None or guess == encoding:
        return JapagenError(
            f"Expected {what} to be {encoding}, found bytes that are not on line {number}.",
            "Save it as UTF-8, or name its encoding: --encoding cp932.",
        )
    name = _NAMES[guess]
    return JapagenError(
        f"Expected {what} to be {encoding}, found what reads as {name} ({guess}) on line {number}.",
        f"Convert it (iconv -f {'CP932' if guess == 'cp932' else name} -t UTF-8) or say so: "
        f"encoding: {guess} in the task file, --encoding {guess} on the command line.",
    )


Cells = Callable[[], Iterator[tuple[str, Sequence[Any]]]]


def _named(path: Path, cells: Cells, *, typed: bool) -> Table:
    """A table whose first row names the columns."""
    header = ["" if name is None else str(name) for name in next(cells(), ("", ()))[1]]

    def rows(_: Collection[str] | None = None) -> Iterator[Row]:
        escaped = not typed and table.is_own  # see `write_rows`
        for where, row in islice(cells(), 1, None):
            # Excel leaves out empty cells at the end, and keeps rows that are all empty.
            width = len(header) if typed and not any(row[len(header) :]) else len(row)
            if width != len(header):
                raise JapagenError(
                    f"Expected {len(header)} cells on {where} of {path}, found {len(row)}.",
                    "Quote cells that contain the delimiter or line breaks, and name all columns.",
                )
            values = [None if value == "" else value for value in row[:width]]
            filled = [*values, *[None] * (width - len(values))]
            read = map(_unescaped, filled) if escaped else filled
            yield where, dict(zip(header, read, strict=True))

    table = Table(path, header, rows, typed=typed)
    return table


def _csv_cells(
    path: Path, encoding: str | None, delimiter: str
) -> Iterator[tuple[str, Sequence[Any]]]:
    csv.field_size_limit(2**31 - 1)  # A cell may hold a whole document.
    lines = (part for line in text_lines(path, encoding) for part in _RETURN.split(line) if part)
    header = next(lines, "")
    # Where Excel separates cells otherwise, it does under this suffix too.
    delimiter = next((other for other in (delimiter, *",\t;") if other in header), delimiter)
    reader = csv.reader(chain([header], lines), strict=True, delimiter=delimiter)
    try:
        yield from ((f"line {reader.line_num}", row) for row in reader if row)
    except csv.Error as error:
        raise JapagenError(
            f"Line {reader.line_num} of {path} is not {path.suffix[1:].upper()}: {error}.",
            "Repair the line.",
        ) from None


def _excel_cells(path: Path) -> Iterator[tuple[str, Sequence[Any]]]:
    openpyxl = _openpyxl("Reading an Excel file")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        # What a writer says of the size may be wrong.
        book.worksheets[0].reset_dimensions()
        for number, row in enumerate(book.worksheets[0].iter_rows(values_only=True), start=1):
            if any(cell not in (None, "") for cell in row):
                # Excel escapes carriage returns.
                whole = (c.replace("_x000D_", "\r") if isinstance(c, str) else c for c in row)
                yield f"row {number}", [*whole]
        book.close()
    except Exception as error:  # of a broken file it raises whatever comes
        raise _not_readable(path, "an Excel file", error) from None


def _json(path: Path, encoding: str | None, *, array: bool) -> Iterator[Row]:
    lines = text_lines(path, encoding)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        if array and line.lstrip().startswith("["):
            listed = _loads(line + "".join(lines), path, where)
            for place, value in enumerate(listed, start=1):
                yield f"item {place}", _object(value, path, f"item {place}")
            return
        array = False
        yield where, _object(_loads(line, path, where), path, where)


def _object(value: Any, path: Path, where: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise JapagenError(
        f"Expected one JSON object per line in {path}, found {type(value).__name__} on {where}.",
        'Write each line as {"text": "…", "label": "…"}; an array of such objects is read from a '
        ".json file.",
    )


def _loads(text: str, path: Path, where: str) -> Any:
    try:
        return parse_json(text, _pairs)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}" if error.lineno > 1 else where
        raise JapagenError(
            f"Expected one JSON object per line in {path}, found a broken one on {place}: "
            f"{error.msg.removesuffix(' at')} at column {error.colno}.",
            "The line may be cut short, or an object may stand on several lines: write each on "
            "one, or all of them as an array in a .json file.",
        ) from None
    except ValueError as error:
        # Numbers of thousands of digits, lists within a thousand lists, keys that come twice.
        raise JapagenError(
            f"Expected one JSON object per line in {path}, found one that cannot be read on "
            f"{where}: {error}.",
            "Correct it.",
        ) from None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise ValueError(f"the key '{twice}' stands there twice")
    return found


def _parquet(path: Path) -> Table:
    def batches(wanted: Collection[str] | None) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield from file.iter_batches(1024, columns=wanted and list(wanted))

    return arrow_table(path, "a Parquet file", lambda: pq.read_schema(path), batches)


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

    table = arrow_table(path, "a directory of `datasets`", schema, batches)
    if len(splits) > 1 and not table.is_own:
        raise JapagenError(
            f"Expected one split in {path}, found {', '.join(split.name for split in splits)}.",
            f"Give the directory of one: {splits[0]}",
        )
    return table


def arrow_table(
    path: Path | str,
    what: str,
    schema: Callable[[], pa.Schema],
    batches: Callable[[Collection[str] | None], Iterable[pa.RecordBatch]],
) -> Table:
    """A table of Arrow.

    Args:
        path: What it is called.
        what: What it is, for messages.
        schema: Its columns.
        batches: Its rows, of the given columns or of all.

    Raises:
        JapagenError: If it cannot be read.
    """
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

    return Table(path, found.names, rows, class_names(found))


def _values(column: pa.Array) -> list[Any]:
    """A column's values; those of a time that Python cannot express as whole numbers."""
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        if not pa.types.is_temporal(column.type):
            raise
        return list(column.cast(f"int{column.type.bit_width}").to_pylist())


def class_names(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """The names of class ids, as `datasets` leaves them in what it writes."""
    found: dict[str, Sequence[str]] = {}
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        for name, feature in features.items():
            # Of a list of classes they stand one level down.
            inner = feature[0] if isinstance(feature, list) else feature
            names = inner.get("names") or (inner.get("feature") or {}).get("names")
            if names:
                found[name] = [str(each) for each in names]
        return found
    except (*_DAMAGED, TypeError, AttributeError):
        return {}


def _openpyxl(purpose: str) -> Any:
    try:
        import openpyxl
    except ImportError:
        raise MissingExtraError("openpyxl", "excel", purpose) from None
    return openpyxl


def write_rows(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    names: Sequence[str] = (),
    *,
    bom: bool = False,
    escape_formulas: bool = False,
) -> None:
    """Writes rows; the suffix says the format. The file appears whole or not at all.

    Where a format has no lists and mappings they are written as JSON; what a row lacks, or has
    as NaN, is an empty cell, and is left out of JSON, which has one object per line.

    Args:
        path: A file in a format that `open_table` reads; replaced if it exists.
        rows: Column to value.
        names: The columns in order; all that there are when empty.
        bom: Start a CSV or TSV with the mark that Excel needs to see UTF-8.
        escape_formulas: In a CSV or TSV put ``'`` before what a spreadsheet would take for a
            formula. Where japagen's own columns are, it is put before what looks so written
            already, too, and reading takes it off.

    Raises:
        JapagenError: If the suffix is not a known format, or a text is too long for a cell.
    """
    form = format_of(path)
    # What cannot be written there is known before the rows are made.
    with atomic(path) as temporary:
        if not names and form in TABLES:
            rows = list(rows)
            names = list(dict.fromkeys(name for row in rows for name in row))
        if form == "parquet":
            pq.write_table(_arrow(list(rows), names), temporary, write_page_checksum=True)
            return
        if form == "xlsx":
            _write_excel(temporary, rows, names, path)
            return
        encoding = "utf-8-sig" if bom and form in _DELIMITERS else "utf-8"
        compressed = path.suffix.lower() == ".gz"
        opened: Any = partial(gzip.open, temporary) if compressed else temporary.open
        with opened("wt", encoding=encoding, errors="replace", newline="") as file:
            if form in _DELIMITERS:
                writer = csv.writer(file, delimiter=_DELIMITERS[form])
                writer.writerow(names)
                plain = _ESCAPED if _OWN.issubset(names) else None
                escape = _FORMULA if escape_formulas else plain
                for row in rows:
                    writer.writerow([_escaped(_cell(row.get(name)), escape) for name in names])
                return
            for row in rows:
                kept = {k: v for k, v in row.items() if not is_missing(v)}
                file.write(json.dumps(kept, ensure_ascii=False, default=str) + "\n")


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, or NaN, with which pandas fills it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cell(value: Any) -> Any:
    nested = isinstance(value, dict | list | tuple)
    if nested:
        return json.dumps(value, ensure_ascii=False, default=str)
    return None if is_missing(value) else value


def _escaped(cell: Any, which: re.Pattern[str] | None) -> Any:
    return f"'{cell}" if which and isinstance(cell, str) and which.match(cell) else cell


def _unescaped(cell: str | None) -> str | None:
    return cell[1:] if cell and _ESCAPED.match(cell) else cell


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
        if isinstance(value, int) and abs(value) >= _EXACT:
            value = str(value)
        if isinstance(value, datetime | time) and value.tzinfo:  # Excel has no time zones
            value = value.isoformat()
        if not isinstance(value, str):
            return value
        if len(value) > _CELL:
            raise JapagenError(
                f"Expected texts of at most {_CELL:,} characters for {path}, found one of "
                f"{len(value):,}.",
                "Excel has no room for more: write .csv or .parquet.",
            )
        made = WriteOnlyCell(sheet, _NOT_IN_EXCEL.sub("", value).replace("\r", "_x000D_"))
        made.data_type = "s"  # also where it looks like a formula
        return made

    try:
        sheet.append([cell(name) for name in names])
        for number, row in enumerate(rows, start=2):
            if number > _SHEET:
                raise JapagenError(
                    f"Expected at most {_SHEET - 1:,} rows for {path}, found more.",
                    "Excel has no room for more: write .csv or .parquet.",
                )
            sheet.append([cell(row.get(name)) for name in names])
    finally:
        sheet.close()
    book.save(temporary)
