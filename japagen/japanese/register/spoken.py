"""Signs of speech, of writing and of dialect."""

from __future__ import annotations

import re
from collections.abc import Iterator

from japagen.japanese.register.keigo import lemmas
from japagen.japanese.register.rules import Evidence, Words

_FINALS = lemmas("よ ね な ぞ ぜ さ わ け じゃん 物 もん かしら の ねん ばい べい")
_CONTRACTIONS = frozenset({"ちゃう", "てる", "とく", "ちまう", "たげる"})
_FILLERS = frozenset({"ええと", "えー", "えっと", "うーん", "んー", "あー"})
_DRAWN_OUT = frozenset({"形容詞", "助詞", "助動詞", "感動詞"})
_WRITTEN = lemmas("及び 並びに 又は 若しくは 即ち 従って 故に 尚 但し 且つ 然るに")
_DIALECT_PARTICLES = lemmas("ねん ばい べい さかい けん けえ とん っちゃ")
_DIALECT_AUXILIARIES = frozenset({"とる", "へん", "ちょる", "よる", "ずら", "はる", "ちゃる"})
_DIALECT_WORDS = frozenset({"本真", "大きに", "生ら", "しゃあない", "せや"})
_CASUAL_WORDS = lemmas("まじ めっちゃ めちゃ ちっちゃい でっかい やばい うざい") | {
    "やっぱ",
    "すげえ",
    "すげー",
}

# A face is a bracket without letters before its eyes: (^_^) and (T_T), not (T_Shirt) or (C++).
_PLAIN = r"()\sA-Za-z0-9ぁ-んァ-ヶ一-龠、。"
_FACE = r"(?:[\^´`∀ωдД≧≦]|T_T|;_;|-_-|>_<)"

# Orthography, not grammar, hence expressions and not morphemes.
_ORTHOGRAPHY: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("長音", re.compile(r"ー{2,}|〜{2,}|[ぁ-ん][ぁぅぇぉ]|(?<=[ぁ-ん])[〜~](?=[。!?\s]|$)")),
    ("促音止め", re.compile(r"(?<=[ぁ-ん])っ(?=[。!?\s]|$)")),
    ("顔文字", re.compile(rf"\([^{_PLAIN}]{{0,4}}{_FACE}[^()\n。]{{0,8}}\)|[mM_]\(_ _\)")),
    ("絵文字", re.compile("[\U0001f300-\U0001faff\u2600-\u2604\u2607-\u2668\u2670-\u27bf]+")),
    ("笑い", re.compile(r"\((?:笑|爆笑|爆|泣|汗)\)|(?<=[ぁ-んァ-ヶ一-龠ー!?。])w+(?![A-Za-z])")),
    ("笑い", re.compile(r"(?<=[ぁ-んー!?。])笑+(?=[。!?\s]|$)")),
    ("感嘆符", re.compile(r"[!?]{2,}")),
)
_QUIET_WORDS = lemmas("を に が は も へ から まで で と です ます まし ませ た 、 。")

# What makes a text casual that would be plain, or that has no predicate to tell by.
CASUAL_SIGNS = frozenset({"長音", "促音止め", "顔文字", "絵文字", "笑い", "くだけた語"})


def find_speech(words: Words) -> list[Evidence]:
    """Returns the signs of speech, writing and dialect in the order of the text."""
    found: list[Evidence] = []
    for i, word in enumerate(words.morphemes):
        # Most words say nothing here, and calling a rule costs more than asking first.
        if word.surface not in _QUIET_WORDS:
            found.extend(_at(words, i))
    for rule, pattern in _ORTHOGRAPHY:
        for match in pattern.finditer(words.text):
            found.append(Evidence("spoken", match.start(), match.end(), match[0], rule))
    return sorted(found, key=_place)


def _place(evidence: Evidence) -> tuple[int, int]:
    return evidence.start, evidence.end


def _at(words: Words, i: int) -> Iterator[Evidence]:
    word = words[i]
    # すごーい and よー are drawn out; ルーキー and らーめん are spelt that way.
    if "ー" in word.surface and word.pos1 in _DRAWN_OUT:
        yield words.evidence("spoken", i, i, "長音")
    if word.pos1 == "助詞":
        yield from _particle(words, i)
    elif word.pos1 == "助動詞":
        yield from _auxiliary(words, i)
    elif word.surface == "あ" and words[i + 1].surface.startswith("かん"):
        yield words.evidence("dialect", i, i + 1, "あかん")
    elif word.surface in _FILLERS or (word.pos2 == "フィラー" and len(word.surface) > 1):
        yield words.evidence("spoken", i, i, "フィラー")
    elif word.pos1 == "接続詞" and word.surface in ("じゃ", "じゃあ", "だって", "でも"):
        yield words.evidence("spoken", i, i, "話し言葉の接続詞", certain=word.surface != "でも")
    elif word.lemma == "有る" and words[i - 1].lemma == "だ" and words[i - 1].surface == "で":
        yield words.evidence(
            "written", i - 1, i, "である", certain=words[i + 1].ctype != "助動詞-マス"
        )
    elif word.lemma in _WRITTEN and word.pos1 in ("接続詞", "副詞"):
        yield words.evidence("written", i, i, "書き言葉の接続詞")
    elif not _DIALECT_WORDS.isdisjoint((word.lemma, word.surface)) or (
        word.surface in ("ええ", "おもろい") and word.pos1 == "形容詞"
    ):
        yield words.evidence("dialect", i, i, word.surface)
    elif (
        not _CASUAL_WORDS.isdisjoint((word.lemma, word.surface))
        or word.surface == "ぽ"
        or (word.surface == "草" and words[i + 1].surface[:1] == "w")
        or (word.lemma == "御免" and words[i + 1].surface in ("ね", "、", "。", "!", ""))
    ):
        yield words.evidence("spoken", i, i, "くだけた語")
    elif word.surface == "あか" and words[i + 1].surface in ("ん", "へん"):
        yield words.evidence("dialect", i, i + 1, "あかん")
    elif word.surface == "やろ" and words[i - 1].pos1 in ("副詞", "名詞", "代名詞", "形容詞"):
        yield words.evidence("dialect", i, i, "やろ")


def _particle(words: Words, i: int) -> Iterator[Evidence]:
    word = words[i]
    if word.lemma in _DIALECT_PARTICLES or word.surface in _DIALECT_PARTICLES:
        yield words.evidence("dialect", i, i, f"助詞 {word.surface}")
    elif word.surface == "ちょ" and words[i + 1].surface == "る":
        yield words.evidence("dialect", i, i + 1, "ちょる")
    elif word.pos2 == "終助詞" and word.surface == "や" and words[i + 1].surface == "ん":
        yield words.evidence("dialect", i, i + 1, "やん")
    elif word.pos2 == "終助詞" and word.lemma in _FINALS:
        yield words.evidence("spoken", i, i, f"終助詞 {word.surface}")
    elif word.surface == "って":
        yield words.evidence("spoken", i, i, "って")
    elif word.surface == "けど":
        yield words.evidence("spoken", i, i, "けど", certain=False)
    elif word.pos2 == "準体助詞" and word.surface == "ん":
        # んです is the polite spoken form, んだ the casual one.
        yield words.evidence("spoken", i, i, "のだ→んだ", certain=words[i + 1].lemma == "だ")


def _auxiliary(words: Words, i: int) -> Iterator[Evidence]:
    word, before = words[i], words[i - 1]
    if word.ctype in ("助動詞-ヤ", "助動詞-ヘン") or word.lemma in _DIALECT_AUXILIARIES:
        # 雨やった is だった in the west, 宿題やった the past of やる anywhere.
        yield words.evidence(
            "dialect", i, i, f"助動詞 {word.surface}", certain=word.surface != "やっ"
        )
    elif word.ctype == "助動詞-タイ" and (
        before.pos1 in ("名詞", "副詞", "代名詞") or before.cform.startswith("終止形")
    ):
        yield words.evidence("dialect", i, i, "たい(九州)")
    elif word.lemma == "です" and word.orth_base in ("っす", "す"):
        yield words.evidence("spoken", i, i, "っす")
    elif word.lemma in _CONTRACTIONS:
        yield words.evidence("spoken", i, i, f"縮約 {word.orth_base}")
    elif word.cform.endswith("融合"):
        yield words.evidence("spoken", i, i, f"縮約 {word.surface}")
    elif word.ctype == "助動詞-ヌ" and word.surface == "ん" and before.ctype != "助動詞-マス":
        yield words.evidence("dialect", i, i, "打消し ん", certain=False)
