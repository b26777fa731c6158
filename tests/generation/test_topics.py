"""Combinations of attributes: balanced for any number of requests."""

from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise
from math import log, prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.errors import JapagenError
from japagen.generation.attributes import as_item, combinations, from_item
from japagen.tasks.generation_settings import LEVELS
from japagen.tasks.knowledge import Knowledge
from japagen.tasks.tasks import Task

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
