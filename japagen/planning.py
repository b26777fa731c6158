"""From a task and its texts to the requests that a run would send."""

from __future__ import annotations

from japagen import generation
from japagen.data import TaskData
from japagen.examples import Dataset
from japagen.generators.base import GeneratorInfo, Request
from japagen.japanese.register_detection import analyze_register
from japagen.prompts import PromptLibrary
from japagen.register_shares import register_shares
from japagen.tasks import Task


def plan(
    task: Task, data: TaskData, info: GeneratorInfo, gold: Dataset | None = None
) -> list[Request]:
    """The requests a task would send, in order.

    Args:
        task: The task.
        data: Its texts.
        info: Who would answer.
        gold: Gold with registers already found; found here when None.
    """
    if gold is None and data.gold is not None:
        gold = find_registers(data.gold)
    unlabelled = data.unlabelled
    if task.registers == "from_gold" and unlabelled is not None:
        unlabelled = find_registers(unlabelled)
    shown = generation.strategy_of(task, gold) == "few_shot"
    shares = register_shares(task, gold, unlabelled, shown=shown)
    prompts = PromptLibrary(task.generation.prompts)
    return generation.plan_requests(task, gold, shares, prompts, info)


def find_registers(data: Dataset) -> Dataset:
    """Fills in the register seen in every text."""
    return data.with_registers([analyze_register(text).register for text in data.texts])
