from __future__ import annotations

import numpy as np
import pytest

from japagen.alignment.label_prior import is_design, label_prior, label_rates
from japagen.alignment.label_shift import LabelledTexts, estimate_shares
from japagen.errors import JapagenError

NAMES = ("良", "悪")
WORDS = {
    0: ("助かりました", "気に入った", "使いやすい", "満足です"),
    1: ("壊れていた", "届かない", "困った", "不満です"),
}
THINGS = ("荷物", "画面", "電池", "説明書", "返信")


def labelled(good: int, bad: int, seed: int = 0) -> LabelledTexts:
    rng = np.random.default_rng(seed)
    codes = np.repeat([0, 1], [good, bad])
    texts = [f"{rng.choice(THINGS)}は{rng.choice(WORDS[c])}。" for c in codes]
    return LabelledTexts(texts, codes)


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
    sample = label_prior("auto", NAMES, labelled(30, 10))
    assert sample.how == "gold"
    assert sample.probabilities == {"良": 0.75, "悪": 0.25}
    assert "random" in sample.why
    design = label_prior("auto", NAMES, labelled(16, 16))
    assert design.how == "unchanged"
    assert design.probabilities is None
    assert "by design" in design.why


def test_auto_estimates_where_there_is_unlabelled_text() -> None:
    found = label_prior("auto", NAMES, labelled(16, 16), labelled(160, 40, 1).texts)
    assert found.how == "estimate"
    assert found.probabilities is not None
    assert found.probabilities["良"] == pytest.approx(0.8, abs=0.08)
    assert "BBSE" in found.why


def test_the_estimate_is_reproducible() -> None:
    unlabelled = labelled(150, 50, 2).texts
    first = estimate_shares(2, labelled(12, 12), unlabelled, labelled(40, 20, 3), seed=4)
    second = estimate_shares(2, labelled(12, 12), unlabelled, labelled(40, 20, 3), seed=4)
    assert first.shares.tolist() == second.shares.tolist()
    assert first.shares.sum() == pytest.approx(1.0)
    assert abs(first.check[0] - 0.75) < 0.1
    assert first.accuracy > 0.8


def test_a_classifier_no_better_than_chance_says_nothing() -> None:
    noise = np.random.default_rng(0)
    words = ["".join(noise.choice(list("あいうえおかきくけこ"), 6)) for _ in range(124)]
    blind = LabelledTexts(words[:24], np.arange(24) % 2)
    found = label_prior("auto", NAMES, blind, words[24:])
    assert found.probabilities is None
    assert "no better than chance" in found.why
    with pytest.raises(JapagenError, match="no better than chance"):
        label_prior("estimate", NAMES, blind, words[24:])


def test_uniform_gold_and_given() -> None:
    gold = labelled(3, 9)
    assert label_prior("uniform", NAMES, gold).probabilities == {"良": 0.5, "悪": 0.5}
    assert label_prior("gold", NAMES, gold).probabilities == {"良": 0.25, "悪": 0.75}
    given = label_prior({"良": 0.2, "悪": 0.8}, NAMES, gold)
    assert given.probabilities == pytest.approx({"良": 0.2, "悪": 0.8})
    assert (given.how, given.reason) == ("given", {"code": "given", "values": {}})


def test_what_cannot_be_is_one_clear_error() -> None:
    gold = labelled(8, 8)
    with pytest.raises(JapagenError, match="'autos' \\(did you mean 'auto'"):
        label_prior("autos", NAMES, gold)
    with pytest.raises(JapagenError, match="sum to 1, found"):
        label_prior({"良": 0.2, "悪": 0.4}, NAMES, gold)
    with pytest.raises(JapagenError, match="no share for '悪'"):
        label_prior({"良": 1.0}, NAMES, gold)
    with pytest.raises(JapagenError, match="between 0 and 1"):
        label_prior({"良": -1.0, "悪": 2.0}, NAMES, gold)
    with pytest.raises(JapagenError, match="30 unlabelled texts to estimate it, found 2"):
        label_prior("estimate", NAMES, gold, ["一", "二"])
    with pytest.raises(JapagenError, match="needs 4 gold texts to estimate it, one has 1"):
        label_prior("estimate", NAMES, labelled(8, 1), labelled(30, 30).texts)


def test_rates_of_lists_of_labels_need_not_sum_to_one() -> None:
    gold = np.array([[1, 1], [1, 0], [1, 0], [1, 0]], dtype=float)
    assert label_rates("auto", NAMES, gold).probabilities == {"良": 1.0, "悪": 0.25}
    assert label_rates("auto", NAMES, gold[:, [0, 0]]).probabilities is None
    assert label_rates("estimate", NAMES, gold).how == "unchanged"
    assert label_rates({"良": 0.9, "悪": 0.9}, NAMES, gold).how == "given"
    with pytest.raises(JapagenError, match="no share for '悪'"):
        label_rates({"良": 0.9}, NAMES, gold)
