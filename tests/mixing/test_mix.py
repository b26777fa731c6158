"""What each source gives to training, and that the rows to train on carry just that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.curation.reliability import Evidence, Reliability, estimate_reliability
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.mixing.mix import Mix, find_mix

EVIDENCE = Evidence(2, 100, 80, 90, 32, 28, 26)


def known(squared: float, evidence: Evidence | None = EVIDENCE) -> Reliability:
    mean = squared**0.5
    return Reliability(mean, mean, mean, squared, evidence)


GOOD, HALF, NOISE = known(1.0), known(0.5), known(0.01)


def texts(**of_source: int) -> Dataset:
    """So many kept texts of each source with uneven weights, and a rejected one."""
    rng = np.random.default_rng(0)
    return Dataset.of(
        Example(
            f"{name}の文{n}",
            "配送",
            source=name,
            weight_distribution=float(rng.uniform(0.5, 2)),
            weight_label=float(rng.uniform(0.3, 1)),
            rejected=Rejection("too_short", 1, 2) if n == number else None,
        )
        for name, number in of_source.items()
        for n in range(number + 1)
    )


def test_a_text_counts_for_so_many_gold_texts() -> None:
    mix = find_mix(30, texts(a=100), {"a": HALF})
    counted = 100 * HALF.text_weight
    assert mix.share == pytest.approx(counted / (counted + 30))
    assert mix.reason == mix.sources["a"].reason == "reliable"
    assert mix.sources["a"].texts == 100
    assert mix.source_share("a") == mix.share


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 500))
def test_the_share_grows_with_the_number_of_texts_and_falls_with_that_of_gold(
    fewer: int, more: int, gold: int
) -> None:
    fewer, more = sorted((fewer, more))
    # How many there are decides, not what they say.
    few, many = (_counted({"a": number}, gold).share for number in (fewer, more))
    assert 0 < few <= many < 1
    assert _counted({"a": fewer}, gold + 1).share < few


def _counted(numbers: dict[str, int], gold: int) -> Mix:
    rows = [Example("文", "配送", source=n) for n, number in numbers.items() for _ in range(number)]
    return find_mix(gold, Dataset.of(rows), dict.fromkeys(numbers, HALF))


def test_each_source_counts_for_its_own_reliability() -> None:
    mix = find_mix(30, texts(a=20, b=40, c=10), {"a": GOOD, "b": HALF, "c": NOISE})
    carried = {"a": 20 * GOOD.text_weight, "b": 40 * HALF.text_weight, "c": 0.0}
    total = sum(carried.values())
    assert mix.share == pytest.approx(total / (total + 30))
    for name, mass in carried.items():
        assert mix.source_share(name) == pytest.approx(mass / (total + 30))
    assert mix.sources["c"].reason == "unreliable"
    assert mix.source_share("nobody") == 0
    assert mix.text_weight == pytest.approx(total / 60)


def test_the_rows_to_train_on_carry_what_their_source_counts_for() -> None:
    dataset = texts(a=20, b=40, c=10)
    mix = find_mix(30, dataset, {"a": GOOD, "b": HALF, "c": NOISE})
    chosen = mix.of(dataset)
    assert chosen is not None
    assert set(chosen.column("source")) == {"a", "b"}
    assert len(chosen.kept) == 60
    weights, names = chosen.weights, np.array(chosen.column("source"))
    before = dataset.weights[np.isin(dataset.column("source"), ["a", "b"])]
    for name in ("a", "b"):
        own = names == name
        assert mix.share * weights[own].sum() / weights.sum() == pytest.approx(
            mix.source_share(name)
        )
        # Among each other they weigh what they did.
        kept = own & chosen.kept_mask
        np.testing.assert_allclose(
            weights[kept] / weights[kept].sum(), before[kept] / before[kept].sum()
        )


def test_unreliable_texts_leave_gold_alone() -> None:
    dataset = texts(a=200)
    mix = find_mix(30, dataset, {"a": NOISE})
    assert (mix.share, mix.reason) == (0.0, "unreliable")
    assert mix.of(dataset) is None
    assert mix.source_share("a") == mix.text_weight == 0


def test_a_share_that_the_task_names_is_kept_whoever_wrote_the_texts() -> None:
    dataset = texts(a=20, b=40)
    mix = find_mix(30, dataset, {"a": GOOD, "b": HALF}, share=0.3)
    assert (mix.share, mix.reason) == (0.3, "given")
    assert mix.source_share("a") / mix.source_share("b") == pytest.approx(
        20 * GOOD.text_weight / (40 * HALF.text_weight)
    )
    # What a text counts for follows from the share.
    carried = sum(s.texts * s.text_weight for s in mix.sources.values())
    assert carried / (carried + 30) == pytest.approx(0.3)
    alone = texts(a=20)
    noise = find_mix(30, alone, {"a": NOISE}, share=0.3)
    assert noise.share == noise.source_share("a") == 0.3
    assert noise.of(alone) is not None
    none = find_mix(30, dataset, {"a": GOOD, "b": HALF}, share=0.0)
    assert (none.share, none.reason) == (0.0, "given")
    assert none.of(dataset) is None


def test_without_gold_the_texts_are_all_there_is() -> None:
    dataset = texts(a=20)
    prior = estimate_reliability(None, "base_model")
    mix = find_mix(0, dataset, {"a": prior})
    assert (mix.share, mix.reason) == (1.0, "no_gold")
    assert find_mix(0, dataset, {"a": prior}, share=0.5).share == 1.0
    chosen = mix.of(dataset)
    assert chosen is not None
    assert len(chosen.kept) == 20


def test_labels_that_nobody_checked_count_for_what_is_expected_of_the_writer() -> None:
    prior = estimate_reliability(None)
    mix = find_mix(30, texts(a=20), {"a": prior})
    assert mix.reason == "prior"
    assert mix.sources["a"].text_weight == prior.text_weight


def test_labels_of_another_kind_are_used_only_where_the_task_says_how_far() -> None:
    rows = [Example(f"文{n}", ["急ぎ"], source="a") for n in range(5)]
    reliability = {"a": estimate_reliability(None)}
    mix = find_mix(30, Dataset.of(rows), reliability, checkable=False)
    assert (mix.share, mix.reason) == (0.0, "labels")
    assert mix.of(Dataset.of(rows)) is None
    given_share = find_mix(30, Dataset.of(rows), reliability, share=0.4, checkable=False)
    assert (given_share.share, given_share.reason) == (0.4, "given")
    assert find_mix(0, Dataset.of(rows), reliability, checkable=False).share == 1


def test_where_nothing_was_kept_there_is_nothing_to_use() -> None:
    dataset = texts(a=0, b=0)
    mix = find_mix(30, dataset, {"a": GOOD, "b": GOOD})
    assert (mix.share, mix.reason) == (0.0, "no_synthetic")
    assert [s.reason for s in mix.sources.values()] == ["no_synthetic"] * 2
    assert mix.of(dataset) is None
    assert find_mix(30, Dataset.of([]), {}).reason == "no_synthetic"


def test_the_reason_is_that_of_the_source_that_gives_most() -> None:
    reliability = {"a": NOISE, "b": estimate_reliability(None)}
    assert find_mix(30, texts(a=200, b=10), reliability).reason == "prior"
    assert find_mix(30, texts(a=200, b=0), reliability).reason == "unreliable"
