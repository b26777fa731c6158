from __future__ import annotations

import numpy as np
import pytest

from japagen.mixing.mix import GOLD_ALONE, Mix
from japagen.mixing.search import Candidate, Difference, decide, judge, paired_difference, search
from tests.mixing.planted import planted

DEFAULT = Mix(0.4)


def test_harmful_text_is_not_used() -> None:
    choice = search(planted("random"), DEFAULT)
    assert choice.mix == GOLD_ALONE
    assert choice.reason == "no_help"
    by_share = {c.mix.share: c for c in choice.candidates}
    assert by_share[0.8].over_gold.value < -2 * by_share[0.8].over_gold.error


def test_good_text_is_used() -> None:
    choice = search(planted("good"), DEFAULT)
    assert choice.mix.share >= 0.4
    chosen = next(c for c in choice.candidates if c.mix == choice.mix)
    assert chosen.over_gold.value > chosen.over_gold.error
    assert chosen.macro_f1 > choice.candidates[0].macro_f1


def test_a_search_repeats() -> None:
    assert search(planted("good"), DEFAULT) == search(planted("good"), DEFAULT)


@pytest.mark.parametrize(
    ("losses", "share", "reason"),
    [
        ({0.0: 1.15, 0.2: 0.95, 0.4: 1.0}, 0.4, "default"),
        ({0.0: 1.05, 0.2: 0.95, 0.4: 1.0}, 0.0, "no_help"),
        ({0.0: 1.05, 0.2: 0.85, 0.4: 1.0}, 0.2, "better"),
        ({0.0: 1.05, 0.2: 1.2, 0.4: 1.05}, 0.0, "no_help"),
        ({0.0: 1.15, 0.2: 1.02, 0.4: 1.3}, 0.2, "better"),
    ],
)
def test_the_default_is_left_on_evidence_alone(
    losses: dict[float, float], share: float, reason: str
) -> None:
    default = losses[0.4]
    candidates = [
        Candidate(
            Mix(s), loss, 0.5, Difference(losses[0.0] - loss, 0.1), Difference(default - loss, 0.1)
        )
        for s, loss in losses.items()
    ]
    choice = decide(candidates, DEFAULT)
    assert (choice.mix.share, choice.reason) == (share, reason)


def test_the_error_is_that_of_nadeau_and_bengio() -> None:
    evidence = planted("good", per_label=8, synthetic=8, repeats=2)
    targets = evidence.gold_targets
    one, other = (judge(evidence.predict(mix), targets) for mix in (DEFAULT, GOLD_ALONE))
    found = paired_difference(evidence, one, other)
    means = [
        (other.losses - one.losses)[repeat, fold.split.held].mean()
        for repeat, folds in enumerate(evidence.repeats)
        for fold in folds
    ]
    assert len(means) == 16
    assert found.value == pytest.approx(np.mean(means))
    assert found.error == pytest.approx(np.sqrt((1 / 16 + 1 / 7) * np.var(means, ddof=1)))


def test_one_temperature_does_away_with_doubt_alone() -> None:
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1], 20)
    logits = rng.normal(size=(2, 40, 2)) + 2 * np.eye(2)[targets]
    sure, doubtful = (np.exp(logits * scale) for scale in (1.0, 0.2))
    first, second = (
        judge(odds / odds.sum(axis=2, keepdims=True), targets) for odds in (sure, doubtful)
    )
    assert first.loss == pytest.approx(second.loss, abs=1e-4)
    assert second.temperature == pytest.approx(first.temperature / 5, rel=0.02)
