"""Weighting methods, and what holds for all of them.

Label shares are met first and exactly; a method then moves weight within labels, and where it
would leave a label less than the floor of effective sample size, its tilt is tempered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse, special

from japagen.alignment.counting import Floats, Ints
from japagen.alignment.entropy import Balance, Problem, balance, tempered
from japagen.alignment.material import Material
from japagen.alignment.moments import add_label_rates, build_problem, build_target


def entropy(material: Material, floor: float) -> Balance:
    """Entropy balancing of all that is known of the target, with tolerance."""
    return balance(_problem(material), floor)


def dsir(material: Material, floor: float) -> Balance:
    """Importance weights from hashed n-grams of words; the formula stands below."""
    return from_scores(material, dsir_scores(material), floor)


def labels(material: Material, floor: float) -> Balance:
    """Label shares alone: nothing is tilted within labels."""
    return from_scores(material, np.zeros(len(material.base)), floor)


def from_scores(material: Material, scores: Floats, floor: float) -> Balance:
    """The result of a method that gives each row a log tilt.

    Args:
        material: What was weighted.
        scores: Shape (n,): log tilts; the rates of a list's labels are brought back in them.
        floor: Least effective sample size within each label, as a share of its rows, 0 to 1.
    """
    if material.strata.kind == "list":
        scores = scores + _rates_restored(material, scores)
    log_base = np.log(np.maximum(material.base, 1e-300))
    return Balance(*tempered(log_base, scores, material.rows, floor))


def _problem(material: Material) -> Problem:
    """Entropy balancing of everything that is known of the target."""
    strata, shares, base = material.strata, material.shares, material.base
    if material.texts is not None:
        source, gold, unlabelled = material.texts.features
        target = build_target(gold, unlabelled, strata, shares)
        groups = material.texts.space.groups
        problem = build_problem(source, groups, target, strata, shares, base)
    else:
        problem = _no_features(material, base)
    return add_label_rates(problem, strata, material.prior) if strata.kind == "list" else problem


def _rates_restored(material: Material, scores: Floats) -> Floats:
    """What brings the rates of a list's labels back, which no stratum fixes."""
    base = material.base * np.exp(scores - scores.max())
    problem = add_label_rates(_no_features(material, base), material.strata, material.prior)
    return balance(problem, 0.0).scores


def _no_features(material: Material, base: Floats) -> Problem:
    nothing = sparse.csr_array((len(base), 0))
    strata = material.strata.synthetic
    return Problem(nothing, np.empty(0), strata, material.shares, base, None, ())


# DSIR: importance weights from hashed n-grams, with the length taken out of the sum.
#
# Xie et al. weight a text by the ratio of two bag-of-n-gram models,
#
#     log w(x) = Σⱼ cⱼ(x)·(log pⱼ(target) − log pⱼ(source)),      c the counts of hashed n-grams.
#
# Each term is negative on average under source, so the sum falls by KL(source ‖ target) with every
# n-gram: as it stands it is a length filter, and its spread grows until one text has all weight.
# Three corrections, of which only the second could be left out on texts of one length:
#
# 1. s(x) = log w(x) / √|x|, so that the spread is that of one n-gram whatever the length |x|.
# 2. What a straight line in log |x| explains of s among source texts is taken away, and length
#    gets a log ratio of its own, of its smoothed shares in bands: long texts are favoured if and
#    only if the target has more of them.
# 3. The tilt is β·s with the β at which the weighted source has the target's mean of s. That mean
#    is taken over target texts that the n-gram model has not seen, in folds, so a target of a few
#    texts, whose own n-grams the model knows by heart, gets a β near 0 instead of an overfit.
#
# Target probabilities are smoothed towards source's by `_PRIOR` pseudo n-grams, so an n-gram that
# the target never shows counts as "not yet seen".
#
# Tilts are found twice: first for the whole, where source already has the target's label shares, so
# that no word has to stand in for a label; then for each label by itself against the gold of that
# label, starting from the weights of the first step. Label shares are restored after both, so that
# weight moves within a label alone.
#
# Source: Xie, Santurkar, Ma & Liang (2023), Data Selection for Language Models via Importance
# Resampling, arXiv 2302.03169. Assumes that n-grams are independent given the distribution.

_PRIOR = 1_000.0
_FOLDS = 5
_BANDS = 8
_BAND_PRIOR = 4.0
# A tilt of 3 log units for one standard deviation of the score is as far as it may go.
_STRONGEST = 3.0
# Fewer gold texts of a label say less about its words than they cost in noise.
_MIN_TARGET = 8
# e⁸ times the weight of another row is no answer, and infinities must not reach the floor.
_LIMIT = 8.0


@dataclass(frozen=True)
class _Side:
    """Source or target.

    Attributes:
        lengths: Shape (n,): characters of each text.
        weights: Shape (n,), at least 0, not all 0.
        counts: Sparse (n, buckets): hashed n-grams of words.
    """

    lengths: Floats
    weights: Floats
    counts: sparse.csr_array

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def share(self) -> Floats:
        """Shape (n,): the weights, scaled to sum to 1."""
        return np.asarray(self.weights / self.weights.sum(), dtype=np.float64)

    @property
    def size(self) -> float:
        """Effective number of texts."""
        return 1.0 / float((self.share**2).sum())


def dsir_scores(material: Material) -> Floats:
    """Log tilt of each synthetic row, shape (n,), finite, not yet tempered."""
    scores = np.zeros(len(material.base))
    if material.texts is None:
        return scores
    strata, (_, gold, unlabelled) = material.strata, material.texts.features
    m, u = gold.shape[0], unlabelled.shape[0]
    goal = build_target(gold, unlabelled, strata, material.shares)
    live = np.sort(np.concatenate(material.rows))
    if goal.size >= _MIN_TARGET and len(live) > 1:
        sides = _source(material, scores, live), _target(material, goal.weights)
        scores[live] = _bounded(_tilt(*sides, np.random.default_rng(material.seed)))
    for k, mine in enumerate(material.rows):
        own = np.concatenate([strata.gold == k, np.zeros(u, bool)]).astype(np.float64)
        # With one stratum and nothing but gold the first step has said it all.
        if own.sum() < _MIN_TARGET or len(mine) < 2 or (own.sum() == m and not u):
            continue
        sides = _source(material, scores, mine), _target(material, own)
        rng = np.random.default_rng([material.seed, k])
        scores[mine] = _bounded(scores[mine] + _tilt(*sides, rng))
    return scores


def _source(material: Material, scores: Floats, rows: Ints) -> _Side:
    """Some synthetic texts, with the weights that the scores so far give them."""
    weights = material.normalized(scores)[rows]
    return _Side(material.lengths[0][rows], weights, material.ngrams.counts[0][rows])


def _target(material: Material, weights: Floats) -> _Side:
    """Gold and unlabelled texts with weight; ``weights`` has shape (m + u,)."""
    live = np.flatnonzero(weights > 0)
    lengths = np.concatenate(material.lengths[1:])[live]
    return _Side(lengths, weights[live], material.ngrams.counts[1][live])


def _bounded(scores: Floats) -> Floats:
    return np.clip(scores - np.median(scores), -_LIMIT, _LIMIT)


def _tilt(source: _Side, target: _Side, rng: np.random.Generator) -> Floats:
    """Log tilt of each source text from n-grams of MeCab tokens, shape (n,).

    Args:
        source: Weighted texts to tilt.
        target: Weighted texts to resemble.
        rng: Deals target texts to folds.
    """
    length = _length_tilt(source, target)
    mine, theirs = source.counts, target.counts
    base = mine.T @ source.share
    base = (base + 1e-3 * base.sum() / len(base)) / (base.sum() * (1 + 1e-3))
    sizes = [np.maximum(counts.sum(axis=1), 1.0) for counts in (mine, theirs)]
    counted = target.weights * target.size / target.weights.sum()

    def log_ratio(rows: Floats) -> Floats:
        """Of n-gram probabilities, with target estimated on the texts where ``rows`` is 1."""
        seen = theirs.T @ (counted * rows)
        smoothed = (seen + _PRIOR * base) / (seen.sum() + _PRIOR)
        return np.asarray(np.log(smoothed) - np.log(base), dtype=np.float64)

    scores = mine @ log_ratio(np.ones(len(target))) / np.sqrt(sizes[0])
    unseen = np.zeros(len(target))
    fold = rng.permutation(len(target)) % _FOLDS
    for f in range(min(_FOLDS, len(target))):
        held = fold == f
        unseen[held] = (theirs[held] @ log_ratio((~held).astype(np.float64))) / np.sqrt(
            sizes[1][held]
        )
    line = _line(np.log(sizes[0]), scores, source.share)
    scores = scores - np.polyval(line, np.log(sizes[0]))
    goal = float(target.share @ (unseen - np.polyval(line, np.log(sizes[1]))))
    strength = _strength(scores, np.log(source.share + 1e-300) + length, goal)
    return np.asarray(length + strength * scores, dtype=np.float64)


def _line(x: Floats, y: Floats, share: Floats) -> Floats:
    """Slope and intercept of weighted least squares; no slope where x does not vary."""
    centre, level = float(share @ x), float(share @ y)
    spread = float(share @ (x - centre) ** 2)
    slope = float(share @ ((x - centre) * (y - level))) / spread if spread > 1e-9 else 0.0
    return np.array([slope, level - slope * centre])


def _length_tilt(source: _Side, target: _Side) -> Floats:
    """Log ratio of the shares of each text's length band, shape (n,)."""
    edges = np.unique(np.quantile(target.lengths, np.linspace(0, 1, _BANDS + 1)[1:-1]))
    bands = [np.searchsorted(edges, side.lengths) for side in (source, target)]
    shares = [
        np.bincount(band, weights=side.share, minlength=len(edges) + 1)
        for band, side in zip(bands, (source, target), strict=True)
    ]
    # Each smoothed towards the other, so that a band without texts has no say.
    mine, theirs = (
        (share * side.size + _BAND_PRIOR * other) / (side.size + _BAND_PRIOR)
        for share, other, side in zip(shares, shares[::-1], (source, target), strict=True)
    )
    ratio = np.log(theirs + 1e-9) - np.log(mine + 1e-9)
    return np.asarray(ratio[bands[0]], dtype=np.float64)


def _strength(scores: Floats, log_weights: Floats, goal: float) -> float:
    """The β ≥ 0 at which the tilted source has the mean score ``goal``."""
    spread = float(scores.std())
    if not spread > 1e-12:
        return 0.0

    def gap(beta: float) -> float:
        return float(special.softmax(log_weights + beta * scores) @ scores) - goal

    strongest = _STRONGEST / spread
    if gap(0.0) >= 0:
        return 0.0
    if gap(strongest) <= 0:
        return strongest
    return float(optimize.brentq(gap, 0.0, strongest))
