"""KeiCO's politeness level and flags from a linear model over morphemes and found forms.

The coefficients in ``keico_model.json`` were fitted by ``benchmarks/register.py --fit`` to the
KeiCO corpus (Liu & Kobayashi 2022, CC BY 4.0) and hold weights of lemmas, parts of speech and
rule names, no sentences. A text's score for a class is the sum of the weights of its features
over the fourth root of their number, so that long texts are not polite by length alone.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from japagen.japanese.register_rules import Evidence, Words
from japagen.japanese.registers import HONOURING, Style

LEVELS = (1, 2, 3, 4)
COLUMNS = ("level1", "level2", "level3", "level4", "sonkeigo", "kenjogo")
LENGTH_POWER = 0.25
# Weights are stored as integers, so that the file stays small and readable.
WEIGHT_SCALE = 1000
_CLOSED_CLASSES = frozenset({"助詞", "助動詞", "接頭辞", "接尾辞", "補助記号", "感動詞", "接続詞"})


@dataclass(frozen=True, slots=True)
class KeicoEstimate:
    """What KeiCO's annotators would most likely say of a text.

    Attributes:
        level: 1 (most honorific) to 4 (casual).
        probabilities: Of the levels 1 to 4; they sum to 1.
        sonkeigo: Probability of the 尊敬語 flag.
        kenjogo: Probability of the 謙譲語 flag.
    """

    level: int
    probabilities: tuple[float, float, float, float]
    sonkeigo: float
    kenjogo: float


@dataclass(frozen=True, eq=False)
class KeicoModel:
    """Linear scores of the columns in `COLUMNS`.

    Attributes:
        index: Row of each feature in `weights`.
        weights: Shape (features, 6).
        bias: Shape (6,).
    """

    index: dict[str, int]
    weights: npt.NDArray[np.floating[Any]]
    bias: npt.NDArray[np.float64]

    def estimate(self, features: set[str]) -> KeicoEstimate:
        """Scores one text's features; unknown features count for nothing."""
        # Plain floats: numpy's overhead on six numbers would dominate.
        row_of = self.index.get
        rows = [row for row in map(row_of, features) if row is not None]
        total = self.weights.take(rows, axis=0).sum(axis=0).tolist()
        scale = max(1, len(rows)) ** -LENGTH_POWER
        scores = [t * scale + b for t, b in zip(total, self.bias.tolist(), strict=True)]
        highest = max(scores[:4])
        one, two, three, four = (math.exp(score - highest) for score in scores[:4])
        norm = one + two + three + four
        return KeicoEstimate(
            level=LEVELS[scores.index(highest, 0, 4)],
            probabilities=(one / norm, two / norm, three / norm, four / norm),
            sonkeigo=_sigmoid(scores[4]),
            kenjogo=_sigmoid(scores[5]),
        )


def _sigmoid(score: float) -> float:
    return 0.5 * (1 + math.tanh(score / 2))


def is_flagged(found: bool, probability: float) -> bool:
    """Whether to set a KeiCO flag, given that the rules ``found`` such a form.

    A form that is certainly there needs less of the model's support than none: annotators
    leave some out, above all 謙譲語 in sentences that also hold 尊敬語.
    """
    return probability > (0.3 if found else 0.5)


@cache
def keico_model() -> KeicoModel:
    """Reads the shipped coefficients once a process."""
    source = files("japagen.japanese").joinpath("keico_model.json")
    raw = json.loads(source.read_text(encoding="utf-8"))
    names = list(raw["weights"])
    return KeicoModel(
        index={name: row for row, name in enumerate(names)},
        weights=np.array([raw["weights"][n] for n in names], dtype=np.float32) / WEIGHT_SCALE,
        bias=np.array(raw["bias"], dtype=np.float64) / WEIGHT_SCALE,
    )


def register_features(
    words: Words, evidence: Sequence[Evidence], styles: Sequence[Style]
) -> set[str]:
    """Returns the names of the features a text has.

    Lemma 1- and 2-grams ("l:"), 3-grams in which open-class words are replaced by their part
    of speech ("m:"), rules that fired, how many, and both with the last sentence's style.
    """
    lemmas, shapes = ["^"], ["^"]
    for word in words.morphemes:
        lemmas.append(word.lemma)
        closed = word.pos1 in _CLOSED_CLASSES or word.pos2 == "非自立可能"
        shapes.append(word.surface if closed else word.pos1 + word.pos2[:2] + word.cform[:3])
    lemmas.append("$")
    shapes.append("$")
    found = {f"l:{a}" for a in lemmas}
    found.update(f"l:{a} {b}" for a, b in pairwise(lemmas))
    found.update(f"m:{a} {b} {c}" for a, b, c in zip(shapes, shapes[1:], shapes[2:], strict=False))
    found |= _rule_features(words, evidence, styles)
    return found


def _rule_features(words: Words, evidence: Sequence[Evidence], styles: Sequence[Style]) -> set[str]:
    last = styles[-1] if styles else "none"
    found = {f"style:{last}", f"sentences:{min(len(styles), 4)}"}
    found.update(f"any:{style}" for style in styles)
    counts: Counter[str] = Counter()
    honouring = certain = covered = 0
    for item in evidence:
        counts[item.kind] += 1
        found.add(f"rule:{item.kind}:{item.rule}:{int(item.certain)}")
        found.add(f"kind:{item.kind}:{int(item.certain)}")
        if item.kind in HONOURING:
            honouring += 1
            certain += item.certain
            covered += item.end - item.start
            found.add(f"rule+style:{item.rule}|{last}")
    for kind, count in counts.items():
        found.update(f"count:{kind}>={n}" for n in range(1, min(count, 4) + 1))
    found.update(f"count:honouring>={n}" for n in range(1, min(honouring, 5) + 1))
    found.add(f"honouring+style:{min(honouring, 4)}|{last}")
    found.add(f"certain+style:{min(certain, 4)}|{last}")
    found.add(f"honouring+certain:{min(honouring, 4)}|{min(certain, 4)}")
    found.add(f"covered:{covered * 6 // max(1, len(words.text))}")
    found.add(f"words:{min(8, len(words) // 3)}")
    return found
