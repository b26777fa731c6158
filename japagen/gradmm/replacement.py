"""Puts synthesised texts in the place of a run's: the strategy ``gradient_matching``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from japagen.curation.label_check import label_indices
from japagen.examples import SYNTHESISED, Dataset, Example, Rejection
from japagen.gradmm.models import Models
from japagen.gradmm.target import Ints, deal_texts, extended_shots, gold_subsets
from japagen.japanese.register_detection import RegisterAnalyzer
from japagen.japanese.registers import OTHER
from japagen.running.stage_runner import StageRunner, fingerprint_of
from japagen.stages.measuring import Vectors
from japagen.stages.text_vectors import text_vectors
from japagen.storage.files import read_array, read_json, write_array, write_json
from japagen.storage.formats import load_dataset, write_examples
from japagen.tasks.gradmm_settings import STRATEGY
from japagen.tasks.tasks import Task

REFUSED = "synthesis_refused"
# What is in memory at a time.
_PIECE = 32


def check_models(task: Task) -> None:
    """Finds out early whether a task that wants texts synthesised names models that can do it."""
    if task.generation.strategy == STRATEGY:
        Models(task).check()


Replaced = tuple[Dataset, Vectors, dict[str, Any] | None]


def replace_texts(
    task: Task,
    dataset: Dataset,
    gold: Dataset | None,
    vectors: Vectors,
    stages: StageRunner,
    analyzer: RegisterAnalyzer,
    filtered: Callable[[Dataset], Dataset],
    inputs: Mapping[str, object],
    vouched: Collection[str] = (),
) -> Replaced:
    """Synthesises kept texts anew where that brings their label's gradients nearer to gold's.

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
        The same rows, those in whose place another stands rejected, with the synthesised texts
        behind them; the vectors of all; and what was done, JSON-ready.
    """
    from japagen.training.encoders import encoder_identity

    if task.generation.strategy != STRATEGY or gold is None:
        return dataset, vectors, None
    models = Models(task)
    fingerprint = {
        "examples": dataset.fingerprint,
        "gold": fingerprint_of(gold),
        "perplexity": task.gradient_matching.perplexity,
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

    def make() -> Replaced:
        ids = dataset.column("id")
        free = [row for row in np.flatnonzero(dataset.kept_mask) if ids[row] not in vouched]
        rows = np.array(free, dtype=np.int64)
        made, own = dataset, np.zeros((0, vectors[1].shape[1]), dtype=np.float32)
        children, ratios = _written(task, dataset, rows, gold, vectors, models, analyzer, stages)
        if len(children):
            # The filters compare children with everything but those that they would replace.
            most = task.gradient_matching.perplexity
            tried = filtered(Dataset.concat([_replaced(dataset, children, ratios, most), children]))
            children = tried.take(range(len(dataset), len(tried)))
            made = Dataset.concat([_replaced(dataset, children, ratios, most), children])
            trusted = task.training.trust_remote_code
            (own,) = text_vectors([children], task.training.encoder, trust_remote_code=trusted)
        number = int(children.kept_mask.sum()) if len(children) else 0
        stages.listener.note(f"Gradient matching wrote {number} of {len(rows)} texts anew.")
        summary = {
            "texts": len(rows),
            "synthesised": number,
            "refused": len(children) - number,
            "model": models.name,
            "terms": asdict(models.terms),
        }
        return made, [vectors[0], np.concatenate([vectors[1], own]), *vectors[2:]], summary

    def save(path: Path, made: Replaced) -> None:
        write_array(path.with_suffix(".npy"), made[1][1].astype(np.float64))
        write_json(path.with_suffix(".json"), made[2])
        write_examples(path, made[0])

    def load(path: Path) -> Replaced:
        own, summary = read_array(path.with_suffix(".npy")), read_json(path.with_suffix(".json"))
        return load_dataset(path), [vectors[0], own.astype(np.float32), *vectors[2:]], summary

    outputs = [f"synthesised.{kind}" for kind in ("parquet", "npy", "json")]
    return stages.run("synthesise", outputs, fingerprint, make, save, load)


def _written(
    task: Task,
    dataset: Dataset,
    rows: Ints,
    gold: Dataset,
    vectors: Vectors,
    models: Models,
    analyzer: RegisterAnalyzer,
    stages: StageRunner,
) -> tuple[Dataset, dict[str, float]]:
    """New texts made of some rows, and by id how much each one's perplexity has grown."""
    from japagen.gradmm.synthesis import Admm, Lexicon, synthesise

    texts, names = dataset.take(rows), list(task.labels)
    children: list[Example] = []
    ratios: dict[str, float] = {}
    if not len(rows):
        return Dataset.of([]), ratios
    labels, true = label_indices(texts, names), label_indices(gold, names)
    subsets = gold_subsets(
        gold, vectors[0], true, vectors[1][rows], labels, len(names), seed=task.seed
    )
    dealt = deal_texts(texts.column("id"), labels, texts.column("shot_ids"), subsets, task.seed)
    gold_texts = dict(zip(gold.column("id"), gold.texts, strict=True))
    settings = Admm(perplexity=task.gradient_matching.perplexity)
    groups = list(np.ndindex(len(subsets), len(names)))
    for number, label in stages.listener.track(groups, len(groups), "synthesise"):
        ids = subsets[number].ids[label]
        mine = np.flatnonzero((dealt == number) & (labels == label))
        if not ids or not len(mine):
            continue
        matcher, reader = models.matcher(subsets[number].target), models.reader
        # Words that only gold has would tell which gold a text has seen.
        seen = [gold_texts[id_] for id_ in ids]
        lexicon = Lexicon([*texts.texts, *seen], seen, matcher, reader, analyzer.tagger)
        for piece in np.array_split(mine, -(-len(mine) // _PIECE)):
            parents = list(texts.take(piece))
            old = [parent.text for parent in parents]
            made = synthesise(old, label, matcher, reader, lexicon, settings)
            for parent, new in zip(parents, made, strict=True):
                if new.text == parent.text:
                    continue
                child = replace(
                    parent,
                    text=new.text,
                    id=f"{parent.id}-s",
                    derived=SYNTHESISED,
                    parent_id=parent.id,
                    shot_ids=tuple(extended_shots(parent.shot_ids, parent.request_id, ids)),
                    register_seen=analyzer.analyze(new.text).register,
                    generator=models.name,
                    prompt_id=STRATEGY,
                )
                ratios[child.id] = new.ratio
                children.append(replace(child, rejected=_register_changed(parent, child)))
    return Dataset.of(children), ratios


def _register_changed(parent: Example, child: Example) -> Rejection | None:
    before, after = (e.register_seen.name if e.register_seen else OTHER for e in (parent, child))
    if parent.register_seen is None or before == after:
        return None
    return Rejection(REFUSED, 1, 0, f"{before} before, {after} after")


def _replaced(
    dataset: Dataset, children: Dataset, ratios: Mapping[str, float], most: float
) -> Dataset:
    """All rows, the parents of kept children rejected."""
    taken = dict(zip(children.kept.column("parent_id"), children.kept.column("id"), strict=True))
    rejections = [row and Rejection(**row) for row in dataset.column("rejected")]
    for row, id_ in enumerate(dataset.column("id")):
        if id_ in taken:
            ratio = round(ratios[taken[id_]], 3)
            rejections[row] = Rejection(SYNTHESISED, ratio, most, f"in {taken[id_]}")
    return dataset.with_rejections(rejections)
