"""Rows come out of every format as they went in, and what is broken is named."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from japagen.data.tables import (
    column,
    decoded_lines,
    guess_encoding,
    is_known,
    open_table,
    text_lines,
    write_rows,
)
from japagen.errors import JapagenError

SENTENCES = (
    "0番目の検針です。,ｶﾞｽ",
    "荷物が届きません。",
    "解約したい",
    "サイズを交換できますか？",
    "ｶﾞｽ料金の明細",
    "請求額",
)
ROWS = [
    {"id": "a", "text": "一行目\n二行目\tと:smile:", "n": 1},
    {"id": "b", "text": "=1+1", "n": 2},
]


def _rows(path: Path, encoding: str | None = None) -> list[dict[str, Any]]:
    return [row for _, row in open_table(path, encoding).rows(None)]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet", "xlsx"])
def test_rows_are_read_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    if suffix == "xlsx":
        pytest.importorskip("openpyxl")
    path = tmp_path / f"rows.{suffix}"
    write_rows(path, ROWS)
    untyped = suffix in ("csv", "tsv")
    assert _rows(path) == [{**row, "n": str(row["n"]) if untyped else row["n"]} for row in ROWS]


def test_a_row_that_lacks_a_column_has_an_empty_cell(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [{"text": "一"}, {"text": "二", "tags": ["甲", "乙"]}])
    assert _rows(tmp_path / "a.csv") == [
        {"text": "一", "tags": None},
        {"text": "二", "tags": '["甲", "乙"]'},
    ]


def test_a_column_of_several_types_becomes_text_in_parquet(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", [{"x": 1}, {"x": "二"}, {"x": None}])
    assert [row["x"] for row in _rows(tmp_path / "a.parquet")] == ["1", "二", None]


def test_excel_gets_texts_no_formulas_and_cuts_nothing(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "a.xlsx"
    write_rows(path, [{"text": "=HYPERLINK(1)\x01"}])
    assert openpyxl.load_workbook(path).active["A2"].data_type == "s"
    with pytest.raises(JapagenError, match="at most 32,767 characters"):
        write_rows(path, [{"text": "あ" * 32_768}])


def test_excel_keeps_what_it_would_round_or_has_not(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    path = tmp_path / "a.xlsx"
    at = datetime(2026, 11, 30, 9, tzinfo=UTC)
    write_rows(path, [{"id": 1234567890123456789, "n": 12, "text": " 一\r\n二 ", "at": at}])
    assert _rows(path) == [
        {
            "id": "1234567890123456789",
            "n": 12,
            "text": " 一\r\n二 ",
            "at": "2026-11-30T09:00:00+00:00",
        }
    ]


def test_blank_rows_of_excel_are_passed_over(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book, path = openpyxl.Workbook(), tmp_path / "a.xlsx"
    for row in ([], [None, ""], [None, "text"], [None, "一"], [], [None, "二"], ["", None]):
        book.active.append(row)
    book.save(path)
    places = [(where, row["text"]) for where, row in open_table(path).rows(None)]
    assert places == [("row 4", "一"), ("row 6", "二")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text;label\n一,二;甲\n"),
        ("a.csv", "text\tlabel\n一,二\t甲\n"),
        ("a.tsv", 'text,label\n"一,二",甲\n'),
    ],
)
def test_the_header_says_what_separates_cells(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert _rows(path) == [{"text": "一,二", "label": "甲"}]


def test_what_cannot_be_written_there_is_known_before_the_rows_are_made(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, str]]:
        raise AssertionError("a row was made")
        yield {}

    (tmp_path / "file").write_text("")
    for suffix in ("csv", "parquet", "xlsx", "jsonl"):
        with pytest.raises(OSError):  # noqa: PT011, which one is the system's to say
            write_rows(tmp_path / "file" / f"a.{suffix}", rows())


def test_what_is_missing_is_written_as_nothing(tmp_path: Path) -> None:
    row = {"text": "一", "price": float("nan")}
    write_rows(tmp_path / "a.jsonl", [row])
    assert (tmp_path / "a.jsonl").read_text(encoding="utf-8") == '{"text": "一"}\n'
    write_rows(tmp_path / "a.csv", [row])
    assert _rows(tmp_path / "a.csv") == [{"text": "一", "price": None}]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
def test_compressed_files_are_read(tmp_path: Path, suffix: str) -> None:
    content = {
        ".jsonl": '{"text": "一"}\n',
        ".json": '[{"text": "一"}]',
        ".csv": "text\n一\n",
        ".tsv": "text\n一\n",
    }[suffix]
    path = tmp_path / f"a{suffix}.gz"
    path.write_bytes(gzip.compress(content.encode()))
    assert _rows(path) == [{"text": "一"}]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(JapagenError, match="not a compressed file that can be read"):
        _rows(path)


@pytest.mark.parametrize(
    "content",
    [
        '{"text": "一"}\n{"text": "二"}\n',
        '[{"text": "一"},\n {"text": "二"}]',
        '\n\n[{"text": "一"}, {"text": "二"}]',
    ],
)
def test_json_is_lines_or_an_array(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    assert [row["text"] for row in _rows(path)] == ["一", "二"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{\n  "text": "一"\n}\n', "an object may stand on several lines"),
        ("a.jsonl", '{"text": "一", "text": "二"}\n', "the key 'text' stands there twice"),
        ("a.jsonl", '{"n": ' + "9" * 5000 + "}\n", "cannot be read on line 1"),
        ("a.jsonl", '{"n": ' + "[" * 100_000 + "\n", "nested too deeply"),
        ("a.json", '[{"text": "一"}, 2]', "found int on item 2"),
        ("a.csv", "text,label,text\n一,a,b\n", "more than once: text"),
        ("a.csv", 'text\n"一\n', "is not CSV"),
        ("a.parquet", "PAR1 and no more PAR1", "not a Parquet file"),
        ("a.xlsx", "PK", "not an Excel file"),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    if name.endswith("xlsx"):
        pytest.importorskip("openpyxl")
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(JapagenError) as caught:
        _rows(path)
    assert message in str(caught.value)


def test_halves_of_surrogate_pairs_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "困った\\ud83d", "tags": ["\\ud83d\\ude00"]}\n', encoding="utf-8")
    assert _rows(path) == [{"text": "困った\ufffd", "tags": ["😀"]}]


def test_a_cell_may_be_of_any_size(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "約款。" * 60_000 + "\n", encoding="utf-8")
    assert len(_rows(path)[0]["text"]) == 180_000


def test_of_parquet_only_what_is_needed_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    far = pa.array([2**62], pa.timestamp("us"))
    pq.write_table(pa.table({"text": ["一"], "made": far}), path)
    table = open_table(path)
    assert list(table.rows(["text"])) == [("row 1", {"text": "一"})]
    # A time beyond Python's is still a number.
    assert list(table.rows(None)) == [("row 1", {"text": "一", "made": 2**62})]


def test_dates_beyond_those_of_python_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["一"], "on": pa.array([2**30], pa.date32())}), path)
    assert _rows(path) == [{"text": "一", "on": 2**30}]


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bits_are_one_clear_error_or_change_nothing(tmp_path: Path, seed: int) -> None:
    import random

    path = tmp_path / "a.parquet"
    rows = [{"text": f"{n}番目の問い合わせです。", "label": "配送"} for n in range(200)]
    write_rows(path, rows)
    raw = bytearray(path.read_bytes())
    draw = random.Random(seed)
    for _ in range(draw.randint(1, 8)):
        raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    path.write_bytes(raw)
    found = None
    with contextlib.suppress(JapagenError):  # any other exception is a failure
        found = [list(row.values()) for row in _rows(path)]
    assert found in (None, [list(row.values()) for row in rows])


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "cp932", "euc_jp", "utf-16", "utf-16-le", "utf-16-be", "iso2022_jp"],
)
@given(st.lists(st.sampled_from(SENTENCES[:5]), min_size=1, max_size=6))
@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_encoding_is_found_out(tmp_path: Path, encoding: str, lines: list[str]) -> None:
    assume(any("\u3041" <= c <= "\u3096" for line in lines for c in line))
    path = tmp_path / "a.txt"
    ends = "\r\n" if encoding == "utf-16-le" else "\n"
    text = ends.join(lines) + ends
    # Half-width katakana are not in it.
    assume(encoding != "iso2022_jp" or "ｶ" not in text)
    path.write_bytes(text.encode(encoding))
    assert "".join(text_lines(path)) == text
    assert "".join(text_lines(path, encoding)) == text
    with path.open("rb") as stream:
        assert "".join(decoded_lines(iter(stream), None)) == text


def test_a_broken_byte_makes_no_other_encoding_of_utf_8() -> None:
    raw = "荷物が届きません。返品したいのですが。".encode()
    assert guess_encoding(raw[:10] + b"\xff" + raw[10:]) is None
    assert guess_encoding(b"caf\xe9 cr\xe8me\n") is None


@pytest.mark.parametrize("spelling", ["utf-8", "UTF8", "utf_8", "utf_8_sig", "cp65001"])
def test_a_byte_order_mark_is_left_out_however_utf_8_is_spelt(
    tmp_path: Path, spelling: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "text\n一\n".encode())
    assert _rows(path, spelling) == [{"text": "一"}]


@pytest.mark.parametrize("encoding", ["\0", "undefined", "utf-9", "hex"])
def test_an_encoding_that_there_is_not_is_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n一\n", encoding="utf-8")
    with pytest.raises(JapagenError, match="Unknown encoding"):
        _rows(path, encoding)


def test_a_stream_that_cannot_be_decoded_says_where() -> None:
    lines = decoded_lines([b"abc\n", b"\xff\xfe\xff\n"], None)
    assert next(lines) == "abc\n"
    with pytest.raises(JapagenError, match="on line 2"):
        next(lines)
    with pytest.raises(JapagenError, match="to be euc_jp"):
        list(decoded_lines(["返品".encode("cp932")], "euc_jp"))


def test_utf_16_without_a_mark_is_not_taken_for_shift_jis(tmp_path: Path) -> None:
    # Nothing in its first line gives it away, the second half of the line break does.
    raw = "荷物はいつ届きますか。\n返品したいです。\n".encode("utf-16-le")
    with pytest.raises(JapagenError, match=r"reads as UTF-16LE \(utf-16-le\) on line 2"):
        list(decoded_lines(io.BytesIO(raw), None))
    marked = io.BytesIO(b"\xff\xfe" + raw)
    assert next(decoded_lines(marked, "utf-16-le")) == "荷物はいつ届きますか。\n"


@pytest.mark.parametrize(
    ("encoding", "name"), [("iso2022_jp", "ISO-2022-JP"), ("utf-16", "UTF-16")]
)
def test_what_utf_8_could_read_but_is_not_is_refused(encoding: str, name: str) -> None:
    lines = io.BytesIO("荷物\n".encode(encoding))
    with pytest.raises(JapagenError, match=f"to be utf-8, found what reads as {name}"):
        list(decoded_lines(lines, "utf-8"))


def test_columns_are_found_however_their_names_are_composed() -> None:
    assert column("ガス", ["テキスト", "カ\u3099ス"]) == "カ\u3099ス"
    assert column("text", ["ｔｅｘｔ", "id"]) == "ｔｅｘｔ"
    assert column("text", ["TEXT"]) is None
    assert column("1", ["①", "１"]) is None


def test_saved_datasets_are_read_with_the_names_of_their_classes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["請求", "配送"])}
    )
    made = datasets.Dataset.from_dict({"text": ["一", "二"], "label": [1, 0]}, features=features)
    made.save_to_disk(tmp_path / "one")
    made.to_parquet(tmp_path / "one.parquet")
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "two")
    for path in (tmp_path / "one", tmp_path / "one.parquet", tmp_path / "two" / "train"):
        table = open_table(path)
        assert is_known(path)
        assert table.classes == {"label": ["請求", "配送"]}
        assert [row["text"] for _, row in table.rows(["text"])] == ["一", "二"]
    with pytest.raises(JapagenError, match=r"Expected one split .* found test, train"):
        open_table(tmp_path / "two")


def test_a_damaged_directory_of_datasets_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": []}), encoding="utf-8")
    with pytest.raises(JapagenError, match="not a directory of `datasets`"):
        open_table(tmp_path)
    (tmp_path / "data-00000-of-00001.arrow").write_bytes(b"ARROW")
    with pytest.raises(JapagenError, match="not a directory of `datasets`"):
        open_table(tmp_path)
