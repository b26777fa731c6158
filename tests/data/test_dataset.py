from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.formats import load_dataset, write_examples
from japagen.errors import DamagedError, JapagenError
from japagen.japanese.registers import Register

REJECTED = Rejection("too_short", 3, 6)


def test_ids_come_from_the_content_and_repeats_stay_apart() -> None:
    rows = [Example("あ", "x"), Example("い", "x"), Example("あ", "x")]
    first, second, third = Dataset.of(rows).column("id")
    assert Dataset.of(rows[1:]).column("id") == [second, first]
    assert third == f"{first}-2"


def test_repeated_ids_and_mixed_labels_are_refused() -> None:
    with pytest.raises(JapagenError, match="'a' more than once"):
        Dataset.of([Example("あ", id="a"), Example("い", id="a")])
    with pytest.raises(JapagenError, match="labels of one kind"):
        Dataset.of([Example("あ", "x"), Example("い", 1.0)])


def test_repetitions_of_a_label_and_text_can_be_left_out() -> None:
    rows = [Example("あ", "x"), Example("い", "x"), Example("あ", "x"), Example("あ", "y")]
    distinct = Dataset.of(rows).distinct
    assert list(zip(distinct.texts, distinct.labels, strict=True)) == [
        ("あ", "x"),
        ("い", "x"),
        ("あ", "y"),
    ]
    assert distinct.distinct is distinct


def test_weights_have_mean_one_over_the_kept() -> None:
    dataset = Dataset.of(
        [
            Example("あ", "x", weight_distribution=3.0),
            Example("い", "x", weight_distribution=2.0, weight_label=0.5),
            Example("う", "x", weight_distribution=9.0, rejected=REJECTED),
        ]
    )
    assert dataset.weights.tolist() == [1.5, 0.5, 0.0]
    assert len(dataset.kept) == 2


@pytest.mark.parametrize("label", ["配送", 2.5, ["配送", "返品"]])
def test_a_stored_dataset_is_the_same_and_joins_others(tmp_path: Path, label: object) -> None:
    dataset = Dataset.of(
        [
            Example("あ", label, register_seen=Register("teinei"), shot_ids=("g1",)),  # type: ignore[arg-type]
            Example("", label, rejected=REJECTED),  # type: ignore[arg-type]
        ]
    )
    write_examples(tmp_path / "d.parquet", dataset)
    again = load_dataset(tmp_path / "d.parquet")
    assert again.fingerprint == dataset.fingerprint
    assert list(again) == list(dataset)
    assert len(Dataset.concat([dataset, again])) == 4


def test_columns_that_an_earlier_version_did_not_write_have_their_defaults(tmp_path: Path) -> None:
    dataset = Dataset.of([Example("あ", "x", source="claude", shot_ids=("g1",))])
    defaults: dict[str, object] = {"derived": None, "round": 0, "shot_ids": [], "source": ""}
    for name, default in defaults.items():
        pq.write_table(dataset.table.drop_columns([name]), tmp_path / "old.parquet")
        old = load_dataset(tmp_path / "old.parquet")
        assert old.table.schema == dataset.table.schema
        assert old.column(name) == [default]
        assert old.texts == ["あ"]
    pq.write_table(dataset.table.drop_columns(["text"]), tmp_path / "old.parquet")
    with pytest.raises(DamagedError):
        load_dataset(tmp_path / "old.parquet")


_OLD = Dataset.of(
    [
        Example(
            "あ",
            "x",
            "い",
            "1",
            "train",
            "claude",
            "rewritten",
            "y",
            Register("teinei"),
            Register("da"),
            "r-1",
            "0",
            ("g1",),
            3,
            "model",
            "prompt",
            7,
            2.0,
            0.5,
            REJECTED,
        ),
        Example("う", "x", id="2"),
    ]
)


@given(st.sets(st.sampled_from([name for name in _OLD.table.column_names if name != "text"])))
def test_any_missing_column_has_its_default(missing: set[str]) -> None:
    old = Dataset.from_table(_OLD.table.drop_columns(sorted(missing)))
    defaults = {f.name: f.default for f in fields(Example) if f.name in missing - {"id"}}
    for example, was in zip(old, _OLD, strict=True):
        wanted = replace(was, **defaults)  # type: ignore[arg-type]
        assert replace(example, id=was.id) == wanted
        assert (example.id == was.id) == ("id" not in missing)
    assert old.table.schema.names == _OLD.table.schema.names
    assert len(set(old.column("id"))) == len(old)


def test_a_changed_cell_changes_the_fingerprint() -> None:
    dataset = Dataset.of([Example("あ", "x")])
    changed = dataset.with_columns(weight_label=[0.5])
    assert changed.fingerprint != dataset.fingerprint
    assert dataset.column("weight_label") == [1.0]


def test_an_empty_dataset_is_a_dataset() -> None:
    empty = Dataset.of([])
    assert len(empty) == 0
    assert empty.weights.shape == (0,)
    assert empty.where(np.zeros(0, dtype=bool)).labels == []
    assert len(Dataset.concat([empty, Dataset.of([Example("あ", 1.0)])])) == 1
