"""What a run's texts are measured by: encoder vectors, made once, and diversity."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from japagen.examples import Dataset, Example
from japagen.japanese.morphology import Tagger
from japagen.running.data import TaskData
from japagen.running.stage_runner import StageRunner, fingerprint_of
from japagen.stages.text_vectors import text_vectors
from japagen.storage.files import digest, read_array, read_json, write_array, write_json
from japagen.tasks.tasks import Task

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier

Vectors = list[npt.NDArray[np.float32]]
_TIMED = 32
_WARM_UP = 3
_NEAREST = 2


class Measuring:
    """Measures synthetic texts beside real ones; each measurement is made once a run.

    Args:
        task: The encoder and the seed.
        data: Unlabelled texts.
        gold: Training gold.
        stages: Where results are kept.
    """

    def __init__(
        self, task: Task, data: TaskData, gold: Dataset | None, stages: StageRunner
    ) -> None:
        self._task = task
        self._sets = (gold, data.unlabelled)
        self._stages = stages

    def vectors(self, dataset: Dataset) -> Vectors:
        """Frozen encoder vectors of gold, synthetic and unlabelled texts, in this order.

        Training reads every text some times over, forwards and backwards, so reading them once
        more costs little. Rejected rows have zeros.
        """
        from japagen.training.encoders import encoder_identity

        settings, (gold, unlabelled) = self._task.training, self._sets
        sets = [gold, dataset, unlabelled]
        read = [
            [d.kept.column(name) for name in ("id", "text", "text_pair")] if d is not None else None
            for d in sets
        ]
        sizes = [0 if d is None else len(d) for d in sets]
        fingerprint = {
            "texts": digest([read, sizes]),
            "encoder": encoder_identity(settings.encoder),
            "trusted": settings.trust_remote_code,
        }

        def make() -> npt.NDArray[Any]:
            trusted = settings.trust_remote_code
            return np.concatenate(text_vectors(sets, settings.encoder, trust_remote_code=trusted))

        stacked = self._stages.run(
            "vectors", ["vectors.npy"], fingerprint, make, write_array, read_array
        )
        return np.split(stacked.astype(np.float32), np.cumsum(sizes)[:-1])

    def diversity(
        self, dataset: Dataset, vectors: Vectors, tagger: Tagger
    ) -> dict[str, Any] | None:
        """Diversity of the kept texts against gold and between rounds, JSON-ready."""
        from japagen.training.encoders import encoder_identity

        gold, _ = self._sets
        columns = ("id", "text", "text_pair", "round", "source")
        fingerprint = {
            "examples": digest([dataset.kept.column(name) for name in columns]),
            "gold": fingerprint_of(gold),
            "encoder": encoder_identity(self._task.training.encoder),
            "dictionary": tagger.identity,
            "seed": self._task.seed,
        }

        def make() -> dict[str, Any] | None:
            from japagen.diversity.comparison import measure_diversity

            theirs, ours, _ = vectors
            found = measure_diversity(dataset, gold, tagger, (ours, theirs), self._task.seed)
            return None if found is None else found.to_dict()

        outputs = ["diversity.json"]
        found: dict[str, Any] | None = self._stages.run(
            "diversity", outputs, fingerprint, make, write_json, read_json
        )
        return found

    def distances(self, dataset: Dataset, tagger: Tagger) -> dict[str, float | None]:
        """How far each source's kept texts are from gold; empty without gold or with one source."""
        gold, _ = self._sets
        if gold is None or len(self._task.sources) == 1:
            return {}
        columns = ("id", "text", "text_pair", "source", "register_seen")
        fingerprint = {
            "examples": digest([dataset.kept.column(name) for name in columns]),
            "gold": fingerprint_of(gold),
            "dictionary": tagger.identity,
            "seed": self._task.seed,
        }

        def make() -> dict[str, float | None]:
            from japagen.alignment.by_source import distances_to_gold

            return distances_to_gold(dataset, gold, tagger, self._task.seed)

        found: dict[str, float | None] = self._stages.run(
            "distances", ["distances.json"], fingerprint, make, write_json, read_json
        )
        return found

    def with_nearest(
        self,
        errors: Sequence[Mapping[str, Any]],
        dataset: Dataset,
        used: Dataset | None,
        voted: Dataset | None,
        vectors: Vectors,
    ) -> list[dict[str, Any]]:
        """Puts beside each error the training texts that are nearest to it in meaning.

        Args:
            errors: Rows with ``text`` and ``text_pair``.
            dataset: The examples that the vectors are of.
            used: Those of them that were trained on, if any.
            voted: Unlabelled texts that were trained on, if any.
            vectors: Of gold, of the examples and of unlabelled text.

        Returns:
            The rows with ``nearest``: the text, its label, and whether it is gold, synthetic, or
            was unlabelled.
        """
        from japagen.training.encoders import encoder_identity

        settings, (gold, unlabelled) = self._task.training, self._sets
        fingerprint = {
            "errors": list(errors),
            "gold": fingerprint_of(gold),
            "examples": fingerprint_of(used),
            "encoder": encoder_identity(settings.encoder),
            **({"voted": voted.fingerprint} if voted else {}),
        }

        def make() -> list[dict[str, Any]]:
            known = [*(gold or ()), *(used or ()), *(voted or ())]
            if not known or not errors:
                return [{**row, "nearest": []} for row in errors]
            read = Dataset.of(Example(row["text"], None, row["text_pair"]) for row in errors)
            trusted = settings.trust_remote_code
            (mine,) = text_vectors([read], settings.encoder, trust_remote_code=trusted)
            sides = (dataset, used, vectors[1]), (unlabelled, voted, vectors[2])
            theirs = np.concatenate([vectors[0], *(_rows_of(*side) for side in sides)])
            return [
                {**row, "nearest": [_shown(known[i]) for i in near]}
                for row, near in zip(errors, nearest_rows(mine, theirs, _NEAREST), strict=True)
            ]

        found: list[dict[str, Any]] = self._stages.run(
            "nearest", ["errors.json"], fingerprint, make, write_json, read_json
        )
        return found

    def latency(self, dataset: Dataset, load: Callable[[], Classifier]) -> float:
        """Median seconds that the classifier takes for one kept text at a time, on this machine.

        Args:
            dataset: Synthetic examples; how long they are matters, what they say does not.
            load: Reads the classifier.
        """
        from japagen.training.encoders import encoder_identity

        texts, pairs = (dataset.kept.column(n)[:_TIMED] for n in ("text", "text_pair"))
        fingerprint = {
            "texts": digest([texts, pairs]),
            "encoder": encoder_identity(self._task.training.encoder),
            "max_length": self._task.training.max_length,
        }

        def make() -> float:
            classifier, took = load(), []
            rows = list(zip(texts, pairs, strict=True))
            for text, pair in [*rows[:_WARM_UP], *rows]:
                started = time.perf_counter()
                classifier.probabilities([text], None if pair is None else [pair])
                took.append(time.perf_counter() - started)
            return round(median(took[len(took) - len(rows) :]), 6)

        found: float = self._stages.run(
            "latency", ["latency.json"], fingerprint, make, write_json, read_json
        )
        return found


_KINDS = {"train": "gold", "unlabelled": "unlabelled"}


def nearest_rows(
    vectors: npt.NDArray[np.floating], known: npt.NDArray[np.floating], number: int
) -> npt.NDArray[np.int64]:
    """The rows of ``known`` that are nearest by cosine, nearest first, for each vector.

    What all known vectors have in common is taken off: vectors of an encoder lie in a narrow cone.

    Args:
        vectors: Shape (n, width).
        known: Shape (m, width).
        number: Rows for each; m if there are fewer.

    Returns:
        Shape (n, the lesser of ``number`` and m).
    """
    common = known.mean(axis=0)
    sides = [side - common for side in (vectors, known)]
    mine, theirs = (s / np.maximum(np.linalg.norm(s, axis=1, keepdims=True), 1e-12) for s in sides)
    return np.argsort(-(mine @ theirs.T), axis=1, kind="stable")[:, :number]


def _shown(example: Example) -> dict[str, Any]:
    return {
        "text": example.text,
        "text_pair": example.text_pair,
        "label": example.label,
        "source": _KINDS.get(example.split, "synthetic"),
    }


def _rows_of(
    every: Dataset | None, some: Dataset | None, vectors: npt.NDArray[np.floating]
) -> npt.NDArray[np.floating]:
    """The vectors of some of the texts that the vectors are of."""
    if every is None or some is None:
        return vectors[:0]
    at = {id_: row for row, id_ in enumerate(every.column("id"))}
    return vectors[[at[id_] for id_ in some.column("id")]]
