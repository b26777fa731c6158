from __future__ import annotations

import numpy as np
import pytest

from japagen.data.documents import Passage
from japagen.data.qa import Question
from japagen.evaluation.qa import (
    BM25,
    artefacts,
    encoder_scores,
    retrieval_score,
    right_passages,
    trivial_share,
)
from japagen.japanese.morphology import Tagger

TEXTS = [
    "修理は福岡の修理センターで受け付けます。",
    "送料は全国一律で605円です。",
    "加湿器のタンクは毎日洗います。",
]


def _question(options: tuple[str, ...], answer: str, name: str = "q") -> Question:
    return Question(name, "multiple_choice", "d#1", "どれですか。", answer, 0, options)


def test_bm25_finds_the_passage_that_shares_words() -> None:
    search = BM25(TEXTS, Tagger())
    assert search.scores("送料はいくらですか。").argmax() == 1
    assert search.scores("加湿器はどう洗えばよいですか。").argmax() == 2
    assert search.scores("ありません、ぬ。").tolist() == [0, 0, 0]
    assert BM25(["。"], Tagger()).scores("送料").tolist() == [0]


def test_recall_and_reciprocal_rank_are_of_the_first_right_passage() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    right = np.array([[True, False, False], [True, True, False], [True, False, False]])
    found = retrieval_score("bm25", scores, right)
    # Equal scores count against: nothing was found there.
    assert found.recall == {1: 0.3333, 3: 1, 5: 1, 10: 1}
    assert found.mrr == pytest.approx((1 + 1 / 2 + 1 / 3) / 3, abs=1e-4)


def test_a_rank_beyond_ten_counts_nothing() -> None:
    scores = np.arange(12, dtype=np.float64)[None, ::-1]
    right = np.zeros((1, 12), bool)
    right[0, 11] = True
    assert retrieval_score("bm25", scores, right).mrr == 0


def test_a_question_is_trivial_if_no_wrong_passage_comes_near() -> None:
    scores = np.array([[4.0, 2.0], [4.0, 2.1], [0.0, 0.0]])
    right = np.array([[True, False]] * 3)
    assert trivial_share(scores, right) == pytest.approx(1 / 3, abs=1e-4)


def test_passages_that_overlap_at_the_answer_are_right_too() -> None:
    passages = {
        "d#1": Passage("d#1", "d", "", 0, 10, "x" * 10),
        "d#2": Passage("d#2", "d", "", 6, 16, "x" * 10),
        "e#1": Passage("e#1", "e", "", 0, 16, "x" * 16),
    }
    asked = [
        Question("a", "extractive", "d#1", "?", "xx", 7),
        Question("b", "extractive", "d#1", "?", "xx", 5),
    ]
    assert right_passages(asked, passages).tolist() == [[True, True, False], [True, False, False]]


def test_options_that_give_themselves_away_are_found() -> None:
    long = [
        _question((f"長い長い選択肢{n}", "短い", "並の", "他の"), f"長い長い選択肢{n}", f"q{n}")
        for n in range(12)
    ]
    found = {rate.name: rate for rate in artefacts(long, {q.id: q.answer for q in long[:6]})}
    assert (found["longest"].hits, found["longest"].n, found["longest"].chance) == (12, 12, 0.25)
    assert found["longest"].p < 0.001
    assert found["longest"].low > 0.7
    assert found["shortest"].hits == 0
    assert found["place"].hits == 12
    assert (found["without_passage"].hits, found["without_passage"].n) == (6, 6)


def test_even_options_are_at_chance() -> None:
    options = ("甲", "乙", "丙", "丁")
    even = [_question(options, options[n % 4], f"q{n}") for n in range(12)]
    found = {rate.name: rate for rate in artefacts(even, {})}
    # Of four options of one length each is taken for a quarter.
    assert found["longest"].hits == found["shortest"].hits == found["place"].hits == 3
    assert all(rate.p > 0.3 for rate in found.values())
    assert "without_passage" not in found
    assert artefacts([], {}) == []


@pytest.mark.slow
def test_the_embedded_encoder_finds_passages() -> None:
    from japagen.training.encoder import load_encoder

    queries = ["荷物を送るのにいくらかかりますか。", "壊れたらどこに頼めばよいですか。"]
    found = encoder_scores(queries, TEXTS, load_encoder("embedded"))
    assert found.argmax(axis=1).tolist() == [1, 0]
