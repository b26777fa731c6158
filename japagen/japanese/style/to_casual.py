"""From 常体 to くだけた話し言葉: spoken contractions and sentence ends, content untouched.

The ends are those that add nothing to what is said. A statement takes よ, or stays bare where it
sounds spoken already or the sentence before it took よ. んだけど waits for an answer, so it stands
only where one is asked for: before a request, and after 困る.
"""

from __future__ import annotations

from collections.abc import Iterator

from japagen.japanese.register.rules import Words, final_predicate, is_casual
from japagen.japanese.style.conjugation import Edit, RefusedError, replacing, verb_of

_TE = frozenset({"て", "で"})
_OPEN_FORMS = ("終止形", "連体形")
_WISHES = frozenset({"たい", "ほしい", "欲しい"})
_CONTRASTS = frozenset({"が", "けど", "けれど"})


def phrase_edits(words: Words, quoted: frozenset[int]) -> Iterator[Edit]:
    """Yields the edits of requests and set phrases, which no plain form keeps.

    〜てください becomes 〜てくれないかな, お願いします お願いね, ありがとうございます ありがとう.
    お待ちください stays, since its お would be left behind.
    """
    for i, word in enumerate(words.morphemes):
        if i in quoted:
            continue
        before, polite, past = words[i - 1], words[i + 1], words[i + 2]
        ends = polite.surface == "ます" or (polite.surface == "まし" and past.surface == "た")
        last = i + 1 if polite.surface == "ます" else i + 2
        if word.lemma == "下さる" and word.cform == "命令形" and before.surface in _TE:
            if polite.surface in ("と", "って", "ませ") and not words.starts_line(i + 1):
                raise RefusedError("a request inside the sentence", word.surface + polite.surface)
            # 帰ってくださいね: what is left asks by itself.
            made = "" if polite.pos2 == "終助詞" else "くれないかな"
            yield replacing(words, i, i, made)
        elif word.lemma == "御座る" and before.lemma in ("有り難う", "お早う") and ends:
            yield replacing(words, i, last, "")
        elif before.lemma in ("願う", "願い") and words[i - 2].lemma == "御":
            # よろしくね, and 交換をお願いね.
            first = i - 2 if words[i - 3].surface in ("よろしく", "宜しく") else i
            if word.lemma == "為る" and polite.surface == "ます" and past.pos1 in ("", "補助記号"):
                yield replacing(words, first, last, "ね")


def casual_edits(words: Words, quoted: frozenset[int]) -> list[Edit]:
    """Makes the edits that let a plain text read as said to a friend.

    Args:
        words: A text in 常体.
        quoted: Words inside quotations, which stay.

    Raises:
        RefusedError: Where the end of a sentence takes none of these endings.
    """
    edits = list(_contractions(words, quoted))
    sentences = list(words.sentences())
    chains = [final_predicate(words, first, last)[0] for first, last in sentences]
    assured = False
    for n, (first, last) in enumerate(sentences):
        then = chains[n + 1] if n + 1 < len(chains) else []
        is_asked = _asks(words, then)
        changes = [e for e in edits if words.starts[first] <= e.start < words.ends[last - 1]]
        ending = _ending(words, first, last, is_asked, assured, changes)
        assured = any(e.text.endswith("よ") for e in ending)
        edits += ending
    return edits


def _contractions(words: Words, quoted: frozenset[int]) -> Iterator[Edit]:
    """〜ている → 〜てる, 〜てしまう → 〜ちゃう, ではない → じゃない, が → けど, ので → から."""
    for i, word in enumerate(words.morphemes):
        before, after = words[i - 1], words[i + 1]
        if i in quoted or i == 0:
            continue
        joins = before.pos2 == "接続助詞" and before.surface in _TE
        is_iru = joins and word.lemma == "居る"
        if is_iru and word.surface.startswith("い") and len(word.surface) < 3:
            yield replacing(words, i, i, word.surface[1:])
        elif is_iru and word.surface == "おり" and after.pos2 == "読点":
            yield replacing(words, i, i, "て")
        elif is_iru and word.surface == "おら" and after.surface == "ず":
            yield replacing(words, i, i + 1, "なくて")
        elif joins and word.lemma == "仕舞う" and len(word.surface) == 3:
            start = "ちゃ" if before.surface == "て" else "じゃ"
            if word.surface in ("しまう", "しまっ", "しまわ"):
                yield replacing(words, i - 1, i, start + word.surface[-1])
            elif after.pos2 == "読点":  # 落ちてしまい、
                yield replacing(words, i - 1, i, start + "って")
        elif word.surface == "は" and before.surface == "で" and after.lemma == "無い":
            yield replacing(words, i - 1, i, "じゃ")
        elif word.surface in ("が", "けれど") and word.pos2 == "接続助詞":
            mo = word.surface == "けれど" and after.surface == "も"
            yield replacing(words, i, i + mo, "けど")
        elif word.pos2 == "準体助詞" and word.surface == "の":
            yield from _no(words, i)
        elif word.surface == "よい" and word.lemma == "良い":
            yield replacing(words, i, i, "いい")
        elif after.pos2 == "読点" and word.cform == "連用形-一般" and word.pos1 == "動詞":
            verb = verb_of(word)
            if verb is not None and before.lemma != "御" and not joins:
                yield replacing(words, i, i, verb.te)


def _no(words: Words, i: int) -> Iterator[Edit]:
    """のだ is んだ in speech, and ので から."""
    before, after, then = words[i - 1], words[i + 1], words[i + 2]
    if after.ctype == "助動詞-ダ" and after.surface.startswith("だ") and then.surface != "か":
        yield replacing(words, i, i, "ん")
    elif after.surface == "で" and then.surface == "は" and words[i + 3].lemma == "無い":
        yield replacing(words, i, i, "ん")  # のではない: んじゃない
    elif after.surface == "で" and then.pos1 != "助詞" and then.lemma not in ("有る", "無い"):
        if before.surface == "な" and before.ctype == "助動詞-ダ":
            yield replacing(words, i - 1, i + 1, "だから")
        elif before.cform.startswith(_OPEN_FORMS):
            yield replacing(words, i, i + 1, "から")


def _ending(
    words: Words, first: int, last: int, is_asked: bool, assured: bool, changes: list[Edit]
) -> list[Edit]:
    """The edit at the end of one sentence; none where it has no predicate or sounds spoken.

    ``is_asked`` says whether the next one is a request, ``assured`` whether the one before took よ.
    """
    chain, tail = final_predicate(words, first, last)
    if tail:
        return _question(words, tail, last)
    if not chain:
        return []
    end, word = chain[-1], words[chain[-1]]
    noun = word.surface == "だ" and word.ctype == "助動詞-ダ"
    past = word.ctype == "助動詞-タ"
    copula = words[end - past].lemma == "有る" and words[end - past - 1].ctype == "助動詞-ダ"
    explains = noun and words[end - 1].pos2 == "準体助詞"
    contrasts = any(
        words[i].surface in _CONTRASTS for i in range(first, end) if words[i].pos2 == "接続助詞"
    )
    head = end - past - 1 if copula else end  # である, であった
    if word.surface == "だろう" or (copula and word.cform == "意志推量形"):
        return [replacing(words, head, end, "だろうね")]
    if word.cform == "意志推量形" and word.pos1 == "動詞":
        return [replacing(words, end, end, word.surface + "よ")]
    if not word.cform.startswith(_OPEN_FORMS):
        return []  # a command, or a sentence that trails off: casual as it is
    if word.ctype.startswith("文語") or word.lemma == "まい":
        raise RefusedError("no casual ending after", word.surface)
    if copula and past:
        return [replacing(words, head, end, "だったよ")]
    if (is_asked and not contrasts) or (words[chain[0]].lemma == "困る" and not past):
        lead = "" if explains else "なん" if noun or copula else word.surface + "ん"
        return [replacing(words, head, end, lead + "だけど")]
    if explains:
        return []
    if noun or copula:
        return [replacing(words, head, end, "だよ")]
    if word.orth_base in _WISHES:
        return [replacing(words, end, end, word.surface + "な")]
    at = words.starts[chain[0]]
    spoken = is_casual(words, chain, []) or any(
        e.start >= at and e.text not in ("いい", "じゃ") for e in changes
    )
    return [] if assured or spoken else [replacing(words, end, end, word.surface + "よ")]


def _asks(words: Words, chain: list[int]) -> bool:
    """True for a final predicate that asks something of the hearer: くれないかな, もらえる？."""
    if any(words[i].ctype == "助動詞-タ" for i in chain):
        return False
    return any(
        words[i].lemma in ("呉れる", "欲しい") or words[i].orth_base in ("もらえる", "貰える")
        for i in chain
    )


def _question(words: Words, tail: list[int], last: int) -> list[Edit]:
    """か at the end gives way to a rising tone; other particles end speech already."""
    if len(tail) > 1 or words[tail[0]].surface != "か":
        return []
    ka, core = tail[0], words[tail[0] - 1]
    if core.surface == "だろう":
        return [replacing(words, ka - 1, ka, "かな")]
    if core.cform == "意志推量形":
        return []
    stop = ka + 1 < last and words[ka + 1].surface in ("。", "?", "？")
    return [replacing(words, ka, ka + 1 if stop else ka, "？")]
