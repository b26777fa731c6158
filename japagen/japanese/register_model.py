"""KeiCO's politeness level and flags from a linear model over morphemes and found forms.

The coefficients in ``keico_model.json`` were fitted by ``benchmarks/register.py --fit`` to the
KeiCO corpus (Liu & Kobayashi 2022, CC BY 4.0) and hold weights of lemmas, parts of speech and
rule names, no sentences. A text's score for a class is the sum of the weights of its features
over the fourth root of their number, so that long texts are not polite by length alone.

KeiCO flags nearly every sentence as one kind: 尊敬語, 謙譲語, 丁寧語 or none, whatever other
forms it holds. So the flags come from one regression over those four, and two never compete.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from japagen.japanese.register_features import Key, key_of

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
        rows: set[int | None] = set(map(self.index.get, features))
        rows.discard(None)
        total = self.weights.take(cast(list[int], list(rows)), axis=0).sum(axis=0).tolist()
        # Plain floats: numpy's overhead on eight numbers would dominate.
        scale = max(1, len(rows)) ** -LENGTH_POWER
        scores = [t * scale + b for t, b in zip(total, self.bias.tolist(), strict=True)]
        levels, kinds = _softmax(scores[: len(LEVELS)]), _softmax(scores[len(LEVELS) :])
        sonkeigo, kenjogo = kinds[_SONKEIGO], kinds[_KENJOGO]
        return KeicoEstimate(
            LEVELS[levels.index(max(levels))],
            (levels[0], levels[1], levels[2], levels[3]),
            sonkeigo,
            kenjogo,
            sonkeigo > self.thresholds[0],
            kenjogo > self.thresholds[1],
        )

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
        levels, kinds = _softmaxes(scores[:, : len(LEVELS)]), _softmaxes(scores[:, len(LEVELS) :])
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


def _softmax(scores: list[float]) -> list[float]:
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    norm = sum(powers)
    return [power / norm for power in powers]


def _softmaxes(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


@cache
def keico_model() -> KeicoModel:
    """Reads the shipped coefficients once a process."""
    source = files("japagen.japanese").joinpath("keico_model.json")
    raw = json.loads(source.read_text(encoding="utf-8"))
    names = list(raw["weights"])
    sonkeigo, kenjogo = raw["thresholds"]
    return KeicoModel(
        index={key_of(name): row for row, name in enumerate(names)},
        weights=np.array([raw["weights"][n] for n in names], dtype=np.float64) / WEIGHT_SCALE,
        bias=np.array(raw["bias"], dtype=np.float64) / WEIGHT_SCALE,
        thresholds=(sonkeigo, kenjogo),
    )
