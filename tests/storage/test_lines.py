from __future__ import annotations

from pathlib import Path

import pytest

from japagen.errors import JapagenError
from japagen.storage.lines import read_texts


def test_lines_come_from_a_stream_or_any_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "一\n二\n".encode())
    assert list(read_texts(path, [])) == ["一", "二"]
    assert list(read_texts(None, ["一\n", "二\r\n"])) == ["一", "二"]
    assert list(read_texts(Path("-"), ["一"])) == ["一"]


def test_texts_come_from_a_file_of_examples(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n一\n", encoding="utf-8")
    assert list(read_texts(path, [])) == ["一"]


def test_lines_in_another_encoding_say_how_to_convert(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("荷物が届かない\n".encode("cp932"))
    with pytest.raises(JapagenError, match="Shift_JIS") as caught:
        list(read_texts(path, []))
    assert "iconv -f CP932" in caught.value.hint
    assert "task file" not in caught.value.hint


def test_rows_of_a_file_come_before_all_of_it_is_read(tmp_path: Path) -> None:
    jsonl = tmp_path / "a.jsonl"
    jsonl.write_text('{"text": "一"}\n{"text": "二"}\n{broken\n', encoding="utf-8")
    csv = tmp_path / "a.csv"
    csv.write_text("\ufefftext,label\n一,a\n二,b\n三,c,too many\n", encoding="utf-8")
    for path in (jsonl, csv):
        texts = read_texts(path, [])
        assert [next(texts), next(texts)] == ["一", "二"]
        with pytest.raises(JapagenError, match=r"line [34]"):
            next(texts)
