"""benchmarks/lift.py: the share of the gap, the cells, and figures that are kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import lift
import lift_arms
from lift_summary import BASE, CEILING, over_tasks, share_of_gap, table
from lift_tasks import make_cell, real_texts, sample_lines


@given(
    st.lists(st.floats(0.2, 0.6), min_size=2, max_size=6),
    st.floats(-0.5, 1.5),
)
def test_an_arm_that_goes_the_same_way_in_every_draw_has_that_share(
    base: list[float], share: float
) -> None:
    gold = np.array(base)
    found = share_of_gap(gold + share * (0.8 - gold), gold, 0.8)
    assert found is not None
    assert found[0] == pytest.approx(share)
    assert found[1] == pytest.approx(0, abs=1e-9)


def test_the_error_of_a_share_is_that_of_the_paired_gains() -> None:
    found = share_of_gap(np.array([0.6, 0.5]), np.array([0.4, 0.4]), 0.8)
    assert found is not None
    # Gains of .2 and .1 over gaps of .4: residuals of .05 each way.
    assert found == pytest.approx((0.375, 0.05 / 0.4))


def test_without_a_gap_there_is_no_share() -> None:
    assert share_of_gap(np.array([0.9]), np.array([0.79]), 0.8) is None
    assert over_tasks([(np.array([0.9]), np.array([0.5]), 0.9), None]) is None


def test_all_tasks_together_weigh_by_their_gaps() -> None:
    wide = np.array([0.5, 0.5]), np.array([0.4, 0.4]), 0.8
    narrow = np.array([0.8, 0.7]), np.array([0.7, 0.7]), 0.75
    found = over_tasks([wide, narrow])
    assert found is not None
    # Gains of .1 and .05 over gaps of .4 and .05; of the residuals only the second's vary.
    assert found == pytest.approx((0.15 / 0.45, 0.05 / 0.45))
    assert over_tasks([narrow]) == pytest.approx((1.0, 1.0))
    assert over_tasks([(narrow[0], narrow[0], 0.75)]) is None


def test_the_table_shows_scores_with_their_share_and_nothing_of_what_was_not_measured() -> None:
    scores = {("t", 4, d, BASE): 0.4 for d in (0, 1)} | {("t", 0, -1, CEILING): 0.8}
    scores |= {("t", 4, 0, "japagen"): 0.62, ("t", 4, 1, "japagen"): 0.5}
    rows = table(scores, [BASE, "japagen", "setfit", CEILING], [("t", 4), ("t", 16)])
    assert rows.splitlines()[2:] == [
        "| gold only | 0.400 ± 0.000 |",
        "| japagen | 0.560 ± 0.060; 40% ± 15 |",
        "| full gold | 0.800 |",
        "| draws of gold | 2 |",
    ]


def test_a_cell_draws_gold_by_its_number_and_always_the_same_test_texts(tmp_path: Path) -> None:
    one, other = (make_cell("quickstart", 4, d, tmp_path, tmp_path, 3, 30) for d in (0, 1))
    assert one.gold.label_counts() == dict.fromkeys(one.task.labels, 4)
    assert set(one.gold.texts) != set(other.gold.texts)
    assert one.test.texts == other.test.texts
    assert len(one.test) == 30
    assert not set(one.pool.texts) & set(one.test.texts)


def test_real_texts_are_as_many_a_label_and_none_of_them_gold(tmp_path: Path) -> None:
    cell = make_cell("quickstart", 4, 0, tmp_path, tmp_path, 3, 30)
    like = cell.gold.take([0, 1, 2])
    real = real_texts(cell, like)
    assert sorted(real.labels) == sorted(like.labels)
    assert not set(real.texts) & set(cell.gold.texts)
    # What the pool does not have, it cannot give.
    assert len(real_texts(cell, cell.pool)) == len(cell.pool) - len(cell.gold)


def test_sampled_lines_keep_their_order(tmp_path: Path) -> None:
    source = tmp_path / "all.jsonl"
    source.write_text("".join(f'{{"text": "{i}"}}\n' for i in range(100)), encoding="utf-8")
    lines = sample_lines(source, tmp_path / "some.jsonl", 10).read_text().splitlines()
    numbers = [int(json.loads(line)["text"]) for line in lines]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 10


@pytest.mark.parametrize("arm", lift_arms.PIPELINES)
def test_an_arm_that_lacks_a_part_is_a_task_without_it(arm: str, tmp_path: Path) -> None:
    cell = make_cell("quickstart", 4, 0, tmp_path, tmp_path, 3, 30)
    changed = lift_arms.changed_task(cell, arm)
    assert (changed == cell.task) == (arm == "japagen")
    assert changed.generation == cell.task.generation  # the same texts for all
    assert type(changed).parse(changed.model_dump(mode="json", exclude={"scale"}))


def test_figures_are_kept_until_what_they_depend_on_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def perfect(cell: lift.Cell) -> np.ndarray:
        asked.append(cell.path.name)
        return cell.task.label_space().codes(cell.test.labels)

    for arm in (BASE, CEILING):
        monkeypatch.setitem(lift_arms.ARMS, arm, perfect)
    line = ["--data", str(tmp_path), "--cache", str(tmp_path), "--tasks", "quickstart"]
    line += ["--draws", "2", "--shots", "4", "--test", "30", "--arms", f"{BASE};{CEILING}"]
    arguments = lift.read_arguments(line)
    scores = lift.collect(arguments, kept_only=False)
    assert scores["quickstart", 4, 1, BASE] == 1.0
    assert scores["quickstart", 0, -1, CEILING] == 1.0
    assert len(asked) == 3  # the ceiling once
    assert lift.collect(arguments, kept_only=False) == scores
    assert len(asked) == 3
    more = lift.read_arguments([*line, "--per-label", "7"])
    assert (BASE in {arm for *_, arm in lift.collect(more, kept_only=True)}) is False
    assert len(asked) == 3
