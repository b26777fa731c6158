"""Sorts labels into strata, and decides how often each occurs in the target.

A stratum is a class, a bin of a number, or everything where labels are lists. Equal gold counts are
a design and not a prior: somebody who collects 16 texts per label has said nothing about how often
labels occur. Only counts that are clearly unequal are taken for a random sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa

from japagen.data.dataset import Dataset
from japagen.data.labels import Floats, Ints, Kind, LabelSpace
from japagen.data.summary import LabelPrior
from japagen.errors import JapagenError, nearest

_BINS = 5
_KIND_NAMES = {"classification": "text", "regression": "numbers", "multi_label": "lists"}


@dataclass(frozen=True)
class Strata:
    """The labels of synthetic and gold rows as small integers.

    Attributes:
        kind: Of labels; numbers are binned, and lists are one stratum.
        names: Name of each stratum, sorted for classes.
        synthetic: Shape (n,): stratum of each synthetic row.
        gold: Shape (m,): stratum of each gold row.
        tags: For lists, the labels.
        synthetic_tags: For lists, shape (n, len(tags)): 1 where a synthetic row has the label.
        gold_tags: For lists, shape (m, len(tags)): the same for gold.
    """

    kind: Kind
    names: tuple[str, ...]
    synthetic: Ints
    gold: Ints
    tags: tuple[str, ...] = ()
    synthetic_tags: Floats = field(default_factory=lambda: np.empty((0, 0)))
    gold_tags: Floats = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def label_groups(self) -> list[int]:
        """Group of each synthetic row: one for each label, bin or set of labels.

        While each group's total weight stays, so do the label's shares or rates.
        """
        groups = self.synthetic
        if self.kind == "multi_label":
            _, groups = np.unique(self.synthetic_tags, axis=0, return_inverse=True)
        return [int(group) for group in groups]


def stratify(synthetic: Dataset, gold: Dataset, prior: Mapping[str, float] | None = None) -> Strata:
    """Gives every labelled row its stratum.

    Numbers fall into at most five bins of equal width over gold's range (synthetic's without
    gold); a bin that gold leaves empty joins the next.

    Args:
        synthetic: Labelled rows to weight.
        gold: Labelled target rows, perhaps none.
        prior: Label shares given by the user, which may name labels that gold lacks.

    Raises:
        JapagenError: If rows lack labels, kinds differ, or synthetic has a label that neither
            gold nor the prior knows.
    """
    kind = _kind(synthetic, gold)
    if kind == "classification":
        return _classes(synthetic, gold, prior)
    asked, wanted = synthetic.labels, gold.labels
    if kind == "regression":
        return _binned(asked, wanted)
    return _tagged(asked, wanted, prior)


def _classes(synthetic: Dataset, gold: Dataset, prior: Mapping[str, float] | None) -> Strata:
    # Distinct labels alone become Python objects.
    coded = [
        d.table.column("label").cast(pa.string()).combine_chunks().dictionary_encode()
        for d in (synthetic, gold)
    ]
    asked, wanted = (c.dictionary.to_pylist() for c in coded)
    known = set(wanted) | set(prior or ())
    if known:
        _refuse_unknown(set(asked), known)
    names = tuple(sorted(known | set(asked)))
    codes = []
    for part, labels in zip(coded, (asked, wanted), strict=True):
        place = np.array([names.index(label) for label in labels], dtype=np.int64)
        codes.append(place[part.indices.to_numpy()])
    return Strata("classification", names, codes[0], codes[1])


def _kind(synthetic: Dataset, gold: Dataset) -> Kind:
    kinds: dict[str, Kind] = {}
    for name, dataset in (("synthetic", synthetic), ("gold", gold)):
        missing = dataset.table.column("label").null_count
        if missing:
            raise JapagenError(
                f"Expected every {name} row to have a label, found {missing} without one.",
                "Pass texts without labels as the unlabelled dataset.",
            )
        if len(dataset):
            kinds[name] = LabelSpace.of(dataset).kind
    if len(set(kinds.values())) > 1:
        raise JapagenError(
            "Expected synthetic and gold labels of one kind, found "
            f"{_KIND_NAMES[kinds['synthetic']]} in synthetic and {_KIND_NAMES[kinds['gold']]} in "
            "gold.",
            "Check that both files use the same label column.",
        )
    return next(iter(kinds.values()), "classification")


def _refuse_unknown(asked: set[str], known: set[str]) -> None:
    unknown = sorted(asked - known)
    if len(unknown) > 1:
        raise JapagenError(
            f"Synthetic has labels that gold never has: {', '.join(unknown)}; gold has "
            f"{', '.join(sorted(known))}.",
            "Add gold texts of these labels, give their shares with a label prior, or drop the "
            "rows.",
        )
    if unknown:
        raise JapagenError(
            f"Synthetic has the label '{unknown[0]}'{nearest(unknown[0], known)}, which gold never "
            f"has; gold has {', '.join(sorted(known))}.",
            "Add gold texts of that label, give its share with a label prior, or drop its rows.",
        )


def _binned(asked: Sequence[float], wanted: Sequence[float]) -> Strata:
    values = np.array(wanted if len(wanted) else asked, dtype=float)
    edges: Floats = np.empty(0)
    if len(values):
        edges = np.linspace(values.min(), values.max(), _BINS + 1)[1:-1]
        filled = np.bincount(np.searchsorted(edges, values, side="right"), minlength=_BINS) > 0
        # An edge stays where something lies in the bin below it, and the last bin keeps its own.
        edges = np.unique(edges[filled[:-1]])
        edges = edges[(edges > values.min()) & (edges <= values.max())]
    bounds = ["-∞", *(f"{edge:g}" for edge in edges), "∞"]
    names = tuple(f"{a} to {b}" for a, b in pairwise(bounds))
    codes = [np.searchsorted(edges, np.array(v, float), side="right") for v in (asked, wanted)]
    return Strata("regression", names, codes[0].astype(np.int64), codes[1].astype(np.int64))


def _tagged(
    asked: Sequence[list[str]], wanted: Sequence[list[str]], prior: Mapping[str, float] | None
) -> Strata:
    in_asked, in_wanted = ({t for row in rows for t in row} for rows in (asked, wanted))
    known = in_wanted | set(prior or ())
    if known:
        _refuse_unknown(in_asked, known)
    space = LabelSpace("multi_label", tuple(sorted(known | in_asked)))
    synthetic, gold = (np.zeros(len(rows), dtype=np.int64) for rows in (asked, wanted))
    codes = space.codes(asked), space.codes(wanted)
    return Strata("multi_label", ("all",), synthetic, gold, space.names, *codes)


MODES = ("auto", "gold", "uniform")
# Counts within this share of their mean (or within one) are taken for equal by design.
_EQUAL_WITHIN = 0.1


def check_mode(mode: str | Mapping[str, float]) -> None:
    """Refuses a label prior that is neither a known mode nor shares that sum to 1.

    Raises:
        JapagenError: If the mode is unknown, or shares are negative or do not sum to 1.
    """
    if isinstance(mode, str):
        if mode not in MODES:
            raise JapagenError(
                f"Unknown label prior '{mode}'{nearest(mode, MODES)}.",
                f"Use one of {', '.join(MODES)}, or a mapping from labels to shares.",
            )
        return
    wrong = [f"{k}: {v}" for k, v in mode.items() if not 0 <= v <= 1]
    if wrong or not mode:
        raise JapagenError(
            f"Expected shares between 0 and 1 in the label prior, found {wrong or 'none'}.",
            "Write one share per label, such as {'positive': 0.7, 'negative': 0.3}.",
        )


def label_prior(mode: str | Mapping[str, float], names: Sequence[str], counts: Ints) -> LabelPrior:
    """Finds the target's label shares.

    ``auto`` takes gold's shares when gold's counts are clearly unequal. Otherwise they are a
    design, and the shares are left as they are in synthetic.

    Args:
        mode: "auto", "gold", "uniform", or a mapping from label to share.
        names: All labels (or bins of a regression target), shape (K,).
        counts: Gold texts of each, shape (K,).

    Raises:
        JapagenError: If the mode is unknown or lacks what it needs.
    """
    check_mode(mode)
    if not isinstance(mode, str):
        return _given(mode, names)
    if mode == "uniform":
        shares = np.full(len(names), 1.0 / max(1, len(names)))
        return LabelPrior(_named(names, shares), "uniform", "Every label as often, as asked.")
    if mode == "gold":
        if not counts.sum():
            raise JapagenError(
                "The label prior 'gold' needs gold texts, found none.",
                "Give the shares as a mapping, or use 'uniform'.",
            )
        why = f"Gold's own shares of {int(counts.sum())} texts, as asked."
    elif not counts.sum() or is_design(counts):
        why = "There is no gold: synthetic shares are left as they are."
        if counts.sum():
            why = (
                "Gold's counts are equal by design and say nothing about how often labels occur: "
                "synthetic shares are left as they are."
            )
        return LabelPrior(None, "unchanged", why)
    else:
        shown = ", ".join(f"{n} {c}" for n, c in zip(names, counts, strict=True))
        why = (
            f"Gold's counts ({shown}) are too unequal for a design, so gold is taken for a random "
            "sample of the target; give a mapping if it is not."
        )
    return LabelPrior(_named(names, counts / counts.sum()), "gold", why)


def label_rates(mode: str | Mapping[str, float], tags: Sequence[str], gold: Floats) -> LabelPrior:
    """Finds the target's rate of each label, for lists of labels; rates need not sum to 1.

    Args:
        mode: "auto", "gold" or a mapping from label to rate. Other modes leave rates alone.
        tags: All labels.
        gold: Shape (m, len(tags)): 1 where a gold text has the label.

    Raises:
        JapagenError: If a mapping leaves out a label.
    """
    check_mode(mode)
    if not isinstance(mode, str):
        _refuse_missing(mode, tags)
        rates = {tag: float(mode[tag]) for tag in tags}
        return LabelPrior(rates, "given", "Rates given by the user.")
    counts = gold.sum(axis=0).astype(np.int64)
    if mode == "uniform":
        why = f"'{mode}' is not defined for lists of labels: their rates are left as they are."
        return LabelPrior(None, "unchanged", why)
    if not len(gold) or (mode == "auto" and is_design(counts)):
        why = "Gold's counts are equal by design or absent: label rates are left as they are."
        return LabelPrior(None, "unchanged", why)
    why = f"Each label's rate among {len(gold)} gold texts."
    return LabelPrior(_named(tags, counts / len(gold)), "gold", why)


def is_design(counts: Ints) -> bool:
    """True when counts (shape (K,)) are so equal that they say nothing about a prior."""
    if len(counts) < 2:
        return True
    spread = int(counts.max() - counts.min())
    return spread <= max(1.0, _EQUAL_WITHIN * float(counts.mean()))


def _given(mapping: Mapping[str, float], names: Sequence[str]) -> LabelPrior:
    total = sum(mapping.values())
    if abs(total - 1.0) > 0.01:
        raise JapagenError(
            f"Expected the shares of the label prior to sum to 1, found {total:g}.",
            "Divide each share by their sum.",
        )
    _refuse_missing(mapping, names)
    shares = {n: float(mapping[n]) / total for n in names}
    return LabelPrior(shares, "given", "Shares given by the user.")


def _refuse_missing(mapping: Mapping[str, float], names: Sequence[str]) -> None:
    missing = [n for n in names if n not in mapping]
    if missing:
        raise JapagenError(
            f"The label prior has no share for '{missing[0]}'{nearest(missing[0], mapping)}.",
            "Give every label a share; 0 is allowed.",
        )


def _named(names: Sequence[str], shares: Floats) -> dict[str, float]:
    return {n: float(s) for n, s in zip(names, shares, strict=True)}
