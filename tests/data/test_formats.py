from __future__ import annotations

import gzip
import json
import os
import re
import threading
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.formats import (
    load_dataset,
    read_examples,
    read_rows,
    read_texts,
    read_with_places,
    write_examples,
)
from japagen.data.tables import write_rows
from japagen.errors import DamagedError, JapagenError
from japagen.japanese.registers import PRESETS

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1
).filter(str.strip)


def composed(label: str) -> str:
    """A label as every file gives it: of composed characters, nothing blank around it."""
    return unicodedata.normalize("NFC", label).strip()


example_rows = st.builds(
    Example,
    text=texts,
    label=texts.map(composed).filter(lambda s: s and not s.startswith(("[", '{"choices"'))),
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


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet", "xlsx"])
def test_texts_that_look_like_json_stay_texts(tmp_path: Path, suffix: str) -> None:
    """Only what is known to hold lists or objects is read as such."""
    written = ['["A"]', "[]", "{}", '{"choices": ["x"]}', "null", "1", "true", "'=1"]
    rows = [{"text": t, "text_pair": t, "label": "a", "fields": t} for t in written]
    theirs, ours = tmp_path / f"theirs.{suffix}", tmp_path / f"ours.{suffix}"
    if suffix == "json":
        theirs.write_text(json.dumps(rows), "utf-8")
    else:
        write_rows(theirs, rows)
    read = read_examples(theirs)
    assert read.texts == read.column("text_pair") == written
    assert [row.values["text"] for row in read_rows(theirs, ())] == written
    if suffix != "json":
        own = [replace(e, fields={"body": e.text}) for e in read]
        write_examples(ours, Dataset.of(own))
        again = read_examples(ours)
        assert again.texts == again.column("text_pair") == written
        assert again.fields == [{"body": text} for text in written]


def test_columns_are_mapped_and_unknown_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text("本文,分類,担当\n返品したい,返品,佐藤\n", encoding="utf-8-sig")
    dataset = read_examples(path, columns={"text": "本文", "label": "分類"}, split="train")
    assert dataset[0].text == "返品したい"
    assert dataset[0].label == "返品"
    assert dataset[0].split == "train"


def test_a_missing_column_is_named_with_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    path.write_text("お声,label\nあ,x\n", encoding="utf-8")
    with pytest.raises(JapagenError, match=r"column 'text' .* found on line 2: お声, label"):
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
        list(read_texts(path, [], encoding="utf-8"))
    assert "iconv -f CP932" in caught.value.hint
    assert "--encoding cp932" in caught.value.hint
    assert list(read_texts(path, [])) == ["荷物が届かない"]


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


# Of each kind of label, what a column of it may look like.
columns_of_labels = st.one_of(
    st.lists(texts.map(composed).filter(lambda s: s and s[0] not in "[{"), min_size=1, max_size=4),
    st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), min_size=1, max_size=4),
    st.lists(
        st.lists(st.sampled_from(["配送", "[重要]", "1", "急ぎ"]), unique=True),
        min_size=1,
        max_size=4,
    ).filter(any),
)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet", "xlsx"])
@given(
    labels=columns_of_labels, bom=st.booleans(), start=st.sampled_from(["", "=", "'=", "@", "-"])
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_labels_of_every_kind_are_read_back(
    tmp_path: Path, suffix: str, labels: list[Any], bom: bool, start: str
) -> None:
    if suffix == "xlsx":
        pytest.importorskip("openpyxl")
    if suffix == "xlsx" and isinstance(labels[0], str):  # which holds no control characters
        labels = [re.sub(r"[\x00-\x1f]", "", label) or "分類" for label in labels]
    # What a file without types cannot tell from numbers is told by the task.
    if suffix in ("csv", "tsv") and isinstance(labels[0], str):
        labels = [f"分類{label}" for label in labels]
    rows = [Example(f"{start}{n}番目", label, label_asked=label) for n, label in enumerate(labels)]
    path = tmp_path / f"data.{suffix}"
    write_examples(path, Dataset.of(rows), bom=bom)
    again = read_examples(path)
    assert again.labels == labels
    assert again.column("label_asked") == labels
    assert again.texts == [row.text for row in rows]


BRACKETS = ['["A"]', "['A', 'B']", "[]", '{"choices": ["A"]}']


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_classes_that_look_like_lists_are_classes_where_they_are_known(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"data.{suffix}"
    write_rows(path, [{"text": f"{n}番目", "label": name} for n, name in enumerate(BRACKETS)])
    assert read_examples(path).labels == [["A"], ["A", "B"], [], ["A"]]
    assert read_examples(path, classes=["B", "[]"]).labels == BRACKETS
    assert read_examples(path, classes=["A", "B"]).labels == [["A"], ["A", "B"], [], ["A"]]
    own = Dataset.of([Example(f"{n}番目", name) for n, name in enumerate(BRACKETS)])
    write_examples(path, own)
    # A CSV writes a list as it writes a class of that name.
    known = BRACKETS if suffix == "csv" else ()
    assert read_examples(path, classes=known).labels == BRACKETS


def test_a_csv_for_excel_has_no_formulas(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    texts = ['=HYPERLINK("http://example.com","x")', "+81", "-1件", "@here", "'=1", "平文"]
    write_examples(path, Dataset.of([Example(text, "x") for text in texts]), bom=True)
    cells = [row.values["text"] for row in read_rows(path, ())]
    raw = path.read_text(encoding="utf-8-sig")
    assert re.findall(r"^('.)81,", raw, re.MULTILINE) == ["'+"]
    assert not re.search(r"^[=+@-]", raw, re.MULTILINE)
    assert cells == texts == read_examples(path).texts


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz"])
@pytest.mark.parametrize(
    ("bom", "escape", "escaped"),
    [(False, None, False), (False, True, True), (True, False, False), (True, None, True)],
)
def test_formulas_are_escaped_for_the_asking(
    tmp_path: Path, suffix: str, bom: bool, escape: bool | None, escaped: bool
) -> None:
    path = tmp_path / f"out.{suffix}"
    texts = ["=1+1", "＝1＋1", "\n-1", "'=1", "''@x", "'平文'", "平文"]
    data = Dataset.of([Example(text, "x") for text in texts])
    write_examples(path, data, bom=bom, escape_formulas=escape)
    raw = path.read_bytes()
    assert (b"'=1+1" in (gzip.decompress(raw) if suffix.endswith("gz") else raw)) is escaped
    assert read_examples(path).texts == texts


@pytest.mark.parametrize(
    "more",
    [
        {"round": 1},
        {"source": 3},
        {"rejected": False},
        {"weight": -1, "split": "gold", "seed": "x", "register_asked": [1], "parent_id": 7},
        {"shot_ids": "none", "generator": 1.5, "register_seen": "teinei", "round": 2**70},
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_columns_of_others_mean_nothing_to_japagen(
    tmp_path: Path, suffix: str, more: dict[str, Any]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {"text": "荷物が届きません。", "label": "配送", **more}
    path = tmp_path / f"data.{suffix}"
    if suffix == "jsonl":
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    else:
        pq.write_table(pa.table({k: [str(v) if k == "round" else v] for k, v in row.items()}), path)
    found = read_examples(path)[0]
    assert found == Example(row["text"], "配送", id=found.id, source=path.name)


def test_a_named_weight_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,weight,重み\nあ,500,2\nい,600,1\n", encoding="utf-8")
    found = read_examples(path, columns={"weight": "重み"})
    assert found.column("weight_distribution") == [2.0, 1.0]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 1, 0], ["0", "1", "0"]),
        ([1234567, 1234568], ["1234567", "1234568"]),
        ([12345678901234567890, 1], ["12345678901234567890", "1"]),
        ([1.0, float("nan"), 0.0], ["1", None, "0"]),
        ([0.5, 3, 2.0], [0.5, 3.0, 2.0]),
        (["A", 3, 2.5], ["A", "3", "2.5"]),
        ([True, False], ["true", "false"]),
        (["[重要]", "[通常]"], ["[重要]", "[通常]"]),
        (["[重要]", "通常"], ["[重要]", "通常"]),
        (["[1]", "[2]"], ["[1]", "[2]"]),
        (["[]", "請求、急ぎ", "該当なし"], [[], ["請求", "急ぎ"], []]),
        (["['配送']", "['配送', '急ぎ']"], [["配送"], ["配送", "急ぎ"]]),
        (["['配送' '急ぎ']"], [["配送", "急ぎ"]]),
        ([["配送", "急ぎ"], "請求", None], [["配送", "急ぎ"], ["請求"], None]),
        (["請求", ["配送", "急ぎ"]], [["請求"], ["配送", "急ぎ"]]),
        (["請求，急ぎ", ["配送"]], [["請求", "急ぎ"], ["配送"]]),
        ([[1, 2], [3]], [["1", "2"], ["3"]]),
        (['{"choices": ["配送", "急ぎ"]}', "請求"], [["配送", "急ぎ"], ["請求"]]),
        ([{"choices": ["配送", "急ぎ"]}], [["配送", "急ぎ"]]),
        (["カ\u3099ス", " ガス "], ["ガス", "ガス"]),
        (["", "  ", "x"], [None, None, "x"]),
    ],
)
def test_a_column_of_labels_is_of_one_kind(
    tmp_path: Path, labels: list[Any], expected: list[Any]
) -> None:
    path = tmp_path / "data.jsonl"
    rows = [{"text": f"{n}番目", "label": label} for n, label in enumerate(labels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert read_examples(path).labels == expected


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (float("inf"), "a label is text, a number or a list of texts"),
        ({"name": "配送"}, "a label is text, a number or a list of texts"),
        ([["配送"]], "a list of labels holds only texts"),
        ([None], "a list of labels holds only texts"),
    ],
)
def test_what_is_no_label_is_refused(tmp_path: Path, label: Any, message: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"text": "あ", "label": label}) + "\n", encoding="utf-8")
    with pytest.raises(JapagenError, match=rf"line 1 .*{message}"):
        read_examples(path)


def test_class_ids_have_the_names_that_the_file_says(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["請求", "配送"])
    for name, label, expected in (
        ("one", names, ["配送", None]),
        ("several", datasets.Sequence(names), [["配送", "請求"], []]),
    ):
        features = datasets.Features({"text": datasets.Value("string"), "label": label})
        given = [1, -1] if name == "one" else [[1, 0], []]
        made = datasets.Dataset.from_dict({"text": ["一", "二"], "label": given}, features=features)
        made.to_parquet(tmp_path / f"{name}.parquet")
        made.save_to_disk(tmp_path / name)
        for path in (tmp_path / f"{name}.parquet", tmp_path / name):
            assert read_examples(path).labels == expected
            assert read_examples(path, columns={"label": "ｌａｂｅｌ"}).labels == expected


@pytest.mark.parametrize("seed", range(30))
def test_a_file_of_a_run_with_flipped_bits_is_damaged_or_whole(tmp_path: Path, seed: int) -> None:
    import random

    path = tmp_path / "kept.parquet"
    dataset = Dataset.of([Example(f"{n}番目の文です。", "甲", shot_ids=("g",)) for n in range(50)])
    write_examples(path, dataset)
    raw = bytearray(path.read_bytes())
    draw = random.Random(seed)
    for _ in range(draw.randint(1, 6)):
        raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    path.write_bytes(raw)
    try:
        found = load_dataset(path)
    except DamagedError:
        return
    assert found.fingerprint == dataset.fingerprint


def test_texts_that_are_missing_keep_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": 7, "text": "一"}\n{"id": 8, "text": null}\n{"id": 9, "text": NaN}\n', "utf-8"
    )
    rows = list(read_rows(path, ()))
    assert [(row.text, row.values["id"]) for row in rows] == [("一", 7), ("", 8), ("", 9)]


def test_pairs_come_from_columns_or_tabs(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("前提,仮説\n一,二\n三,\n", encoding="utf-8")
    names = {"text": "前提", "text_pair": "仮説"}
    assert [(r.text, r.text_pair) for r in read_rows(path, (), pairs=True, columns=names)] == [
        ("一", "二"),
        ("三", ""),
    ]
    assert [r.text_pair for r in read_rows(None, ["一\t二\n", "\n"], pairs=True)] == ["二", ""]
    with pytest.raises(JapagenError, match="with a tab between them on line 1"):
        list(read_rows(None, ["一\n"], pairs=True))


def test_what_is_missing_is_none_in_every_column(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": NaN, "text": "一", "text_pair": NaN, "label": NaN}\n'
        '{"id": NaN, "text": "二"}\n{"id": 7, "text": "三"}\n',
        "utf-8",
    )
    found = read_examples(path)
    assert "nan" not in found.column("id")
    assert found.column("id")[2] == "7"
    assert found.column("text_pair") == found.labels == [None, None, None]


def test_rows_of_commas_alone_are_no_examples(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n一,甲\n,\n二,乙\n,\n,\n", encoding="utf-8")
    found, places = read_with_places(path)
    assert (found.texts, places) == (["一", "二"], ["line 2", "line 4"])
    # Predictions keep their rows beside it.
    assert [row.text for row in read_rows(path, ())] == ["一", "", "二", "", ""]
    path.write_text("text,label\n一,甲\n,乙\n", encoding="utf-8")
    with pytest.raises(JapagenError, match="Expected a text on line 3"):
        read_examples(path)


def test_texts_of_digits_are_numbers_in_excel(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book, path = openpyxl.Workbook(), tmp_path / "a.xlsx"
    for row in (["text", "text_pair", "label"], [110, "一", "0012"], ["二", 1.5, "12"]):
        book.active.append(row)
    book.save(path)
    found = read_examples(path)
    assert found.texts == ["110", "二"]
    assert found.column("text_pair") == ["一", "1.5"]
    assert found.labels == ["0012", "12"]


@pytest.mark.skipif(os.name == "nt", reason="has no named pipes")
def test_texts_come_from_a_named_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes("返品\n".encode("cp932")))
    writer.start()
    assert [row.text for row in read_rows(pipe, ())] == ["返品"]
    writer.join()
    with pytest.raises(JapagenError, match="There is no file"):
        list(read_rows(tmp_path, ()))


def test_where_a_row_stands_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text\n"一\n行"\n二\n', encoding="utf-8")
    assert read_with_places(path)[1] == ["line 3", "line 4"]


def test_ids_that_repeat_name_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text\nc1,一\nc1,二\n", encoding="utf-8")
    assert len(set(read_examples(path).column("id")) - {"c1"}) == 2
    with pytest.raises(JapagenError, match="ids to be unique, found 'c1'"):
        read_examples(path, columns={"id": "id"})


def test_labels_of_unlabelled_texts_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "一", "label": {"x": 1}}\n', encoding="utf-8")
    assert read_examples(path, split="unlabelled").labels == [None]
    with pytest.raises(JapagenError, match="a label is text"):
        read_examples(path)
