"""From 常体 to くだけた話し言葉: spoken contractions and sentence ends, content untouched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from japagen.japanese.register.rules import Words, final_predicate
from japagen.japanese.style.edits import Edit, RefusedError, replacing

# Said of what is the case; かな and な of what is asked or wished. Which one a sentence gets
# depends on the sentence alone, so that a set of texts does not end alike throughout.
_STATEMENT_ENDS = ("よ", "んだけど", "んだよね")
_NOUN_ENDS = ("だよ", "なんだけど", "なんだよね")
_WISH_ENDS = ("な", "んだけど", "んだよね")
_TE = frozenset({"て", "で"})
_OPEN_FORMS = ("終止形", "連体形")
_GUESSES = frozenset({"だろう", "でしょう", "う", "よう", "まい"})


def request_edits(words: Words, quoted: frozenset[int]) -> Iterator[Edit]:
    """Yields the edits that turn 〜てください into 〜てくれないかな.

    Both ask the hearer to act; お待ちください stays, since its お would be left behind.
    """
    for i, word in enumerate(words.morphemes):
        is_request = word.lemma == "下さる" and word.cform == "命令形"
        if is_request and i not in quoted and words[i - 1].surface in _TE:
            yield replacing(words, i, i, "くれないかな")


def casual_edits(words: Words, quoted: frozenset[int]) -> list[Edit]:
    """Makes the edits that let a plain text read as said to a friend.

    Contractions (〜ている → 〜てる, 〜てしまう → 〜ちゃう, ではない → じゃない, が → けど)
    change the spelling alone; each sentence that ends in a predicate ends as speech does.

    Args:
        words: A text in 常体.
        quoted: Words inside quotations, which stay.

    Raises:
        RefusedError: Where the end of a sentence takes none of these endings.
    """
    edits = list(_contractions(words, quoted))
    before = ""
    for first, last in words.sentences():
        found = _ending(words, first, last, before)
        before = found[0].text if found else ""
        edits += found
    return edits


def _contractions(words: Words, quoted: frozenset[int]) -> Iterator[Edit]:
    for i, word in enumerate(words.morphemes):
        before, after = words[i - 1], words[i + 1]
        if i in quoted or i == 0:
            continue
        joins = before.pos2 == "接続助詞" and before.surface in _TE
        if (
            joins
            and word.lemma == "居る"
            and word.surface.startswith("い")
            and len(word.surface) < 3
        ):
            yield replacing(words, i, i, word.surface[1:])
        elif joins and word.lemma == "仕舞う" and word.surface in ("しまう", "しまっ"):
            start = "ちゃ" if before.surface == "て" else "じゃ"
            yield replacing(words, i - 1, i, start + word.surface[-1])
        elif word.surface == "は" and before.surface == "で" and after.lemma == "無い":
            yield replacing(words, i - 1, i, "じゃ")
        elif word.surface == "が" and word.pos2 == "接続助詞":
            yield replacing(words, i, i, "けど")
        elif word.surface == "の" and word.pos2 == "準体助詞" and after.surface == "だ":
            yield replacing(words, i, i, "ん")


def _ending(words: Words, first: int, last: int, before: str) -> list[Edit]:
    """The edit at the end of one sentence; none where it has no predicate.

    Two sentences in a row do not end alike: ``before`` is how the last one was made to end. Nor
    does けど follow on けど.
    """
    chain, tail = final_predicate(words, first, last)
    if not chain:
        return []
    end, word = chain[-1], words[chain[-1]]
    if tail:
        return _question(words, end, tail, last)
    if word.surface in _GUESSES or (word.ctype == "助動詞-ダ" and word.surface != "だ"):
        raise RefusedError("no casual ending after", word.surface)
    if not word.cform.startswith(_OPEN_FORMS):
        return []  # a command, or a sentence that trails off: casual as it is
    ends = _ends(words, end)
    made = [
        replacing(words, end if word.surface == "だ" else end - 1, end, choice)  # で ある
        if ends is _NOUN_ENDS
        else replacing(words, end, end, word.surface + choice)
        for choice in ends
    ]
    said = {words[i].surface for i in range(first, end) if words[i].pos2 == "接続助詞"}
    stale = {before[-2:], "けど" if said & {"が", "けど"} else ""}
    others = [edit for edit in made if edit.text[-2:] not in stale]
    return [others[_pick(words, first, end) % len(others)]]


def _ends(words: Words, end: int) -> tuple[str, ...]:
    word = words[end]
    if word.surface == "だ" or (word.lemma == "有る" and words[end - 1].surface == "で"):
        return _NOUN_ENDS
    return _WISH_ENDS if word.orth_base in ("たい", "ほしい", "欲しい") else _STATEMENT_ENDS


def _question(words: Words, end: int, tail: list[int], last: int) -> list[Edit]:
    """か at the end gives way to a rising tone; other particles end speech already."""
    if len(tail) > 1 or words[tail[0]].surface != "か":
        return []
    if words[end].surface in _GUESSES:
        return [replacing(words, end, tail[0], "かな")]
    after = tail[0] + 1
    stop = after < last and words[after].surface in ("。", "?", "？")
    return [replacing(words, tail[0], after if stop else tail[0], "？")]


def _pick(words: Words, first: int, end: int) -> int:
    sentence = words.text[words.starts[first] : words.ends[end]]
    return hashlib.sha256(sentence.encode("utf-8", "surrogatepass")).digest()[0]
