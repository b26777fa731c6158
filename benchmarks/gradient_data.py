"""The texts that benchmarks/gradient_matching.py works on: LLM text, and gold of each draw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from label_fidelity import TASKS

import japagen as jg
from japagen.examples import Dataset
from japagen.storage.formats import load_dataset, read_examples, write_examples
from japagen.tasks.tasks import Task

GOLD = 16


@dataclass(frozen=True)
class Texts:
    """What one draw of one task has.

    Attributes:
        gold: Texts that methods may read; no prompt has shown them.
        held: The rest: what was neither drawn nor shown.
    """

    gold: Dataset
    held: Dataset


def draw(name: str, data: Path, pool: Dataset, seed: int, gold_texts: int = GOLD) -> Texts:
    """Draws gold from the texts that no prompt has shown.

    A label with few texts keeps a third of them back.
    """
    texts = read_examples(data / name / "pool.jsonl", split="train", require_label=True)
    shown = {shot for shots in pool.column("shot_ids") for shot in shots}
    labels = np.array([str(label) for label in texts.labels])
    free = np.array([row_id not in shown for row_id in texts.column("id")])
    gold, held = [], []
    for label in TASKS[name]["labels"]:
        rows = np.flatnonzero(free & (labels == label))
        rows = np.random.default_rng([1, seed]).permutation(rows)
        number = min(gold_texts, len(rows) * 2 // 3)
        gold += rows[:number].tolist()
        held += rows[number:].tolist()
    return Texts(*(texts.take(np.sort(np.array(rows))) for rows in (gold, held)))


def llm_pool(name: str, data: Path, cache: Path, per_label: int) -> Dataset:
    """LLM text, curated, labels as asked: ``NAME.parquet`` in the cache, or made now.

    Prompts show up to sixteen texts a label, which are then no gold of any draw. What was
    generated before an interruption is not generated again.
    """
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / f"{name}.parquet"
    if not file.exists():
        task = Task.parse(
            {
                "name": name,
                **TASKS[name],
                "gold": {"path": str(_prompted(name, data, cache))},
                "evaluation": {"test_share": 0.01},
                "generation": {"per_label": per_label},
                "curation": {"rewrite_attempts": 0},
            }
        )
        out = cache / name
        jg.run(task, out, until="curate")
        write_examples(file, load_dataset(out / "registers.parquet").kept)
    return load_dataset(file)


def _prompted(name: str, data: Path, cache: Path) -> Path:
    """Writes the texts that prompts show: at most a third of a label's."""
    file = cache / f"{name}-prompted.jsonl"
    texts = read_examples(data / name / "pool.jsonl", split="train", require_label=True)
    labels = np.array([str(label) for label in texts.labels])
    rows = []
    for label in TASKS[name]["labels"]:
        mine = np.random.default_rng(0).permutation(np.flatnonzero(labels == label))
        rows += mine[: min(GOLD, len(mine) // 3)].tolist()
    write_examples(file, texts.take(np.sort(np.array(rows))))
    return file
