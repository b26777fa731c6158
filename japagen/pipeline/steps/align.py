"""How much each synthetic text counts, and how much all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from japagen.alignment.bounds import bound_weights
from japagen.curation.off_topic import find_off_topic
from japagen.curation.reliability import Reliability
from japagen.examples import Dataset
from japagen.generation import coverage
from japagen.japanese.register_detection import RegisterAnalyzer
from japagen.mixing.mix import Mix, find_mix
from japagen.mixing.worth import measure_worth, why_not
from japagen.running.data import TaskData
from japagen.running.stage_runner import StageRunner, fingerprint_of
from japagen.stages.measuring import Vectors
from japagen.stages.planning import find_registers
from japagen.storage.files import read_json, write_json
from japagen.storage.formats import load_dataset, write_examples
from japagen.tasks.tasks import Task

# Scores under which every label counts alike, however rare: real label shares cost them.
_BALANCED_METRICS = ("macro_f1", "matthews")


class Weighting:
    """Aligns a run's examples with gold, and finds the mix of both.

    Args:
        task: Settings and labels.
        data: Unlabelled texts.
        gold: Training gold with registers.
        analyzer: Finds registers and words.
        stages: Where results are kept.
    """

    def __init__(
        self,
        task: Task,
        data: TaskData,
        gold: Dataset | None,
        analyzer: RegisterAnalyzer,
        stages: StageRunner,
    ) -> None:
        self._task = task
        self._data = data
        self._gold = gold
        self._analyzer = analyzer
        self._stages = stages

    def align(self, dataset: Dataset, vectors: Vectors) -> tuple[Dataset, dict[str, Any]]:
        """Weights the kept examples, or draws some of them by weight.

        Args:
            dataset: Examples with the trust in their labels.
            vectors: Of gold, of the examples and of unlabelled text.

        Returns:
            The weighted examples, and what alignment reports.
        """
        from japagen.alignment.alignment import align_datasets
        from japagen.alignment.resampling import keep_drawn
        from japagen.training.encoders import encoder_identity

        settings, unlabelled = self._task.alignment, self._data.unlabelled
        fingerprint = {
            "examples": dataset.fingerprint,
            "gold": fingerprint_of(self._gold),
            "unlabelled": fingerprint_of(unlabelled),
            "label_prior": self._label_prior,
            "alignment": settings.model_dump(mode="json"),
            "japanese": self._analyzer.identity,
            "encoder": encoder_identity(self._task.training.encoder),
            "seed": self._task.seed,
        }
        if self._task.balance:
            fingerprint["balance"] = self._task.model_dump(mode="json")["balance"]

        def make() -> tuple[Dataset, dict[str, Any]]:
            factors = coverage.balance_factors(self._task, dataset, self._analyzer.tagger)
            trust = np.array(dataset.column("weight_label"), dtype=np.float64)
            # A register that one side lacks could not be matched.
            known = unlabelled and find_registers(unlabelled, self._analyzer)
            alignment = align_datasets(
                # Alignment starts from the label weights, so what it meets, it meets balanced.
                dataset.with_columns(weight_label=trust * factors),
                self._gold,
                known,
                label_prior=self._label_prior,
                method=settings.method,
                floor=settings.floor,
                seed=self._task.seed,
                tagger=self._analyzer.tagger,
                vectors=vectors,
                resample=settings.resample,
            )
            if settings.resample is not None:
                # The draw was by the balanced weights already.
                return keep_drawn(dataset, alignment.weights), alignment.to_dict()
            weights = bound_weights(
                alignment.weights,
                [label if isinstance(label, str) else "" for label in dataset.labels],
                strength=settings.strength,
                off_topic=find_off_topic(*vectors[:2]) if len(vectors) > 1 else None,
            )
            weights = weights * factors
            kept = dataset.kept_mask
            weights /= weights[kept].mean() if weights[kept].any() else 1.0
            aligned = dataset.with_columns(weight_distribution=weights)
            return aligned, alignment.to_dict()

        def save(path: Path, made: tuple[Dataset, dict[str, Any]]) -> None:
            write_json(self._stages.directory.file("alignment.json"), made[1])
            write_examples(path, made[0])

        def load(path: Path) -> tuple[Dataset, dict[str, Any]]:
            return load_dataset(path), read_json(self._stages.directory.file("alignment.json"))

        outputs = ["aligned.parquet", "alignment.json"]
        return self._stages.run("align", outputs, fingerprint, make, save, load)

    @property
    def _label_prior(self) -> str | dict[str, float]:
        """The label shares to weight to: with ``auto``, even ones where labels count alike."""
        task = self._task
        balanced = task.kind == "classification" and task.metric in _BALANCED_METRICS
        return "uniform" if task.label_prior == "auto" and balanced else task.label_prior

    def mix(self, dataset: Dataset, reliability: Mapping[str, Reliability]) -> Mix:
        """How much each source weighs beside gold, by how reliable its labels are.

        Args:
            dataset: Aligned examples.
            reliability: Of each source's labels.
        """
        share = self._task.training.synthetic_share
        return find_mix(
            len(self._gold or ()),
            dataset,
            reliability,
            share=None if share == "auto" else share,
            checkable=self._task.kind == "classification",
        )

    def worth(self, chosen: Dataset | None, mix: Mix) -> dict[str, Any] | None:
        """Learning curves of gold and of synthetic text; None where they cannot be measured.

        Args:
            chosen: What is trained on beside gold.
            mix: How much it weighs.
        """
        gold = self._gold
        if chosen is None or gold is None or why_not(gold, chosen.kept) is not None:
            return None
        from japagen.training.encoders import encoder_identity

        task = self._task
        fingerprint: dict[str, Any] = {
            "examples": chosen.fingerprint,
            "text_weight": mix.text_weight,
            "gold": fingerprint_of(gold),
            "encoder": encoder_identity(task.training.encoder),
            "max_length": task.training.max_length,
            "labels": dict(task.labels),
            "repeats": task.mixing.repeats,
            "seed": task.seed,
        }

        def make() -> dict[str, Any] | None:
            from japagen.training.frozen import FrozenTraining

            frozen = FrozenTraining(task.training.encoder, task.labels, task.training, gold.is_pair)
            return measure_worth(
                gold,
                chosen.kept,
                frozen,
                text_weight=mix.text_weight,
                seed=task.seed,
                repeats=task.mixing.repeats,
            )

        found: dict[str, Any] | None = self._stages.run(
            "worth", ["worth.json"], fingerprint, make, write_json, read_json
        )
        return found
