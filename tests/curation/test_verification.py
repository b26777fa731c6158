"""Whole sources verified on vectors whose labels are known to be right or drawn at random."""

from __future__ import annotations

import numpy as np
import pytest

from japagen.curation.label_check import FILTER, Vote, encoder_vote
from japagen.curation.reliability import Floats, Ints, estimate_reliability
from japagen.curation.verification import VerifiedLabels, verify_labels
from japagen.examples import Dataset, Example, Rejection

LABELS = ["赤", "青", "黄"]
WIDTH = 24
CENTRES = np.random.default_rng(7).normal(size=(len(LABELS), WIDTH))
GOLD = np.repeat(np.arange(3), 12)


def _vectors(truth: Ints, seed: int) -> Floats:
    noise = np.random.default_rng(seed).normal(size=(len(truth), WIDTH))
    return np.asarray(CENTRES[truth] + noise)


def _verified(
    *sources: tuple[str, Ints, Ints], moved: float = 0.0, pairs: bool = False
) -> VerifiedLabels:
    """Verifies sources, each with its name, the labels that it gave and the true ones.

    Each has a rejected text besides, which nobody votes on.
    """
    rows, truth = [], []
    for name, given, true in sources:
        for n, label in enumerate(given):
            text = f"{name}の文{n}"
            rows.append(Example(text, LABELS[label], text if pairs else None, source=name))
        short = Rejection("too_short", 1, 2)
        rows.append(Example("短", "赤", "短" if pairs else None, source=name, rejected=short))
        truth += list(true)
    gold = _vectors(GOLD, 1)
    texts = _vectors(np.array(truth, dtype=np.int64), 2) + moved
    return verify_labels(
        Dataset.of(rows),
        GOLD,
        [encoder_vote(gold, GOLD, texts - moved)],
        (gold, texts),
        labels=LABELS,
        priors={name: "writer" for name, _, _ in sources},
        miss="relabel",
        least=0.5,
        seed=0,
    )


TRUE = np.repeat(np.arange(3), 30)
RANDOM = np.random.default_rng(5).permutation(TRUE)


def test_right_labels_are_told_from_labels_at_random() -> None:
    found = _verified(("right", TRUE, TRUE), ("random", RANDOM, TRUE))
    right, random = (found.reliability[name].evidence for name in ("right", "random"))
    assert right is not None
    assert random is not None
    assert (right.labels, right.texts, right.gold) == (3, 90, 36)
    assert right.recognized == random.recognized == round(found.right * 36)
    assert right.agreed > 0.8 * 90
    assert right.consistent > 0.8 * 90
    assert right.transferred > 0.8 * 36
    assert random.agreed < 0.5 * 90
    assert random.consistent < 0.5 * 90
    assert random.transferred < 0.7 * 36
    assert found.reliability["right"].mean > 0.85
    assert found.reliability["random"].text_weight == 0
    assert found.labelers.keys() == {"encoder"}


def test_wrong_labels_are_put_right_and_rejected_texts_left_alone() -> None:
    wrong = TRUE.copy()
    wrong[::10] = (wrong[::10] + 1) % 3
    found = _verified(("some", wrong, TRUE))
    assert found.dataset.column("label")[:-1] == [LABELS[label] for label in TRUE]
    assert all(0.5 <= w <= 1 for w in found.dataset.column("weight_label")[:-1])
    last = found.dataset[len(found.dataset) - 1]
    assert last.rejected == Rejection("too_short", 1, 2)
    assert not any(e.rejected and e.rejected.filter == FILTER for e in found.dataset)


def test_a_reliable_writer_stands_where_the_labelers_are_in_doubt() -> None:
    # The same text, voted on alike, of one who labels well and of one who labels at random.
    texts = _vectors(np.concatenate([TRUE, TRUE]), 2)
    gold = _vectors(GOLD, 1)
    vote = encoder_vote(gold, GOLD, texts)
    doubtful = np.log([[0.35, 0.4, 0.25]])
    votes = np.array(vote.texts)
    votes[[0, 90]] = doubtful
    rows = [
        Example(f"{name}{n}", LABELS[label], source=name)
        for name, given in (("right", TRUE), ("random", np.concatenate([[0], RANDOM[1:]])))
        for n, label in enumerate(given)
    ]
    found = verify_labels(
        Dataset.of(rows),
        GOLD,
        [Vote("encoder", vote.gold, votes)],
        (gold, texts),
        labels=LABELS,
        priors={"right": "writer", "random": "writer"},
        miss="keep",
        least=0.5,
        seed=0,
    )
    sure = found.dataset.column("weight_label")
    assert sure[0] > 0.8
    assert sure[90] < 0.6


def test_texts_of_another_domain_are_off_topic_but_pairs_have_none() -> None:
    near = _verified(("a", TRUE, TRUE)).reliability["a"].evidence
    far = _verified(("a", TRUE, TRUE), moved=50.0).reliability["a"]
    pairs = _verified(("a", TRUE, TRUE), moved=50.0, pairs=True).reliability["a"]
    assert near is not None
    assert far.evidence is not None
    assert pairs.evidence is not None
    assert near.off_topic < 45
    assert far.evidence.off_topic == 90
    assert far.text_weight == 0
    assert pairs.evidence.off_topic == 0
    assert pairs.text_weight > 0


@pytest.mark.parametrize("number", [0, 1, 2])
def test_hardly_any_texts_are_hardly_any_evidence(number: int) -> None:
    some = TRUE[:: len(TRUE) // number][:number] if number else TRUE[:0]
    found = _verified(("few", some, some), ("many", TRUE, TRUE))
    prior, few = estimate_reliability(None), found.reliability["few"]
    assert few.mean == pytest.approx(prior.mean, abs=0.1)
    assert (few == prior) == (number == 0)
    assert found.reliability["many"].mean > few.mean
