"""Loads what a task names: gold, test and unlabelled texts, checked against its labels."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, replace

from japagen.errors import JapagenError, nearest
from japagen.examples import Dataset, Example, Split
from japagen.formats import read_examples
from japagen.settings import Source
from japagen.tasks import Task

_LEAST_GOLD = 2


@dataclass(frozen=True)
class TaskData:
    """The texts of a task.

    Attributes:
        gold: What may be learnt from: shown in prompts, aligned to, trained on. None when the
            task has no gold.
        test: What is only scored on. None when there is nothing to score on.
        unlabelled: Texts of the target population without labels, or None.
    """

    gold: Dataset | None
    test: Dataset | None
    unlabelled: Dataset | None


def load_data(task: Task) -> TaskData:
    """Reads and checks the task's files; test texts never stand in gold.

    Raises:
        JapagenError: If a file cannot be read, has labels that the task does not know, lacks
            some of its labels, or leaves too few texts of a label to learn from.
    """
    gold = _labelled(task, task.gold, "train", "gold") if task.gold else None
    test = _labelled(task, task.test, "test", "test") if task.test else None
    if gold is not None and test is None:
        gold, test = _hold_out(gold, task.evaluation.test_share, task.seed)
    if gold is not None:
        if test is not None:
            gold = _without(gold, test)
        if task.gold and task.gold.per_label:
            gold = _draw(gold, task.gold.per_label, task.seed)
        _check_counts(task, gold)
    unlabelled = _unlabelled(task.unlabelled) if task.unlabelled else None
    if unlabelled is not None and test is not None:
        unlabelled = _without(unlabelled, test)
    return TaskData(gold, test, unlabelled)


def load_synthetic(task: Task, source: Source) -> Dataset:
    """Reads synthetic texts that were written elsewhere.

    Raises:
        JapagenError: If the file cannot be read or has labels that the task does not know.
    """
    return _labelled(task, source, "synthetic", "the synthetic file")


def _labelled(task: Task, source: Source, split: Split, what: str) -> Dataset:
    data = read_examples(
        source.path,
        columns=dict(source.columns),
        split=split,
        encoding=source.encoding,
        require_label=True,
    )
    counts = Counter(map(_name, data.labels))
    unknown = [name for name in counts if name not in task.labels]
    if unknown:
        raise JapagenError(
            f"{what} ({source.path}) has the label '{unknown[0]}' on {counts[unknown[0]]} row(s)"
            f"{nearest(unknown[0], task.labels)}; expected one of: {', '.join(task.labels)}.",
            "Correct the labels in the file or add the label to the task.",
        )
    return Dataset.of(replace(e, label=_name(e.label), split=split) for e in data)


def _name(label: object) -> str:
    """A number in Parquet or JSON is read as the class of that name."""
    return f"{label:g}" if isinstance(label, float) else str(label)


def _unlabelled(source: Source) -> Dataset:
    data = read_examples(
        source.path,
        columns=dict(source.columns),
        split="unlabelled",
        encoding=source.encoding,
    )
    # Labels that happen to be in the file must not reach anything that learns.
    return Dataset.of(replace(e, label=None, split="unlabelled") for e in data)


def _content(example: Example) -> tuple[str, str | None]:
    return example.text, example.text_pair


def _without(data: Dataset, other: Dataset) -> Dataset:
    held_out = {_content(e) for e in other}
    return Dataset.of(e for e in data if _content(e) not in held_out)


def _by_label(data: Dataset) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for index, label in enumerate(data.labels):
        groups[label].append(index)
    return groups


def _draw(data: Dataset, per_label: int, seed: int) -> Dataset:
    chosen: list[int] = []
    for label, indices in _by_label(data).items():
        if len(indices) < per_label:
            raise JapagenError(
                f"gold.per_label asks for {per_label} texts of '{label}', found {len(indices)}.",
                "Lower gold.per_label or add gold.",
            )
        chosen += random.Random(f"{seed}/gold/{label}").sample(indices, per_label)
    return data.take(sorted(chosen))


def _hold_out(data: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Splits gold by label; the same text never stands on both sides."""
    rows = list(data)
    held: set[tuple[str, str | None]] = set()
    for label, indices in _by_label(data).items():
        contents = sorted({_content(rows[i]) for i in indices}, key=str)
        random.Random(f"{seed}/test/{label}").shuffle(contents)
        held.update(contents[: round(len(contents) * share)])
    return (
        Dataset.of(e for e in rows if _content(e) not in held),
        Dataset.of(replace(e, split="test") for e in rows if _content(e) in held),
    )


def _check_counts(task: Task, gold: Dataset) -> None:
    counts = gold.label_counts()
    short = {name: counts.get(name, 0) for name in task.labels}
    short = {name: n for name, n in short.items() if n < _LEAST_GOLD}
    if short:
        found = ", ".join(f"'{name}': {n}" for name, n in short.items())
        raise JapagenError(
            f"Expected at least {_LEAST_GOLD} gold texts of every label to learn from, "
            f"found {found}.",
            "Add gold for these labels, lower evaluation.test_share, or remove `gold` from the "
            "task to work from descriptions alone.",
        )
