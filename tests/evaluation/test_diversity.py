from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.summary import Diversity
from japagen.evaluation.diversity import (
    CURVE,
    MEASURES,
    dispersion,
    distinct_share,
    effective_topics,
    heaps_exponent,
    measure_diversity,
    self_bleu,
    vocabulary_curve,
)
from japagen.japanese.morphology import default_tagger

_WHO = ("店員", "家族", "友人", "上司", "隣人", "医師", "先生", "運転手", "受付", "子供")
_WHAT = ("荷物", "画面", "電池", "説明書", "返信", "朝食", "部屋", "請求書", "写真", "机")
_DOES = ("届く", "壊れる", "忘れる", "調べる", "直す", "渡す", "探す", "待つ", "選ぶ", "捨てる")


def _texts(n: int, seed: int, variety: int = 10) -> list[str]:
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, variety, size=(n, 4))
    return [f"{_WHO[a]}と{_WHO[d]}が{_WHAT[b]}を{_DOES[c]}。" for a, b, c, d in picks]


def _vectors(n: int, seed: int, spread: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([np.ones((n, 4)), spread * rng.normal(size=(n, 6))], axis=1)


def _rounds(*parts: list[str]) -> Dataset:
    return Dataset.of(
        Example(text, "あ", id=f"{number}-{i}", round=number)
        for number, part in enumerate(parts)
        for i, text in enumerate(part)
    )


def _measured(dataset: Dataset, gold: Dataset | None, *spreads: float) -> Diversity:
    each = len(dataset) // max(len(spreads), 1)
    ours = np.concatenate([_vectors(each, i, s) for i, s in enumerate(spreads)])
    theirs = _vectors(0 if gold is None else len(gold), 99)
    found = measure_diversity(dataset, gold, default_tagger(), (ours, theirs))
    assert found is not None
    return found


def test_a_planted_collapse_raises_an_alarm_by_every_measure() -> None:
    found = _measured(
        _rounds(_texts(60, 0), _texts(60, 1), _texts(60, 2, variety=3)), None, 1, 1, 0.2
    )
    assert found.rounds is not None
    assert {(a.kind, a.group, a.measure) for a in found.alarms} >= {
        ("round", "2", m) for m in ("distinct_1", "distinct_2", "self_bleu", "dispersion")
    }
    assert all(a.low < a.change < a.high < 0 for a in found.alarms)
    assert not [a for a in found.alarms if a.group == "1"]


def test_stable_rounds_like_gold_raise_none() -> None:
    gold = Dataset.of(Example(t, "あ", id=f"g{i}") for i, t in enumerate(_texts(48, 7)))
    found = _measured(_rounds(_texts(60, 3), _texts(60, 4), _texts(60, 5)), gold, 1, 1, 1)
    assert found.alarms == ()
    assert list(found.against_gold.groups) == ["synthetic", "gold"]
    assert found.against_gold.size == 24


def test_text_narrower_than_gold_raises_an_alarm_whatever_its_amount() -> None:
    gold = Dataset.of(Example(t, "あ", id=f"g{i}") for i, t in enumerate(_texts(48, 7)))
    for n in (48, 240):
        found = _measured(_rounds(_texts(n, 8, variety=3)), gold, 0.2)
        assert {a.kind for a in found.alarms} == {"gold"}
        assert {"distinct_2", "dispersion"} <= {a.measure for a in found.alarms}
        assert found.rounds is None


def test_more_of_the_same_is_not_taken_for_less_diversity() -> None:
    gold = Dataset.of(Example(t, "あ", id=f"g{i}") for i, t in enumerate(_texts(48, 7)))
    found = _measured(_rounds(_texts(600, 9)), gold, 1)
    assert found.alarms == ()


def test_the_order_of_rows_changes_nothing_and_rejected_rows_do_not_count() -> None:
    texts, vectors = _texts(40, 0), _vectors(44, 0)
    odd = [Example(_WHO[0], "あ", id=f"x{i}", rejected=Rejection("empty", 0, 0)) for i in range(4)]
    dataset = Dataset.concat([_rounds(texts), Dataset.of(odd)])
    tagger = default_tagger()
    found = measure_diversity(dataset, None, tagger, (vectors, vectors[:0]))
    order = np.random.default_rng(1).permutation(44)
    again = measure_diversity(dataset.take(order), None, tagger, (vectors[order], vectors[:0]))
    kept = measure_diversity(_rounds(texts), None, tagger, (vectors[:40], vectors[:0]))
    assert found == again == kept


def test_without_vectors_words_are_still_measured() -> None:
    found = measure_diversity(_rounds(_texts(20, 0)), None, default_tagger())
    assert found is not None
    assert set(found.against_gold.groups["synthetic"].measures) == set(MEASURES[:5])
    assert found.against_gold.topics is None
    json.dumps(asdict(found))


@pytest.mark.parametrize("n", [0, 1, 3])
def test_too_few_texts_are_not_measured(n: int) -> None:
    assert measure_diversity(_rounds(_texts(n, 0)), None, default_tagger()) is None


@pytest.mark.parametrize("text", ["", "あ", "同じ文章です。"])
def test_texts_all_alike_have_figures(text: str) -> None:
    gold = _rounds([text] * 16)
    found = measure_diversity(
        _rounds([text] * 16, [text] * 16),
        gold,
        default_tagger(),
        (np.ones((32, 3)), np.ones((16, 3))),
    )
    assert found is not None
    assert found.alarms == ()
    json.dumps(asdict(found), allow_nan=False)


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
