from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from japagen.curation.label_check import (
    FILTER,
    Pool,
    VerifiedLabels,
    Vote,
    beats_guessing,
    cross_fitted_vote,
    fit_pool,
    held_out_posterior,
    settle_labels,
    verify_labels,
    with_writer,
)
from japagen.curation.reliability import estimate_reliability, unit_vectors
from japagen.data.dataset import Dataset, Example, Rejection, assign_folds
from japagen.data.labels import Floats, Ints, label_indices
from japagen.errors import JapagenError

LABELS = ["良", "並", "悪"]
RNG = np.random.default_rng(0)


def told(targets: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Votes that lean to the truth, with noise of one unit."""
    noise = np.random.default_rng(seed).normal(size=(len(targets), 3))
    return noise + strength * np.eye(3)[targets]


TARGETS = np.arange(60) % 3


def encoder_vote(gold: np.ndarray, targets: np.ndarray, texts: np.ndarray) -> Vote:
    """The cross-fitted vote of a logistic regression on vectors."""
    on_gold, on_texts = unit_vectors(gold), unit_vectors(texts)
    centre = on_gold.mean(axis=0)

    def fit(seen: Floats, own: Ints, others: Floats) -> Floats:
        model = LogisticRegression(C=30.0, max_iter=2000).fit(seen, own)
        return np.asarray(model.predict_log_proba(others))

    return cross_fitted_vote(fit, on_gold - centre, targets, on_texts - centre)


def test_a_voter_that_knows_outweighs_one_that_does_not() -> None:
    pool = fit_pool([told(TARGETS, 2.0, 1), told(TARGETS, 0.0, 2)], TARGETS)
    assert pool.weights[0] > 5 * pool.weights[1]
    assert (pool.weights >= 0).all()


def test_two_labelers_are_better_than_one_on_texts_not_seen() -> None:
    many = np.arange(3000) % 3
    votes = [told(TARGETS, 1.0, 1), told(TARGETS, 1.0, 2)]
    unseen = [told(many, 1.0, 3), told(many, 1.0, 4)]
    both = fit_pool(votes, TARGETS).posterior(unseen).argmax(axis=1) == many
    one = fit_pool(votes[:1], TARGETS).posterior(unseen[:1]).argmax(axis=1) == many
    assert both.mean() > one.mean() + 0.05


def test_what_a_voter_holds_for_a_label_whatever_the_text_is_taken_out() -> None:
    partial = told(TARGETS, 2.0, 1) + np.array([5.0, 0.0, 0.0])
    pool = fit_pool([partial], TARGETS)
    found = pool.posterior([partial]).argmax(axis=1) == TARGETS
    assert found.mean() > (partial.argmax(axis=1) == TARGETS).mean() + 0.3
    assert pool.biases.sum() == pytest.approx(0)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 10), min_size=2, max_size=2),
    st.lists(st.floats(-5, 5), min_size=3, max_size=3),
    st.floats(-50, 50),
)
def test_posteriors_are_distributions_and_do_not_see_a_rows_constant(
    weights: list[float], biases: list[float], constant: float
) -> None:
    votes = [RNG.normal(size=(7, 3)), RNG.normal(size=(7, 3))]
    pool = Pool(np.array(weights), np.array(biases))
    posterior = pool.posterior(votes)
    assert posterior.sum(axis=1) == pytest.approx(np.ones(7))
    assert pool.posterior([votes[0] + constant, votes[1]]) == pytest.approx(posterior, abs=1e-6)


def test_gold_is_judged_by_pools_that_had_not_seen_it() -> None:
    lies = np.roll(TARGETS, 1)
    votes = [told(TARGETS, 3.0, 1)]
    changed = TARGETS.copy()
    folds = assign_folds(TARGETS, 5, 0)
    changed[folds == 0] = lies[folds == 0]
    # The folds are dealt by label, so they are those of the changed labels only if they agree.
    again = held_out_posterior(votes, TARGETS)
    assert (again.argmax(axis=1) == TARGETS).mean() > 0.9
    assert not np.allclose(held_out_posterior(votes, changed), again)


def test_guessing_is_told_from_knowing() -> None:
    assert beats_guessing(np.eye(3)[TARGETS], TARGETS)
    assert not beats_guessing(np.eye(3)[np.roll(TARGETS, 1)], TARGETS)
    assert not beats_guessing(np.tile([0.5, 0.3, 0.2], (len(TARGETS), 1)), TARGETS)


def test_vectors_vote_for_their_own_side() -> None:
    centres = RNG.normal(size=(3, 20)) * 2
    gold = centres[TARGETS] + RNG.normal(size=(60, 20))
    texts = centres[[0, 1, 2]] + RNG.normal(size=(3, 20))
    vote = encoder_vote(gold, TARGETS, texts)
    assert vote.texts.argmax(axis=1).tolist() == [0, 1, 2]
    assert (vote.gold.argmax(axis=1) == TARGETS).mean() > 0.8
    noise = encoder_vote(RNG.normal(size=(60, 20)), TARGETS, texts)
    # Votes on gold come from folds left out: on noise they are no better than chance.
    assert (noise.gold.argmax(axis=1) == TARGETS).mean() < 0.6


def test_no_gold_text_is_told_by_a_classifier_that_has_seen_it() -> None:
    rows = np.arange(60.0)[:, None]

    def remember(seen: np.ndarray, targets: np.ndarray, others: np.ndarray) -> np.ndarray:
        assert np.array_equal(TARGETS[seen[:, 0].astype(int)], targets)
        known = np.isin(others[:, 0], seen[:, 0])
        return np.stack([known, ~known, np.ones(len(others))], axis=1).astype(float)

    vote = cross_fitted_vote(remember, rows, TARGETS, rows[:5])
    np.testing.assert_allclose(vote.gold, [[0, 1, 1]] * 60)
    np.testing.assert_allclose(vote.texts, [[1, 0, 1]] * 5)


POSTERIOR = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.4, 0.35, 0.25], [0.0, 0.1, 0.9]])


def four() -> Dataset:
    turned_down = Rejection("too_short", 2, 6)
    rows = [Example(f"文{i}", "良", id=str(i), label_asked="良") for i in range(3)]
    return Dataset.of([*rows, Example("短", "良", id="3", rejected=turned_down)])


def test_a_text_gets_the_label_it_most_likely_has() -> None:
    found = settle_labels(four(), LABELS, POSTERIOR, "relabel", 0.5)
    assert found.labels == ["良", "並", "良", "良"]
    assert found.column("label_asked")[1] == "良"
    assert found.column("weight_label") == pytest.approx([0.9, 0.8, 0.4, 0.0])
    filters = [row.rejected.filter if row.rejected else None for row in found]
    assert filters == [None, None, FILTER, "too_short"]


def test_a_text_of_another_label_is_rejected_with_what_was_measured() -> None:
    found = settle_labels(four(), LABELS, POSTERIOR, "reject", 0.5)
    assert found.labels == ["良"] * 4
    rejected = list(found)[1].rejected
    assert rejected == Rejection(FILTER, 0.1, 0.5, "並")
    assert found.kept_mask.tolist() == [True, False, False, False]


def test_all_are_kept_with_the_weight_of_their_label() -> None:
    found = settle_labels(four(), LABELS, POSTERIOR, "keep", 0.5)
    assert found.kept_mask.tolist() == [True, True, True, False]
    assert found.column("weight_label")[1] == pytest.approx(0.1)


def test_a_label_the_task_does_not_know_is_named() -> None:
    with pytest.raises(JapagenError, match="found 不明"):
        label_indices(Dataset.of([Example("文", "不明")]), LABELS)


def test_a_strong_writer_is_not_overruled_by_a_weak_labeler() -> None:
    own = np.array([0, 0])
    labelers = np.array([[0.25, 0.6, 0.15], [0.1, 0.85, 0.05]])
    found = with_writer(labelers, own, accuracy=0.97)
    assert found.argmax(axis=1).tolist() == [0, 0]
    settled = settle_labels(_of_label("良", 2), LABELS, found, "relabel", 0.5)
    assert settled.labels == ["良", "良"]
    assert settled.kept_mask.all()


def test_a_weak_writer_is_overruled_by_a_sure_labeler() -> None:
    labelers = np.array([[0.02, 0.97, 0.01], [0.4, 0.45, 0.15]])
    found = with_writer(labelers, np.array([0, 0]), accuracy=0.6)
    settled = settle_labels(_of_label("良", 2), LABELS, found, "relabel", 0.5)
    # Where the labeler is in doubt, even a weak writer tips the balance.
    assert settled.labels == ["並", "良"]


def test_nobody_labels_so_well_that_what_is_clearly_wrong_stands() -> None:
    labelers = np.array([[1e-9, 1 - 2e-9, 1e-9]])
    assert with_writer(labelers, np.array([0]), accuracy=1.0).argmax() == 1


def test_a_writer_that_labels_at_random_says_nothing() -> None:
    labelers = np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]])
    # Nor is one that is worse than chance turned round.
    for accuracy in (1 / 3, 0.1, 0.0):
        found = with_writer(labelers, np.array([0, 1]), accuracy)
        np.testing.assert_allclose(found, labelers)


@settings(deadline=None)
@given(st.integers(0, 2), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10_000))
def test_the_better_the_writer_the_likelier_its_label(
    label: int, one: float, other: float, seed: int
) -> None:
    labelers = np.random.default_rng(seed).dirichlet(np.ones(3), size=1)
    worse, better = (
        with_writer(labelers, np.array([label]), accuracy) for accuracy in sorted((one, other))
    )
    assert worse.sum() == pytest.approx(1)
    assert worse[0, label] <= better[0, label] + 1e-12
    assert worse[0, label] >= labelers[0, label] - 1e-9


def _of_label(label: str, number: int) -> Dataset:
    return Dataset.of(Example(f"文{n}", label, id=f"{n}") for n in range(number))


LABELS_VERIFICATION = ["赤", "青", "黄"]
WIDTH = 24
CENTRES = np.random.default_rng(7).normal(size=(len(LABELS_VERIFICATION), WIDTH))
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
    for name, labels, true in sources:
        for n, label in enumerate(labels):
            text = f"{name}の文{n}"
            rows.append(
                Example(text, LABELS_VERIFICATION[label], text if pairs else None, source=name)
            )
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
        labels=LABELS_VERIFICATION,
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
    assert found.dataset.column("label")[:-1] == [LABELS_VERIFICATION[label] for label in TRUE]
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
        Example(f"{name}{n}", LABELS_VERIFICATION[label], source=name)
        for name, given in (("right", TRUE), ("random", np.concatenate([[0], RANDOM[1:]])))
        for n, label in enumerate(given)
    ]
    found = verify_labels(
        Dataset.of(rows),
        GOLD,
        [Vote("encoder", vote.gold, votes)],
        (gold, texts),
        labels=LABELS_VERIFICATION,
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
