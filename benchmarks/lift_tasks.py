"""The tasks of benchmarks/lift.py: described as a user would, drawn and sampled by seed."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from label_fidelity import TASKS as DESCRIBED

from japagen.config.task import Task
from japagen.config.task_data import TaskData, load_data
from japagen.data.dataset import Dataset, Example
from japagen.data.files import resource_dir, write_text
from japagen.data.formats import write_examples

# Written once, from what the labels mean and before any score, as README.md asks: as lists.
_SOFTWARE: dict[str, Any] = {
    **DESCRIBED["software_topics"],
    "labels": {
        "game": "ゲーム、パズル、アクション、シューティング、ボードゲーム、対戦",
        "sound": "音楽の再生、録音、音声の編集、シンセサイザー、MIDI、オーディオ",
        "graphics": "画像の表示や編集、描画、写真、図形、3D モデリング",
        "mail": "電子メールの送受信、メールサーバー、メーリングリスト、迷惑メールの対策",
        "font": "フォント、書体、文字の形",
    },
}
_WRITTEN: dict[str, dict[str, Any]] = {
    "hotel_sentiment": DESCRIBED["hotel_sentiment"],
    "software_topics": _SOFTWARE,
}
_CONFIGS = {
    "quickstart": Path("quickstart_local.yaml"),
    "jnli": Path("japagen/jnli.yaml"),
    "jsts": Path("japagen/jsts.yaml"),
    "jcola": Path("japagen/jcola.yaml"),
}
SINGLE = ("hotel_sentiment", "software_topics", "quickstart", "jcola")
TASKS = (*SINGLE, "jnli", "jsts")
UNLABELLED = 400
"""Texts of the pool that the arm with unlabelled text is given, at most."""
CLASSIFIED = SINGLE[:3]
"""The tasks of the aim: single texts with classes that the embedded encoder can learn."""


@dataclass(frozen=True)
class Cell:
    """One draw of gold for one task: what every arm of it shares.

    Attributes:
        name: The task's name.
        shots: Texts of gold a label.
        draw: Which draw of gold.
        task: The task with its gold, its test texts and its seed, which is the draw.
        path: Where the runs of the cell are kept.
        strong: Texts that a strong LLM wrote for the task, if there are any.
    """

    name: str
    shots: int
    draw: int
    task: Task
    path: Path
    strong: Path | None = None

    @cached_property
    def data(self) -> TaskData:
        """Gold and test texts."""
        return load_data(self.task)

    @property
    def gold(self) -> Dataset:
        """The gold that was drawn."""
        assert self.data.gold is not None
        return self.data.gold

    @property
    def test(self) -> Dataset:
        """What is scored on."""
        assert self.data.test is not None
        return self.data.test

    @cached_property
    def pool(self) -> Dataset:
        """All gold there is: what the ceiling is trained on."""
        whole = self.task.gold
        assert whole is not None
        source = whole.model_copy(update={"per_label": None})
        every = load_data(self.task.model_copy(update={"gold": source})).gold
        assert every is not None
        return every


def make_cell(
    name: str, shots: int, draw: int, data: Path, cache: Path, per_label: int, most: int
) -> Cell:
    """Draws gold and samples the test texts, the same for every shots and draw.

    Args:
        name: One of `TASKS`.
        shots: Texts of gold a label.
        draw: Seed of gold, of generation and of training.
        data: Folder with a folder a task.
        cache: Where files and runs go.
        per_label: Texts to generate a label.
        most: Test texts at most.
    """
    if name == "quickstart":
        folder = resource_dir("configs") / "quickstart"
        pool, test = folder / "pool.jsonl", folder / "test.jsonl"
    else:
        pool, test = data / name / "pool.jsonl", data / name / "dev.jsonl"
    sampled = sample_lines(test, cache / f"{name}-test-{most}.jsonl", most)
    settings = {
        "seed": draw,
        "gold": {"path": str(pool), "per_label": shots},
        "test": {"path": str(sampled)},
        "generation.per_label": per_label,
    }
    path = cache / f"{name}-{shots}-{draw}-{per_label}"
    return Cell(name, shots, draw, _task(name, settings), path, strong_texts(name, data))


def _task(name: str, settings: Mapping[str, Any]) -> Task:
    if name in _CONFIGS:
        return Task.load(resource_dir("configs") / _CONFIGS[name], {**settings, "name": name})
    nested = {key: value for key, value in settings.items() if "." not in key}
    generation = {"per_label": settings["generation.per_label"]}
    return Task.parse({"name": name, **_WRITTEN[name], **nested, "generation": generation})


def sample_lines(source: Path, target: Path, most: int) -> Path:
    """Copies at most so many lines of a file, drawn with a fixed seed and in their order."""
    lines = [line for line in source.read_text(encoding="utf-8").splitlines() if line.strip()]
    chosen = sorted(random.Random("lift").sample(range(len(lines)), min(most, len(lines))))
    text = "".join(lines[i] + "\n" for i in chosen)
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        write_text(target, text)
    return target


def real_texts(cell: Cell, like: Dataset) -> Dataset:
    """As many texts of the pool a label as ``like`` has, none of them gold, drawn by seed.

    A label whose pool is used up gives what it has left.
    """
    space = cell.task.label_space()
    own = {(e.text, e.text_pair) for e in cell.gold}
    wanted: dict[str, int] = {}
    for label in like.labels:
        wanted[space.name(label)] = wanted.get(space.name(label), 0) + 1
    rows = [i for i, e in enumerate(cell.pool) if (e.text, e.text_pair) not in own]
    random.Random(f"{cell.draw}/real").shuffle(rows)
    labels, chosen = cell.pool.labels, []
    for row in rows:
        name = space.name(labels[row])
        if wanted.get(name, 0) > 0:
            wanted[name] -= 1
            chosen.append(row)
    return cell.pool.take(sorted(chosen))


def unlabelled_texts(cell: Cell, most: int = UNLABELLED) -> Path:
    """Writes texts of the pool that are not gold, without their labels, drawn by seed.

    Args:
        cell: The draw of gold.
        most: Texts at most.
    """
    own = {(e.text, e.text_pair) for e in cell.gold}
    rows = [i for i, e in enumerate(cell.pool) if (e.text, e.text_pair) not in own]
    random.Random(f"{cell.draw}/unlabelled").shuffle(rows)
    chosen = cell.pool.take(sorted(rows[:most]))
    path = cell.path / "unlabelled.jsonl"
    # Without ids, which some corpora number by label.
    write_examples(path, Dataset.of(Example(e.text, text_pair=e.text_pair) for e in chosen))
    return path


def fingerprint(cell: Cell) -> str:
    """Everything an arm's figure depends on beside the arm itself; JSON, for a digest."""
    gold, test = cell.gold.fingerprint, cell.test.fingerprint
    task = cell.task.model_dump(mode="json", exclude={"gold", "test"})
    return json.dumps([task, gold, test], ensure_ascii=False, sort_keys=True)


def strong_texts(name: str, data: Path) -> Path | None:
    """The file with the texts of a strong LLM for a task, or None where there is none.

    Args:
        name: One of `TASKS`.
        data: Folder with a folder per task.
    """
    own = Path(__file__).parent / "texts" / f"{name}.jsonl"
    shipped = resource_dir("configs") / name / "strong_llm.jsonl"
    given = data / name / "strong_llm.jsonl"
    return next((path for path in (own, shipped, given) if path.is_file()), None)
