"""Trains a classifier on gold and synthetic text: its head, and the encoder from there on."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from japagen.config.sections import TEXT_WEIGHT, Training
from japagen.data.dataset import Data, Dataset, as_dataset
from japagen.data.labels import Floats, Ints, LabelSpace, PseudoLabels
from japagen.errors import JapagenError
from japagen.training.calibration import (
    FOLDS,
    TUNED_TEMPERATURE,
    TYPICAL_TEMPERATURE,
    ZERO_GOLD_TEMPERATURE,
    calibrate,
    out_of_fold_logits,
    scope_of,
)
from japagen.training.classifier import Classifier, Progress
from japagen.training.encoder import Encoder, load_encoder, supports_bf16
from japagen.training.head import (
    Head,
    Labelled,
    PairModel,
    Rows,
    classification_model,
    fit_head,
    head_features,
    head_of,
    last_linear,
    set_head,
)


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


_FAST_FROM = 40
_SLOW, _FAST = 2e-5, 5e-5  # Learning rates below and from so many gold texts per label.
# Folds for calibration, and how many of them are held out in turn: tuning for every fold is what
# costs. Where synthetic text carries the training, and of much gold, one fold is enough.
_TUNED_FOLDS, _SYNTHETIC_FOLDS = 3, (2, 1)
_MANY_GOLDS = 1000
_MOST_UNLABELLED = 300


def train(
    examples: Data | None,
    gold: Data | None,
    *,
    encoder: str | Encoder = "embedded",
    labels: Sequence[str] | None = None,
    descriptions: Mapping[str, str] | None = None,
    settings: Training | None = None,
    seed: int = 0,
    pseudo: PseudoLabels | None = None,
    calibrated: bool = True,
    unlabelled: Data | None = None,
    progress: Progress | bool = True,
) -> Classifier:
    """Trains a classifier on gold, synthetic examples and the label descriptions.

    A regularised linear head is fitted to the frozen encoder. Where the texts count for fewer than
    16 gold texts per label that is all; otherwise everything but the embeddings is tuned from
    there (linear probing then fine-tuning, Kumar et al. 2022), gently where they count for fewer
    than 40. Then the probabilities are calibrated by cross-validation on gold.

    Of pairs the head sees how well the tokens of one text are matched by the other's (see
    `PairModel`); where the encoder is tuned, it reads both as one input. Descriptions of labels
    stay out of pairs.

    Args:
        examples: Synthetic examples with weights, a `Dataset`, DataFrame or list; rejected ones
            are left out. May be None.
        gold: Training gold. May be None.
        encoder: ``embedded``, a directory, a Hub name, or a loaded encoder. It is not changed.
        labels: Every class or tag, or the anchors of a scale of numbers; those of the
            descriptions, or else of the data, sorted, when None. Which of them it is the data's
            labels say.
        descriptions: Label to what it covers, phrases with 、 between. A label whose description
            is empty is described by its name. None describes nothing.
        settings: Hyperparameters; the encoder named there gives way to ``encoder``.
        seed: Of batches and dropout.
        pseudo: Real texts that labelers labelled; of classes alone. They are learnt with the
            probabilities of all labels.
        calibrated: Whether probabilities are calibrated, which trains on part of gold besides, and
            what is out of scope is found out. It changes no label.
        unlabelled: Texts of the target, to say with gold what is out of scope; a few hundred of
            them are read. May be None.
        progress: Whether to show how far it is, or what does: it wraps the steps (iterable,
            total).

    Raises:
        JapagenError: If there is nothing to train on, or a label has no name in ``labels``.
    """
    settings = settings or Training()
    examples = None if examples is None else as_dataset(examples)
    gold = None if gold is None else as_dataset(gold, split="train")
    unlabelled = None if unlabelled is None else as_dataset(unlabelled, split="unlabelled")
    show = progress if callable(progress) else _bar if progress else _no_bar
    kept = examples.kept if examples is not None else None
    voted = pseudo.texts if pseudo is not None else None
    parts = [d for d in (gold, kept, voted) if d is not None]
    texts = Dataset.concat(parts) if parts else Dataset.of([])
    if not len(texts) and not descriptions:
        raise JapagenError(
            "Expected examples to train on, found none.",
            "Give gold, synthetic examples that curation has kept, or descriptions of the labels.",
        )
    names = list(labels or descriptions or ()) or None
    space = LabelSpace.of(texts, names)
    targets = space.codes(texts.labels)
    golds, votes = (len(d) if d is not None else 0 for d in (gold, voted))
    mass = _sample_weights(golds, kept, settings.synthetic_share)
    if pseudo is not None:
        targets[len(mass) :] = pseudo.probabilities
        mass = np.concatenate([mass, np.full(votes, pseudo.text_weight)])
    torch.manual_seed(seed)
    is_pair = bool(len(texts)) and texts.is_pair
    tunes = settings.tunes(float(mass.sum()), len(space.names), is_pair)
    classifier = untrained(encoder, space, settings, is_pair=is_pair, tunes=tunes)
    data = _labelled(classifier, texts, targets, mass, descriptions)
    features, phrases = (head_features(classifier, rows) for rows in (data.rows, data.phrases))

    def fit(rows: Ints) -> tuple[Labelled, Head]:
        part = data.take(rows)
        return part, fit_head(part, features[rows], phrases)

    def tune(untuned: Classifier, part: Labelled, head: Head) -> None:
        set_head(untuned, head)
        rate = _learning_rate(settings, float(mass.sum()), len(space.names))
        # Without the phrases among the texts, fine-tuning forgets what the head learnt from them.
        every = np.concatenate([part.targets, part.phrase_targets])
        weights = np.concatenate([part.mass, part.phrase_mass])
        rows = [*part.rows, *part.phrases]
        fine_tune(untuned, rows, every, weights / weights.mean(), settings, rate, seed, show)

    def judge(rows: Ints, others: Ints) -> Floats:
        part, head = fit(rows)
        if not tunes:
            return head.logits(features[others])
        own = copy.copy(classifier)
        own.model = copy.deepcopy(classifier.model)
        tune(own, part, head)
        return head_of(own).logits(head_features(own, [data.rows[i] for i in others]))

    calibrates = calibrated and golds > 0
    ids, shots = texts.column("id")[:golds], texts.column("shot_ids")[golds:]
    if calibrates:
        folds, held_out = _folds(golds, mass, tunes=tunes)
        judged, logits = out_of_fold_logits(data, ids, shots, judge, seed, folds, held_out)
    whole, head = fit(np.arange(len(texts)))
    if tunes:
        tune(classifier, whole, head)
        head = head_of(classifier)
    if calibrates:
        typical = TUNED_TEMPERATURE if tunes else TYPICAL_TEMPERATURE
        head, classifier.out_of_fold = calibrate(head, logits, targets[judged], space, typical)
    elif space.kind == "classification" and not tunes:
        head = head.scaled(TYPICAL_TEMPERATURE if golds else ZERO_GOLD_TEMPERATURE)
    set_head(classifier, head)
    if calibrates and not is_pair:
        seen = head_features(classifier, data.rows) if tunes else features
        plain = unlabelled.texts[:_MOST_UNLABELLED] if unlabelled is not None else []
        others = head_features(classifier, classifier.encode(plain) if plain else [])
        classifier.scope = scope_of(seen, ids, shots, others, seed)
    return classifier


def _bar(steps: Iterable[Any], total: int) -> Iterable[Any]:
    from tqdm.auto import tqdm

    return cast(Iterable[Any], tqdm(steps, total=total, desc="train", leave=False))


def _no_bar(steps: Iterable[Any], _: int) -> Iterable[Any]:
    return steps


def _sample_weights(golds: int, kept: Dataset | None, share: float | Literal["auto"]) -> Floats:
    """Sample weights in gold texts: gold first, then the kept texts."""
    if kept is None or not len(kept):
        return np.ones(golds)
    each = TEXT_WEIGHT
    if golds and share != "auto":
        each = share / (1 - share) * golds / len(kept)
    return np.concatenate([np.ones(golds), kept.weights * each])


def _folds(golds: int, weights: Floats, *, tunes: bool) -> tuple[int, int | None]:
    """How many folds calibration splits gold into, and how many of them are held out."""
    if not tunes:
        return FOLDS, None
    if weights[golds:].sum() > golds:
        return _SYNTHETIC_FOLDS
    return _TUNED_FOLDS, 1 if golds > _MANY_GOLDS else None


def _learning_rate(settings: Training, texts: float, labels: int) -> float:
    """Learning rate of the layers: lower for little text, which overfits an encoder soon."""
    return settings.learning_rate or (_SLOW if texts < _FAST_FROM * labels else _FAST)


def untrained(
    encoder: str | Encoder, space: LabelSpace, settings: Training, *, is_pair: bool, tunes: bool
) -> Classifier:
    """A classifier with an untrained head."""
    trusted = settings.trust_remote_code
    loaded = (
        load_encoder(encoder, trust_remote_code=trusted) if isinstance(encoder, str) else encoder
    )
    return Classifier(
        PairModel.over(loaded, space.outputs)
        if is_pair and not tunes
        else classification_model(loaded, space.outputs),
        loaded.tokenizer,
        space.names,
        kind=space.kind,
        may_be_empty=space.may_be_empty,
        is_pair=is_pair,
        prefix=loaded.prefix,
        max_length=min(settings.max_length, loaded.max_length),
        encoder=loaded.identity,
    )


def _labelled(
    classifier: Classifier,
    texts: Dataset,
    targets: npt.NDArray[np.float64],
    mass: npt.NDArray[np.float64],
    descriptions: Mapping[str, str] | None,
) -> Labelled:
    """Encodes everything that a head is fitted to."""
    phrases: list[str] = []
    phrase_labels: list[int] = []
    if descriptions is not None and not classifier.is_pair:
        phrases, phrase_labels = label_phrases(classifier.labels, descriptions)
    return Labelled(
        rows=classifier.encode(texts.texts, texts.column("text_pair")) if len(texts) else [],
        targets=targets,
        mass=mass,
        phrases=classifier.encode(phrases) if phrases else [],
        phrase_labels=np.array(phrase_labels, dtype=np.int64),
        space=classifier.space,
        bi_encoder=classifier.is_bi_encoder,
    )


_LEAST = 1e-12


class FrozenTraining:
    """One encoder and the descriptions of the labels, for any number of heads.

    Args:
        encoder: ``embedded``, a directory, a Hub name, or a loaded encoder.
        descriptions: Label to what it covers, in the order of the targets.
        settings: How long a text may be.
        is_pair: Whether texts come in pairs.
    """

    def __init__(
        self,
        encoder: str | Encoder,
        descriptions: Mapping[str, str],
        settings: Training,
        is_pair: bool = False,
    ) -> None:
        self._features: dict[object, Floats] = {}
        self._space = LabelSpace("classification", tuple(descriptions))
        self._classifier = untrained(encoder, self._space, settings, is_pair=is_pair, tunes=False)
        self._phrases, self._phrase_labels = self.vectors([]), np.zeros(0, dtype=np.int64)
        if not is_pair:
            phrases, of_label = label_phrases(list(descriptions), descriptions)
            self._phrases = self.vectors(phrases)
            self._phrase_labels = np.array(of_label, dtype=np.int64)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label, in the order of the targets."""
        return self._space.names

    def features(self, data: Dataset) -> Floats:
        """What a head sees of a dataset's texts, read once, shape (rows, width)."""
        texts, pairs = data.texts, data.column("text_pair")
        key = tuple(texts), tuple(pairs)
        if key not in self._features:
            self._features[key] = self.vectors(texts, pairs)
        return self._features[key]

    def vectors(self, texts: Sequence[str], pairs: Sequence[str | None] | None = None) -> Floats:
        """The features of texts or pairs, shape (n, width)."""
        rows = self._classifier.encode(texts, pairs) if texts else []
        return head_features(self._classifier, rows)

    def probabilities(self, vectors: Floats, targets: Ints, mass: Floats, others: Floats) -> Floats:
        """Fits a head and classifies other texts, uncalibrated.

        Args:
            vectors: Of the texts, shape (n, width).
            targets: Their label indices, shape (n,).
            mass: Gold texts that each counts for, shape (n,).
            others: What to classify, shape (m, width).

        Returns:
            Shape (m, labels).
        """
        data = Labelled(
            rows=[{}] * len(vectors),
            targets=np.eye(len(self._space.names))[targets],
            mass=mass,
            phrases=[{}] * len(self._phrases),
            phrase_labels=self._phrase_labels,
            space=self._space,
            bi_encoder=self._classifier.is_bi_encoder,
        )
        return fit_head(data, vectors, self._phrases).outputs(others, self._space)

    def log_probabilities(self, vectors: Floats, targets: Ints, others: Floats) -> Floats:
        """The logarithms of `probabilities` of a head that is fitted to gold only."""
        mass = np.ones(len(vectors))
        found = self.probabilities(vectors, targets, mass, others)
        return np.asarray(np.log(np.maximum(found, _LEAST)), dtype=np.float64)


_BETWEEN_PHRASES = re.compile(r"[、。，,;；\n]+")


def label_phrases(
    labels: Sequence[str], descriptions: Mapping[str, str]
) -> tuple[list[str], list[int]]:
    """Splits each label's description into phrases; a label without one gives its name.

    A list of what a label covers is several short texts that belong to it. One vector of the
    whole list stands between them, and near none of the texts.

    Args:
        labels: Every label.
        descriptions: Label to what it covers, as ``請求額、明細、支払い方法``.

    Returns:
        The phrases, and the index of each one's label.
    """
    phrases, indices = [], []
    for index, label in enumerate(labels):
        parts = [p.strip() for p in _BETWEEN_PHRASES.split(descriptions.get(label, ""))]
        found = list(dict.fromkeys(p for p in parts if p)) or [label]
        phrases += found
        indices += [index] * len(found)
    return phrases, indices
