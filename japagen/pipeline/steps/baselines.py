"""The baselines of a run, each scored next to its classifiers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from japagen.config.sections import Training
from japagen.config.task import Task
from japagen.config.task_data import TaskData
from japagen.curation.llm_judge import Question, requests
from japagen.data.dataset import Dataset
from japagen.data.files import digest
from japagen.data.labels import Floats, LabelSpace
from japagen.evaluation.baselines import fit_plain, fit_tfidf
from japagen.llm.answers import one_line
from japagen.llm.backend import GeneratorInfo, Request
from japagen.pipeline.cache import Step, only
from japagen.pipeline.context import RunContext, TaskContext, TextEncoder
from japagen.pipeline.steps.labels import Judge
from japagen.pipeline.steps.train import Baseline, Learnt, seeds_of

if TYPE_CHECKING:
    from japagen.training.classifier import Progress

_FITTED: tuple[tuple[str, Learnt], ...] = (
    ("tfidf", "gold"),
    ("tfidf", "union"),
    ("plain", "gold"),
    ("plain", "union"),
)


_BASELINE = Step("baseline", 2, ())


def fit_baselines(run: RunContext, texts: Dataset) -> list[Baseline]:
    """Fits to gold, and to gold and the kept synthetic texts; none without gold or test texts."""
    gold, task = run.data.gold, run.task
    if gold is None or run.data.test is None or not task.evaluation.baselines:
        return []
    if task.kind == "regression":
        return [Baseline(name, learnt, reason="kind") for name, learnt in _FITTED]
    known = {"gold": gold, "union": Dataset.concat([gold, texts.kept])}
    found = []
    for name, learnt in _FITTED:
        # Counting n-grams leaves nothing to chance.
        seeds = seeds_of(task)[:1] if name == "tfidf" else seeds_of(task)
        runs = [
            (seed, _fitted(run, f"baseline-{name}_{learnt}-{seed}", name, known[learnt], seed))
            for seed in seeds
        ]
        found.append(Baseline(name, learnt, runs))
    return found


def _fitted(run: RunContext, step: str, name: str, train: Dataset, seed: int) -> Floats:
    assert run.data.test is not None

    def progress(steps: Iterable[Any], total: int) -> Iterator[Any]:
        return run.listener.track(steps, total, step)

    more: dict[str, Any] = {}
    if name == "plain":
        names = ("encoder", "trust_remote_code", "max_length", "max_steps")
        settings = only(run.task.training, *names)
        more = {"encoder": run.encoder, "training": settings, "seed": seed}
    return run.cache.step(
        _BASELINE.named(step, f"predictions/{step}.npy"),
        _plain if name == "plain" else fit_tfidf,
        uses={"progress": progress} if name == "plain" else None,
        # Weights and provenance change without the texts or labels changing.
        train=train.only("text", "text_pair", "label"),
        test=run.data.test.only("text", "text_pair"),
        space=run.task.label_space(run.data.gold),
        **more,
    )


def _plain(
    train: Dataset,
    test: Dataset,
    space: LabelSpace,
    encoder: TextEncoder,
    training: Training,
    seed: int,
    progress: Progress,
) -> Floats:
    return fit_plain(
        train,
        test,
        space,
        encoder.loaded,
        seed=seed,
        max_length=training.max_length,
        max_steps=training.max_steps,
        progress=progress,
    )


_ZERO_SHOT = Step("zero_shot", 2, ("predictions/zero_shot.npy",))
# Enough to tell a good labeler from a poor one: 1.96 standard errors at 0.8 are 0.055.
_MOST = 200


def why_not_asked(task: Task, data: TaskData, info: GeneratorInfo) -> str | None:
    """Why the generator does not label test texts, as a code; None where it does."""
    settings = task.evaluation
    if settings.zero_shot == "never" or not settings.baselines:
        return "not_wanted"
    if data.gold is None or data.test is None:
        return "no_texts"
    if task.kind != "classification":
        return "kind"
    # One on this machine takes minutes for what one elsewhere answers at once.
    slow = info.local or info.prompt_kind == "document"
    return "slow" if slow and settings.zero_shot == "auto" else None


def chosen_rows(task: Task, test: Dataset) -> list[int]:
    """The test texts that are asked about: all, or a sample that stays as others come and go."""
    place = [digest([task.seed, e.text, e.text_pair]) for e in test]
    return sorted(sorted(range(len(test)), key=place.__getitem__)[:_MOST])


def questions_on(task: Task, test: Dataset) -> list[Question]:
    """What is asked: a text each, behind the labels and their descriptions, and no example."""
    asked = []
    for row in chosen_rows(task, test):
        example = test[row]
        pair = "" if example.text_pair is None else " ／ " + one_line(example.text_pair)
        asked.append(Question(0, False, row, one_line(example.text) + pair, ()))
    return asked


def zero_shot_requests(context: TaskContext, info: GeneratorInfo) -> list[Request]:
    """What would be sent to a generator that answers one by one; none where it is not asked."""
    task, test = context.task, context.data.test
    if test is None or why_not_asked(task, context.data, info) is not None:
        return []
    return requests(questions_on(task, test), task, context.prompts, info)


def zero_shot(run: RunContext) -> Baseline:
    """Asks the generator which label each of some test texts has; it is shown no gold.

    A base model's weights are taken off their mean over all texts (batch calibration, Zhou et
    al. 2023, arXiv:2309.17249): else it gives most texts its favourite label.
    """
    task, test = run.task, run.data.test
    reason = why_not_asked(task, run.data, run.client.info)
    if reason is not None or test is None:
        return _left_out(reason or "no_texts")
    judge = Judge.of(run, run.client, _ZERO_SHOT)
    if judge is None:
        return _left_out("no_generator")
    found = run.cache.step(
        _ZERO_SHOT,
        _judged,
        unanswered=judge.unanswered,
        test=test.only("text", "text_pair"),
        judge=judge,
    )
    if judge.unanswered:
        return _left_out("unanswered")
    if not len(found):
        return _left_out("no_generator")
    return Baseline("zero_shot", "nothing", [(task.seed, found)], chosen_rows(task, test))


def _judged(test: Dataset, judge: Judge) -> Floats:
    scores = judge.judge(questions_on(judge.task, test))
    if not scores:
        return np.zeros((0, len(judge.task.labels)))
    found = np.asarray(scores, dtype=np.float64)
    if judge.generator.prompt_kind == "document":
        found -= found.mean(axis=0)
    return judge.task.label_space().from_logits(found)


def _left_out(reason: str) -> Baseline:
    return Baseline("zero_shot", "nothing", reason=reason)
