"""The versions of a run's dataset: what it holds, and what it was made from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from japagen.errors import DamagedError
from japagen.examples import Dataset
from japagen.storage.files import digest, read_json, write_json
from japagen.tasks.tasks import Task


def content_hash(dataset: Dataset) -> str:
    """SHA-256 of what a reader of the dataset learns from.

    Ids, texts, labels, rejections and weights to six digits count; the order of the rows and
    where they came from do not.
    """
    names = ("id", "text", "text_pair", "label", "rejected")
    rows = zip(*(dataset.column(n) for n in names), dataset.weights.tolist(), strict=True)
    lines = sorted(
        json.dumps([*row[:-2], row[-2] and row[-2]["filter"], f"{row[-1]:.6g}"], ensure_ascii=False)
        for row in rows
    )
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def record_version(path: Path, dataset: Dataset, task: Task) -> dict[str, Any]:
    """Adds the dataset to the run's versions, unless it is the last one already.

    Args:
        path: The run's versions.json.
        dataset: The finished dataset.
        task: What it was made for.

    Returns:
        The version: ``hash``, ``parent`` (the hash of the version before it in this run, or
        None), ``task`` (the task's digest), ``examples`` and ``kept``.
    """
    known = versions(path)
    found = {
        "hash": content_hash(dataset),
        "parent": known[-1]["hash"] if known else None,
        "task": digest(task.model_dump(mode="json")),
        "examples": len(dataset),
        "kept": int(dataset.kept_mask.sum()),
    }
    if known and known[-1]["hash"] == found["hash"]:
        return known[-1]
    write_json(path, [*known, found])
    return found


def versions(path: Path) -> list[dict[str, Any]]:
    """The recorded versions, oldest first; none where nothing was recorded or it is damaged."""
    try:
        found = read_json(path)
    except (FileNotFoundError, DamagedError):
        return []
    return found if isinstance(found, list) else []
