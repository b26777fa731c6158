"""The four counts, on vectors whose labels are known to be right or drawn at random."""

from __future__ import annotations

import numpy as np
import pytest

from japagen.mixing.linear_head import Floats, Ints
from japagen.mixing.reliability import Evidence, estimate_reliability
from japagen.mixing.source_evidence import source_evidence
from tests.mixing.planted import LABELS, gold_set, synthetic_set, vectors_of

GOLD = gold_set(12)
TEXTS = synthetic_set(GOLD, 30)


def _targets(labels: list[str]) -> Ints:
    return np.array([LABELS.index(label) for label in labels])


def _labelers(truth: Ints, right: float) -> tuple[Floats, int]:
    """Labelers that are right so often, of the texts and of gold."""
    rng = np.random.default_rng(3)
    hit = rng.random(len(truth)) < right
    said = np.where(hit, truth, (truth + rng.integers(1, len(LABELS), len(truth))) % len(LABELS))
    return 0.1 + 0.7 * np.eye(len(LABELS))[said], round(right * len(GOLD))


def _found(
    kind: str, *, right: float = 0.9, moved: float = 0.0, rows: int | None = None
) -> Evidence:
    gold, texts = vectors_of(GOLD, TEXTS, "good", noise=1.0)
    truth = _targets(TEXTS.labels)
    labelers, recognized = _labelers(truth, right)
    own = truth if kind == "good" else np.random.default_rng(5).permutation(truth)
    return source_evidence(
        gold,
        _targets(GOLD.labels),
        texts[:rows] + moved,
        own[:rows],
        labelers=labelers[:rows],
        recognized=recognized,
        seed=0,
    )


def test_right_labels_are_seen_by_every_count() -> None:
    found = _found("good")
    assert (found.labels, found.texts, found.gold) == (3, 90, 36)
    assert found.recognized == 32
    assert found.agreed > 0.8 * 90
    assert found.consistent > 0.9 * 90
    assert found.transferred > 0.9 * 36
    assert estimate_reliability(found).mean > 0.85


def test_labels_at_random_are_seen_by_every_count() -> None:
    found = _found("random")
    assert found.recognized == 32
    assert found.agreed < 0.5 * 90
    assert found.consistent < 0.5 * 90
    assert found.transferred < 0.7 * 36
    assert estimate_reliability(found).text_weight == 0


def test_texts_that_stand_apart_from_gold_as_a_whole_can_still_teach_it() -> None:
    near, far = _found("good"), _found("good", moved=50.0)
    assert far.transferred == near.transferred
    assert far.consistent == near.consistent


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_hardly_any_texts_are_hardly_any_evidence(rows: int) -> None:
    found = _found("good", rows=rows)
    assert found.texts == rows
    assert max(found.agreed, found.consistent) <= rows
    prior, posterior = estimate_reliability(None), estimate_reliability(found)
    # A classifier trained on so few is wrong on most of gold, which is not their labels' fault.
    assert found.transferred < 0.5 * found.gold
    assert posterior.mean == pytest.approx(prior.mean, abs=0.1)
    assert (posterior == prior) == (rows == 0)
