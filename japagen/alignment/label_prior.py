"""Decides how often each label occurs in the target, and says on what grounds.

Equal gold counts are a design and not a prior: somebody who collects 16 texts per label has said
nothing about how often labels occur. Only counts that are clearly unequal are taken for a
random sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from japagen.alignment.counting import Floats, Ints
from japagen.data.summary import LabelPrior
from japagen.errors import JapagenError, nearest

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
