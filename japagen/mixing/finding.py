"""From a run's gold and aligned synthetic texts to the mix to train on, with its grounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

import numpy as np

from japagen.examples import Dataset
from japagen.folds import LEAST_TO_HOLD_OUT
from japagen.mixing.confirming import Confirmation
from japagen.mixing.curves import curves
from japagen.mixing.evidence import Evidence, Progress, Weigh, gather
from japagen.mixing.linear_head import FitHead, Floats
from japagen.mixing.mix import GOLD_ALONE, FoundMix, Mix, Reason
from japagen.mixing.search import search

# Vectors of gold and of synthetic texts, made only where they are needed.
Embed = Callable[[Dataset, Dataset], tuple[Floats, Floats]]
_LEAST_USABLE = 4


def find_mix(
    gold: Dataset | None,
    dataset: Dataset,
    labels: list[str],
    default: float,
    embed: Embed,
    weigh: Weigh,
    *,
    seed: int,
    repeats: int,
    relabel: float | None = None,
    head: FitHead | None = None,
    vouched: Collection[str] = (),
    confirm: Callable[[Evidence, Mix], Confirmation] | None = None,
    progress: Progress = lambda folds, _: folds,
) -> FoundMix:
    """Searches the mix by cross-validation on gold; see `japagen.mixing.search.search`.

    Args:
        gold: Training gold.
        dataset: Aligned synthetic examples.
        labels: Every label.
        default: The share to keep without evidence.
        embed: Makes vectors.
        weigh: Weights synthetic texts from a fold's gold.
        seed: The seed that shots were drawn with.
        repeats: Repeats of the cross-validation.
        relabel: How sure a fold's judge must be to give a text another label; None for never.
        head: How the heads that are compared are fitted; see `gather`.
        vouched: Ids of texts whose label a person has vouched for.
        confirm: Checks a choice above 0; gold alone takes its place where it does worse.
        progress: Wraps the folds (iterable, total).
    """
    kept = dataset.kept
    why = why_not(gold, kept)
    if why is not None or gold is None:
        # Where nobody can tell whether synthetic text helps, it does not touch the result: for
        # tags and numbers the embedded generator's did harm in every trial.
        alone = gold is not None and (not len(kept) or why == "labels")
        return FoundMix(GOLD_ALONE if alone else Mix(default), why or "no_gold", {})
    evidence = gather(
        gold,
        kept,
        labels,
        embed(gold, kept),
        weigh,
        seed=seed,
        repeats=repeats,
        relabel=relabel,
        head=head,
        vouched=vouched,
        progress=progress,
    )
    folds = _folds(evidence)
    details: dict[str, Any] = {"provenance": provenance(kept), "folds": folds}
    if min(folds["usable"]) < _LEAST_USABLE:
        return FoundMix(Mix(default), "few_usable", details)
    choice = search(evidence, Mix(default))
    details["candidates"] = choice.to_dict()["candidates"]
    # The default was not picked for its score, so that its worth is not flattered by that.
    details["curves"] = curves(evidence, default, seed).to_dict()
    mix = choice.mix
    reason: Reason = choice.reason
    if confirm is not None and mix.share > 0:
        found = confirm(evidence, mix)
        details["confirmation"] = asdict(found)
        if found.worse:
            mix, reason = GOLD_ALONE, "worse_when_tuned"
    return FoundMix(mix, reason, details)


def why_not(gold: Dataset | None, kept: Dataset) -> Reason | None:
    """Why a search cannot be made, or None."""
    if gold is None or not len(gold):
        return "no_gold"
    if not len(kept):
        return "no_synthetic"
    if not all(isinstance(label, str) for label in gold.labels):
        return "labels"
    if min(Counter(gold.labels).values()) < LEAST_TO_HOLD_OUT:
        return "few_gold"
    return None


def provenance(kept: Dataset) -> str:
    """What is known of the gold that the texts descend from.

    Returns:
        ``known``: every text names the gold that it was written from, or was written from none.
        ``unknown``: some came from elsewhere; they may descend from gold that was held out.
    """
    known = all(shots or request for shots, request in _origins(kept))
    return "known" if known else "unknown"


def _origins(kept: Dataset) -> list[tuple[list[str], str | None]]:
    return list(zip(kept.column("shot_ids"), kept.column("request_id"), strict=True))


def _folds(evidence: Evidence) -> dict[str, Any]:
    folds = [fold for repeat in evidence.repeats for fold in repeat]
    first = evidence.repeats[0]
    return {
        "repeats": len(evidence.repeats),
        "usable": [len(fold.split.usable) for fold in first],
        "synthetic": len(evidence.synthetic),
        "train": float(np.mean([len(fold.split.train) for fold in folds])),
        "gold": len(evidence.gold),
    }
