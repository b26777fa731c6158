"""Has curation act on what the voters on a run's labels say together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from japagen.curation.label_check import (
    Vote,
    beats_guessing,
    fit_pool,
    held_out_posterior,
    label_indices,
    settle_labels,
)
from japagen.examples import Dataset
from japagen.listeners import Listener
from japagen.running.data import TaskData
from japagen.running.stage_runner import StageRunner
from japagen.stages.asking import Asker
from japagen.stages.voting import Voters
from japagen.tasks.tasks import Task

_STAGE = "trust"


class LabelChecker:
    """Finds out how sure each synthetic text's label is.

    Args:
        task: Settings and labels.
        data: Gold; nothing else of it is read.
        asker: The generator, as one of the voters.
        stages: Where the result is kept.
    """

    def __init__(self, task: Task, data: TaskData, asker: Asker, stages: StageRunner) -> None:
        self._task = task
        self._gold = data.gold
        self._asker = asker
        self._stages = stages
        self._labels = list(task.labels)

    def check(self, dataset: Dataset, *, ask: bool) -> Dataset:
        """Sets `weight_label`, and relabels or rejects what voters find to have another label.

        Without gold, for tags and numbers, or where the task trusts all labels alike, nothing
        changes.

        Args:
            dataset: Curated examples.
            ask: Whether the generator may be a voter.
        """
        trust = self._task.alignment.label_trust
        if self._gold is None or trust == "none" or self._task.kind != "classification":
            return dataset
        voters = Voters(self._task, self._gold, self._asker, self._listener, _STAGE)
        generator = voters.generator if ask and trust == "pool" else None
        fingerprint = {
            "examples": dataset.fingerprint,
            "check": self._task.curation.model_dump(include={"label_miss", "label_confidence"}),
            **voters.inputs(generator),
        }

        def make() -> Dataset:
            # Nobody is asked about what is rejected already.
            return self._settle(dataset, voters.vote(dataset.kept, generator))

        checked = self._stages.dataset(_STAGE, "trusted.parquet", fingerprint, make)
        if voters.unanswered:
            self._stages.directory.forget(_STAGE)
        return checked

    def _settle(self, dataset: Dataset, votes: Sequence[Vote]) -> Dataset:
        assert self._gold is not None
        targets = label_indices(self._gold, self._labels)
        on_gold = [vote.gold for vote in votes]
        pool = fit_pool(on_gold, targets)
        held_out = held_out_posterior(on_gold, targets, self._task.seed)
        right = held_out.argmax(axis=1) == targets
        said = ", ".join(f"{v.name} {w:.2f}" for v, w in zip(votes, pool.weights, strict=True))
        self._listener.note(
            f"Voters on labels ({said}): {right.mean():.0%} right on gold left out."
        )
        if not beats_guessing(held_out, targets):
            self._listener.note("That is no better than guessing: labels are taken as they are.")
            return dataset
        posterior = np.full((len(dataset), len(self._labels)), 1 / len(self._labels))
        posterior[dataset.kept_mask] = pool.posterior([vote.texts for vote in votes])
        curation = self._task.curation
        return settle_labels(
            dataset, self._labels, posterior, curation.label_miss, curation.label_confidence
        )

    @property
    def _listener(self) -> Listener:
        return self._stages.listener
