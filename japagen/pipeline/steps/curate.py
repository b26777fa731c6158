"""Runs the look at the accepted texts as a stage of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from japagen.curation.audit import Audit, audit
from japagen.examples import Dataset
from japagen.japanese.morphology import Tagger
from japagen.running.stage_runner import StageRunner, fingerprint_of
from japagen.storage.files import read_json, write_json
from japagen.storage.formats import read_table, write_table
from japagen.tasks.tasks import Task


def run_audit(
    stages: StageRunner,
    task: Task,
    written: Dataset,
    curated: Dataset,
    gold: Dataset | None,
    tagger: Tagger,
) -> dict[str, Any]:
    """Looks for personal data, memory of gold and skews in what was accepted.

    Leaves ``audit.json`` and ``audit.parquet`` in the run.

    Args:
        stages: The run's stages.
        task: The task.
        written: Examples as they were generated.
        curated: The same and their rewrites after curation.
        gold: Training gold.
        tagger: Finds names.

    Returns:
        The summary of `japagen.curation.audit.Audit`.
    """
    action, labels = task.curation.personal_data, list(task.labels)
    fingerprint = {
        "written": written.fingerprint,
        "examples": curated.fingerprint,
        "gold": fingerprint_of(gold),
        "labels": labels,
        "action": action,
        "dictionary": tagger.identity,
    }

    def save(path: Path, made: Audit) -> None:
        write_table(path.with_suffix(".parquet"), made.table)
        write_json(path, made.summary)

    found = stages.run(
        "audit",
        ["audit.json", "audit.parquet"],
        fingerprint,
        lambda: audit(written, curated, gold, labels, action, tagger),
        save,
        lambda path: Audit(read_table(path.with_suffix(".parquet")), read_json(path)),
    )
    return found.summary
