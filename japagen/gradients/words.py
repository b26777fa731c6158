"""Whole Japanese words: what a changed text may be made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from japagen.japanese.morphology import Morpheme, Tagger

# Words that carry what a text says; particles and endings hold a sentence together.
_CONTENT = frozenset({"名詞", "動詞", "形容詞", "形状詞", "副詞"})
_JAPANESE = re.compile(r"[ぁ-ゖァ-ヺー一-鿿々]+")


@dataclass(frozen=True)
class Span:
    """One morpheme of a text and where it stands, in characters."""

    word: Morpheme
    start: int
    end: int


class WholeWords:
    """Tells whether texts consist of dictionary words and of unknown words that gold has.

    Args:
        tagger: Cuts texts.
        gold: Gold texts, whose unknown words are allowed.
    """

    def __init__(self, tagger: Tagger, gold: Iterable[str]) -> None:
        self._tagger = tagger
        self._allowed = frozenset(
            word.surface for text in gold for word in tagger.tokenize(text) if word.is_unknown
        )

    def spans(self, text: str) -> list[Span]:
        """The morphemes of a text in order; white space between them is skipped."""
        found, at = [], 0
        for word in self._tagger.tokenize(text):
            start = text.find(word.surface, at)
            if start < 0:  # MeCab read something else than is written, such as a lone surrogate
                return []
            at = start + len(word.surface)
            found.append(Span(word, start, at))
        return found

    def allows(self, words: Iterable[Morpheme]) -> bool:
        """Whether no morpheme is unknown, but for gold's own."""
        return all(not word.is_unknown or word.surface in self._allowed for word in words)

    def allowed_text(self, text: str) -> bool:
        """Whether a text holds dictionary words and gold's unknown words alone."""
        return self.allows(self._tagger.tokenize(text))

    def unknown_share(self, texts: Iterable[str]) -> float:
        """Share of morphemes that are neither in the dictionary nor gold's own."""
        words = [word for text in texts for word in self._tagger.tokenize(text)]
        return sum(not self.allows([word]) for word in words) / max(len(words), 1)

    def ends_in(self, before: str, word: str) -> bool:
        """Whether ``word`` is cut as one allowed morpheme behind ``before``."""
        cut = self._tagger.tokenize(before + word)
        return bool(cut) and cut[-1].surface == word and self.allows(cut[-1:])

    def swap(self, text: str, spans: Sequence[Span], at: int, surface: str) -> str | None:
        """Puts another word in a morpheme's place.

        Returns:
            The new text, or None unless MeCab cuts it as before everywhere else and the new word
            is one allowed morpheme of the same part of speech and conjugation form.
        """
        old = spans[at]
        changed = text[: old.start] + surface + text[old.end :]
        cut = self._tagger.tokenize(changed)
        if len(cut) != len(spans) or cut[at].surface != surface or not self.allows([cut[at]]):
            return None
        if (cut[at].pos1, cut[at].cform) != (old.word.pos1, old.word.cform):
            return None
        others = zip(cut, spans, strict=True)
        if any(new.surface != span.word.surface for new, span in others if span is not old):
            return None
        return changed

    def is_content(self, word: Morpheme) -> bool:
        """Whether a word may be changed: a content word in Japanese letters, no number."""
        return (
            word.pos1 in _CONTENT
            and word.pos2 not in ("数詞", "固有名詞", "非自立可能")
            and bool(_JAPANESE.fullmatch(word.surface))
        )

    def single(self, surfaces: Iterable[str]) -> list[str]:
        """Those that MeCab cuts as one allowed morpheme in Japanese letters, in order."""
        found = []
        for surface in surfaces:
            if not _JAPANESE.fullmatch(surface):
                continue
            cut = self._tagger.tokenize(surface)
            if len(cut) == 1 and self.allows(cut):
                found.append(surface)
        return found
