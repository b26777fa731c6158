"""Character n-gram overlap: how much of a text stands in another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from japagen.japanese.normalization import normalize


def character_ngrams(text: str, n: int = 5) -> set[str]:
    """Distinct character n-grams of the normalised text; the whole text where it is shorter."""
    text = normalize(text)
    return {text[i : i + n] for i in range(max(len(text) - n + 1, 1))} if text else set()


class OverlapIndex:
    """Finds, among reference texts, the one that holds most of a text's n-grams.

    Args:
        references: The texts to compare with.
        n: Characters in an n-gram. Word n-grams need a tokenizer; five characters are about
            two Japanese words.
    """

    def __init__(self, references: Iterable[str], n: int = 5) -> None:
        self._n = n
        self._references: Sequence[str] = list(references)
        self._holders: dict[str, list[int]] = defaultdict(list)
        for index, text in enumerate(self._references):
            for gram in character_ngrams(text, n):
                self._holders[gram].append(index)

    def nearest(self, text: str) -> tuple[float, str]:
        """Returns the share of the text's n-grams in the best reference, and that reference.

        The share is 0 and the reference empty when nothing is shared.
        """
        grams = character_ngrams(text, self._n)
        hits = Counter(index for gram in grams for index in self._holders.get(gram, ()))
        if not hits:
            return 0.0, ""
        # Ties go to the earliest reference, so that the answer does not depend on hashing.
        index, count = min(hits.items(), key=lambda item: (-item[1], item[0]))
        return count / len(grams), self._references[index]
