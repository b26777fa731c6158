"""Passages of a user's own corpus as material for prompts: Okapi BM25 over content words.

Robertson & Zaragoza 2009, as bm25s computes it (Lù 2024, arXiv:2407.03618). Words come from the
morphological analyser in their dictionary form: a tokenizer that splits at spaces finds no words
in Japanese.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from japagen.japanese.morphology import Tagger
from japagen.japanese.normalization import normalize
from japagen.japanese.traits import traits_of
from japagen.llm.requests import one_line

# A passage is material for one text, not a document: about three sentences.
_LONGEST = 200
_SHORTEST = 10
_SENTENCE = re.compile(r"[^。！？!?\n]+[。！？!?]*")
_CONTENT = ("名詞", "動詞", "形容詞", "形状詞", "副詞")


def passages_of(texts: Iterable[str]) -> list[str]:
    """Cuts texts at ends of sentences into passages of some 200 characters; each comes once."""
    found: dict[str, None] = {}
    for text in texts:
        current = ""
        for sentence in _SENTENCE.findall(text):
            if current and len(current) + len(sentence) > _LONGEST:
                found[one_line(current)] = None
                current = ""
            current += sentence
        found[one_line(current)] = None
    return [passage[:_LONGEST] for passage in found if len(passage) >= _SHORTEST]


class Passages:
    """Gives out the passages of a corpus, the best for a query first, each once.

    Args:
        texts: The corpus.
        tagger: The morphological analyser.
    """

    def __init__(self, texts: Iterable[str], tagger: Tagger) -> None:
        import bm25s

        self._tagger = tagger
        self._passages = passages_of(texts)
        words = [self._words(passage) for passage in self._passages]
        self._index = bm25s.BM25()
        self._known = {word for row in words for word in row}
        if self._known:
            self._index.index(words, show_progress=False)
        self._given: set[int] = set()

    def _words(self, text: str) -> list[str]:
        return [m.lemma for m in self._tagger.tokenize(normalize(text)) if m.pos1 in _CONTENT]

    def best(self, query: Sequence[str]) -> Iterator[str]:
        """Passages that share words with a query, the best first; none that was given out before.

        Args:
            query: Texts that say what is wanted.
        """
        words = [w for text in query for w in self._words(text) if w in self._known]
        if not words:
            return
        scores = self._index.get_scores(words)
        for index in np.argsort(-scores, kind="stable"):
            if scores[index] <= 0:
                return
            if int(index) not in self._given:
                self._given.add(int(index))
                yield self._passages[index]

    def topic(self, passage: str) -> str:
        """The noun that a passage has most often, the longer of equals; empty without a noun."""
        text = normalize(passage)
        nouns = [n for n in traits_of(text, self._tagger).nouns if len(n) > 1]
        counts = Counter({noun: text.count(noun) for noun in nouns})
        return max(nouns, key=lambda noun: (counts[noun], len(noun)), default="")
