"""The step "curate": the audit, and people's decisions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from japagen.config.task import Task
from japagen.curation.audit import Audit, audit
from japagen.data.dataset import Dataset
from japagen.data.files import read_json, write_json
from japagen.data.formats import read_table, write_table
from japagen.japanese.morphology import Tagger
from japagen.pipeline.cache import StageRunner, fingerprint_of
from japagen.pipeline.review import decisions_of
from japagen.review.feedback import apply_decisions, vouched_for


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


def apply_reviews(
    dataset: Dataset, stages: StageRunner, derived: str | None = None
) -> tuple[Dataset, set[str]]:
    """Applies the decisions of a run's review, if there was one.

    Args:
        dataset: Examples.
        stages: Where the decisions are, and the result is kept.
        derived: Only decide on texts derived in this way: they have come since the others were.

    Returns:
        The examples, and the ids of those that people have vouched for.
    """
    decisions = decisions_of(stages.directory.path)
    if derived is not None:
        rows = zip(dataset.column("id"), dataset.column("derived"), strict=True)
        own = {id_ for id_, how in rows if how == derived}
        decisions = {name: d for name, d in decisions.items() if name in own}
    if not decisions:
        return dataset, set()
    fingerprint = {
        "examples": dataset.fingerprint,
        "decisions": {name: asdict(d) for name, d in decisions.items()},
    }
    reviewed = stages.dataset(
        f"review-{derived}" if derived else "review",
        f"reviewed-{derived}.parquet" if derived else "reviewed.parquet",
        fingerprint,
        lambda: apply_decisions(dataset, decisions),
    )
    return reviewed, vouched_for(dataset, decisions)
