from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.errors import DamagedError, JapagenError
from japagen.evaluation.drift import FILE, Check, Drift, Profile, compare, profile

LABELS = ("配送", "返品")
SUBJECTS = ["荷物", "商品", "再配達", "追跡番号", "定期便", "届け先", "注文", "箱"]
ENDINGS = ["が届きません。", "を確認したいです。", "について教えてください。", "はいつですか。"]


def texts_of(n: int, seed: int, subjects: list[str] = SUBJECTS) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{rng.choice(subjects)}{rng.choice(ENDINGS)}" for _ in range(n)]


def answers(n: int, seed: int, share: float = 0.5, confidence: float = 0.9) -> np.ndarray:
    rng = np.random.default_rng(seed)
    first = np.where(rng.random(n) < share, confidence, 1 - confidence)
    first = np.clip(first + rng.normal(0, 0.03, n), 0.01, 0.99)
    return np.stack([first, 1 - first], axis=1)


def drift(texts: list[str], given: np.ndarray, n: int = 300) -> Drift:
    reference = profile(texts_of(n, 1), answers(n, 1), LABELS)
    return compare(reference, texts, profile(texts, given, LABELS))


def changed(found: Drift) -> set[str]:
    return {check.name for check in found.checks if check.drifted}


@pytest.mark.parametrize("seed", range(5, 10))
def test_more_of_the_same_is_steady(seed: int) -> None:
    found = drift(texts_of(200, seed), answers(200, seed))
    assert (found.verdict, changed(found)) == ("steady", set())


def test_other_words_are_watched_and_named() -> None:
    subjects = ["暗証番号", "ログイン画面", "アプリ", "再配達", "注文"]
    found = drift(texts_of(200, 3, subjects), answers(200, 3))
    assert found.verdict == "watch"
    assert "words" in changed(found)
    assert {"暗証", "アプリ"} & set(found.new_words)
    assert "注文" not in found.new_words


def test_a_change_of_register_is_watched() -> None:
    plain = [t.replace("ません", "ない").replace("たいです", "たい") for t in texts_of(200, 3)]
    plain = [t.replace("てください", "てほしい").replace("ですか", "だ") for t in plain]
    found = drift(plain, answers(200, 3))
    assert "registers" in changed(found)
    assert found.verdict == "watch"


@pytest.mark.parametrize(
    ("given", "name"),
    [(answers(200, 3, share=0.8), "labels"), (answers(200, 3, confidence=0.7), "confidence")],
)
def test_other_answers_call_for_training(given: np.ndarray, name: str) -> None:
    found = drift(texts_of(200, 3), given)
    assert (found.verdict, changed(found)) == ("retrain", {name})


def test_more_confidence_is_no_drift() -> None:
    assert drift(texts_of(200, 3), answers(200, 3, confidence=0.97)).verdict == "steady"


@given(st.integers(20, 60), st.integers(20, 60), st.integers(0, 100))
@settings(max_examples=15)
def test_values_are_in_range_and_significance_is_adjusted(n: int, m: int, seed: int) -> None:
    reference = profile(texts_of(n, seed), answers(n, seed), LABELS)
    texts = texts_of(m, seed + 1)
    found = compare(reference, texts, profile(texts, answers(m, seed + 1), LABELS), seed)
    for check in found.checks:
        assert isinstance(check, Check)
        assert -1 <= check.value <= 1
        assert 0 < check.p_value <= 1
    assert found == compare(reference, texts, profile(texts, answers(m, seed + 1), LABELS), seed)


def test_a_profile_is_read_back_and_spells_out_no_text(tmp_path: Path) -> None:
    made = profile(["暗証番号を忘れました。", "荷物"], answers(2, 0), LABELS)
    made.save(tmp_path)
    again = Profile.load(tmp_path)
    assert (again.words != made.words).nnz == 0
    assert again.labels == LABELS
    np.testing.assert_array_equal(again.probabilities, made.probabilities)
    with np.load(tmp_path / FILE) as found:
        stored = [found[name] for name in found.files]
    assert all(array.dtype.kind in "if" or set(array) == set(LABELS) for array in stored)


def test_what_cannot_be_compared_gets_a_sentence(tmp_path: Path) -> None:
    made = profile(texts_of(30, 0), answers(30, 0), LABELS)
    few = profile(texts_of(3, 0), answers(3, 0), LABELS)
    with pytest.raises(JapagenError, match="at least 20 texts in the new traffic, found 3"):
        compare(made, texts_of(3, 0), few)
    other = profile(texts_of(30, 0), answers(30, 0), ("甲", "乙"))
    with pytest.raises(JapagenError, match="Expected the labels"):
        compare(made, texts_of(30, 0), other)
    with pytest.raises(JapagenError, match="no such file"):
        Profile.load(tmp_path)
    (tmp_path / FILE).write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(DamagedError):
        Profile.load(tmp_path)
