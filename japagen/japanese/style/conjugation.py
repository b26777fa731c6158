"""Forms of verbs as their writer spells them, and the edits that write them into a text.

Forms come from UniDic's base form and conjugation type. Edits are found on a normalised text and
carried out on the text as it was written.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from japagen.japanese.morphology import Morpheme
from japagen.japanese.normalization import normalize
from japagen.japanese.register.rules import Words

# Last kana of a 五段 base: what stands before ない, before ます, before た and in 〜おう.
_ROWS = {
    "く": ("か", "き", "い", "こ"),
    "ぐ": ("が", "ぎ", "い", "ご"),
    "す": ("さ", "し", "し", "そ"),
    "つ": ("た", "ち", "っ", "と"),
    "ぬ": ("な", "に", "ん", "の"),
    "ぶ": ("ば", "び", "ん", "ぼ"),
    "む": ("ま", "み", "ん", "も"),
    "る": ("ら", "り", "っ", "ろ"),
    "う": ("わ", "い", "っ", "お"),
}
_VOICED = frozenset("ぐぬぶむ")
# 問うた and not 問った.
_U_ONBIN = frozenset({"問う", "請う", "乞う", "恋う", "とう", "こう"})
# ください, いらっしゃい: the ラ行 verbs whose 連用形 ends in い.
_I_STEMS = frozenset({"下さる", "いらっしゃる", "仰る", "為さる", "御座る"})
# The one-kanji サ変 verbs decide one by one between 愛さない and 達しない.
_GODAN_LIKE_SURU = frozenset("愛属適訳略託服")
_TRUE_SURU = frozenset("達反接察発決罰熱脱逸")
# What the contracted auxiliaries stand for, by their base as written.
_CONTRACTED = {
    "てる": ("ている", "上一段-ア行"),
    "でる": ("でいる", "上一段-ア行"),
    "ちゃう": ("てしまう", "五段-ワア行"),
    "じゃう": ("でしまう", "五段-ワア行"),
    "とく": ("ておく", "五段-カ行"),
    "どく": ("でおく", "五段-カ行"),
}
_VOICING_MARKS = frozenset("ﾞﾟ\u3099\u309a")
_CONJUGATES = ("五段-", "上一段-", "下一段-", "カ行変格", "サ行変格", "助動詞-レル")


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb or an auxiliary that conjugates like one.

    Attributes:
        base: Dictionary form as written (行く, いく, する).
        ctype: UniDic's conjugation type.
        lemma: UniDic's lemma.
    """

    base: str
    ctype: str
    lemma: str

    @property
    def stem(self) -> str:
        """連用形, the form before ます."""
        return self._forms[1]

    @property
    def past(self) -> str:
        """The form with た, 音便 included."""
        return self._forms[2] + ("だ" if self._voiced else "た")

    @property
    def te(self) -> str:
        """The form with て."""
        return self._forms[2] + ("で" if self._voiced else "て")

    @property
    def irrealis(self) -> str | None:
        """未然形, the form before ない; None where usage wavers (害しない, 害さない)."""
        return self._forms[0]

    @property
    def negative(self) -> str | None:
        """The form with ない; ある has ない itself."""
        if self.lemma == "有る":
            return {"ある": "ない", "有る": "無い"}.get(self.base)
        return None if self.irrealis is None else self.irrealis + "ない"

    @property
    def volitional(self) -> str | None:
        """意志形 (行こう, 食べよう); None where usage wavers."""
        return self._forms[3]

    def uncontracted(self) -> Verb:
        """Returns てる as ている, ちゃう as てしまう and とく as ておく; others unchanged."""
        if self.lemma in ("てる", "ちゃう", "とく") and self.base in _CONTRACTED:
            base, ctype = _CONTRACTED[self.base]
            return Verb(base, ctype, self.lemma)
        return self

    @property
    def _voiced(self) -> bool:
        return self.ctype.startswith("五段-") and self.base[-1] in _VOICED

    @property
    def _forms(self) -> tuple[str | None, str, str, str | None]:
        """未然形, 連用形, the form before た and て, and 意志形."""
        base, before = self.base, self.base[:-1]
        if self.ctype == "カ行変格" and "来" not in base:
            head = base[:-2]
            return head + "こ", head + "き", head + "き", head + "こよう"
        if self.ctype == "サ行変格":
            head = base[:-2]
            forms: tuple[str | None, str | None] = (head + "し", head + "しよう")
            if head and head[-1] not in _TRUE_SURU:
                like_godan = head[-1] in _GODAN_LIKE_SURU
                forms = (head + "さ", head + "そう") if like_godan else (None, None)
            return forms[0], head + "し", head + "し", forms[1]
        if not self.ctype.startswith("五段-"):
            return before, before, before, before + "よう"
        irrealis, stem, onbin, o_row = (before + kana for kana in _ROWS[base[-1]])
        if self.lemma in _I_STEMS:
            stem = before + "い"
        if self.lemma == "行く":
            onbin = before + "っ"
        return irrealis, stem, base if base in _U_ONBIN else onbin, o_row + "う"


def verb_of(word: Morpheme) -> Verb | None:
    """Returns the verb that ``word`` is a form of, or None when it is none we conjugate.

    Verbs in 〜ずる come back as the modern 〜じる: UniDic files both under 〜ずる.

    >>> from japagen.japanese.morphology import tokenize
    >>> verb_of(tokenize("問いました")[0]).past
    '問うた'
    """
    base, ctype = word.orth_base, word.ctype
    if not ctype.startswith(_CONJUGATES):
        return None
    if ctype == "サ行変格" and base.endswith("ずる"):
        return Verb(base[:-2] + "じる", "上一段-ザ行", word.lemma)
    if ctype == "サ行変格" and not base.endswith("する"):
        return None
    if ctype == "カ行変格" and not base.endswith(("来る", "くる")):
        return None
    if not base.endswith("る" if not ctype.startswith("五段-") else tuple(_ROWS)):
        return None
    return Verb(base, ctype, word.lemma)


class RefusedError(Exception):
    """A conversion is not sure; the message says why and where."""

    def __init__(self, why: str, surface: str = "") -> None:
        super().__init__(f"{why}: {surface}" if surface else why)


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces the characters ``start`` to ``end`` (excluded) of the normalised text."""

    start: int
    end: int
    text: str


def replacing(words: Words, first: int, last: int, text: str) -> Edit:
    """Makes the smallest edit that turns the words ``first`` to ``last`` into ``text``."""
    start, end = words.starts[first], words.ends[last]
    old = words.text[start:end]
    same = 0
    while same < min(len(old), len(text)) and old[same] == text[same]:
        same += 1
    return Edit(start + same, end, text[same:])


def apply(edits: Iterable[Edit], raw: str, words: Words) -> str:
    """Carries the edits out on ``raw``, whose words were read after normalisation.

    Raises:
        RefusedError: If an edited place cannot be found in the raw text.
    """
    begins: list[int] | range
    ends: list[int] | range
    if raw == words.text:
        begins, ends = range(len(raw)), range(1, len(raw) + 1)
    else:
        begins, ends = _spans(raw, words.text)
    out: list[str] = []
    at = 0
    for edit in sorted(edits, key=lambda e: e.start):
        # An insertion goes right after the character before it.
        start = begins[edit.start] if edit.end > edit.start else ends[edit.start - 1]
        end = ends[edit.end - 1]
        if start < at or -1 in (start, end):
            raise RefusedError(
                "an unusual spelling has to change", words.text[edit.start : edit.end]
            )
        out += (raw[at:start], edit.text)
        at = end
    return "".join(out) + raw[at:]


def _spans(raw: str, text: str) -> tuple[list[int], list[int]]:
    """Returns where each normalised character begins and ends in the raw text.

    -1 stands where one raw character became several and the place falls between them.
    """
    begins: list[int] = []
    ends: list[int] = []
    made: list[str] = []
    offset = 0
    for line in raw.splitlines(keepends=True):
        body = line.splitlines()[0]
        piece = _line_spans(body, offset, begins, ends, bool(made))
        if piece:
            made.append(piece)
        offset += len(line)
    if "\n".join(made) != text:
        raise RefusedError("the text changes too much when normalised")
    return begins, ends


def _line_spans(line: str, offset: int, begins: list[int], ends: list[int], later: bool) -> str:
    """Appends the spans of one line and returns its normalised text."""
    made: list[str] = []
    i = 0
    space: int | None = None
    while i < len(line):
        j = i + 1
        while j < len(line) and (line[j] in _VOICING_MARKS or unicodedata.combining(line[j])):
            j += 1
        if line[i].isspace():
            space = i if made else None
        elif piece := normalize(line[i:j]):
            if not made and later:
                begins.append(-1)  # the line break between two lines
                ends.append(-1)
            if space is not None:
                begins.append(offset + space)
                ends.append(offset + space + 1)
                made.append(" ")
                space = None
            middle = [-1] * (len(piece) - 1)
            begins += [offset + i, *middle]
            ends += [*middle, offset + j]
            made.append(piece)
        i = j
    return "".join(made)
