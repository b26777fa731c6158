"""The baselines of a run, each scored next to its classifiers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from japagen.config.task import Task
from japagen.config.task_data import TaskData
from japagen.curation.llm_judge import Question, requests
from japagen.data.dataset import Dataset
from japagen.data.files import digest, read_array, write_array
from japagen.evaluation.baselines import Floats, fit_plain, fit_tfidf
from japagen.llm.answers import one_line
from japagen.llm.backend import GeneratorInfo, Request
from japagen.llm.client import Asker
from japagen.llm.prompts import PromptLibrary
from japagen.pipeline.cache import StageRunner
from japagen.pipeline.steps.labels import Voters
from japagen.pipeline.steps.train import Baseline, Learnt

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
            f"baseline-tfidf_{learnt}-{seed}",
            train,
            test,
            lambda: fit_tfidf(train, test, space),
        )

    def _plain(self, train: Dataset, test: Dataset, learnt: Learnt, seed: int) -> Floats:
        from japagen.training.encoder import encoder_identity, load_encoder

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
            name,
            train,
            test,
            make,
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


STAGE = "zero_shot"
# Enough to tell a good labeler from a poor one: 1.96 standard errors at 0.8 are 0.055.
_MOST = 200
_OUTPUT = "predictions/zero_shot.npy"


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


def zero_shot_requests(task: Task, data: TaskData, info: GeneratorInfo) -> list[Request]:
    """What would be sent to a generator that answers one by one; none where it is not asked."""
    if why_not_asked(task, data, info) is not None:
        return []
    assert data.test is not None
    prompts = PromptLibrary(task.generation.prompts)
    return requests(questions_on(task, data.test), task, prompts, info)


def zero_shot(task: Task, data: TaskData, asker: Asker, stages: StageRunner) -> Baseline:
    """Asks the generator which label each of some test texts has.

    A base model's weights are taken off their mean over all texts (batch calibration, Zhou et
    al. 2023, arXiv:2309.17249): else it gives most texts its favourite label.

    Args:
        task: Settings and labels.
        data: Gold, which is not shown, and test texts.
        asker: The generator.
        stages: Where the result is kept.
    """
    reason = why_not_asked(task, data, asker.info)
    if reason is not None:
        return _left_out(reason)
    assert data.gold is not None
    assert data.test is not None
    test, voters = data.test, Voters(task, data.gold, asker, stages.listener, STAGE)
    generator = voters.generator
    if generator is None:
        return _left_out("no_generator")
    fingerprint = {
        "test": test.fingerprint,
        "columns": list(task.labels),
        **voters.inputs(generator),
    }

    def make() -> Floats:
        scores = voters.judge(questions_on(task, test))
        if not scores:
            return np.zeros((0, len(task.labels)))
        found = np.asarray(scores, dtype=np.float64)
        if generator.prompt_kind == "document":
            found -= found.mean(axis=0)
        return task.label_space().from_logits(found)

    found = stages.run(STAGE, [_OUTPUT], fingerprint, make, write_array, read_array)
    if voters.unanswered:
        stages.directory.forget(STAGE)
        return _left_out("unanswered")
    if not len(found):
        return _left_out("no_generator")
    return Baseline("zero_shot", "nothing", [(task.seed, found)], chosen_rows(task, test))


def _left_out(reason: str) -> Baseline:
    return Baseline("zero_shot", "nothing", reason=reason)
