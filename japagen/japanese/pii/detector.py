"""Personal data in Japanese text: find it, and mask it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from japagen.japanese.morphology import Morpheme, Tagger, default_tagger
from japagen.japanese.pii.patterns import (
    FAMOUS,
    GIVEN_TOO,
    HONORIFICS,
    ORGANISATIONS,
    PLACES_ONLY,
    ROLES,
    STOP,
    Span,
    find_numbers,
    find_places,
    fold,
)

# 私は山田です, 担当の佐藤, 氏名:田中一郎
_BEFORE = re.compile(
    r"(?:(?:私|わたし|わたくし|僕|ぼく|俺|名前|氏名|お名前|担当|担当者|受付|宛名|署名|代表者)"
    r"(?:は|の|:|が|、| )+|(?:お?名前|氏名|宛名|署名)(?:は|:|が| ){0,2} ?)$"
)
_AFTER = re.compile(
    r"^ ?(?:と申し|という者|といいます|と言います|ともうし|です(?:。|$|が、|けど)|でございます)"
)
_OPENING = re.compile(r"(?:^|[。!?\n]) ?$")
_NAMED = re.compile(r"^ ?(?:と申し|という者|といいます|と言います|ともうし)")
_KANJI_OR_KANA = re.compile(r"[一-龠々ヶ]{1,4}|[ァ-ヴー]{2,8}|[ぁ-ん]{2,6}")


@dataclass(frozen=True, slots=True)
class _Word:
    """A morpheme with its place in the text."""

    morpheme: Morpheme
    start: int
    end: int

    @property
    def surface(self) -> str:
        return self.morpheme.surface

    @property
    def kind(self) -> str:
        """姓, 名, 人名 (either), 地名, or nothing."""
        word = self.morpheme
        if word.surface in GIVEN_TOO:
            return "名"
        if word.pos2 != "固有名詞":
            return ""
        return word.pos4 if word.pos4 in ("姓", "名") else word.pos3


def find_names(text: str, tagger: Tagger) -> Iterator[Span]:
    """Yields the names of people in a folded text.

    A name is taken for someone's where a family name and a given name stand together, where
    an honorific or a role follows (佐藤さん, 田中部長), or where somebody gives it (山田と
    申します, 氏名:山田). A family name alone is as often a firm's or a place's, and is left.
    """
    words = _placed(text, tagger)
    i = 0
    while i < len(words):
        last = _chain(words, i)
        if last is not None and _is_name(text, words, i, last):
            yield "name", words[i].start, words[last].end
            i = last
        i += 1


def _placed(text: str, tagger: Tagger) -> list[_Word]:
    found, at = [], 0
    for morpheme in tagger.tokenize(text):
        start = text.find(morpheme.surface, at)
        if start < 0:
            continue
        at = start + len(morpheme.surface)
        found.append(_Word(morpheme, start, at))
    return found


def _chain(words: Sequence[_Word], i: int) -> int | None:
    """The last word of a name that starts at ``i``: 山田 太郎, スティーブ・ジョブズ, 佐藤."""
    if not _may_be_name(words[i]):
        return None
    last = i
    for j in range(i + 1, min(i + 5, len(words))):
        gap = words[j].start - words[last].end
        if gap > 1:
            break
        word = words[j]
        if word.surface in "・=" and j + 1 < len(words) and _may_be_name(words[j + 1]):
            continue
        wanted = ("名", "人名", "一般") if words[i].kind == "姓" else ("姓", "名", "人名")
        joined = word.kind in wanted or (word.kind == "地名" and words[j - 1].surface in "・=")
        if not joined or (gap == 0 and words[last].kind == "名" and word.kind == "姓"):
            break
        last = j
    return last


def _may_be_name(word: _Word) -> bool:
    # 太郎 is a common noun to UniDic; K and XX stand for a name that is not given.
    if word.surface in GIVEN_TOO:
        return True
    if word.surface in STOP or word.surface.isascii():
        return False
    if word.kind == "地名":
        # 松本さん and 千葉様 are people; nobody is called 東京都 or アメリカ.
        plain = re.fullmatch(r"[一-龠々ヶ]{2,3}", word.surface)
        return bool(plain) and word.surface not in PLACES_ONLY
    return word.kind in ("姓", "名", "人名") or (
        word.morpheme.is_unknown and bool(_KANJI_OR_KANA.fullmatch(word.surface))
    )


def _is_name(text: str, words: Sequence[_Word], first: int, last: int) -> bool:
    start, end = words[first].start, words[last].end
    name = text[start:end].replace(" ", "")
    if name in FAMOUS or name in STOP:
        return False
    follower = words[last + 1] if last + 1 < len(words) else None
    if follower and follower.start - end <= 1:
        if follower.surface in HONORIFICS or follower.surface in ROLES:
            return _takes_honorific(words, first, last, follower)
        if follower.start == end and follower.surface in ORGANISATIONS:
            return False
    kinds = [w.kind for w in words[first : last + 1] if w.surface not in "・="]
    sure = "姓" in kinds and "名" in kinds and kinds.index("姓") < len(kinds) - 1
    before = first == 0 or not _joined(words[first - 1], words[first])
    if sure:
        return before
    if _NAMED.match(text[end:]):
        return before
    if not before or kinds[0] == "地名":
        return False
    says_so = bool(_AFTER.match(text[end:]))
    if _BEFORE.search(text[:start]):
        return says_so or bool(re.match(r" ?(?:$|[。、,(「]|が|から)", text[end:]))
    return says_so and bool(_OPENING.search(text[:start]))


def _takes_honorific(words: Sequence[_Word], first: int, last: int, honorific: _Word) -> bool:
    """Whether an honorific after the words makes a person of them."""
    one = words[first]
    # 王将さん is a restaurant: one character behind a noun is a piece of a longer word.
    if first and len(one.surface) == 1 and first == last and _joined(words[first - 1], one):
        return False
    if first == last and one.kind == "地名":
        return honorific.surface in ("さん", "様", "さま", "くん", "君", "氏")
    if first == last and one.morpheme.is_unknown and one.kind == "":
        # Unknown katakana before さん is a shop as often as a person.
        return honorific.surface in ("くん", "君", "ちゃん", "氏", "様") or bool(
            re.fullmatch(r"[一-龠々ヶ]{2,4}", one.surface)
        )
    return True


def _joined(before: _Word, word: _Word) -> bool:
    """Whether a noun runs into the word without a break: 東北大震災 is not 大震."""
    return (
        before.end == word.start
        and before.morpheme.pos1 in ("名詞", "接頭辞")
        and (before.kind not in ("地名",))
        and not before.surface.isdigit()
    )


Kind = Literal[
    "email",
    "phone",
    "postal_code",
    "my_number",
    "corporate_number",
    "card",
    "bank_account",
    "passport",
    "birth_date",
    "address",
    "name",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
_MASKS = {
    "email": "メールアドレス",
    "phone": "電話番号",
    "postal_code": "郵便番号",
    "my_number": "個人番号",
    "corporate_number": "法人番号",
    "card": "カード番号",
    "bank_account": "口座番号",
    "passport": "旅券番号",
    "birth_date": "生年月日",
    "address": "住所",
    "name": "氏名",
}


@dataclass(frozen=True, slots=True)
class PersonalData:
    """A piece of personal data in a text.

    Attributes:
        kind: One of `KINDS`.
        start: Where it starts in the given text.
        end: Where it ends there.
        text: As written there.
    """

    kind: str
    start: int
    end: int
    text: str


def find_personal_data(text: str, tagger: Tagger | None = None) -> list[PersonalData]:
    """Finds personal data, in full-width and half-width forms.

    >>> [(d.kind, d.text) for d in find_personal_data("佐藤さん、０９０ー１２３４ー５６７８まで")]
    [('name', '佐藤'), ('phone', '０９０ー１２３４ー５６７８')]

    Args:
        text: Any text; offsets refer to it as it is.
        tagger: MeCab; the default dictionary when None.

    Returns:
        What was found in the order of the text, without overlaps: of two that overlap, the kind
        that is recognised more surely stays.
    """
    if not text.strip():
        return []
    folded = fold(text)
    taken: list[Span] = []
    for span in _spans(folded.text, tagger or default_tagger()):
        if all(span[2] <= start or end <= span[1] for _, start, end in taken):
            taken.append(span)
    found = []
    for kind, start, end in sorted(taken, key=lambda span: span[1]):
        first, last = folded.span(start, end)
        found.append(PersonalData(kind, first, last, text[first:last]))
    return found


def _spans(text: str, tagger: Tagger) -> list[Span]:
    # A number needs a digit and an address a number: most texts have none.
    numbers = [*find_numbers(text), *find_places(text)] if _has_data_signs(text) else []
    return [*numbers, *find_names(text, tagger)]


def _has_data_signs(text: str) -> bool:
    return any(c.isdigit() or c in "@〇一二三四五六七八九十" for c in text)


def mask_personal_data(text: str, tagger: Tagger | None = None, known: str = "") -> str:
    """Puts the name of its kind in the place of each piece of personal data.

    >>> mask_personal_data("電話は03-1234-5678です。")
    '電話は〔電話番号〕です。'

    Args:
        text: Any text.
        tagger: MeCab; the default dictionary when None.
        known: What stands in this text as well is left.
    """
    parts, at = [], 0
    for found in find_personal_data(text, tagger):
        if found.text not in known:
            parts += [text[at : found.start], f"〔{_MASKS[found.kind]}〕"]
            at = found.end
    return "".join([*parts, text[at:]])
