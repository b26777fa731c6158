"""The step "align": embeddings, selection, weights and the mix."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from japagen.alignment.weights import Alignment, align_datasets
from japagen.config.task import Task
from japagen.config.task_data import TaskData
from japagen.curation.reliability import Reliability, find_off_topic
from japagen.data.dataset import Dataset, Example, Split
from japagen.data.files import digest, read_array, read_json, write_array, write_json
from japagen.data.formats import check_new, load_dataset, read_examples, write_examples
from japagen.data.labels import LabelSpace
from japagen.data.registry import METHODS, METRICS
from japagen.gradmm.selection import select_by_gradient
from japagen.japanese.morphology import Tagger
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.mixing.learning_curve import measure_worth, why_not
from japagen.mixing.mix import Mix, find_mix
from japagen.pipeline.cache import StageRunner, fingerprint_of
from japagen.pipeline.steps.generate import find_registers
from japagen.training.encoder import text_vectors

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier


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
        """Weights the kept examples.

        Args:
            dataset: Examples with the trust in their labels.
            vectors: Of gold, of the examples and of unlabelled text.

        Returns:
            The weighted examples, and what alignment reports.
        """
        from japagen.alignment.weights import align_datasets
        from japagen.training.encoder import encoder_identity

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

        def make() -> tuple[Dataset, dict[str, Any]]:
            # A register that one side lacks could not be matched.
            known = unlabelled and find_registers(unlabelled, self._analyzer)
            alignment = align_datasets(
                dataset,
                self._gold,
                known,
                label_prior=self._label_prior,
                method=settings.method,
                floor=settings.floor,
                seed=self._task.seed,
                tagger=self._analyzer.tagger,
                vectors=vectors,
                strength=settings.strength,
                off_topic=find_off_topic(*vectors[:2]) if len(vectors) > 1 else None,
            )
            aligned = dataset.with_columns(weight_distribution=alignment.weights)
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
        # Real label shares cost a metric under which rare labels count as much as others.
        balanced = task.kind == "classification" and "balanced" in METRICS[task.metric].traits
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
        from japagen.training.encoder import encoder_identity

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
            from japagen.training.trainer import FrozenTraining

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


def select_texts(
    task: Task,
    dataset: Dataset,
    gold: Dataset | None,
    vectors: Sequence[npt.NDArray[np.floating]],
    stages: StageRunner,
) -> Dataset:
    """Rejects what was not chosen; without ``selection.per_label`` nothing changes.

    Args:
        task: Settings and labels.
        dataset: Examples with the labels that they are to be trained with.
        gold: Training gold.
        vectors: Of gold and of the examples, in this order; more may follow.
        stages: Where the result is kept.
    """
    from japagen.training.encoder import encoder_identity

    settings = task.selection
    if settings.per_label is None or gold is None:
        return dataset
    labels = list(task.labels)
    fingerprint = {
        "examples": dataset.fingerprint,
        "gold": fingerprint_of(gold),
        "selection": settings.model_dump(mode="json"),
        "encoder": encoder_identity(task.training.encoder),
        "labels": labels,
        "seed": task.seed,
    }

    def make() -> Dataset:
        known = (dataset, gold, vectors[1], vectors[0], labels)
        return select_by_gradient(*known, settings=settings, seed=task.seed)

    return stages.dataset("select", "selected.parquet", fingerprint, make)


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
        from japagen.training.encoder import encoder_identity

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
        from japagen.training.encoder import encoder_identity

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
            from japagen.evaluation.diversity import measure_diversity

            theirs, ours, _ = vectors
            found = measure_diversity(dataset, gold, tagger, (ours, theirs), self._task.seed)
            return None if found is None else asdict(found)

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
            from japagen.alignment.diagnostics import distances_to_gold

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
        from japagen.training.encoder import encoder_identity

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
        from japagen.training.encoder import encoder_identity

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


# Texts whose register is found unasked: at some 9,500 a second of one core it is what would take
# longest with a million of them.
MOST_UNASKED = 50_000
PER_SECOND = 9_500


def align_files(
    synthetic: Path,
    gold: Path,
    output: Path,
    *,
    unlabelled: Path | None = None,
    number: int | None = None,
    overwrite: bool = False,
    method: str = "entropy",
    encoder: str | None = None,
    registers: bool | None = None,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    note: Callable[[str], None] = lambda message: None,
    **settings: Any,
) -> Alignment:
    """Reads, weights and writes examples.

    Args:
        synthetic: Labelled examples to weight.
        gold: Labelled examples of the target.
        output: Written with ``weight``; a CSV, JSONL or Parquet file.
        unlabelled: Texts of the target.
        number: Draw this many rows by weight, each then of weight 1, in place of weights.
        overwrite: Replace an output that is there.
        method: See `align_datasets`.
        encoder: Measure the maximum mean discrepancy on this encoder's vectors: ``embedded``, a
            directory or a Hub name. The method that needs vectors takes ``embedded`` unasked.
        registers: Find the register of texts that come without one, so that it is matched;
            None does so up to 50,000 texts in all.
        columns: Our column name to that of all files or, as ``gold.text``, of one: ``synthetic``,
            ``gold`` or ``unlabelled``.
        encoding: Of text files; found out when None.
        note: Told what was left undone.
        **settings: More arguments of `align_datasets`.

    Raises:
        JapagenError: If a file cannot be read or written, or a setting is unknown.
    """
    check_new(output, overwrite=overwrite)

    def read(path: Path, file: str, split: Split, require_label: bool) -> Dataset:
        wanted = {
            ours.removeprefix(f"{file}."): theirs
            for ours, theirs in sorted((columns or {}).items(), key=lambda pair: "." in pair[0])
            if "." not in ours or ours.startswith(f"{file}.")
        }
        if not require_label:
            wanted.pop("label", None)
        return read_examples(
            path, columns=wanted, split=split, encoding=encoding, require_label=require_label
        )

    target = read(gold, "gold", "train", require_label=True)
    examples = read(synthetic, "synthetic", "synthetic", require_label=True)
    examples, target = with_like_labels(examples, target)
    more = read(unlabelled, "unlabelled", "unlabelled", require_label=False) if unlabelled else None
    encoder = encoder or ("embedded" if "vectors" in METHODS.find(method).traits else None)
    vectors = None
    if encoder:
        from japagen.training.encoder import text_vectors

        vectors = text_vectors((target, examples, more), encoder)
    found = align_datasets(
        *with_registers((examples, target, more), registers, note),
        method=method,
        vectors=vectors,
        resample=number,
        **settings,
    )
    if number is None:
        written = examples.with_columns(weight_distribution=found.weights)
    else:
        drawn = examples.take(np.flatnonzero(found.weights))
        written = drawn.with_columns(weight_distribution=[1.0] * number)
    write_examples(output, written)
    return found


def with_like_labels(data: Dataset, gold: Dataset) -> tuple[Dataset, Dataset]:
    """Makes the labels of both of one kind, and writes those of the data as gold writes them.

    Whole numbers are classes in a file that has no others, and characters may be composed
    otherwise or of another width.
    """
    kinds = [LabelSpace.of(part).kind for part in (data, gold)]
    if sorted(kinds) == ["classification", "regression"]:
        try:
            numbers = [
                Dataset.of(replace(e, label=float(e.label), label_asked=None) for e in part)  # type: ignore[arg-type]
                for part in (data, gold)
            ]
        except ValueError:  # what follows says that the two do not go together
            return data, gold
        return numbers[0], numbers[1]
    if "regression" in kinds or kinds[0] != kinds[1]:
        return data, gold
    space = LabelSpace.of(gold)

    def known(label: Any) -> Any:
        if isinstance(label, list):
            return [space.find(tag) or tag for tag in label]
        return space.find(label) or label

    return data.with_columns(label=[known(label) for label in data.labels]), gold


def with_registers(
    datasets: tuple[Dataset, Dataset, Dataset | None],
    wanted: bool | None,
    note: Callable[[str], None] = lambda message: None,
) -> tuple[Dataset, Dataset, Dataset | None]:
    """Finds the register of texts that come without one; see `align_files`."""
    lacking = sum(d.table.column("register_seen").null_count for d in datasets if d is not None)
    if wanted is False or not lacking:
        return datasets
    if wanted is None and lacking > MOST_UNASKED:
        note(
            f"Registers are not matched: {lacking:,} texts come without one. "
            f"--registers finds them, in about {lacking / PER_SECOND / 60:.0f} minutes."
        )
        return datasets
    from japagen.japanese.register.detector import RegisterAnalyzer

    analyzer = RegisterAnalyzer()

    def filled(dataset: Dataset) -> Dataset:
        if not dataset.table.column("register_seen").null_count:
            return dataset
        kept = dataset.column("register_seen")
        rows = [row for row, register in enumerate(kept) if register is None]
        texts = dataset.texts
        for row, report in zip(rows, analyzer.analyze_all(texts[r] for r in rows), strict=True):
            kept[row] = report.register.to_dict()
        return dataset.with_columns(register_seen=kept)

    first, second, third = datasets
    return filled(first), filled(second), None if third is None else filled(third)
