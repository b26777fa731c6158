"""Fine-tunes an encoder on gold and weighted synthetic text together."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from japagen.errors import JapagenError
from japagen.examples import Dataset
from japagen.settings import Training
from japagen.training.classifier import Classifier, Progress
from japagen.training.encoders import Encoder, load_encoder, supports_bf16
from japagen.training.heads import classification_model, last_linear, probe_head


def train(
    examples: Dataset | None,
    gold: Dataset | None,
    *,
    encoder: str | Encoder = "embedded",
    labels: Sequence[str] | None = None,
    settings: Training | None = None,
    seed: int = 0,
    progress: Progress = lambda steps, _: steps,
) -> Classifier:
    """Fine-tunes a classifier on gold and synthetic examples.

    The head starts as a regularised linear probe on the frozen encoder, then everything but
    the embeddings is tuned (linear probing then fine-tuning, Kumar et al. 2022): with a few
    texts a label a random head would first distort the features it is given.

    Args:
        examples: Synthetic examples with weights; rejected ones are left out. May be None.
        gold: Training gold. May be None.
        encoder: ``embedded``, a directory, a Hub name, or a loaded encoder. It is not changed.
        labels: Every label; those of the data, sorted, when None.
        settings: Hyperparameters; the encoder named there gives way to ``encoder``.
        seed: Of batches and dropout.
        progress: Wraps the steps (iterable, total) to show how far it is.

    Raises:
        JapagenError: If there is nothing to train on, or a label has no name in ``labels``.
    """
    settings = settings or Training()
    parts = [d for d in (gold, examples.kept if examples is not None else None) if d is not None]
    data = Dataset.concat(parts) if parts else None
    if data is None or not len(data):
        raise JapagenError(
            "Expected examples to train on, found none.",
            "Give gold, or synthetic examples that curation has kept.",
        )
    names = list(labels) if labels is not None else sorted(data.label_counts())
    targets = _targets(data, names)
    mass = _loss_mass(gold, examples, settings.share)

    torch.manual_seed(seed)
    trusted = settings.trust_remote_code
    loaded = (
        load_encoder(encoder, trust_remote_code=trusted) if isinstance(encoder, str) else encoder
    )
    classifier = Classifier(
        classification_model(loaded, len(names)),
        loaded.tokenizer,
        names,
        prefix=loaded.prefix,
        max_length=min(settings.max_length, loaded.max_length),
        encoder=loaded.identity,
    )
    rows = classifier.encode(data.texts, data.column("text_pair"))
    probe_head(classifier, rows, targets, mass)
    _fine_tune(classifier, rows, targets, mass, settings, seed, progress)
    return classifier


def _targets(data: Dataset, names: Sequence[str]) -> npt.NDArray[np.int64]:
    at = {name: i for i, name in enumerate(names)}
    unknown = sorted({str(label) for label in data.labels if label not in at})
    if unknown:
        raise JapagenError(
            f"Expected labels among {', '.join(names)}, found {', '.join(unknown)}.",
            "Correct the labels or name them in the task.",
        )
    return np.array([at[label] for label in data.labels], dtype=np.int64)


def _loss_mass(
    gold: Dataset | None, examples: Dataset | None, synthetic_share: float
) -> npt.NDArray[np.float64]:
    """Weight of every example in the loss, mean 1; synthetic ones carry their share of it."""
    gold_part = np.ones(len(gold)) if gold is not None else np.zeros(0)
    synthetic = examples.kept.weights if examples is not None else np.zeros(0)
    if len(gold_part) and len(synthetic):
        total = len(gold_part) + len(synthetic)
        gold_part = gold_part * ((1 - synthetic_share) * total / len(gold_part))
        synthetic = synthetic * (synthetic_share * total / max(synthetic.sum(), 1e-12))
    return np.concatenate([gold_part, synthetic])


def _batches(
    lengths: Sequence[int], batch_size: int, steps: int, rng: random.Random
) -> Iterator[list[int]]:
    """Yields ``steps`` batches of indices; texts of like length go together.

    Each pass shuffles, sorts within chunks of 16 batches, and shuffles the batches: padding is
    small and the order still random.
    """
    made = 0
    while made < steps:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        chunk = batch_size * 16
        batches = []
        for start in range(0, len(order), chunk):
            near = sorted(order[start : start + chunk], key=lambda i: lengths[i])
            batches += [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
        rng.shuffle(batches)
        yield from batches[: steps - made]
        made += len(batches)


def step_count(examples: int, settings: Training) -> int:
    """Optimiser steps for a number of examples: enough passes, and never too few steps."""
    steps = max(settings.epochs * -(-examples // settings.batch_size), settings.min_steps)
    return min(steps, settings.max_steps or steps)


def _fine_tune(
    classifier: Classifier,
    rows: Sequence[dict[str, list[int]]],
    targets: npt.NDArray[np.int64],
    mass: npt.NDArray[np.float64],
    settings: Training,
    seed: int,
    progress: Progress,
) -> None:
    model = classifier.model
    steps = step_count(len(rows), settings)
    optimizer, scheduler = _optimizer(model, settings, steps)
    batches = _batches(
        [len(r["input_ids"]) for r in rows], settings.batch_size, steps, random.Random(seed)
    )
    bf16 = supports_bf16()
    model.train()
    for index in progress(batches, steps):
        inputs = classifier.collate([rows[i] for i in index])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(**inputs).logits
        losses = nn.functional.cross_entropy(
            logits.float(), torch.from_numpy(targets[index]), reduction="none"
        )
        loss = (losses * torch.from_numpy(mass[index]).float()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    model.eval()


def _optimizer(model: Any, settings: Training, steps: int) -> tuple[Any, Any]:
    """AdamW with a linear schedule; embeddings frozen, the head at its own rate.

    A handful of texts touches few of the embedding rows: tuning those moves them away from
    the rows of words not seen, and costs most of the optimiser's memory.
    """
    for parameter in model.get_input_embeddings().parameters():
        parameter.requires_grad_(False)
    head = {id(p) for p in last_linear(model).parameters()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) not in head], "lr": settings.learning_rate},
        {"params": [p for p in trainable if id(p) in head], "lr": settings.head_learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    warmup = max(1, steps // 10)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, (steps - step) / max(steps - warmup, 1)),
    )
    return optimizer, scheduler
