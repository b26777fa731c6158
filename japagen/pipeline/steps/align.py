"""The step "align": vectors, selection, weights and the mix, and what is measured beside gold."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from japagen.alignment.weights import Alignment, align_datasets
from japagen.config.curation import Selection
from japagen.config.sections import AlignmentSettings
from japagen.config.task import Task
from japagen.curation.reliability import Reliability, find_off_topic
from japagen.data.dataset import Dataset, Example
from japagen.data.formats import check_new, read_examples, write_examples
from japagen.data.labels import LabelSpace
from japagen.data.registry import METRICS
from japagen.gradmm.target import select_by_gradient
from japagen.japanese.morphology import Tagger
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.mixing.learning_curve import measure_worth, why_not
from japagen.mixing.mix import Mix, find_mix
from japagen.pipeline.cache import Step, only
from japagen.pipeline.context import RunContext, TextEncoder, find_registers
from japagen.pipeline.steps.train import LazyClassifier

_VECTORS = Step("vectors", 2, ("vectors.npy",))
_SELECT = Step("select", 4, ("selected.parquet",))
_ALIGN = Step("align", 5, ("aligned.parquet", "alignment.json"))
_WORTH = Step("worth", 2, ("worth.json",))
_DIVERSITY = Step("diversity", 3, ("diversity.json",))
_DISTANCES = Step("distances", 2, ("distances.json",))
_NEAREST = Step("nearest", 2, ("errors.json",))
_MAP = Step("map", 1, ("map.json",))
_LATENCY = Step("latency", 2, ("latency.json",))
_TIMED = 32
_WARM_UP = 3
_SHOWN = 2


def embed_texts(run: RunContext, texts: Dataset) -> None:
    """Embeds gold, the kept texts and unlabelled ones: `RunContext.encoder` knows them from now on.

    Training reads every text some times over, forwards and backwards, so reading them once more
    costs little.
    """
    sets = [d.kept for d in (run.gold, texts, run.data.unlabelled) if d is not None]
    read = [data.only("text", "text_pair") for data in sets]

    def stacked(sets: Sequence[Dataset], encoder: TextEncoder) -> npt.NDArray[Any]:
        return np.concatenate([encoder.read(data) for data in sets])

    rows = run.cache.step(_VECTORS, stacked, sets=read, encoder=run.encoder)
    ends = np.cumsum([len(data) for data in read])
    for data, vectors in zip(read, np.split(rows, ends[:-1]), strict=True):
        run.encoder.remember(data, vectors)


def select_texts(run: RunContext, texts: Dataset) -> Dataset:
    """Rejects what was not chosen; without ``selection.per_label`` nothing changes."""
    settings = run.task.selection
    if settings.per_label is None or run.gold is None:
        return texts
    return run.cache.step(
        _SELECT,
        _selected,
        texts=texts,
        gold=run.gold,
        labels=list(run.task.labels),
        settings=settings,
        encoder=run.encoder,
        seed=run.task.seed,
    )


def _selected(
    texts: Dataset,
    gold: Dataset,
    labels: Sequence[str],
    settings: Selection,
    encoder: TextEncoder,
    seed: int,
) -> Dataset:
    ours, theirs = encoder.vectors(texts), encoder.vectors(gold)
    return select_by_gradient(texts, gold, ours, theirs, labels, settings=settings, seed=seed)


def align(run: RunContext, texts: Dataset) -> tuple[Dataset, dict[str, Any]]:
    """Weights the kept examples.

    Returns:
        The weighted examples, and what alignment reports.
    """
    task = run.task
    return run.cache.step(
        _ALIGN,
        _aligned,
        texts=texts,
        gold=run.gold,
        unlabelled=run.data.unlabelled,
        label_prior=_label_prior(task),
        alignment=only(task.alignment, "method", "strength", "floor"),
        analyzer=run.analyzer,
        encoder=run.encoder,
        seed=task.seed,
    )


def _aligned(
    texts: Dataset,
    gold: Dataset | None,
    unlabelled: Dataset | None,
    label_prior: str | dict[str, float],
    alignment: AlignmentSettings,
    analyzer: RegisterAnalyzer,
    encoder: TextEncoder,
    seed: int,
) -> tuple[Dataset, dict[str, Any]]:
    vectors = [encoder.vectors(data) for data in (gold, texts, unlabelled)]
    found = align_datasets(
        texts,
        gold,
        # A register that one side lacks could not be matched.
        unlabelled and find_registers(unlabelled, analyzer),
        label_prior=label_prior,
        method=alignment.method,
        floor=alignment.floor,
        seed=seed,
        tagger=analyzer.tagger,
        vectors=vectors,
        strength=alignment.strength,
        off_topic=find_off_topic(*vectors[:2]),
        progress=False,
    )
    return texts.with_columns(weight_distribution=found.weights), found.to_dict()


def _label_prior(task: Task) -> str | dict[str, float]:
    """The label shares to weight to: with ``auto``, even ones where labels count alike."""
    # Real label shares cost a metric under which rare labels count as much as others.
    balanced = task.kind == "classification" and "balanced" in METRICS[task.metric].traits
    return "uniform" if task.label_prior == "auto" and balanced else task.label_prior


def mix_sources(run: RunContext, texts: Dataset, reliability: Mapping[str, Reliability]) -> Mix:
    """Decides how much each source weighs beside gold, by how reliable its labels are."""
    share = run.task.training.synthetic_share
    return find_mix(
        len(run.gold or ()),
        texts,
        reliability,
        share=None if share == "auto" else share,
        checkable=run.task.kind == "classification",
    )


def find_worth(run: RunContext, chosen: Dataset | None, mix: Mix) -> dict[str, Any] | None:
    """Learning curves of gold and of synthetic text; None where they cannot be measured."""
    gold, task = run.gold, run.task
    if chosen is None or gold is None or why_not(gold, chosen.kept) is not None:
        return None
    return run.cache.step(
        _WORTH,
        _worth,
        texts=chosen.kept,
        gold=gold,
        text_weight=mix.text_weight,
        encoder=run.encoder,
        labels=task.labels,
        max_length=task.training.max_length,
        repeats=task.mixing.repeats,
        seed=task.seed,
    )


def _worth(
    texts: Dataset,
    gold: Dataset,
    text_weight: float,
    encoder: TextEncoder,
    labels: Mapping[str, str],
    max_length: int,
    repeats: int,
    seed: int,
) -> dict[str, Any] | None:
    frozen = encoder.frozen(labels, max_length, gold.is_pair)
    return measure_worth(gold, texts, frozen, text_weight=text_weight, seed=seed, repeats=repeats)


def measure_diversity(run: RunContext, texts: Dataset) -> dict[str, Any] | None:
    """Diversity of the kept texts against gold and between rounds, JSON-ready."""
    return run.cache.step(
        _DIVERSITY,
        _diversity,
        texts=texts.kept.only("id", "text", "text_pair", "round", "source"),
        gold=run.gold,
        encoder=run.encoder,
        tagger=run.analyzer.tagger,
        seed=run.task.seed,
    )


def _diversity(
    texts: Dataset, gold: Dataset | None, encoder: TextEncoder, tagger: Tagger, seed: int
) -> dict[str, Any] | None:
    from japagen.evaluation import diversity

    vectors = encoder.vectors(texts), encoder.vectors(gold)
    found = diversity.measure_diversity(texts, gold, tagger, vectors, seed)
    return None if found is None else asdict(found)


def measure_distances(run: RunContext, texts: Dataset) -> dict[str, float | None]:
    """How far each source's kept texts are from gold; empty without gold or with one source."""
    from japagen.alignment.diagnostics import distances_to_gold

    if run.gold is None or len(run.task.sources) == 1:
        return {}
    return run.cache.step(
        _DISTANCES,
        distances_to_gold,
        dataset=texts.kept.only("id", "text", "text_pair", "source", "register_seen"),
        gold=run.gold,
        tagger=run.analyzer.tagger,
        seed=run.task.seed,
    )


def with_nearest(
    run: RunContext,
    errors: Sequence[Mapping[str, Any]],
    used: Dataset | None,
    pseudo_labelled: Dataset | None,
) -> list[dict[str, Any]]:
    """Puts beside each error the training texts that are nearest to it in meaning.

    Returns:
        The rows with ``nearest``: the text, its label, and whether it is gold, synthetic, or
        was unlabelled.
    """
    return run.cache.step(
        _NEAREST,
        _with_nearest,
        errors=errors,
        gold=run.gold,
        used=used,
        pseudo_labelled=pseudo_labelled,
        encoder=run.encoder,
    )


def _with_nearest(
    errors: Sequence[Mapping[str, Any]],
    gold: Dataset | None,
    used: Dataset | None,
    pseudo_labelled: Dataset | None,
    encoder: TextEncoder,
) -> list[dict[str, Any]]:
    known = [*(gold or ()), *(used or ()), *(pseudo_labelled or ())]
    if not known or not errors:
        return [{**row, "nearest": []} for row in errors]
    read = Dataset.of(Example(row["text"], None, row["text_pair"]) for row in errors)
    theirs = [encoder.vectors(side) for side in (gold, used, pseudo_labelled) if side]
    nearest = nearest_rows(encoder.vectors(read), np.concatenate(theirs), _SHOWN)
    return [
        {**row, "nearest": [_shown(known[i]) for i in near]}
        for row, near in zip(errors, nearest, strict=True)
    ]


_MAPPED = 600  # texts of each side; t-SNE takes a second or two for so many
_PERPLEXITY = 15
_NEIGHBOURS = 5
_AGREEING = 4


def map_texts(run: RunContext, texts: Dataset) -> dict[str, Any]:
    """Places gold and kept texts on a map by meaning, and finds gold labels worth a second look.

    Returns:
        ``map``, None with too few texts, and ``doubtful_gold``, as `RunSummary` has them.
    """
    return run.cache.step(
        _MAP,
        _mapped,
        texts=texts.kept.only("id", "text", "text_pair", "label"),
        gold=run.gold,
        encoder=run.encoder,
        seed=run.task.seed,
    )


def _mapped(
    texts: Dataset, gold: Dataset | None, encoder: TextEncoder, seed: int
) -> dict[str, Any]:
    if gold is None or not len(gold) or not len(texts):
        return {"map": None, "doubtful_gold": []}
    from sklearn.manifold import TSNE

    rng = np.random.default_rng(seed)

    def sampled(data: Dataset) -> Dataset:
        rows = rng.permutation(len(data))[:_MAPPED]
        return data.take(sorted(rows.tolist()))

    real, synthetic = sampled(gold), sampled(texts)
    vectors = np.concatenate([encoder.vectors(real), encoder.vectors(synthetic)])
    places = None
    if len(vectors) > 3:
        perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
        # Vectors of one length: Euclidean distance is that of the cosine.
        placed = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)
        places = np.round(placed, 2).tolist()
    return {
        "map": places
        and {
            "gold": [
                {"x": x, "y": y, "label": e.label, "text": " ".join(e.texts)}
                for e, (x, y) in zip(real, places, strict=False)
            ],
            "synthetic": [
                {"x": x, "y": y, "label": e.label, "id": e.id}
                for e, (x, y) in zip(synthetic, places[len(real) :], strict=True)
            ],
        },
        "doubtful_gold": _doubtful(gold, encoder.vectors(gold)),
    }


def _doubtful(gold: Dataset, vectors: npt.NDArray[np.floating]) -> list[dict[str, Any]]:
    """Gold texts most of whose nearest gold texts have one other label; of classes only."""
    examples, found = list(gold), []
    if len(examples) <= _NEIGHBOURS or not all(isinstance(e.label, str) for e in examples):
        return []
    near = nearest_rows(vectors, vectors, _NEIGHBOURS + 1)
    for row, example in enumerate(examples):
        labels = Counter(str(examples[i].label) for i in near[row] if i != row)
        label, agreeing = labels.most_common(1)[0]
        if label != example.label and agreeing >= _AGREEING:
            found.append(
                {
                    "text": example.text,
                    "text_pair": example.text_pair,
                    "label": example.label,
                    "nearest_label": label,
                    "agreeing": agreeing,
                    "of": labels.total(),
                }
            )
    return found


_KINDS = {"train": "gold", "unlabelled": "unlabelled"}


def measure_latency(run: RunContext, texts: Dataset, classifier: LazyClassifier) -> float:
    """Median seconds that the classifier takes for one kept text at a time, on this machine."""
    kept = texts.kept
    # How long it takes depends on its shape alone, not on what it has learnt.
    shape = [run.encoder.identity, run.task.training.max_length]
    return run.cache.step(
        _LATENCY,
        _latency,
        texts=kept.take(range(min(len(kept), _TIMED))).only("text", "text_pair"),
        classifier=replace(classifier, identity=shape),
    )


def _latency(texts: Dataset, classifier: LazyClassifier) -> float:
    loaded, took = classifier.load(), []
    rows = list(zip(texts.texts, texts.column("text_pair"), strict=True))
    for text, pair in [*rows[:_WARM_UP], *rows]:
        started = time.perf_counter()
        loaded.probabilities([text], None if pair is None else [pair])
        took.append(time.perf_counter() - started)
    return round(median(took[len(took) - len(rows) :]), 6)


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


# Texts whose register is found unasked: at some 9,500 per second of one core it is what would take
# longest with a million of them.
MOST_UNASKED = 50_000
PER_SECOND = 9_500


def align_files(
    synthetic: Path,
    gold: Path,
    output: Path,
    *,
    unlabelled: Path | None = None,
    overwrite: bool = False,
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
        overwrite: Replace an output that is there.
        encoder: Measure the maximum mean discrepancy on this encoder's vectors: ``embedded``, a
            directory or a Hub name.
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
    target, more = read_targets(gold, unlabelled, columns, encoding)
    examples = read_examples(
        synthetic,
        columns=columns_of(columns, "synthetic"),
        encoding=encoding,
        require_label=True,
    )
    examples, target = with_like_labels(examples, target)
    vectors = None
    if encoder:
        from japagen.training.encoder import text_vectors

        vectors = text_vectors((target, examples, more), encoder)
    found = align_datasets(
        *with_registers((examples, target, more), registers, note),
        vectors=vectors,
        **settings,
    )
    write_examples(output, examples.with_columns(weight_distribution=found.weights))
    return found


def read_targets(
    gold: Path,
    unlabelled: Path | None,
    columns: Mapping[str, str] | None,
    encoding: str | None,
) -> tuple[Dataset, Dataset | None]:
    """Reads what is aligned to; arguments as of `align_files`."""
    target = read_examples(
        gold,
        columns=columns_of(columns, "gold"),
        split="train",
        encoding=encoding,
        require_label=True,
    )
    if unlabelled is None:
        return target, None
    wanted = columns_of(columns, "unlabelled")
    wanted.pop("label", None)
    return target, read_examples(unlabelled, columns=wanted, split="unlabelled", encoding=encoding)


def columns_of(columns: Mapping[str, str] | None, file: str) -> dict[str, str]:
    """Those of one of the files: named for it, as ``gold.text``, or for all."""
    return {
        ours.removeprefix(f"{file}."): theirs
        for ours, theirs in sorted((columns or {}).items(), key=lambda pair: "." in pair[0])
        if "." not in ours or ours.startswith(f"{file}.")
    }


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
        for row, register in zip(rows, analyzer.registers(texts[r] for r in rows), strict=True):
            kept[row] = register.to_dict()
        return dataset.with_columns(register_seen=kept)

    first, second, third = datasets
    return filled(first), filled(second), None if third is None else filled(third)
