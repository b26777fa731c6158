"""Puts synthesised texts in the place of a run's: the strategy ``gradient_matching``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from japagen.config.generation import STRATEGY
from japagen.config.task import Task
from japagen.data.dataset import SYNTHESISED, Dataset, Example, Rejection
from japagen.data.labels import label_indices
from japagen.gradmm.target import Ints, deal_texts, extended_shots, gold_targets
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.japanese.registers import OTHER
from japagen.listener import Listener
from japagen.pipeline.cache import Step, only
from japagen.pipeline.context import RunContext, TextEncoder, Vectors
from japagen.pipeline.steps.curate import TextFilter

if TYPE_CHECKING:
    from japagen.llm.backends.huggingface import Checkpoint

REFUSED = "synthesis_refused"
_SYNTHESISE = Step("synthesise", 2, ("synthesised.parquet",))
_PIECE = 32  # texts in memory at a time


@dataclass(frozen=True)
class Synthesised:
    """What became of the texts.

    Attributes:
        dataset: The same rows, those in whose place another stands rejected, with the synthesised
            texts behind them.
        found: What was done, JSON-ready; None under another strategy.
    """

    dataset: Dataset
    found: dict[str, Any] | None = None


def replace_texts(
    run: RunContext, texts: Dataset, text_filter: TextFilter, verified: Collection[str] = ()
) -> Synthesised:
    """Rewrites kept texts where that brings their label's gradients nearer to gold's.

    Texts that people have verified stay as they are; under other strategies nothing changes.
    """
    from japagen.llm.backends.huggingface import generator_checkpoint

    task, training = run.task, run.task.training
    if task.generation.strategy != STRATEGY or run.gold is None:
        return Synthesised(texts)
    checkpoint = generator_checkpoint(task.generator)
    made = run.cache.step(
        _SYNTHESISE,
        _synthesised,
        uses={"listener": run.listener},
        texts=texts,
        gold=run.gold,
        task=only(
            task,
            "labels",
            "text_type",
            "gradient_matching",
            "seed",
            training=only(training, "encoder", "trust_remote_code", "max_length"),
        ),
        checkpoint=checkpoint,
        encoder=run.encoder,
        text_filter=text_filter,
        verified=set(verified),
    )
    children = made.take(range(len(texts), len(made)))
    number, rows = len(children.kept), len(_open_rows(texts, verified))
    run.listener.note(f"Gradient matching rewrote {number} of {rows} texts.")
    found = {
        "texts": rows,
        "synthesised": number,
        "refused": len(children) - number,
        "model": checkpoint.info.name,
        "terms": asdict(checkpoint.info.terms),
    }
    return Synthesised(made, found)


def _open_rows(texts: Dataset, verified: Collection[str]) -> Ints:
    return np.flatnonzero(texts.kept_mask & ~np.isin(texts.column("id"), list(verified)))


def _synthesised(
    texts: Dataset,
    gold: Dataset,
    task: Task,
    checkpoint: Checkpoint,
    encoder: TextEncoder,
    text_filter: TextFilter,
    verified: Collection[str],
    listener: Listener,
) -> Dataset:
    most = task.gradient_matching.perplexity
    rows = _open_rows(texts, verified)
    if not len(rows):
        return texts
    vectors = encoder.vectors(gold), encoder.vectors(texts)[rows]
    written, ratios = synthesised_texts(
        task, texts.take(rows), gold, vectors, encoder, checkpoint, text_filter.analyzer, listener
    )
    # The filters compare texts with everything but those that they would replace.
    tried = text_filter(_with_children(texts, written, ratios, most), len(texts))
    written = tried.take(range(len(texts), len(tried)))
    return _with_children(texts, written, ratios, most)


def synthesised_texts(
    task: Task,
    texts: Dataset,
    gold: Dataset,
    vectors: tuple[Vectors, Vectors],
    encoder: TextEncoder,
    checkpoint: Checkpoint,
    analyzer: RegisterAnalyzer,
    listener: Listener,
) -> tuple[Dataset, dict[str, float]]:
    """Makes new texts of others.

    Args:
        task: Labels, kind of text, perplexity's bound and seed.
        texts: What is rewritten, none of it rejected.
        gold: What is matched.
        vectors: Of gold and of the texts, shapes (m, d) and (n, d).
        encoder: Measures.
        checkpoint: The causal language model that reads.
        analyzer: Cuts texts into words and finds their registers.
        listener: Told of the progress.

    Returns:
        The new texts, their parents named, those of another register rejected; and by id how
        much each one's perplexity has grown.
    """
    from japagen.gradmm.synthesis import Group, Lexicon, Matcher, load_models, synthesise

    names = list(task.labels)
    children: list[Example] = []
    ratios: dict[str, float] = {}
    labels, true = label_indices(texts, names), label_indices(gold, names)
    known = (vectors[0], true, vectors[1], labels, len(names))
    targets = gold_targets(gold, *known, seed=task.seed)
    dealt = deal_texts(texts, labels, targets, task.seed)
    gold_texts = dict(zip(gold.column("id"), gold.texts, strict=True))
    matched, reader = load_models(encoder.loaded, checkpoint, task.text_type)
    matchers = [Matcher(matched, target, task.training.max_length) for target in targets]
    words = Lexicon(texts.texts, matchers[0], reader, analyzer.tagger)
    groups = [
        (piece, number, label)
        for label, number in np.ndindex(len(names), len(targets))
        for piece in _pieces(np.flatnonzero((dealt == number) & (labels == label)))
        if targets[number].ids[label]
    ]
    starts = range(0, len(groups), len(targets))
    for start in listener.track(starts, len(starts), "synthesise"):
        batch, tried = groups[start : start + len(targets)], []
        for piece, number, label in batch:
            # Words that only gold has would tell which gold a text has seen.
            lexicon = words.with_gold(gold_texts[id_] for id_ in targets[number].ids[label])
            tried.append(Group(texts.take(piece).texts, label, matchers[number], lexicon))
        made = synthesise(tried, reader, task.gradient_matching.perplexity)
        for (piece, number, label), found in zip(batch, made, strict=True):
            ids = targets[number].ids[label]
            for parent, text, ratio in zip(texts.take(piece), *found, strict=True):
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


def _pieces(rows: Ints) -> list[Ints]:
    return list(np.array_split(rows, -(-len(rows) // _PIECE))) if len(rows) else []


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
