"""How much each synthetic text counts, and how much all of them together."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from japagen.examples import Dataset
from japagen.generation import coverage
from japagen.japanese.register_detection import RegisterAnalyzer
from japagen.mixing.mix import FoundMix, given_mix
from japagen.running.data import TaskData
from japagen.running.stage_runner import StageRunner, fingerprint_of
from japagen.stages.measuring import Vectors
from japagen.stages.planning import find_registers
from japagen.storage.files import read_json, write_json
from japagen.storage.formats import load_dataset, write_examples
from japagen.tasks.tasks import Task


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
            "label_prior": self._task.label_prior,
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
                label_prior=self._task.label_prior,
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
            weights = alignment.weights * factors
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

    def mix(
        self, dataset: Dataset, alignment: dict[str, Any] | None, vouched: Collection[str] = ()
    ) -> FoundMix:
        """How much of the synthetic text to train on, and at which share of the loss.

        Args:
            dataset: Aligned examples.
            alignment: What `align` reported; None where nothing was aligned.
            vouched: Ids of examples whose label a person has vouched for.
        """
        from japagen.training.encoders import encoder_identity

        task = self._task
        if task.training.synthetic_share != "auto":
            return given_mix(task.training.share)
        fingerprint: dict[str, Any] = {
            "examples": dataset.fingerprint,
            "gold": fingerprint_of(self._gold),
            "unlabelled": fingerprint_of(self._data.unlabelled),
            "label_prior": task.label_prior,
            "alignment": task.alignment.model_dump(mode="json"),
            "mixing": task.mixing.model_dump(mode="json"),
            "labels_settled": task.curation.model_dump(include={"label_miss", "label_confidence"}),
            "encoder": encoder_identity(task.training.encoder),
            "japanese": self._analyzer.identity,
            "labels": dict(task.labels),
            "training": task.training.model_dump(
                mode="json",
                include=None if task.mixing.confirm else {"soft_labels", "tune", "max_length"},
                exclude={"pseudo_labels", "pseudo_label_texts"},
            ),
            "seed": task.seed,
        }
        if vouched:
            fingerprint["vouched"] = sorted(vouched)

        def make() -> FoundMix:
            from japagen.mixing.searching import find_mix_of

            method = (alignment or {}).get("method", "none")
            return find_mix_of(
                task,
                self._gold,
                dataset,
                # As alignment sees them: a register that one side lacks could not be matched.
                self._data.unlabelled and find_registers(self._data.unlabelled, self._analyzer),
                method,
                self._analyzer.tagger,
                self._stages.listener,
                vouched,
            )

        return self._stages.run(
            "mix",
            ["mix.json"],
            fingerprint,
            make,
            lambda path, mix: write_json(path, mix.to_dict()),
            lambda path: FoundMix.from_dict(read_json(path)),
        )
