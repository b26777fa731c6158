"""The two sides of a run's comparison: classifiers from gold alone, and from more than that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from japagen.examples import Dataset
from japagen.running.data import TaskData
from japagen.running.stage_runner import StageRunner, fingerprint_of
from japagen.storage.files import digest, read_array, write_array
from japagen.tasks.tasks import Task
from japagen.training.pseudo_labels import PseudoLabels

_MOST_SHARE = 0.99
MODEL = "model"
GOLD_MODEL = "model-gold"
# Settings that say what there is to train on, and how often, but not how.
_NOT_TRAINED_BY = {"seeds", "synthetic_share", "pseudo_labels", "pseudo_label_texts", "labeler"}


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
        self._gold_only: dict[int, npt.NDArray[np.float64]] = {}

    @property
    def seeds(self) -> list[int]:
        """The training seeds; the first one's classifiers are saved."""
        return [self._task.seed + offset for offset in range(self._task.training.seeds)]

    def gold_only(self, seed: int, *, shipped: bool = False) -> npt.NDArray[np.float64]:
        """Probabilities on the test texts, shape (n, labels), after training on gold alone.

        Args:
            seed: Of the training.
            shipped: Whether the run leaves this classifier; only then is it calibrated.
        """
        if seed not in self._gold_only:
            saved = GOLD_MODEL if seed == self._task.seed else None
            name = f"train-gold-{seed}"
            self._gold_only[seed] = self._fit(None, seed, name, saved, calibrated=shipped)
        return self._gold_only[seed]

    def with_synthetic(
        self,
        dataset: Dataset | None,
        seed: int,
        share: float | None = None,
        pseudo: PseudoLabels | None = None,
    ) -> npt.NDArray[np.float64]:
        """The same after training on gold, if any, and whatever else there is.

        Args:
            dataset: Synthetic examples, if any.
            seed: Of the training.
            share: Synthetic share of the loss; the task's when None.
            pseudo: Unlabelled texts that voters labelled, if any. With neither, the classifier
                of gold alone is shipped.
        """
        saved = MODEL if seed == self._task.seed else None
        name = f"train-synthetic-{seed}"
        if dataset is None and pseudo is None:
            return self._ship_gold_only(seed, name, saved)
        return self._fit(dataset, seed, name, saved, share, pseudo)

    def inputs(self) -> dict[str, Any]:
        """What every training of the run depends on besides its examples."""
        from japagen.training.encoders import encoder_identity

        settings = self._task.training
        return {
            "gold": fingerprint_of(self._data.gold),
            "training": settings.model_dump(mode="json", exclude=_NOT_TRAINED_BY),
            "encoder": encoder_identity(settings.encoder),
            "labels": list(self._task.labels.items()),
        }

    def _fit(
        self,
        dataset: Dataset | None,
        seed: int,
        name: str,
        saved: str | None,
        share: float | None = None,
        pseudo: PseudoLabels | None = None,
        *,
        calibrated: bool = True,
    ) -> npt.NDArray[np.float64]:
        settings, test = self._task.training, self._data.test
        share = None if dataset is None else share
        if share is not None:
            # Without gold there is nothing to share the loss with.
            share = min(share, _MOST_SHARE)
            settings = settings.model_copy(update={"synthetic_share": share})
        fingerprint = {**self._trained_on(dataset, share), "calibrated": calibrated}
        if pseudo is not None:
            fingerprint["pseudo"] = [
                pseudo.texts.fingerprint,
                digest(pseudo.probabilities.tolist()),
                pseudo.text_weight,
            ]

        def make() -> npt.NDArray[np.float64]:
            from japagen.training.fitting import train

            def progress(steps: Iterable[Any], total: int) -> Iterator[Any]:
                return self._stages.listener.track(steps, total, name)

            classifier = train(
                dataset,
                self._data.gold,
                encoder=settings.encoder,
                descriptions=self._task.labels,
                settings=settings,
                seed=seed,
                pseudo=pseudo,
                calibrated=calibrated,
                progress=progress,
            )
            if saved:
                classifier.save(self._stages.directory.file(saved))
            if test is None:
                return np.zeros((0, len(self._task.labels)))
            return classifier.probabilities(test.texts, test.column("text_pair"), progress=progress)

        return self._predictions(name, saved, fingerprint, make)

    def _ship_gold_only(self, seed: int, name: str, saved: str | None) -> npt.NDArray[np.float64]:
        """Makes the classifier of gold alone the one that the run leaves."""
        found = self.gold_only(seed, shipped=True)

        def make() -> npt.NDArray[np.float64]:
            if saved:
                from japagen.training.classifier import Classifier

                classifier = Classifier.load(self._stages.directory.file(GOLD_MODEL))
                classifier.save(self._stages.directory.file(saved))
            return found

        return self._predictions(name, saved, self._trained_on(None, 0.0), make)

    def _trained_on(self, dataset: Dataset | None, share: float | None) -> dict[str, Any]:
        return {
            "examples": fingerprint_of(dataset),
            "share": share,
            "test": fingerprint_of(self._data.test),
            **self.inputs(),
        }

    def _predictions(
        self,
        name: str,
        saved: str | None,
        fingerprint: dict[str, Any],
        make: Callable[[], npt.NDArray[np.float64]],
    ) -> npt.NDArray[np.float64]:
        output = str(Path("predictions") / f"{name}.npy")
        outputs = [output, saved] if saved else [output]
        # The one directory of the saved classifier is that of the first seed, whichever it is.
        inputs = {**fingerprint, "saved": saved and self._task.seed}

        def made() -> npt.NDArray[np.float64]:
            if saved:
                # What another seed has left in that directory is about to go.
                self._stages.directory.forget_others(name)
            return make()

        return self._stages.run(name, outputs, inputs, made, write_array, read_array)
