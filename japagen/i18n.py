"""What japagen says, in the language of the user's locale.

Messages are written in English where they arise, and stay English in exceptions. The command line
says them in Japanese to whoever works in Japanese: ``messages_ja.yaml`` has each message's
template in both languages, and what was put into the English one goes into the Japanese one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Literal

from ruamel.yaml import YAML

Language = Literal["ja", "en"]


def user_language() -> Language:
    """The language to speak: JAPAGEN_LANG, or else the locale's; English where it is neither."""
    for variable in ("JAPAGEN_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(variable)
        if value:
            return "ja" if value.lower().startswith("ja") else "en"
    return "en"


def localized(text: str, language: Language | None = None) -> str:
    """Says a message in a language.

    >>> localized("There is no file at gold.csv.", "ja")
    'gold.csv というファイルはありません。'

    Args:
        text: An English message with its values filled in.
        language: The user's when None.

    Returns:
        The message in that language, or as it is where it has no other.
    """
    return text if (language or user_language()) == "en" else _japanese(text) or text


@dataclass(frozen=True)
class _Message:
    """A message in both languages.

    Attributes:
        pattern: Matches the English message and catches its values.
        quoted: For each value whether it stands in quotes: then it is the user's own.
        japanese: What the values go into.
    """

    pattern: re.Pattern[str]
    quoted: tuple[bool, ...]
    japanese: str


def _japanese(text: str) -> str | None:
    for message in _messages():
        found = message.pattern.fullmatch(text)
        if found:
            values = zip(found.groups(), message.quoted, strict=True)
            return message.japanese.format(*(v if own else _value(v) for v, own in values))
    return None


def _value(text: str) -> str:
    """A value, which may hold messages itself, one per line."""
    whole = _japanese(text)
    return whole or "\n".join(_japanese(line) or line for line in text.split("\n"))


@cache
def _messages() -> tuple[_Message, ...]:
    """Every message, those with most of their own words first: they say more than others."""
    path = Path(__file__).with_name("messages_ja.yaml")
    rows = YAML(typ="safe", pure=True).load(path)
    return tuple(
        _message(row["en"], row["ja"]) for row in sorted(rows, key=lambda r: -len(_own(r["en"])))
    )


def _own(template: str) -> str:
    return "".join(literal for literal, *_ in Formatter().parse(template))


def _message(english: str, japanese: str) -> _Message:
    parts = list(Formatter().parse(english))
    pattern, quoted = "", []
    for at, (literal, name, *_) in enumerate(parts):
        pattern += re.escape(literal)
        if name is not None:
            after = parts[at + 1][0] if at + 1 < len(parts) else ""
            quoted.append(literal.endswith("'") and after.startswith("'"))
            # Right behind another value stands an aside, or nothing.
            beside = not literal and at > 0 and parts[at - 1][1] is not None
            pattern += r"((?: (?:\(|or |and ).*)?)" if beside else "(.*?)"
    # A value spans lines only where its message does.
    flags = re.DOTALL if "\n" in english else 0
    return _Message(re.compile(pattern, flags), tuple(quoted), japanese)
