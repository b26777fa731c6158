"""Examples in the forms that other libraries, and users' own code, have them in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from japagen.data.dataset import Dataset, Example, Rejection, as_dataset
from japagen.data.formats import read_examples, read_rows
from japagen.data.records import library_of, usual_columns
from japagen.errors import JapagenError

TEXTS, LABELS = ["届きません。", "返品したい。", "まだですか。"], ["配送", "返品", "配送"]
FRAME = pd.DataFrame({"本文": TEXTS, "カテゴリ": LABELS, "担当": ["佐藤", "鈴木", None]})
CLASSES = datasets.Features(
    {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["返品", "配送"])}
)
SPLIT = datasets.Dataset.from_dict({"sentence": TEXTS, "label": [1, 0, 1]}, features=CLASSES)


@pytest.mark.parametrize(
    "data",
    [
        FRAME,
        FRAME.set_index(pd.Index([7, 7, 9])),
        FRAME.astype({"カテゴリ": "category"}),
        SPLIT,
        SPLIT.to_iterable_dataset().map(lambda row: {**row, "label": LABELS[1 - row["label"]]}),
        pa.table({"TEXT": TEXTS, "Label": LABELS}),
        {"文章": TEXTS, "ラベル": LABELS},
        (FRAME["本文"], FRAME["カテゴリ"]),
        (np.array(TEXTS), np.array(LABELS)),
        list(zip(TEXTS, LABELS, strict=True)),
        [{"text": t, "label": v} for t, v in zip(TEXTS, LABELS, strict=True)],
        [Example(t, v) for t, v in zip(TEXTS, LABELS, strict=True)],
        (pair for pair in zip(TEXTS, LABELS, strict=True)),
    ],
    ids=lambda data: type(data).__name__,
)
def test_every_form_gives_the_same_examples(data: Any) -> None:
    found = as_dataset(data, split="train")
    assert (found.texts, found.labels) == (TEXTS, LABELS)
    assert found.column("id") == Dataset.of(map(Example, TEXTS, LABELS)).column("id")


@pytest.mark.parametrize(
    ("data", "columns"),
    [
        (TEXTS, {}),
        (FRAME["本文"], {}),
        (np.array(TEXTS), {}),
        (pd.DataFrame({"t": TEXTS}), {"text": "t"}),
    ],
)
def test_texts_alone_have_no_labels(data: Any, columns: dict[str, str]) -> None:
    found = as_dataset(data, columns=columns)
    assert found.texts == TEXTS
    assert set(found.labels) == {None}


def test_polars_is_read_and_written() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"本文": TEXTS, "カテゴリ": LABELS})
    for form in (
        frame,
        frame.lazy(),
        frame.with_columns(polars.col("カテゴリ").cast(polars.Categorical)),
    ):
        assert Dataset.from_polars(form).labels == LABELS
    assert as_dataset(frame["本文"]).texts == TEXTS
    assert as_dataset((frame["本文"], frame["カテゴリ"])).labels == LABELS
    found = Dataset.from_polars(frame)
    assert Dataset.from_polars(found.to_polars()).fingerprint == found.fingerprint


def test_what_is_written_is_read_as_it_was() -> None:
    data = Dataset.of(
        [
            Example("一", "a", shot_ids=("x", "y"), weight_label=0.5, split="train"),
            Example("二", "b", rejected=Rejection("length", 1.0, 2.0, "短い"), seed=3),
        ]
    )
    for made in (data.to_pandas(), data.to_hf(), data.to_records()):
        assert as_dataset(made).fingerprint == data.fingerprint
    assert data.to_pandas()["weight"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([1, 2, 1], ["1", "2", "1"]),
        ([1.0, None, 2.0], ["1", None, "2"]),
        ([0.5, 2, 1], [0.5, 2.0, 1.0]),
        ([["a"], ["a", "b"], []], [["a"], ["a", "b"], []]),
        ([np.array(["a"]), np.array(["a", "b"]), np.array([])], [["a"], ["a", "b"], []]),
        ([True, False, pd.NA], ["true", "false", None]),
        (["a|b", "b", "c"], ["a|b", "b", "c"]),
    ],
)
def test_labels_are_typed_as_those_of_files(labels: list[Any], found: list[Any]) -> None:
    assert Dataset.from_pandas(pd.DataFrame({"text": TEXTS, "label": labels})).labels == found


def test_pairs_are_read() -> None:
    frame = pd.DataFrame({"sentence1": ["雨だ"], "sentence2": ["晴れだ"], "label": ["矛盾"]})
    for data in (frame, [("雨だ", "晴れだ", "矛盾")]):
        found = as_dataset(data)
        assert found.is_pair
        assert (found[0].text, found[0].text_pair, found[0].label) == ("雨だ", "晴れだ", "矛盾")


@pytest.mark.parametrize(
    ("names", "given", "found"),
    [
        (["本文", "カテゴリー"], (), {"text": "本文", "label": "カテゴリー"}),
        (["Sentence", "Category"], (), {"text": "Sentence", "label": "Category"}),
        (["text", "本文", "label", "分類"], (), {}),
        (["本文", "sentence", "label"], (), {}),
        (["本文", "分類"], ("text",), {"label": "分類"}),
        (["前提", "仮説", "label"], (), {"text": "前提", "text_pair": "仮説"}),
        (["ｔｅｘｔ", "ラベル"], (), {"label": "ラベル"}),
    ],
)
def test_columns_are_found_by_usual_names(
    names: list[str], given: tuple[str, ...], found: dict[str, str]
) -> None:
    assert usual_columns(names, given) == found


def test_the_log_says_which_columns_were_taken(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="japagen"):
        Dataset.from_pandas(FRAME)
    assert caplog.messages == [
        "Took the column '本文' of DataFrame for the text.",
        "Took the column 'カテゴリ' of DataFrame for the label.",
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (5, "found int"),
        ("gold.csv", "found str"),
        (FRAME[["担当"]], r"column 'text' for the text in DataFrame, found on row 1: 担当"),
        (pd.DataFrame({"text": ["一", None]}), "text on row 2 of DataFrame, found None"),
        (pd.DataFrame([["一", "二"]], columns=["text", "text"]), "more than once: text"),
        ([("一", "a"), "二"], "records of one form, found str, tuple"),
        ([], "Expected examples in list, found none"),
        ((TEXTS, LABELS[:2]), "found 2 and 3"),
        (datasets.DatasetDict({"train": SPLIT}), "one split, found train"),
        ([("一", "a"), ("二", object())], "row 2 of list is not what its column holds"),
    ],
)
def test_what_cannot_be_read_is_refused(data: Any, message: str) -> None:
    with pytest.raises(JapagenError, match=message):
        as_dataset(data)


def test_a_dataset_is_not_made_of_a_frame_by_its_constructor() -> None:
    with pytest.raises(JapagenError, match="from_pandas"):
        Dataset(FRAME)


def test_a_dataset_is_sliced_and_has_columns() -> None:
    data = Dataset.from_pandas(FRAME)
    assert data[1:].texts == TEXTS[1:]
    assert data[::-1].texts == TEXTS[::-1]
    assert data["label"] == LABELS
    with pytest.raises(KeyError, match="label"):
        data["labels"]


def test_the_library_of_a_type_is_told_without_importing_it() -> None:
    assert library_of(type("Mine", (pd.DataFrame,), {})()) == "pandas"
    assert library_of(SimpleNamespace()) == "types"
    program = (
        "import sys; from japagen.data.dataset import Dataset; "
        "Dataset.from_records([('一', 'a')]).to_records(); "
        # Arrow itself imports pandas where it is installed.
        "print(*{'polars', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(JapagenError, match=r"pip install 'japagen\[pandas\]'"):
        Dataset.of([Example("一", "a")]).to_pandas()


def test_what_notebooks_show_is_escaped() -> None:
    data = Dataset.of([Example("<script>alert(1)</script>", "<b>a</b>"), Example("い", "b")])
    assert repr(data) == "<Dataset: 2 examples, <b>a</b> 1, b 1>"
    shown = data._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;alert(1)" in shown
    assert "&lt;b&gt;a&lt;/b&gt;" in shown


def test_a_label_that_a_row_lacks_is_missing_whatever_its_column_is_called(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"本文": "あ", "分類": "x"}\n{"本文": "い"}\n', encoding="utf-8")
    assert read_examples(path).labels == ["x", None]
    with pytest.raises(JapagenError, match=r"分類.* line 2"):
        read_examples(path, require_label=True)


def test_one_of_two_texts_is_not_taken_for_a_text_alone(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("sentence1,sentence2\n甲,乙\n", encoding="utf-8")
    with pytest.raises(JapagenError, match="column 'text'"):
        list(read_rows(path, ()))
    (row,) = read_rows(path, (), pairs=True)
    assert (row.text, row.text_pair) == ("甲", "乙")
