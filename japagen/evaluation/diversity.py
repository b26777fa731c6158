"""Diversity of synthetic texts next to gold's and from round to round.

Most measures of diversity move with the amount of text, so every set is measured on random parts
of one size, half of the smallest set (rarefaction, Hurlbert 1971). The parts are drawn without
replacement: a bootstrap draws texts twice, and repeated texts are just what is to be measured.
The spread of the parts, scaled by their size, gives the standard error (the delete-d jackknife,
Shao & Wu 1989).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import exp, log
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from japagen.data.dataset import Dataset
from japagen.data.labels import Floats, Ints
from japagen.data.scores import Interval
from japagen.data.summary import Alarm, Diversity, DiversityComparison, DiversityGroup
from japagen.japanese.morphology import Tagger

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
    unit = _unit(np.asarray(vectors, dtype=np.float64))
    n = len(unit)
    if n < 2:
        return float("nan")
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
    return float(np.exp(stats.entropy(np.bincount(clusters))))


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


MEASURES = (
    "distinct_1",
    "distinct_2",
    "distinct_3",
    "self_bleu",
    "heaps_exponent",
    "dispersion",
    "topics",
)
# Fewer texts than this in a set are measured, but raise no alarm.
MIN_TEXTS = 16
# An alarm about gold takes more than chance: this much of gold's diversity must be missing.
GOLD_MARGIN = 0.1
_LEVEL = 0.05
_DRAWS = 40
# Beyond these the figures settle, and only time is lost.
_MAX_TEXTS, _MAX_BLEU_TEXTS, _MAX_TOKENS = 500, 150, 20_000
_MAX_TOPICS = 20


def measure_diversity(
    synthetic: Dataset,
    gold: Dataset | None,
    tagger: Tagger,
    vectors: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    seed: int = 0,
) -> Diversity | None:
    """Measures the kept synthetic texts, unweighted, against gold and between rounds.

    A round raises an alarm where a measure falls below the first round's by more than chance,
    at a level of 5% over all measures and rounds together (Bonferroni). Synthetic as a whole
    raises one where, at the same level, it lacks more than a tenth of gold's diversity.

    Args:
        synthetic: Rejected rows are left out; `Example.round` says which round wrote each, and
            `Example.source` who did.
        gold: Real texts of the same kind; None or empty for none.
        tagger: Gives the tokens.
        vectors: Frozen encoder vectors of ``synthetic`` (n, d) and ``gold`` (m, d), in the
            order of the rows; None leaves dispersion and topics out.
        seed: Draws the parts and starts the clusters.

    Returns:
        None with fewer than four kept texts. The order of rows changes nothing.
    """
    kept = np.flatnonzero(synthetic.kept_mask)
    if len(kept) < 4:
        return None
    kept = kept[np.argsort(np.array(synthetic.column("id"))[kept], kind="stable")]
    ours = _Texts.of(synthetic, kept, tagger, None if vectors is None else vectors[0])
    sets = {"synthetic": ours}
    if gold is not None and len(gold) >= 4:
        every = np.argsort(np.array(gold.column("id")), kind="stable")
        sets["gold"] = _Texts.of(gold, every, tagger, None if vectors is None else vectors[1])
    against_gold = _compare(sets, seed)
    rounds, sources = (np.array(synthetic.column(name))[kept] for name in ("round", "source"))
    # Texts of a source without rounds belong to none.
    several = [name for name in set(sources.tolist()) if len(set(rounds[sources == name])) > 1]
    looped = np.where(np.isin(sources, several), rounds.astype(np.str_), "")
    between, writers = (
        _compare(parts, seed) if len(parts := _parts(ours, names)) > 1 else None
        for names in (looped, sources)
    )
    return Diversity(against_gold, between, writers, _alarms(against_gold, between))


def _parts(texts: _Texts, names: npt.NDArray[np.str_]) -> dict[str, _Texts]:
    """The parts of enough texts that each name's make, shorter names first; "" is none."""
    parts = {
        name: texts.take(np.flatnonzero(names == name))
        for name in sorted(set(names.tolist()) - {""}, key=lambda name: (len(name), name))
    }
    return {name: part for name, part in parts.items() if len(part) >= MIN_TEXTS}


@dataclass(frozen=True)
class _Texts:
    """Tokenised texts, in the order of their ids so that nothing depends on that of rows."""

    tokens: list[list[str]]
    vectors: Floats | None

    @classmethod
    def of(
        cls, dataset: Dataset, rows: Ints, tagger: Tagger, vectors: npt.ArrayLike | None
    ) -> _Texts:
        texts = dataset.joined_texts
        tokens = [[m.surface for m in tagger.tokenize(texts[i])] for i in rows]
        return cls(tokens, None if vectors is None else np.asarray(vectors, np.float64)[rows])

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, rows: Ints) -> _Texts:
        vectors = None if self.vectors is None else self.vectors[rows]
        return _Texts([self.tokens[i] for i in rows], vectors)


def _compare(sets: Mapping[str, _Texts], seed: int) -> DiversityComparison:
    smallest = min(map(len, sets.values()))
    size = min(max(2, smallest // 2), _MAX_TEXTS)
    budget = min(min(sum(map(len, s.tokens)) for s in sets.values()) // 2, _MAX_TOKENS)
    clusters, k = _clusters(list(sets.values()), seed)
    groups, tokens = {}, [0.0]
    for (name, texts), mine in zip(sets.items(), clusters, strict=True):
        # The same seed for every set: sets of equal size are drawn alike.
        rng = np.random.default_rng(seed)
        measures, points, curve = _measure_parts(texts, mine, size, budget, rng)
        groups[name] = DiversityGroup(len(texts), measures, curve.tolist())
        tokens = points.tolist()
    return DiversityComparison(size, tokens, k, groups)


def _clusters(sets: Sequence[_Texts], seed: int) -> tuple[list[Ints | None], int | None]:
    """The topic of each text: k-means on equally many texts of each set.

    k is √(n / 2) for n texts that are clustered (Mardia, Kent & Bibby 1979), 2 to 20.
    """
    if any(s.vectors is None for s in sets):
        return [None] * len(sets), None
    from sklearn.cluster import KMeans

    rng = np.random.default_rng([seed, 1])
    vectors = [_unit(s.vectors) for s in sets if s.vectors is not None]
    each = min(min(map(len, vectors)), _MAX_TEXTS)
    fitted = np.concatenate([v[rng.choice(len(v), each, replace=False)] for v in vectors])
    k = int(np.clip(round(np.sqrt(len(fitted) / 2)), 2, _MAX_TOPICS))
    k = min(k, len(np.unique(fitted, axis=0)))
    model = KMeans(k, n_init=10, random_state=seed).fit(fitted)
    return [model.predict(v).astype(np.int64) for v in vectors], k


def _unit(vectors: Floats) -> Floats:
    length = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors / length, dtype=np.float64)


def _measure_parts(
    texts: _Texts, clusters: Ints | None, size: int, budget: int, rng: np.random.Generator
) -> tuple[dict[str, Interval], Floats, Floats]:
    """Measures random parts of so many texts, or tokens, and the vocabulary's curve."""
    n, bleu_size = len(texts), min(size, _MAX_BLEU_TEXTS)
    by_tokens, by_texts = budget / max(sum(map(len, texts.tokens)), 1), size / n
    shares = {"self_bleu": bleu_size / n, "dispersion": by_texts, "topics": by_texts}
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    curves = []
    for _ in range(_DRAWS):
        order = rng.permutation(n)
        part = _cut([texts.tokens[i] for i in order], budget)
        for length in (1, 2, 3):
            found[f"distinct_{length}"].append(distinct_share(part, length))
        found["self_bleu"].append(self_bleu([texts.tokens[i] for i in order[:bleu_size]]))
        tokens, types = vocabulary_curve(part)
        curves.append(types)
        found["heaps_exponent"].append(heaps_exponent(tokens, types))
        if texts.vectors is not None and clusters is not None:
            found["dispersion"].append(dispersion(texts.vectors[order[:size]]))
            found["topics"].append(effective_topics(clusters[order[:size]]))
    measures = {}
    for name, values in found.items():
        if values:
            mean = float(np.mean(values))
            reach = 1.96 * _standard_error(np.array(values), shares.get(name, by_tokens))
            measures[name] = Interval(mean, mean - reach, mean + reach)
    return measures, tokens, np.mean(curves, axis=0)


def _cut(texts: Sequence[list[str]], budget: int) -> list[list[str]]:
    """The first texts, as far as ``budget`` tokens reach."""
    part = []
    for text in texts:
        if budget <= 0:
            break
        part.append(text[:budget])
        budget -= len(text)
    return part


def _standard_error(values: Floats, share: float) -> float:
    """Of the mean of parts that each hold ``share`` of the set.

    Parts of r texts out of n spread by σ²(1/r − 1/n); what is wanted, σ²/n, is r / (n − r) of it.
    """
    spread = float(values.var(ddof=1))
    return float(np.sqrt(spread * (share / max(1.0 - share, 1e-9) + 1.0 / len(values))))


def _alarms(
    against_gold: DiversityComparison, rounds: DiversityComparison | None
) -> tuple[Alarm, ...]:
    found: list[Alarm] = []
    if rounds is not None:
        (_, first), *others = rounds.groups.items()
        level = _LEVEL / (len(others) * max(len(first.measures), 1))
        for name, group in others:
            found += _narrowed("round", name, group, first, level, 0.0)
    ours, gold = (against_gold.groups.get(name) for name in ("synthetic", "gold"))
    if ours and gold and min(ours.texts, gold.texts) >= MIN_TEXTS:
        level = _LEVEL / max(len(gold.measures), 1)
        found += _narrowed("gold", "synthetic", ours, gold, level, GOLD_MARGIN)
    return tuple(found)


def _narrowed(
    kind: Literal["round", "gold"],
    name: str,
    group: DiversityGroup,
    other: DiversityGroup,
    level: float,
    margin: float,
) -> list[Alarm]:
    """Measures by which ``group`` lacks more than ``margin`` of the other's diversity.

    The chance of an alarm where nothing is missing is at most ``level`` a measure.
    """
    z = float(stats.norm.isf(level))
    found = []
    for measure, theirs in other.measures.items():
        mine = group.measures.get(measure)
        if mine is None:
            continue
        goal = _diversity(measure, theirs.value)
        gap = _diversity(measure, mine.value) - goal
        error = float(np.hypot(mine.high - mine.low, theirs.high - theirs.low)) / (2 * 1.96)
        if goal > 0 and gap + z * error < -margin * goal:
            low, change, high = ((gap + s * 1.96 * error) / goal for s in (-1, 0, 1))
            found.append(Alarm(kind, name, measure, change, low, high))
    return found


def _diversity(measure: str, value: float) -> float:
    """The measure, oriented so that larger means more diverse."""
    if measure == "self_bleu":
        return 100.0 - value
    return value - 1.0 if measure == "topics" else value
