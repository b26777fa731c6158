"""From 丁寧体 to 常体: every です and ます outside quotations gives way to the plain form."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from japagen.japanese.morphology import Morpheme
from japagen.japanese.register.keigo import SONKEIGO_VERBS
from japagen.japanese.register.rules import Evidence, Words, is_polite_auxiliary
from japagen.japanese.registers import HONOURING
from japagen.japanese.style.conjugation import Edit, RefusedError, Verb, replacing, verb_of

_SYMBOLS = frozenset({"補助記号", "記号", "空白"})
_CLAUSE_PARTICLES = frozenset({"が", "けど", "けれど", "けれども", "から", "し", "と"})
# What follows と when it quotes and does not mean "when".
_SPEECH = frozenset(
    {"言う", "思う", "書く", "伝える", "答える", "聞く", "仰る", "申す", "話す", "考える", "感ずる"}
    | {"有る", "為る", "の", "か", "は", "も", "だ", "です"}
)
# Before か these words ask; without です they would say "some-" (何か, いつか, どうか).
_QUESTION_WORDS = frozenset(
    {"何", "誰", "何処", "何時", "どう", "如何", "何故", "何れ", "何方", "幾つ", "幾ら", "どなた"}
    | {"どれ", "どちら", "何奴", "如何程"}
)
_NOMINAL = frozenset({"名詞", "代名詞", "形状詞", "接尾辞", "副詞"})
_NOMINAL_PARTICLES = frozenset(
    {"から", "まで", "の", "だけ", "のみ", "ばかり", "など", "くらい", "ぐらい", "ほど", "より"}
    | {"位", "程", "迄", "等"}
)
_WEATHER = frozenset({"雨", "雪", "大雨", "大雪", "小雨", "霰", "雹", "霙"})
_CLOSERS = frozenset("」』）)】〉》]")


def plain_edits(
    words: Words, quoted: frozenset[int], asides: frozenset[int], *, spoken: bool = False
) -> Iterator[Edit]:
    """Yields the edits that make every polite predicate plain.

    Args:
        words: The text.
        quoted: Words inside quotations, which stay.
        asides: Words inside round brackets.
        spoken: Whether casual speech comes of it, in which よ, ね, んだ, じゃない, てる and a
            question without か are at home.

    Raises:
        RefusedError: Where the plain form is not sure.
    """
    done = -1
    for i, word in enumerate(words.morphemes):
        if i in quoted or i <= done:
            continue
        if not is_polite_auxiliary(word.ctype, word.orth_base):
            continue
        if i in asides:
            raise RefusedError("a polite aside in brackets", word.surface)
        reader = _of_masu if word.ctype == "助動詞-マス" else _of_desu
        done, edits = reader(words, i, spoken)
        yield from edits


def is_adjectival(word: Morpheme) -> bool:
    """True for adjectives and for what conjugates like one (たい, らしい, ない, づらい)."""
    return word.ctype in ("形容詞", "助動詞-タイ", "助動詞-ナイ", "助動詞-ラシイ")


def ends_adjectival(words: Words, i: int) -> bool:
    """True when word ``i`` ends an adjective's plain form (高い, 高かった)."""
    word = words[i]
    if word.ctype == "助動詞-タ":
        return is_adjectival(words[i - 1]) and words[i - 1].cform == "連用形-促音便"
    return is_adjectival(word) and word.cform.startswith(("終止形", "連体形"))


def _of_masu(words: Words, i: int, spoken: bool) -> tuple[int, list[Edit]]:
    """Returns the last word that ます at ``i`` reaches to, and the edits."""
    host = words[i - 1]
    verb = verb_of(host) if i else None
    if verb is None or verb.stem != host.surface:
        raise RefusedError("no verb known before ます", host.surface + words[i].surface)
    form, last = _masu_form(words, i)
    plain = _falling(words, i - 1, verb if spoken else verb.uncontracted())
    made = {
        "base": plain.base,
        "past": plain.past,
        "tara": plain.past + "ら",
        "te": plain.te,
        "negative": plain.negative,
        "negative past": _past_of(plain.negative),
        "negative tara": f"{_past_of(plain.negative)}ら",
        "volitional": plain.volitional,
    }[form]
    if made is None or (plain.negative is None and form.startswith("negative")):
        raise RefusedError("the plain form wavers", host.surface + words[i].surface)
    if form.endswith(("tara", "te")):
        _refuse_quotation(words, last)
    else:
        _follow(words, last, spoken)
    _refuse_ambiguous(words, i - 1, form)
    edits = [replacing(words, i - 1, last, made)]
    shortened = host.lemma == "有る" and words[i - 2].surface == "じゃ" and not spoken
    if shortened and form.startswith("negative"):
        edits.append(replacing(words, i - 2, i - 2, "では"))
    return last, edits


def _masu_form(words: Words, i: int) -> tuple[str, int]:
    surface, second, third = words[i].surface, words[i + 1], words[i + 2]
    if surface == "ます":
        return "base", i
    if surface == "ましょう":
        return "volitional", i
    if surface == "まし" and second.surface == "て" and second.pos1 == "助詞":
        return "te", i + 1
    if surface == "まし" and second.ctype == "助動詞-タ" and second.surface in ("た", "たら"):
        return ("tara" if second.surface == "たら" else "past"), i + 1
    if surface == "ませ" and second.surface == "ん" and second.ctype == "助動詞-ヌ":
        if third.surface == "でし" and words[i + 3].surface in ("た", "たら"):
            return "negative " + ("tara" if words[i + 3].surface == "たら" else "past"), i + 3
        if third.ctype != "助動詞-デス":
            return "negative", i + 1
    raise RefusedError("an unusual form of ます", words[i].surface + second.surface)


def _past_of(negative: str | None) -> str | None:
    return None if negative is None else negative[:-1] + "かった"


def _refuse_ambiguous(words: Words, i: int, form: str) -> None:
    """Refuses kana stems that two verbs of different conjugation share."""
    word = words[i]
    after_te = words[i - 1].pos2 == "接続助詞"
    if after_te or (form in ("past", "te", "tara") and word.surface != "おき"):
        return
    if word.surface == "おき" or (word.surface == "き" and words[i - 1].surface == "を"):
        raise RefusedError("two verbs share this form", word.surface + words[i + 1].surface)


def _falling(words: Words, i: int, verb: Verb) -> Verb:
    """Tells 雨が降ります from バスを降ります, which share a stem."""
    if words[i].surface != "降り":
        return verb
    if any(words[j].lemma in _WEATHER for j in range(max(i - 6, 0), i)):
        return Verb("降る", "五段-ラ行", "降る")
    if words[i - 1].surface in ("を", "から", "で", "に", "へ"):
        return Verb("降りる", "上一段-ラ行", "下りる")
    raise RefusedError("two verbs share this form", "降り")


def _of_desu(words: Words, i: int, spoken: bool) -> tuple[int, list[Edit]]:
    """Returns the last word that です at ``i`` reaches to, and the edits."""
    host = words[i - 1]
    kind = _host_kind(words, i)
    surface, second = words[i].surface, words[i + 1]
    full_no = _full_no(words, i - 1)
    if surface == "でしょう":
        _follow(words, i, spoken)
        return i, [replacing(words, i, i, "だろう"), *full_no]
    if kind == "verb":
        raise RefusedError("です after a verb", host.surface + surface)
    if surface == "でし":
        return _of_deshi(words, i, kind, spoken)
    if surface != "です":
        raise RefusedError("an unusual spelling of です", surface)
    follow = _follow(words, i, spoken)
    dropped = Edit(words.starts[i], words.ends[i], "")
    if kind == "adjective":
        return i, [dropped] if spoken else [dropped, *_full_dewa(words, i)]
    if follow == "か":
        asks = asks_with_a_question_word(words, i - 1) and not spoken
        if asks or second.surface != "か":
            raise RefusedError("without です the question means something else", host.surface)
        return i, [dropped, *full_no]
    made = "な" if follow in ("ので", "のに") else "だ"
    return i, [replacing(words, i, i, made), *([] if spoken else full_no)]


def _of_deshi(words: Words, i: int, kind: str, spoken: bool) -> tuple[int, list[Edit]]:
    second = words[i + 1]
    if kind == "adjective":
        raise RefusedError("でし after an adjective", words[i - 1].surface + "でし")
    full_no = [] if spoken else _full_no(words, i - 1)
    if second.ctype == "助動詞-タ" and second.surface in ("た", "たら"):
        if second.surface == "た":
            _follow(words, i + 1, spoken)
        return i + 1, [replacing(words, i, i + 1, "だっ" + second.surface), *full_no]
    if second.surface == "て" and second.pos1 == "助詞":
        return i + 1, [replacing(words, i, i + 1, "で"), *full_no]
    raise RefusedError("an unusual form of です", "でし" + second.surface)


def _full_no(words: Words, i: int) -> list[Edit]:
    """んだ is casual, so ん goes back to の."""
    if i >= 0 and words[i].surface == "ん" and words[i].pos2 == "準体助詞":
        return [replacing(words, i, i, "の")]
    return []


def _full_dewa(words: Words, i: int) -> list[Edit]:
    """じゃない before です at ``i`` is casual without it, so じゃ goes back to では."""
    negation = i - 2 if words[i - 1].ctype == "助動詞-タ" else i - 1
    if words[negation].lemma == "無い" and words[negation - 1].surface == "じゃ":
        return [replacing(words, negation - 1, negation - 1, "では")]
    return []


def _host_kind(words: Words, i: int) -> str:
    """Returns what です at ``i`` follows: "adjective", "verb" or "nominal"."""
    host = words[i - 1]
    if i == 0 or words.starts_line(i) or (host.pos2 in ("句点", "読点")):
        if words[i + 1].surface in _CLAUSE_PARTICLES - {"と"}:
            return "nominal"  # ですが、 at the head of a sentence
        raise RefusedError("です without anything before it", words[i].surface)
    if ends_adjectival(words, i - 1):
        return "adjective"
    if is_polite_auxiliary(host.ctype, host.orth_base) or (
        host.pos1 == "助動詞" and is_polite_auxiliary(words[i - 2].ctype, words[i - 2].orth_base)
    ):
        raise RefusedError("a polite form twice", words[i - 2].surface + host.surface)
    return nominal_or_verb(words, i - 1)


def nominal_or_verb(words: Words, i: int) -> str:
    """Returns "nominal" for what takes だ, "verb" for what ends a verbal predicate.

    Raises:
        RefusedError: For anything else.
    """
    host = words[i]
    if host.pos1 in _NOMINAL and host.ctype == "*":
        return "nominal"
    if host.pos2 == "準体助詞" or host.ctype == "文語助動詞-ベシ":
        return "nominal"
    if host.pos1 == "助詞" and host.surface in _NOMINAL_PARTICLES:
        return "nominal"
    if host.surface in _CLOSERS or host.surface in ("%", "℃") or host.pos2 == "文字":
        return "nominal"
    if _is_nominal_stem(words, i):
        return "nominal"
    if host.pos1 in ("動詞", "助動詞") and host.cform.startswith(("終止形", "連体形")):
        return "verb"
    raise RefusedError("nothing known before the copula", host.surface)


def _is_nominal_stem(words: Words, i: int) -> bool:
    """True for the nouns that UniDic reads as verbs: お勧めです, お気に入りです."""
    return words[i].lemma in ("勧める", "薦める") or (
        words[i].surface in ("入り", "いり") and words[i - 2].surface == "気"
    )


def asks_with_a_question_word(words: Words, i: int) -> bool:
    """True when か right after word ``i`` would make it mean "some-" or "somehow"."""
    host = words[i]
    if host.pos2 == "助動詞語幹":
        return True
    return is_question_word(host) or host.pos1 == "副詞"


def is_question_word(word: Morpheme) -> bool:
    """True for 何, 誰, どこ and the like."""
    return word.lemma.split("-")[0] in _QUESTION_WORDS


def _follow(words: Words, last: int, spoken: bool) -> str:
    """Returns what the predicate that ends at ``last`` runs into: "end", か, or a particle.

    Raises:
        RefusedError: Before a final particle, a noun or an unmarked quotation.
    """
    i = last + 1
    word = words[i]
    if word.pos2 == "読点" and words[i + 1].pos1 not in ("", *_SYMBOLS):
        raise RefusedError("sentences joined by a comma", words[last].surface + word.surface)
    if not word.surface or words.starts_line(i) or word.pos1 in _SYMBOLS:
        return "end"
    if words.starts[i] > words.ends[last]:
        return "end"
    if word.surface == "か":
        _check_question(words, i)
        return "か"
    if word.surface in _CLAUSE_PARTICLES and word.pos1 == "助詞":
        if word.surface == "と":
            _refuse_quotation(words, last)
        return "けれど" if word.surface.startswith("けれ") else word.surface
    if word.pos2 == "準体助詞":
        second = words[i + 1]
        if second.surface in ("で", "に") and word.surface == "の":
            return "の" + second.surface
        if second.ctype in ("助動詞-デス", "助動詞-ダ"):
            return "end"
    if word.pos2 == "終助詞":
        if spoken and word.surface in ("よ", "ね"):
            return "終助詞"
        raise RefusedError("a final particle would read as casual", word.surface)
    raise RefusedError("a polite form before more of the sentence", word.surface)


def _check_question(words: Words, i: int) -> None:
    after = words[i + 1]
    if after.pos2 == "読点":
        raise RefusedError("sentences joined by a comma", words[i].surface + after.surface)
    if after.pos2 == "終助詞":
        raise RefusedError("a final particle would read as casual", after.surface)
    closes = not after.surface or after.pos1 in _SYMBOLS or words.starts_line(i + 1)
    if not (closes or words.starts[i + 1] > words.ends[i]):
        raise RefusedError("a question inside the sentence", words[i].surface + after.surface)


def _refuse_quotation(words: Words, last: int) -> None:
    word, after = words[last + 1], words[last + 2]
    if word.surface in ("と", "って") and (word.pos2 == "格助詞" or after.lemma in _SPEECH):
        raise RefusedError("a quotation without brackets", word.surface + after.surface)


# What keeps a polite text from becoming plain: honorifics, requests and set phrases.
#
# 尊敬語 and 謙譲語 choose another word, so a plain ending alone leaves お待ちした or いただけるか:
# neither polite nor plain. Two uses are at home in plain prose and stay: the verbs of 尊敬語 in a
# statement about others (先生がいらっしゃった。) and いただく before the end of a sentence
# (教えていただいて助かった。).

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
        # ご利用できない would keep its prefix, whoever it is that cannot.
        framed = item.rule in ("お〜する", "お〜できる", "お〜出来る")
        if item.kind not in HONOURING or not (item.certain or framed):
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
    if words[first + 1].lemma in ("願う", "願い") and after.ctype == "助動詞-タ":
        return after.cform == "連体形-一般"  # お願いした品: what everybody says
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
    ends = after.ctype in ("助動詞-デス", "助動詞-マス")
    if word.surface == "どうぞ" or (word.lemma == "如何" and ends):
        raise RefusedError("a word said to the hearer", word.surface)
    if ends and before.lemma == "御" and words[i + 2].surface == "か":
        raise RefusedError("尊敬語 has no plain ending", f"{before.surface}{word.surface}ですか")
    if word.surface == "すみ" and after.surface == "ませ":
        raise RefusedError("a set phrase", "すみません")
    titled = word.pos1 == "接尾辞" and before.lemma in _SET_WITH_TITLE
    takes_care = word.lemma == "大事" and before.lemma == "御"
    if (ends and word.lemma in _SET_NOUNS) or titled or takes_care:
        raise RefusedError("a set phrase", before.surface + word.surface)
    if word.lemma == "為る" and before.lemma in _SET_ACTIONS and ends:
        raise RefusedError("a set phrase", before.surface + word.surface)
