"""A user's own honorific words: a house's titles, a trade's set phrases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from japagen.errors import JapagenError, nearest
from japagen.japanese.morphology import Tagger
from japagen.japanese.normalization import normalize
from japagen.japanese.register_rules import Evidence, Words
from japagen.japanese.registers import KEIGO_ORDER, Keigo


class OwnHonorifics:
    """Finds a user's words in any inflection.

    Args:
        classes: Base form, as one would write it, to its class of keigo.
        tagger: Reads the base forms the way it reads texts, so that entries may be several
            morphemes long.

    Raises:
        JapagenError: If an entry is empty.
    """

    def __init__(self, classes: Mapping[str, Keigo], tagger: Tagger) -> None:
        self._by_first: dict[str, list[tuple[tuple[str, ...], Keigo, str]]] = {}
        for entry, kind in classes.items():
            lemmas = tuple(m.lemma for m in tagger.tokenize(normalize(entry)))
            if not lemmas:
                raise JapagenError(
                    f"Expected an honorific word, found '{entry}', which holds no letters.",
                    "Remove it from the list of honorifics.",
                )
            self._by_first.setdefault(lemmas[0], []).append((lemmas, kind, entry))

    def find(self, words: Words) -> Iterator[Evidence]:
        """Yields the entries that stand in a text, in its order."""
        for i, word in enumerate(words.morphemes):
            for lemmas, kind, entry in self._by_first.get(word.lemma, ()):
                last = i + len(lemmas)
                if tuple(m.lemma for m in words.morphemes[i:last]) == lemmas:
                    yield words.evidence(kind, i, last - 1, f"own: {entry}")


def check_honorifics(classes: object, where: str = "the list of honorifics") -> dict[str, Keigo]:
    """Returns a mapping of words to classes of keigo.

    Args:
        classes: What a user gave.
        where: How to name it in an error.

    Raises:
        JapagenError: If it is no mapping, or a class is none of the four.
    """
    known: dict[str, Keigo] = {name: name for name in KEIGO_ORDER}
    if not isinstance(classes, Mapping):
        raise JapagenError(
            f"Expected {where} to map words to classes, found {type(classes).__name__}.",
            "Write one word a line, for example  玉章: sonkeigo",
        )
    for word, kind in classes.items():
        if kind not in known:
            raise JapagenError(
                f"Expected the class of '{word}' in {where} to be one of {', '.join(known)}, "
                f"found '{kind}'{nearest(str(kind), known)}.",
                "Correct the class, or remove the word.",
            )
    return {str(word): known[kind] for word, kind in classes.items()}


def read_honorifics(path: Path) -> dict[str, Keigo]:
    """Reads a YAML file of words and classes.

    Raises:
        JapagenError: If it cannot be read, or holds something else.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise JapagenError(
            f"Expected a YAML list of honorifics in UTF-8 at '{path}', found: {error}.",
            "Check the path; one word a line, for example  玉章: sonkeigo",
        ) from None
    return check_honorifics(raw if raw is not None else {}, f"'{path}'")
