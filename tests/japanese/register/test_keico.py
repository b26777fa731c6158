import numpy as np
import pytest

from japagen.japanese.register.detector import analyze_register
from japagen.japanese.register.keico import COLUMNS, KeicoModel, keico_model, key_of, name_of


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("お客様はどちらへいらっしゃるのでございましょうか。", {1}),
        ("部長はもうお帰りになりました。", {1, 2}),
        ("明日は雨が降ると思います。", {3}),
        ("明日は雨だと思うよ。", {4}),
    ],
)
def test_level(text: str, levels: set[int]) -> None:
    assert analyze_register(text).keico_level in levels


@pytest.mark.parametrize(
    ("text", "sonkeigo", "kenjogo"),
    [
        ("先生がお帰りになりました。", True, False),
        ("社長がいらっしゃいます。", True, False),
        ("お手紙を拝見します。", False, True),
        ("読ませていただきます。", False, True),
        ("明日は晴れだ。", False, False),
    ],
)
def test_flags(text: str, sonkeigo: bool, kenjogo: bool) -> None:
    keico = analyze_register(text).keico
    assert keico is not None
    assert (keico.is_sonkeigo, keico.is_kenjogo) == (sonkeigo, kenjogo)


def test_scores_are_sums_over_the_fourth_root() -> None:
    weights = np.zeros((2, len(COLUMNS)))
    weights[0, COLUMNS.index("level3")] = 2
    weights[0, COLUMNS.index("sonkeigo")] = 1
    model = KeicoModel({"a": 0, "b": 1}, weights, np.zeros(len(COLUMNS)), (0.3, 0.3))
    estimate = model.estimate(["a", "b", "a", "never seen"])
    top, kind = np.exp(2 / 2**0.25), np.exp(1 / 2**0.25)
    assert estimate.level == 3
    assert estimate.probabilities[2] == pytest.approx(top / (top + 3))
    assert estimate.sonkeigo == pytest.approx(kind / (kind + 3))
    assert estimate.kenjogo == pytest.approx(1 / (kind + 3))
    assert (estimate.is_sonkeigo, estimate.is_kenjogo) == (True, False)


def test_estimates_far_out_do_not_overflow() -> None:
    weights = np.full((1, len(COLUMNS)), 1e4)
    weights[0, 0] = weights[0, COLUMNS.index("kenjogo")] = -1e4
    estimate = KeicoModel({"a": 0}, weights, np.zeros(len(COLUMNS))).estimate(["a"])
    assert sum(estimate.probabilities) == pytest.approx(1)
    assert estimate.kenjogo == 0


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("行く", "l:行く"),
        (":", "l::"),
        (("て", "ください", "$"), "m:て ください $"),
        ("style:da", "style:da"),
        ("pair:お〜になる&〜様", "pair:お〜になる&〜様"),
    ],
)
def test_keys_have_names(key: str | tuple[str, str, str], name: str) -> None:
    assert name_of(key) == name
    assert key_of(name) == key


def test_shipped_coefficients_hold_no_sentences() -> None:
    model = keico_model()
    assert model.weights.shape == (len(model.index), len(COLUMNS))
    # Three shapes at most, or the inflection of one predicate.
    assert max(len(name_of(key).split()) for key in model.index) <= 8
    assert all(0.1 < threshold < 0.6 for threshold in model.thresholds)
