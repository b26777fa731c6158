"""Honorific forms, found from MeCab features.

The classes and most patterns follow 敬語の指針 (Council for Cultural Affairs, 2007). A string
shows which forms are there, not who honours whom: this claims register, not correctness.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from japagen.errors import JapagenError, nearest
from japagen.japanese.morphology import Tagger
from japagen.japanese.normalization import normalize, word_lists
from japagen.japanese.register.rules import Evidence, Words, is_polite_auxiliary
from japagen.japanese.registers import KEIGO_ORDER, Keigo


class OwnHonorifics:
    """Finds a user's words in any inflection.

    Args:
        classes: Base form, as one would write it, to its class of keigo.
        tagger: Reads the base forms the way it reads texts, so that entries may be several
            morphemes long.

    Raises:
        JapagenError: If an entry is empty.
    """

    def __init__(self, classes: Mapping[str, Keigo], tagger: Tagger) -> None:
        self._by_first: dict[str, list[tuple[tuple[str, ...], Keigo, str]]] = {}
        for entry, kind in classes.items():
            lemmas = tuple(m.lemma for m in tagger.tokenize(normalize(entry)))
            if not lemmas:
                raise JapagenError(
                    f"Expected an honorific word, found '{entry}', which holds no letters.",
                    "Remove it from the list of honorifics.",
                )
            self._by_first.setdefault(lemmas[0], []).append((lemmas, kind, entry))

    def find(self, words: Words) -> Iterator[Evidence]:
        """Yields the entries that stand in a text, in its order."""
        for i, word in enumerate(words.morphemes):
            for lemmas, kind, entry in self._by_first.get(word.lemma, ()):
                last = i + len(lemmas)
                if tuple(m.lemma for m in words.morphemes[i:last]) == lemmas:
                    yield words.evidence(kind, i, last - 1, f"own: {entry}")


def check_honorifics(classes: object, where: str = "the list of honorifics") -> dict[str, Keigo]:
    """Returns a mapping of words to classes of keigo.

    Args:
        classes: What a user gave.
        where: How to name it in an error.

    Raises:
        JapagenError: If it is no mapping, or a class is none of the four.
    """
    known: dict[str, Keigo] = {name: name for name in KEIGO_ORDER if name != "gozaru"}
    if not isinstance(classes, Mapping):
        raise JapagenError(
            f"Expected {where} to map words to classes, found {type(classes).__name__}.",
            "Write one word per line, for example  玉章: sonkeigo",
        )
    for word, kind in classes.items():
        if kind not in known:
            raise JapagenError(
                f"Expected the class of '{word}' in {where} to be one of {', '.join(known)}, "
                f"found '{kind}'{nearest(str(kind), known)}.",
                "Correct the class, or remove the word.",
            )
    return {str(word): known[kind] for word, kind in classes.items()}


def word_list(name: str) -> frozenset[str]:
    """Returns one of the lists in ``words.txt``."""
    return word_lists("japagen.japanese.register")[name]


def lemmas(listed: str) -> frozenset[str]:
    """Returns the lemmas of a list separated by spaces."""
    return frozenset(listed.split())


SONKEIGO_VERBS = word_list("sonkeigo_verbs")
KENJOGO1_VERBS = word_list("kenjogo1_verbs")
KENJOGO1_NOUNS = word_list("kenjogo1_nouns")
RESPECTFUL_NOUNS = word_list("respectful_nouns")
HUMBLE_NOUNS = word_list("humble_nouns")
BEAUTIFIED_NOUNS = word_list("beautified_nouns")
BEAUTIFIED_ACTIONS = word_list("beautified_actions")
HONOURED_NOUNS = word_list("honoured_nouns")
HONOURED_MODIFIERS = word_list("honoured_modifiers")
HONOURED_STATES = word_list("honoured_states")
DERIVED_NOUN_EXCEPTIONS = word_list("derived_noun_exceptions")
SET_PHRASES = word_list("set_phrases")
TITLE_EXCEPTIONS = word_list("title_exceptions")
PREFIX_FOLLOWERS = word_list("prefix_followers")

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
    on = words[i + 1].surface in _TE and words[i + 2].lemma == "居る"  # 申しておりました
    certain = _polite_follows(words, i + 2 if on else i)
    yield words.evidence("kenjogo2", i, i, words[i].orth_base, certain=certain)


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
    # ありがとうございます and おはようございます are everyday greetings.
    greets = words[i - 1].lemma in ("有り難う", "御早う", "お早う", "御目出度う")
    yield words.evidence("teineigo" if greets else "gozaru", i, i, "ござる")


def _goran(words: Words, i: int) -> Iterator[Evidence]:
    last = i + 2 if words[i + 1].surface == "に" and words[i + 2].lemma == "成る" else i
    yield words.evidence("sonkeigo", i, last, "ご覧になる" if last > i else "ご覧")


def _passive(words: Words, i: int) -> Iterator[Evidence]:
    verb = words[i - 1]
    if verb.lemma == "居る":
        return  # おられる is found at the verb.
    if verb.lemma in SONKEIGO_VERBS:
        yield words.evidence("double_keigo", i - 1, i, f"{verb.orth_base}+れる")
    elif honours_once(words, i - 1):
        yield words.evidence("double_keigo", i - 1, i, "お〜になる+れる")
    elif verb.pos1 == "動詞":
        # Passive, potential and honour share this form.
        yield words.evidence("sonkeigo", i - 1, i, "れる・られる", certain=False)


def honours_once(words: Words, i: int) -> bool:
    """True for なる at ``i`` in お〜になる and ご覧になる; お元気になる is なる alone."""
    if words[i].lemma != "成る" or words[i - 1].surface != "に":
        return False
    for j in range(i - 2, max(i - 3 - _HEAD_MAX, -1), -1):
        if words[j].lemma == "御覧":
            return True
        if words[j].lemma == "御":
            is_verb = words[j + 1].lemma != "世話" and is_action(words, j + 1, i - 1)
            return end_of_head(words, j + 1) == i - 1 and is_verb
    return False


def _person_suffix(words: Words, i: int) -> Iterator[Evidence]:
    before = words[i - 1]
    if words[i].pos1 != "接尾辞" or before.lemma in TITLE_EXCEPTIONS:
        return
    if before.pos1 in ("名詞", "代名詞", "接尾辞"):
        first = i - 2 if words[i - 2].lemma == "御" else i - 1
        yield words.evidence("sonkeigo", max(first, 0), i, f"〜{words[i].surface}")


def _noun(kind: Keigo) -> Callable[[Words, int], Iterator[Evidence]]:
    def rule(words: Words, i: int) -> Iterator[Evidence]:
        if words[i].pos1 in ("名詞", "代名詞"):
            yield words.evidence(kind, i, i, words[i].lemma)

    return rule


def _meal(words: Words, i: int) -> Iterator[Evidence]:
    yield words.evidence("bikago", i, i, words[i].orth_base)


def _prefix(words: Words, i: int) -> Iterator[Evidence]:
    """お/ご before a verb stem or a noun, by what comes after them."""
    if words[i].pos1 != "接頭辞":
        return
    after = end_of_head(words, i + 1)
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
    elif follower.surface == "に" and second.lemma == "上がる" and is_action(words, i + 1, after):
        yield words.evidence("kenjogo1", i, after + 1, "お〜に上がる")
    elif follower.surface == "に" and second.lemma == "成る":
        yield from _o_ni_naru(words, i, after)
    elif follower.lemma in PREFIX_FOLLOWERS:
        yield from _with_auxiliary(words, i, after)
    elif follower.ctype in ("助動詞-デス", "助動詞-ダ") and is_action(words, i + 1, after):
        # お勧めです recommends something; お待ちです honours who waits.
        waits = head.pos1 == "動詞" and head.lemma not in ("勧める", "薦める")
        sure = waits and follower.ctype == "助動詞-デス"
        yield words.evidence("sonkeigo", i, after, "お〜です", certain=sure)
    elif head.pos1 == "動詞" and follower.surface == "の":
        sure = head.lemma in HONOURED_STATES
        yield words.evidence("sonkeigo", i, after, "お〜の", certain=sure)
    else:
        yield from _with_noun(words, i, after)


def end_of_head(words: Words, first: int) -> int:
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


def is_action(words: Words, first: int, after: int) -> bool:
    """True when the words are a verb's 連用形 or an action noun, not a thing (お金)."""
    last = words[after - 1]
    if last.pos1 in ("動詞", "助動詞") or last.pos3 == "サ変可能":
        return True
    if words[first].lemma in BEAUTIFIED_NOUNS or last.lemma in DERIVED_NOUN_EXCEPTIONS:
        return False
    return last.pos1 == "名詞" and bool(_NOMINALISED.search(last.surface))


def _o_ni_naru(words: Words, i: int, after: int) -> Iterator[Evidence]:
    if not is_action(words, i + 1, after):
        yield from _with_noun(words, i, after)  # お金になる: something becomes money.
        return
    yield words.evidence("sonkeigo", i, after + 1, "お〜になる")


def _with_auxiliary(words: Words, i: int, after: int) -> Iterator[Evidence]:
    follower = words[after]
    head = words[i + 1]
    action = is_action(words, i + 1, after)
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
        # お願いします is what everybody says, and what cannot be done is seldom the speaker's act.
        everyday = head.lemma in ("願う", "願い", "休む", "休み")
        sure = action and not everyday and (lemma == "為る" or head.pos1 == "動詞")
        yield words.evidence("kenjogo1", i, after, name, certain=sure)
    elif action:
        yield words.evidence("kenjogo1", i, after, name)


def _with_noun(words: Words, i: int, after: int) -> Iterator[Evidence]:
    head, last = words[i + 1], after - 1
    if head.lemma in BEAUTIFIED_NOUNS:
        yield words.evidence("bikago", i, last, "お+名詞")
    elif words[after].lemma in ("様", "殿") and words[after].pos1 == "接尾辞":
        return  # お客様 is found at its suffix.
    elif head.lemma in HONOURED_NOUNS or head.lemma in HONOURED_MODIFIERS:
        # お父さん is what children call their own.
        kin = head.lemma in ("父", "母", "兄", "姉") and words[after].surface in ("さん", "ちゃん")
        yield words.evidence("sonkeigo", i, last, "お+相手の物事", certain=not kin)
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
