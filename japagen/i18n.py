"""What japagen says, in the language of the user's locale.

Every text is written in English where it arises, and ``locale/ja/LC_MESSAGES/japagen.po`` has its
Japanese. The catalogue is read as it is: nothing has to be compiled. It is asked in two ways:

- A page has its texts in a YAML file by key, with named places. `page_texts` gives them in a
  language, each under the page's name as its gettext context.
- A message is a finished English sentence, since exceptions, ledgers and tables keep it before
  anybody knows who will read it, and one is often part of another. `localized` finds the msgid,
  whose places are numbered, by the words between the values.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Literal, get_args

from ruamel.yaml import YAML

Language = Literal["ja", "en"]
CATALOGUE = Path(__file__).with_name("locale") / "ja" / "LC_MESSAGES" / "japagen.po"
_LINE = re.compile(r'^(?:(msgctxt|msgid|msgstr) )?(".*")$', re.MULTILINE)


def user_language() -> Language:
    """The language to speak: JAPAGEN_LANG, or else the locale's; English where it is neither."""
    for variable in ("JAPAGEN_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(variable)
        if value:
            return "ja" if value.lower().startswith("ja") else "en"
    return "en"


def take_language(words: list[str]) -> None:
    """Takes ``--lang`` off a command line, wherever it stands: help and errors need it first."""
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--lang":
            value = value if equals else " ".join(words[at + 1 : at + 2])
            taken = words[at : at + (1 if equals else 2)]
            if value:
                del words[at : at + len(taken)]
            if value in get_args(Language):
                os.environ["JAPAGEN_LANG"] = value
            elif value:  # refused where the option is declared, which is before any command
                words[:0] = taken
            return


@cache
def catalogue() -> Mapping[tuple[str, str], str]:
    """The Japanese of every text by its context, empty for messages, and its English."""
    found = {}
    for block in CATALOGUE.read_text(encoding="utf-8").strip().split("\n\n"):
        entry, part = {"msgctxt": ""}, ""
        for keyword, quoted in _LINE.findall(block):
            part = keyword or part
            # Strings of a catalogue are escaped as those of JSON.
            entry[part] = entry.get(part, "") + json.loads(quoted)
        found[entry["msgctxt"], entry["msgid"]] = entry["msgstr"]
    return found


def translated(context: str, text: str, language: Language) -> str:
    """Says a text of a context in a language, its places still open, or in English."""
    return text if language == "en" else catalogue().get((context, text)) or text


@cache
def page_texts(path: Path, language: Language) -> Mapping[str, str]:
    """The texts of a page by key.

    Args:
        path: A YAML file of the English texts; its name without the suffix is their context.
        language: The reader's.
    """
    texts = YAML(typ="safe", pure=True).load(path)
    return {key: translated(path.stem, text, language) for key, text in texts.items()}


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
    return text if (language or user_language()) == "en" else _value(text)


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
    whole = _sentences().get(text)
    if whole is not None:
        return whole
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


def _uncontexted(with_values: bool) -> list[tuple[str, str]]:
    return [
        (english, japanese)
        for (context, english), japanese in catalogue().items()
        if not context
        and english
        and japanese
        and with_values == bool(re.search(r"\{\d\}", english))
    ]


@cache
def _sentences() -> Mapping[str, str]:
    """The messages without values."""
    return {english.format(): japanese.format() for english, japanese in _uncontexted(False)}


@cache
def _messages() -> tuple[_Message, ...]:
    """Those with values, most words of their own first: they say more than others."""
    rows = sorted(_uncontexted(True), key=lambda row: -len(_own(row[0])))
    return tuple(_message(*row) for row in rows)


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
