"""Fine-tunes an encoder, starting from the head that was fitted to its frozen vectors."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from japagen.config.sections import Training
from japagen.data.labels import LabelSpace
from japagen.training.classifier import Classifier, Progress
from japagen.training.encoder import supports_bf16
from japagen.training.head import Floats, Rows, last_linear


def _batches(
    lengths: Sequence[int], batch_size: int, steps: int, rng: random.Random
) -> Iterator[list[int]]:
    """Yields ``steps`` batches of indices; texts of similar length share a batch.

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
    """Number of optimiser steps for a number of examples: the passes, but at least the minimum."""
    steps = max(settings.epochs * -(-examples // settings.batch_size), settings.min_steps)
    return min(steps, settings.max_steps or steps)


def fine_tune(
    classifier: Classifier,
    rows: Rows,
    targets: Floats,
    mass: Floats,
    settings: Training,
    learning_rate: float,
    seed: int,
    progress: Progress = lambda steps, _: steps,
) -> None:
    """Fine-tunes everything but the embeddings, in place.

    Args:
        classifier: With a head that fits its encoder.
        rows: Encoded texts.
        targets: Of each, as `LabelSpace.codes` or something between, shape (n, outputs).
        mass: Weight of each in the loss, shape (n,).
        settings: Steps, batches and the head's rate.
        learning_rate: Of the encoder's layers.
        seed: Of batches and dropout.
        progress: Wraps the steps (iterable, total) to show how far it is.
    """
    torch.manual_seed(seed)
    model = classifier.model
    steps = step_count(len(rows), settings)
    optimizer, scheduler = _optimizer(model, settings, learning_rate, steps)
    batches = _batches(
        [len(r["input_ids"]) for r in rows], settings.batch_size, steps, random.Random(seed)
    )
    bf16 = supports_bf16()
    model.train()
    for index in progress(batches, steps):
        inputs = classifier.collate([rows[i] for i in index])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(**inputs).logits
        wanted = torch.from_numpy(targets[index]).float()
        losses = row_losses(classifier.space, logits.float(), wanted)
        loss = (losses * torch.from_numpy(mass[index]).float()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    model.eval()


def _optimizer(model: Any, settings: Training, learning_rate: float, steps: int) -> tuple[Any, Any]:
    """AdamW with a linear schedule; embeddings frozen, the head at its own rate.

    A handful of texts touches few of the embedding rows: tuning those moves them away from
    the rows of words not seen, and costs most of the optimiser's memory.
    """
    for parameter in model.get_input_embeddings().parameters():
        parameter.requires_grad_(False)
    head = {id(p) for p in last_linear(model).parameters()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) not in head], "lr": learning_rate},
        {"params": [p for p in trainable if id(p) in head], "lr": settings.head_learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    warmup = max(1, steps // 10)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, (steps - step) / max(steps - warmup, 1)),
    )
    return optimizer, scheduler


def row_losses(space: LabelSpace, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Loss of every row, shape (n,).

    Cross-entropy for classes, the mean binary cross-entropy for tags, and for numbers the
    squared error in units of the scale's spread, so that learning rates mean the same for 0 to
    1 and for 0 to 100.

    Args:
        space: The labels.
        logits: Shape (n, outputs), float32.
        targets: `LabelSpace.codes`, or soft ones of the same shape.
    """
    if space.kind == "classification":
        return nn.functional.cross_entropy(logits, targets, reduction="none")
    if space.kind == "multi_label":
        losses = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return losses.mean(dim=1)
    return ((logits - targets) / space.spread).square().mean(dim=1)
