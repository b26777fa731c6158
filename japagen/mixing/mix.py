"""A mix of gold and synthetic text: how much, and why so much."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from japagen.examples import Dataset


@dataclass(frozen=True, order=True)
class Mix:
    """How much synthetic text to train on.

    Attributes:
        share: Synthetic share of the loss; 0 for gold alone.
        part: Part of each label's synthetic texts to use.
        at_random: Whether the part is drawn at random, not taken by weight. Either way a
            smaller part lies within a larger one.
    """

    share: float
    part: float = 1.0
    at_random: bool = False


GOLD_ALONE = Mix(0.0)


Reason = Literal[
    "given",
    "default",
    "better",
    "no_help",
    "worse_when_tuned",
    "no_gold",
    "no_synthetic",
    "few_gold",
    "few_usable",
    "labels",
]


@dataclass(frozen=True)
class FoundMix:
    """The mix to train on.

    Attributes:
        mix: Its share and part.
        reason: ``given`` by the task, ``default``, ``better``, ``no_help``, ``worse_when_tuned``,
            or why nothing was searched: ``no_gold``, ``no_synthetic``, ``few_gold``,
            ``few_usable``, ``labels``.
        details: Everything that was measured, JSON-ready; empty where nothing was.
    """

    mix: Mix
    reason: Reason
    details: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready mapping."""
        return {**asdict(self.mix), "reason": self.reason, **self.details}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> FoundMix:
        """Inverse of `to_dict`."""
        details = dict(found)
        mix = Mix(*(details.pop(name) for name in ("share", "part", "at_random")))
        return cls(mix, details.pop("reason"), details)

    def of(self, dataset: Dataset) -> Dataset | None:
        """The rows of a dataset to train on beside gold; None for gold alone."""
        if self.mix.share == 0:
            return None
        if self.mix.part == 1:
            return dataset
        kept = np.flatnonzero(dataset.kept_mask)
        weights = dataset.weights
        ids = dataset.column("id")
        labels = dataset.labels
        chosen: list[int] = []
        for label in sorted(set(labels)):
            rows = [int(i) for i in kept if labels[i] == label]
            rows.sort(key=lambda i: (-weights[i], ids[i]))
            chosen += rows[: int(np.ceil(self.mix.part * len(rows)))]
        return dataset.take(sorted(chosen))


def given_mix(share: float) -> FoundMix:
    """The mix that a task names."""
    return FoundMix(Mix(share), "given", {})
