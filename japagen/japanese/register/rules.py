"""Register rules: predicates, and what their endings say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal, NamedTuple

from japagen.errors import JapagenError
from japagen.japanese.morphology import Morpheme, Tagger
from japagen.japanese.normalization import normalize
from japagen.japanese.registers import Style

_SYMBOLS = frozenset({"補助記号", "記号", "空白"})
_LAUGHTER = frozenset({"w", "ww", "www", "笑", "草", "藁", "爆", "泣", "汗"})
_TAIL_PARTICLES = frozenset({"終助詞", "接続助詞", "副助詞"})
_CONTRACTIONS = frozenset({"ちゃう", "てる", "とく", "ちまう", "たげる", "とる", "ちゃる"})
# か alone asks or wonders in any style.
_NEUTRAL_FINALS = frozenset({"か"})
_ASKS = frozenset("?？")
_CASUAL_TAILS = frozenset(
    {"って", "けど", "けれど", "し", "もん", "たって", "けん", "けえ", "さかい"}
)
_TE = frozenset({"て", "で"})
# について and として end a heading: they are particles of more than one word.
_TE_PARTICLES = frozenset({"つい", "関し", "対し", "おい", "とっ", "よっ", "際し", "し"})
# What only 文語 ends a sentence with; べき and なし (異常なし) are modern.
_BUNGO_FINALS = frozenset(
    {"なり", "たり", "けり", "べし", "む", "らむ", "けむ", "なかれ", "たまふ"}
)
_OLD_KANA = re.compile(
    "やうやう|やうな[るり]|やうに|(?:たま|給|思|云|言|笑|問|使|食|逢|会)ふ|[てにを]ゐ[るた]|ゐる|"
    "[にて]けり|なりけり|をかし|(?:たま|さぶら)ひ|けむ[。、]|らむ[。、]|ことなかれ|あはれ"
)
_QUOTED = re.compile("「[^」]*」|『[^』]*』")


def is_polite_auxiliary(ctype: str, orth_base: str) -> bool:
    """True for ます and です, but not for っす, which UniDic files under です."""
    return ctype == "助動詞-マス" or (ctype == "助動詞-デス" and orth_base not in ("っす", "す"))


def is_dialect_copula(words: Words, i: int) -> bool:
    """True for や (but not やった, also the past of やる), へん, 九州's たい, ちょる and あかん."""
    word, before = words[i], words[i - 1]
    if word.ctype == "助動詞-タイ":
        return before.pos1 in ("名詞", "副詞", "代名詞") or before.cform.startswith("終止形")
    if word.surface == "る" and before.surface == "ちょ":
        return True
    if word.surface in ("ん", "へん") and before.surface == "あか":
        return True
    return word.ctype == "助動詞-ヘン" or (word.ctype == "助動詞-ヤ" and word.surface != "やっ")


def read_sentence(words: Words, first: int, last: int) -> SentenceStyle:
    """Returns the style of the words ``first`` to ``last`` (excluded), and their predicate.

    The style is "unknown" where the sentence ends in no predicate (a noun, an interjection).
    """
    end = end_of_predicate(words, first, last)
    chain, tail = _predicate(words, first, end)
    style = _style(words, first, end, chain, tail)
    asks = any(words[i].surface[0] in _ASKS for i in range(end, last))
    if style == "da" and not tail and asks:
        style = "kudaketa"  # 行く？ asks by its tone; writing asks with か
    elif style == "unknown" and asks and _asks_by_tone(words, first, end):
        style = "kudaketa"
    predicate = words.starts[chain[0]] if chain else None
    return SentenceStyle(words.starts[first], words.ends[last - 1], style, predicate)


def _style(words: Words, first: int, end: int, chain: list[int], tail: list[int]) -> Style:
    # 遅れるかも, 早く言えばいいのに: the rest is left unsaid.
    if end - first > 1 and words[end - 2].surface + words[end - 1].surface in ("かも", "のに"):
        return "kudaketa"
    if not chain or _is_greeting(words, chain) or _is_heading(words, first, end):
        return _style_of_fragment(words, first, end, tail)
    final = words[chain[-1]]
    old = final.ctype.startswith("文語") and final.surface in _BUNGO_FINALS
    if old or words[chain[-1] - 1].surface == "べから":
        return "bungo"
    polite = False
    for i in chain:
        word = words.padded[i]
        if word.pos1 == "助動詞" or word.lemma == "下さる":
            if word.lemma == "です" and word.orth_base in ("っす", "す"):
                return "kudaketa"
            polite = polite or _is_polite(words, i)
    if polite:
        return "teinei"
    if any(_is_casual_final(words, i) for i in tail) or is_casual(words, chain, tail):
        return "kudaketa"
    if any(_is_dearu(words, i) for i in chain):
        return "dearu"
    return "da"


def _asks_by_tone(words: Words, first: int, end: int) -> bool:
    """True for 明日ひま？ and これ何の色？, said to a friend; ご用件は？ honours its hearer."""
    if end == first or any(words[i].lemma == "御" for i in range(first, end)):
        return False
    return words[end - 1].pos1 in ("名詞", "代名詞", "形状詞", "接尾辞")


def _is_heading(words: Words, first: int, end: int) -> bool:
    """True for 税率の扱いについて, which ends in a particle and not in a request."""
    return (
        end - first > 2
        and words[end - 1].surface in _TE
        and words[end - 2].surface in _TE_PARTICLES
        and words[end - 3].surface in ("に", "と")
    )


def has_old_kana(text: str) -> bool:
    """True for forms that only 文語 spells so (思ふ, やうやう), outside quotations."""
    return _OLD_KANA.search(_QUOTED.sub("", text)) is not None


def _style_of_fragment(words: Words, first: int, end: int, tail: list[int]) -> Style:
    if any(_is_casual_final(words, i) for i in tail):
        return "kudaketa"
    # 伺いますので、よろしく。: the clause before the comma was polite.
    for i in range(end - 1, first, -1):
        if words[i].pos2 == "読点":
            chain, _ = _predicate(words, first, end_of_predicate(words, first, i))
            return "teinei" if any(_is_polite(words, j) for j in chain) else "unknown"
    return "unknown"


def end_of_predicate(words: Words, first: int, last: int) -> int:
    """Returns where the sentence ends without symbols, laughter and bracketed asides.

    Args:
        words: The words of the text.
        first: First word of the sentence.
        last: One past its last word.
    """
    opens = words.opening_quotes
    end = last
    while end > first:
        word = words[end - 1]
        if end - 1 in opens and opens[end - 1] > first:
            end = opens[end - 1]
        elif word.pos1 in _SYMBOLS or word.surface in _LAUGHTER or word.pos1 == "感動詞":
            end -= 1
        else:
            break
    return end


def final_predicate(words: Words, first: int, last: int) -> tuple[list[int], list[int]]:
    """Returns the word indices of a sentence's final predicate and of the particles after it."""
    return _predicate(words, first, end_of_predicate(words, first, last))


def _predicate(words: Words, first: int, end: int) -> tuple[list[int], list[int]]:
    """Returns the word indices of the final predicate and of the particles after it."""
    tail: list[int] = []
    i = end - 1
    while i >= first and words[i].pos1 == "助詞" and words[i].pos2 in _TAIL_PARTICLES:
        tail.append(i)
        i -= 1
    # 行かないと。: the rest of the sentence is left unsaid.
    if not tail and i > first and words[i].surface == "と" and words[i - 1].pos1 == "助動詞":
        tail.append(i)
        i -= 1
    chain: list[int] = []
    while i >= first and _continues(words, i, bool(chain)):
        chain.append(i)
        if _is_head(words, i, first):
            break
        i -= 1
    chain.reverse()
    return chain, tail


def _continues(words: Words, i: int, started: bool) -> bool:
    """True when word ``i`` belongs to the predicate that stands right of it."""
    word = words[i]
    if word.pos1 in ("助動詞", "動詞", "形容詞"):
        return True
    if word.pos1 == "接尾辞":
        return word.pos2 in ("形容詞的", "動詞的", "形状詞的") or started
    if word.pos2 == "準体助詞":
        return True
    if not started:
        return False
    if word.pos1 == "助詞":
        after = words[i + 1]
        if word.surface in ("は", "も"):
            return after.lemma in ("有る", "無い") and words[i - 1].surface == "で"
        return word.pos2 == "接続助詞" and word.surface in _TE and after.pos2 == "非自立可能"
    return words[i + 1].pos1 in ("助動詞", "接尾辞") or words[i + 1].lemma == "為る"


def _is_head(words: Words, i: int, first: int) -> bool:
    """True when the predicate begins at word ``i``."""
    word, before = words[i], words[i - 1]
    if word.pos1 in ("動詞", "形容詞"):
        if word.pos2 != "非自立可能" or i == first:
            return True
        attached = before.pos2 in ("接続助詞", "サ変可能") or before.pos1 in ("動詞", "助動詞")
        return not (attached or before.surface in ("で", "は", "も"))
    return word.pos1 not in ("助動詞", "助詞", "接尾辞")


def _is_polite(words: Words, i: int) -> bool:
    word = words[i]
    if is_polite_auxiliary(word.ctype, word.orth_base):
        return True
    # 〜てください is the polite request; the verb itself carries the politeness.
    return word.lemma == "下さる" and word.cform == "命令形"


def _is_dearu(words: Words, i: int) -> bool:
    if words[i].lemma != "有る":
        return False
    j = i - 2 if words[i - 1].surface in ("は", "も") else i - 1
    return words[j].surface == "で"


def _is_greeting(words: Words, chain: list[int]) -> bool:
    """True for お待たせ and お帰り: a stem with a prefix is a noun."""
    final = words[chain[-1]]
    return words[chain[0] - 1].lemma == "御" and final.cform.startswith("連用形")


def _is_casual_final(words: Words, i: int) -> bool:
    word = words[i]
    return word.pos2 == "終助詞" and word.lemma not in _NEUTRAL_FINALS


def is_casual(words: Words, chain: list[int], tail: list[int]) -> bool:
    """True for contractions, bare commands and sentences that trail off."""
    for i in chain:
        word = words[i]
        if word.lemma in _CONTRACTIONS and word.pos1 == "助動詞":
            return True
        # じゃ, なきゃ, りゃ: UniDic marks fused forms; のだ said as んだ.
        if word.cform.endswith("融合") or (word.surface == "ん" and word.pos2 == "準体助詞"):
            return True
        if word.lemma == "無い" and words[i - 1].pos2 == "接続助詞":
            return True  # 読んでない, short for 読んでいない
        if is_dialect_copula(words, i):
            return True
    final = words[chain[-1]]
    if not tail:
        # 行こ, それな
        clipped = final.cform == "意志推量形" and not final.surface.endswith("う")
        agrees = final.ctype == "助動詞-ダ" and final.surface == "な"
        ends = final.cform == "命令形" or final.surface in ("たら", "だら")
        return clipped or agrees or ends
    closing = words[tail[0]]
    return closing.surface in _CASUAL_TAILS | _TE | {"ば", "ちゃ", "じゃ"}


EvidenceKind = Literal[
    "sonkeigo",
    "kenjogo1",
    "kenjogo2",
    "teineigo",
    "bikago",
    "gozaru",
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
_CLOSING = frozenset(_QUOTES.values())


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


def normalize_lines(text: str) -> str:
    """Normalises each line of a text; lines stay lines, and empty ones go."""
    lines = text.splitlines()
    return "\n".join(filter(None, map(normalize, lines))) if len(lines) > 1 else normalize(text)


class Words:
    """The morphemes of a normalised text with their character offsets.

    Indices up to six beyond either end give an empty morpheme; `padded` is what they index.

    Args:
        text: Any text; lines stay lines, each normalised.
        tagger: The tagger to use.
    """

    def __init__(self, text: str, tagger: Tagger) -> None:
        if not isinstance(text, str):
            raise JapagenError(
                f"Expected a text, found {type(text).__name__}.",
                "Pass one string; for many texts call analyze_registers, or loop over them.",
            )
        self.tagger = tagger
        self.text = normalize_lines(text)
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
        if not any(closer in self.text for closer in _CLOSING):
            return pairs
        for i, word in enumerate(self.morphemes):
            if stack and self.starts_line(i):
                stack.clear()
            surface = word.surface
            if surface in _QUOTES:
                stack.append(i)
            elif surface in _CLOSING and stack and _QUOTES[self[stack[-1]].surface] == surface:
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
        return surface[0] in _ENDS_SENTENCE or surface in _CLOSING
