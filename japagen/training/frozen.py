"""Heads as `train` fits them where it leaves the encoder as it is, on vectors made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from japagen.tasks.kinds import LabelSpace
from japagen.tasks.settings import Training
from japagen.training.descriptions import label_phrases
from japagen.training.fitting import untrained
from japagen.training.heads import head_features
from japagen.training.probing import Floats, Ints, Labelled, fit_head

_LEAST = 1e-12


class FrozenTraining:
    """One encoder and the descriptions of the labels, for any number of heads.

    Args:
        encoder: ``embedded``, a directory or a Hub name.
        descriptions: Label to what it covers, in the order of the targets.
        settings: How long a text may be.
        is_pair: Whether texts come in pairs.
    """

    def __init__(
        self,
        encoder: str,
        descriptions: Mapping[str, str],
        settings: Training,
        is_pair: bool = False,
    ) -> None:
        self._space = LabelSpace("classification", tuple(descriptions))
        self._classifier = untrained(encoder, self._space, settings, is_pair=is_pair, tunes=False)
        self._phrases, self._phrase_labels = self.vectors([]), np.zeros(0, dtype=np.int64)
        if not is_pair:
            phrases, of_label = label_phrases(list(descriptions), descriptions)
            self._phrases = self.vectors(phrases)
            self._phrase_labels = np.array(of_label, dtype=np.int64)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label, in the order of the targets."""
        return self._space.names

    def vectors(self, texts: Sequence[str], pairs: Sequence[str | None] | None = None) -> Floats:
        """What a head sees of texts or pairs, shape (n, width)."""
        rows = self._classifier.encode(texts, pairs) if texts else []
        return head_features(self._classifier, rows)

    def probabilities(self, vectors: Floats, targets: Ints, mass: Floats, others: Floats) -> Floats:
        """Fits a head and classifies other texts, uncalibrated.

        Args:
            vectors: Of the texts, shape (n, width).
            targets: Their label indices, shape (n,).
            mass: Gold texts that each counts for, shape (n,).
            others: What to classify, shape (m, width).

        Returns:
            Shape (m, labels).
        """
        data = Labelled(
            rows=[{}] * len(vectors),
            targets=np.eye(len(self._space.names))[targets],
            mass=mass,
            phrases=[{}] * len(self._phrases),
            phrase_labels=self._phrase_labels,
            space=self._space,
            apart=self._classifier.reads_apart,
        )
        return fit_head(data, vectors, self._phrases).outputs(others, self._space)

    def log_probabilities(self, vectors: Floats, targets: Ints, others: Floats) -> Floats:
        """Fits a head to gold alone and classifies other texts, uncalibrated.

        Args:
            vectors: Of the gold texts, shape (n, width).
            targets: Their label indices, shape (n,).
            others: What to classify, shape (m, width).

        Returns:
            Shape (m, labels).
        """
        mass = np.ones(len(vectors))
        found = self.probabilities(vectors, targets, mass, others)
        return np.asarray(np.log(np.maximum(found, _LEAST)), dtype=np.float64)
