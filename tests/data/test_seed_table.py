"""A table whose rows prompts tell of: how it is read and how its rows are drawn."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.data.seed_table import SeedRow, SeedTable, read_seed_table
from japagen.data.tables import write_rows
from japagen.errors import JapagenError

LABELS = ["配送", "返品", "その他"]
_sizes = st.integers(1, 40)
_seeds = st.integers(-(2**31), 2**31)
_weights = st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=20).filter(
    lambda weights: max(weights) > 1e-3
)


def _table(size: int, weights: list[float] | None = None, *, in_order: bool = False) -> SeedTable:
    rows = [SeedRow(f"r{n}", {"age": str(n)}) for n in range(size)]
    return SeedTable(Path("t.csv"), ("age",), rows, weights, in_order)


def _drawn(table: SeedTable, seed: int, number: int) -> dict[str, list[str]]:
    drawn = table.draw(LABELS, seed)
    return {label: [row.id for row in islice(rows, number)] for label, rows in drawn.items()}


@given(_sizes, _seeds)
def test_in_order_every_label_gets_each_row_once_before_it_comes_again(
    size: int, seed: int
) -> None:
    drawn = _drawn(_table(size, in_order=True), seed, 2 * size)
    assert all(ids == [f"r{n}" for n in range(size)] * 2 for ids in drawn.values())


@given(_sizes, _seeds)
def test_shuffled_rows_come_once_a_lap_and_labels_begin_with_different_ones(
    size: int, seed: int
) -> None:
    drawn = _drawn(_table(size), seed, 2 * size)
    for ids in drawn.values():
        assert sorted(ids[:size]) == sorted(ids[size:]) == sorted(f"r{n}" for n in range(size))
    first = [id_ for ids in _drawn(_table(300), seed, 50).values() for id_ in ids]
    # A hundred rows a label stand between the places where two of them begin, give or take.
    assert len(set(first)) == 150


@given(_weights, _seeds, st.integers(1, 200))
def test_rows_come_as_often_as_their_weights_say(
    weights: list[float], seed: int, number: int
) -> None:
    for ids in _drawn(_table(len(weights), weights), seed, number).values():
        counts = Counter(ids)
        assert all(counts[f"r{n}"] == 0 for n, w in enumerate(weights) if w == 0)
        # There is one scale at which every count is its weight's, give or take one.
        pairs = [(counts[f"r{n}"], w) for n, w in enumerate(weights) if w > 0]
        assert max((n - 1) / w for n, w in pairs) <= min((n + 1) / w for n, w in pairs) * (1 + 1e-9)


@given(_weights, _seeds)
def test_the_seed_alone_decides_and_a_longer_draw_begins_alike(
    weights: list[float], seed: int
) -> None:
    table = _table(len(weights), weights)
    assert _drawn(table, seed, 30) == _drawn(table, seed, 30)
    assert {k: v[:10] for k, v in _drawn(table, seed, 30).items()} == _drawn(table, seed, 10)


def test_another_seed_draws_otherwise() -> None:
    assert _drawn(_table(40), 0, 40) != _drawn(_table(40), 1, 40)


ROWS: list[dict[str, Any]] = [
    {"id": "a", "年齢": 58, "職業": "介護士", "weight": 1},
    {"id": "b", "年齢": 17, "職業": "高校生", "weight": 2.5},
    {"id": "c", "年齢": 72, "職業": None, "weight": 0},
]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet", "t.xlsx"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / name, ROWS)
    table = read_seed_table(tmp_path / name, weight="weight")
    assert list(table.columns) == ["年齢", "職業"]
    assert [row.id for row in table.rows] == ["a", "b", "c"]
    assert [dict(row.values) for row in table.rows] == [
        {"年齢": "58", "職業": "介護士"},
        {"年齢": "17", "職業": "高校生"},
        {"年齢": "72", "職業": ""},
    ]
    assert table.weights == [1.0, 2.5, 0.0]


def test_a_directory_of_datasets_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list([{"persona": "元教員", "hobbies": ["釣り", "将棋"]}]).save_to_disk(
        tmp_path / "d"
    )
    (row,) = read_seed_table(tmp_path / "d").rows
    assert dict(row.values) == {"persona": "元教員", "hobbies": "釣り、将棋"}


def test_without_ids_a_row_is_called_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("商品,値段\nやかん,2000\n\n鍋,3000\n", encoding="cp932")
    table = read_seed_table(path, "cp932", columns=["商品"])
    assert [(row.id, dict(row.values)) for row in table.rows] == [
        ("line 2", {"商品": "やかん"}),
        ("line 4", {"商品": "鍋"}),
    ]


def test_a_file_of_nemotron_personas_works_as_it_is(tmp_path: Path) -> None:
    row = {
        "uuid": "9f0c",
        "professional_persona": "地元の信用金庫で融資を担当し、商店主の相談に乗る。",
        "persona": "数字に強く、休日は川釣りに出かける。",
        "skills_and_expertise_list": "['財務分析', '接客']",
        "sex": "男",
        "age": 43,
        "marital_status": "既婚",
        "education_level": "大学卒",
        "occupation": "金融・保険事務従事者",
        "region": "東海地方",
        "prefecture": "岐阜県",
        "country": "日本",
    }
    write_rows(tmp_path / "personas.parquet", [row, {**row, "uuid": "9f0d", "age": 44}])
    table = read_seed_table(tmp_path / "personas.parquet")
    assert [each.id for each in table.rows] == ["9f0c", "9f0d"]
    assert table.columns == tuple(name for name in row if name != "uuid")
    assert table.rows[0].values["age"] == "43"


@pytest.mark.parametrize(
    ("text", "how", "message"),
    [
        ("age\n", {}, r"Expected rows to tell of in .*t\.csv, found none"),
        ("id,weight\na,1\n", {}, "Expected rows to tell of"),
        ("", {}, "found an empty file"),
        ("age,age\n1,2\n", {}, r"found these more than once: age"),
        ("age\n58\n", {"columns": ["aeg"]}, r"a column 'aeg' in .*t\.csv, found age .*'age'"),
        ("age\n58\n", {"weight": "w"}, r"Expected a column 'w' in .*t\.csv, found age"),
        ("age,w\n1,2\n2,-1\n", {"weight": "w"}, r"0 or more on line 3 of .*, found '-1'"),
        ("age,w\n1,many\n", {"weight": "w"}, r"on line 2 of .*, found 'many'"),
        ("age,w\n1,\n", {"weight": "w"}, r"on line 2 of .*, found ''"),
        ("age,w\n1,nan\n", {"weight": "w"}, r"on line 2 of .*, found 'nan'"),
        ("age,w\n1,inf\n", {"weight": "w"}, r"on line 2 of .*, found 'inf'"),
        ("age,w\n1,0\n2,0\n", {"weight": "w"}, r"above 0 on one row of .*, found 0 on all 2"),
        ("id,age\na,1\na,2\n", {}, r"found 'a' on line 2 and on line 3"),
        ("id,age\na,1\nb,\n", {}, r"in one of age on line 3 of .*, found empty cells"),
    ],
)
def test_what_cannot_be_used_is_refused(
    tmp_path: Path, text: str, how: dict[str, Any], message: str
) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(JapagenError, match=message):
        read_seed_table(tmp_path / "t.csv", **how)


def test_a_task_finds_its_table_wherever_it_lies(raw_task: dict[str, Any], tmp_path: Path) -> None:
    write_rows(tmp_path / "p.csv", ROWS)
    (tmp_path / "task.yaml").write_text(
        "name: t\nlabels: [配送, 返品]\ngeneration:\n  seed: p.csv\n", encoding="utf-8"
    )
    task = Task.load(tmp_path / "task.yaml")
    again = tmp_path / "elsewhere" / "task.yaml"
    again.parent.mkdir()
    again.write_text(task.to_yaml(), encoding="utf-8")
    found = load_data(Task.load(again)).seed
    assert found is not None
    assert len(found.rows) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generation": {"seed": {"path": "p.csv", "order": "weighted"}}}, "go together"),
        ({"generation": {"seed": {"path": "p.csv", "weight": "w"}}}, "go together"),
        ({"generation": {"seed": {"path": "p.csv", "role": "reader"}}}, "'writer' or 'material'"),
        ({"seed": {"path": "p.csv"}}, "a table of rows for prompts is generation.seed"),
    ],
)
def test_a_task_says_what_goes_together(
    raw_task: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(JapagenError, match=message):
        Task.parse({**raw_task, **change})


def test_rows_of_commas_alone_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("age,job\n30,店員\n,\n", encoding="utf-8")
    assert len(read_seed_table(path).rows) == 1
