from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.alignment import weights
from japagen.alignment.weights import align_datasets, bound_weights
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.errors import JapagenError

SUBJECTS = ("荷物", "返信", "画面", "請求書", "会員証", "説明書", "電池", "部品")
ENDS = {
    "良": ("が早く届いて助かりました。", "がとても使いやすい!", "を気に入っています。"),
    "悪": ("がまだ届きません。", "が壊れていて困った。", "には二度と頼みたくないです。"),
}


def sentences(label: str, n: int, seed: int = 0, extra: str = "") -> list[Example]:
    rng = np.random.default_rng([seed, *label.encode()])
    texts = [extra + str(rng.choice(SUBJECTS)) + str(rng.choice(ENDS[label])) for _ in range(n)]
    return [Example(text, label) for text in texts]


def dataset(*parts: list[Example]) -> Dataset:
    return Dataset.of([example for part in parts for example in part])


GOLD = dataset(sentences("良", 24, 1), sentences("悪", 8, 2))


def label_share(data: Dataset, weights: np.ndarray, label: str) -> float:
    return float(weights[np.array(data.labels) == label].sum() / weights.sum())


def test_a_bar_shows_when_it_takes_more_than_a_moment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = dataset(sentences("良", 8), sentences("悪", 8))
    align_datasets(texts, GOLD, progress=False)
    align_datasets(texts, GOLD)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(weights, "_MOMENT", 0.0)
    align_datasets(texts, GOLD)
    assert "align" in capsys.readouterr().err
    align_datasets(texts, GOLD, progress=False)
    assert capsys.readouterr().err == ""


@settings(max_examples=5)
@given(
    good=st.integers(1, 12),
    bad=st.integers(1, 12),
    order=st.randoms(use_true_random=False),
    floor=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_weights_are_finite_nonnegative_mean_one_and_do_not_depend_on_row_order(
    good: int, bad: int, order, floor: float
) -> None:
    synthetic = dataset(sentences("良", good, 3), sentences("悪", bad, 4, "全然"))
    found = align_datasets(synthetic, GOLD, floor=floor)
    assert np.isfinite(found.weights).all()
    assert found.weights.min() >= 0
    assert found.weights.mean() == pytest.approx(1.0)
    positions = list(range(len(synthetic)))
    order.shuffle(positions)
    gold_positions = list(range(len(GOLD)))
    order.shuffle(gold_positions)
    again = align_datasets(synthetic.take(positions), GOLD.take(gold_positions), floor=floor)
    assert dict(zip(again.ids, again.weights, strict=True)) == dict(
        zip(found.ids, found.weights, strict=True)
    )


def test_a_planted_shift_of_labels_and_a_word_is_undone() -> None:
    plain, marked = sentences("良", 60, 5), sentences("良", 90, 6, "正直、")
    synthetic = dataset(plain, marked, sentences("悪", 150, 7))
    gold = dataset(
        sentences("良", 240, 8), sentences("良", 48, 9, "正直、"), sentences("悪", 96, 10)
    )
    found = align_datasets(synthetic, gold)
    assert found.prior.how == "gold"
    assert label_share(synthetic, found.weights, "良") == pytest.approx(288 / 384)
    assert found.diagnostics.label_distance.before == pytest.approx(0.25)
    assert found.diagnostics.label_distance.after == pytest.approx(0.0, abs=1e-9)
    is_marked = np.array(["正直" in text for text in synthetic.texts])
    before, goal = is_marked.mean(), 48 / 384
    after = found.weights[is_marked].sum() / found.weights.sum()
    assert abs(after - goal) < 0.5 * abs(before - goal)
    assert "正直" in [shift.word for shift in found.diagnostics.overused]
    divergence = found.diagnostics.word_divergence
    assert divergence is not None
    assert divergence.after.value < divergence.before.value
    assert found.diagnostics.effective_sample_size.share > 0.3


def test_the_floor_holds_within_each_label() -> None:
    synthetic = dataset(
        sentences("良", 60, 5, "正直、"), sentences("良", 4, 6), sentences("悪", 64, 7)
    )
    gold = dataset(sentences("良", 60, 8), sentences("悪", 20, 9))
    for floor in (0.3, 0.9):
        found = align_datasets(synthetic, gold, floor=floor)
        per_label = found.diagnostics.effective_sample_size.per_label
        assert min(per_label.values()) >= floor - 1e-6


def test_no_rows_and_one_row() -> None:
    none = align_datasets(Dataset.of([]), GOLD)
    assert none.weights.shape == (0,)
    assert none.prior.how == "unchanged"
    one = align_datasets(dataset(sentences("良", 1)), GOLD)
    assert one.weights.tolist() == [1.0]
    assert json.dumps(none.to_dict()) != json.dumps(one.to_dict())


def test_identical_rows_share_their_labels_weight_alike() -> None:
    synthetic = Dataset.of([Example("同じ文です。", "良" if i < 10 else "悪") for i in range(20)])
    found = align_datasets(synthetic, GOLD)
    assert np.ptp(found.weights[:10]) == pytest.approx(0.0)
    assert found.weights[:10].sum() == pytest.approx(20 * 24 / 32)


def test_a_label_that_synthetic_lacks_is_said_and_the_rest_is_aligned() -> None:
    found = align_datasets(dataset(sentences("良", 20, 3)), GOLD)
    assert found.weights.mean() == pytest.approx(1.0)
    assert found.diagnostics.label_distance.after == pytest.approx(8 / 32)
    assert any("悪" in note for note in found.diagnostics.notes)


def test_a_gold_word_that_synthetic_never_uses_is_reported_and_does_no_harm() -> None:
    gold = dataset(sentences("良", 20, 3, "さくらんぼ、"), sentences("悪", 10, 4, "さくらんぼ、"))
    synthetic = dataset(sentences("良", 20, 5), sentences("悪", 20, 6))
    found = align_datasets(synthetic, gold)
    missing = {s.word: s for s in found.diagnostics.underused}["さくらんぼ"]
    assert missing.synthetic_per_1000 < 2
    assert missing.log_ratio_after < -2
    assert min(found.diagnostics.effective_sample_size.per_label.values()) >= 0.3


def test_rejected_rows_weigh_nothing_and_the_kept_average_one() -> None:
    synthetic = dataset(sentences("良", 10, 3), sentences("悪", 10, 4))
    rejections = [Rejection("length", 1, 2) if i % 4 == 0 else None for i in range(20)]
    rejected = synthetic.with_rejections(rejections)
    found = align_datasets(rejected, GOLD)
    kept = rejected.kept_mask
    assert (found.weights[~kept] == 0).all()
    assert found.weights[kept].mean() == pytest.approx(1.0)
    alone = align_datasets(rejected.kept, GOLD)
    assert found.weights[kept] == pytest.approx(alone.weights)


def test_the_product_with_label_weights_meets_the_prior() -> None:
    synthetic = dataset(sentences("良", 20, 3), sentences("悪", 20, 4))
    trust = np.where(np.arange(40) % 3 == 0, 0.2, 1.0)
    trust[:5] = 0.0
    found = align_datasets(synthetic.with_columns(weight_label=trust), GOLD)
    assert label_share(synthetic, found.weights * trust, "良") == pytest.approx(0.75, abs=1e-4)
    assert found.weights.mean() == pytest.approx(1.0)


def test_method_none_gives_ones_with_diagnostics() -> None:
    synthetic = dataset(sentences("良", 10, 3), sentences("悪", 10, 4))
    found = align_datasets(synthetic, GOLD, method="none")
    assert found.weights.tolist() == [1.0] * 20
    assert found.diagnostics.label_distance.after == pytest.approx(0.25)


def test_zero_shot_uses_the_prior_alone_or_unlabelled_text() -> None:
    synthetic = dataset(sentences("良", 40, 3), sentences("悪", 40, 4, "全然"))
    given = align_datasets(synthetic, None, label_prior={"良": 0.9, "悪": 0.1})
    assert label_share(synthetic, given.weights, "良") == pytest.approx(0.9)
    assert given.diagnostics.word_divergence is None
    texts = [replace(e, label=None) for e in [*sentences("良", 60, 5), *sentences("悪", 60, 6)]]
    unlabelled = Dataset.of(texts)
    found = align_datasets(synthetic, None, unlabelled)
    marked = np.array(["全然" in text for text in synthetic.texts])
    assert found.weights[marked].mean() == pytest.approx(1.0)
    assert found.prior.how == "unchanged"
    nothing = align_datasets(synthetic, None)
    assert nothing.weights.tolist() == [1.0] * 80
    assert "no gold" in nothing.prior.why


def test_pairs_are_matched_on_both_sides() -> None:
    def pairs(n: int, same: int, seed: int) -> list[Example]:
        rows = sentences("良", n, seed)
        other = sentences("悪", n, seed)
        return [
            replace(r, text_pair=r.text if i < same else o.text)
            for i, (r, o) in enumerate(zip(rows, other, strict=True))
        ]

    synthetic, gold = dataset(pairs(80, 60, 1)), dataset(pairs(40, 10, 2))
    found = align_datasets(synthetic, gold, label_prior={"良": 1.0})
    same = np.array([e.text == e.text_pair for e in synthetic])
    assert found.weights[same].sum() / 80 < 0.6
    assert found.features is not None
    assert "pair:word overlap" in found.features.names
    with pytest.raises(JapagenError, match="pairs and single texts"):
        align_datasets(synthetic, GOLD)


def test_numbers_are_binned_and_lists_get_their_rates() -> None:
    texts = [e.text for e in [*sentences("良", 40, 1), *sentences("悪", 40, 2)]]
    numbers = Dataset.of([Example(t, float(i % 5)) for i, t in enumerate(texts)])
    low = Dataset.of([Example(t, float(i % 5 if i < 30 else 0)) for i, t in enumerate(texts)])
    found = align_datasets(numbers, low)
    zero = np.array(numbers.labels) == 0.0
    assert found.weights[zero].sum() / 80 == pytest.approx(56 / 80)
    tagged = Dataset.of([Example(t, ["a", "b"] if i % 2 else ["a"]) for i, t in enumerate(texts)])
    rare = Dataset.of(
        [Example(t, ["a", "b"] if i % 8 == 0 else ["a"]) for i, t in enumerate(texts)]
    )
    rated = align_datasets(tagged, rare)
    distance = rated.diagnostics.label_distance
    assert distance.before is not None
    assert distance.after is not None
    assert distance.after < 0.6 * distance.before


def test_bad_input_is_one_clear_error() -> None:
    good = dataset(sentences("良", 4, 3))
    with pytest.raises(JapagenError, match="'entropie' \\(did you mean 'entropy'\\?\\)"):
        align_datasets(good, GOLD, method="entropie")
    with pytest.raises(JapagenError, match="floor between 0 and 1"):
        align_datasets(good, GOLD, floor=3)
    with pytest.raises(JapagenError, match="every synthetic row to have a label, found 1"):
        align_datasets(Dataset.of([Example("文です。")]), GOLD)
    with pytest.raises(JapagenError, match="numbers in synthetic and text in gold"):
        align_datasets(Dataset.of([Example("文です。", 1.0)]), GOLD)
    with pytest.raises(JapagenError, match="label '普通', which gold never has"):
        align_datasets(Dataset.of([Example("文です。", "普通")]), GOLD)
    with pytest.raises(JapagenError, match="no share for '悪'"):
        align_datasets(good, GOLD, label_prior={"良": 0.5, "わるい": 0.5})
    with pytest.raises(JapagenError, match="needs gold texts"):
        align_datasets(good, None, label_prior="gold")


def test_a_label_only_the_prior_knows_is_allowed() -> None:
    synthetic = dataset(sentences("良", 10, 3), sentences("悪", 10, 4))
    gold = dataset(sentences("良", 10, 5))
    found = align_datasets(synthetic, gold, label_prior={"良": 0.8, "悪": 0.2})
    assert label_share(synthetic, found.weights, "良") == pytest.approx(0.8)


def test_vectors_go_with_their_rows_whatever_the_order() -> None:
    synthetic = dataset(sentences("良", 20, 3), sentences("悪", 20, 4))
    rng = np.random.default_rng(0)
    own, theirs = rng.normal(size=(40, 3)), rng.normal(size=(32, 3)) + 1
    found = align_datasets(synthetic, GOLD, vectors=(theirs, own)).diagnostics.mean_discrepancy
    order = rng.permutation(40)
    again = align_datasets(synthetic.take(order), GOLD, vectors=(theirs, own[order]))
    assert again.diagnostics.mean_discrepancy == found
    with pytest.raises(JapagenError, match="Expected vectors of 32 and 40 rows"):
        align_datasets(synthetic, GOLD, vectors=(theirs, own[1:]))


_WEIGHTS = st.one_of(st.just(0.0), st.floats(1e-6, 1e6))
_ROWS = st.lists(
    st.tuples(_WEIGHTS, st.sampled_from(["配送", "返品"]), st.booleans()), min_size=1, max_size=40
)


@given(_ROWS, st.floats(0, 1), st.booleans())
def test_totals_and_bounds_are_kept_for_any_weights(
    rows: list[tuple[float, str, bool]], strength: float, topical: bool
) -> None:
    weights = np.array([row[0] for row in rows])
    names = [row[1] for row in rows]
    off_topic = np.array([row[2] for row in rows]) if topical else None
    found = bound_weights(weights, names, strength=strength, off_topic=off_topic)
    assert ((found > 0) == (weights > 0)).all()
    for name in set(names):
        own = np.array([n == name for n in names]) & (weights > 0)
        if not own.any():
            continue
        assert found[own].sum() == pytest.approx(weights[own].sum(), rel=1e-6)
        relative = found[own] / weights[own].mean()
        assert (relative >= 0.5 - 1e-6).all()
        assert (relative <= 2 + 1e-6).all()
        if off_topic is not None:
            assert (relative[off_topic[own]] <= 1 + 1e-6).all()
        else:
            # Who weighed more weighs no less.
            order = np.argsort(weights[own])
            assert (np.diff(relative[order]) >= -1e-9).all()


WEIGHTS = np.array([0.8, 1.0, 1.2, 0.1, 2.9])
LABELS = ["配送"] * 3 + ["返品"] * 2


def test_without_strength_texts_of_a_label_weigh_alike() -> None:
    found = bound_weights(WEIGHTS, LABELS, strength=0)
    np.testing.assert_allclose(found, [1, 1, 1, 1.5, 1.5])


def test_with_all_strength_weights_stay_as_they_are_within_the_bounds() -> None:
    found = bound_weights(WEIGHTS, LABELS, strength=1)
    np.testing.assert_allclose(found[:3], WEIGHTS[:3])
    np.testing.assert_allclose(found[3:], [0.75, 2.25], rtol=1e-6)


def test_half_the_strength_is_the_square_root() -> None:
    found = bound_weights(np.array([1.0, 1.44]), ["配送"] * 2, strength=0.5)
    assert found[1] / found[0] == pytest.approx(1.2)


def test_one_heavy_text_does_not_pass_the_bound_when_the_total_is_restored() -> None:
    weights = np.array([0.01] * 20 + [10.0])
    found = bound_weights(weights, ["配送"] * 21, strength=1)
    assert found.max() == pytest.approx(2 * weights.mean())
    assert found.sum() == pytest.approx(weights.sum())


def test_what_is_off_topic_is_not_lifted() -> None:
    weights = np.array([0.5, 0.5, 2.0, 2.0])
    off_topic = np.array([False, True, False, True])
    found = bound_weights(weights, ["配送"] * 4, strength=1, off_topic=off_topic)
    assert found[3] == pytest.approx(weights.mean())
    assert found[2] > weights.mean()
    assert found[1] < weights.mean()
    every = bound_weights(weights, ["配送"] * 4, strength=1, off_topic=np.ones(4, dtype=bool))
    np.testing.assert_allclose(every, weights.mean(), rtol=1e-6)


def test_there_may_be_no_texts() -> None:
    assert bound_weights(np.zeros(0), [], strength=0.5).shape == (0,)


@given(_ROWS, st.floats(0, 1), st.lists(st.floats(1e-3, 10), min_size=40, max_size=40))
def test_totals_are_those_of_the_products_with_the_weights_before(
    rows: list[tuple[float, str, bool]], strength: float, more: list[float]
) -> None:
    weights, names = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    base = np.array(more[: len(rows)])
    found = bound_weights(weights, names.tolist(), base, strength=strength)
    for name in set(names):
        own = names == name
        assert (base * found)[own].sum() == pytest.approx((base * weights)[own].sum(), rel=1e-6)


def _products(data: Dataset, strength: float | None, gold: Dataset = GOLD) -> np.ndarray:
    found = align_datasets(data, gold, strength=strength, label_prior="gold")
    return found.weights * np.array(data.column("weight_label"))


def test_softened_weights_keep_label_shares_under_unequal_trust() -> None:
    trusted = [replace(e, weight_label=0.2 + 0.04 * i) for i, e in enumerate(sentences("良", 20))]
    data = dataset(trusted, sentences("悪", 20, 4, "全然"))
    full, soft = (_products(data, strength) for strength in (None, 0.5))
    assert full.std() > soft.std()
    assert label_share(data, soft, "良") == pytest.approx(label_share(data, full, "良"))


def test_softened_weights_keep_the_rate_of_every_tag() -> None:
    def tagged(tags: list[str], n: int, seed: int) -> list[Example]:
        return [replace(e, label=tags) for e in sentences("良" if "良" in tags else "悪", n, seed)]

    gold = dataset(tagged(["良"], 24, 1), tagged(["悪"], 6, 2), tagged(["良", "悪"], 10, 3))
    data = dataset(tagged(["良"], 6, 4), tagged(["悪"], 24, 5), tagged(["良", "悪"], 10, 6))
    full, soft = (_products(data, strength, gold) for strength in (None, 0.5))
    assert not np.allclose(full, soft)
    for tag, wanted in (("良", 34 / 40), ("悪", 16 / 40)):
        has = np.array([tag in label for label in data.labels])
        assert abs(full[has].sum() / full.sum() - wanted) < abs(has.mean() - wanted) / 4
        assert soft[has].sum() / soft.sum() == pytest.approx(full[has].sum() / full.sum())


def test_softened_weights_keep_the_share_of_every_bin_of_a_number() -> None:
    def rated(value: float, n: int, seed: int) -> list[Example]:
        return [replace(e, label=value) for e in sentences("良" if value > 2 else "悪", n, seed)]

    gold = dataset(rated(5.0, 24, 1), rated(1.0, 8, 2))
    data = dataset(rated(5.0, 10, 3), rated(1.0, 30, 4))
    full, soft = (_products(data, strength, gold) for strength in (None, 0.5))
    assert not np.allclose(full, soft)
    high = np.array(data.labels) > 2
    assert full[high].sum() / full.sum() == pytest.approx(24 / 32, abs=0.01)
    assert soft[high].sum() / soft.sum() == pytest.approx(full[high].sum() / full.sum())


def test_diagnostics_are_of_the_softened_weights() -> None:
    data = dataset(sentences("良", 20, 3), sentences("悪", 20, 4, "全然"))
    full, soft = (align_datasets(data, GOLD, strength=strength) for strength in (None, 0.5))
    for found in (full, soft):
        size = found.weights.sum() ** 2 / (found.weights**2).sum()
        assert found.diagnostics.effective_sample_size.rows == pytest.approx(size)
    assert soft.diagnostics.effective_sample_size.rows > full.diagnostics.effective_sample_size.rows
    assert soft.diagnostics.word_divergence is not None
    assert full.diagnostics.word_divergence is not None
    before, halfway = soft.diagnostics.word_divergence.before, soft.diagnostics.word_divergence
    assert full.diagnostics.word_divergence.after.value < halfway.after.value < before.value
