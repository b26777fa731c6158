"""Countable traits of a text, and mentions of a term in any inflection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from japagen.japanese.morphology import Morpheme, Tagger
from japagen.japanese.normalization import normalize

_MARKS = ("補助記号", "記号", "空白")
_TERMINATORS = "。．！？!?…♪"
_FUNCTIONAL = ("助動詞", "助詞")
_CONTENT = ("名詞", "動詞", "形容詞", "形状詞", "副詞")
_BAND_SHARES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class Traits:
    """What can be said of one text.

    Attributes:
        words: Content words (base form) and compound nouns, in the order of the text, each once.
        nouns: The nouns and compound nouns among them that stand alone, as written.
        endings: How each sentence ends, as written, such as ました or ですか.
        length: Characters after normalisation.
    """

    words: tuple[str, ...]
    nouns: tuple[str, ...]
    endings: tuple[str, ...]
    length: int


def traits_of(text: str, tagger: Tagger) -> Traits:
    """Reads a text."""
    clean = normalize(text)
    morphemes = tagger.tokenize(clean)
    nouns = tuple(dict.fromkeys(_noun_phrases(morphemes)))
    words = dict.fromkeys(m.orth_base for m in morphemes if _is_content(m))
    words |= dict.fromkeys(nouns)
    return Traits(tuple(words), nouns, tuple(_endings(morphemes)), len(clean))


def _is_content(m: Morpheme) -> bool:
    if m.pos1 not in _CONTENT or m.pos2 in ("非自立可能", "数詞", "助動詞語幹"):
        return False
    if m.pos3 == "助数詞可能":
        return False
    # A single kana tells a reader nothing, whatever it is tagged as.
    return len(m.orth_base) > 1 or not "ぁ" <= m.orth_base <= "ヿ"


def _noun_phrases(morphemes: Iterable[Morpheme]) -> list[str]:
    """Runs of nouns with the prefixes and suffixes that belong to them."""
    found: list[str] = []
    run: list[Morpheme] = []
    for m in (*morphemes, None):
        if m is not None and (_opens(m) or (run and _continues(m))):
            run.append(m)
            continue
        # お and ご belong to the manner of a text, not to its matter.
        while run and run[0].surface in ("お", "ご", "御"):
            run.pop(0)
        while run and run[-1].pos1 == "接頭辞":
            run.pop()
        if any(x.pos1 == "名詞" for x in run):
            found.append("".join(x.surface for x in run))
        run = []
    return found


def _opens(m: Morpheme) -> bool:
    return m.pos1 == "接頭辞" or (m.pos1 == "名詞" and _is_content(m) and m.pos3 != "副詞可能")


def _continues(m: Morpheme) -> bool:
    return (m.pos1 == "接尾辞" and m.pos2 == "名詞的") or m.pos3 == "助数詞可能"


def _endings(morphemes: Sequence[Morpheme]) -> list[str]:
    """The last two particles or auxiliaries of each sentence, as written; none for the rest."""
    found: list[str] = []
    tail: list[str] = []
    for m in (*morphemes, None):
        if m is None or (m.pos1 in _MARKS and m.surface[:1] in _TERMINATORS):
            if tail:
                found.append("".join(tail[-2:]))
            tail = []
        elif m.pos1 in _FUNCTIONAL:
            tail.append(m.surface)
        elif m.pos1 not in _MARKS:
            tail = []
    return found


class LengthBands:
    """Four bands of length, with as many of the given texts in each.

    Args:
        lengths: Characters of each text; at least one.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        ordered = sorted(lengths)
        places = (round(share * (len(ordered) - 1)) for share in _BAND_SHARES)
        self._edges = sorted({ordered[place] for place in places})

    def name(self, length: int) -> str:
        """The band that a length falls in, such as 26〜40字."""
        below = [edge for edge in self._edges if edge < length]
        if not below:
            return f"{self._edges[0]}字以内"
        if len(below) == len(self._edges):
            return f"{self._edges[-1] + 1}字以上"
        return f"{below[-1] + 1}〜{self._edges[len(below)]}字"


class Cues:
    """Says of a gold text, in a few characters, what a request can ask of a new one.

    Args:
        texts: The gold texts; what is said of another text is said beside these.
        tagger: The morphological analyser.
    """

    def __init__(self, texts: Sequence[str], tagger: Tagger) -> None:
        self._tagger = tagger
        self._traits = {text: traits_of(text, tagger) for text in texts}
        found = self._traits.values()
        self._frequency = Counter(noun for t in found for noun in t.nouns)
        self._bands = LengthBands([t.length for t in found] or [0])

    def _of(self, text: str) -> Traits:
        if text not in self._traits:
            self._traits[text] = traits_of(text, self._tagger)
        return self._traits[text]

    def topic(self, text: str) -> str:
        """The noun that tells a text best from the others; empty where it has none."""
        nouns = [n for n in self._of(text).nouns if len(n) > 1]
        return min(nouns, key=lambda n: (self._frequency[n], -len(n)), default="")

    def ending(self, text: str) -> str:
        """How its last sentence ends; empty where that is neither particle nor auxiliary."""
        return (self._of(text).endings or ("",))[-1]

    def length_band(self, text: str) -> str:
        """Its band of length."""
        return self._bands.name(self._of(text).length)


class Terms:
    """Terms to look for in texts.

    A term is there where consecutive morphemes have its lemmas, so that 引き落とす is found in
    引き落とされた and 母 is not found in 母音; or where they spell it, because the same characters
    can be cut otherwise beside other words.

    Args:
        terms: What to look for, as people write it.
        tagger: The morphological analyser.
    """

    def __init__(self, terms: Iterable[str], tagger: Tagger) -> None:
        self._tagger = tagger
        self._terms: list[tuple[str, str, tuple[str, ...]]] = []
        for term in dict.fromkeys(terms):
            clean = normalize(term)
            lemmas = tuple(m.lemma for m in tagger.tokenize(clean))
            if lemmas:
                self._terms.append((term, clean.replace(" ", ""), lemmas))

    def found(self, text: str) -> frozenset[str]:
        """Returns the terms that a text mentions."""
        morphemes = self._tagger.tokenize(normalize(text))
        lemmas = tuple(m.lemma for m in morphemes)
        spelled = "".join(m.surface for m in morphemes)
        starts = [0, *accumulate(len(m.surface) for m in morphemes)]
        return frozenset(
            term
            for term, clean, wanted in self._terms
            if any(lemmas[i : i + len(wanted)] == wanted for i in range(len(lemmas)))
            or _spells(spelled, clean, starts)
        )


def _spells(text: str, term: str, starts: list[int]) -> bool:
    borders = set(starts)
    at = text.find(term)
    while at >= 0:
        if at in borders and at + len(term) in borders:
            return True
        at = text.find(term, at + 1)
    return False
