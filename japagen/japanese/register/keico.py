"""The KeiCO model of register: its features and coefficients.

A feature is a key that is cheap to make and to look up: a lemma as it is, a tuple of three
shapes, or a string with a colon for what the rules found. `name_of` and `key_of` convert between
keys and the names in the file of coefficients. Lemma 2-grams were tried and added nothing.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import chain, combinations
from sys import intern
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from japagen.japanese.register.rules import Evidence, SentenceStyle, Words
from japagen.japanese.registers import HONOURING

Key = str | tuple[str, str, str]
# Two forms side by side say more than each alone: 尊敬語 beside 謙譲語 is flagged as one of them.
_PAIRED_RULES = 8
_CHAIN = 8
_PLACED = HONOURING | {"teineigo", "gozaru"}


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
) -> Iterator[str]:
    predicates = [(s.predicate, s.end) for s in sentences if s.predicate is not None]
    for sentence in sentences:
        yield f"any:{sentence.style}"
    for start, end in predicates:
        yield from _inflection(words, start, end)
    last = sentences[-1].style if sentences else "none"
    for item in evidence:
        kind, rule, certain = item.kind, item.rule, int(item.certain)
        yield f"rule:{kind}:{rule}:{certain}"
        yield f"kind:{kind}:{certain}"
        if kind in HONOURING:
            yield f"rule+style:{rule}|{last}"
        if kind in _PLACED:
            final = any(start < item.end <= end for start, end in predicates)
            place = "final" if final else "before"
            yield f"{place}:{kind}:{rule}"
            yield f"{place}:{kind}:{certain}"
    rules = sorted({e.rule for e in evidence if e.kind != "teineigo"})[:_PAIRED_RULES]
    yield from (f"pair:{a}&{b}" for a, b in combinations(rules, 2))
    for kind, count in Counter(e.kind for e in evidence).items():
        yield from (f"count:{kind}>={n}" for n in range(1, min(count, 4) + 1))
    honours = [e for e in evidence if e.kind in HONOURING]
    several, certain = min(len(honours), 4), min(sum(e.certain for e in honours), 4)
    yield from (f"count:honouring>={n}" for n in range(1, min(len(honours), 5) + 1))
    yield f"style:{last}"
    yield f"sentences:{min(len(sentences), 4)}"
    yield f"honouring+style:{several}|{last}"
    yield f"certain+style:{certain}|{last}"
    yield f"honouring+certain:{several}|{certain}"
    yield f"covered:{sum(e.end - e.start for e in honours) * 6 // max(1, len(words.text))}"
    yield f"words:{min(8, len(words) // 3)}"


def _inflection(words: Words, predicate: int, end: int) -> tuple[str, ...]:
    """Returns the head of a predicate and what follows it: 〜て いただけ ます か."""
    first = bisect_left(words.starts, predicate)
    last = min(bisect_left(words.starts, end), first + _CHAIN)
    head, *rest = [m.shape for m in words.morphemes[first:last] if m.pos1 != "補助記号"]
    inflection = " ".join(rest)
    return f"head:{head}", f"inflection:{inflection}", f"predicate:{head} {inflection}"


# KeiCO's politeness level and flags from a linear model over morphemes and found forms.
#
# The coefficients in ``keico_model.json`` were fitted by ``benchmarks/register.py --fit`` to the
# KeiCO corpus (Liu & Kobayashi 2022, CC BY 4.0) and hold weights of lemmas, parts of speech and
# rule names, no sentences. A text's score for a class is the sum of the weights of its features
# over the fourth root of their number, so that long texts are not polite by length alone.
#
# KeiCO flags nearly every sentence as one kind: 尊敬語, 謙譲語, 丁寧語 or none, whatever other
# forms it holds. So the flags come from one regression over those four, and two never compete.

LEVELS = (1, 2, 3, 4)
KINDS = ("none", "teineigo", "sonkeigo", "kenjogo")
_SONKEIGO, _KENJOGO = KINDS.index("sonkeigo"), KINDS.index("kenjogo")
COLUMNS = (*(f"level{level}" for level in LEVELS), *KINDS)
LENGTH_POWER = 0.25
# Weights are stored as integers, so that the file stays small and readable.
WEIGHT_SCALE = 1000


class KeicoEstimate(NamedTuple):
    """What KeiCO's annotators would most likely say of a text.

    Attributes:
        level: 1 (most honorific) to 4 (casual).
        probabilities: Of the levels 1 to 4; they sum to 1.
        sonkeigo: Probability of the 尊敬語 flag.
        kenjogo: Probability of the 謙譲語 flag.
        is_sonkeigo: Whether to set the 尊敬語 flag.
        is_kenjogo: Whether to set the 謙譲語 flag.
    """

    level: int
    probabilities: tuple[float, float, float, float]
    sonkeigo: float
    kenjogo: float
    is_sonkeigo: bool
    is_kenjogo: bool


@dataclass(frozen=True, eq=False)
class KeicoModel:
    """Linear scores of the columns in `COLUMNS`.

    Attributes:
        index: Row of each feature in `weights`.
        weights: Shape (features, 8).
        bias: Shape (8,).
        thresholds: Probabilities above which 尊敬語 and 謙譲語 are flagged.
    """

    index: dict[Key, int]
    weights: npt.NDArray[np.floating[Any]]
    bias: npt.NDArray[np.float64]
    thresholds: tuple[float, float] = (0.5, 0.5)

    def estimate(self, features: Iterable[Key]) -> KeicoEstimate:
        """Scores one text's features; unknown and repeated ones count for nothing."""
        return self.estimate_all([features])[0]

    def estimate_all(self, texts: Iterable[Iterable[Key]]) -> list[KeicoEstimate]:
        """Scores the features of many texts, which costs less a text than one at a time."""
        rows: list[int] = []
        counts: list[int] = []
        get = self.index.get
        for features in texts:
            found: set[int | None] = set(map(get, features))
            found.discard(None)
            rows.extend(cast(set[int], found))
            counts.append(len(found))
        if not counts:
            return []
        scores = self._sums(rows, counts) + self.bias
        levels, kinds = _softmax(scores[:, : len(LEVELS)]), _softmax(scores[:, len(LEVELS) :])
        best = levels.argmax(axis=1).tolist()
        sonkeigo, kenjogo = kinds[:, _SONKEIGO], kinds[:, _KENJOGO]
        columns = (
            sonkeigo.tolist(),
            kenjogo.tolist(),
            (sonkeigo > self.thresholds[0]).tolist(),
            (kenjogo > self.thresholds[1]).tolist(),
        )
        return [
            KeicoEstimate(LEVELS[level], tuple(shares), *flags)
            for level, shares, *flags in zip(best, levels.tolist(), *columns, strict=True)
        ]

    def _sums(self, rows: list[int], counts: list[int]) -> npt.NDArray[np.float64]:
        """Returns the sum of each text's weights over the fourth root of their number."""
        # The extra row keeps every start inside; texts without features are put right below.
        weights = np.zeros((len(rows) + 1, len(COLUMNS)))
        if rows:
            self.weights.take(rows, axis=0, out=weights[:-1], mode="clip")
        number = np.array(counts)
        starts = np.cumsum(number) - number
        sums = np.add.reduceat(weights, starts, axis=0)
        sums[number == 0] = 0
        scaled: npt.NDArray[np.float64] = sums * (np.maximum(number, 1) ** -LENGTH_POWER)[:, None]
        return scaled


def _softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


@cache
def keico_model() -> KeicoModel:
    """Reads the shipped coefficients once a process."""
    source = files("japagen.japanese.register").joinpath("keico_model.json")
    raw = json.loads(source.read_text(encoding="utf-8"))
    names = list(raw["weights"])
    sonkeigo, kenjogo = raw["thresholds"]
    return KeicoModel(
        index={key_of(name): row for row, name in enumerate(names)},
        weights=np.array([raw["weights"][n] for n in names], dtype=np.float64) / WEIGHT_SCALE,
        bias=np.array(raw["bias"], dtype=np.float64) / WEIGHT_SCALE,
        thresholds=(sonkeigo, kenjogo),
    )
