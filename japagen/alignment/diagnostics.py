"""How far synthetic text is from the target before and after weighting, and which words make it.

"After" is measured on the target that the weights were fitted to, so it is a bound on what
unseen target texts would show; benchmarks/planted_shift.py measures on unseen texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse, special

from japagen.alignment.entropy import Balance, effective_share
from japagen.alignment.features import AlignedTexts
from japagen.alignment.methods import Material, build_target
from japagen.alignment.strata import Strata
from japagen.data.dataset import Dataset
from japagen.data.labels import Floats
from japagen.data.scores import Interval
from japagen.data.summary import Change, Diagnostics, EffectiveSize, LabelPrior, WordShift
from japagen.japanese.morphology import Tagger


def effective_size(weights: Floats, members: dict[str, Floats]) -> EffectiveSize:
    """Measures the effective sample size.

    Args:
        weights: Shape (n,).
        members: Weights of the rows of each label.
    """
    share = effective_share(weights) if len(weights) else 0.0
    per_label = {name: effective_share(w) for name, w in members.items() if len(w)}
    return EffectiveSize(share * len(weights), share, per_label)


def diagnose(
    material: Material,
    weights: tuple[Floats, Floats],
    solution: Balance | None,
    vectors: tuple[Floats, Floats] | None = None,
) -> Diagnostics:
    """Measures the distances to the target under the weights before and after.

    Args:
        material: What was weighted.
        weights: Weights of the synthetic rows before and after, each of shape (n,).
        solution: What balancing reached, None where it was not run.
        vectors: Encoder vectors of the synthetic and of the target texts, where the caller has
            them; those of unlabelled texts come last, or not at all.
    """
    strata, prior, texts = material.strata, material.prior, material.texts
    after, names = weights[1], enumerate(strata.names)
    members = {name: after[strata.synthetic == k] for k, name in names}
    distances = [_label_distance(strata, prior, w) for w in weights]
    factors = () if solution is None else zip(strata.names, solution.temper, strict=True)
    tempered = {name: float(factor) for name, factor in factors if factor < 1}
    notes = _notes(texts, strata, prior, solution, tempered)
    found = Diagnostics(
        effective_sample_size=effective_size(after, members),
        label_distance=Change(*distances),
        two_sample_auc=Change(None, None),
        tolerance=None if solution is None else solution.tolerance,
        tempered=tempered,
        notes=notes,
    )
    if texts is None:
        return found
    shares = _full_shares(strata, prior, weights[0])
    goal = build_target(texts.features[1], texts.features[2], strata, shares).weights
    return _with_texts(found, texts, weights, goal, material.seed, vectors) if goal.any() else found


def _with_texts(
    found: Diagnostics,
    texts: AlignedTexts,
    weights: tuple[Floats, Floats],
    goal: Floats,
    seed: int,
    vectors: tuple[Floats, Floats] | None,
) -> Diagnostics:
    """Adds the distances of texts to the target, whose weights are ``goal``."""
    words, pos, features = (
        (rows[0], sparse.vstack(rows[1:], format="csr"))
        for rows in (
            [m.words for m in texts.measured],
            [m.pos for m in texts.measured],
            texts.features,
        )
    )
    # The same draws before and after, so that the two differ by the weights alone.
    words_js, pos_js = (
        Change(*(divergence(*pair, w, goal, np.random.default_rng(seed)) for w in weights))
        for pair in (words, pos)
    )
    auc = Change(
        *(two_sample_auc(*features, w, goal, np.random.default_rng(seed)) for w in weights)
    )
    discrepancy = None
    if vectors is not None:
        source, target = vectors
        rng = np.random.default_rng(seed)
        discrepancy = mean_discrepancies(source, target, weights, goal[: len(target)], rng)
    over, under = word_shifts(*words, weights, goal, texts.vocabulary.readable_words())
    return replace(
        found,
        word_divergence=words_js,
        pos_divergence=pos_js,
        mean_discrepancy=None if discrepancy is None else Change(*discrepancy),
        two_sample_auc=auc,
        overused=over,
        underused=under,
    )


def _full_shares(strata: Strata, prior: LabelPrior, base: Floats) -> Floats:
    """The target's shares, labels that synthetic lacks included."""
    if prior.probabilities is not None and strata.kind != "multi_label":
        return np.array([prior.probabilities[name] for name in strata.names])
    current = np.bincount(strata.synthetic, weights=base, minlength=len(strata.names))
    return np.asarray(current / current.sum(), dtype=np.float64)


def _label_distance(strata: Strata, prior: LabelPrior, weights: Floats) -> float | None:
    if prior.probabilities is None or not len(weights):
        return None
    total = float(weights.sum())
    if strata.kind == "multi_label":
        rates = strata.synthetic_tags.T @ weights / total
        return float(np.abs(rates - [prior.probabilities[tag] for tag in strata.tags]).mean())
    shares = np.bincount(strata.synthetic, weights=weights, minlength=len(strata.names)) / total
    return float(np.abs(shares - [prior.probabilities[n] for n in strata.names]).sum() / 2)


def _notes(
    texts: AlignedTexts | None,
    strata: Strata,
    prior: LabelPrior,
    solution: Balance | None,
    tempered: dict[str, float],
) -> tuple[str, ...]:
    notes: list[str] = []
    if texts is None:
        notes.append("There are no target texts, so words are neither matched nor compared.")
    counts = np.bincount(strata.synthetic, minlength=len(strata.names))
    expected = prior.probabilities or {}
    for name, count in zip(strata.names, counts, strict=True):
        if len(strata.synthetic) and not count and expected.get(name, 1.0) > 0:
            notes.append(f"Synthetic has no text of '{name}': no weight can make up for that.")
    if solution is not None and solution.has_tolerance and solution.tolerance is None:
        notes.append("Even the loosest match broke the floor or could not be met.")
    if tempered:
        notes.append(f"Weights were tempered to keep the floor in: {', '.join(tempered)}.")
    return tuple(notes)


def distances_to_gold(
    dataset: Dataset, gold: Dataset, tagger: Tagger, seed: int
) -> dict[str, float | None]:
    """Cross-validated AUC of telling each source's kept texts from gold, unweighted.

    0.5 means that they cannot be told apart; see `two_sample_auc`. A source of many texts is told
    apart a little better than one of few that writes alike, as there is more to learn from.

    Args:
        dataset: Texts of one or more sources; rejected ones are left out.
        gold: Real texts.
        tagger: Gives the words.
        seed: Draws the folds.

    Returns:
        Source to AUC; None with fewer than five texts on a side.
    """
    kept = dataset.kept
    texts = AlignedTexts.of(kept, gold, Dataset.of([]), tagger)
    if texts is None:
        return {}
    ours, theirs, _ = texts.features
    sources, goal = np.array(kept.column("source")), np.ones(len(gold))
    return {
        name: two_sample_auc(
            ours, theirs, (sources == name).astype(np.float64), goal, np.random.default_rng(seed)
        )
        for name in dict.fromkeys(sources.tolist())
    }


_BOOTSTRAP = 100
# More rows than this are resampled in random groups.
_GROUPS = 500
_INTERVAL = (2.5, 97.5)
_FOLDS = 5
# Enough to tell an AUC of 0.52 from 0.50; more rows only cost time.
_MAX_ROWS = 4_000
# Kernels between this many rows per side fit into some tens of megabytes.
_MAX_KERNEL_ROWS = 1_500
_SMOOTHING = 0.5
_SHOWN_WORDS = 20


def jensen_shannon(p: Floats, q: Floats) -> float:
    """Returns the Jensen-Shannon divergence in bits of two counts or distributions, 0 to 1."""
    p, q = p / max(float(p.sum()), 1e-300), q / max(float(q.sum()), 1e-300)
    nats = sum(float(special.rel_entr(side, (p + q) / 2).sum()) for side in (p, q)) / 2
    return min(1.0, max(0.0, nats / math.log(2)))


def divergence(
    source: sparse.csr_array,
    target: sparse.csr_array,
    weights: Floats,
    target_weights: Floats,
    rng: np.random.Generator,
) -> Interval:
    """Measures the Jensen-Shannon divergence of two weighted sets of counts.

    Rows of both sides are resampled 100 times; of more than 500, random groups of rows are, whose
    totals vary as much for their number. Resampling adds noise of its own, which always
    raises a divergence, so the interval is the spread around the resamples' mean, moved to the
    value on the data itself.

    Args:
        source: Sparse (n, columns) counts.
        target: Sparse (m, columns) counts.
        weights: Shape (n,).
        target_weights: Shape (m,).
        rng: Draws the resamples.
    """
    value = jensen_shannon(source.T @ weights, target.T @ target_weights)
    sides = [_grouped(source, weights, rng), _grouped(target, target_weights, rng)]
    draws = [
        jensen_shannon(*(side.T @ _resample(side.shape[0], rng) for side in sides))
        for _ in range(_BOOTSTRAP)
    ]
    low, high = np.percentile(draws, _INTERVAL) - np.mean(draws) + value
    return Interval(value, max(0.0, float(low)), min(1.0, float(high)))


def _grouped(rows: sparse.csr_array, weights: Floats, rng: np.random.Generator) -> sparse.csr_array:
    """Weighted counts of each row or, of many, of each of 500 random groups of equal size."""
    n = len(weights)
    group = np.arange(n) if n <= _GROUPS else rng.permutation(n) % _GROUPS
    shape = (min(n, _GROUPS), n)
    return sparse.csr_array(sparse.csr_array((weights, (group, np.arange(n))), shape=shape) @ rows)


def _resample(n: int, rng: np.random.Generator) -> Floats:
    return np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)


def two_sample_auc(
    source: sparse.csr_array,
    target: sparse.csr_array,
    weights: Floats,
    target_weights: Floats,
    rng: np.random.Generator,
) -> float | None:
    """Cross-validated AUC of a classifier that tells source from target, both weighted.

    0.5 means that it cannot (Lopez-Paz & Oquab 2017, Revisiting Classifier Two-Sample Tests).
    Below 0.5 after weighting is no mistake: averages that agree over all rows leave opposite gaps
    in the rows seen and held out. None with fewer than five rows of weight on a side.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold
    from sklearn.preprocessing import MaxAbsScaler

    sides = []
    for rows, weight in ((source, weights), (target, target_weights)):
        live = np.flatnonzero(weight > 0)
        if len(live) < _FOLDS:
            return None
        live = np.sort(rng.permutation(live)[:_MAX_ROWS])
        sides.append((rows[live], weight[live] / weight[live].mean()))
    features = MaxAbsScaler().fit_transform(sparse.vstack([s[0] for s in sides], format="csr"))
    is_target = np.repeat([0, 1], [s[0].shape[0] for s in sides])
    weight = np.concatenate([s[1] / s[0].shape[0] for s in sides]) * len(is_target) / 2
    found = []
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=int(rng.integers(2**31)))
    for seen, held_out in folds.split(features, is_target):
        model = LogisticRegression(C=0.1, max_iter=300)
        model.fit(features[seen], is_target[seen], sample_weight=weight[seen])
        # By fold: a fold rich in target has a classifier trained on less of it, so ranks pooled
        # over folds are biased below 0.5.
        scores = model.decision_function(features[held_out])
        found.append(roc_auc_score(is_target[held_out], scores, sample_weight=weight[held_out]))
    return float(np.mean(found))


def mean_discrepancies(
    source: Floats,
    target: Floats,
    weights: Sequence[Floats],
    target_weights: Floats,
    rng: np.random.Generator,
) -> list[Interval] | None:
    """Squared maximum mean discrepancies of encoder vectors, one for each weighting of source.

    The unbiased estimate of Gretton et al. 2012 (A Kernel Two-Sample Test, lemma 6) with
    weights: no text is compared with itself, so it is 0 on average where the two sides are
    alike, and may be negative. The kernel is exp(−d² / 2σ²), σ the median distance of all texts
    taken together, whatever their weights, so that the weightings are measured alike.

    Rows of both sides are resampled 100 times, the same ones for every weighting; a row drawn
    twice is still not compared with itself, so that resampling adds no bias. The interval is
    the spread around the resamples' mean, moved to the value. Where the two sides are alike the
    estimate is degenerate, and the interval rather too wide.

    Args:
        source: Shape (n, d).
        target: Shape (m, d).
        weights: Weightings of the source rows, each of shape (n,).
        target_weights: Shape (m,).
        rng: Draws the resamples, and rows where there are more than 1,500 on a side.

    Returns:
        None with fewer than two rows of weight on a side.
    """
    sides = []
    for rows, weighting in ((source, [*weights]), (target, [target_weights])):
        live = np.flatnonzero(np.max(weighting, axis=0) > 0)
        live = np.sort(rng.permutation(live)[:_MAX_KERNEL_ROWS])
        sides.append((rows[live], [w[live] for w in weighting]))
    (x, sources), (y, (goal,)) = sides
    if min(np.count_nonzero(w > 0) for w in (*sources, goal)) < 2:
        return None
    kernel = _median_kernel(np.concatenate([x, y]))
    n, m = len(x), len(y)
    # Shape (rows, 1 + 100): how often each row is drawn, the first column being the data itself.
    drawn_x, drawn_y = (
        np.stack([np.ones(k), *(_resample(k, rng) for _ in range(_BOOTSTRAP))], axis=1)
        for k in (n, m)
    )
    b = goal[:, None] * drawn_y
    within = _mean_off_diagonal(kernel[n:, n:], b)
    found = []
    for w in sources:
        a = w[:, None] * drawn_x
        across = (a * (kernel[:n, n:] @ b)).sum(axis=0) / (a.sum(axis=0) * b.sum(axis=0))
        values = _mean_off_diagonal(kernel[:n, :n], a) + within - 2 * across
        draws = values[1:][np.isfinite(values[1:])]
        value = float(values[0])
        low, high = np.percentile(draws, _INTERVAL) - draws.mean() + value
        found.append(Interval(value, min(float(low), value), max(float(high), value)))
    return found


def _median_kernel(rows: Floats) -> Floats:
    """Gaussian kernel of all pairs, shape (n, n), with the median distance for its width."""
    squares = (rows * rows).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * rows @ rows.T, 0.0)
    width = float(np.median(distances[np.triu_indices(len(rows), 1)]))
    return np.asarray(np.exp(distances / (-2 * max(width, 1e-12))), dtype=np.float64)


def _mean_off_diagonal(kernel: Floats, weights: Floats) -> Floats:
    """Weighted mean of the kernel over pairs of different rows, for each column of weights."""
    own = (np.diag(kernel)[:, None] * weights**2).sum(axis=0)
    pairs = weights.sum(axis=0) ** 2 - (weights**2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(((weights * (kernel @ weights)).sum(axis=0) - own) / pairs)


def word_shifts(
    source: sparse.csr_array,
    target: sparse.csr_array,
    weights: tuple[Floats, Floats],
    target_weights: Floats,
    words: Sequence[str],
) -> tuple[tuple[WordShift, ...], tuple[WordShift, ...]]:
    """Finds the words that add most to the divergence before weighting.

    Args:
        source: Sparse (n, words) counts.
        target: Sparse (m, words) counts.
        weights: Weights of the source rows before and after, each of shape (n,).
        target_weights: Shape (m,).
        words: Readable form of each column.

    Returns:
        The overused and the underused words, at most 20 each, worst first.
    """
    goal = _rates(target.T @ target_weights)
    before, after = (_rates(source.T @ w) for w in weights)
    middle = (goal + before) / 2
    cost = goal * np.log2(goal / middle) + before * np.log2(before / middle)
    sign = np.sign(before - goal)
    found = []
    for side in (1.0, -1.0):
        order = sorted(np.flatnonzero(sign == side).tolist(), key=lambda j: (-cost[j], words[j]))
        found.append(
            tuple(
                WordShift(
                    words[j],
                    round(1000 * float(goal[j]), 3),
                    round(1000 * float(before[j]), 3),
                    float(np.log2(before[j] / goal[j])),
                    float(np.log2(after[j] / goal[j])),
                )
                for j in order[:_SHOWN_WORDS]
            )
        )
    return found[0], found[1]


def _rates(counts: Floats) -> Floats:
    smoothed = counts + _SMOOTHING
    rates: Floats = smoothed / smoothed.sum()
    return rates
