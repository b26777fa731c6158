"""Rule-based conversion between 丁寧体 and 常体 that refuses when it is not sure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal, get_args

from japagen.errors import JapagenError, nearest
from japagen.japanese.morphology import Tagger, default_tagger
from japagen.japanese.register.detector import find_register_signs, style_of_signs
from japagen.japanese.register.rules import Evidence, Words, is_polite_auxiliary
from japagen.japanese.registers import HONOURING, Style
from japagen.japanese.style.conjugation import Edit, RefusedError, apply
from japagen.japanese.style.to_casual import casual_edits, phrase_edits
from japagen.japanese.style.to_plain import plain_edits, refuse_hearers_forms
from japagen.japanese.style.to_polite import polite_edits

Target = Literal["polite", "plain", "casual"]
_QUOTING = frozenset("「『〈《【[")
_ROUND = frozenset("（(")
_CONTENT = frozenset({"名詞", "代名詞", "動詞", "形容詞", "形状詞", "副詞"}) | frozenset(
    {"連体詞", "接続詞", "感動詞", "接頭辞"}
)
# Words that come and go with an ending: ありません is ない, 行ってる is 行っている.
_LIGHT = frozenset({"有る", "無い", "為る", "居る", "置く", "仕舞う", "らん"})
_PLAIN: frozenset[Style] = frozenset({"da", "dearu"})


@dataclass(frozen=True, slots=True)
class Conversion:
    """The outcome of `convert_style`.

    Attributes:
        text: The converted text; empty when refused.
        refused: Why it was refused, and at which words; empty when converted. A text is refused
            as a whole: none is half converted.
        unchanged: Why the text came back as it was; empty when it was converted or refused.
    """

    text: str
    refused: str = ""
    unchanged: str = ""


class _Reading:
    """A text with its style."""

    def __init__(self, text: str, tagger: Tagger) -> None:
        self.words = Words(text, tagger)
        self.evidence, self.sentences = find_register_signs(self.words)
        self.style, _ = style_of_signs(self.words.text, self.evidence, self.sentences)
        self.quoted, self.asides = _bracketed(self.words)

    @property
    def has_polite_forms(self) -> bool:
        """True when です or ます stands outside quotations."""
        return any(
            is_polite_auxiliary(w.ctype, w.orth_base)
            for i, w in enumerate(self.words.morphemes)
            if w.pos1 == "助動詞" and i not in self.quoted
        )

    def is_in(self, to: str) -> bool:
        """True when nothing is left to convert."""
        if to == "polite":
            return self.style == "teinei"
        if to == "casual":
            return self.style == "kudaketa" and not self.has_polite_forms
        return self.style in _PLAIN and not self.has_polite_forms


def convert_style(text: str, to: Target, tagger: Tagger | None = None) -> Conversion:
    """Rewrites the predicates of ``text`` in 丁寧体, 常体 or casual speech.

    Only endings change; everything else stays byte for byte. Quotations, embedded clauses and
    sentences without a predicate stay. Nothing honorific is added. The result is read again: it
    must be in the style asked for and hold the same content words, else the text is refused.

    - To "plain": every です and ます outside quotations. である stays である. Refused are
      requests (てください), 謙譲語, ございます, set phrases and final particles such as よ and
      ね, which read as casual in plain style. んです becomes のだ, じゃありません ではない and
      行ってます 行っている, since their short forms are casual.
    - To "polite": the end of each sentence and clauses with が or けど. ない becomes ありません,
      だ and である become です. よ, ね and んです stay; 行ってる becomes 行っています. Refused
      are commands, dialect and endings such as ぞ or の.

    - To "casual": plain first, then contractions and sentence ends that add nothing to what is
      said, such as よ; てください becomes てくれないかな. There is no way back. Refused are, beside
      honorifics, texts that would still read as written.

    >>> convert_style("昨日は寒かったですが、出かけました。", "plain").text
    '昨日は寒かったが、出かけた。'
    >>> convert_style("静かではなかった。", "polite").text
    '静かではありませんでした。'
    >>> convert_style("本を読んだのですが、難しかったです。", "casual").text
    '本を読んだんだけど、難しかったよ。'
    >>> convert_style("名前を書いてください。", "plain").refused
    'a request loses its force: ください'

    Args:
        text: Any text.
        to: "polite", "plain" or "casual".
        tagger: The tagger to use; the default one when None.

    Raises:
        JapagenError: If there is no such style to convert to, or the text is no string.
    """
    if to not in get_args(Target):
        raise JapagenError(
            f"Expected a style to convert to, found '{to}'{nearest(str(to), get_args(Target))}.",
            f"Use one of: {', '.join(get_args(Target))}. Rules cannot write honorifics.",
        )
    tagger = tagger or default_tagger()
    before = _Reading(text, tagger)
    if before.is_in(to):
        return Conversion(text, unchanged=f"the text is {to} already")
    try:
        result = _to_casual(text, before, tagger) if to == "casual" else _to(to, text, before)
    except RefusedError as error:
        return Conversion("", str(error))
    if result == text:
        return Conversion(text, unchanged="no sentence ends in a predicate")
    return Conversion(result)


def _to(to: str, text: str, before: _Reading) -> str:
    result = apply(_edits(before, to), text, before.words)
    after = before if result == text else _Reading(result, before.words.tagger)
    _require(after, to, before)
    _require_same_content(before.words, after.words)
    return result


def _to_casual(text: str, before: _Reading, tagger: Tagger) -> str:
    """Requests and set phrases first, which no plain form keeps; then plain forms; then speech."""
    raw, reading = text, before
    if phrases := list(phrase_edits(before.words, before.quoted)):
        text = apply(phrases, text, before.words)
        before = reading = _Reading(text, tagger)
    if edits := _edits(reading, "casual"):
        text = apply(edits, text, reading.words)
        reading = _Reading(text, tagger)
    text = apply(casual_edits(reading.words, reading.quoted), text, reading.words)
    if text == raw and reading.style == "unknown":
        return text
    reading = _Reading(text, tagger)
    for item in reading.evidence:
        if item.kind == "written" and item.certain:
            raise RefusedError("a written form is left", item.surface)
    if reading.style != "kudaketa" or reading.has_polite_forms:
        raise RefusedError(f"the result reads as {reading.style}", reading.words.text)
    _require_same_content(before.words, reading.words)
    return text


def _edits(reading: _Reading, to: str) -> list[Edit]:
    for item in reading.evidence:
        if item.kind == "dialect" and item.certain:
            raise RefusedError("dialect", item.surface)
    if reading.style == "bungo":
        raise RefusedError("文語 has endings of its own", reading.words.text)
    if to != "polite":
        spoken = to == "casual"
        refuse_hearers_forms(reading.words, reading.quoted, reading.evidence)
        return list(plain_edits(reading.words, reading.quoted, reading.asides, spoken=spoken))
    edits: list[Edit] = []
    for (first, last), sentence in zip(reading.words.sentences(), reading.sentences, strict=True):
        if sentence.style != "teinei":
            edits += polite_edits(reading.words, first, last, sentence.style)
    return edits


def _bracketed(words: Words) -> tuple[frozenset[int], frozenset[int]]:
    """Returns the words inside quotations and those inside round brackets."""
    quoted: set[int] = set()
    asides: set[int] = set()
    for start, end in words.closing_quotes.items():
        if words[start].surface in _ROUND:
            asides.update(range(start, end))
        elif words[start].surface in _QUOTING:
            quoted.update(range(start, end))
    return frozenset(quoted), frozenset(asides)


def _require(after: _Reading, to: str, before: _Reading) -> None:
    """Refuses a result that does not read as asked for."""
    if to == "polite":
        wrong = [s for s in after.sentences if s.style not in ("teinei", "unknown")]
        if not wrong and _honours(after.evidence) - _honours(before.evidence):
            raise RefusedError("the polite form would read as 謙譲語 or 尊敬語")
    else:
        wrong = [s for s in after.sentences if s.style not in (*_PLAIN, "unknown")]
        if not wrong and after.style not in (*_PLAIN, "unknown"):
            raise RefusedError(f"the result reads as {after.style}")
        if not wrong and after.has_polite_forms:
            raise RefusedError("a polite form is left")
    if wrong:
        sentence = after.words.text[wrong[0].start : wrong[0].end]
        raise RefusedError(f"the result reads as {wrong[0].style}", sentence)


def _honours(evidence: tuple[Evidence, ...]) -> Counter[str]:
    return Counter(e.kind for e in evidence if e.certain and e.kind in HONOURING)


def _require_same_content(before: Words, after: Words) -> None:
    """Refuses a result in which MeCab reads another word than the writer's.

    A word that stayed as it was cannot have become another one, however MeCab reads it now.
    """
    old, new = _content(before), _content(after)
    for (lemma, surface), (new_lemma, new_surface) in zip(old, new, strict=False):
        if lemma != new_lemma and surface != new_surface:
            raise RefusedError("the result reads as another word", new_surface)
    if len(old) != len(new):
        raise RefusedError("the result reads as other words")


def _content(words: Words) -> list[tuple[str, str]]:
    """Returns lemma and surface of each content word."""
    return [
        (_lemma(words, i), w.surface)
        for i, w in enumerate(words.morphemes)
        if w.pos1 in _CONTENT and w.lemma not in _LIGHT and w.pos2 != "助動詞語幹"
    ]


def _lemma(words: Words, i: int) -> str:
    word = words[i]
    if word.surface == "行っ":
        # MeCab guesses between 行く and 行う; a direct object decides.
        return "行う" if words[i - 1].surface == "を" else "行く"
    if word.surface.startswith("降") and word.lemma in ("下りる", "降る"):
        return "降る"  # told apart before the conversion, and read anyhow after it
    # 仕方ありません becomes the one word 仕方ない.
    return word.lemma.removesuffix("無い") if word.pos1 == "形容詞" else word.lemma
