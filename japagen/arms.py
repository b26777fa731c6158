"""The two sides of a run's comparison: a classifier from gold alone, and one with synthetic text.

The first is also the judge of the second's training text: how likely it finds the label that a
synthetic text was asked for is that text's `weight_label`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from japagen.data import TaskData
from japagen.examples import Dataset
from japagen.files import read_array, write_array
from japagen.stage_runner import StageRunner, fingerprint_of
from japagen.tasks import Task

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier

MODEL = "model"
GOLD_MODEL = "model-gold"


class Arms:
    """Trains both sides, each once a seed.

    Args:
        task: Settings and labels.
        data: Gold and test texts.
        stages: Where results are kept.
    """

    def __init__(self, task: Task, data: TaskData, stages: StageRunner) -> None:
        self._task = task
        self._data = data
        self._stages = stages
        self._judge: Classifier | None = None
        self._gold_only: dict[int, npt.NDArray[np.float64]] = {}

    @property
    def seeds(self) -> list[int]:
        """The training seeds; the first one's classifiers are saved."""
        return [self._task.seed + offset for offset in range(self._task.training.seeds)]

    def gold_only(self, seed: int) -> npt.NDArray[np.float64]:
        """Probabilities on the test texts, shape (n, labels), after training on gold alone."""
        if seed not in self._gold_only:
            saved = GOLD_MODEL if seed == self._task.seed else None
            self._gold_only[seed] = self._fit(None, seed, f"train-gold-{seed}", saved)
        return self._gold_only[seed]

    def with_synthetic(self, dataset: Dataset, seed: int) -> npt.NDArray[np.float64]:
        """The same after training on gold, if any, and synthetic text."""
        saved = MODEL if seed == self._task.seed else None
        return self._fit(dataset, seed, f"train-synthetic-{seed}", saved)

    def trust_labels(self, dataset: Dataset) -> Dataset:
        """Sets `weight_label` to the probability of each row's label under gold alone.

        That classifier never saw synthetic text. It has learnt from the gold that the prompt
        showed, so it is generous to texts that repeat their shots.
        """
        self.gold_only(self._task.seed)
        fingerprint = {"examples": dataset.fingerprint, **self.inputs()}

        def make() -> Dataset:
            judge = self._judge or self._load_judge()
            return dataset.with_columns(weight_label=judge.probability_of_label(dataset))

        return self._stages.dataset("trust", "trusted.parquet", fingerprint, make)

    def _load_judge(self) -> Classifier:
        from japagen.training.classifier import Classifier

        return Classifier.load(self._stages.directory.file(GOLD_MODEL))

    def inputs(self) -> dict[str, Any]:
        """What every training of the run depends on besides its examples."""
        from japagen.training.encoders import encoder_identity

        settings = self._task.training
        return {
            "gold": fingerprint_of(self._data.gold),
            "training": settings.model_dump(mode="json", exclude={"seeds"}),
            "encoder": encoder_identity(settings.encoder),
            "labels": list(self._task.labels),
        }

    def _fit(
        self, dataset: Dataset | None, seed: int, name: str, saved: str | None
    ) -> npt.NDArray[np.float64]:
        settings, test = self._task.training, self._data.test
        fingerprint = {
            "examples": fingerprint_of(dataset),
            "test": fingerprint_of(test),
            **self.inputs(),
        }

        def make() -> npt.NDArray[np.float64]:
            from japagen.training.fitting import train

            def progress(steps: Iterable[Any], total: int) -> Iterator[Any]:
                return self._stages.listener.track(steps, total, name)

            classifier = train(
                dataset,
                self._data.gold,
                encoder=settings.encoder,
                labels=list(self._task.labels),
                settings=settings,
                seed=seed,
                progress=progress,
            )
            if saved:
                classifier.save(self._stages.directory.file(saved))
            if saved == GOLD_MODEL:
                self._judge = classifier
            if test is None:
                return np.zeros((0, len(self._task.labels)))
            return classifier.probabilities(test.texts, test.column("text_pair"), progress=progress)

        output = str(Path("predictions") / f"{name}.npy")
        outputs = [output, saved] if saved else [output]
        return self._stages.run(name, outputs, fingerprint, make, write_array, read_array)
