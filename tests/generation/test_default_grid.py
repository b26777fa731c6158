"""What varies by default: which grid, how often each value, and what gold decides."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from japagen.errors import JapagenError
from japagen.examples import Dataset, Example
from japagen.generation.default_grid import LENGTH, default_grid, drawn_settings, kind_of_text
from japagen.prompts import PromptLibrary, builtin_prompts
from japagen.resources import resource_dir
from japagen.tasks.tasks import Task

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
