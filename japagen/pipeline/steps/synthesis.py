"""Puts synthesised texts in the place of a run's: the strategy ``gradient_matching``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from japagen.config.sections import STRATEGY
from japagen.config.task import Task
from japagen.data.dataset import SYNTHESISED, Dataset, Example, Rejection
from japagen.data.labels import label_indices
from japagen.gradmm.target import Ints, deal_texts, extended_shots, gold_targets
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.japanese.registers import OTHER
from japagen.pipeline.cache import StageRunner, fingerprint_of
from japagen.pipeline.steps.align import Vectors
from japagen.training.encoder import text_vectors

if TYPE_CHECKING:
    from japagen.llm.backends.huggingface import Checkpoint

REFUSED = "synthesis_refused"
_PIECE = 32  # texts in memory at a time


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
) -> tuple[Dataset, Vectors, dict[str, Any] | None]:
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
    from japagen.llm.backends.huggingface import generator_checkpoint
    from japagen.training.encoder import encoder_identity

    if task.generation.strategy != STRATEGY or gold is None:
        return dataset, vectors, None
    checkpoint, training = generator_checkpoint(task.generator), task.training
    most = task.gradient_matching.perplexity
    fingerprint = {
        "examples": dataset.fingerprint,
        "gold": fingerprint_of(gold),
        "perplexity": most,
        "model": checkpoint.info.identity,
        "encoder": encoder_identity(training.encoder),
        "max_length": training.max_length,
        "text_type": task.text_type,
        "labels": list(task.labels),
        "curation": task.curation.model_dump(mode="json"),
        "vouched": sorted(vouched),
        "seed": task.seed,
        **inputs,
    }
    rows = np.flatnonzero(dataset.kept_mask & ~np.isin(dataset.column("id"), list(vouched)))

    def make() -> Dataset:
        written, ratios = _written(task, dataset, rows, gold, vectors, checkpoint, analyzer, stages)
        # The filters compare texts with everything but those that they would replace.
        tried = filtered(_with_children(dataset, written, ratios, most))
        written = tried.take(range(len(dataset), len(tried)))
        return _with_children(dataset, written, ratios, most)

    made = stages.dataset("synthesise", "synthesised.parquet", fingerprint, make)
    children = made.take(range(len(dataset), len(made)))
    trusted = training.trust_remote_code
    (own,) = text_vectors([children], training.encoder, trust_remote_code=trusted)
    number = len(children.kept)
    stages.listener.note(f"Gradient matching wrote {number} of {len(rows)} texts anew.")
    summary = {
        "texts": len(rows),
        "synthesised": number,
        "refused": len(children) - number,
        "model": checkpoint.info.name,
        "terms": asdict(checkpoint.info.terms),
    }
    return made, [vectors[0], np.concatenate([vectors[1], own]), *vectors[2:]], summary


def _written(
    task: Task,
    dataset: Dataset,
    rows: Ints,
    gold: Dataset,
    vectors: Vectors,
    checkpoint: Checkpoint,
    analyzer: RegisterAnalyzer,
    stages: StageRunner,
) -> tuple[Dataset, dict[str, float]]:
    """New texts made of some rows, and by id how much each one's perplexity has grown."""
    from japagen.gradmm.models import Matcher, load_models
    from japagen.gradmm.synthesis import Lexicon, synthesise

    texts, names = dataset.take(rows), list(task.labels)
    children: list[Example] = []
    ratios: dict[str, float] = {}
    if not len(rows):
        return Dataset.of([]), ratios
    labels, true = label_indices(texts, names), label_indices(gold, names)
    known = (vectors[0], true, vectors[1][rows], labels, len(names))
    targets = gold_targets(gold, *known, seed=task.seed)
    dealt = deal_texts(texts, labels, targets, task.seed)
    gold_texts = dict(zip(gold.column("id"), gold.texts, strict=True))
    encoder, reader = load_models(task, checkpoint)
    groups = list(np.ndindex(len(targets), len(names)))
    for number, label in stages.listener.track(groups, len(groups), "synthesise"):
        ids = targets[number].ids[label]
        mine = np.flatnonzero((dealt == number) & (labels == label))
        if not ids or not len(mine):
            continue
        matcher = Matcher(encoder, targets[number], task.training.max_length)
        # Words that only gold has would tell which gold a text has seen.
        seen = [gold_texts[id_] for id_ in ids]
        lexicon = Lexicon([*texts.texts, *seen], seen, matcher, reader, analyzer.tagger)
        for piece in np.array_split(mine, -(-len(mine) // _PIECE)):
            parents = list(texts.take(piece))
            old, most = [parent.text for parent in parents], task.gradient_matching.perplexity
            made = synthesise(old, label, matcher, reader, lexicon, most)
            for parent, text, ratio in zip(parents, *made, strict=True):
                if text == parent.text:
                    continue
                child = replace(
                    parent,
                    text=text,
                    id=f"{parent.id}-s",
                    derived=SYNTHESISED,
                    parent_id=parent.id,
                    shot_ids=tuple(extended_shots(parent.shot_ids, parent.request_id, ids)),
                    register_seen=analyzer.analyze(text).register,
                    generator=checkpoint.info.name,
                    prompt_id=STRATEGY,
                )
                ratios[child.id] = float(ratio)
                children.append(replace(child, rejected=_register_changed(parent, child)))
    return Dataset.of(children), ratios


def _register_changed(parent: Example, child: Example) -> Rejection | None:
    before, after = (e.register_seen.name if e.register_seen else OTHER for e in (parent, child))
    same = parent.register_seen is None or before == after
    return None if same else Rejection(REFUSED, 1, 0, f"{before} before, {after} after")


def _with_children(
    dataset: Dataset, children: Dataset, ratios: Mapping[str, float], most: float
) -> Dataset:
    """All rows, the parents of kept children rejected, and the children behind them."""
    taken, rejections = {child.parent_id: child.id for child in children.kept}, dataset.rejections
    for row, id_ in enumerate(dataset.column("id")):
        if id_ in taken:
            ratio = round(ratios[taken[id_]], 3)
            rejections[row] = Rejection(SYNTHESISED, ratio, most, f"in {taken[id_]}")
    return Dataset.concat([dataset.with_rejections(rejections), children])
