"""Named features of a text for the linear model of KeiCO's levels and flags.

A feature is a key that is cheap to make and to look up: a lemma as it is, a tuple of three
shapes, or a string with a colon for what the rules found. `name_of` and `key_of` convert between
keys and the names in the file of coefficients. Lemma 2-grams were tried and added nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, combinations
from sys import intern
from typing import get_args

from japagen.japanese.register_rules import Evidence, SentenceStyle, Words
from japagen.japanese.registers import HONOURING, Style

Key = str | tuple[str, str, str]
# Two forms side by side say more than each alone: 尊敬語 beside 謙譲語 is flagged as one of them.
_PAIRED_RULES = 8
_CHAIN = 8
_NAMES_KEPT = 20_000
_ANY = {style: f"any:{style}" for style in get_args(Style)}


def name_of(key: Key) -> str:
    """Returns the name of a key: "l:lemma", "m:shape shape shape", or the key itself."""
    if isinstance(key, tuple):
        return "m:" + " ".join(key)
    return key if ":" in key[1:] else f"l:{key}"


def key_of(name: str) -> Key:
    """Inverse of `name_of`."""
    kind, _, rest = name.partition(":")
    if kind == "m":
        # Shared with the morphemes' own strings, which makes look-ups cheap.
        first, second, third = map(intern, rest.split(" "))
        return first, second, third
    return intern(rest) if kind == "l" else name


def register_features(
    words: Words, evidence: Sequence[Evidence], sentences: Sequence[SentenceStyle]
) -> Iterator[Key]:
    """Yields the features a text has, some of them more than once.

    Lemmas, 3-grams in which open-class words are replaced by their part of speech, the
    inflection of each final predicate, and rules that fired: alone, in pairs, within the final
    predicate or before it, with the last sentence's style, and how many.
    """
    morphemes = words.morphemes
    shapes = ["^", *[m.shape for m in morphemes], "$"]
    return chain(
        [m.lemma for m in morphemes],
        zip(shapes, shapes[1:], shapes[2:], strict=False),
        _rule_features(words, evidence, sentences),
    )


def _rule_features(
    words: Words, evidence: Sequence[Evidence], sentences: Sequence[SentenceStyle]
) -> list[str]:
    # Names are made once and kept: most texts share them, and a kept string keeps its hash.
    names: list[str] = []
    predicates = []
    for _, end, style, predicate in sentences:
        names.append(_ANY[style])
        if predicate is not None:
            predicates.append((predicate, end))
            names += _inflection(words, predicate, end)
    last = sentences[-1].style if sentences else "none"
    counts: dict[str, int] = {}
    rules: set[str] = set()
    honouring = certain = covered = 0
    for kind, start, end, _, rule, sure in evidence:
        counts[kind] = counts.get(kind, 0) + 1
        final = False
        for first, last_end in predicates:
            if first < end <= last_end:
                final = True
        names += _names_of_evidence(kind, rule, sure, last, final)
        if kind != "teineigo":
            rules.add(rule)
        if kind in HONOURING:
            honouring += 1
            certain += sure
            covered += end - start
    if len(rules) > 1:
        names += _names_of_pairs(tuple(sorted(rules)[:_PAIRED_RULES]))
    for name, count in counts.items():
        names += _names_of_count(name, min(count, 4))
    share = covered * 6 // max(1, len(words.text))
    names += _names_of_text(
        last,
        min(len(sentences), 4),
        min(honouring, 5),
        min(certain, 4),
        share,
        min(8, len(words) // 3),
    )
    return names


def _inflection(words: Words, predicate: int, end: int) -> tuple[str, ...]:
    """Returns the head of a predicate and what follows it: 〜て いただけ ます か."""
    first = bisect_left(words.starts, predicate)
    last = min(bisect_left(words.starts, end), first + _CHAIN)
    return _names_of_inflection(
        tuple([m.shape for m in words.morphemes[first:last] if m.pos1 != "補助記号"])
    )


@lru_cache(_NAMES_KEPT)
def _names_of_inflection(shapes: tuple[str, ...]) -> tuple[str, ...]:
    head, *rest = shapes
    inflection = " ".join(rest)
    return f"head:{head}", f"inflection:{inflection}", f"predicate:{head} {inflection}"


@lru_cache(_NAMES_KEPT)
def _names_of_evidence(
    kind: str, rule: str, certain: bool, last: str, final: bool
) -> tuple[str, ...]:
    names = [f"rule:{kind}:{rule}:{int(certain)}", f"kind:{kind}:{int(certain)}"]
    if kind in HONOURING:
        names.append(f"rule+style:{rule}|{last}")
    if kind in HONOURING or kind == "teineigo":
        place = "final" if final else "before"
        names += [f"{place}:{kind}:{rule}", f"{place}:{kind}:{int(certain)}"]
    return tuple(names)


@lru_cache(_NAMES_KEPT)
def _names_of_pairs(rules: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"pair:{a}&{b}" for a, b in combinations(rules, 2))


@lru_cache(_NAMES_KEPT)
def _names_of_count(kind: str, count: int) -> tuple[str, ...]:
    return tuple(f"count:{kind}>={n}" for n in range(1, count + 1))


@lru_cache(_NAMES_KEPT)
def _names_of_text(
    last: str, sentences: int, honouring: int, certain: int, covered: int, words: int
) -> tuple[str, ...]:
    several = min(honouring, 4)
    return (
        f"style:{last}",
        f"sentences:{sentences}",
        *_names_of_count("honouring", honouring),
        f"honouring+style:{several}|{last}",
        f"certain+style:{certain}|{last}",
        f"honouring+certain:{several}|{certain}",
        f"covered:{covered}",
        f"words:{words}",
    )
