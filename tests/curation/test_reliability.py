from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.curation.reliability import (
    Evidence,
    Reliability,
    Writer,
    estimate_accuracy,
    estimate_reliability,
    find_off_topic,
)


def test_texts_far_from_all_gold_are_off_topic() -> None:
    rng = np.random.default_rng(0)
    gold = np.array([1.0, 0, 0]) + 0.1 * rng.normal(size=(40, 3))
    near = np.array([3.0, 0, 0]) + 0.1 * rng.normal(size=(30, 3))
    far = np.array([0, 1.0, 0]) + 0.1 * rng.normal(size=(10, 3))
    found = find_off_topic(gold, np.concatenate([near, far]))
    assert found[30:].all()
    assert found[:30].sum() <= 3


@pytest.mark.parametrize("gold", [0, 1])
def test_nothing_is_off_topic_beside_less_than_two_gold_texts(gold: int) -> None:
    assert not find_off_topic(np.ones((gold, 3)), np.eye(3)).any()


def test_repeated_gold_puts_nothing_off_topic() -> None:
    rng = np.random.default_rng(0)
    gold, texts = rng.normal(3.0, 1.0, (24, 8)), rng.normal(3.0, 1.0, (60, 8))
    once = find_off_topic(gold, texts)
    assert once.mean() < 0.3
    assert (find_off_topic(np.concatenate([gold, gold]), texts) == once).all()


def test_there_may_be_no_texts() -> None:
    assert find_off_topic(np.eye(3), np.zeros((0, 3))).shape == (0,)


WRITERS: tuple[Writer, ...] = ("writer", "base_model")


@st.composite
def counts(draw: st.DrawFn) -> Evidence:
    texts, gold = draw(st.integers(0, 400)), draw(st.integers(0, 300))
    of_texts, of_gold = st.integers(0, texts), st.integers(0, gold)
    return Evidence(
        labels=draw(st.integers(2, 12)),
        texts=texts,
        agreed=draw(of_texts),
        consistent=draw(of_texts),
        gold=gold,
        recognized=draw(of_gold),
        transferred=draw(of_gold),
        off_topic=draw(of_texts),
    )


def expected(
    reliability: float, labeler: float, *, labels: int = 3, texts: int = 300, gold: int = 48
) -> Evidence:
    """The counts that a writer and a labeler of these chance-corrected accuracies would give."""

    def of(trials: int, corrected: float) -> int:
        return round(trials * (1 / labels + (1 - 1 / labels) * corrected))

    return Evidence(
        labels=labels,
        texts=texts,
        agreed=of(texts, reliability * labeler),
        consistent=of(texts, reliability**1.5 * labeler**0.6),
        gold=gold,
        recognized=of(gold, labeler),
        transferred=of(gold, reliability**0.5 * labeler),
    )


@settings(deadline=None)
@given(counts(), st.sampled_from(WRITERS))
def test_whatever_was_counted_gives_a_distribution(evidence: Evidence, writer: Writer) -> None:
    found = estimate_reliability(evidence, writer)
    assert 0 <= found.low <= found.high <= 1
    assert 0 <= found.mean <= 1
    # The mean of at most a twentieth above the interval cannot lift it further than this.
    assert found.low * 0.95 <= found.mean <= found.high + 0.05
    assert found.mean**2 - 1e-9 <= found.squared <= found.mean + 1e-9
    assert 0 <= found.text_weight <= 1
    labels = evidence.labels
    assert 1 / labels - 1e-9 <= found.accuracy(labels) <= 1 + 1e-9
    written = json.loads(json.dumps(found.to_dict()))
    assert Reliability.from_dict(written) == found


@settings(deadline=None)
@given(st.data())
def test_the_more_of_its_labels_the_labelers_share_the_more_reliable_it_is(
    data: st.DataObject,
) -> None:
    labels = data.draw(st.integers(2, 8))
    labeler = data.draw(st.floats(0.5, 1))
    base = expected(data.draw(st.floats(0.1, 1)), labeler, labels=labels, gold=120)
    chance = base.texts // labels
    few = data.draw(st.integers(chance, base.texts))
    many = data.draw(st.integers(few, base.texts))
    low, high = (
        estimate_reliability(replace(base, agreed=agreed, consistent=base.texts))
        for agreed in (few, many)
    )
    assert low.mean <= high.mean + 1e-9


@pytest.mark.parametrize("reliability", [0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("labeler", [0.5, 0.7, 0.9])
def test_a_planted_reliability_is_found(reliability: float, labeler: float) -> None:
    found = estimate_reliability(expected(reliability, labeler))
    assert found.low - 0.05 <= reliability <= found.high + 0.05
    assert found.mean == pytest.approx(reliability, abs=0.15)


@pytest.mark.parametrize("writer", WRITERS)
def test_labels_at_random_are_not_used_where_somebody_can_tell(writer: Writer) -> None:
    found = estimate_reliability(expected(0.0, 0.9), writer)
    assert found.text_weight == 0
    assert found.accuracy(3) == pytest.approx(1 / 3, abs=0.1)


@pytest.mark.parametrize("writer", WRITERS)
def test_labels_that_are_consistent_and_wrong_are_not_used(writer: Writer) -> None:
    consistent = replace(expected(0.0, 0.9), consistent=300)
    assert estimate_reliability(consistent, writer).text_weight == 0


@pytest.mark.parametrize("writer", WRITERS)
def test_where_the_labelers_know_nothing_the_prior_nearly_stands(writer: Writer) -> None:
    prior = estimate_reliability(None, writer)
    # Nothing but chance, of the texts and of gold, whoever looks.
    found = estimate_reliability(expected(0.7, 0.0, gold=300), writer)
    # That the source does not even agree with itself speaks against it, a little.
    assert prior.mean - 0.2 < found.mean <= prior.mean
    assert found.text_weight > 0


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("missing", ["texts", "gold"])
def test_without_texts_or_gold_there_is_nothing_but_the_prior(writer: Writer, missing: str) -> None:
    some = expected(0.9, 0.9)
    none = (
        replace(some, texts=0, agreed=0, consistent=0)
        if missing == "texts"
        else replace(some, gold=0, recognized=0, transferred=0)
    )
    prior = estimate_reliability(None, writer)
    assert estimate_reliability(none, writer) == prior
    assert prior.evidence is None


def test_a_writer_that_follows_instructions_is_trusted_more_than_a_base_model() -> None:
    writer, base_model = (estimate_reliability(None, name) for name in WRITERS)
    # Nine in ten have 3/4 and 1/2, one in ten is worthless.
    assert writer.mean == pytest.approx(0.9 * 0.75 + 0.1 * 0.1, abs=0.01)
    assert base_model.mean == pytest.approx(0.9 * 0.5 + 0.1 * 0.1, abs=0.01)
    assert writer.text_weight > base_model.text_weight > 0


def test_more_gold_makes_surer() -> None:
    few, many = (estimate_reliability(expected(0.8, 0.7, gold=gold)) for gold in (12, 300))
    assert many.high - many.low < few.high - few.low


def test_thousands_of_texts_of_one_writer_are_not_thousands_of_witnesses() -> None:
    some, many = (estimate_reliability(expected(0.6, 0.8, texts=texts)) for texts in (300, 30_000))
    assert some.mean == pytest.approx(many.mean, abs=0.02)
    assert some.high - some.low == pytest.approx(many.high - many.low, abs=0.02)


def test_a_text_counts_for_more_the_more_reliable_its_label_is() -> None:
    weights = [estimate_reliability(expected(r, 0.9)).text_weight for r in np.linspace(0, 1, 6)]
    assert weights == sorted(weights)
    assert weights[0] == 0
    assert 0.8 < weights[-1] <= 1


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("texts", [1, 3, 6])
def test_a_few_right_texts_are_not_blamed_for_being_few(writer: Writer, texts: int) -> None:
    # What learnt from so few knows little of gold or of the others, whatever their labels.
    few = replace(expected(1.0, 0.9, texts=texts), transferred=20, consistent=texts // 2)
    assert estimate_reliability(few, writer).mean > estimate_reliability(None, writer).mean - 0.05


def test_texts_about_something_else_count_for_less() -> None:
    some = expected(1.0, 0.9)
    weights = [
        estimate_reliability(replace(some, off_topic=n)).text_weight for n in (0, 150, 225, 300)
    ]
    assert weights[0] == weights[1]
    # A quarter on topic is half of what is asked for, and its square a quarter.
    assert weights[2] == pytest.approx(weights[0] / 4)
    assert weights[3] == 0


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(2, 8), st.data())
def test_labelers_are_as_reliable_as_gold_left_out_shows(
    gold: int, labels: int, data: st.DataObject
) -> None:
    one, other = sorted(data.draw(st.integers(0, gold)) for _ in range(2))
    worse, better = (estimate_accuracy(right, gold, labels) for right in (one, other))
    assert worse.mean <= better.mean + 1e-9
    assert 0 <= worse.low <= worse.high <= 1
    assert worse.evidence is None


def test_labelers_at_chance_are_told_from_those_who_know() -> None:
    assert estimate_accuracy(100, 300, 3).text_weight == 0
    assert estimate_accuracy(285, 300, 3).text_weight > 0.8
