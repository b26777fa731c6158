"""The step "train": the trained models and their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from japagen.config.task import Task
from japagen.config.task_data import TaskData
from japagen.data.dataset import Dataset, Label
from japagen.data.files import digest, read_array, write_array
from japagen.data.labels import LabelSpace, PseudoLabels
from japagen.data.registry import metrics_of
from japagen.data.summary import Interval
from japagen.evaluation.metrics import (
    bootstrap_difference,
    bootstrap_score,
    expected_calibration_error,
    score,
)
from japagen.pipeline.cache import StageRunner, fingerprint_of

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
        from japagen.training.encoder import encoder_identity

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
            share = share if self._data.gold else min(share, _MOST_SHARE)
            settings = settings.model_copy(update={"synthetic_share": share})
        fingerprint = {**self._trained_on(dataset, share), "calibrated": calibrated}
        unlabelled = self._data.unlabelled if calibrated else None
        if unlabelled is not None:
            fingerprint["unlabelled"] = unlabelled.fingerprint
        if pseudo is not None:
            fingerprint["pseudo"] = [
                pseudo.texts.fingerprint,
                digest(pseudo.probabilities.tolist()),
                pseudo.text_weight,
            ]

        def make() -> npt.NDArray[np.float64]:
            from japagen.training.trainer import train

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
                unlabelled=unlabelled,
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


Seeded = tuple[int, npt.NDArray[np.float64]]
"""The seed of a training and what its classifier gave for the test texts, shape
(n, `LabelSpace.outputs`)."""
Learnt = Literal["gold", "union", "nothing"]
_ERRORS_SHOWN = 30
# Below this an accuracy is known to no better than 0.14 or so: 1.96 standard errors at 0.5.
_FEW = 50


@dataclass(frozen=True)
class Baseline:
    """One baseline of a run.

    Attributes:
        name: ``tfidf``, ``plain`` or ``zero_shot``.
        learnt: What it was fitted to: gold, gold and all kept synthetic texts alike, or nothing.
        runs: Seed and what it gave for the test texts, a fitting; empty where it was left out.
        rows: The test texts that it was asked about; all when None.
        reason: Why it was left out, as a code.
    """

    name: str
    learnt: Learnt
    runs: Sequence[Seeded] = ()
    rows: Sequence[int] | None = None
    reason: str | None = None


def scores_of(
    task: Task,
    data: TaskData,
    with_synthetic: Sequence[Seeded],
    gold_only: Sequence[Seeded],
    baselines: Sequence[Baseline] = (),
    *,
    used: bool = True,
) -> dict[str, Any] | None:
    """Both arms' scores beside the baselines'; the gain of one over the other, and the verdict.

    Args:
        task: The task.
        data: Its texts.
        with_synthetic: The trainings on synthetic text.
        gold_only: Those on gold alone; perhaps none.
        baselines: What a reader would try first.
        used: Whether the first were on synthetic text after all.

    Returns:
        JSON-ready; None where there is nothing to score.
    """
    test = data.test
    if test is None or not with_synthetic:
        return None
    space, true = task.label_space(data.gold), test.labels
    gain = None
    if gold_only and used:
        gain = bootstrap_difference(
            space.codes(true),
            [space.decide(p) for _, p in with_synthetic],
            [space.decide(p) for _, p in gold_only],
            task.metric,
            resamples=task.evaluation.bootstrap,
            seed=task.seed,
        )
    return {
        "n": len(test),
        "few": len(test) < _FEW,
        "metric": task.metric,
        "metrics": list(metrics_of(task.kind)),
        "baselines": [_baseline(task, true, b, with_synthetic, space) for b in baselines],
        "gold_only": _arm(task, true, gold_only, space) if gold_only else None,
        "with_synthetic": _arm(task, true, with_synthetic, space),
        "gain": asdict(gain) if gain else None,
        "verdict": _verdict(gain) if used else "not_used",
    }


def _verdict(gain: Interval | None) -> str:
    if gain is None:
        return "not_measured"
    if gain.low > 0:
        return "better"
    return "worse" if gain.high < 0 else "no_clear_difference"


def _baseline(
    task: Task,
    true: Sequence[Label],
    baseline: Baseline,
    ours: Sequence[Seeded],
    space: LabelSpace,
) -> dict[str, Any]:
    """A baseline's scores, and the gain of the run's classifier over it on the same texts."""
    found: dict[str, Any] = {
        "name": baseline.name,
        "learnt": baseline.learnt,
        "reason": baseline.reason,
    }
    if not baseline.runs:
        return found
    rows = list(range(len(true))) if baseline.rows is None else list(baseline.rows)
    asked = [true[row] for row in rows]
    arm = _arm(task, asked, baseline.runs, space)
    gain = bootstrap_difference(
        space.codes(asked),
        [space.decide(outputs[rows]) for _, outputs in ours],
        [space.decide(outputs) for _, outputs in baseline.runs],
        task.metric,
        resamples=task.evaluation.bootstrap,
        seed=task.seed,
    )
    kept = (*metrics_of(space.kind), f"{task.metric}_sd", "intervals", "seeds")
    return {**found, "n": len(rows), **{key: arm[key] for key in kept}, "gain": asdict(gain)}


def _arm(
    task: Task, true: Sequence[Label], runs: Sequence[Seeded], space: LabelSpace
) -> dict[str, Any]:
    """Scores of one arm: means over training seeds with intervals, details of the first."""
    decided = [space.decide(outputs) for _, outputs in runs]
    scored = [score(true, codes, space) for codes in decided]
    metrics = metrics_of(space.kind)
    lead = [s[task.metric] for s in scored]
    intervals = {
        name: bootstrap_score(
            space.codes(true),
            decided,
            name,
            resamples=task.evaluation.bootstrap,
            seed=task.seed,
        )
        for name in metrics
    }
    means = {name: float(np.mean([s[name] for s in scored])) for name in metrics}
    return {
        **scored[0],
        **means,
        f"{task.metric}_sd": float(np.std(lead, ddof=1)) if len(lead) > 1 else None,
        "intervals": {name: asdict(found) for name, found in intervals.items()},
        "seeds": [
            {"seed": seed, **{name: s[name] for name in metrics}}
            for (seed, _), s in zip(runs, scored, strict=True)
        ],
        "ece": expected_calibration_error(
            runs[0][1], [str(label) for label in true], list(space.names)
        )
        if space.kind == "classification"
        else None,
    }


def errors_of(task: Task, data: TaskData, with_synthetic: Sequence[Seeded]) -> list[dict[str, Any]]:
    """Test texts that were got wrong, the surest first; of numbers those furthest off."""
    test = data.test
    if test is None or not with_synthetic:
        return []
    space = task.label_space(data.gold)
    outputs = with_synthetic[0][1]
    codes, truth = space.decide(outputs), space.codes(test.labels)
    if space.kind == "regression":
        wrong, order = np.abs(codes - truth).max(axis=1) > 0, np.abs(codes - truth)[:, 0]
    else:
        wrong = (codes != truth).any(axis=1)
        order = np.where(codes > 0, outputs, 1 - outputs).min(axis=1)
        if space.kind == "classification":
            order = outputs.max(axis=1)
    predicted = space.labels(codes)
    rows = [i for i in np.argsort(-order, kind="stable") if wrong[i]][:_ERRORS_SHOWN]
    return [
        {
            "text": example.text,
            "text_pair": example.text_pair,
            "true": example.label,
            "predicted": predicted[i],
            "probability": None if space.kind == "regression" else round(float(order[i]), 4),
        }
        for i, example in zip(rows, test.take(rows), strict=True)
    ]
