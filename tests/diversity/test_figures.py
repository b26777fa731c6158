from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.diversity.figures import (
    CURVE,
    dispersion,
    distinct_share,
    effective_topics,
    heaps_exponent,
    self_bleu,
    vocabulary_curve,
)

texts = st.lists(st.lists(st.sampled_from("あいうえおか"), max_size=9), min_size=2, max_size=9)


@given(texts, st.integers(1, 3))
def test_distinct_share_is_a_share_and_knows_no_order(found: list[list[str]], n: int) -> None:
    share = distinct_share(found, n)
    assert 0 <= share <= 1
    assert distinct_share(found[::-1], n) == share
    # Nothing new is said by saying everything twice.
    assert distinct_share(found * 2, n) == pytest.approx(share / 2)


def test_distinct_share_by_hand() -> None:
    found = [["私", "は", "私"], ["私", "は"]]
    assert distinct_share(found, 1) == pytest.approx(2 / 5)
    assert distinct_share(found, 2) == pytest.approx(2 / 3)  # no 2-gram across the border
    assert distinct_share(found, 3) == 1


def test_self_bleu_of_identical_and_of_unlike_texts() -> None:
    alike = [["荷物", "が", "まだ", "届き", "ませ", "ん"]] * 3
    assert self_bleu(alike) == pytest.approx(100.0)
    assert self_bleu([["荷物"]] * 2) == pytest.approx(100.0)
    assert self_bleu([["あ", "い", "う", "え"], ["か", "き", "く", "け"]]) == 0
    assert self_bleu(alike[:1]) == 0


@settings(max_examples=40)
@given(texts)
def test_self_bleu_is_that_of_sacrebleu(found: list[list[str]]) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    bleu = sacrebleu.BLEU(tokenize="none", effective_order=True)
    full = [text for text in found if text]
    if len(full) < 2:
        return
    expected = np.mean(
        [
            bleu.sentence_score(
                " ".join(text), [" ".join(t) for j, t in enumerate(full) if j != i]
            ).score
            for i, text in enumerate(full)
        ]
    )
    assert self_bleu(found) == pytest.approx(expected, abs=1e-9)


def test_heaps_exponent_is_found_again() -> None:
    tokens = np.geomspace(10, 10_000, 20)
    assert heaps_exponent(tokens, 3 * tokens**0.7) == pytest.approx(0.7)
    assert heaps_exponent(np.array([5.0, 5.0]), np.array([1.0, 1.0])) == 0


@given(texts)
def test_the_vocabulary_never_shrinks_nor_outgrows_the_tokens(found: list[list[str]]) -> None:
    tokens, types = vocabulary_curve(found)
    assert len(tokens) == len(types) == len(CURVE)
    assert (np.diff(types) >= 0).all()
    assert (types <= tokens).all()
    assert types[-1] == len({token for text in found for token in text})


def test_dispersion_by_hand_and_whatever_the_length_of_vectors() -> None:
    assert dispersion([[1, 0], [0, 1], [1, 0]]) == pytest.approx(2 / 3)
    assert dispersion([[2, 0], [0, 5], [9, 0]]) == pytest.approx(2 / 3)
    assert dispersion([[1, 0], [-1, 0]]) == pytest.approx(2.0)
    assert math.isnan(dispersion([[1, 0]]))


def test_effective_topics_between_one_and_their_number() -> None:
    assert effective_topics(np.array([3, 3, 3])) == pytest.approx(1)
    assert effective_topics(np.array([0, 1, 2, 3])) == pytest.approx(4)
    assert 1 < effective_topics(np.array([0, 0, 0, 1])) < 2
