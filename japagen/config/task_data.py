"""Loads what a task names: gold, test and unlabelled texts, checked against its labels."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from japagen.config.sources import SeedSource, Source, SourceEntry
from japagen.config.task import Task
from japagen.data.dataset import Dataset, Example, Label, Split
from japagen.data.formats import read_with_places, write_examples
from japagen.data.labels import NO_TAGS, SEPARATOR, LabelSpace
from japagen.data.records import need_labels
from japagen.data.seed_table import SeedTable, read_seed_table
from japagen.errors import JapagenError

_LEAST_GOLD = 2
_MOST_TOLD = 20
_MOST_REPEATED = 5
EXAMPLE = "（記入例）"
"""What the rows of a gold template begin with, which are there to be replaced."""


@dataclass(frozen=True)
class TaskData:
    """The texts of a task.

    Attributes:
        gold: What may be learnt from: shown in prompts, aligned to, trained on. None when the
            task has no gold.
        test: What is only scored on. None when there is nothing to score on.
        unlabelled: Texts of the target population without labels, or None.
        corpus: Texts whose passages prompts may show as material, or None.
        seed: Rows whose columns prompts may name, or None.
        notes: What is doubtful about gold and test: texts that stand there twice.
    """

    gold: Dataset | None
    test: Dataset | None
    unlabelled: Dataset | None
    corpus: Dataset | None = None
    seed: SeedTable | None = None
    notes: tuple[str, ...] = ()


def load_data(task: Task) -> TaskData:
    """Reads and checks the task's files; test texts never stand in gold.

    Raises:
        JapagenError: If a file cannot be read, has labels that the task does not know, lacks
            some of its labels, or leaves too few texts of a label to learn from.
    """
    for name, source in (("test", task.test), ("unlabelled", task.unlabelled)):
        if source is not None and source.per_label is not None:
            raise JapagenError(
                f"Expected per_label in gold only, found {name}.per_label.",
                f"Remove it; to use fewer texts, shorten {source.path}.",
            )
    notes: list[str] = []
    gold = _labelled(task, task.gold, "train", "gold", notes) if task.gold else None
    test = _labelled(task, task.test, "test", "test", notes) if task.test else None
    if gold is not None and test is None:
        gold, test = _hold_out(task, gold)
    if gold is not None:
        if test is not None:
            alone = _without(gold, test)
            if both := len(gold) - len(alone):
                notes.append(f"{both} gold texts are in test too, and are left out of gold.")
            gold = alone
        if task.gold and task.gold.per_label:
            gold = _draw(task, gold, task.gold.per_label)
        _check_counts(task, gold)
    unlabelled = _unlabelled(task, task.unlabelled) if task.unlabelled else None
    if unlabelled is not None and test is not None:
        unlabelled = _without(unlabelled, test)
    corpus = _corpus(task.generation.corpus, test) if task.generation.corpus else None
    seed = _seed(task.generation.seed)
    return TaskData(gold, test, unlabelled, corpus, seed, tuple(notes))


def load_sources(task: Task) -> dict[str, Dataset]:
    """Reads the task's sources that are files: name to texts.

    Raises:
        JapagenError: If a file cannot be read, has labels that the task does not know, or has no
            text that can be used.
    """
    return {entry.name: load_synthetic(task, entry.file) for entry in task.sources if entry.file}


def with_kept_data(task: Task, folder: Path) -> Task:
    """Writes what a task was given in code into files; returns the task that reads them there.

    Args:
        task: The task.
        folder: Where the files go, in the directory of a run: its task then means the same to
            whoever opens it later.
    """

    def kept(source: Source | SourceEntry | None, name: str) -> Any:
        if source is None or source.data is None:
            return source
        path = folder / f"{name}.parquet"
        write_examples(path, source.data)
        changed: dict[str, Any] = {"path": path, "columns": {}}
        return type(source).model_validate({**source.model_dump(), **changed})

    names = ("gold", "test", "unlabelled")
    generation = task.generation
    return task.model_copy(
        update={
            **{name: kept(getattr(task, name), name) for name in names},
            "sources": tuple(kept(entry, f"source-{entry.name}") for entry in task.sources),
            "generation": generation.model_copy(
                update={"corpus": kept(generation.corpus, "corpus")}
            ),
        }
    )


def load_synthetic(task: Task, source: Source) -> Dataset:
    """Reads synthetic texts from a file.

    Raises:
        JapagenError: If the file cannot be read, has labels that the task does not know, or has
            no text that can be used.
    """
    data = _labelled(task, source, "synthetic", "the synthetic file")
    if not len(data.kept):
        raise JapagenError(
            f"Expected texts to use in {source.path}, found {len(data)} that are all marked as "
            "rejected.",
            "Leave their column `rejected` out to have them judged again, or give another file.",
        )
    # The label check may change labels: what the file says is the label that was asked for.
    asked = zip(data.column("label_asked"), data.labels, strict=True)
    return data.with_columns(label_asked=[label if a is None else a for a, label in asked])


def _labelled(
    task: Task, source: Source, split: Split, what: str, notes: list[str] | None = None
) -> Dataset:
    """The texts of a source, its labels being those of the task.

    Args:
        task: The task.
        source: What is read.
        split: What the texts are for.
        what: What messages call it.
        notes: Takes up what is doubtful about them.
    """
    space = task.label_space()
    classes = space.names if space.kind == "classification" else ()
    data, places = _read(source, split, classes=classes, require_label=True)
    _check_pairs(task, data, f"{what} ({source.path})")
    rows, wrong, first = [], Counter[str](), dict[str, str]()
    for place, example in zip(places, data, strict=True):
        try:
            rows.append(replace(example, label=space.read(example.label), split=split))
        except ValueError as error:
            first.setdefault(str(error), place)
            wrong[str(error)] += 1
    if wrong:
        told = [
            f"on {n} row(s): {problem}; the first is on {first[problem]}"
            for problem, n in wrong.most_common(_MOST_TOLD)
        ]
        if len(wrong) > _MOST_TOLD:
            told.append(f"{len(wrong) - _MOST_TOLD} more")
        listed = "\n".join(f"  - {one}" for one in told)
        raise JapagenError(
            f"{what} ({source.path}), {told[0]}."
            if len(told) == 1
            else f"{what} ({source.path}) has labels that do not fit:\n{listed}",
            "Correct the labels in the file, or the labels or scale of the task.",
        )
    if notes is not None:
        notes += _repeated(rows, places, f"{what} ({source.path})")
    return Dataset.of(rows)


def _shown(label: Label | None) -> str:
    return SEPARATOR.join(label) if isinstance(label, list) else str(label)


def _repeated(rows: Sequence[Example], places: Sequence[str], what: str) -> list[str]:
    """Says which texts stand in a file twice, those whose labels differ first.

    Raises:
        JapagenError: If a row is still that of the template.
    """
    first: dict[tuple[str, str | None], int] = {}
    differ, alike = [], []
    for row, example in enumerate(rows):
        if example.text.startswith(EXAMPLE):
            raise JapagenError(
                f"Expected a text of your own on {places[row]} of {what}, found the template's.",
                "Put one in its place, or remove the row.",
            )
        at = first.setdefault(_content(example), row)
        text = example.text[:30]
        if rows[at].label != example.label:
            one, other = (_shown(found.label) for found in (rows[at], example))
            differ.append(
                f"{what} has '{text}' as '{one}' on {places[at]} and as '{other}' on {places[row]}:"
                " correct one of them."
            )
        elif at != row:
            alike.append(
                f"{what} has '{text}' on {places[at]} and again on {places[row]}: it counts double."
            )
    found = [*differ, *alike]
    more = len(found) - _MOST_REPEATED
    return [
        *found[:_MOST_REPEATED],
        *([f"{what} has {more} more texts that stand there twice."] if more > 0 else []),
    ]


def _read(
    source: Source,
    split: Split,
    *,
    classes: Collection[str] = (),
    require_label: bool = False,
) -> tuple[Dataset, list[str]]:
    """The examples of a source, and where each stands."""
    if source.data is None:
        return read_with_places(
            source.path,
            columns=dict(source.columns),
            split=split,
            encoding=source.encoding,
            classes=classes,
            require_label=require_label,
        )
    if require_label:
        need_labels(source.data.labels, source.data.texts, source.path)
    return source.data, [f"row {number}" for number in range(1, len(source.data) + 1)]


def _check_pairs(task: Task, data: Dataset, what: str) -> None:
    pairs = len(data) - int(data.table.column("text_pair").null_count)
    if pairs == (len(data) if task.pair else 0):
        return
    if task.pair:
        raise JapagenError(
            f"{what} lacks a second text on {len(data) - pairs} of {len(data)} rows.",
            "Fill in the column text_pair, name yours (columns: {text_pair: YOURS}), or remove "
            "`pair` from the task.",
        )
    raise JapagenError(
        f"{what} has a second text (text_pair) on {pairs} of {len(data)} rows, but the task is "
        "about single texts.",
        "Say what the two are called, pair: {first: 前提, second: 仮説}, or remove the column.",
    )


def _unlabelled(task: Task, source: Source) -> Dataset:
    data, _ = _read(source, "unlabelled")
    _check_pairs(task, data, f"unlabelled ({source.path})")
    # Labels that happen to be in the file must not reach anything that learns.
    return Dataset.of(replace(e, label=None, split="unlabelled", shot_ids=()) for e in data)


def _corpus(source: Source, test: Dataset | None) -> Dataset:
    data, _ = _read(source, "unlabelled")
    # Prompts must not show what is scored on, whatever stands beside it in the corpus.
    held_out = {text for e in test or () for text in _content(e) if text}
    return Dataset.of(
        replace(e, label=None, split="unlabelled") for e in data if e.text.strip() not in held_out
    )


def _seed(source: SeedSource | None) -> SeedTable | None:
    if source is None:
        return None
    return read_seed_table(
        source.path,
        source.encoding,
        columns=source.columns,
        weight=source.weight,
        in_order=source.order == "in_order",
    )


def _content(example: Example) -> tuple[str, str | None]:
    # Spaces around a text make no other one of it.
    return example.text.strip(), example.text_pair and example.text_pair.strip()


def _without(data: Dataset, other: Dataset) -> Dataset:
    held_out = {_content(e) for e in other}
    return Dataset.of(e for e in data if _content(e) not in held_out)


def _groups(data: Dataset, space: LabelSpace) -> dict[str, list[int]]:
    """Rows by the name of their label; those with several tags under their rarest."""
    groups: dict[str, list[int]] = defaultdict(list)
    counts = data.label_counts()
    for index, label in enumerate(data.labels):
        tags = space.tags(space.name(label))
        groups[min(tags, key=lambda tag: counts.get(tag, 0)) if tags else NO_TAGS].append(index)
    return groups


def _draw(task: Task, data: Dataset, per_label: int) -> Dataset:
    """Draws that many rows per label; at least as many of each tag, where rows have several.

    A number's anchor that has fewer rows near it gives what it has.
    """
    space = task.label_space()
    groups = _groups(data, space)
    if space.kind == "multi_label":
        return _draw_tags(task, data, per_label)
    chosen: list[int] = []
    for label, indices in groups.items():
        if len(indices) < per_label and space.kind == "classification":
            raise _too_few(label, per_label, len(indices))
        number = min(per_label, len(indices))
        chosen += random.Random(f"{task.seed}/gold/{label}").sample(indices, number)
    return data.take(sorted(chosen))


def _draw_tags(task: Task, data: Dataset, per_label: int) -> Dataset:
    """Fills up the rarest tag first: rows drawn for it often have others too."""
    labels, counts = data.labels, data.label_counts()
    chosen: set[int] = set()
    for tag in sorted(task.labels, key=lambda tag: counts.get(tag, 0)):
        rows = [i for i, label in enumerate(labels) if tag in label]
        if len(rows) < per_label:
            raise _too_few(tag, per_label, len(rows))
        random.Random(f"{task.seed}/gold/{tag}").shuffle(rows)
        missing = per_label - sum(i in chosen for i in rows)
        chosen.update([i for i in rows if i not in chosen][: max(missing, 0)])
    untagged = [i for i, label in enumerate(labels) if not label]
    random.Random(f"{task.seed}/gold/{NO_TAGS}").shuffle(untagged)
    return data.take(sorted([*chosen, *untagged[:per_label]]))


def _too_few(label: str, wanted: int, found: int) -> JapagenError:
    return JapagenError(
        f"gold.per_label asks for {wanted} texts of '{label}', found {found}.",
        "Lower gold.per_label or add gold.",
    )


def _hold_out(task: Task, data: Dataset) -> tuple[Dataset, Dataset | None]:
    """Splits gold by label; the same text never stands on both sides.

    Too little gold leaves nothing to score on, and None.
    """
    rows = list(data)
    held: set[tuple[str, str | None]] = set()
    for label, indices in _groups(data, task.label_space()).items():
        contents = sorted({_content(rows[i]) for i in indices}, key=str)
        random.Random(f"{task.seed}/test/{label}").shuffle(contents)
        held.update(contents[: round(len(contents) * task.evaluation.test_share)])
    if not held:
        return data, None
    return (
        Dataset.of(e for e in rows if _content(e) not in held),
        Dataset.of(replace(e, split="test") for e in rows if _content(e) in held),
    )


def _check_counts(task: Task, gold: Dataset) -> None:
    if task.kind == "regression":
        _check_numbers(gold)
        return
    counts = gold.label_counts()
    short = {name: counts.get(name, 0) for name in task.labels}
    short = {name: n for name, n in short.items() if n < _LEAST_GOLD}
    if short:
        found = ", ".join(f"'{name}': {n}" for name, n in short.items())
        raise JapagenError(
            f"Expected at least {_LEAST_GOLD} gold texts of every label to learn from, "
            f"found {found}.",
            "Add gold for these labels, lower evaluation.test_share, or remove `gold` from the "
            "task to work only from descriptions.",
        )


def _check_numbers(gold: Dataset) -> None:
    if len(set(gold.labels)) < _LEAST_GOLD:
        raise JapagenError(
            f"Expected gold with at least {_LEAST_GOLD} different numbers to learn from, found "
            f"{len(set(gold.labels))} in {len(gold)} rows.",
            "Add gold, lower evaluation.test_share, or remove `gold` from the task to work only "
            "from descriptions.",
        )
