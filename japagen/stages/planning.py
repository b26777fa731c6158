"""From a task and its texts to the requests that a run would send."""

from __future__ import annotations

from pathlib import Path

from japagen.examples import Dataset
from japagen.generation import generation
from japagen.generation.register_shares import Shares, register_shares
from japagen.generators.base import GeneratorInfo, Request
from japagen.japanese.own_honorifics import read_honorifics
from japagen.japanese.register_detection import RegisterAnalyzer
from japagen.prompts import PromptLibrary
from japagen.running.data import TaskData
from japagen.stages import pairs
from japagen.tasks.tasks import Task


def plan(
    task: Task, data: TaskData, info: GeneratorInfo, gold: Dataset | None = None
) -> list[Request]:
    """The requests a task would send, in order; of pairs those of the first turn.

    Args:
        task: The task.
        data: Its texts.
        info: Who would answer.
        gold: Gold with registers already found; found here when None.
    """
    analyzer = load_analyzer(task)
    if gold is None and data.gold is not None:
        gold = find_registers(data.gold, analyzer)
    shares = planned_registers(task, data, gold, analyzer)
    prompts = PromptLibrary(task.generation.prompts)
    planned = pairs.plan_firsts if task.pair else generation.plan_requests
    return planned(task, gold, shares, prompts, info, analyzer.tagger, data.corpus)


def planned_registers(
    task: Task, data: TaskData, gold: Dataset | None, analyzer: RegisterAnalyzer
) -> dict[str, Shares]:
    """Label to register name to the share of its requests.

    Args:
        task: The task.
        data: Its texts.
        gold: Gold with registers, or None.
        analyzer: Finds those of unlabelled texts, where they count.
    """
    unlabelled = data.unlabelled
    if task.registers == "from_gold" and unlabelled is not None:
        unlabelled = find_registers(unlabelled, analyzer)
    shown = generation.strategy_of(task, gold) == "few_shot"
    return register_shares(task, gold, unlabelled, shown=shown)


def shots_of(task: Task, gold: Dataset | None) -> Dataset | None:
    """The gold that prompts may show: none of it under a zero-shot strategy."""
    return gold if generation.strategy_of(task, gold) == "few_shot" else None


def load_analyzer(task: Task) -> RegisterAnalyzer:
    """Opens the dictionary and the list of honorifics that a task names.

    Raises:
        JapagenError: If one of them cannot be read.
    """
    honorifics = task.japanese.honorifics
    if isinstance(honorifics, Path):
        honorifics = read_honorifics(honorifics)
    return RegisterAnalyzer(task.japanese.user_dictionary, honorifics)


def find_registers(data: Dataset, analyzer: RegisterAnalyzer) -> Dataset:
    """Fills in the register seen in every text."""
    return data.with_registers([r.register for r in analyzer.analyze_all(data.texts)])
