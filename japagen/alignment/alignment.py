"""Weights a synthetic dataset so that it resembles the target: labels first, then words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from scipy import sparse

from japagen.alignment.counting import Floats, Ints, Progress
from japagen.alignment.diagnostics import Diagnostics, diagnose
from japagen.alignment.entropy import Balance, Problem, balance
from japagen.alignment.features import FeatureSpace
from japagen.alignment.prior import LabelPrior, check_mode, label_rates
from japagen.alignment.prior import label_prior as find_prior
from japagen.alignment.problem import (
    add_label_rates,
    build_problem,
    build_target,
    target_shares,
)
from japagen.alignment.quantify import LabelledTexts
from japagen.alignment.strata import Strata, stratify
from japagen.alignment.texts import AlignedTexts
from japagen.errors import JapagenError, nearest
from japagen.examples import Dataset
from japagen.japanese.morphology import Tagger, default_tagger

METHODS = ("entropy", "none")
# A row whose label is not trusted at all still needs a tilt that can be divided by.
_LEAST_TRUST = 1e-6


@dataclass(frozen=True)
class Alignment:
    """Weights that bring synthetic text to the target's distributions.

    Attributes:
        weights: float64, shape (len(synthetic),): at least 0, mean 1 over the rows that
            curation kept, 0 on the others.
        prior: The target's label shares and their grounds.
        diagnostics: Effective sample size, and distances before and after.
        ids: The id of each row, in the order of the weights.
        method: How the weights were found.
        features: What was matched, with the dictionary's identity; None without target texts.
    """

    weights: Floats
    prior: LabelPrior
    diagnostics: Diagnostics
    ids: tuple[str, ...]
    method: str
    features: FeatureSpace | None

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready mapping without the weights themselves."""
        return {
            "method": self.method,
            "prior": self.prior.to_dict(),
            "diagnostics": self.diagnostics.to_dict(),
            "dictionary": self.features and self.features.dictionary,
            "normalization": self.features and self.features.normalization,
        }


def align_datasets(
    synthetic: Dataset,
    gold: Dataset | None,
    unlabelled: Dataset | None = None,
    *,
    label_prior: str | Mapping[str, float] = "auto",
    method: str = "entropy",
    floor: float = 0.3,
    seed: int = 0,
    tagger: Tagger | None = None,
    workers: int | None = None,
    progress: Progress = lambda blocks, _: blocks,
) -> Alignment:
    """Weights synthetic examples against gold and, where there are any, unlabelled texts.

    Label shares are met exactly; words, parts of speech, endings, scripts, lengths and registers
    are met as exactly as the target texts are numerous. A row's `weight_label` is taken for its
    weight before alignment, so that the product of both weights meets the target. The result
    does not depend on the order of rows.

    Args:
        synthetic: Labelled rows to weight; rejected ones get 0.
        gold: Labelled target texts, the training part only; None or empty for zero-shot.
        unlabelled: Target texts; their labels, if any, are not read.
        label_prior: "auto", "gold", "uniform", "estimate", or the share of each label.
        method: "entropy", or "none" for weights of 1.
        floor: Least effective sample size within each label, as a share of its rows, 0 to 1.
        seed: Of everything random: bootstraps and folds.
        tagger: Morphological analyser; the default one if None.
        workers: Processes that read the texts; None takes one a core where there is enough text.
            The weights do not depend on it.
        progress: Wraps the stream of blocks of texts that were read (iterable, total).

    Raises:
        JapagenError: If an argument is unknown or out of range, labels are missing or of
            different kinds, or synthetic has a label that neither gold nor the prior knows.
    """
    _check(synthetic, gold, unlabelled, label_prior, method, floor)
    kept = synthetic.kept_mask
    by_id = _order(synthetic.where(kept))
    source = synthetic.where(kept).take(by_id)
    target, more = _sorted(gold), _sorted(unlabelled)
    strata = stratify(source, target, label_prior if isinstance(label_prior, Mapping) else None)
    prior = _find_prior(label_prior, source, target, more, strata, seed)
    base = _base(np.array(source.column("weight_label"), dtype=np.float64), strata)
    shares = target_shares(strata, prior, base)
    texts = AlignedTexts.of(
        source, target, more, tagger or default_tagger(), workers=workers, progress=progress
    )
    solution: Balance | None = None
    product = base
    if method == "entropy" and len(source):
        solution = balance(_problem(texts, strata, prior, shares, base), floor)
        product = _normalized(base, solution.scores, strata, shares)
    found = diagnose(texts, strata, prior, (base, product), solution, seed)
    weights = np.zeros(len(synthetic))
    if len(source):
        tilt = np.ones(len(source)) if solution is None else product / base
        weights[np.flatnonzero(kept)[by_id]] = tilt / tilt.mean()
    return Alignment(
        weights,
        prior,
        found,
        tuple(synthetic.column("id")),
        method,
        None if texts is None else texts.space,
    )


def resample(dataset: Dataset, weights: Floats, n: int, seed: int = 0) -> Dataset:
    """Draws ``n`` rows without replacement, with chances that follow the weights.

    The alternative to training with weights, never both: drawing by weights and then weighting
    what was drawn corrects twice, so the rows come back with a distribution weight of 1. Adds
    Gumbel noise to log weights and keeps the n largest (Vieira 2014, Gumbel-max trick;
    Kool, van Hoof & Welling 2019), in the dataset's order.

    Args:
        dataset: The rows.
        weights: Shape (len(dataset),), at least 0; rows of weight 0 are never drawn.
        n: How many to draw.
        seed: The same seed draws the same ids whatever the order of rows.

    Raises:
        JapagenError: If fewer than ``n`` rows have weight, or the shapes differ.
    """
    if len(weights) != len(dataset):
        raise JapagenError(
            f"Expected {len(dataset)} weights, found {len(weights)}.",
            "Pass the weights of the alignment of this very dataset.",
        )
    positive = int((weights > 0).sum())
    if not 0 <= n <= positive:
        raise JapagenError(
            f"Expected to draw between 0 and {positive} rows, the rows with weight; found {n}.",
            "Draw fewer rows.",
        )
    noise = np.empty(len(dataset))
    noise[_order(dataset)] = np.random.default_rng(seed).gumbel(size=len(dataset))
    keys = np.where(weights > 0, np.log(np.maximum(weights, 1e-300)) + noise, -np.inf)
    drawn = dataset.take(np.sort(np.argsort(-keys, kind="stable")[:n]))
    return drawn.with_columns(weight_distribution=np.ones(n))


def _check(
    synthetic: Dataset,
    gold: Dataset | None,
    unlabelled: Dataset | None,
    label_prior: str | Mapping[str, float],
    method: str,
    floor: float,
) -> None:
    if method not in METHODS:
        raise JapagenError(
            f"Unknown alignment method '{method}'{nearest(method, METHODS)}.",
            f"Use one of: {', '.join(METHODS)}.",
        )
    if not 0 <= floor <= 1:
        raise JapagenError(
            f"Expected a floor between 0 and 1, found {floor}.",
            "It is the least effective sample size as a share of the rows; 0.3 is the default.",
        )
    check_mode(label_prior)
    for name, other in (("gold", gold), ("unlabelled", unlabelled)):
        if other and len(other) and len(synthetic) and other.is_pair != synthetic.is_pair:
            kinds = ["pairs" if d.is_pair else "single texts" for d in (synthetic, other)]
            raise JapagenError(
                f"Expected synthetic and {name} to be alike, found {kinds[0]} and {kinds[1]}.",
                "Check the text_pair column of both files.",
            )


def _order(dataset: Dataset) -> Ints:
    """Positions sorted by id, so that nothing depends on the order of rows."""
    return np.asarray(pc.sort_indices(dataset.table.column("id")).to_numpy(), dtype=np.int64)


def _sorted(dataset: Dataset | None) -> Dataset:
    return Dataset.of([]) if not dataset else dataset.take(_order(dataset))


def _plain_texts(dataset: Dataset) -> list[str]:
    if not dataset.is_pair:
        return dataset.texts
    pairs = zip(dataset.texts, dataset.column("text_pair"), strict=True)
    return [first if second is None else f"{first}\n{second}" for first, second in pairs]


def _find_prior(
    mode: str | Mapping[str, float],
    source: Dataset,
    gold: Dataset,
    unlabelled: Dataset,
    strata: Strata,
    seed: int,
) -> LabelPrior:
    if not len(source):
        return LabelPrior(None, "unchanged", "There are no synthetic rows to weight.")
    if strata.kind == "list":
        return label_rates(mode, strata.tags, strata.gold_tags)
    if strata.kind == "number" and not isinstance(mode, str):
        raise JapagenError(
            "Expected a label prior for classes, found a mapping for numbers.",
            "For a regression task use 'auto', 'gold', 'uniform' or 'estimate'.",
        )
    return find_prior(
        mode,
        strata.names,
        LabelledTexts(_plain_texts(gold), strata.gold),
        _plain_texts(unlabelled),
        LabelledTexts(_plain_texts(source), strata.synthetic),
        seed=seed,
    )


def _base(trust: Floats, strata: Strata) -> Floats:
    """Weights before alignment: the label weights, or 1 throughout a label without any."""
    total = np.bincount(strata.synthetic, weights=trust, minlength=len(strata.names))
    return np.where(total[strata.synthetic] > 0, np.maximum(trust, _LEAST_TRUST), 1.0)


def _problem(
    texts: AlignedTexts | None, strata: Strata, prior: LabelPrior, shares: Floats, base: Floats
) -> Problem:
    if texts is None:
        nothing = sparse.csr_array((len(base), 0))
        problem = Problem(nothing, np.empty(0), strata.synthetic, shares, base, None, ())
    else:
        source, gold, unlabelled = texts.features
        target = build_target(gold, unlabelled, strata, shares)
        problem = build_problem(source, texts.space.groups, target, strata, shares, base)
    return add_label_rates(problem, strata, prior) if strata.kind == "list" else problem


def _normalized(base: Floats, scores: Floats, strata: Strata, shares: Floats) -> Floats:
    """Base weights times the tilt, with each stratum brought to its share; mean 1."""
    tilted = base * np.exp(scores - scores.max())
    total = np.bincount(strata.synthetic, weights=tilted, minlength=len(shares))
    scale: Floats = len(base) * shares / np.maximum(total, 1e-300)
    return np.asarray(tilted * scale[strata.synthetic], dtype=np.float64)
