"""Makes the baselines of a run, each once, and scores them beside the run's own classifiers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from japagen.baselines import Floats, fit_plain, fit_tfidf
from japagen.examples import Dataset
from japagen.running.data import TaskData
from japagen.running.stage_runner import StageRunner
from japagen.stages.scoring import Baseline, Learnt
from japagen.storage.files import read_array, write_array
from japagen.tasks.tasks import Task

_FITTED: tuple[tuple[str, Learnt], ...] = (
    ("tfidf", "gold"),
    ("tfidf", "union"),
    ("plain", "gold"),
    ("plain", "union"),
)


class Baselines:
    """Fits the baselines of a task.

    Args:
        task: Settings and labels.
        data: Gold and test texts.
        stages: Where predictions are kept.
    """

    def __init__(self, task: Task, data: TaskData, stages: StageRunner) -> None:
        self._task = task
        self._data = data
        self._stages = stages

    def fit(self, dataset: Dataset, seeds: Sequence[int]) -> list[Baseline]:
        """Fits to gold, and to gold and the kept synthetic texts; none without gold or test texts.

        Args:
            dataset: Synthetic examples; what was rejected is left out.
            seeds: Of fine-tuning.
        """
        gold, test, task = self._data.gold, self._data.test, self._task
        if gold is None or test is None or not task.evaluation.baselines:
            return []
        if task.kind == "regression":
            return [Baseline(name, learnt, reason="kind") for name, learnt in _FITTED]
        texts = {"gold": gold, "union": Dataset.concat([gold, dataset.kept])}
        found = []
        for name, learnt in _FITTED:
            fit = self._tfidf if name == "tfidf" else self._plain
            # Counting n-grams leaves nothing to chance.
            own = seeds[:1] if name == "tfidf" else seeds
            runs = [(seed, fit(texts[learnt], test, learnt, seed)) for seed in own]
            found.append(Baseline(name, learnt, runs))
        return found

    def _tfidf(self, train: Dataset, test: Dataset, learnt: Learnt, seed: int) -> Floats:
        space = self._task.label_space(self._data.gold)
        return self._kept(
            *(f"baseline-tfidf_{learnt}-{seed}", train, test),
            lambda: fit_tfidf(train, test, space),
        )

    def _plain(self, train: Dataset, test: Dataset, learnt: Learnt, seed: int) -> Floats:
        from japagen.training.encoders import encoder_identity, load_encoder

        settings, name = self._task.training, f"baseline-plain_{learnt}-{seed}"

        def progress(steps: Iterable[Any], total: int) -> Iterator[Any]:
            return self._stages.listener.track(steps, total, name)

        def make() -> Floats:
            return fit_plain(
                train,
                test,
                self._task.label_space(self._data.gold),
                load_encoder(settings.encoder, trust_remote_code=settings.trust_remote_code),
                seed=seed,
                max_length=settings.max_length,
                max_steps=settings.max_steps,
                progress=progress,
            )

        return self._kept(
            *(name, train, test, make),
            encoder=encoder_identity(settings.encoder),
            read=[settings.max_length, settings.max_steps],
        )

    def _kept(
        self, name: str, train: Dataset, test: Dataset, make: Callable[[], Floats], **more: object
    ) -> Floats:
        # Weights and provenance change without the texts or labels changing.
        columns = ("text", "text_pair", "label")
        inputs = {
            "examples": [train.column(column) for column in columns],
            "test": test.fingerprint,
            "labels": list(self._task.labels),
            **more,
        }
        output = str(Path("predictions") / f"{name}.npy")
        return self._stages.run(name, [output], inputs, make, write_array, read_array)
