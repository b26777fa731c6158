"""Carries what people decided on the review page into a run's texts."""

from __future__ import annotations

from dataclasses import asdict

from japagen.examples import Dataset
from japagen.reviewing.feedback import apply_decisions, vouched_for
from japagen.reviewing.opening import decisions_of
from japagen.running.stage_runner import StageRunner


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
