"""Real texts without labels, and what labelers made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from japagen.examples import Dataset


@dataclass(frozen=True)
class PseudoLabels:
    """Texts that a classifier learns from although nobody labelled them (Lee 2013).

    Attributes:
        texts: The texts, each with its likeliest label.
        probabilities: Of every label, in the order of the task's, shape (texts, labels).
        text_weight: Gold texts that each counts for in the loss.
    """

    texts: Dataset
    probabilities: npt.NDArray[np.float64]
    text_weight: float = 1.0

    def __len__(self) -> int:
        return len(self.texts)
