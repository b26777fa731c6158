"""The measures of diversity, each of one set of texts.

All but the dispersion depend on how much text there is: compare sets of one size only, as
`japagen.diversity.comparison` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from math import exp, log

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Tokens = Sequence[Sequence[str]]
_BLEU_ORDER = 4
# Where the curve of the vocabulary is read: the share of all tokens.
CURVE = tuple(float(x) for x in np.geomspace(1 / 32, 1, 11))


def distinct_share(texts: Tokens, n: int) -> float:
    """Share of the n-grams that are different ones, distinct-n, 0 to 1.

    Li et al. 2016, A Diversity-Promoting Objective Function for Neural Conversation Models.
    N-grams do not cross from one text into the next; 0 where there is none.
    """
    grams = [gram for text in texts for gram in _grams(text, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def self_bleu(texts: Tokens) -> float:
    """Mean BLEU-4 of each text against all others, 0 to 100: 100 where all are alike.

    Zhu et al. 2018, Texygen. BLEU is sacrebleu's of a sentence, with exponential smoothing and,
    for texts of fewer than four tokens, the orders that they have. A reference counts an n-gram
    as often as the text that has it most, so with the two largest counts over all texts each
    text's references are known without going through the others: linear in the number of texts,
    where a library that is given the references is quadratic.

    0 where there are fewer than two texts.
    """
    counted = [
        [Counter(_grams(text, n)) for n in range(1, _BLEU_ORDER + 1)] for text in texts if len(text)
    ]
    if len(counted) < 2:
        return 0.0
    most = [_two_largest([orders[n] for orders in counted]) for n in range(_BLEU_ORDER)]
    lengths = Counter(len(text) for text in texts if len(text))
    scores = [
        _bleu(orders, most, _nearest_length(len(text), lengths))
        for orders, text in zip(counted, (t for t in texts if len(t)), strict=True)
    ]
    return float(np.mean(scores))


def heaps_exponent(tokens: Floats, types: Floats) -> float:
    """Exponent β of Heaps' law, types = K · tokens^β, by least squares on logarithms.

    Herdan 1960; Heaps 1978. 1 where every token is a new word; 0 where there is no new one.

    Args:
        tokens: Shape (points,): tokens read.
        types: Shape (points,): different ones among them.
    """
    seen, distinct = np.log(np.maximum(tokens, 1.0)), np.log(np.maximum(types, 1.0))
    centred = seen - seen.mean()
    spread = float(centred @ centred)
    return float(centred @ distinct) / spread if spread > 0 else 0.0


def vocabulary_curve(texts: Tokens) -> tuple[Floats, Floats]:
    """How many different tokens there are in the first so many, at the shares `CURVE`.

    Returns:
        Tokens and types, each of shape (11,).
    """
    stream = [token for text in texts for token in text]
    points = np.unique(np.maximum(1, np.round(np.array(CURVE) * len(stream)))).astype(np.int64)
    seen: set[str] = set()
    types, start = [], 0
    for point in points.tolist():
        seen.update(stream[start:point])
        types.append(float(len(seen)))
        start = point
    pad = len(CURVE) - len(points)
    tokens = np.concatenate([np.full(pad, float(points[0])), points.astype(np.float64)])
    return tokens, np.array([types[0]] * pad + types)


def dispersion(vectors: npt.ArrayLike) -> float:
    """Mean cosine distance of two different texts, 0 to 2.

    The mean over all pairs i ≠ j of 1 − cos, so its expectation does not depend on how many
    texts there are. NaN with fewer than two texts.

    Args:
        vectors: Shape (n, d), any length.
    """
    given = np.asarray(vectors, dtype=np.float64)
    n = len(given)
    if n < 2:
        return float("nan")
    unit = given / np.maximum(np.linalg.norm(given, axis=1, keepdims=True), 1e-12)
    total = unit.sum(axis=0)
    return 1.0 - float(total @ total - (unit * unit).sum()) / (n * (n - 1))


def effective_topics(clusters: Ints) -> float:
    """Effective number of topics, e to the entropy of the cluster shares; 1 where all are alike.

    The Hill number of order 1 (Hill 1973, Diversity and Evenness).

    Args:
        clusters: Shape (n,): the cluster of each text.
    """
    if not len(clusters):
        return float("nan")
    counts = np.bincount(clusters)
    share = counts[counts > 0] / len(clusters)
    return float(np.exp(-(share * np.log(share)).sum()))


def _grams(text: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(islice(text, i, None) for i in range(n)), strict=False))


def _two_largest(
    counts: Sequence[Counter[tuple[str, ...]]],
) -> dict[tuple[str, ...], tuple[int, int]]:
    """The largest and the second largest count of each n-gram over the texts."""
    most: dict[tuple[str, ...], tuple[int, int]] = {}
    for counter in counts:
        for gram, count in counter.items():
            first, second = most.get(gram, (0, 0))
            most[gram] = (count, first) if count > first else (first, max(second, count))
    return most


def _nearest_length(length: int, lengths: Counter[int]) -> int:
    """The length nearest to ``length`` among the other texts; of two the shorter."""
    others = (n for n, count in lengths.items() if n != length or count > 1)
    return min(others, key=lambda n: (abs(n - length), n))


def _bleu(
    orders: Sequence[Counter[tuple[str, ...]]],
    most: Sequence[dict[tuple[str, ...], tuple[int, int]]],
    reference_length: int,
) -> float:
    """BLEU of one text, by its n-gram counts, against all others."""
    logs, smooth = 0.0, 1.0
    used = [n for n, counts in enumerate(orders) if counts]
    matched_any = False
    for n in used:
        total, matched = 0, 0
        for gram, count in orders[n].items():
            first, second = most[n][gram]
            # Where this text itself holds the largest count, the others hold the second.
            matched += min(count, second if count == first else first)
            total += count
        if matched:
            matched_any = True
            logs += log(matched / total)
        else:
            smooth *= 2
            logs += log(1.0 / (smooth * total))
    if not matched_any:
        return 0.0
    length = sum(orders[0].values())
    brevity = min(0.0, 1.0 - reference_length / length)
    return 100.0 * exp(brevity + logs / len(used))
