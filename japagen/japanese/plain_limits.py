"""What keeps a polite text from becoming plain: honorifics, requests and set phrases.

尊敬語 and 謙譲語 choose another word, so a plain ending alone leaves お待ちした or いただけるか:
neither polite nor plain. Two uses are at home in plain prose and stay: the verbs of 尊敬語 in a
statement about others (先生がいらっしゃった。) and いただく before the end of a sentence
(教えていただいて助かった。).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from japagen.japanese.edits import RefusedError
from japagen.japanese.keigo_words import BEAUTIFIED_ACTIONS, SONKEIGO_VERBS
from japagen.japanese.morphology import Morpheme
from japagen.japanese.register_rules import Evidence, Words
from japagen.japanese.registers import HONOURING

# Said to the hearer whether or not ます follows.
_HEARER_VERBS = frozenset({"致す", "存ずる", "御座る"})
_SET_NOUNS = frozenset({"恐縮", "僭越"})
_SET_WITH_TITLE = frozenset({"馳走", "疲れ", "苦労", "世話"})
_SET_ACTIONS = frozenset({"失礼", "邪魔", "免", "願い", "願う"})


def refuse_hearers_forms(
    words: Words, quoted: frozenset[int], evidence: tuple[Evidence, ...]
) -> None:
    """Refuses a text that speaks to its hearer in more than です and ます.

    Raises:
        RefusedError: At the first such place outside quotations.
    """
    asks = any(w.surface in ("か", "?", "？") for w in words.morphemes)
    for item in evidence:
        if item.kind not in HONOURING or not item.certain:
            continue
        first = bisect_right(words.starts, item.start) - 1
        last = bisect_left(words.ends, item.end)
        if first not in quoted and not _at_home_in_plain(words, first, last, asks):
            name = "尊敬語" if item.kind == "sonkeigo" else "謙譲語"
            raise RefusedError(f"{name} has no plain ending", item.surface)
    for i in range(len(words)):
        if i not in quoted:
            _refuse_word(words, i)


def _at_home_in_plain(words: Words, first: int, last: int, asks: bool) -> bool:
    """True when the honorific words ``first`` to ``last`` may stay in a plain text."""
    word, after = words[last], words[last + 1]
    if word.pos1 == "接尾辞":
        return True  # 田中様, お客様: how a person is called, not how the sentence ends
    if word.cform in ("仮定形-一般", "意志推量形") or words[first].lemma == "御":
        return False
    # おっしゃらずに, なさるなら, なさるとは: said to the one who is honoured.
    if after.ctype == "助動詞-ヌ" or after.surface in ("なら", "と"):
        return False
    if word.lemma in SONKEIGO_VERBS:
        return not asks
    if word.lemma != "頂く" or words[last - 2].lemma in ("せる", "させる"):
        return False
    if after.surface == "て":
        return words[last + 2].pos2 != "非自立可能"
    # 頂いた部屋 and 頂き、 go on; 頂きました and 頂きたい end.
    return after.pos2 == "読点" or (after.ctype == "助動詞-タ" and after.cform == "連体形-一般")


def _refuse_word(words: Words, i: int) -> None:
    word, before, after = words[i], words[i - 1], words[i + 1]
    if word.lemma == "下さる" and word.cform == "命令形":
        raise RefusedError("a request loses its force", word.surface)
    if word.lemma == "御座る":
        raise RefusedError("ございます has no plain ending", word.surface)
    if word.lemma in _HEARER_VERBS:
        raise RefusedError("謙譲語 has no plain ending", word.surface)
    if word.lemma == "宜しい" and word.pos1 == "形容詞":
        raise RefusedError("よろしい is polite itself", word.surface)
    if words[i - 2].lemma == "御" and word.lemma == "為る" and not _beautified(before):
        raise RefusedError("謙譲語 has no plain ending", f"お{before.surface}する")
    if word.lemma == "上がる" and before.surface == "に" and words[i - 3].lemma == "御":
        raise RefusedError("謙譲語 has no plain ending", f"お{words[i - 2].surface}にあがる")
    ends = after.ctype in ("助動詞-デス", "助動詞-マス")
    if word.surface == "どうぞ" or (word.lemma == "如何" and ends):
        raise RefusedError("a word said to the hearer", word.surface)
    if ends and before.lemma == "御" and words[i + 2].surface == "か":
        raise RefusedError("尊敬語 has no plain ending", f"{before.surface}{word.surface}ですか")
    if word.surface == "すみ" and after.surface == "ませ":
        raise RefusedError("a set phrase", "すみません")
    if (ends and word.lemma in _SET_NOUNS) or (
        word.pos1 == "接尾辞" and before.lemma in _SET_WITH_TITLE
    ):
        raise RefusedError("a set phrase", before.surface + word.surface)
    if word.lemma == "為る" and before.lemma in _SET_ACTIONS and ends:
        raise RefusedError("a set phrase", before.surface + word.surface)


def _beautified(word: Morpheme) -> bool:
    return word.lemma in BEAUTIFIED_ACTIONS or word.pos1 not in ("名詞", "動詞")
