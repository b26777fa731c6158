"""Character n-gram overlap: how much of a text stands in another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from japagen.japanese.normalization import normalize


def character_ngrams(text: str, n: int = 5) -> set[str]:
    """Distinct character n-grams of the normalised text; the whole text where it is shorter."""
    text = normalize(text)
    return {text[i : i + n] for i in range(max(len(text) - n + 1, 1))} if text else set()


@dataclass(frozen=True, slots=True)
class Copied:
    """The longest run of characters that a text shares with a reference.

    Attributes:
        text: The run, normalised; empty when not even an n-gram is shared.
        reference: Index of the reference; -1 when nothing is shared.
    """

    text: str = ""
    reference: int = -1


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
        share, index = self.nearest_index(text)
        return share, self._references[index] if index >= 0 else ""

    def nearest_index(self, text: str) -> tuple[float, int]:
        """As `nearest`, with the reference's index; -1 when nothing is shared."""
        grams = character_ngrams(text, self._n)
        hits = Counter(index for gram in grams for index in self._holders.get(gram, ()))
        if not hits:
            return 0.0, -1
        # Ties go to the earliest reference, so that the answer does not depend on hashing.
        index, count = min(hits.items(), key=lambda item: (-item[1], item[0]))
        return count / len(grams), index

    @cached_property
    def _places(self) -> tuple[list[str], dict[str, list[tuple[int, int]]]]:
        """The normalised references, and where each n-gram starts in them."""
        plain = [normalize(text) for text in self._references]
        places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for index, text in enumerate(plain):
            for start in range(len(text) - self._n + 1):
                places[text[start : start + self._n]].append((index, start))
        return plain, places

    def longest_copy(self, text: str) -> Copied:
        """Returns the longest run of the text that stands in any reference, the first of equals.

        Runs shorter than an n-gram are not looked for.
        """
        text = normalize(text)
        plain, places = self._places
        best = Copied()
        for start in range(len(text) - self._n + 1):
            for index, place in places.get(text[start : start + self._n], ()):
                reference = plain[index]
                # A run that could begin earlier was measured from there.
                if start and place and text[start - 1] == reference[place - 1]:
                    continue
                length = self._n
                most = min(len(text) - start, len(reference) - place)
                while length < most and text[start + length] == reference[place + length]:
                    length += 1
                if length > len(best.text):
                    best = Copied(text[start : start + length], index)
        return best
