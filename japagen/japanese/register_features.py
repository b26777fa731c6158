"""Named features of a text for the linear model of KeiCO's levels and flags.

A feature is a key that is cheap to make and to look up: a lemma as it is, a tuple of three
shapes, or a string with a colon for what the rules found. `name_of` and `key_of` convert between
keys and the names in the file of coefficients. Lemma 2-grams were tried and added nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, combinations
from sys import intern

from japagen.japanese.register_rules import Evidence, SentenceStyle, Words
from japagen.japanese.registers import HONOURING

Key = str | tuple[str, str, str]
# Two forms side by side say more than each alone: 尊敬語 beside 謙譲語 is flagged as one of them.
_PAIRED_RULES = 8
_CHAIN = 8
_NAMES_KEPT = 20_000


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
        _inflections(words, sentences),
        _rule_features(words, evidence, sentences),
    )


def _inflections(words: Words, sentences: Sequence[SentenceStyle]) -> Iterator[str]:
    """Yields the head of each final predicate and what follows it: 〜て いただけ ます か."""
    for sentence in sentences:
        if sentence.predicate is not None:
            first = bisect_left(words.starts, sentence.predicate)
            last = min(bisect_left(words.starts, sentence.end), first + _CHAIN)
            head, *rest = [m.shape for m in words.morphemes[first:last] if m.pos1 != "補助記号"]
            inflection = " ".join(rest)
            yield f"head:{head}"
            yield f"inflection:{inflection}"
            yield f"predicate:{head} {inflection}"


def _rule_features(
    words: Words, evidence: Sequence[Evidence], sentences: Sequence[SentenceStyle]
) -> Iterator[str]:
    last = sentences[-1].style if sentences else "none"
    yield f"style:{last}"
    yield f"sentences:{min(len(sentences), 4)}"
    for seen in {s.style for s in sentences}:
        yield f"any:{seen}"
    counts: Counter[str] = Counter()
    rules: dict[str, None] = {}
    honouring = certain = covered = 0
    predicates = [(s.predicate, s.end) for s in sentences if s.predicate is not None]
    for kind, start, end, _, rule, sure in evidence:
        counts[kind] += 1
        final = any(first < end <= last_end for first, last_end in predicates)
        yield from _names_of_evidence(kind, rule, sure, last, final)
        if kind != "teineigo":
            rules[rule] = None
        if kind in HONOURING:
            honouring += 1
            certain += sure
            covered += end - start
    if len(rules) > 1:
        for a, b in combinations(sorted(rules)[:_PAIRED_RULES], 2):
            yield f"pair:{a}&{b}"
    for name, count in counts.items():
        yield from _names_of_count(name, min(count, 4))
    yield from _names_of_count("honouring", min(honouring, 5))
    yield f"honouring+style:{min(honouring, 4)}|{last}"
    yield f"certain+style:{min(certain, 4)}|{last}"
    yield f"honouring+certain:{min(honouring, 4)}|{min(certain, 4)}"
    yield f"covered:{covered * 6 // max(1, len(words.text))}"
    yield f"words:{min(8, len(words) // 3)}"


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
def _names_of_count(kind: str, count: int) -> tuple[str, ...]:
    return tuple(f"count:{kind}>={n}" for n in range(1, count + 1))
