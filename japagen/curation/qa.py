"""What a question on a passage has to pass, each filter with what it measured.

A question is kept only if its answer stands in the passage, if it can be understood alone, does
not say the answer itself, is answered alike when it is asked again with the passage (round trip:
Alberti et al. 2019, arXiv:1906.05416), and is not answered without it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from japagen.config.qa import QACuration
from japagen.curation.near_duplicates import find_near_duplicates
from japagen.data.dataset import Rejection
from japagen.data.qa import NO_ANSWER, Question, question_id
from japagen.japanese.morphology import Morpheme, Tagger
from japagen.japanese.normalization import normalize
from japagen.japanese.register.keigo import lemmas

_SILENT = re.compile(r"[\W_]+")
_DIGITS = re.compile(r"\d+")
_ASKS = re.compile(
    r"[?？]$|か[。.]?$|(?:教えて|答えて|述べ|説明|挙げ)[^。]*[。.]?$"
    r"|(?:何|誰|いつ|どこ|いくつ|いくら|なぜ|どれ)[^。]{0,6}[。.]?$"
)
# Words that point at something beside the question.
_BESIDE = re.compile(
    r"上記|前述|上述|前記|下記|後述|文中|本文中?|同条|同項|当該(?:文書|規程|規則|製品)"
    r"|(?:こ|そ)の(?:文書|文章|資料|規則|規程|規定|書類|マニュアル|説明書|ページ|表|図|段落|節|章|項目?)"
    r"|本(?:文書|資料|規則|規程|規定|書|製品|機|器|マニュアル|説明書|サービス|ページ|条|項|章|節)(?![人棚籍])"
    r"|(?:次|以下)の(?:文|文章|うち|中|表|図|選択肢)"
)
_POINTING = lemmas("此の 其の 彼の 此れ 其れ 彼れ 此処 其処 此方 其方 此れ等 其れ等")
# その他, そのまま, その都度: idioms that point at nothing.
_IDIOMS = frozenset({"他", "ほか", "外", "まま", "都度", "うち", "内"})
_NUMBER = re.compile(
    r"^[約計最大低高第毎上下限前後]*[\d一二三四五六七八九十百千万億〇.,:：/〜~]+(.*)$"
)
_REFUSAL = re.compile(
    r"答え(?:は|が)?(?:なし|ない|ありません|られ)|わか[らり]|分か[らり]|不明|記載(?:なし|は?な|が?な|されてい)"
)
# Options are of like length if none is longer than this many times another, and more.
_LENGTH_RATIO, _LENGTH_SLACK = 2.5, 6


def answer_key(text: str) -> str:
    """What two ways of writing an answer have in common: no width, case, space or punctuation."""
    return _SILENT.sub("", normalize(text).casefold())


def character_f1(one: str, other: str) -> float:
    """Character F1 of two answers, as in JGLUE's evaluation of JSQuAD; equal ones have 1."""
    first, second = answer_key(one), answer_key(other)
    if not first or not second:
        return 0.0
    shared = (Counter(first) & Counter(second)).total()
    return 2 * shared / (len(first) + len(second))


def agreement(one: str, other: str) -> float:
    """How far two answers agree: their character F1, or 0 where their numbers differ.

    1,500円 and 1,600円 share most of their characters, and nothing of what they say.
    """
    first, second = _DIGITS.findall(answer_key(one)), _DIGITS.findall(answer_key(other))
    if first and second and Counter(first) != Counter(second):
        return 0.0
    return round(character_f1(one, other), 3)


def find_span(passage: str, answer: str) -> tuple[int, int] | None:
    """Where an answer stands in a passage; None where it does not.

    Width, case and white space do not matter: an answer is read as one line, and a passage has
    several. The first place counts.
    """
    start = passage.find(answer)
    if answer and start >= 0:
        return start, start + len(answer)
    letters, places = _folded(passage)
    wanted, _ = _folded(answer)
    found = letters.find(wanted) if wanted else -1
    if found < 0:
        return None
    return places[found], places[found + len(wanted) - 1] + 1


def _folded(text: str) -> tuple[str, list[int]]:
    """A text without what does not matter, and where each of its characters comes from."""
    pairs = [
        (folded, at)
        for at, sign in enumerate(text)
        for folded in unicodedata.normalize("NFKC", sign).casefold()
        if not folded.isspace()
    ]
    return "".join(sign for sign, _ in pairs), [at for _, at in pairs]


def is_refusal(reply: str) -> bool:
    """Whether a reply says that there is no answer."""
    return answer_key(reply) == answer_key(NO_ANSWER) or bool(_REFUSAL.search(reply))


def check_question(
    question: Question, passage: str, settings: QACuration, tagger: Tagger
) -> Question:
    """Finds a question's answer in its passage, and rejects the question for what it says."""
    span = find_span(passage, question.answer)
    if span is None:
        return replace(question, rejected=Rejection("no_span", 0, 1, question.answer))
    found = replace(question, answer=passage[slice(*span)], start=span[0])
    return replace(found, rejected=_fault(found, settings, tagger))


def _fault(question: Question, settings: QACuration, tagger: Tagger) -> Rejection | None:
    asked, answer = question.question, question.answer
    longest = settings.max_answer_characters
    if len(answer) > longest:
        return Rejection("long_answer", len(answer), longest, answer)
    if not _ASKS.search(asked.strip()):
        return Rejection("no_question", 0, 1, asked)
    if pointing := points_beside(asked, tagger):
        return Rejection("not_alone", len(pointing), 0, "、".join(pointing))
    given = given_away(asked, answer)
    if given > settings.max_given_away:
        return Rejection("gives_away", round(given, 3), settings.max_given_away, answer)
    return None


def points_beside(question: str, tagger: Tagger) -> list[str]:
    """Words of a question that point at something that the question does not name.

    >>> points_beside("それはいつまでに提出しますか。", Tagger())
    ['それ']
    >>> points_beside("休暇届は誰に出し、その控えは何年保管しますか。", Tagger())
    []
    """
    found = _BESIDE.findall(question)
    words = tagger.tokenize(normalize(_BESIDE.sub("　", question)))
    named = False
    for at, word in enumerate(words):
        following = words[at + 1].surface if at + 1 < len(words) else ""
        resolved = named and _broken(words, at)
        if word.lemma in _POINTING and following not in _IDIOMS and not resolved:
            found.append(word.surface)
        named |= word.pos1 == "名詞" and word.pos2 != "数詞"
    return list(dict.fromkeys(found))


def _broken(words: Sequence[Morpheme], at: int) -> bool:
    """Whether a clause has ended before a word, to whose nouns it can point."""
    return any(word.surface in ("、", "。", "ば", "とき", "場合") for word in words[:at])


def given_away(question: str, answer: str) -> float:
    """The share of an answer's character bigrams that its question has too.

    何日以内 gives nothing away of 10日以内: a number is given away by the number alone.
    """
    asked, key = answer_key(question), answer_key(answer)
    if set(_DIGITS.findall(key)) - set(_DIGITS.findall(asked)):
        return 0.0
    grams = {key[i : i + 2] for i in range(max(1, len(key) - 1))}
    return sum(gram in asked for gram in grams) / len(grams)


def reject_alike(questions: Sequence[Question], threshold: float) -> list[Question]:
    """Rejects questions that are too like an earlier kept one; see `find_near_duplicates`."""
    kept = [place for place, q in enumerate(questions) if q.rejected is None]
    found = find_near_duplicates([questions[place].question for place in kept], threshold)
    checked = list(questions)
    for place, near in zip(kept, found, strict=True):
        if near is not None:
            other = questions[kept[near.index]].id
            why = Rejection("near_duplicate", round(near.similarity, 3), threshold, other)
            checked[place] = replace(questions[place], rejected=why)
    return checked


def check_round_trip(question: Question, reply: str, least: float) -> Question:
    """Rejects a question to which the passage has given another answer."""
    found = agreement(question.answer, reply)
    why = Rejection("round_trip", found, least, reply) if found < least else None
    return replace(question, round_trip=reply, rejected=why)


def check_closed_book(question: Question, reply: str, most: float) -> Question:
    """Rejects a question that was answered without the passage."""
    found = agreement(question.answer, reply)
    why = Rejection("closed_book", found, most, reply) if found > most else None
    return replace(question, closed_book=reply, rejected=why)


def unanswerable(question: Question, passage_id: str) -> Question:
    """A question as it is asked of a passage that does not answer it."""
    name = question_id("unanswerable", passage_id, question.question, "")
    return Question(
        name,
        "unanswerable",
        passage_id,
        question.question,
        "",
        -1,
        parent_id=question.id,
    )


def check_unanswerable(question: Question, reply: str) -> Question:
    """Rejects a question that the passage was found to answer."""
    why = None if is_refusal(reply) else Rejection("answerable", 1, 0, reply)
    return replace(question, round_trip=reply, rejected=why)


def holds_answer(passage: str, answer: str) -> bool:
    """Whether a passage has an answer's words anywhere."""
    return answer_key(answer) in answer_key(passage)


def multiple_choice(question: Question, wrong: Iterable[str], order: Sequence[int]) -> Question:
    """A question with options.

    Args:
        question: An extractive one.
        wrong: The wrong options.
        order: Where each option goes, the right one first.
    """
    options = [question.answer, *wrong]
    placed = tuple(options[place] for place in order if place < len(options))
    name = question_id("multiple_choice", question.passage_id, question.question, question.answer)
    return replace(
        question,
        id=name,
        kind="multiple_choice",
        options=placed,
        parent_id=question.id,
        round_trip=None,
        closed_book=None,
    )


def check_options(question: Question, number: int, tagger: Tagger) -> Question:
    """Rejects a question with too few options, two that say the same, or one of another kind."""
    options, answer = question.options, question.answer
    keys = [answer_key(option) for option in options]
    alike = len(keys) - len(set(keys) - {""})
    # 総務部 beside 総務部の担当者: both may be right. Of numbers, each is its own.
    alike += sum(
        key != own and (key in own or own in key) and not _NUMBER.match(key)
        for own in [answer_key(answer)]
        for key in keys
    )
    if len(options) < number or alike:
        found, bound = (len(options), number) if len(options) < number else (alike, 0)
        return replace(
            question, rejected=Rejection("bad_options", found, bound, "／".join(options))
        )
    others = [option for option in options if not _same_kind(option, answer, tagger)]
    why = Rejection("other_kind", len(others), 0, "／".join(others)) if others else None
    return replace(question, rejected=why)


def _same_kind(one: str, other: str, tagger: Tagger) -> bool:
    short, long = sorted(map(len, (one, other)))
    alike = long <= max(_LENGTH_RATIO * short, short + _LENGTH_SLACK)
    return alike and _kind(one, tagger) == _kind(other, tagger)


def _kind(text: str, tagger: Tagger) -> str:
    """A number with its unit, or else the part of speech that a text ends in."""
    if number := _NUMBER.match(normalize(text)):
        return f"number {number[1][:2]}"
    words = [w for w in tagger.tokenize(normalize(text)) if w.pos1 not in ("補助記号", "空白")]
    last = words[-1].pos1 if words else ""
    return "名詞" if last in ("名詞", "接尾辞", "代名詞", "記号") else last
