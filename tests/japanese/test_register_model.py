import numpy as np
import pytest

from japagen.japanese.register_detection import analyze_register
from japagen.japanese.register_model import COLUMNS, KeicoModel, is_flagged, keico_model


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
    report = analyze_register(text)
    assert (report.sonkeigo, report.kenjogo) == (sonkeigo, kenjogo)


def test_scores_are_sums_over_the_fourth_root() -> None:
    weights = np.zeros((2, len(COLUMNS)))
    weights[0] = [0.0, 0.0, 2.0, 0.0, 1.0, 0.0]
    model = KeicoModel({"a": 0, "b": 1}, weights, np.zeros(len(COLUMNS)))
    estimate = model.estimate({"a", "b", "never seen"})
    top = np.exp(2 / 2**0.25)
    assert estimate.level == 3
    assert estimate.probabilities[2] == pytest.approx(top / (top + 3))
    assert estimate.sonkeigo == pytest.approx(1 / (1 + np.exp(-(2**-0.25))))
    assert estimate.kenjogo == 0.5


def test_estimates_far_out_do_not_overflow() -> None:
    weights = np.full((1, len(COLUMNS)), 1e4)
    weights[0, 0] = -1e4
    estimate = KeicoModel({"a": 0}, weights, np.zeros(len(COLUMNS))).estimate({"a"})
    assert sum(estimate.probabilities) == pytest.approx(1)
    assert estimate.sonkeigo == 1


def test_forms_found_lower_the_bar() -> None:
    assert is_flagged(True, 0.4)
    assert not is_flagged(False, 0.4)
    assert not is_flagged(True, 0.2)


def test_shipped_coefficients_hold_no_sentences() -> None:
    model = keico_model()
    assert model.weights.shape == (len(model.index), len(COLUMNS))
    assert max(len(name.split()) for name in model.index) <= 4
