from __future__ import annotations

import numpy as np
import pytest

from japagen.curation.off_topic import find_off_topic


def test_texts_far_from_all_gold_are_off_topic() -> None:
    rng = np.random.default_rng(0)
    gold = np.array([1.0, 0, 0]) + 0.1 * rng.normal(size=(40, 3))
    near = np.array([3.0, 0, 0]) + 0.1 * rng.normal(size=(30, 3))
    far = np.array([0, 1.0, 0]) + 0.1 * rng.normal(size=(10, 3))
    found = find_off_topic(gold, np.concatenate([near, far]))
    assert found[30:].all()
    assert found[:30].sum() <= 3


@pytest.mark.parametrize("gold", [0, 1])
def test_nothing_is_off_topic_beside_less_than_two_gold_texts(gold: int) -> None:
    assert not find_off_topic(np.ones((gold, 3)), np.eye(3)).any()


def test_there_may_be_no_texts() -> None:
    assert find_off_topic(np.eye(3), np.zeros((0, 3))).shape == (0,)
