"""Checks a mix by fine-tuning on some folds, with and without synthetic text."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from japagen.mixing.evidence import Evidence, Fold
from japagen.mixing.linear_head import Floats
from japagen.mixing.mix import Mix

# Probabilities of a fold's held-out gold, shape (held, labels), after fine-tuning on its
# training gold and the given positions of its usable texts at the given share of the loss.
Tune = Callable[[Fold, Mix, float], Floats]
_LEAST = 1e-6


@dataclass(frozen=True)
class Confirmation:
    """What fine-tuning found.

    Attributes:
        texts: Held-out gold texts that were classified both ways.
        gain: How much lower their mean log-loss is with synthetic text, nats.
        error: Its standard error over the texts.
        seconds: Time it took.
    """

    texts: int
    gain: float
    error: float
    seconds: float

    @property
    def worse(self) -> bool:
        """Whether synthetic text did worse by more than one standard error."""
        return self.gain < -self.error


def confirm(
    evidence: Evidence, mix: Mix, tune: Tune, *, most_folds: int, minutes: float
) -> Confirmation:
    """Fine-tunes on the first folds, each with and without synthetic text.

    Args:
        evidence: The folds of the search.
        mix: What the search chose; its share is above 0.
        tune: Fine-tunes and classifies.
        most_folds: Folds to use at most.
        minutes: No further fold is begun after this time.
    """
    started = time.monotonic()
    gains: list[float] = []
    for fold in evidence.repeats[0][:most_folds]:
        if gains and time.monotonic() - started > 60 * minutes:
            break
        held = evidence.gold_targets[fold.split.held]
        share = evidence.fold_share(mix, len(fold.split.train), len(fold.choose(mix)))
        losses = [
            -np.log(np.maximum(tune(fold, mix, s)[np.arange(len(held)), held], _LEAST))
            for s in (0.0, share)
        ]
        gains += (losses[0] - losses[1]).tolist()
    error = float(np.std(gains, ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else 0.0
    return Confirmation(len(gains), float(np.mean(gains)), error, time.monotonic() - started)
