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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from japagen.japanese.register_features import Key, key_of

LEVELS = (1, 2, 3, 4)
KINDS = ("none", "teineigo", "sonkeigo", "kenjogo")
COLUMNS = (*(f"level{level}" for level in LEVELS), *KINDS)
LENGTH_POWER = 0.25
# Weights are stored as integers, so that the file stays small and readable.
WEIGHT_SCALE = 1000


@dataclass(frozen=True, slots=True)
class KeicoEstimate:
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
        found = cast(list[int], list(rows))
        total = self.weights.take(found, axis=0).sum(axis=0).tolist()
        # Plain floats: numpy's overhead on eight numbers would dominate.
        scale = max(1, len(rows)) ** -LENGTH_POWER
        scores = [t * scale + b for t, b in zip(total, self.bias.tolist(), strict=True)]
        one, two, three, four = levels = _softmax(scores[:4])
        _, _, sonkeigo, kenjogo = _softmax(scores[4:])
        return KeicoEstimate(
            level=LEVELS[levels.index(max(levels))],
            probabilities=(one, two, three, four),
            sonkeigo=sonkeigo,
            kenjogo=kenjogo,
            is_sonkeigo=sonkeigo > self.thresholds[0],
            is_kenjogo=kenjogo > self.thresholds[1],
        )


def _softmax(scores: Sequence[float]) -> list[float]:
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    norm = sum(powers)
    return [power / norm for power in powers]


@cache
def keico_model() -> KeicoModel:
    """Reads the shipped coefficients once a process."""
    source = files("japagen.japanese").joinpath("keico_model.json")
    raw = json.loads(source.read_text(encoding="utf-8"))
    names = list(raw["weights"])
    sonkeigo, kenjogo = raw["thresholds"]
    return KeicoModel(
        index={key_of(name): row for row, name in enumerate(names)},
        weights=np.array([raw["weights"][n] for n in names], dtype=np.float32) / WEIGHT_SCALE,
        bias=np.array(raw["bias"], dtype=np.float64) / WEIGHT_SCALE,
        thresholds=(sonkeigo, kenjogo),
    )
