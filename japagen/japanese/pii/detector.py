"""Personal data in Japanese text: find it, and mask it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from japagen.japanese.morphology import Tagger, default_tagger
from japagen.japanese.pii.names import find_names
from japagen.japanese.pii.patterns import Span, find_numbers, find_places, fold

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
