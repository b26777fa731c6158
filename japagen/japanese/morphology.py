"""Morphological analysis with MeCab and UniDic-lite; the only module that imports fugashi."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from sys import intern
from typing import Any

from japagen.errors import JapagenError

# Distinct morphemes kept; some 200 MB when full of unknown words.
_CACHE_LIMIT = 400_000
# Morphemes of the last texts, 8 bytes each: registers, naturalness and names ask for the same in
# turn, in a run for all its texts each, so that texts are kept and not only a few of them.
_MOST_HELD = 500_000
# MeCab crashes on lines near a million characters.
_CHUNK = 20_000
_SURROGATE = re.compile("[\ud800-\udfff]")
# MeCab names each morpheme by its surface, the numbers of its connections and its cost, which
# tell apart whatever MeCab itself can: of two entries alike in all of these it always picks the
# same. Features are read once for each name; writing and hashing them for every morpheme would
# take a quarter of the time. The last mark is for words outside the dictionary.
_KNOWN_LINE = r"%m\t%phl,%phr,%pw\n"
_UNKNOWN_LINE = r"%m\t%phl,%phr,%pw?\n"
_POS1, _POS2, _POS3, _POS4 = 0, 1, 2, 3
_CTYPE, _CFORM, _LEMMA, _ORTH_BASE = 4, 5, 7, 10
_CLOSED_CLASSES = frozenset({"助詞", "助動詞", "接頭辞", "接尾辞", "補助記号", "感動詞", "接続詞"})


# Forks between the first process and this one: cheaper to ask than the process's number.
_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


@dataclass(frozen=True, slots=True)
class Morpheme:
    """One morpheme with the UniDic features that japagen uses.

    Attributes:
        surface: As written in the text.
        pos1: Part of speech, such as 動詞; "*" where a level does not apply.
        pos2: Its first subdivision, such as 非自立可能.
        pos3: Its second subdivision.
        ctype: Conjugation type, such as 五段-ラ行 or 助動詞-マス; "*" for none.
        cform: Conjugation form, such as 連用形-一般; "*" for none.
        lemma: UniDic's lemma with its gloss (コンピューター-computer, 為る): match on this.
        orth_base: Base form as the writer would spell it (コンピュータ, する): show this.
        is_unknown: True for words outside the dictionary; their lemma is the surface.
        pos4: Its third subdivision, which tells family names (姓) from given names (名).
        shape: The word's place in a pattern: itself for function words, part of speech and
            form for the rest. Made once here because every text asks for it again.
    """

    surface: str
    pos1: str
    pos2: str
    pos3: str
    ctype: str
    cform: str
    lemma: str
    orth_base: str
    is_unknown: bool
    pos4: str = "*"
    shape: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        closed = self.pos1 in _CLOSED_CLASSES or self.pos2 == "非自立可能"
        shape = self.surface if closed else self.pos1 + self.pos2[:2] + self.cform[:3]
        object.__setattr__(self, "shape", intern(shape))


def _morpheme(surface: str, raw: str, is_unknown: bool) -> Morpheme:
    # Features that hold a comma are quoted, hence csv and not split.
    fields = next(csv.reader([raw])) if raw else []
    fields += ["*"] * (_ORTH_BASE + 1 - len(fields))
    lemma, base = (
        surface if value in ("", "*") else value for value in (fields[_LEMMA], fields[_ORTH_BASE])
    )
    return Morpheme(
        surface=surface,
        pos1=fields[_POS1],
        pos2=fields[_POS2],
        pos3=fields[_POS3],
        ctype=fields[_CTYPE],
        cform=fields[_CFORM],
        lemma=intern(lemma),
        orth_base=base,
        is_unknown=is_unknown,
        pos4=fields[_POS4],
    )


class Tagger:
    """A MeCab tagger that is made on first use, once per process.

    It can be pickled and survives a fork: the copy makes its own MeCab.

    Args:
        user_dictionary: A compiled MeCab user dictionary (``.dic``) added to UniDic-lite.
    """

    def __init__(self, user_dictionary: Path | None = None) -> None:
        self.user_dictionary = user_dictionary
        self._mecab: Any = None
        self._forks = 0
        self._cache: dict[str, Morpheme] = {}
        self._last: dict[str, tuple[Morpheme, ...]] = {}
        self._held = 0

    def __reduce__(self) -> tuple[type[Tagger], tuple[Path | None]]:
        return Tagger, (self.user_dictionary,)

    def tokenize(self, text: str) -> tuple[Morpheme, ...]:
        """Returns the morphemes of ``text`` in order, white space left out.

        A text may span lines. Characters MeCab cannot take (NUL, lone surrogates) are read as
        a space and U+FFFD, one for one, so surfaces can still be found in the text's order.

        Raises:
            JapagenError: If the user dictionary cannot be read.
        """
        if len(text) > _CHUNK:
            return tuple(m for chunk in _chunks(text) for m in self.tokenize(chunk))
        found = self._last.get(text)
        if found is not None:
            return found
        names = self.names(text)
        try:
            found = tuple(map(self._cache.__getitem__, names))
        except KeyError:
            found = self._read_features(_readable(text), names)
        self._held += len(found)
        if self._held > _MOST_HELD:
            self._last.clear()
            self._held = len(found)
        self._last[text] = found
        return found

    def names(self, text: str) -> list[str]:
        """Returns a name for each morpheme of `tokenize`, equal for equal morphemes.

        Cheaper where morphemes are to be counted: features are needed once a name.

        Raises:
            JapagenError: If the user dictionary cannot be read.
        """
        if self._mecab is None or self._forks != _forks:
            self._mecab, self._forks = self._make_mecab(), _forks
        if len(text) > _CHUNK:
            return [name for chunk in _chunks(text) for name in self.names(chunk)]
        if "\0" in text or "\r" in text:
            text = _readable(text)
        try:
            output = self._mecab.parse(text)
        except UnicodeEncodeError:
            output = self._mecab.parse(_readable(text))
        return output.split("\n") if output else []

    def _read_features(self, text: str, names: Sequence[str]) -> tuple[Morpheme, ...]:
        nodes = self._mecab.parseToNodeList(text)
        found = []
        for name, node in zip(names, nodes, strict=True):
            morpheme = self._cache.get(name)
            if morpheme is None:
                if len(self._cache) >= _CACHE_LIMIT:
                    self._cache.clear()
                morpheme = _morpheme(node.surface, node.feature_raw, bool(node.is_unk))
                self._cache[name] = morpheme
            found.append(morpheme)
        return tuple(found)

    @property
    def identity(self) -> str:
        """Dictionary name, version and, if there is one, the user dictionary's hash.

        Store it with features: another dictionary gives other words.
        """
        name = f"unidic-lite {version('unidic-lite')}"
        if self.user_dictionary is None:
            return name
        return f"{name} + {hashlib.sha256(self._user_words()).hexdigest()[:16]}"

    def _user_words(self) -> bytes:
        """Reads the user dictionary; MeCab itself only says that something is wrong."""
        path = self.user_dictionary
        assert path is not None
        try:
            return path.read_bytes()
        except OSError as error:
            raise JapagenError(
                f"Expected a user dictionary at '{path}', found none: {error.strerror}.",
                "Check the path, or leave the user dictionary out.",
            ) from error

    def _make_mecab(self) -> Any:
        import fugashi
        import unidic_lite

        arguments = [
            "-r",
            os.path.join(unidic_lite.DICDIR, "mecabrc"),
            "-d",
            unidic_lite.DICDIR,
            # An empty output type switches off dicrc's own line format.
            "-O",
            "",
            "-F",
            _KNOWN_LINE,
            "-U",
            _UNKNOWN_LINE,
            "-E",
            "",
        ]
        if self.user_dictionary is not None:
            self._user_words()
            arguments += ["-u", str(self.user_dictionary)]
        try:
            return fugashi.GenericTagger(shlex.join(arguments), quiet=True)
        except RuntimeError as error:
            raise JapagenError(
                "Expected a compiled MeCab dictionary in UTF-8, found another kind of file: "
                f"'{self.user_dictionary}'.",
                f"Compile it with: fugashi-build-dict -d '{unidic_lite.DICDIR}' -f utf8 -t utf8 "
                "-u user.dic words.csv",
            ) from error


def _readable(text: str) -> str:
    """Replaces what MeCab cannot take, one character for one."""
    return _SURROGATE.sub("\ufffd", text.replace("\0", " ").replace("\r", " "))


def _chunks(text: str) -> Iterator[str]:
    """Cuts a long text, after a sentence where there is one."""
    start = 0
    while start < len(text):
        end = start + _CHUNK
        if end < len(text):
            cut = max(text.rfind(mark, start, end) for mark in "。\n")
            end = cut + 1 if cut >= 0 else end
        yield text[start:end]
        start = end


@cache
def default_tagger() -> Tagger:
    """Returns the process-wide tagger without a user dictionary."""
    return Tagger()


def tokenize(text: str) -> tuple[Morpheme, ...]:
    """Returns the morphemes of ``text`` with the default tagger; see `Tagger.tokenize`."""
    return default_tagger().tokenize(text)
