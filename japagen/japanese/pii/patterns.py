"""Numbers that belong to one person or company, found by their form and check digit."""

from __future__ import annotations

import re
from collections.abc import Iterator

import phonenumbers

Span = tuple[str, int, int]

# A number behind one of these is somebody's bookkeeping, not somebody's number.
_BOOKKEEPING = re.compile(
    r"(?:(?:注文|受注|発注|追跡|荷物|問い?合わ?せ|予約|受付|管理|商品|製品|製造|部品|整理|会員|取引|"
    r"請求書|見積)(?:番号|コード|No|ID)|(?:伝票|送り状|シリアル|ロット)(?:番号|No)?|[品型]番|"
    r"商品|製品|JAN|コード|ISBN|(?<![A-Za-z])(?:ID|No)|№)"
    r"(?:は|が|を|:|\.|#|=|「|\()?[\s:.#]*$",
    re.IGNORECASE,
)
_TELEPHONE = re.compile(r"(?:電話|携帯|TEL|FAX|ファ(?:ッ)?クス)[^。、]{0,8}$", re.IGNORECASE)
# The bound on the local part is RFC 5321's, and keeps the search linear.
_EMAIL = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_+-])?"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,}"
)
_POSTAL = re.compile(
    r"〒 ?(?P<marked>[0-9]{3}-?[0-9]{4})(?![0-9-])"
    r"|郵便番号(?:は|が|:|「|\()? ?(?P<named>[0-9]{3}-?[0-9]{4})(?![0-9-])"
    r"|(?<![0-9-])(?P<before>[0-9]{3}-[0-9]{4})(?= ?(?:東京都|北海道|(?:大阪|京都)府|\w{2,3}県))"
)
_LONG = re.compile(r"(?<![0-9A-Za-z-])(?<![0-9] )[0-9](?:[ -]?[0-9]){11,18}(?![ -]?[0-9]|-)")
_CORPORATE = re.compile(
    r"(?:法人番号(?:は|が|:|「|\()? ?T?|(?<![A-Za-z0-9])T)"
    r"(?P<number>[0-9](?:[ -]?[0-9]){12})(?![0-9-])"
)
_MY_NUMBER_WORD = re.compile(r"マイナンバー|個人番号|マイナ番号|my ?number", re.IGNORECASE)
_ACCOUNT = re.compile(
    r"(?:普通|当座|貯蓄|口座)(?:預金)?(?:口座)?(?:番号)?(?:は|が|:|「|\()?[\s:.]*(?:No\.?)?\s*"
    r"(?P<number>[0-9]{7})(?![0-9円個件人名点年回万千百-])"
)
_POST_ACCOUNT = re.compile(
    r"記号(?:は|:)?\s*(?P<number>1[0-9]{4}[\s、,]*番号(?:は|:)?\s*[0-9]{2,8})(?![0-9-])"
)
_PASSPORT = re.compile(
    r"(?:旅券|パスポート|passport)(?:の)? ?(?:番号|No\.?|number)?[^A-Z0-9。]{0,8}"
    r"(?P<number>[A-Z]{2} ?[0-9]{7})(?![0-9A-Za-z-])",
    re.IGNORECASE,
)
_CARD_FORMS = (
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),
    (re.compile(r"35(?:2[89]|[3-8])"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"3(?:0[0-5]|[68])"), (14,)),
    (re.compile(r"6(?:011|5|4[4-9])"), (16,)),
)


def digits_of(text: str) -> str:
    """The ASCII digits of a text, in order."""
    return "".join(c for c in text if c in "0123456789")


def is_my_number(digits: str) -> bool:
    """Whether the last of 12 digits is the check digit of an individual number (個人番号).

    Ordinance of the Ministry of Internal Affairs and Communications No. 85 of 2014, article 5:
    11 minus the weighted sum of the first eleven modulo 11, and 0 where that sum leaves 0 or 1.
    """
    if len(digits) != 12 or len(set(digits)) == 1:
        return False
    total = sum(
        int(d) * (n + 1 if n <= 6 else n - 5) for n, d in enumerate(reversed(digits[:11]), 1)
    )
    left = total % 11
    return int(digits[11]) == (0 if left <= 1 else 11 - left)


def is_corporate_number(digits: str) -> bool:
    """Whether the first of 13 digits is the check digit of a corporate number (法人番号).

    Ordinance of the Ministry of Finance No. 70 of 2014, article 2: 9 minus the sum modulo 9 of
    the other digits, every second of them doubled, counted from the right.
    """
    if len(digits) != 13:
        return False
    total = sum(int(d) * (2 - n % 2) for n, d in enumerate(reversed(digits[1:]), 1))
    return int(digits[0]) == 9 - total % 9


def is_luhn(digits: str) -> bool:
    """Whether a number satisfies Luhn's formula (ISO/IEC 7812-1, annex B)."""
    doubled = (int(d) * (1 + n % 2) for n, d in enumerate(reversed(digits)))
    return bool(digits) and sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def is_card_number(digits: str) -> bool:
    """Whether a number has a card brand's prefix and length and satisfies Luhn's formula."""
    known = any(form.match(digits) and len(digits) in sizes for form, sizes in _CARD_FORMS)
    return known and len(set(digits)) > 1 and is_luhn(digits)


def find_numbers(text: str) -> Iterator[Span]:
    """Yields kind, start and end of e-mail addresses and numbers in a folded text.

    The surer kinds come first; spans may overlap.
    """
    for match in _EMAIL.finditer(text):
        yield "email", *match.span()
    for match in _CORPORATE.finditer(text):
        if is_corporate_number(digits_of(match["number"])):
            yield "corporate_number", *match.span("number")
    yield from _long_numbers(text)
    for kind, pattern in (
        ("bank_account", _ACCOUNT),
        ("bank_account", _POST_ACCOUNT),
        ("passport", _PASSPORT),
    ):
        for match in pattern.finditer(text):
            yield kind, *match.span("number")
    yield from _phones(text)
    for match in _POSTAL.finditer(text):
        yield "postal_code", *match.span(match.lastgroup or 0)


def _long_numbers(text: str) -> Iterator[Span]:
    for match in _LONG.finditer(text):
        digits, before = digits_of(match[0]), text[max(match.start() - 25, 0) : match.start()]
        bookkeeping = _BOOKKEEPING.search(before)
        # One in eleven numbers of twelve digits has the right check digit by chance.
        grouped = re.fullmatch(r"[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}", match[0]) and not bookkeeping
        if is_my_number(digits) and (_MY_NUMBER_WORD.search(before) or grouped):
            yield "my_number", *match.span()
        elif is_card_number(digits) and not bookkeeping:
            yield "card", *match.span()


def _phones(text: str) -> Iterator[Span]:
    for match in phonenumbers.PhoneNumberMatcher(text, "JP"):
        before = text[max(match.start - 25, 0) : match.start]
        # A number without its leading 0 is no number that anyone in Japan writes.
        if not re.match(r"\(?0|\+", match.raw_string):
            continue
        if _BOOKKEEPING.search(before) and not _TELEPHONE.search(before):
            continue
        # 商品03-1234-5678X and A-090-... are parts of a longer name.
        if re.search(r"[A-Za-z0-9][-_]?$", before) and not re.search(
            r"(?:TEL|FAX|Phone|Mobile|T|M)$", before, re.IGNORECASE
        ):
            continue
        if re.match(r"-?[A-Za-z0-9]", text[match.end :]):
            continue
        # 店(03-1234-5678) opens a parenthesis that is not the number's.
        opened = match.raw_string.startswith("(") and ")" not in match.raw_string
        yield "phone", match.start + opened, match.end
