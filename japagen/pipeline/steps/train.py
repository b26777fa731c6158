"""The step "train": the trained models and their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from japagen.config.sections import Training
from japagen.config.task import Task
from japagen.config.task_data import TaskData
from japagen.data.dataset import Dataset, Label
from japagen.data.labels import LabelSpace, PseudoLabels
from japagen.data.registry import metrics_of
from japagen.data.scores import Interval
from japagen.evaluation.metrics import (
    bootstrap_difference,
    bootstrap_score,
    calibration_bins,
    coverage_curve,
    expected_calibration_error,
    score,
)
from japagen.pipeline.cache import Step, only
from japagen.pipeline.context import RunContext, TextEncoder
from japagen.pipeline.run_directory import Run, RunDirectory

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier, Progress

Floats = npt.NDArray[np.float64]

MODEL = "model"
Variant = Literal["gold", "synthetic"]
_MODELS: dict[Variant, str] = {"gold": "model-gold", "synthetic": MODEL}
_TRAIN = Step("train", 6, ())
_MOST_SHARE = 0.99
# Settings that say what there is to train on, and how often, but not how.
_NOT_TRAINED_BY = {"seeds", "synthetic_share", "pseudo_labels", "pseudo_label_texts", "labeler"}
# The encoder counts by its contents, wherever it lies.
_NOT_TRAINED_BY |= {"encoder"}
Seeded = tuple[int, npt.NDArray[np.float64]]
"""The seed of a training and what its classifier gave for the test texts, shape
(n, `LabelSpace.outputs`)."""


@dataclass(frozen=True)
class LazyClassifier:
    """A classifier that is read when it is needed.

    Attributes:
        identity: Of the training that left it.
        load: Reads it.
    """

    identity: Any
    load: Callable[[], Classifier]


@dataclass(frozen=True)
class Trained:
    """The compared classifiers of a run.

    Attributes:
        with_synthetic: Of gold, if any, and whatever else there is, one for each seed.
        gold_only: Of training on gold only; empty where there is no gold, or nothing to score on.
        shipped: The classifier that the run leaves.
    """

    with_synthetic: list[Seeded]
    gold_only: list[Seeded]
    shipped: LazyClassifier


def seeds_of(task: Task) -> list[int]:
    """The training seeds; the first one's classifiers are saved."""
    return [task.seed + offset for offset in range(task.training.seeds)]


def train_classifiers(
    run: RunContext, texts: Dataset | None, share: float, pseudo: PseudoLabels | None
) -> Trained:
    """Trains with and without synthetic text, once a seed.

    With neither synthetic nor pseudo-labelled texts, the classifier of gold only is shipped.
    """
    task, data = run.task, run.data
    with_synthetic, gold_only = [], []
    alone = texts is None and pseudo is None
    for seed in seeds_of(task):
        if alone:
            # Only the classifier that is shipped is calibrated.
            gold = _fit(run, "gold", seed)
            with_synthetic.append((seed, _ship(run, seed, gold)))
        else:
            both = _fit(run, "synthetic", seed, texts=texts, share=share, pseudo=pseudo)
            with_synthetic.append((seed, both))
        if data.gold is not None and data.test is not None:
            if not alone:
                gold = _fit(run, "gold", seed, calibrated=False)
            gold_only.append((seed, gold))
    identity = run.cache.identity(f"train-synthetic-{task.seed}")
    directory = run.cache.directory.path
    shipped = LazyClassifier(identity, lambda: Run(directory).classifier)
    return Trained(with_synthetic, gold_only, shipped)


def _fit(
    run: RunContext,
    variant: Variant,
    seed: int,
    *,
    texts: Dataset | None = None,
    share: float | None = None,
    pseudo: PseudoLabels | None = None,
    calibrated: bool = True,
) -> Floats:
    """Probabilities on the test texts, shape (n, labels), after a training."""
    task, data = run.task, run.data
    step, saved = _step(run, variant, seed)
    settings = only(task.training, *(set(Training.model_fields) - _NOT_TRAINED_BY))
    if texts is not None and share is not None:
        # Without gold there is nothing to share the loss with.
        share = share if data.gold else min(share, _MOST_SHARE)
        settings = settings.model_copy(update={"synthetic_share": share})

    def progress(steps: Iterable[Any], total: int) -> Iterator[Any]:
        return run.listener.track(steps, total, step.name)

    return run.cache.step(
        step,
        _trained,
        uses={"progress": progress, "directory": run.cache.directory},
        texts=texts,
        gold=data.gold,
        test=data.test and data.test.only("text", "text_pair"),
        labels=task.labels,
        training=settings,
        encoder=run.encoder,
        pseudo=pseudo,
        # The classifier that is shipped knows from them what is out of scope.
        unlabelled=data.unlabelled if calibrated else None,
        seed=seed,
        calibrated=calibrated,
        saved=saved,
    )


def _trained(
    texts: Dataset | None,
    gold: Dataset | None,
    test: Dataset | None,
    labels: Mapping[str, str],
    training: Training,
    encoder: TextEncoder,
    pseudo: PseudoLabels | None,
    unlabelled: Dataset | None,
    seed: int,
    calibrated: bool,
    saved: str | None,
    progress: Progress,
    directory: RunDirectory,
) -> Floats:
    from japagen.training.trainer import train

    classifier = train(
        texts,
        gold,
        encoder=encoder.loaded,
        descriptions=labels,
        settings=training,
        seed=seed,
        pseudo=pseudo,
        calibrated=calibrated,
        unlabelled=unlabelled,
        progress=progress,
    )
    if saved:
        classifier.save(directory.file(saved))
    if test is None:
        return np.zeros((0, len(labels)))
    return classifier.probabilities(test.texts, test.column("text_pair"), progress=progress)


def _ship(run: RunContext, seed: int, found: Floats) -> Floats:
    """Makes the gold-only classifier the one that the run leaves."""
    step, saved = _step(run, "synthetic", seed)
    gold = run.cache.identity(f"train-gold-{seed}")
    uses = {"found": found, "directory": run.cache.directory}
    return run.cache.step(step, _shipped, uses=uses, gold=gold, saved=saved)


def _shipped(gold: Any, saved: str | None, found: Floats, directory: RunDirectory) -> Floats:
    if saved:
        from japagen.training.classifier import Classifier

        Classifier.load(directory.file(_MODELS["gold"])).save(directory.file(saved))
    return found


def _step(run: RunContext, variant: Variant, seed: int) -> tuple[Step, str | None]:
    """A training, and the directory that its classifier is saved to: that of the first seed is."""
    name, saved = f"train-{variant}-{seed}", _MODELS[variant] if seed == run.task.seed else None
    return _TRAIN.named(name, f"predictions/{name}.npy", *([saved] if saved else [])), saved


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
    """Scores of both classifiers and of the baselines, the gain of one over the other, the verdict.

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
        "gold_only": _model_scores(task, true, gold_only, space) if gold_only else None,
        "with_synthetic": _model_scores(task, true, with_synthetic, space),
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
    scored = _model_scores(task, asked, baseline.runs, space)
    gain = bootstrap_difference(
        space.codes(asked),
        [space.decide(outputs[rows]) for _, outputs in ours],
        [space.decide(outputs) for _, outputs in baseline.runs],
        task.metric,
        resamples=task.evaluation.bootstrap,
        seed=task.seed,
    )
    kept = (*metrics_of(space.kind), f"{task.metric}_sd", "intervals", "seeds")
    return {**found, "n": len(rows), **{key: scored[key] for key in kept}, "gain": asdict(gain)}


def _model_scores(
    task: Task, true: Sequence[Label], runs: Sequence[Seeded], space: LabelSpace
) -> dict[str, Any]:
    """Scores of one classifier: means over training seeds with intervals, details of the first."""
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
        **_confidence(runs[0][1], true, space),
    }


def _confidence(outputs: Floats, true: Sequence[Label], space: LabelSpace) -> dict[str, Any]:
    """How far a classifier's confidence can be relied on, of classes."""
    if space.kind != "classification":
        return {"ece": None}
    judged = outputs, [str(label) for label in true], list(space.names)
    return {
        "ece": expected_calibration_error(*judged),
        "calibration": [row.model_dump() for row in calibration_bins(*judged)],
        "coverage": [row.model_dump() for row in coverage_curve(*judged)],
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
