from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.curation.near_duplicates import (
    Near,
    find_near_duplicates,
    find_near_vectors,
    reject_near_duplicates,
    reject_near_vectors,
)
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.japanese.overlap import jaccard, plain_form, shingle_hashes, shingles

BASE = "朝食のバイキングは種類が多くてとても満足しました。"
SHORT = st.text(alphabet="あいうアイ亜〜ー。 1", max_size=12)


@pytest.mark.parametrize(
    "copy",
    [
        "朝食のﾊﾞｲｷﾝｸﾞは種類が多くてとても満足しました。",
        "朝食のバイキングは種類が多くてとても満足しました〜！！",
        "朝食のバイキングは、種類が多くて、とーても満足しました♪",
        "朝食のバイキングは種類も多くてとても満足しました。",
    ],
)
def test_copies_in_another_spelling_are_found(copy: str) -> None:
    found = find_near_duplicates([BASE, copy], 0.7)
    assert found[0] is None
    assert found[1] is not None
    assert found[1].index == 0


@pytest.mark.parametrize(
    "other",
    ["夕食のメニューは少なくて残念でした。", "フロントの方の対応に満足しました。", "", "。"],
)
def test_other_texts_are_not(other: str) -> None:
    assert find_near_duplicates([BASE, other], 0.7)[1] is None


def test_a_chain_of_small_changes_is_cut_and_not_dropped_whole() -> None:
    letters = [chr(c) for c in range(ord("ア"), ord("ア") + 60)]
    chain = ["".join(letters[i : i + 20]) for i in range(0, 12)]
    found = find_near_duplicates(chain, 0.7)
    assert found[0] is None
    assert 1 < sum(near is None for near in found) < len(chain)
    for text, near in zip(chain, found, strict=True):
        if near is not None:
            assert jaccard(shingles(text), shingles(chain[near.index])) == near.similarity >= 0.7
            assert found[near.index] is None


def test_protected_texts_stay_and_are_compared_with() -> None:
    assert find_near_duplicates([BASE, BASE, BASE], 0.7, protected=2) == [None, None, Near(0, 1.0)]


@settings(max_examples=60)
@given(st.lists(SHORT, max_size=12))
def test_what_is_found_is_near_a_kept_text_and_found_again(texts: list[str]) -> None:
    found = find_near_duplicates(texts, 0.7)
    assert found == find_near_duplicates(texts, 0.7)
    for index, near in enumerate(found):
        if near is not None:
            assert near.index < index
            assert found[near.index] is None
    # Equal plain forms have equal minima: none of them is missed.
    kept = [plain_form(t) for t, near in zip(texts, found, strict=True) if near is None]
    assert len(set(kept)) == len(kept)


@given(st.lists(SHORT, max_size=8))
def test_hashes_are_those_of_each_text_alone(texts: list[str]) -> None:
    hashes, offsets = shingle_hashes(texts)
    for index, text in enumerate(texts):
        own = hashes[int(offsets[index]) : int(offsets[index + 1])]
        assert np.array_equal(own, shingle_hashes([text])[0])
        assert len(set(own.tolist())) == len(shingles(text))


def test_rejections_name_what_is_kept_and_gold_comes_first() -> None:
    gold = Dataset.of([Example("駅から近くて便利でした。", "良い", split="train")])
    rows = Dataset.of(
        [
            Example(BASE, "良い", id="a"),
            Example(BASE.replace("は", "も"), "悪い", id="b"),
            Example("駅からも近くて便利でした！", "良い", id="c"),
            Example(BASE, "良い", id="d", rejected=Rejection("failed", 1, 0)),
        ]
    )
    first, second, third, fourth = reject_near_duplicates(rows, 0.7, gold)
    assert first.rejected is None
    assert second.rejected is not None
    assert (second.rejected.filter, second.rejected.detail) == ("near_duplicate", "a")
    assert second.rejected.value >= second.rejected.threshold == 0.7
    assert third.rejected is not None
    assert third.rejected.filter == "near_duplicate_of_gold"
    assert third.rejected.detail == gold[0].text
    assert fourth.rejected == Rejection("failed", 1, 0)


def test_near_vectors_are_found_whatever_the_block() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(40, 16)).astype(np.float32)
    vectors = np.concatenate([base, base[:10] + 0.01, base[:5] * 3]) + 50
    found = find_near_vectors(vectors, 0.99)
    assert [near and near.index for near in found[40:50]] == list(range(10))
    assert all(near is None for near in found[:40])
    assert found == find_near_vectors(vectors, 0.99, block=7)


def test_rows_near_in_meaning_are_rejected() -> None:
    rows = Dataset.of([Example(t, "良い", id=t) for t in ("いち", "に", "さん")])
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0.01]], np.float32)
    gold = Dataset.of([Example("金", "良い")])
    curated = reject_near_vectors(rows, 0.95, vectors, gold, np.array([[-1, 0, 0.5]], np.float32))
    assert [r and r["filter"] for r in curated.column("rejected")] == [None, None, "same_meaning"]


def test_rows_that_were_compared_before_are_only_compared_with() -> None:
    rows = Dataset.of([Example(t, "良い", id=t) for t in ("いち", "に", "さん")])
    vectors = np.array([[1, 0, 0.01], [1, 0, 0], [1, 0, 0.02]], np.float32)
    centred = np.concatenate([vectors, -vectors]).astype(np.float32)
    every = Dataset.concat([rows, rows.with_columns(id=["a", "b", "c"])])
    curated = reject_near_vectors(every, 0.95, centred, first=2)
    found = [r and r["filter"] for r in curated.column("rejected")]
    assert found[:3] == [None, None, "same_meaning"]
    alike = Dataset.of([Example("荷物が届かない。", "配送", id=id_) for id_ in ("a", "b", "c")])
    found = [
        r and r["filter"] for r in reject_near_duplicates(alike, 0.7, None, 2).column("rejected")
    ]
    assert found == [None, None, "near_duplicate"]
