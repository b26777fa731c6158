"""Weights of more rows than fit into memory: fitted on a sample, then given to all in one pass.

A row's weight is exp(score) of its features times a factor of its label (`entropy`). The scores
need the solution of the dual alone, which 10⁵ rows tell better than the target is known: the
standard error of a mean over S sampled rows is σ/√S, that of the target's m texts σ/√m. So the
dual is fitted on rows that are drawn evenly from all, every row is then scored by itself, and the
factors are what brings the sums over all rows to the labels' shares.

Sums are of whole numbers, in units of 2⁻³² and 2⁻²⁰: these do not depend on the order of adding,
nor on where shards begin or who adds them. How far the means of all rows are from those of the
sample is told in the target's standard errors, how far they are from the target's means in
tolerances of λ = 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel
from scipy import sparse

from japagen.alignment.counting import Progress, measure
from japagen.alignment.diagnostics import diagnose
from japagen.alignment.entropy import rows_of
from japagen.alignment.features import Array, FeatureSpace
from japagen.alignment.methods import Material, build_problem, build_target, shares_from
from japagen.alignment.strata import Strata, stratify
from japagen.alignment.weights import LEAST_TRUST, check_arguments, prepare
from japagen.data.dataset import Dataset, Example, Label
from japagen.data.labels import Floats, Ints, Kind
from japagen.data.registry import METHODS
from japagen.data.summary import AlignmentSummary
from japagen.errors import JapagenError
from japagen.japanese.morphology import Tagger, default_tagger
from japagen.japanese.overlap import mix

MOST_SAMPLED = 5_000_000
_SUM_BITS, _WEIGHT_BITS, _FEATURE_BITS = 32, 20, 16
_SUMS = b"japagen_sums"
# Of a feature that every text of the target has, rounding leaves a standard error of up to 1e-8.
_NO_ERROR = 1e-7


def sampled(rows: Ints, size: int, total: int, seed: int) -> npt.NDArray[np.bool_]:
    """Which rows are in the sample: about ``size`` of ``total``, all of them if that is as many.

    Whether a row is depends on its number and the seed alone.

    Args:
        rows: Numbers of rows.
        size: How many are wanted.
        total: How many there are.
        seed: Draws them.
    """
    if size >= total:
        return np.ones(len(rows), bool)
    spread = mix(mix(np.array([seed], np.uint64)) ^ rows.astype(np.uint64))
    return np.asarray(spread < np.uint64((size << 64) // total))


class Fit(BaseModel, frozen=True):
    """What a sample tells: enough to score any row.

    Attributes:
        summary: What alignment reports of the sample.
        space: The features; None without target texts.
        kind: The kind of labels.
        names: The strata.
        tags: For lists, the labels.
        gold: The labels of gold, by which numbers are sorted into bins.
        tilts: Shape (K, p + tags): what each feature adds to a score.
        is_balanced: Whether labels are brought to their shares; the method "none" leaves all alone.
        even: Shape (K,): strata of which no row is trusted, so that all count alike.
        highest: Shape (K,): the greatest score in the sample.
        rows: How many rows were sampled.
        means: Shape (2, p): of the features in the sample, before and after weighting.
        target: Shape (3, p): the target's means, their standard errors, and how many of these a
            mean may be off; None where gold cannot stand for the target as a whole.
    """

    summary: AlignmentSummary
    space: FeatureSpace | None
    kind: Kind
    names: tuple[str, ...]
    tags: tuple[str, ...]
    gold: tuple[Label, ...]
    tilts: Array
    is_balanced: bool
    even: Array
    highest: Array
    rows: int
    means: Array
    target: Array | None

    @property
    def strata(self) -> Strata:
        """The strata, without rows."""
        nothing = np.empty(0, np.int64)
        return Strata(self.kind, self.names, nothing, nothing, self.tags)


def fit_sample(
    sample: Dataset,
    gold: Dataset | None,
    unlabelled: Dataset | None,
    *,
    label_prior: str | Mapping[str, float] = "auto",
    method: str = "entropy",
    floor: float = 0.3,
    seed: int = 0,
    tagger: Tagger | None = None,
    workers: int | None = None,
    progress: Progress = lambda blocks, _: blocks,
) -> Fit:
    """Aligns a sample; arguments and errors as of `align_datasets`."""
    check_arguments(sample, gold, unlabelled, label_prior, method, floor)
    material = prepare(
        sample, gold, unlabelled, label_prior, seed, tagger or default_tagger(), workers, progress
    )
    strata, texts, base = material.strata, material.texts, material.base
    if not len(base):
        raise JapagenError("Expected rows to weight, found none in the sample.", "Check the input.")
    if strata.kind == "regression" and not len(strata.gold):
        raise JapagenError(
            "Numbers are sorted into bins by gold, and there is none.",
            "Give gold, or align without --engine.",
        )
    found_by = METHODS[method]
    solution = found_by(material, floor) if found_by.home else None
    product = base if solution is None else material.normalized(solution.scores)
    diagnostics = diagnose(material, (base, product), solution)
    space = None if texts is None else texts.space
    p = 0 if space is None else len(space.names)
    tilts = np.zeros((len(strata.names), p + len(strata.tags)))
    highest = np.zeros(len(strata.names))
    if solution is not None:
        width = solution.tilts.shape[1]
        tilts[:, tilts.shape[1] - width :] = solution.tilts
        for k, mine in enumerate(rows_of(strata.synthetic, material.shares)):
            highest[k] = solution.scores[mine].max() if len(mine) else 0.0
    trust = np.array(sample.take(material.positions).column("weight_label"), dtype=np.float64)
    trusted = np.bincount(strata.synthetic, weights=trust, minlength=len(strata.names))
    means, target = _means(material, product)
    return Fit(
        summary=AlignmentSummary(
            method=method,
            prior=material.prior,
            diagnostics=diagnostics,
            dictionary=space.dictionary if space else None,
            normalization=space.normalization if space else None,
        ),
        space=space,
        kind=strata.kind,
        names=strata.names,
        tags=strata.tags,
        gold=tuple(gold.labels if gold else ()),
        tilts=tilts,
        is_balanced=solution is not None,
        even=trusted <= 0,
        highest=highest,
        rows=len(base),
        means=means,
        target=target,
    )


def _means(material: Material, product: Floats) -> tuple[Floats, Floats | None]:
    """Means of the features in the sample, before and after, and those of the target."""
    texts, base = material.texts, material.base
    if texts is None:
        return np.zeros((2, 0)), None
    source, gold, unlabelled = texts.features
    means = np.array([source.T @ (w / w.sum()) for w in (base, product)])
    target = build_target(gold, unlabelled, material.strata, material.shares)
    problem = build_problem(
        source, texts.space.groups, target, material.strata, material.shares, base
    )
    moments = problem.marginal
    if moments is None:
        return means, None
    error = moments.deviation / np.sqrt(moments.size)
    return means, np.array([moments.mean, error, problem.slack])


def score_rows(fit: Fit, texts: Dataset) -> pa.Table:
    """The examples with their stratum and score, and sums over them in the table's metadata.

    Args:
        fit: What the sample told.
        texts: Any examples; rejected ones have the stratum -1 and no weight.
    """
    kept = texts.kept_mask
    rows = texts.where(kept)
    scores, stratum = np.zeros(len(texts)), np.full(len(texts), -1, np.int64)
    names, tags = fit.names, fit.tags
    gold = Dataset.of(Example("", label, id=str(n)) for n, label in enumerate(fit.gold))
    strata = stratify(rows, gold, dict.fromkeys(tags or names, 0.0))
    features = _features(fit, rows, strata)
    own = np.zeros(len(rows))
    for k in range(len(names)):
        at = np.flatnonzero(strata.synthetic == k)
        own[at] = features[at] @ fit.tilts[k]
    scores[kept], stratum[kept] = own, strata.synthetic
    trust = np.array(rows.column("weight_label"), np.float64)
    base = np.where(fit.even[strata.synthetic], 1.0, np.maximum(trust, LEAST_TRUST))
    tilt = np.exp(own - fit.highest[strata.synthetic])
    sums = _sums(fit, features, strata.synthetic, base, trust, tilt)
    table = texts.table.append_column(STRATUM, pa.array(stratum, pa.int32()))
    table = table.append_column(SCORE, pa.array(scores))
    return table.replace_schema_metadata({_SUMS: json.dumps(sums)})


STRATUM, SCORE = "japagen_stratum", "japagen_score"


def _features(fit: Fit, rows: Dataset, strata: Strata) -> sparse.csr_array:
    parts = []
    if fit.space is not None:
        (measured,), vocabulary = measure([rows], default_tagger(), workers=1, also=fit.space.keys)
        parts.append(fit.space.transform(measured, vocabulary))
    if fit.tags:
        parts.append(sparse.csr_array(strata.synthetic_tags))
    if not parts:
        return sparse.csr_array((len(rows), 0))
    found = sparse.csr_array(sparse.hstack(parts, format="csr"))
    found.sort_indices()
    return found


def _whole(values: Floats, bits: int) -> Ints:
    return np.asarray(np.rint(np.ldexp(values, bits)), np.int64)


def _sums(
    fit: Fit, features: sparse.csr_array, stratum: Ints, base: Floats, trust: Floats, tilt: Floats
) -> dict[str, Any]:
    """Sums over rows, per stratum, in whole numbers."""

    def per_stratum(values: Ints) -> list[int]:
        found = np.zeros(len(fit.names), np.int64)
        np.add.at(found, stratum, values)
        return found.tolist()

    p = fit.means.shape[1]
    measured = features[:, :p]
    whole = sparse.csr_array(
        (_whole(measured.data, _FEATURE_BITS), measured.indices, measured.indptr), measured.shape
    )
    weights, product = _whole(base, _WEIGHT_BITS), _whole(base * tilt, _WEIGHT_BITS)
    after = []
    for k in range(len(fit.names)):
        at = np.flatnonzero(stratum == k)
        after.append((whole[at].T @ product[at]).tolist() if p else [])
    return {
        "rows": per_stratum(np.ones(len(stratum), np.int64)),
        "base": per_stratum(_whole(base, _SUM_BITS)),
        "product": per_stratum(_whole(base * tilt, _SUM_BITS)),
        "square": per_stratum(_whole((base * tilt) ** 2, _SUM_BITS)),
        "tilt": per_stratum(_whole(tilt, _SUM_BITS)),
        "trusted": per_stratum(_whole(trust * tilt, _SUM_BITS)),
        "before": (whole.T @ weights).tolist() if p else [],
        "after": after,
    }


@dataclass(frozen=True)
class Factors:
    """What makes weights of scores.

    Attributes:
        factors: Shape (K,): the weight of a row whose score is the highest of the sample.
        highest: Shape (K,).
        scale: What the product of both weights is divided by, for a mean of 1.
        report: What all rows show, JSON-ready.
    """

    factors: Floats
    highest: Floats
    scale: float
    report: dict[str, Any]

    def weigh(self, scored: pa.Table) -> Dataset:
        """Rows of `score_rows` with their weight."""
        stratum = scored.column(STRATUM).to_numpy()
        score = scored.column(SCORE).to_numpy()
        weights = np.exp(score - self.highest[stratum]) * self.factors[stratum]
        texts = Dataset.from_table(scored)
        return texts.with_columns(weight_distribution=np.where(stratum < 0, 0.0, weights))


def find_factors(fit: Fit, schemas: Sequence[pa.Schema]) -> Factors:
    """Puts the sums of all shards together.

    Args:
        fit: What the sample told.
        schemas: Those of all tables that `score_rows` made.
    """
    sums = [json.loads(schema.metadata[_SUMS]) for schema in schemas]

    def total(name: str) -> Floats:
        # Python's whole numbers: a billion rows do not fit into 64 bits.
        columns = zip(*(one[name] for one in sums), strict=True)
        return np.array([float(sum(column)) for column in columns]) / 2.0**_SUM_BITS

    counts = total("rows") * 2.0**_SUM_BITS
    base, product, square = total("base"), total("product"), total("square")
    rows = float(counts.sum())
    shares = shares_from(base, fit.strata, fit.summary.prior)
    factors = np.divide(shares, product, out=np.zeros(len(shares)), where=product > 0)
    if not fit.is_balanced:
        factors = np.ones(len(shares))
    mean = float(factors @ total("tilt")) / rows
    factors = factors / mean if mean else factors
    effective = np.divide(product**2, square, out=np.zeros(len(square)), where=square > 0)
    whole = factors @ product
    report: dict[str, Any] = {
        "rows": int(rows),
        "sample": fit.rows,
        "effective_sample_size": {
            "rows": float(whole**2 / (factors**2 @ square)) if whole else 0.0,
            "per_label": {
                name: float(part / n)
                for name, part, n in zip(fit.names, effective, counts, strict=True)
                if n
            },
        },
    }
    if fit.means.size:
        report |= _distances(fit, factors, sums, base, product)
    trusted = float(factors @ total("trusted"))
    return Factors(factors, fit.highest, trusted / rows if trusted else 1.0, report)


def _distances(
    fit: Fit, factors: Floats, sums: Sequence[Mapping[str, Any]], base: Floats, product: Floats
) -> dict[str, Any]:
    """How far the means of all rows are from the sample's and from the target's."""
    unit = 2.0 ** (_WEIGHT_BITS + _FEATURE_BITS)
    before = _added(one["before"] for one in sums) / unit / base.sum()
    after = np.zeros(len(before))
    for k, factor in enumerate(factors):
        after += factor * _added(one["after"][k] for one in sums) / unit
    after /= factors @ product
    found: dict[str, Any] = {}
    if fit.target is None:
        return found
    mean, error, slack = fit.target
    known = error > _NO_ERROR

    def largest(gap: Floats, unit: Floats = error) -> float:
        return round(float(np.max(np.abs(gap[known]) / unit[known], initial=0.0)), 4)

    return {
        "sampling_error": {
            "before": largest(before - fit.means[0]),
            "after": largest(after - fit.means[1]),
        },
        "largest_gap": {
            "before": largest(before - mean, error * slack),
            "after": largest(after - mean, error * slack),
            "after_in_sample": largest(fit.means[1] - mean, error * slack),
        },
    }


def _added(columns: Any) -> Floats:
    return np.array([float(sum(column)) for column in zip(*columns, strict=True)])
