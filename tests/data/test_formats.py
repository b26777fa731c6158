from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.formats import read_examples, read_texts, write_examples
from japagen.errors import JapagenError
from japagen.japanese.registers import PRESETS

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1
).filter(str.strip)
example_rows = st.builds(
    Example,
    text=texts,
    label=texts.map(str.strip).filter(lambda s: not (s.startswith("[") and s.endswith("]"))),
    text_pair=st.none() | texts,
    register_asked=st.none() | st.sampled_from(list(PRESETS.values())),
    shot_ids=st.lists(st.sampled_from(["a", "b"])).map(tuple),
    seed=st.none() | st.integers(0, 2**40),
    weight_distribution=st.floats(0, 10),
    rejected=st.none() | st.just(Rejection("length", 3, 6, "短い")),
)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
@given(rows=st.lists(example_rows, min_size=1, max_size=5))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str, rows: list[Example]) -> None:
    dataset = Dataset.of(rows)
    path = tmp_path / f"data.{suffix}"
    write_examples(path, dataset)
    again = read_examples(path)
    for name in ("text", "label", "text_pair", "id", "register_asked", "shot_ids", "seed"):
        expected = dataset.column(name)
        if suffix in ("csv", "tsv") and name == "text_pair":
            expected = [value or None for value in expected]
        assert again.column(name) == expected
    assert again.column("weight_distribution") == pytest.approx(
        dataset.column("weight_distribution")
    )
    assert again.column("rejected") == dataset.column("rejected")


def test_columns_are_mapped_and_unknown_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text("本文,分類,担当\n返品したい,返品,佐藤\n", encoding="utf-8-sig")
    dataset = read_examples(path, columns={"text": "本文", "label": "分類"}, split="train")
    assert dataset[0].text == "返品したい"
    assert dataset[0].label == "返品"
    assert dataset[0].split == "train"


def test_a_missing_column_is_named_with_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text("本文,label\nあ,x\n", encoding="utf-8")
    with pytest.raises(JapagenError, match=r"column 'text' .* found on line 2: 本文, label"):
        read_examples(path)


def test_shift_jis_is_recognised_and_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_bytes("text,label\n請求額が違います,請求\n".encode("cp932"))
    with pytest.raises(JapagenError, match=r"Shift_JIS[\s\S]*iconv -f CP932"):
        read_examples(path)
    assert read_examples(path, encoding="cp932").texts == ["請求額が違います"]


def test_a_truncated_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    path.write_text('{"text": "あ"}\n{"text": "い", "lab', encoding="utf-8")
    with pytest.raises(JapagenError, match="line 2"):
        read_examples(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "empty file"),
        ("a.jsonl", "\n\n", "found none"),
        ("a.csv", "text,label\n", "found none"),
        ("a.jsonl", "[1]\n", "found list on line 1"),
        ("a.jsonl", '{"text": "  "}\n', "Expected a text on line 1"),
        ("a.jsonl", '{"text": 3}\n', "Expected a text on line 1"),
        ("a.csv", "text,label\nあ\n", "found 1"),
        ("a.parquet", "PAR?", "not a Parquet file"),
        ("a.txt", "あ", "suffix"),
    ],
)
def test_bad_files_get_one_clear_sentence(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(JapagenError, match=message):
        read_examples(path)


def test_an_unlabelled_row_is_refused_where_labels_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text("text,label\nあ,x\nい,\n", encoding="utf-8")
    with pytest.raises(JapagenError, match="none on row 2"):
        read_examples(path, require_label=True)


def test_csv_for_excel_starts_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_examples(path, Dataset.of([Example("あ", "x")]), bom=True)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert read_examples(path).texts == ["あ"]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.jsonl"
    write_examples(path, Dataset.of([Example("古い", "x")]))

    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dumps", full)
    with pytest.raises(OSError, match="No space"):
        write_examples(path, Dataset.of([Example("新しい", "x", id="1")]))
    monkeypatch.undo()
    assert read_examples(path).texts == ["古い"]
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]


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
