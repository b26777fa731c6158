"""Fakes in the form of the original that reach nobody."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable

import phonenumbers

from japagen.japanese.morphology import Tagger
from japagen.japanese.pii.patterns import (
    ADDRESS,
    FAKE_FAMILY,
    FAKE_GIVEN,
    FAKE_KATAKANA,
    FAKE_TOWNS,
    digits_of,
    fold,
    is_card_number,
    is_corporate_number,
    is_my_number,
)

_WIDE = {c: c + 0xFEE0 for c in range(33, 127)}
_DIGIT = re.compile("[0-9０-９]")


class _Draw:
    """Numbers drawn from one original and the seed, the same ones every time."""

    def __init__(self, kind: str, original: str, seed: int) -> None:
        key = f"{kind}\0{original}".encode("utf-8", "surrogatepass")
        self._key = seed.to_bytes(16, "big", signed=True) + hashlib.sha256(key).digest()
        self._drawn = 0

    def below(self, n: int) -> int:
        self._drawn += 1
        bits = hashlib.sha256(self._key + self._drawn.to_bytes(4, "big")).digest()[:8]
        return int.from_bytes(bits, "big") % n


def fake(kind: str, original: str, seed: int, tagger: Tagger) -> str:
    """Returns a fake for a piece of personal data, the same for the same original and seed.

    Width and separators stay as they are. Telephone numbers begin with 0 behind the area code,
    postal codes with 000, and check digits are wrong, so that none of them is anyone's;
    e-mail goes to example.com (RFC 2606). Addresses keep prefecture and city. An account
    number begins with 0000 and a passport with ZZ, which is rare but not ruled out.

    The fake is drawn from a hash: it hides the original from a reader of the text, and is no
    protection against somebody who knows the seed and tries every number.

    Args:
        kind: A kind of `japagen.japanese.pii.detector`.
        original: As found in the text.
        seed: One a dataset.
        tagger: Cuts names into family and given name.
    """
    plain = unicodedata.normalize("NFKC", original)
    if kind == "name":
        return _name(original, seed, tagger)
    key = digits_of(plain) if kind not in ("email", "address", "passport", "birth_date") else plain
    return _FAKES[kind](original, plain, _Draw(kind, key, seed))


def _refilled(original: str, digits: str) -> str:
    """The original with its digits replaced in turn, each in the width it had."""
    new = iter(digits)
    return _DIGIT.sub(
        lambda m: next(new) if m[0] < "\x7f" else next(new).translate(_WIDE), original
    )


def _drawn_digits(draw: _Draw, count: int) -> str:
    return "".join(str(draw.below(10)) for _ in range(count))


def _invalid(
    original: str, prefix: str, is_valid: Callable[[str], bool], draw: _Draw, plain: str
) -> str:
    """New digits behind a prefix that fail a check; changing one digit breaks any of ours."""
    length = len(digits_of(plain))
    digits = prefix + _drawn_digits(draw, length - len(prefix))
    while is_valid(digits) or digits == digits_of(plain):
        digits = prefix + _drawn_digits(draw, length - len(prefix))
    return _refilled(original, digits)


def _phone(original: str, plain: str, draw: _Draw) -> str:
    digits = digits_of(plain)
    country = 2 if plain.lstrip("(").startswith("+81") else 0
    if plain.lstrip("(").startswith("+") and not country:
        return _refilled(original, digits[:2] + "0" * (len(digits) - 2))
    blocks = re.findall("[0-9]+", plain)
    # The area code is the first block; without blocks, three digits are what mobiles have.
    area = len(blocks[0]) if len(blocks) > 1 else 3
    if country:
        area = country + (len(blocks[1]) if len(blocks) > 2 else 2)
    fake_digits = digits[:area] + "0" + _drawn_digits(draw, len(digits) - area - 1)
    number = ("+" if country else "") + fake_digits
    if fake_digits == digits or phonenumbers.is_valid_number(phonenumbers.parse(number, "JP")):
        # Toll-free numbers may begin with 0 behind the code; no code is 000.
        head = digits[:country] + "000"
        fake_digits = head + _drawn_digits(draw, len(digits) - len(head))
    return _refilled(original, fake_digits)


def _name(original: str, seed: int, tagger: Tagger) -> str:
    """A name of as many parts; the same part gets the same fake wherever it stands."""
    parts = re.split(r"([\s・=＝]+)", original)
    if len(parts) == 1:
        parts = [m.surface for m in tagger.tokenize(fold(original).text)] or [original]
    out, place = [], 0
    for part in parts:
        if not part or re.fullmatch(r"[\s・=＝]+", part):
            out.append(part)
            continue
        names = FAKE_FAMILY if place == 0 else FAKE_GIVEN
        if re.fullmatch("[ァ-ヴー]+", unicodedata.normalize("NFKC", part)):
            names = FAKE_KATAKANA
        elif place == 0 and len(parts) == 1 and _is_given(part, tagger):
            names = FAKE_GIVEN
        draw = _Draw("name", part, seed)
        chosen = names[draw.below(len(names))]
        while chosen == part:
            chosen = names[draw.below(len(names))]
        out.append(chosen)
        place += 1
    return "".join(out)


def _is_given(part: str, tagger: Tagger) -> bool:
    words = tagger.tokenize(part)
    return len(words) == 1 and words[0].pos4 == "名"


def _email(original: str, plain: str, draw: _Draw) -> str:
    made = f"user{draw.below(90000) + 10000}@example.com"
    return made if original == plain else made.translate(_WIDE)


def _birth_date(original: str, plain: str, draw: _Draw) -> str:
    """Another day of a year at most three away."""
    numbers = re.findall("[0-9]+", plain)
    made = []
    for place, number in enumerate(numbers, 3 - len(numbers)):
        if place == 0 and len(number) == 4:
            new = int(number) - 3 + draw.below(7)
        elif place == 0:
            new = max(int(number) - 3 + draw.below(7), 1)
        else:
            new = 1 + draw.below((12, 28)[place - 1])
        made.append(str(new).zfill(len(number)) if number.startswith("0") else str(new))
    if made == numbers:
        made[-1] = str(int(made[-1]) % 28 + 1)
    new_numbers = iter(made)

    def wide(match: re.Match[str]) -> str:
        digits = next(new_numbers)
        return digits if match[0] < "\x7f" else digits.translate(_WIDE)

    return re.sub("[0-9０-９]+", wide, original)


def _address(original: str, plain: str, draw: _Draw) -> str:
    found = ADDRESS.search(fold(original).text)
    kept = "" if found is None else f"{found['prefecture'] or ''}{found['city']}"
    town = FAKE_TOWNS[draw.below(len(FAKE_TOWNS))]
    return f"{kept}{town}{1 + draw.below(9)}-{1 + draw.below(30)}-{1 + draw.below(20)}"


def _passport(original: str, plain: str, draw: _Draw) -> str:
    wide = not original.isascii()
    refilled = _refilled(original, _drawn_digits(draw, len(digits_of(plain))))
    return ("ＺＺ" if wide else "ZZ") + refilled[2:]


def _account(original: str, plain: str, draw: _Draw) -> str:
    count = len(digits_of(plain))
    return _refilled(original, "0" * (count - 3) + _drawn_digits(draw, 3))


_FAKES: dict[str, Callable[[str, str, _Draw], str]] = {
    "email": _email,
    "phone": _phone,
    "postal_code": lambda o, p, d: _refilled(o, "000" + _drawn_digits(d, 4)),
    "my_number": lambda o, p, d: _invalid(o, "", is_my_number, d, p),
    "corporate_number": lambda o, p, d: _invalid(o, "", is_corporate_number, d, p),
    "card": lambda o, p, d: _invalid(o, digits_of(p)[:1], is_card_number, d, p),
    "bank_account": _account,
    "passport": _passport,
    "birth_date": _birth_date,
    "address": _address,
}
