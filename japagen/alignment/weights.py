"""Weights a synthetic dataset so that it resembles the target: labels first, then words."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from scipy.optimize import brentq

from japagen.alignment.counting import Progress
from japagen.alignment.diagnostics import diagnose
from japagen.alignment.features import AlignedTexts, FeatureSpace
from japagen.alignment.methods import Material, target_shares
from japagen.alignment.strata import Strata, check_mode, label_rates, stratify
from japagen.alignment.strata import label_prior as find_prior
from japagen.data.dataset import Data, Dataset, as_dataset
from japagen.data.labels import Floats, Ints, Mask
from japagen.data.registry import METHODS
from japagen.data.summary import AlignmentSummary, Diagnostics, LabelPrior
from japagen.errors import JapagenError
from japagen.japanese.morphology import Tagger, default_tagger

T = TypeVar("T")
# A row whose label is not trusted at all still needs a tilt that can be divided by.
LEAST_TRUST = 1e-6
_MOMENT = 1.0  # seconds before a bar shows


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

    def apply(self, synthetic: Data) -> Dataset:
        """The dataset that was aligned, with these weights; it is ready to be trained on.

        Raises:
            JapagenError: If it is another one.
        """
        aligned = as_dataset(synthetic)
        if tuple(aligned.column("id")) != self.ids:
            raise JapagenError(
                "Expected the texts that were aligned, found others.", "Align these texts first."
            )
        return aligned.with_columns(weight_distribution=self.weights)

    @property
    def summary(self) -> AlignmentSummary:
        """What is reported: all but the weights themselves."""
        return AlignmentSummary(
            method=self.method,
            prior=self.prior,
            diagnostics=self.diagnostics,
            dictionary=self.features.dictionary if self.features else None,
            normalization=self.features.normalization if self.features else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the summary, JSON-ready."""
        return self.summary.model_dump(mode="json")


def align_datasets(
    synthetic: Data,
    gold: Data | None,
    unlabelled: Data | None = None,
    *,
    label_prior: str | Mapping[str, float] = "auto",
    method: str = "entropy",
    floor: float = 0.3,
    seed: int = 0,
    tagger: Tagger | None = None,
    vectors: Sequence[npt.ArrayLike] | None = None,
    strength: float | None = None,
    off_topic: Mask | None = None,
    workers: int | None = None,
    progress: Progress | bool = True,
) -> Alignment:
    """Weights synthetic examples against gold and, where there are any, unlabelled texts.

    Label shares are met exactly; words, parts of speech, endings, scripts, lengths and registers
    are met as exactly as the target texts are numerous. A row's `weight_label` is taken for its
    weight before alignment, so that the product of both weights meets the target. The result
    does not depend on the order of rows.

    >>> written = [("荷物が届かない。", "配送"), ("まだ届きません。", "配送"), ("返したい", "返品")]
    >>> gold = [("届きません。", "配送"), ("返したいです。", "返品")]
    >>> align_datasets(written, gold, label_prior="uniform", progress=False).weights.round(2)
    array([0.75, 0.75, 1.5 ])

    Args:
        synthetic: Labelled rows to weight, a `Dataset`, DataFrame or list; rejected ones get 0.
        gold: Labelled target texts, the training part only; None or empty for zero-shot.
        unlabelled: Target texts; their labels, if any, are not read.
        label_prior: "auto", "gold", "uniform", or the share of each label.
        method: A name of `METHODS`, such as "entropy", "labels" (their shares alone), or
            "none" for weights of 1.
        floor: Least effective sample size within each label, as a share of its rows, 0 to 1.
        seed: Of everything random: bootstraps and folds.
        tagger: Morphological analyser; the default one if None.
        vectors: Encoder vectors (gold, synthetic) or (gold, synthetic, unlabelled), each of
            shape (rows, d) in the rows' order.
            The maximum mean discrepancy is measured on them.
        strength: How far weights are followed within a label, 0 to 1, and within bounds; see
            `bound_weights`. None follows them in full.
        off_topic: Rows that shall not weigh more than their label's mean where ``strength`` is
            given, shape (len(synthetic),).
        workers: Processes that read the texts; None takes one per core where there is enough text.
            The weights do not depend on it.
        progress: Whether to show a bar once reading the texts takes more than a moment; or what
            wraps the stream of blocks of texts that were read (iterable, total).

    Raises:
        JapagenError: If an argument is unknown or out of range, labels are missing or of
            different kinds, or synthetic has a label that neither gold nor the prior knows.
    """
    synthetic = as_dataset(synthetic)
    gold = None if gold is None else as_dataset(gold, split="train")
    unlabelled = None if unlabelled is None else as_dataset(unlabelled, split="unlabelled")
    check_arguments(synthetic, gold, unlabelled, label_prior, method, floor)
    material = prepare(
        synthetic,
        gold,
        unlabelled,
        label_prior,
        seed,
        tagger or default_tagger(),
        workers,
        progress if callable(progress) else _bar if progress else _no_bar,
    )
    given = _vectors(vectors, (gold, synthetic, unlabelled), material.positions)
    n, base = len(material.positions), material.base
    found_by = METHODS[method]
    solution = found_by(material, floor) if found_by.home and n else None
    product = base if solution is None else material.normalized(solution.scores)
    ids = tuple(synthetic.column("id"))
    weights = _distribution_weights(material, product, len(synthetic))
    if strength is not None:
        off = None if off_topic is None else off_topic[material.positions]
        groups = material.strata.label_groups
        soft = bound_weights(product / base, groups, base, strength=strength, off_topic=off)
        product = base * soft
        weights = _distribution_weights(material, product, len(synthetic))
    found = diagnose(material, (base, product), solution, given)
    space = None if material.texts is None else material.texts.space
    return Alignment(weights, material.prior, found, ids, method, space)


def _bar(blocks: Iterable[T], total: int) -> Iterator[T]:
    from tqdm.auto import tqdm

    yield from tqdm(blocks, total=total, desc="align", leave=False, delay=_MOMENT)


def _no_bar(blocks: Iterable[T], _: int) -> Iterable[T]:
    return blocks


def _distribution_weights(material: Material, product: Floats, rows: int) -> Floats:
    """What alignment adds to the weights from before it, mean 1 over the kept rows."""
    weights = np.zeros(rows)
    if len(material.positions):
        tilt = product / material.base
        weights[material.positions] = tilt / tilt.mean()
    return weights


def prepare(
    synthetic: Dataset,
    gold: Dataset | None,
    unlabelled: Dataset | None,
    label_prior: str | Mapping[str, float],
    seed: int,
    tagger: Tagger,
    workers: int | None = None,
    progress: Progress = _no_bar,
) -> Material:
    """Counts and finds what no method changes; arguments as of `align_datasets`."""
    positions = np.flatnonzero(synthetic.kept_mask)
    positions = positions[_order(synthetic.take(positions))]
    source, target, more = synthetic.take(positions), _sorted(gold), _sorted(unlabelled)
    strata = stratify(source, target, label_prior if isinstance(label_prior, Mapping) else None)
    prior = _find_prior(label_prior, strata)
    base = _base(np.array(source.column("weight_label"), dtype=np.float64), strata)
    shares = target_shares(strata, prior, base)
    texts = AlignedTexts.of(source, target, more, tagger, workers=workers, progress=progress)
    return Material(positions, texts, strata, prior, shares, base, seed)


def check_arguments(
    synthetic: Dataset,
    gold: Dataset | None,
    unlabelled: Dataset | None,
    label_prior: str | Mapping[str, float],
    method: str,
    floor: float,
) -> None:
    """Refuses what `align_datasets` cannot work with.

    Raises:
        JapagenError: Naming it.
    """
    METHODS.find(method)
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


def _find_prior(mode: str | Mapping[str, float], strata: Strata) -> LabelPrior:
    if not len(strata.synthetic):
        return LabelPrior(None, "unchanged", "There are no synthetic rows to weight.")
    if strata.kind == "multi_label":
        return label_rates(mode, strata.tags, strata.gold_tags)
    if strata.kind == "regression" and not isinstance(mode, str):
        raise JapagenError(
            "Expected a label prior for classes, found a mapping for numbers.",
            "For a regression task use 'auto', 'gold' or 'uniform'.",
        )
    return find_prior(mode, strata.names, np.bincount(strata.gold, minlength=len(strata.names)))


def _base(trust: Floats, strata: Strata) -> Floats:
    """Weights before alignment: the label weights, or 1 throughout a label without any."""
    total = np.bincount(strata.synthetic, weights=trust, minlength=len(strata.names))
    return np.where(total[strata.synthetic] > 0, np.maximum(trust, LEAST_TRUST), 1.0)


def _vectors(
    given: Sequence[npt.ArrayLike] | None,
    datasets: tuple[Dataset | None, Dataset, Dataset | None],
    positions: Ints,
) -> tuple[Floats, Floats] | None:
    """The vectors of the kept synthetic and of target texts, in the order of their ids."""
    if given is None:
        return None
    arrays = [np.asarray(array, dtype=np.float64) for array in given]
    sizes = [0 if d is None else len(d) for d in datasets]
    widths = {array.shape[1] for array in arrays if array.ndim == 2}
    if (
        not 2 <= len(arrays) <= 3
        or len(widths) != 1
        or any(a.ndim != 2 or len(a) != n for a, n in zip(arrays, sizes, strict=False))
    ):
        raise JapagenError(
            f"Expected vectors of {' and '.join(map(str, sizes[: max(2, len(arrays))]))} rows and "
            "of one width for gold, synthetic and perhaps unlabelled, found shapes "
            f"{', '.join(str(a.shape) for a in arrays)}.",
            "Pass vectors=(gold, synthetic), one row of numbers per text, in the rows' order.",
        )
    ordered = [
        array if dataset is None else array[_order(dataset)]
        for array, dataset in zip(arrays, datasets, strict=False)
    ]
    return arrays[1][positions], np.concatenate([ordered[0], *ordered[2:]])


# Keeps alignment weights from doing harm: pulled half way, within bounds, never for the off-topic.
#
# Entropy balancing lifts what has the words that are too rare, and those are also the words of
# texts about something else. Against 16 or 64 gold texts that is a bad bargain: on texts of a
# strong LLM, full weights cost the classifier up to .014 macro-F1 and never brought more than .003
# (docs/research/measures.md).


_MOST = 2.0
"""No text weighs more than this, or less than its inverse, beside the others of its label."""


def bound_weights(
    weights: Floats,
    labels: Sequence[Hashable],
    base: Floats | None = None,
    *,
    strength: float,
    off_topic: Mask | None = None,
) -> Floats:
    """Softens weights within each label, whose total stays what it was.

    Args:
        weights: At least 0, shape (n,).
        labels: Of each row, shape (n,).
        base: What weights are multiplied by, above 0, shape (n,); means and totals are those of
            the products. 1 for None.
        strength: Power that weights are raised to: 0 makes them even, 1 leaves them as they are.
        off_topic: Rows that shall not weigh more than their label's mean, shape (n,).

    Returns:
        Shape (n,), with 0 where the weight was 0.
    """
    out, base = np.zeros(len(weights)), np.ones(len(weights)) if base is None else base
    groups: dict[Hashable, list[int]] = {}
    for row in np.flatnonzero(weights > 0).tolist():
        groups.setdefault(labels[row], []).append(row)
    for rows in groups.values():
        own = base[rows]
        mean = np.average(weights[rows], weights=own)
        most = np.full(len(rows), _MOST)
        if off_topic is not None:
            most[off_topic[rows]] = 1.0
        out[rows] = mean * _bounded((weights[rows] / mean) ** strength, most, own)
    return out


def _bounded(soft: Floats, most: Floats, base: Floats) -> Floats:
    """Brings the mean back to 1 by a factor under which the bounds hold all the same."""
    clipped = np.clip(soft, 1 / _MOST, most)

    def scaled(factor: float) -> Floats:
        return np.asarray(np.clip(clipped * factor, 1 / _MOST, most))

    # The ends put every text at its lower bound, mean below 1, and at its upper one, at least 1.
    found = brentq(
        lambda factor: np.average(scaled(factor), weights=base) - 1, 1 / _MOST**2, _MOST**2
    )
    return scaled(found)
