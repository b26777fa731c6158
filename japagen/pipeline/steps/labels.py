"""Has curation act on what labelers and writers say together, each as far as it is reliable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from japagen.curation.label_check import Vote, label_indices
from japagen.curation.reliability import Reliability, Writer, estimate_reliability
from japagen.curation.verification import verify_labels
from japagen.examples import Dataset
from japagen.listeners import Listener
from japagen.running.data import TaskData
from japagen.running.stage_runner import StageRunner
from japagen.stages.asking import Asker
from japagen.stages.voting import Voters
from japagen.storage.files import read_json, write_json
from japagen.storage.formats import load_dataset, write_examples
from japagen.tasks.tasks import Task

_STAGE = "trust"
_TEXTS, _RELIABILITY = "trusted.parquet", "reliability.json"


@dataclass(frozen=True)
class CheckedLabels:
    """What the label check made of the texts.

    Attributes:
        dataset: With `weight_label`, relabelled or rejected where the evidence says so.
        reliability: Of each source's labels; the prior where none were checked.
    """

    dataset: Dataset
    reliability: Mapping[str, Reliability]


class LabelChecker:
    """Finds out how sure each synthetic text's label is, and how reliable each source.

    Args:
        task: Settings and labels.
        data: Gold; nothing else of it is read.
        asker: The generator, as one of the labelers.
        stages: Where the result is kept.
    """

    def __init__(self, task: Task, data: TaskData, asker: Asker, stages: StageRunner) -> None:
        self._task = task
        self._gold = data.gold
        self._asker = asker
        self._stages = stages
        self._labels = list(task.labels)

    def check(self, dataset: Dataset, *, ask: bool) -> CheckedLabels:
        """Sets `weight_label`, and relabels or rejects what most likely has another label.

        Without gold, for tags and numbers, or where the task trusts all labels alike, nothing
        changes.

        Args:
            dataset: Curated examples.
            ask: Whether the generator may be a labeler.
        """
        trust = self._task.alignment.label_trust
        if self._gold is None or trust == "none" or self._task.kind != "classification":
            names = dict.fromkeys(dataset.column("source"))
            return CheckedLabels(
                dataset, {name: estimate_reliability(None, self._prior(name)) for name in names}
            )
        voters = Voters(self._task, self._gold, self._asker, self._listener, _STAGE)
        generator = voters.generator if ask and trust == "pool" else None
        fingerprint = {
            "examples": dataset.fingerprint,
            "check": self._task.curation.model_dump(include={"label_miss", "label_confidence"}),
            "priors": {name: self._prior(name) for name in set(dataset.column("source"))},
            **voters.inputs(generator),
        }

        def make() -> CheckedLabels:
            # Nobody is asked about what is rejected already.
            return self._settle(dataset, voters, voters.vote(dataset.kept, generator))

        checked = self._stages.run(_STAGE, [_TEXTS, _RELIABILITY], fingerprint, make, _save, _load)
        if voters.unanswered:
            self._stages.directory.forget(_STAGE)
        return checked

    def _settle(self, dataset: Dataset, voters: Voters, votes: Sequence[Vote]) -> CheckedLabels:
        assert self._gold is not None
        names = dict.fromkeys(dataset.column("source"))
        curation = self._task.curation
        verified = verify_labels(
            dataset,
            label_indices(self._gold, self._labels),
            votes,
            (voters.vectors(self._gold), voters.vectors(dataset.kept)),
            labels=self._labels,
            priors={name: self._prior(name) for name in names},
            miss=curation.label_miss,
            least=curation.label_confidence,
            seed=self._task.seed,
        )
        said = ", ".join(f"{name} {weight:.2f}" for name, weight in verified.labelers.items())
        self._listener.note(f"Labelers ({said}): {verified.right:.0%} right on gold left out.")
        for name, found in verified.reliability.items():
            if found.evidence is not None:
                self._listener.note(
                    f"Labels of {name}: {found.accuracy(len(self._labels)):.0%} expected to be "
                    f"right; the labelers agree with {found.evidence.agreed} of "
                    f"{found.evidence.texts}."
                )
        return CheckedLabels(verified.dataset, verified.reliability)

    def _prior(self, source: str) -> Writer:
        own = source == self._task.generator_source
        return "base_model" if own and self._asker.info.prompt_kind == "document" else "writer"

    @property
    def _listener(self) -> Listener:
        return self._stages.listener


def _save(path: Path, checked: CheckedLabels) -> None:
    found = {name: value.to_dict() for name, value in checked.reliability.items()}
    write_json(path.parent / _RELIABILITY, found)
    write_examples(path, checked.dataset)


def _load(path: Path) -> CheckedLabels:
    found = read_json(path.parent / _RELIABILITY)
    return CheckedLabels(
        load_dataset(path), {name: Reliability.from_dict(value) for name, value in found.items()}
    )
