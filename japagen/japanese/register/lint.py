"""Misused keigo, as 敬語の指針 (2007) and usage guides have it, with corrections where safe.

Rules see one sentence. Who acts towards whom they know where the sentence says it (お客様が, 母が)
or where the act is the customer's by nature (ご乗車, ご利用); elsewhere they keep silent. What
敬語の指針 calls established by custom (お召し上がりになる, お伺いする, お見えになる) is no fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from japagen.i18n import localized
from japagen.japanese.morphology import Morpheme, Tagger, default_tagger
from japagen.japanese.register.keigo import (
    BEAUTIFIED_ACTIONS,
    BEAUTIFIED_NOUNS,
    KENJOGO1_NOUNS,
    SONKEIGO_VERBS,
    end_of_head,
    find_keigo,
    honours_once,
    is_action,
    word_list,
)
from japagen.japanese.register.rules import Words, normalize_lines
from japagen.japanese.style.conjugation import Verb, verb_of

Kind = Literal[
    "double_keigo",
    "humble_for_other",
    "own_side",
    "sasete_itadaku",
    "sa_ire",
    "ra_nuki",
    "baito",
]
# First and last word, why, and what should stand there.
_Found = Iterator[tuple[int, int, str, str | None]]

_TE = frozenset({"て", "で"})
_IRASSHARU = Verb("いらっしゃる", "五段-ラ行", "いらっしゃる")
_OSSHARU = Verb("おっしゃる", "五段-ラ行", "仰る")
_GORAN = Verb("ご覧になる", "五段-ラ行", "成る")
_NARU = Verb("になる", "五段-ラ行", "成る")
_NARERU = Verb("になれる", "下一段-ラ行", "成る")
_SURU = Verb("する", "サ行変格", "為る")
_MOUSU = Verb("申す", "五段-サ行", "申す")
_NASARU = Verb("なさる", "五段-ラ行", "為さる")
_RESPECTFUL = {"参る": _IRASSHARU, "申す": _OSSHARU, "致す": _NASARU, "存ずる": None}
_PRAYED_TO = word_list("prayed_to")
_CUSTOMERS_ACTS = word_list("customers_acts")
_ONLY_CUSTOMERS_ACTS = word_list("only_customers_acts")
_NEVER_PASSIVE = word_list("never_passive")
_TOWARDS_OTHERS = BEAUTIFIED_ACTIONS | BEAUTIFIED_NOUNS | word_list("towards_others")
_LEXICAL_CAUSATIVES = word_list("lexical_causatives")
_A_TO_U = dict(zip("かがさたなばまらわ", "くぐすつぬぶむるう", strict=True))
_KIN = word_list("kin")
_OWN_COMPANY = word_list("own_company")
_TITLES = word_list("titles")
_HONOURED_PEOPLE = _TITLES | {"様", "さん", "先生", "方", "先方"}
_PAST = word_list("past")
_BLURRED = word_list("blurred")
_PREFIXED_ONLY = word_list("prefixed_only")


class Finding(NamedTuple):
    """One misuse of keigo.

    Attributes:
        kind: Its kind.
        start: First character in the normalised text.
        end: One past the last character.
        surface: The characters themselves.
        why: What is wrong, in English; `why_ja` says it in Japanese.
        correction: What should stand in their place; None where that takes more than the words.
    """

    kind: Kind
    start: int
    end: int
    surface: str
    why: str
    correction: str | None

    @property
    def why_ja(self) -> str:
        """What is wrong, in Japanese."""
        return localized(self.why, "ja")

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready mapping with both languages."""
        return {**self._asdict(), "why_ja": self.why_ja}


def check_keigo(text: str, tagger: Tagger | None = None) -> list[Finding]:
    """Finds misused keigo in a Japanese text.

    >>> [finding] = check_keigo("社長がおっしゃられました。")
    >>> finding.kind, finding.surface, finding.correction
    ('double_keigo', 'おっしゃられ', 'おっしゃい')

    Args:
        text: Any text.
        tagger: The tagger to use; the default one when None.

    Raises:
        JapagenError: If the text is no string.
    """
    words = Words(text, tagger or default_tagger())
    found: list[Finding] = []
    for first, last in words.sentences():
        for kind, rule in _RULES:
            for a, b, why, correction in rule(words, first, last):
                start, end = words.starts[a], words.ends[b]
                surface = words.text[start:end]
                found.append(Finding(kind, start, end, surface, why, correction))
    found += _too_often(words)
    return sorted(found, key=lambda f: (f.start, -f.end))


def corrected(text: str, findings: Sequence[Finding]) -> str:
    """Returns the normalised text with every correction made that its findings have."""
    text = normalize_lines(text)
    for finding in sorted(findings, key=lambda f: -f.start):
        if finding.correction is not None:
            text = text[: finding.start] + finding.correction + text[finding.end :]
    return text


def _replacing(words: Words, first: int, k: int, why: str, verb: Verb | None) -> _Found:
    """A finding from ``first`` to word ``k``, in whose form ``verb`` should stand."""
    word, after = words[k], words[k + 1]
    last = k
    made: str | None = None
    if verb is None:
        yield first, k, why, None
        return
    if word.cform.startswith(("終止形", "連体形")):
        made = verb.base
    elif word.cform.startswith("未然形"):
        made = verb.irrealis if after.ctype in ("助動詞-ナイ", "助動詞-ヌ") else None
    elif after.ctype == "助動詞-タ":
        last, made = k + 1, verb.past + after.surface[1:]
    elif after.surface in _TE and after.pos1 == "助詞":
        last, made = k + 1, verb.te
    elif word.cform.startswith("連用形"):
        made = verb.stem
    yield first, last, why, made


def _double(words: Words, first: int, last: int) -> _Found:
    why = "The honorific verb takes no further れる or られる."
    for i in range(first + 1, last):
        word, before = words[i], words[i - 1]
        if word.ctype == "助動詞-レル":
            split = before.lemma == "成す" and word.orth_base == "られる"  # MeCab's なさ + られる
            if before.lemma in SONKEIGO_VERBS or split or honours_once(words, i - 1):
                yield from _replacing(words, i - 1, i, why, _NASARU if split else verb_of(before))
        elif word.lemma == "頂く" and before.surface in _TE:
            yield from _humble_twice(words, first, i)
        elif word.pos1 == "接尾辞" and word.lemma in ("様", "殿"):
            company = before.lemma == "社" and words[i - 2].lemma == "御"
            titled = before.lemma in _TITLES - {"上司"} and words[i - 2].lemma != "御"
            if before.lemma in ("各位", "貴社", "貴店", "貴校") or company or titled:
                yield i, i, "The word is honorific already: 様 is one too many.", ""


def _humble_twice(words: Words, first: int, i: int) -> _Found:
    """拝見させていただく and お伺いさせていただく."""
    why = "The word is humble already: させていただく humbles it twice."
    k = i - 2  # せる, させる
    if words[k].lemma not in ("せる", "させる"):
        return
    noun = k - 2 if words[k - 1].lemma == "為る" else k - 1
    humble = words[noun].lemma in KENJOGO1_NOUNS or (
        words[noun].lemma in ("伺う", "伺い") and words[noun - 1].lemma == "御"
    )
    if noun >= first and humble:
        # いただけますか and いただきませんか ask, and する would not.
        asks = words[i].ctype.startswith("下一段") or words[i + 1].surface == "ませ"
        yield from _replacing(words, noun + 1, i, why, None if asks else _SURU)


def _humble_verbs(words: Words, first: int, last: int) -> _Found:
    """Humble verbs of the other side's acts."""
    why = "A humble verb lowers the person whose act it is."
    for i in range(first, last):
        word, after = words[i], words[i + 1]
        if word.lemma == "為さる" and words[i - 1].lemma == "拝見":
            yield from _replacing(words, i - 1, i, why, _GORAN)
        if word.lemma not in ("参る", "申す", "致す", "為る", "存ずる", "伺う", "頂く", "居る"):
            continue
        seen = word.lemma == "為る" and words[i - 1].lemma in ("拝見", "拝読")
        honours = after.ctype == "助動詞-レル" and (seen or word.lemma in _RESPECTFUL)
        if honours and not any(words[j].lemma in _PRAYED_TO for j in range(first, i)):
            verb = _GORAN if seen else _RESPECTFUL[word.lemma]
            yield from _replacing(words, i - seen, i + 1, why, verb)
        elif seen and after.surface in _TE and words[i + 2].lemma == "頂く":
            yield i - 1, i + 1, why, "ご覧"
        elif after.surface in _TE and words[i + 2].cform == "命令形":
            yield from _humble_requests(words, first, i, seen)
        elif _asks(words, i + 1):
            yield from _humble_questions(words, first, i, seen)
        elif word.lemma in ("参る", "申す") and _has_honoured_subject(words, first, i):
            if after.surface in _TE and words[i + 2].surface == "おり":
                yield i, i + 2, why, "おっしゃってい" if word.lemma == "申す" else None
            elif words[i - 1].surface not in _TE:
                yield from _replacing(words, i, i, why, _RESPECTFUL[word.lemma])


def _humble_requests(words: Words, first: int, i: int, seen: bool) -> _Found:
    """伺ってください and the like ask the hearer to be humble."""
    why = "The hearer is asked with a humble verb."
    word, last = words[i], i + 2
    if words[last].lemma != "下さる":
        return
    before = {words[j].surface for j in range(first, i)}
    meets = any(words[j].lemma in ("様", "さん", "先生") for j in range(first, i))
    if word.lemma == "伺う" and not meets and "を" not in before:
        yield i, last, why, "お尋ねください"
    elif word.lemma == "申す":
        yield i, last, why, "おっしゃってください"
    elif seen:
        yield i - 1, last, why, "ご覧ください"
    elif (
        word.lemma == "頂く" and not before & _TE and before & {"どうぞ", "冷め", "遠慮", "温かい"}
    ):
        yield i, last, why, "召し上がってください"


def _asks(words: Words, i: int) -> bool:
    """True for ますか, ましたか, ますでしょうか and ていますか from word ``i``."""
    while words[i].surface in (*_TE, "おり", "い"):
        i += 1
    last = i + 1 if words[i].surface == "まし" else i
    if words[last + 1].surface == "でしょう":
        last += 1
    return words[i].surface in ("ます", "まし") and words[last + 1].surface == "か"


def _humble_questions(words: Words, first: int, i: int, seen: bool) -> _Found:
    why = "The hearer is asked about with a humble verb."
    word = words[i]
    asked = any(
        words[j].lemma in ("何", "何方", "何れ", "どう", "どちら", "どれ", "いかが", "如何", "幾つ")
        for j in range(max(first, i - 3), i)
    )
    if word.lemma == "致す" and asked:
        yield from _replacing(words, i, i, why, _NASARU)
    elif word.lemma == "存ずる" and words[i + 1].surface in _TE and words[i - 1].lemma != "御":
        yield i, i + 3, why, "ご存じです"
    elif seen and words[i - 2].lemma != "御":
        yield from _replacing(words, i - 1, i, why, _GORAN)
    elif (
        word.surface in ("おり", "参り", "まいり")
        and words[i - 1].pos2 != "接続助詞"
        and _has_honoured_subject(words, first, i)
    ):
        yield from _replacing(words, i, i, why, _IRASSHARU)


def _has_honoured_subject(words: Words, first: int, i: int) -> bool:
    """True when the last subject before word ``i`` is a 様, 先生 or 御社."""
    for j in range(i - 1, first, -1):
        if words[j].pos1 == "助詞" and words[j].surface in ("が", "は", "も"):
            return words[j - 1].lemma in ("様", "先生", "貴社") or (
                words[j - 1].lemma == "社" and words[j - 2].lemma == "御"
            )
    return False


def _humble_frames(words: Words, first: int, last: int) -> _Found:
    """お〜する, which humbles, around an act of the other side."""
    why = "お〜する is humble; the other side's act takes お〜になる or お〜ください."
    for i in range(first, last):
        if words[i].lemma != "御" or words[i].pos1 != "接頭辞":
            continue
        k = end_of_head(words, i + 1)
        act = "".join(words[j].surface for j in range(i + 1, k))
        verb, after, then = words[k], words[k + 1], words[k + 2]
        if k == i + 1:
            continue
        if words[i + 1].lemma in KENJOGO1_NOUNS and verb.cform == "命令形":
            seen = words[i + 1].lemma == "拝見"
            yield i, k, "The hearer is asked with a humble verb.", "ご覧ください" if seen else None
        elif verb.lemma == "出来る" and act in _CUSTOMERS_ACTS:
            yield from _replacing(words, k, k, why, _NARERU)
        elif verb.lemma != "為る":
            continue
        elif after.surface == "て" and then.lemma in ("下さる", "頂く"):
            if not _is_towards_another(words, first, i, then) and is_action(words, i + 1, k):
                yield k, k + 1, why, ""
        elif after.ctype == "助動詞-レル":
            if words[i + 1].lemma in _NEVER_PASSIVE and words[i].surface == "お":
                yield from _replacing(words, k, k + 1, why, _NARU)
        elif act in _ONLY_CUSTOMERS_ACTS and after.lemma not in ("せる", "させる"):
            yield from _replacing(words, k, k, why, _NARU)
        elif words[i - 1].surface == "が" and words[i - 2].lemma == "様":
            yield i, k, why, None


def _is_towards_another(words: Words, first: int, i: int, giver: Morpheme) -> bool:
    """True for お客様をご案内してください, where the hearer honours somebody else."""
    if words[i + 1].lemma in _TOWARDS_OTHERS:
        return True
    # 部長にお伝えしていただけますか asks the hearer; in 部長にしていただいた it is 部長 who acts.
    asks = giver.lemma == "下さる" or giver.ctype.startswith("下一段")
    particles = ("を", "に", "へ") if asks else ("を",)
    return any(
        words[j].surface in particles and words[j - 1].lemma in _HONOURED_PEOPLE
        for j in range(first + 1, i)
    )


def _sa_ire(words: Words, first: int, last: int) -> _Found:
    why = "A 五段 verb takes せる, not させる: さ is one too many."
    for i in range(first + 1, last):
        word, before = words[i], words[i - 1]
        if word.lemma not in ("せる", "させる") or not before.ctype.startswith("五段"):
            continue
        # 済まさせる comes of 済ます, whatever MeCab reads.
        extra = word.lemma == "させる" and before.cform.startswith("未然形")
        if extra and before.lemma != "済む":
            yield i - 1, i, why, before.surface + word.surface[1:]
        elif word.lemma == "せる" and _is_short_causative(words, before.lemma):
            yield i - 1, i, why, before.surface[:-1] + word.surface


def _is_short_causative(words: Words, lemma: str) -> bool:
    """True for 休ます, the causative of 休む; 動かす and 返す are verbs of their own."""
    if not lemma.endswith("す") or lemma[-2:-1] not in _A_TO_U or lemma in _LEXICAL_CAUSATIVES:
        return False
    base = words.tagger.tokenize(lemma[:-2] + _A_TO_U[lemma[-2]])
    return len(base) == 1 and base[0].ctype.startswith("五段")


def _ra_nuki(words: Words, first: int, last: int) -> _Found:
    why = "ら has been left out: a 一段 verb takes られる."
    for i in range(first, last):
        word, after = words[i], words[i + 1]
        base = word.orth_base
        if (
            word.ctype == "下一段-ラ行"
            and base.endswith("れる")
            and not word.lemma.endswith("れる")
        ):
            [verb, *rest] = words.tagger.tokenize(word.lemma.split("-")[0])
            if not rest and verb.ctype.startswith(("上一段", "下一段", "カ行変格")):
                stem = len(base) - 2
                yield i, i, why, word.surface[:stem] + "ら" + word.surface[stem:]
        elif after.ctype == "助動詞-レル" and after.orth_base == "れる" and word.pos1 == "動詞":
            one = word.ctype.startswith(("上一段", "下一段")) or word.surface.endswith("じ")
            if one:
                yield i, i + 1, why, f"{word.surface}ら{after.surface}"


def _part_time(words: Words, first: int, last: int) -> _Found:
    """What part-time clerks are taught to say."""
    lemmas_here = {words[j].lemma for j in range(first, last)}
    blurs = "のほう compares nothing here and only blurs what is meant."
    for i in range(first, last):
        word, before, after, then = words[i], words[i - 1], words[i + 1], words[i + 2]
        if word.lemma == "宜しい" and after.ctype == "助動詞-タ" and words[i + 3].surface == "か":
            if then.lemma == "です" and not lemmas_here & _PAST:
                why = "The question is about now: the past tense is out of place."
                yield i, i + 1, why, word.surface[:-2] + "い"
        elif word.lemma == "成る" and before.surface == "に" and after.surface == "ます":
            returned = words[i - 2].lemma in ("返す", "返し") and words[i - 4].surface == "の"
            if _is_this(words, first, i) or (returned and words[i - 3].lemma == "御"):
                yield i - 1, i + 1, "Nothing turns into anything else here: です is enough.", "です"
        elif word.lemma == "方" and before.surface == "の" and i - 2 >= first:
            thing = words[i - 2].surface
            if thing == "書":
                thing = words[i - 3].surface + thing
            if thing in _BLURRED and after.surface in ("を", "は", "、"):
                compares = after.surface == "は" and any(
                    words[j].surface == "は" for j in range(first, i)
                )
                bare = thing in _PREFIXED_ONLY and word.surface == "方"
                if not compares and (not bare or words[i - 3].lemma == "御"):
                    yield i - 1, i, blurs, None if after.surface == "、" else ""
        elif word.surface == "から" and before.surface == "円":
            if (after.lemma == "御" and then.lemma == "預かる") or (
                after.surface == "で" and then.lemma == "宜しい"
            ):
                yield i, i, "から is out of place: it is the sum itself that is received.", ""
        elif word.lemma == "様" and before.surface == "名前":
            yield i, i, "様 honours people, not names.", ""


def _is_this(words: Words, first: int, i: int) -> bool:
    """True for こちらがメニューになります; こちらが来月から有料になります tells of a change."""
    here = [j for j in range(first, i - 1) if words[j].surface == "こちら"]
    if not here or words[here[0] - 1].pos1 == "助詞":
        return False
    if words[here[0] + 1].surface not in ("が", "、") and words[here[0] + 1].pos1 != "名詞":
        return False
    named = range(here[0] + 2, i - 1)
    thing = words[i - 2].pos1 in ("名詞", "接尾辞") and words[i - 2].lemma not in ("事", "様")
    return (
        thing
        and all(words[j].pos1 not in ("動詞", "助動詞") for j in named)
        and not any(
            words[j].surface in ("から", "より", "まで", "で", "と") or words[j].lemma == "御"
            for j in named
            if words[j].pos1 == "助詞" or words[j + 1].pos1 == "動詞"
        )
    )


def _own_side(words: Words, first: int, last: int) -> _Found:
    """Honour for one's own family and company before others."""
    why = "One's own side is not honoured in front of others."
    verbs = [
        e
        for e in find_keigo(words)
        if e.kind == "sonkeigo" and e.certain and not e.rule.startswith(("〜様", "お+", "〜殿"))
    ]
    for i in range(first, last):
        word, after = words[i], words[i + 1]
        own = i > first and words[i - 1].surface == "の" and words[i - 2].lemma in _OWN_COMPANY
        if own and word.pos3 == "人名":
            if after.lemma in ("様", "さん") or after.lemma in _TITLES:
                yield i + 1, i + 1, why, ""
            continue
        kin = word.lemma in _KIN and words[i - 1].lemma != "御"
        if not (kin or (own and word.lemma in _TITLES)) or after.surface not in ("が", "は", "も"):
            continue
        for form in verbs:
            k = words.starts.index(form.start)
            between = [words[j] for j in range(i + 2, k)]
            if i < k < last and not any(
                w.surface in ("が", "は")
                or w.pos2 == "読点"
                or w.cform.startswith(("終止形", "連体形"))
                for w in between
            ):
                yield from _lowered(words, k, words.ends.index(form.end), why)
                break


def _lowered(words: Words, k: int, end: int, why: str) -> _Found:
    if words[k].lemma != "仰る":
        yield k, end, why, None
    elif words[k + 1].surface in _TE and words[k + 2].surface == "い":
        yield k, k + 2, why, "申しており"
    else:
        yield from _replacing(words, k, k, why, _MOUSU)


def _too_often(words: Words) -> Iterator[Finding]:
    """させていただく twice in a sentence or three times in a text."""
    why = "させていただく asks for leave: used this often, it sounds wordy and servile."
    seen = 0
    for first, last in words.sentences():
        here = 0
        for i in range(first + 2, last):
            verb = words[i - 2]
            if words[i].lemma == "頂く" and verb.lemma in ("せる", "させる"):
                seen, here = seen + 1, here + 1
                if words[i - 1].surface in _TE and (here > 1 or seen > 2):
                    start, end = words.starts[i - 2], words.ends[i]
                    surface = words.text[start:end]
                    yield Finding("sasete_itadaku", start, end, surface, why, None)


_RULES: tuple[tuple[Kind, Callable[[Words, int, int], _Found]], ...] = (
    ("double_keigo", _double),
    ("humble_for_other", _humble_verbs),
    ("humble_for_other", _humble_frames),
    ("own_side", _own_side),
    ("sa_ire", _sa_ire),
    ("ra_nuki", _ra_nuki),
    ("baito", _part_time),
)
