"""Honorific forms, found from MeCab features.

The classes and most patterns follow 敬語の指針 (Council for Cultural Affairs, 2007). A string
shows which forms are there, not who honours whom: this claims register, not correctness.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from japagen.japanese.keigo_words import (
    BEAUTIFIED_ACTIONS,
    BEAUTIFIED_NOUNS,
    DERIVED_NOUN_EXCEPTIONS,
    HONOURED_MODIFIERS,
    HONOURED_NOUNS,
    HONOURED_STATES,
    HUMBLE_NOUNS,
    KENJOGO1_NOUNS,
    KENJOGO1_VERBS,
    PREFIX_FOLLOWERS,
    RESPECTFUL_NOUNS,
    SET_PHRASES,
    SONKEIGO_VERBS,
    TITLE_EXCEPTIONS,
)
from japagen.japanese.own_honorifics import OwnHonorifics
from japagen.japanese.predicates import is_polite_auxiliary
from japagen.japanese.register_rules import Evidence, Words

_TE = frozenset({"て", "で"})
# The last kana of a verb's 連用形, which turns it into a noun: 帰り, 考え, 休み.
_NOMINALISED = re.compile(r"[いきぎしちにびみりえけげせてねべめれ]$")
_HEAD_MAX = 4


def find_keigo(words: Words, own: OwnHonorifics | None = None) -> list[Evidence]:
    """Returns the honorific forms in the order of the text.

    Args:
        words: The words of the text.
        own: A user's own honorifics, found beside the built-in ones.
    """
    found: list[Evidence] = list(own.find(words)) if own else []
    for i, word in enumerate(words.morphemes):
        rule = _RULES.get(word.lemma)
        if rule is not None:
            found.extend(rule(words, i))
        elif word.pos1 == "助動詞":
            if word.ctype == "助動詞-レル":
                found.extend(_passive(words, i))
            elif is_polite_auxiliary(word.ctype, word.orth_base):
                found.append(words.evidence("teineigo", i, i, word.orth_base))
    return _outermost(found)


def _outermost(found: list[Evidence]) -> list[Evidence]:
    """Drops what lies inside a longer match of the same kind (申し上げ in お願い申し上げ)."""
    if len(found) < 2:
        return found
    kept: list[Evidence] = []
    reach: dict[str, int] = {}
    for item in sorted(found, key=lambda e: (e.start, -e.end, not e.certain)):
        if item.end > reach.get(item.kind, -1):
            kept.append(item)
            reach[item.kind] = item.end
    return kept


def _polite_follows(words: Words, i: int) -> bool:
    """True when ます follows word ``i``, directly or after one auxiliary (いたしたい…)."""
    return any(words[j].ctype == "助動詞-マス" for j in (i + 1, i + 2))


def _te_form_start(words: Words, i: int) -> int | None:
    """Returns the verb's index when word ``i`` follows a て-form, else None."""
    return i - 2 if i >= 2 and words[i - 1].surface in _TE and words[i - 1].pos1 == "助詞" else None


def _sonkeigo_verb(words: Words, i: int) -> Iterator[Evidence]:
    word = words[i]
    if word.lemma == "為さる" and word.cform == "命令形":
        return  # しなさい, お休みなさい: a command or a greeting, no honour left in it.
    if word.lemma == "下さる" and word.cform == "命令形":
        # 〜てください is the ordinary request; お〜ください is found at its prefix.
        yield words.evidence("sonkeigo", i, i, "ください", certain=False)
        return
    start = _te_form_start(words, i)
    if start is not None:
        yield words.evidence("sonkeigo", start, i, f"〜て{word.orth_base}")
    else:
        yield words.evidence("sonkeigo", i, i, word.orth_base)


def _kenjogo1_verb(words: Words, i: int) -> Iterator[Evidence]:
    start = _te_form_start(words, i)
    if start is None:
        yield words.evidence("kenjogo1", i, i, words[i].orth_base)
    elif words[start].lemma in ("せる", "させる"):
        yield words.evidence("kenjogo1", max(start - 1, 0), i, "〜させていただく")
    else:
        yield words.evidence("kenjogo1", start, i, f"〜て{words[i].orth_base}")


def _kenjogo2_verb(words: Words, i: int) -> Iterator[Evidence]:
    # Without ます these verbs are also everyday words: 参った, 〜と申す者, 致す.
    yield words.evidence("kenjogo2", i, i, words[i].orth_base, certain=_polite_follows(words, i))


def _oru(words: Words, i: int) -> Iterator[Evidence]:
    if words[i].orth_base not in ("おる", "居る") or not words[i].ctype.startswith("五段"):
        return
    if words[i + 1].ctype == "助動詞-レル":
        yield words.evidence("sonkeigo", i, i + 1, "〜ておられる")
    else:
        # しており、 joins clauses in plain written style too.
        yield words.evidence("kenjogo2", i, i, "おる", certain=_polite_follows(words, i))


def _zonzuru(words: Words, i: int) -> Iterator[Evidence]:
    if words[i + 1].lemma == "上げる":
        yield words.evidence("kenjogo1", i, i + 1, "存じ上げる")
    elif words[i - 1].lemma != "御":
        yield from _kenjogo2_verb(words, i)


def _gozaru(words: Words, i: int) -> Iterator[Evidence]:
    yield words.evidence("teineigo", i, i, "ござる")


def _goran(words: Words, i: int) -> Iterator[Evidence]:
    last = i + 2 if words[i + 1].surface == "に" and words[i + 2].lemma == "成る" else i
    yield words.evidence("sonkeigo", i, last, "ご覧になる" if last > i else "ご覧")


def _passive(words: Words, i: int) -> Iterator[Evidence]:
    verb = words[i - 1]
    if verb.lemma == "居る":
        return  # おられる is found at the verb.
    if verb.lemma in SONKEIGO_VERBS:
        yield words.evidence("double_keigo", i - 1, i, f"{verb.orth_base}+れる")
    elif verb.lemma == "成る" and words[i - 2].surface == "に" and _honoured_before(words, i - 2):
        yield words.evidence("double_keigo", i - 1, i, "お〜になる+れる")
    elif verb.pos1 == "動詞":
        # Passive, potential and honour share this form.
        yield words.evidence("sonkeigo", i - 1, i, "れる・られる", certain=False)


def _honoured_before(words: Words, i: int) -> bool:
    """True when お〜 or ご覧 stands shortly before word ``i``."""
    for j in range(i - 1, max(i - 1 - _HEAD_MAX, -1), -1):
        if words[j].lemma in ("御", "御覧"):
            return True
        if words[j].pos1 not in ("名詞", "動詞", "助動詞"):
            return False
    return False


def _person_suffix(words: Words, i: int) -> Iterator[Evidence]:
    before = words[i - 1]
    if words[i].pos1 != "接尾辞" or before.lemma in TITLE_EXCEPTIONS:
        return
    if before.pos1 in ("名詞", "代名詞", "接尾辞"):
        first = i - 2 if words[i - 2].lemma == "御" else i - 1
        yield words.evidence("sonkeigo", max(first, 0), i, f"〜{words[i].surface}")


def _noun(kind: str) -> Callable[[Words, int], Iterator[Evidence]]:
    def rule(words: Words, i: int) -> Iterator[Evidence]:
        if words[i].pos1 not in ("名詞", "代名詞"):
            return
        if kind == "sonkeigo":
            yield words.evidence("sonkeigo", i, i, words[i].lemma)
        elif kind == "kenjogo1":
            yield words.evidence("kenjogo1", i, i, words[i].lemma)
        else:
            yield words.evidence("kenjogo2", i, i, words[i].lemma)

    return rule


def _meal(words: Words, i: int) -> Iterator[Evidence]:
    yield words.evidence("bikago", i, i, words[i].orth_base)


def _prefix(words: Words, i: int) -> Iterator[Evidence]:
    """お/ご before a verb stem or a noun, by what comes after them."""
    if words[i].pos1 != "接頭辞":
        return
    after = _end_of_head(words, i + 1)
    if after == i + 1:
        return
    head = words[i + 1]
    follower, second = words[after], words[after + 1]
    if any(words[j].lemma in SET_PHRASES for j in range(i + 1, after)):
        if follower.lemma in ("下さる", "頂く", "致す"):
            yield from _with_auxiliary(words, i, after)
        return
    if head.lemma == "目" and follower.surface == "に" and second.lemma in ("掛かる", "掛ける"):
        yield words.evidence("kenjogo1", i, after + 1, f"お目に{second.orth_base}")
    elif follower.surface == "に" and second.lemma in ("預かる", "与る"):
        yield words.evidence("kenjogo1", i, after + 1, "お〜にあずかる")
    elif follower.surface == "に" and second.lemma == "成る":
        yield from _o_ni_naru(words, i, after)
    elif follower.lemma in PREFIX_FOLLOWERS:
        yield from _with_auxiliary(words, i, after)
    elif follower.ctype in ("助動詞-デス", "助動詞-ダ") and _is_stem(words, i + 1, after):
        # お勧めです recommends something; お待ちです honours who waits.
        waits = head.pos1 == "動詞" and head.lemma not in ("勧める", "薦める")
        sure = waits and follower.ctype == "助動詞-デス"
        yield words.evidence("sonkeigo", i, after, "お〜です", certain=sure)
    elif head.pos1 == "動詞" and follower.surface == "の":
        sure = head.lemma in HONOURED_STATES
        yield words.evidence("sonkeigo", i, after, "お〜の", certain=sure)
    else:
        yield from _with_noun(words, i, after)


def _end_of_head(words: Words, first: int) -> int:
    """Returns one past the stem or noun that starts at ``first``."""
    i = first
    while i < first + _HEAD_MAX:
        word = words[i]
        if i > first and word.lemma in PREFIX_FOLLOWERS:
            break
        stem = word.pos1 == "動詞" and word.cform.startswith("連用形")
        causative = words[i + 1].lemma in ("せる", "させる") or (
            word.lemma in ("せる", "させる") and i > first
        )
        modifier = i == first and word.pos1 in ("形容詞", "形状詞", "副詞")
        if not (stem or causative or modifier or word.pos1 == "名詞"):
            break
        i += 1
        if modifier:
            break
    return i


def _is_stem(words: Words, first: int, after: int) -> bool:
    """True when the words are a verb's 連用形 or an action noun, not a thing (お金)."""
    last = words[after - 1]
    if last.pos1 in ("動詞", "助動詞") or last.pos3 == "サ変可能":
        return True
    if words[first].lemma in BEAUTIFIED_NOUNS or last.lemma in DERIVED_NOUN_EXCEPTIONS:
        return False
    return last.pos1 == "名詞" and bool(_NOMINALISED.search(last.surface))


def _o_ni_naru(words: Words, i: int, after: int) -> Iterator[Evidence]:
    if not _is_stem(words, i + 1, after):
        yield from _with_noun(words, i, after)  # お金になる: something becomes money.
        return
    yield words.evidence("sonkeigo", i, after + 1, "お〜になる")
    if words[i + 1].lemma == "召し上がる":
        # Established by custom, says 敬語の指針.
        yield words.evidence("double_keigo", i, after + 1, "お召し上がりになる", certain=False)


def _with_auxiliary(words: Words, i: int, after: int) -> Iterator[Evidence]:
    follower = words[after]
    head = words[i + 1]
    action = _is_stem(words, i + 1, after)
    lemma = follower.lemma
    name = f"お〜{follower.orth_base}"
    if lemma in ("下さる", "為さる"):
        if action and not (lemma == "為さる" and follower.cform == "命令形"):
            yield words.evidence("sonkeigo", i, after, name)
    elif lemma == "為る" and words[after + 1].ctype == "助動詞-レル":
        yield words.evidence("sonkeigo", i, after + 1, "ご〜される", certain=action)
    elif lemma == "為る" and head.lemma in BEAUTIFIED_ACTIONS:
        yield words.evidence("bikago", i, after - 1, "お+行為")
    elif lemma in ("為る", "出来る"):
        sure = action and (lemma == "為る" or head.pos1 == "動詞")
        yield words.evidence("kenjogo1", i, after, name, certain=sure)
    elif action:
        yield words.evidence("kenjogo1", i, after, name)
        if head.lemma == "伺う" and lemma in ("致す", "為る"):
            yield words.evidence(
                "double_keigo", i, after, f"お伺い{follower.orth_base}", certain=False
            )


def _with_noun(words: Words, i: int, after: int) -> Iterator[Evidence]:
    head, last = words[i + 1], after - 1
    if head.lemma in BEAUTIFIED_NOUNS:
        yield words.evidence("bikago", i, last, "お+名詞")
    elif words[after].lemma in ("様", "殿") and words[after].pos1 == "接尾辞":
        return  # お客様 is found at its suffix.
    elif head.lemma in HONOURED_NOUNS or head.lemma in HONOURED_MODIFIERS:
        yield words.evidence("sonkeigo", i, last, "お+相手の物事")
    elif head.pos1 in ("名詞", "動詞", "形容詞", "形状詞"):
        # ご連絡 may be yours (尊敬語) or mine to you (謙譲語 I).
        yield words.evidence("sonkeigo", i, last, "お+名詞", certain=False)


_RULES: dict[str, Callable[[Words, int], Iterator[Evidence]]] = {
    **dict.fromkeys(SONKEIGO_VERBS, _sonkeigo_verb),
    **dict.fromkeys(KENJOGO1_VERBS, _kenjogo1_verb),
    **dict.fromkeys(("参る", "申す", "致す"), _kenjogo2_verb),
    **{lemma: _noun("sonkeigo") for lemma in RESPECTFUL_NOUNS},
    **{lemma: _noun("kenjogo1") for lemma in KENJOGO1_NOUNS},
    **{lemma: _noun("kenjogo2") for lemma in HUMBLE_NOUNS},
    **dict.fromkeys(("様", "殿"), _person_suffix),
    "居る": _oru,
    "存ずる": _zonzuru,
    "御座る": _gozaru,
    "御覧": _goran,
    "御飯": _meal,
    "御": _prefix,
}
