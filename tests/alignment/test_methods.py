from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.alignment.entropy import effective_share
from japagen.alignment.weights import align_datasets
from japagen.data.dataset import Dataset, Example
from japagen.data.registry import METHODS

TILTING = [m for m in METHODS if m not in ("none", "labels")]
NOUNS = ("荷物", "返信", "画面", "請求書", "会員証", "説明書", "電池", "部品", "箱", "写真")
ENDS = {
    "良": ("が早く届いて助かりました。", "がとても使いやすい!", "を気に入っています。"),
    "悪": ("がまだ届きません。", "が壊れていて困った。", "には二度と頼みたくないです。"),
}
MARK = "正直に言うと、"


def texts(label: str, n: int, seed: int, marked: float = 0.0) -> list[Example]:
    """Texts of a label, a share of them with a phrase that makes them longer and other."""
    rng = np.random.default_rng([seed, *label.encode()])
    return [
        Example(
            (MARK if i < marked * n else "")
            + str(rng.choice(NOUNS))
            + str(rng.choice(ENDS[label])),
            label,
        )
        for i in range(n)
    ]


def dataset(*parts: list[Example]) -> Dataset:
    return Dataset.of([example for part in parts for example in part])


GOLD = dataset(texts("良", 40, 1, 0.1), texts("悪", 20, 2, 0.1))


def marked_share(data: Dataset, weights: np.ndarray) -> float:
    marked = np.array([MARK in text for text in data.texts])
    return float(weights[marked].sum() / weights.sum())


@pytest.mark.parametrize("method", [m for m in METHODS if m != "none"])
@settings(max_examples=4, deadline=None)
@given(
    good=st.integers(1, 14),
    bad=st.integers(1, 14),
    order=st.randoms(use_true_random=False),
    floor=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_weights_are_finite_nonnegative_mean_one_and_do_not_depend_on_row_order(
    method: str, good: int, bad: int, order, floor: float
) -> None:
    synthetic = dataset(texts("良", good, 3, 0.5), texts("悪", bad, 4, 0.7))
    found = align_datasets(synthetic, GOLD, method=method, floor=floor)
    assert np.isfinite(found.weights).all()
    assert found.weights.min() >= 0
    assert found.weights.mean() == pytest.approx(1.0)
    labels = np.array(synthetic.labels)
    assert found.weights[labels == "良"].sum() / len(synthetic) == pytest.approx(2 / 3)
    for label in ENDS:
        assert effective_share(found.weights[labels == label]) >= floor - 1e-6
    positions, gold_positions = list(range(len(synthetic))), list(range(len(GOLD)))
    order.shuffle(positions)
    order.shuffle(gold_positions)
    again = align_datasets(
        synthetic.take(positions), GOLD.take(gold_positions), method=method, floor=floor
    )
    assert dict(zip(again.ids, again.weights, strict=True)) == dict(
        zip(found.ids, found.weights, strict=True)
    )


@pytest.mark.parametrize("method", TILTING)
@pytest.mark.parametrize(("planted", "goal"), [(0.6, 0.15), (0.1, 0.6)])
def test_a_planted_shift_is_undone_in_part_by_every_method(
    method: str, planted: float, goal: float
) -> None:
    synthetic = dataset(texts("良", 90, 5, planted), texts("悪", 150, 6, planted))
    gold = dataset(texts("良", 120, 7, goal), texts("悪", 60, 8, goal))
    found = align_datasets(synthetic, gold, method=method)
    after = marked_share(synthetic, found.weights)
    assert abs(after - goal) < 0.7 * abs(planted - goal)
    words = found.diagnostics.word_divergence
    assert words is not None
    assert words.after.value < words.before.value
    assert found.diagnostics.label_distance.after == pytest.approx(0.0, abs=1e-9)
    assert min(found.diagnostics.effective_sample_size.per_label.values()) >= 0.3 - 1e-6


@pytest.mark.parametrize("method", TILTING)
def test_where_nothing_differs_hardly_anything_moves(method: str) -> None:
    synthetic = dataset(texts("良", 120, 5, 0.3), texts("悪", 60, 6, 0.3))
    gold = dataset(texts("良", 40, 7, 0.3), texts("悪", 20, 8, 0.3))
    assert effective_share(align_datasets(synthetic, gold, method=method).weights) > 0.7


@pytest.mark.parametrize("method", TILTING)
def test_odd_inputs_are_weighted_too(method: str) -> None:
    assert align_datasets(Dataset.of([]), GOLD, method=method).weights.shape == (0,)
    one = dataset(texts("良", 1, 3))
    assert align_datasets(one, GOLD, method=method).weights.tolist() == [1.0]
    alike = Dataset.of([Example("同じ文です。", "良" if i < 10 else "悪") for i in range(20)])
    weights = align_datasets(alike, GOLD, method=method).weights
    assert np.ptp(weights[:10]) == pytest.approx(0.0, abs=1e-9)
    assert weights[:10].sum() == pytest.approx(20 * 2 / 3)
    same_gold = Dataset.of([Example("同じ文です。", "良") for _ in range(12)])
    same = align_datasets(alike.take(list(range(10))), same_gold, method=method)
    assert same.weights == pytest.approx(1.0)


@pytest.mark.parametrize("method", TILTING)
def test_a_label_that_synthetic_lacks_leaves_the_rest_aligned(method: str) -> None:
    found = align_datasets(dataset(texts("良", 30, 3, 0.5)), GOLD, method=method)
    assert found.weights.mean() == pytest.approx(1.0)
    assert any("悪" in note for note in found.diagnostics.notes)


@pytest.mark.parametrize("method", TILTING)
def test_a_gold_word_that_synthetic_never_uses_does_no_harm(method: str) -> None:
    gold = dataset(
        [replace(e, text="さくらんぼ、" + e.text) for e in texts("良", 20, 3)], texts("悪", 10, 4)
    )
    synthetic = dataset(texts("良", 40, 5), texts("悪", 40, 6))
    found = align_datasets(synthetic, gold, method=method)
    assert np.isfinite(found.weights).all()
    assert min(found.diagnostics.effective_sample_size.per_label.values()) >= 0.3 - 1e-6


@pytest.mark.parametrize("method", TILTING)
def test_trust_in_labels_is_where_weights_start_from(method: str) -> None:
    rows = [*texts("良", 60, 5, 0.3), *texts("悪", 30, 6, 0.3)]
    trust = np.where(np.arange(90) % 3 == 0, 0.2, 1.0)
    synthetic = Dataset.of(rows).with_columns(weight_label=trust)
    found = align_datasets(synthetic, GOLD, method=method)
    product = found.weights * trust
    labels = np.array(synthetic.labels)
    assert product[labels == "良"].sum() / product.sum() == pytest.approx(2 / 3)


@pytest.mark.parametrize("method", TILTING)
def test_rates_of_lists_of_labels_are_met_by_every_method(method: str) -> None:
    rows = [*texts("良", 40, 1, 0.5), *texts("悪", 40, 2, 0.5)]
    tagged = Dataset.of(
        [replace(e, label=["a", "b"] if i % 2 else ["a"]) for i, e in enumerate(rows)]
    )
    rare = Dataset.of(
        [replace(e, label=["a", "b"] if i % 8 == 0 else ["a"]) for i, e in enumerate(rows)]
    )
    distance = align_datasets(tagged, rare, method=method).diagnostics.label_distance
    assert distance.before is not None
    assert distance.after is not None
    assert distance.after < 0.7 * distance.before
