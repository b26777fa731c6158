"""Combinations of attributes: balanced for any number of requests."""

from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise
from math import log, prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.config.generation import LEVELS, Knowledge
from japagen.config.task import Task
from japagen.data.dataset import Dataset, Example
from japagen.data.files import resource_dir
from japagen.errors import JapagenError
from japagen.generation.topics import (
    LENGTH,
    as_item,
    combinations,
    default_grid,
    drawn_settings,
    from_item,
    kind_of_text,
)
from japagen.llm.prompts import PromptLibrary, builtin_prompts

TASK = {"name": "t", "labels": {"配送": "荷物", "返品": "返す"}}
grids = st.lists(st.integers(2, 5), min_size=1, max_size=4).map(
    lambda sizes: {f"属性{i}": [f"値{k}" for k in range(size)] for i, size in enumerate(sizes)}
)


@settings(deadline=None, max_examples=40)
@given(grids, st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_every_value_is_as_frequent_as_every_other(
    grid: dict[str, list[str]], number: int, seed: int
) -> None:
    drawn = list(islice(combinations(grid, seed), number))
    assert drawn == list(islice(combinations(grid, seed), number))
    for i, (name, values) in enumerate(grid.items()):
        counts = Counter(row[i][1] for row in drawn)
        assert {row[i][0] for row in drawn} == {name}
        assert set(counts) <= set(values)
        assert max(counts.values()) - min(counts[v] for v in values) <= 2


@settings(deadline=None, max_examples=30)
@given(grids.filter(lambda g: len(g) == 2), st.integers(0, 1000))
def test_two_attributes_meet_in_every_combination_once(
    grid: dict[str, list[str]], seed: int
) -> None:
    size = prod(map(len, grid.values()))
    assert len(set(map(as_item, islice(combinations(grid, seed), size)))) == size


def test_a_grid_too_large_to_list_is_balanced_too() -> None:
    grid = {name: [str(i) for i in range(9)] for name in "abcdef"}
    drawn = list(islice(combinations(grid, 0), 90))
    for place in range(6):
        counts = Counter(row[place][1] for row in drawn)
        entropy = -sum(n / 90 * log(n / 90) for n in counts.values())
        assert entropy > 0.99 * log(9)
    assert all(a != b for a, b in pairwise(drawn))


def test_no_attributes_no_combinations() -> None:
    assert list(combinations({}, 0)) == []


@given(
    st.lists(
        st.tuples(st.text("話題立場", min_size=1), st.text("食事：、 a", min_size=1)), min_size=1
    )
)
def test_a_combination_is_read_as_it_was_written(rows: list[tuple[str, str]]) -> None:
    assert list(from_item(as_item(rows))) == rows
    known = Knowledge("attribute", as_item(rows))
    assert [Knowledge.parse(k).item for k in known.named] == [f"{n}：{v}" for n, v in rows]


def test_one_grid_or_one_for_each_label() -> None:
    one = Task.parse({**TASK, "generation": {"attributes": {"話題": ["箱", "伝票"]}}})
    assert one.generation.grid("配送") == {"話題": ("箱", "伝票")}
    each = {"配送": {"話題": ["箱", "伝票"]}}
    two = Task.parse({**TASK, "generation": {"attributes": each}})
    assert two.generation.grid("配送") == {"話題": ("箱", "伝票")}
    assert two.generation.grid("返品") == {}


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"話題": ["箱"]}, "two or more different values"),
        ({"話題": ["箱", "箱"]}, "two or more different values"),
        ({"話：題": ["箱", "伝票"]}, "'話：題'"),
        ({"配達": {"話題": ["箱", "伝票"]}}, "names the label '配達'"),
    ],
)
def test_what_is_no_grid_is_refused(attributes: object, said: str) -> None:
    with pytest.raises(JapagenError, match=said):
        Task.parse({**TASK, "generation": {"attributes": attributes}})


def test_pairs_have_one_grid_for_all_labels() -> None:
    grids = {"配送": {"話題": ["箱", "伝票"]}}
    with pytest.raises(JapagenError, match="no label yet"):
        Task.parse({**TASK, "pair": {}, "generation": {"attributes": grids}})


def test_diversity_sets_what_the_task_leaves_open() -> None:
    plain = Task.parse(TASK)
    assert Task.parse({**TASK, "generation": {"diversity": "medium"}}) == plain
    for level in ("low", "high"):
        wanted = LEVELS[level]
        task = Task.parse({**TASK, "generation": {"diversity": level}})
        for key, value in wanted["generation"].items():
            assert getattr(task.generation, key) == value
        assert task.curation.max_similarity == wanted["curation"]["max_similarity"]
        own = {
            "generation": {"diversity": level, "temperature": 0.9},
            "curation": {"max_similarity": 0.75, "min_characters": 3},
        }
        kept = Task.parse({**TASK, **own})
        assert (kept.generation.temperature, kept.curation.max_similarity) == (0.9, 0.75)
        assert kept.generation.shots == wanted["generation"]["shots"]
    with pytest.raises(JapagenError, match="diversity"):
        Task.parse({**TASK, "generation": {"diversity": "much"}})


KINDS = builtin_prompts().attributes


def _task(**values: Any) -> Task:
    return Task.parse({"name": "t", "labels": ["配送", "返品"], **values})


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"text_type": "問い合わせ"}, "inquiry"),
        ({"text_type": "レビュー", "domain": "問い合わせ窓口"}, "review"),
        ({"text_type": "ツイート"}, "social"),
        ({"text_type": "ニュース記事"}, "document"),
        ({"text_type": "文章", "domain": "ホテルの口コミサイト"}, "review"),
        ({"text_type": "文章", "description": "お客様からの苦情"}, "inquiry"),
        ({"text_type": "文章", "description": "お客様から届いた文章"}, "other"),
    ],
)
def test_the_kind_is_the_first_that_the_task_speaks_of(values: dict[str, str], kind: str) -> None:
    assert kind_of_text(_task(**values), KINDS) == kind


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_grid_has_a_writer_a_length_and_rare_noise(kind: str) -> None:
    words = KINDS[kind]["words"]
    grid = default_grid(_task(text_type=words[0] if words else "文章"), builtin_prompts(), None)
    assert {"書き手", LENGTH, "表記"} <= set(grid)
    for name, values in grid.items():
        assert len(values) >= 2, name
        assert all(isinstance(value, str) and number >= 1 for value, number in values.items())
    noise = grid["表記"]
    assert noise[""] / sum(noise.values()) >= 0.6


def test_values_are_drawn_as_often_as_their_numbers_say() -> None:
    grid = {"書き手": {"甲": 1, "乙": 1}, "表記": {"": 14, "誤変換": 4, "半角": 2}}
    drawn = list(islice(drawn_settings(grid, 3), 200))
    assert drawn == list(islice(drawn_settings(grid, 3), 200))
    assert drawn != list(islice(drawn_settings(grid, 4), 200))
    noise = Counter(dict(row).get("表記", "") for row in drawn)
    assert noise == {"": 140, "誤変換": 40, "半角": 20}
    assert Counter(dict(row)["書き手"] for row in drawn) == {"甲": 100, "乙": 100}
    assert list(islice(drawn_settings({}, 0), 2)) == [(), ()]


def test_gold_decides_how_long_texts_are() -> None:
    gold = Dataset.of(Example("あ" * n, "配送") for n in range(10, 111, 10))
    lengths = default_grid(_task(text_type="問い合わせ"), builtin_prompts(), gold)[LENGTH]
    assert list(lengths) == ["20字ほど", "40字ほど", "60字ほど", "80字ほど", "100字ほど"]


def test_own_attributes_take_their_place(tmp_path: Path) -> None:
    text = (resource_dir("prompts_ja") / "registers.yaml").read_text(encoding="utf-8")
    (tmp_path / "registers.yaml").write_text(text, encoding="utf-8")
    assert PromptLibrary(tmp_path).attributes == KINDS
    own = tmp_path / "attributes.yaml"
    own.write_text(
        "other: {words: [], attributes: {天気: {晴れ: 2, 雨: 1}, 時刻: [朝, 夜]}}\n",
        encoding="utf-8",
    )
    grid = default_grid(_task(), PromptLibrary(tmp_path), None)
    assert grid == {"天気": {"晴れ": 2, "雨": 1}, "時刻": {"朝": 1, "夜": 1}}
    own.write_text("other: {attributes: {}}\n", encoding="utf-8")
    with pytest.raises(JapagenError, match=r"words and attributes for every kind.*other"):
        default_grid(_task(), PromptLibrary(tmp_path), None)
