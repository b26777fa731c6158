"""From 常体 to 丁寧体: the predicate that ends a sentence, and that of a clause with が or けど.

Other clauses (ので, から, し, と, たら, て, relative and quoted ones) stay plain: in polite prose
the end of the sentence carries the politeness.
"""

from __future__ import annotations

from collections.abc import Iterator

from japagen.japanese.register.rules import Words, end_of_predicate
from japagen.japanese.registers import Style
from japagen.japanese.style.conjugation import Edit, RefusedError, Verb, replacing, verb_of
from japagen.japanese.style.to_plain import (
    asks_with_a_question_word,
    ends_adjectival,
    is_adjectival,
    is_question_word,
    nominal_or_verb,
)

_TAIL_KINDS = frozenset({"終助詞", "接続助詞", "副助詞"})
_TAILS = frozenset(
    ["", "か", "よ", "ね", "よね", "が", "から", "し", "ので"]
    + [k + n for k in ("けど", "けれど", "けれども") for n in ("", "ね")]
)
_NO_TAILS = frozenset(
    {"て", "で", "くらい", "ぐらい", "まで", "だけ", "ばかり", "など", "のみ", "ほど"}
)
_CONTRASTS = frozenset({"が", "けど", "けれど"})
# Kana that verbs of different rows share before た (行った, 言った, 要った).
_SHARED_PASTS = frozenset({"いっ", "かっ", "うっ", "おっ", "よっ", "はっ", "よん", "通っ", "断っ"})
# もったいない is one adjective to its speakers: もったいないです.
_ADJECTIVES_WITH_NAI = frozenset({"勿体", "とんでも", "途方", "滅相", "上", "六"})
_SHARED_BASES = frozenset({"きる", "かえる", "へる"})


def polite_edits(words: Words, first: int, last: int, style: Style) -> Iterator[Edit]:
    """Yields the edits that make the sentence ``first`` to ``last`` (excluded) polite.

    Raises:
        RefusedError: Where the polite form is not sure.
    """
    end = end_of_predicate(words, first, last)
    tail_start = _tail_start(words, first, end)
    tail = "".join(words[i].surface for i in range(tail_start, end))
    core = tail_start - 1
    asks = words[end].surface in ("?", "？")
    if style == "unknown" or (asks and not tail and words[core].ctype == "*"):
        yield from _bare_question(words, first, core, tail, asks)
        return
    if tail not in _TAILS:
        raise RefusedError("an ending without a polite counterpart", tail)
    if core < first:
        raise RefusedError("no predicate before the particle", tail)
    if any(start <= core < end for start, end in words.closing_quotes.items()):
        raise RefusedError("a quotation stands alone", words[core].surface + tail)
    _refuse_splices(words, first, core)
    edits = list(_core_edits(words, first, core, tail))
    if asks and tail not in ("", "か", "ね", "よね"):
        raise RefusedError("a question without か", words[core].surface + tail)
    if asks and not tail and _ends_in_desu(edits):
        raise RefusedError("a question without か", words[core].surface + tail)
    yield from _contrasts(words, first, core)
    yield from edits


def _ends_in_desu(edits: list[Edit]) -> bool:
    """True for what cannot ask by intonation alone; 行きます? can."""
    return any(e.text.endswith(("です", "でした", "ません")) for e in edits)


def _refuse_splices(words: Words, first: int, core: int) -> None:
    """Refuses predicates that end at a comma (雨だ、傘を持とう): they would stay plain."""
    i = first
    while i < core:
        if i in words.closing_quotes:
            i = words.closing_quotes[i]
        elif words[i + 1].pos2 == "読点" and _ends_a_sentence(words, i):
            raise RefusedError("sentences joined by a comma", words[i].surface + "、")
        i += 1


def _ends_a_sentence(words: Words, i: int) -> bool:
    """True for 雨だ、 and 雨だね、 but not for 私はね、 where the word stands before a comma."""
    word = words[i]
    if word.pos2 == "終助詞":
        before = words[i - 1]
        return before.pos1 in ("動詞", "形容詞", "助動詞") or before.pos2 in ("終助詞", "副助詞")
    if word.cform == "意志推量形":
        return True
    # A verb before a comma more often modifies the noun after it: 海が見える、静かな宿.
    return word.ctype in ("助動詞-ダ", "助動詞-タ") and word.cform.startswith("終止形")


def _tail_start(words: Words, first: int, end: int) -> int:
    """Returns the first word of the particles that close the sentence."""
    i = end
    while i > first:
        word, before = words[i - 1], words[i - 2]
        if word.pos1 == "助詞" and word.pos2 in _TAIL_KINDS and word.surface not in _NO_TAILS:
            i -= 1
        elif word.surface == "も" and before.surface == "けれど":
            i -= 2
        elif word.surface == "が" and _is_end_form(words, i - 2):
            i -= 1
        elif word.surface == "で" and before.surface == "の" and before.pos2 == "準体助詞":
            i -= 2
        else:
            break
    return i


def _is_end_form(words: Words, i: int) -> bool:
    word = words[i]
    return word.pos1 in ("動詞", "形容詞", "助動詞", "接尾辞") and (
        word.cform.startswith(("終止形", "連体形")) or word.cform == "意志推量形"
    )


def _bare_question(words: Words, first: int, core: int, tail: str, asks: bool) -> Iterator[Edit]:
    """学生か。 and 学生？ ask without a copula."""
    if core < first or words[core].pos2 == "準体助詞":
        return
    if tail != "か" and (tail or not asks):
        return
    try:
        nominal = nominal_or_verb(words, core) == "nominal"
    except RefusedError:
        return
    if not nominal:
        return
    # 必要な書類は何か。 asks, 何か。 may mean "something".
    if tail and asks_with_a_question_word(words, core) and words[core - 1].surface != "は":
        raise RefusedError("a question or an indefinite word", words[core].surface + tail)
    yield from _contrasts(words, first, core)
    yield Edit(words.ends[core], words.ends[core], "です" if tail else "ですか")


def _contrasts(words: Words, first: int, core: int) -> Iterator[Edit]:
    """Makes the clauses before が and けど polite as well."""
    depth_end = -1
    for i in range(first, core):
        if i <= depth_end:
            continue
        if i in words.closing_quotes:
            depth_end = words.closing_quotes[i]
            continue
        word = words[i]
        if word.surface not in _CONTRASTS or word.pos1 != "助詞" or i == first:
            continue
        if not _is_end_form(words, i - 1) or _belongs_inside(words, i, core):
            continue
        try:
            edits = list(_core_edits(words, first, i - 1, word.surface))
        except RefusedError:
            continue  # A plain clause is no mistake in a polite sentence.
        yield from edits


def _belongs_inside(words: Words, i: int, core: int) -> bool:
    """True when the contrast may lie within a clause that is quoted or modifies a noun.

    A comma after the particle speaks for two clauses of one rank.
    """
    comma = words[i + 1].pos2 == "読点" or (
        words[i + 1].surface == "も" and words[i + 2].pos2 == "読点"
    )
    if comma:
        return False
    for j in range(i + 1, core):
        after = words[j + 1]
        if words[j].surface == "と" and after.lemma in ("思う", "言う", "考える", "感ずる"):
            return True
        modifies = words[j].cform.startswith("連体形") and words[j].pos1 != "名詞"
        if modifies and after.pos1 in ("名詞", "代名詞") and after.pos2 != "助動詞語幹":
            return True
    return False


def _core_edits(words: Words, first: int, k: int, tail: str) -> Iterator[Edit]:
    """Yields the edits for the predicate whose last word is ``k``."""
    word = words[k]
    if word.pos2 == "準体助詞" and tail == "か":
        yield Edit(words.ends[k], words.ends[k], "です")
        return
    if "ー" in word.surface and word.pos1 in ("形容詞", "助動詞"):
        raise RefusedError("a drawn-out ending", word.surface)
    if word.surface == "だ" and _asks_with_noda(words, first, k):
        yield replacing(words, k, k, "ですか")
    elif word.ctype == "助動詞-タ":
        yield from _past(words, first, k)
    elif word.ctype in ("助動詞-ダ", "助動詞-デス"):
        yield from _copula(words, first, k, tail)
    elif is_adjectival(word):
        yield from _adjective(words, first, k)
    elif verb_of(word) is not None:
        yield from _verb(words, first, k)
    else:
        raise RefusedError("no predicate that can be made polite", word.surface)


def _asks_with_noda(words: Words, first: int, k: int) -> bool:
    """True for どうすればいいんだ, which asks; 誰もいないんだ and どう見ても変なんだ do not.

    Raises:
        RefusedError: Where the question may be part of a longer sentence.
    """
    if words[k - 1].pos2 != "準体助詞":
        return False
    asked = [i for i in range(first, k) if is_question_word(words[i])]
    if not asked:
        return False
    between = [words[i] for i in range(asked[-1], k)]
    if {"も", "ても", "でも", "か"} & {w.surface for w in between}:
        return False
    if any(
        w.surface in ("と", "って", "、") or (w.pos2 == "接続助詞" and w.surface in _CONTRASTS)
        for w in between
    ):
        raise RefusedError("a question inside the sentence", words[asked[-1]].surface)
    return True


def _past(words: Words, first: int, k: int) -> Iterator[Edit]:
    before = words[k - 1]
    if k - 1 < first or words[k].surface not in ("た", "だ"):
        raise RefusedError("an unusual past form", words[k].surface)
    if before.ctype == "助動詞-ダ" and before.surface == "だっ":
        _check_nominal(words, first, k - 2)
        yield replacing(words, k - 1, k, "でした")
    elif _is_dearu(words, k - 1):
        _check_nominal(words, first, k - 3)
        yield replacing(words, k - 2, k, "でした")
    elif is_adjectival(before):
        if _is_negated_verb(words, k - 1):
            yield replacing(words, k - 2, k, _checked(words, k - 2).stem + "ませんでした")
        elif _is_negation(words, k - 1):
            yield replacing(words, k - 1, k, "ありませんでした")
        elif before.lemma == "仕方無い" and before.surface.endswith("なかっ"):
            yield replacing(words, k - 1, k, before.surface[:-3] + "ありませんでした")
        else:
            yield Edit(words.ends[k], words.ends[k], "です")
    else:
        raw = verb_of(before)
        if raw is None or raw.past != before.surface + words[k].surface:
            raise RefusedError("no verb known before た", before.surface + words[k].surface)
        after_te = words[k - 2].pos2 == "接続助詞"
        if before.surface in _SHARED_PASTS and not after_te:
            raise RefusedError("two verbs share this form", before.surface + words[k].surface)
        if before.surface == "行っ" and not after_te:
            raw = _went_or_did(words, first, k - 1)
        yield replacing(words, k - 1, k, raw.uncontracted().stem + "ました")


def _went_or_did(words: Words, first: int, i: int) -> Verb:
    """Tells 東京に行った from 会議を行った, which are written alike."""
    if words[i - 1].surface == "を":
        return Verb("行う", "五段-ワア行", "行う")
    before = [words[j].surface for j in range(max(first, i - 8), i)]
    if "を" in before or before[-1:] in (["は"], ["も"], ["が"]):
        raise RefusedError("two verbs share this form", "行った")
    return Verb("行く", "五段-カ行", "行く")


def _copula(words: Words, first: int, k: int, tail: str) -> Iterator[Edit]:
    word = words[k]
    if word.surface == "だろう":
        yield replacing(words, k, k, "でしょう")
        return
    if word.surface in ("っす", "す") and word.ctype == "助動詞-デス":
        if not ends_adjectival(words, k - 1):
            _check_nominal(words, first, k - 1)
        yield replacing(words, k, k, "です")
        return
    if word.surface != "だ" and not (word.surface == "な" and tail == "ので"):
        raise RefusedError("an unusual form of だ", word.surface)
    if tail == "か":
        raise RefusedError("だ before か", "だか")
    _check_nominal(words, first, k - 1)
    yield replacing(words, k, k, "です")


def _adjective(words: Words, first: int, k: int) -> Iterator[Edit]:
    word, before = words[k], words[k - 1]
    if before.surface == "らん" and words[k - 2].surface in ("て", "で"):
        yield replacing(words, k - 1, k, "いられません")  # やってらんない
        return
    if not word.cform.startswith(("終止形", "連体形")) or not word.surface.endswith("い"):
        raise RefusedError("not the dictionary form", word.surface)
    if _is_negated_verb(words, k):
        if k - 1 < first:
            raise RefusedError("no verb before ない", word.surface)
        yield replacing(words, k - 1, k, _checked(words, k - 1).stem + "ません")
    elif _is_negation(words, k):
        yield replacing(words, k, k, "ありません")
    elif word.lemma == "仕方無い" and word.surface.endswith("ない"):
        yield replacing(words, k, k, word.surface[:-2] + "ありません")
    else:
        yield Edit(words.ends[k], words.ends[k], "です")


def _verb(words: Words, first: int, k: int) -> Iterator[Edit]:
    word = words[k]
    verb = verb_of(word)
    if verb is None or word.pos2 == "文語":
        raise RefusedError("no verb that can be made polite", word.surface)
    dearu = _is_dearu(words, k)
    if word.cform == "意志推量形":
        if dearu:
            _check_nominal(words, first, k - 2)
            yield replacing(words, k - 1, k, "でしょう")
        elif verb.volitional == word.surface:
            yield replacing(words, k, k, verb.uncontracted().stem + "ましょう")
        else:
            raise RefusedError("an unusual volitional form", word.surface)
        return
    if not word.cform.startswith(("終止形", "連体形")):
        raise RefusedError("a command or an unfinished sentence", word.surface)
    if dearu:
        _check_nominal(words, first, k - 2)
        yield replacing(words, k - 1, k, "です")
        return
    if word.surface != word.orth_base:
        raise RefusedError("not the dictionary form", word.surface)
    if word.surface in _SHARED_BASES and words[k - 1].pos2 != "接続助詞":
        raise RefusedError("two verbs share this form", word.surface)
    yield replacing(words, k, k, verb.uncontracted().stem + "ます")


def _checked(words: Words, i: int) -> Verb:
    """Returns the verb before ない, made sure of by its 未然形."""
    verb = verb_of(words[i])
    surface = words[i].surface
    if words[i].cform == "未然形-撥音便":
        surface = surface[:-1] + "ら"  # わかんない
    if verb is None or verb.irrealis != surface:
        raise RefusedError("no verb known before ない", words[i].surface)
    return verb.uncontracted()


def _is_negated_verb(words: Words, i: int) -> bool:
    if words[i].ctype != "助動詞-ナイ":
        return False
    before = words[i - 1]
    # つまらない and 物足りない deny nothing: つまらないです.
    return before.surface not in ("つまら", "くだら") and words[i - 2].surface not in ("物", "もの")


def _is_negation(words: Words, i: int) -> bool:
    """True for ない as the negative of ある; 無い in kanji keeps its kanji and takes です."""
    word = words[i]
    if word.lemma != "無い" or not word.surface.startswith("な"):
        return False
    if words[i - 1].surface == "じゃ" and words[i - 2].pos1 not in ("名詞", "代名詞", "形状詞"):
        raise RefusedError("じゃない may ask for agreement", "じゃない")
    before = words[i - 2] if words[i - 1].surface == "も" else words[i - 1]
    return before.lemma not in _ADJECTIVES_WITH_NAI


def _is_dearu(words: Words, i: int) -> bool:
    before = words[i - 1]
    return words[i].lemma == "有る" and before.surface == "で" and before.ctype == "助動詞-ダ"


def _check_nominal(words: Words, first: int, i: int) -> None:
    if i < first or nominal_or_verb(words, i) != "nominal":
        raise RefusedError("nothing known before the copula", words[max(i, first)].surface)
