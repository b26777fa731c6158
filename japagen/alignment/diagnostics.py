"""Says how far synthetic text is from the target, before and after weighting.

"After" is measured on the target that the weights were fitted to, so it is a bound on what
unseen target texts would show; benchmarks/planted_shift.py measures on unseen texts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from japagen.alignment.counting import Floats
from japagen.alignment.distances import (
    divergence,
    mean_discrepancies,
    two_sample_auc,
    word_shifts,
)
from japagen.alignment.entropy import Balance, effective_share
from japagen.alignment.features import AlignedTexts
from japagen.alignment.methods import Material
from japagen.alignment.moments import build_target
from japagen.alignment.strata import Strata
from japagen.data.dataset import Dataset
from japagen.data.summary import Change, Diagnostics, EffectiveSize, LabelPrior
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
    if prior.probabilities is not None and strata.kind != "list":
        return np.array([prior.probabilities[name] for name in strata.names])
    current = np.bincount(strata.synthetic, weights=base, minlength=len(strata.names))
    return np.asarray(current / current.sum(), dtype=np.float64)


def _label_distance(strata: Strata, prior: LabelPrior, weights: Floats) -> float | None:
    if prior.probabilities is None or not len(weights):
        return None
    total = float(weights.sum())
    if strata.kind == "list":
        rates = strata.synthetic_tags.T @ weights / total
        goal = np.array([prior.probabilities[tag] for tag in strata.tags])
        return float(np.abs(rates - goal).mean())
    shares = np.bincount(strata.synthetic, weights=weights, minlength=len(strata.names)) / total
    goal = np.array([prior.probabilities[name] for name in strata.names])
    return float(np.abs(shares - goal).sum() / 2)


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
