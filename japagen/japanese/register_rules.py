"""What the register rules work on: located words, sentences and evidence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal, NamedTuple

from japagen.japanese.morphology import Morpheme, Tagger
from japagen.japanese.normalization import normalize
from japagen.japanese.registers import Style

EvidenceKind = Literal[
    "sonkeigo",
    "kenjogo1",
    "kenjogo2",
    "teineigo",
    "bikago",
    "double_keigo",
    "spoken",
    "written",
    "dialect",
]

# Stands before the first and after the last word, so that rules may look past both ends.
_EDGE = Morpheme("", "", "", "", "*", "*", "", "", False)
_EDGES = (_EDGE,) * 6
_ENDS_SENTENCE = frozenset("。．.!?！？♪♫♬☆★♡♥…\U0001f3b5\U0001f3b6")
_QUOTES = dict(zip("「『（(【〈《[", "」』）)】〉》]", strict=True))
_CLOSERS = frozenset(_QUOTES.values())
# Without such a place a line is one sentence, and most texts are.
_INNER_END = re.compile(
    f"[{re.escape(''.join(_ENDS_SENTENCE))}][^{re.escape(''.join(_ENDS_SENTENCE | _CLOSERS))}]"
)


class Evidence(NamedTuple):
    """One place in a text that speaks for a register.

    Attributes:
        kind: What it speaks for.
        start: First character in the report's text.
        end: One past the last character.
        surface: The characters themselves.
        rule: The pattern that matched, such as "お〜になる".
        certain: False where the form has another common reading; such evidence is shown but
            does not set the register.
    """

    kind: EvidenceKind
    start: int
    end: int
    surface: str
    rule: str
    certain: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready mapping."""
        return self._asdict()


class SentenceStyle(NamedTuple):
    """The style of one sentence.

    Attributes:
        start: First character in the report's text.
        end: One past the last character.
        style: Its style; "unknown" without a predicate, never "mixed".
        predicate: Where its final predicate starts; None without one.
    """

    start: int
    end: int
    style: Style
    predicate: int | None = None


def _offsets(text: str, morphemes: tuple[Morpheme, ...]) -> tuple[list[int], list[int]]:
    """Returns where each morpheme starts and ends in ``text``."""
    ends = list(accumulate([len(m.surface) for m in morphemes]))
    if not ends:
        return [], ends
    if ends[-1] == len(text):
        return [0, *ends[:-1]], ends
    # MeCab left white space out, so each word has to be looked for.
    starts: list[int] = []
    ends = []
    position = 0
    for morpheme in morphemes:
        start = text.index(morpheme.surface, position)
        position = start + len(morpheme.surface)
        starts.append(start)
        ends.append(position)
    return starts, ends


class Words:
    """The morphemes of a normalised text with their character offsets.

    Indices up to six beyond either end give an empty morpheme; `padded` is what they index.

    Args:
        text: Any text; lines stay lines, each normalised.
        tagger: The tagger to use.
    """

    def __init__(self, text: str, tagger: Tagger) -> None:
        lines = text.splitlines()
        if len(lines) > 1:
            self.text = "\n".join(filter(None, map(normalize, lines)))
        else:
            self.text = normalize(text)
        morphemes = tagger.tokenize(self.text)
        self.starts, self.ends = _offsets(self.text, morphemes)
        self.morphemes = morphemes
        # Trailing edges double as leading ones: index -1 wraps round to them.
        self.padded = morphemes + _EDGES
        self.count = len(morphemes)
        self._has_lines = "\n" in self.text

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Morpheme:
        return self.padded[index]

    def evidence(
        self, kind: EvidenceKind, first: int, last: int, rule: str, *, certain: bool = True
    ) -> Evidence:
        """Makes evidence of the words ``first`` to ``last``, both included."""
        start, end = self.starts[first], self.ends[last]
        return Evidence(kind, start, end, self.text[start:end], rule, certain)

    def starts_line(self, index: int) -> bool:
        """True when a line break stands right before word ``index``."""
        if not self._has_lines or index == 0:
            return False
        return "\n" in self.text[self.ends[index - 1] : self.starts[index]]

    @cached_property
    def closing_quotes(self) -> dict[int, int]:
        """Maps each opening bracket's index to its partner's, within one line."""
        pairs: dict[int, int] = {}
        stack: list[int] = []
        if not any(closer in self.text for closer in _CLOSERS):
            return pairs
        for i, word in enumerate(self.morphemes):
            if stack and self.starts_line(i):
                stack.clear()
            surface = word.surface
            if surface in _QUOTES:
                stack.append(i)
            elif surface in _CLOSERS and stack and _QUOTES[self[stack[-1]].surface] == surface:
                pairs[stack.pop()] = i
        return pairs

    @cached_property
    def opening_quotes(self) -> dict[int, int]:
        """Maps each closing bracket's index to its partner's."""
        return {close: start for start, close in self.closing_quotes.items()}

    def sentences(self) -> Iterator[tuple[int, int]]:
        """Yields (first, one past last) word indices of each sentence.

        A sentence ends at a full stop, exclamation, question mark, note, star or heart, or at
        a line break. Quotations stay inside the sentence that quotes them.
        """
        if not self._has_lines and not _INNER_END.search(self.text):
            if self.count:
                yield 0, self.count
            return
        pairs = self.closing_quotes
        first = i = 0
        while i < self.count:
            if self._has_lines and i > first and self.starts_line(i):
                yield first, i
                first = i
            if i in pairs:
                i = pairs[i] + 1
                continue
            i += 1
            if self.morphemes[i - 1].surface[0] in _ENDS_SENTENCE and self._ends_sentence(i - 1):
                while i < self.count and not self.starts_line(i) and self._is_tail(i):
                    i += 1
                yield first, i
                first = i
        if first < self.count:
            yield first, self.count

    def _ends_sentence(self, index: int) -> bool:
        # 3.5 and example.com are no ends of sentences.
        return self[index].surface != "." or not self[index - 1].surface.isascii()

    def _is_tail(self, index: int) -> bool:
        surface = self[index].surface
        return surface[0] in _ENDS_SENTENCE or surface in _CLOSERS
