"""One normalisation for every feature, so that both sides of a comparison agree."""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from functools import cache, lru_cache
from importlib.resources import files

# Controls other than white space, format characters (zero-width ones, direction marks, byte
# order mark, tags), lone surrogates and variation selectors: none of them is read aloud, and
# each makes a dictionary look-up fail.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]+"
)
_SPACES = re.compile(r"\s+")
_LETTERS = re.compile(r"[^\W\d_]+")
_JAPANESE = re.compile(
    "[\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9d"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)


@lru_cache(1024)  # Every filter asks for the same text.
def normalize(text: str) -> str:
    """Returns ``text`` in the form that every feature is computed on.

    Unicode NFKC (half-width katakana becomes full-width, full-width Latin half-width), one
    wave dash, no control or zero-width characters, single spaces. Applying it twice changes
    nothing. Line breaks become spaces; lone surrogates are dropped.

    >>> normalize("ｺﾝﾋﾟｭｰﾀ　１０～２０台")
    'コンピュータ 10〜20台'
    """
    # Left to itself NFKC would turn one wave dash into an ASCII tilde and leave the other.
    composed = unicodedata.normalize("NFKC", visible(text).replace("\uff5e", "\u301c"))
    return _SPACES.sub(" ", composed).strip()


def visible(text: str) -> str:
    """Returns ``text`` without control, zero-width and other characters that nobody sees."""
    return _INVISIBLE.sub("", text)


def japanese_share(text: str) -> float:
    """Returns the share of kana and kanji among the letters of ``text``, from 0 to 1.

    Digits, punctuation, symbols and spaces are not letters; a text without letters has 0.0.
    """
    letters = "".join(_LETTERS.findall(text))
    return len("".join(_JAPANESE.findall(letters))) / len(letters) if letters else 0.0


@cache
def is_encodable(character: str) -> bool:
    """Whether JIS X 0213 or code page 932 has a character."""
    for encoding in ("cp932", "euc_jis_2004"):
        with suppress(UnicodeEncodeError):
            character.encode(encoding)
            return True
    return False


@cache
def word_lists(package: str) -> dict[str, frozenset[str]]:
    """Reads ``words.txt`` of a package: a name and a colon, then words, on one line or several."""
    lists: dict[str, list[str]] = {}
    words: list[str] = []
    for line in files(package).joinpath("words.txt").read_text("utf-8").split("\n"):
        if line and not line.startswith(("#", " ")):
            name, _, line = line.partition(":")
            words = lists.setdefault(name, [])
        if not line.startswith("#"):
            words += line.split()
    return {name: frozenset(listed) for name, listed in lists.items()}
