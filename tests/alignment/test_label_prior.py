from __future__ import annotations

import numpy as np
import pytest

from japagen.alignment.strata import is_design, label_prior, label_rates
from japagen.errors import JapagenError

NAMES = ("良", "悪")


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([16, 16, 16], True),
        ([16, 15, 16], True),
        ([60, 25, 11], False),
        ([1000, 950], True),
        ([9], True),
    ],
)
def test_equal_counts_are_a_design(counts: list[int], expected: bool) -> None:
    assert is_design(np.array(counts)) is expected


def test_auto_takes_unequal_gold_for_a_sample_and_equal_gold_for_none() -> None:
    sample = label_prior("auto", NAMES, np.array([30, 10]))
    assert sample.how == "gold"
    assert sample.probabilities == {"良": 0.75, "悪": 0.25}
    assert "random" in sample.why
    design = label_prior("auto", NAMES, np.array([16, 16]))
    assert design.how == "unchanged"
    assert design.probabilities is None
    assert "by design" in design.why
    nothing = label_prior("auto", NAMES, np.zeros(2, dtype=np.int64))
    assert nothing.probabilities is None
    assert "no gold" in nothing.why


def test_uniform_gold_and_given() -> None:
    gold = np.array([3, 9])
    assert label_prior("uniform", NAMES, gold).probabilities == {"良": 0.5, "悪": 0.5}
    assert label_prior("gold", NAMES, gold).probabilities == {"良": 0.25, "悪": 0.75}
    given = label_prior({"良": 0.2, "悪": 0.8}, NAMES, gold)
    assert given.probabilities == pytest.approx({"良": 0.2, "悪": 0.8})
    assert (given.how, given.why) == ("given", "Shares given by the user.")


def test_what_cannot_be_is_one_clear_error() -> None:
    gold = np.array([8, 8])
    with pytest.raises(JapagenError, match="'autos' \\(did you mean 'auto'"):
        label_prior("autos", NAMES, gold)
    with pytest.raises(JapagenError, match="sum to 1, found"):
        label_prior({"良": 0.2, "悪": 0.4}, NAMES, gold)
    with pytest.raises(JapagenError, match="no share for '悪'"):
        label_prior({"良": 1.0}, NAMES, gold)
    with pytest.raises(JapagenError, match="between 0 and 1"):
        label_prior({"良": -1.0, "悪": 2.0}, NAMES, gold)
    with pytest.raises(JapagenError, match="Unknown label prior 'estimate'"):
        label_prior("estimate", NAMES, gold)


def test_rates_of_lists_of_labels_need_not_sum_to_one() -> None:
    gold = np.array([[1, 1], [1, 0], [1, 0], [1, 0]], dtype=float)
    assert label_rates("auto", NAMES, gold).probabilities == {"良": 1.0, "悪": 0.25}
    assert label_rates("auto", NAMES, gold[:, [0, 0]]).probabilities is None
    assert label_rates("uniform", NAMES, gold).how == "unchanged"
    assert label_rates({"良": 0.9, "悪": 0.9}, NAMES, gold).how == "given"
    with pytest.raises(JapagenError, match="no share for '悪'"):
        label_rates({"良": 0.9}, NAMES, gold)
