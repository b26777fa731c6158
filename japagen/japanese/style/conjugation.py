"""Forms of verbs as their writer spells them, from UniDic's base form and conjugation type."""

from __future__ import annotations

from dataclasses import dataclass

from japagen.japanese.morphology import Morpheme

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
        if self.ctype == "カ行変格":
            return self.base[:-1] if "来" in self.base else self.base[:-2] + "き"
        if self.ctype == "サ行変格":
            return self.base[:-2] + "し"
        if self.ctype.startswith("五段-"):
            if self.lemma in _I_STEMS:
                return self.base[:-1] + "い"
            return self.base[:-1] + _ROWS[self.base[-1]][1]
        return self.base[:-1]

    @property
    def past(self) -> str:
        """The form with た, 音便 included."""
        return self._onbin + ("だ" if self._voiced else "た")

    @property
    def te(self) -> str:
        """The form with て."""
        return self._onbin + ("で" if self._voiced else "て")

    @property
    def irrealis(self) -> str | None:
        """未然形, the form before ない; None where usage wavers (害しない, 害さない)."""
        if self.ctype == "カ行変格":
            return self.base[:-1] if "来" in self.base else self.base[:-2] + "こ"
        if self.ctype == "サ行変格":
            return self._suru("さ", "し")
        if self.ctype.startswith("五段-"):
            return self.base[:-1] + _ROWS[self.base[-1]][0]
        return self.base[:-1]

    @property
    def negative(self) -> str | None:
        """The form with ない; ある has ない itself."""
        if self.lemma == "有る":
            return {"ある": "ない", "有る": "無い"}.get(self.base)
        return None if self.irrealis is None else self.irrealis + "ない"

    @property
    def volitional(self) -> str | None:
        """意志形 (行こう, 食べよう); None where usage wavers."""
        if self.ctype == "カ行変格":
            return f"{self.irrealis}よう"
        if self.ctype == "サ行変格":
            return self._suru("そう", "しよう")
        if self.ctype.startswith("五段-"):
            return self.base[:-1] + _ROWS[self.base[-1]][3] + "う"
        return self.base[:-1] + "よう"

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
    def _onbin(self) -> str:
        if not self.ctype.startswith("五段-"):
            return self.stem
        if self.lemma == "行く":
            return self.base[:-1] + "っ"
        if self.base in _U_ONBIN:
            return self.base
        return self.base[:-1] + _ROWS[self.base[-1]][2]

    def _suru(self, godan: str, suru: str) -> str | None:
        kanji = self.base[:-2]
        if not kanji or kanji[-1] in _TRUE_SURU:
            return kanji + suru
        return kanji + godan if kanji[-1] in _GODAN_LIKE_SURU else None


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
