from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from japagen.alignment.strata import stratify
from japagen.data.dataset import Dataset, Example


def numbers(values: list[float]) -> Dataset:
    return Dataset.of([Example(f"文{i}。", v) for i, v in enumerate(values)])


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=20),
    st.lists(st.floats(0, 5), min_size=1, max_size=20),
)
def test_every_number_falls_into_a_bin_that_gold_has(asked: list[float], gold: list[float]) -> None:
    strata = stratify(numbers(asked), numbers(gold))
    assert strata.kind == "regression"
    assert 1 <= len(strata.names) <= 5
    assert set(strata.gold) == set(range(len(strata.names)))
    assert set(strata.synthetic) <= set(strata.gold)


def test_five_values_make_five_bins_in_order() -> None:
    strata = stratify(numbers([9.0, -3.0, 2.5]), numbers([0.0, 1.0, 2.5, 3.5, 5.0]))
    assert strata.gold.tolist() == [0, 1, 2, 3, 4]
    assert strata.synthetic.tolist() == [4, 0, 2]
    assert strata.names[0] == "-∞ to 1"


def test_lists_share_one_stratum_and_have_indicators() -> None:
    data = Dataset.of([Example("一。", ["b"]), Example("二。", ["a", "b"])])
    strata = stratify(data, data)
    assert strata.names == ("all",)
    assert strata.tags == ("a", "b")
    assert np.array_equal(strata.synthetic_tags, [[0, 1], [1, 1]])
