"""Changes a run's texts towards gold's gradients: the strategy ``gradient_matching``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from japagen.examples import Dataset
from japagen.japanese.register_detection import RegisterAnalyzer
from japagen.running.stage_runner import StageRunner, fingerprint_of
from japagen.stages.edit_outcome import Edited, EditOutcome
from japagen.stages.edit_work import EditWork
from japagen.stages.local_reader import LocalReader
from japagen.stages.measuring import Vectors
from japagen.storage.files import digest, read_array, read_json, write_array, write_json
from japagen.storage.formats import load_dataset, write_examples
from japagen.tasks.matching_settings import STRATEGY
from japagen.tasks.tasks import Task

_STAGE = "edit"
_PIECES = "edits"


def check_editing(task: Task) -> None:
    """Finds out early whether texts can be changed, where the task wants that.

    Raises:
        MissingExtraError: If a package that reads the language model is missing.
        JapagenError: If the language model or the encoder does not serve.
    """
    if task.generation.strategy == STRATEGY:
        LocalReader(task).check()


def edit_texts(
    task: Task,
    dataset: Dataset,
    gold: Dataset | None,
    vectors: Vectors,
    stages: StageRunner,
    analyzer: RegisterAnalyzer,
    filtered: Callable[[Dataset], Dataset],
    inputs: Mapping[str, object],
    vouched: Collection[str] = (),
) -> tuple[Dataset, Vectors, dict[str, Any] | None]:
    """Puts changed texts in the place of those whose change brings their label nearer to gold.

    Args:
        task: Settings and labels; under any other strategy nothing changes.
        dataset: Examples with the labels that they are to be trained with.
        gold: Training gold.
        vectors: Of gold and of the examples, in this order; more may follow.
        stages: Where the result is kept.
        analyzer: Finds registers, and words.
        filtered: Applies the filters of curation.
        inputs: What these depend on.
        vouched: Ids of texts that people have accepted, which stay as they are.

    Returns:
        The same rows, those in whose place another stands rejected, with the changed texts behind
        them; the vectors of all; and what was done, JSON-ready.
    """
    from japagen.training.encoders import encoder_identity

    if task.generation.strategy != STRATEGY or gold is None:
        return dataset, vectors, None
    models = LocalReader(task)
    fingerprint = {
        "examples": dataset.fingerprint,
        "gold": fingerprint_of(gold),
        "gradient_matching": task.gradient_matching.model_dump(mode="json", exclude={"model"}),
        "model": models.identity,
        "encoder": encoder_identity(task.training.encoder),
        "max_length": task.training.max_length,
        "text_type": task.text_type,
        "labels": list(task.labels),
        "curation": task.curation.model_dump(mode="json"),
        "vouched": sorted(vouched),
        "seed": task.seed,
        **inputs,
    }
    pieces = stages.directory.file(_PIECES)

    def make() -> Edited:
        ids = dataset.column("id")
        free = [row for row in np.flatnonzero(dataset.kept_mask) if ids[row] not in vouched]
        rows = np.array(free, dtype=np.int64)
        work = EditWork(task, dataset, gold, vectors, rows, models, analyzer.tagger)
        changed = work.change(pieces, digest(fingerprint), stages.listener)
        made = EditOutcome(work, analyzer, changed).settle(filtered)
        number, of = (made.summary[name] for name in ("edited", "texts"))
        stages.listener.note(f"Gradient matching changed {number} of {of} texts.")
        return made

    def save(path: Path, made: Edited) -> None:
        write_array(path.with_suffix(".npy"), made.vectors)
        write_json(path.with_suffix(".json"), made.summary)
        write_examples(path, made.dataset)
        shutil.rmtree(pieces, ignore_errors=True)

    def load(path: Path) -> Edited:
        return Edited(
            load_dataset(path),
            read_array(path.with_suffix(".npy")),
            read_json(path.with_suffix(".json")),
        )

    outputs = [f"edited.{kind}" for kind in ("parquet", "npy", "json")]
    made = stages.run(_STAGE, outputs, fingerprint, make, save, load)
    ours = np.concatenate([vectors[1], made.vectors.astype(np.float32)])
    return made.dataset, [vectors[0], ours, *vectors[2:]], made.summary
