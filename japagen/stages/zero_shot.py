"""Has the run's generator label test texts itself, as a baseline."""

from __future__ import annotations

import numpy as np

from japagen.baselines import Floats
from japagen.curation.label_judge import Question, requests
from japagen.examples import Dataset
from japagen.generators.base import GeneratorInfo, Request
from japagen.prompts import PromptLibrary
from japagen.requesting import one_line
from japagen.running.data import TaskData
from japagen.running.stage_runner import StageRunner
from japagen.stages.asking import Asker
from japagen.stages.scoring import Baseline
from japagen.stages.voting import Voters
from japagen.storage.files import digest, read_array, write_array
from japagen.tasks.tasks import Task

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
