"""Conversion by rules between 丁寧体, 常体 and くだけた話し言葉; refused where it is not sure.

Casual ends add nothing to what is said. A statement takes よ, or stays bare where it sounds
spoken already or the sentence before it took よ. んだけど waits for an answer, so it stands only
where one is asked for: before a request, and after 困る.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from japagen.errors import JapagenError, nearest
from japagen.japanese.morphology import Tagger, default_tagger
from japagen.japanese.register.detector import find_register_signs, style_of_signs
from japagen.japanese.register.rules import (
    Evidence,
    Words,
    final_predicate,
    is_casual,
    is_polite_auxiliary,
)
from japagen.japanese.registers import HONOURING, Style
from japagen.japanese.style.conjugation import Edit, RefusedError, apply, replacing, verb_of
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


_TE = frozenset({"て", "で"})
_OPEN_FORMS = ("終止形", "連体形")
_WISHES = frozenset({"たい", "ほしい", "欲しい"})
_CONTRASTS = frozenset({"が", "けど", "けれど"})


def phrase_edits(words: Words, quoted: frozenset[int]) -> Iterator[Edit]:
    """Yields the edits of requests and set phrases, which no plain form keeps.

    〜てください becomes 〜てくれないかな, お願いします お願いね, ありがとうございます ありがとう.
    お待ちください stays, since its お would be left behind.
    """
    for i, word in enumerate(words.morphemes):
        if i in quoted:
            continue
        before, polite, past = words[i - 1], words[i + 1], words[i + 2]
        ends = polite.surface == "ます" or (polite.surface == "まし" and past.surface == "た")
        last = i + 1 if polite.surface == "ます" else i + 2
        if word.lemma == "下さる" and word.cform == "命令形" and before.surface in _TE:
            if polite.surface in ("と", "って", "ませ") and not words.starts_line(i + 1):
                raise RefusedError("a request inside the sentence", word.surface + polite.surface)
            # 帰ってくださいね: what is left asks by itself.
            made = "" if polite.pos2 == "終助詞" else "くれないかな"
            yield replacing(words, i, i, made)
        elif word.lemma == "御座る" and before.lemma in ("有り難う", "お早う") and ends:
            yield replacing(words, i, last, "")
        elif before.lemma in ("願う", "願い") and words[i - 2].lemma == "御":
            # よろしくね, and 交換をお願いね.
            first = i - 2 if words[i - 3].surface in ("よろしく", "宜しく") else i
            if word.lemma == "為る" and polite.surface == "ます" and past.pos1 in ("", "補助記号"):
                yield replacing(words, first, last, "ね")


def casual_edits(words: Words, quoted: frozenset[int]) -> list[Edit]:
    """Makes the edits that let a plain text read as said to a friend.

    Args:
        words: A text in 常体.
        quoted: Words inside quotations, which stay.

    Raises:
        RefusedError: Where the end of a sentence takes none of these endings.
    """
    edits = list(_contractions(words, quoted))
    sentences = list(words.sentences())
    chains = [final_predicate(words, first, last)[0] for first, last in sentences]
    assured = False
    for n, (first, last) in enumerate(sentences):
        then = chains[n + 1] if n + 1 < len(chains) else []
        is_asked = _asks(words, then)
        changes = [e for e in edits if words.starts[first] <= e.start < words.ends[last - 1]]
        ending = _ending(words, first, last, is_asked, assured, changes)
        assured = any(e.text.endswith("よ") for e in ending)
        edits += ending
    return edits


def _contractions(words: Words, quoted: frozenset[int]) -> Iterator[Edit]:
    """〜ている → 〜てる, 〜てしまう → 〜ちゃう, ではない → じゃない, が → けど, ので → から."""
    for i, word in enumerate(words.morphemes):
        before, after = words[i - 1], words[i + 1]
        if i in quoted or i == 0:
            continue
        joins = before.pos2 == "接続助詞" and before.surface in _TE
        is_iru = joins and word.lemma == "居る"
        if is_iru and word.surface.startswith("い") and len(word.surface) < 3:
            yield replacing(words, i, i, word.surface[1:])
        elif is_iru and word.surface == "おり" and after.pos2 == "読点":
            yield replacing(words, i, i, "て")
        elif is_iru and word.surface == "おら" and after.surface == "ず":
            yield replacing(words, i, i + 1, "なくて")
        elif joins and word.lemma == "仕舞う" and len(word.surface) == 3:
            start = "ちゃ" if before.surface == "て" else "じゃ"
            if word.surface in ("しまう", "しまっ", "しまわ"):
                yield replacing(words, i - 1, i, start + word.surface[-1])
            elif after.pos2 == "読点":  # 落ちてしまい、
                yield replacing(words, i - 1, i, start + "って")
        elif word.surface == "は" and before.surface == "で" and after.lemma == "無い":
            yield replacing(words, i - 1, i, "じゃ")
        elif word.surface in ("が", "けれど") and word.pos2 == "接続助詞":
            mo = word.surface == "けれど" and after.surface == "も"
            yield replacing(words, i, i + mo, "けど")
        elif word.pos2 == "準体助詞" and word.surface == "の":
            yield from _no(words, i)
        elif word.surface == "よい" and word.lemma == "良い":
            yield replacing(words, i, i, "いい")
        elif after.pos2 == "読点" and word.cform == "連用形-一般" and word.pos1 == "動詞":
            verb = verb_of(word)
            if verb is not None and before.lemma != "御" and not joins:
                yield replacing(words, i, i, verb.te)


def _no(words: Words, i: int) -> Iterator[Edit]:
    """のだ is んだ in speech, and ので から."""
    before, after, then = words[i - 1], words[i + 1], words[i + 2]
    if after.ctype == "助動詞-ダ" and after.surface.startswith("だ") and then.surface != "か":
        yield replacing(words, i, i, "ん")
    elif after.surface == "で" and then.surface == "は" and words[i + 3].lemma == "無い":
        yield replacing(words, i, i, "ん")  # のではない: んじゃない
    elif after.surface == "で" and then.pos1 != "助詞" and then.lemma not in ("有る", "無い"):
        if before.surface == "な" and before.ctype == "助動詞-ダ":
            yield replacing(words, i - 1, i + 1, "だから")
        elif before.cform.startswith(_OPEN_FORMS):
            yield replacing(words, i, i + 1, "から")


def _ending(
    words: Words, first: int, last: int, is_asked: bool, assured: bool, changes: list[Edit]
) -> list[Edit]:
    """The edit at the end of one sentence; none where it has no predicate or sounds spoken.

    ``is_asked`` says whether the next one is a request, ``assured`` whether the one before took よ.
    """
    chain, tail = final_predicate(words, first, last)
    if tail:
        return _question(words, tail, last)
    if not chain:
        return []
    end, word = chain[-1], words[chain[-1]]
    noun = word.surface == "だ" and word.ctype == "助動詞-ダ"
    past = word.ctype == "助動詞-タ"
    copula = words[end - past].lemma == "有る" and words[end - past - 1].ctype == "助動詞-ダ"
    explains = noun and words[end - 1].pos2 == "準体助詞"
    contrasts = any(
        words[i].surface in _CONTRASTS for i in range(first, end) if words[i].pos2 == "接続助詞"
    )
    head = end - past - 1 if copula else end  # である, であった
    if word.surface == "だろう" or (copula and word.cform == "意志推量形"):
        return [replacing(words, head, end, "だろうね")]
    if word.cform == "意志推量形" and word.pos1 == "動詞":
        return [replacing(words, end, end, word.surface + "よ")]
    if not word.cform.startswith(_OPEN_FORMS):
        return []  # a command, or a sentence that trails off: casual as it is
    if word.ctype.startswith("文語") or word.lemma == "まい":
        raise RefusedError("no casual ending after", word.surface)
    if copula and past:
        return [replacing(words, head, end, "だったよ")]
    if (is_asked and not contrasts) or (words[chain[0]].lemma == "困る" and not past):
        lead = "" if explains else "なん" if noun or copula else word.surface + "ん"
        return [replacing(words, head, end, lead + "だけど")]
    if explains:
        return []
    if noun or copula:
        return [replacing(words, head, end, "だよ")]
    if word.orth_base in _WISHES:
        return [replacing(words, end, end, word.surface + "な")]
    at = words.starts[chain[0]]
    spoken = is_casual(words, chain, []) or any(
        e.start >= at and e.text not in ("いい", "じゃ") for e in changes
    )
    return [] if assured or spoken else [replacing(words, end, end, word.surface + "よ")]


def _asks(words: Words, chain: list[int]) -> bool:
    """True for a final predicate that asks something of the hearer: くれないかな, もらえる？."""
    if any(words[i].ctype == "助動詞-タ" for i in chain):
        return False
    return any(
        words[i].lemma in ("呉れる", "欲しい") or words[i].orth_base in ("もらえる", "貰える")
        for i in chain
    )


def _question(words: Words, tail: list[int], last: int) -> list[Edit]:
    """か at the end gives way to a rising tone; other particles end speech already."""
    if len(tail) > 1 or words[tail[0]].surface != "か":
        return []
    ka, core = tail[0], words[tail[0] - 1]
    if core.surface == "だろう":
        return [replacing(words, ka - 1, ka, "かな")]
    if core.cform == "意志推量形":
        return []
    stop = ka + 1 < last and words[ka + 1].surface in ("。", "?", "？")
    return [replacing(words, ka, ka + 1 if stop else ka, "？")]
