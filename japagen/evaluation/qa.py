"""How hard a set of questions is to retrieve for, and whether options give themselves away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from japagen.data.documents import Passage
from japagen.data.labels import Floats
from japagen.data.qa import Question, Rate, RetrievalScore, relevant
from japagen.japanese.morphology import Tagger
from japagen.japanese.normalization import normalize

if TYPE_CHECKING:
    from japagen.training.encoder import Encoder

RANKS = (1, 3, 5, 10)
# BM25 finds a question trivially if it scores no wrong passage with half of the right one's.
_TRIVIAL = 2.0
_CONTENT = ("名詞", "動詞", "形容詞", "形状詞", "副詞", "代名詞", "記号")


class BM25:
    """BM25 over MeCab's words: lemmas of content words.

    Args:
        texts: What is searched.
        tagger: The morphological analyser.
    """

    def __init__(self, texts: Sequence[str], tagger: Tagger) -> None:
        import bm25s

        self._tagger = tagger
        rows = [self._words(text) for text in texts]
        self._size = len(rows)
        self._known = {word for row in rows for word in row}
        self._index = bm25s.BM25()
        if self._known:
            self._index.index(rows, show_progress=False)

    def _words(self, text: str) -> list[str]:
        return [m.lemma for m in self._tagger.tokenize(normalize(text)) if m.pos1 in _CONTENT]

    def scores(self, query: str) -> Floats:
        """The score of every text for a query, shape (texts,)."""
        words = [word for word in self._words(query) if word in self._known]
        if not words:
            return np.zeros(self._size)
        return np.asarray(self._index.get_scores(words), dtype=np.float64)


def encoder_scores(queries: Sequence[str], texts: Sequence[str], encoder: Encoder) -> Floats:
    """Cosines of queries and texts, shape (queries, texts).

    Encoders of the E5 family tell the two apart by a prefix.
    """
    from japagen.training.encoder import embed

    reading = encoder
    if encoder.prefix == "query: ":
        reading = replace(encoder, prefix="passage: ")
    found = embed(encoder, queries) @ embed(reading, texts).T
    return found.astype(np.float64)


def right_passages(
    questions: Sequence[Question], passages: Mapping[str, Passage]
) -> npt.NDArray[np.bool_]:
    """Which passages hold each question's answer, shape (questions, passages)."""
    places = {name: place for place, name in enumerate(passages)}
    right = np.zeros((len(questions), len(places)), dtype=bool)
    for row, question in enumerate(questions):
        right[row, [places[name] for name in relevant(question, passages)]] = True
    return right


def retrieval_score(retriever: str, scores: Floats, right: npt.NDArray[np.bool_]) -> RetrievalScore:
    """Recall at ranks and mean reciprocal rank of the first right passage.

    Args:
        retriever: Its name.
        scores: Shape (questions, passages). Of equal scores the wrong passage's counts as higher.
        right: Which passages are right, of the same shape.
    """
    best = np.where(right, scores, -np.inf).max(axis=1)
    first = 1 + (~right & (scores >= best[:, None])).sum(axis=1)
    return RetrievalScore(
        retriever=retriever,
        n=len(scores),
        recall={rank: round(float((first <= rank).mean()), 4) for rank in RANKS},
        mrr=round(float(np.where(first <= max(RANKS), 1 / first, 0).mean()), 4),
    )


def trivial_share(scores: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Share of questions whose right passage BM25 scores at least twice as high as any other."""
    best = np.where(right, scores, 0).max(axis=1)
    other = np.where(right, 0, scores).max(axis=1)
    return round(float(((best > 0) & (best >= _TRIVIAL * other)).mean()), 4)


def artefacts(questions: Sequence[Question], chosen: Mapping[str, str]) -> list[Rate]:
    """How often the right option is found by the options alone.

    Args:
        questions: Multiple-choice questions.
        chosen: Question id to the option that a model chose without the passage.

    Returns:
        A rate each for taking the longest option, the shortest, the place that is right most
        often, and the model's choice. Of options of equal length each is taken for its share.
    """
    if not questions:
        return []
    chance = float(np.mean([1 / len(q.options) for q in questions]))
    longest = [_extreme(q, max) for q in questions]
    shortest = [_extreme(q, min) for q in questions]
    places = Counter(q.options.index(q.answer) for q in questions)
    asked = [q for q in questions if q.id in chosen]
    found = [
        _rate("longest", sum(longest), len(questions), chance),
        _rate("shortest", sum(shortest), len(questions), chance),
        # The most frequent of several places is above chance even where all are drawn evenly.
        _rate("place", max(places.values()), len(questions), chance, len(questions[0].options)),
    ]
    if asked:
        hits = sum(chosen[q.id] == q.answer for q in asked)
        found.append(_rate("without_passage", hits, len(asked), chance))
    return found


def _extreme(question: Question, of: Callable[[Sequence[int]], int]) -> float:
    lengths = [len(option) for option in question.options]
    wanted = of(lengths)
    return (len(question.answer) == wanted) / lengths.count(wanted)


def _rate(name: str, hits: float, n: int, chance: float, tries: int = 1) -> Rate:
    from scipy.stats import binomtest

    whole = round(hits)
    test = binomtest(whole, n, chance, alternative="greater")
    low, high = binomtest(whole, n, chance).proportion_ci(method="wilson")
    p = min(1.0, float(test.pvalue) * tries)
    figures = {"chance": round(chance, 4), "low": round(low, 4), "high": round(high, 4)}
    return Rate(name=name, hits=whole, n=n, **figures, p=round(p, 4))
