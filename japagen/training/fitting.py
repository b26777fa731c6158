"""Fine-tunes an encoder on gold and weighted synthetic text together."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from japagen.errors import JapagenError
from japagen.examples import Dataset
from japagen.tasks.kinds import LabelSpace
from japagen.tasks.settings import Training
from japagen.training.calibration import (
    FOLDS,
    TUNED_TEMPERATURE,
    TYPICAL_TEMPERATURE,
    ZERO_GOLD_TEMPERATURE,
    calibrate,
    out_of_fold_logits,
)
from japagen.training.classifier import Classifier, Progress
from japagen.training.descriptions import label_phrases
from japagen.training.encoders import Encoder, load_encoder
from japagen.training.fine_tuning import fine_tune
from japagen.training.heads import classification_model, head_features
from japagen.training.pair_model import PairModel
from japagen.training.probing import (
    DESCRIPTION_MASS,
    Features,
    Floats,
    Head,
    Ints,
    Labelled,
    fit_head,
    head_of,
    see,
    set_head,
)
from japagen.training.pseudo_labels import PseudoLabels

TUNED_FROM = 16
"""Real texts a label, on average, from which tuning the encoder beats its frozen vectors."""
_FAST_FROM = 50
_SLOW, _FAST = 2e-5, 5e-5  # Learning rates below and from so many texts of gold a label.
# Tuning for every fold is what costs; of much gold, what one fold says is enough.
_TUNED_FOLDS, _MANY_GOLDS = 3, 1000
PAIRS_TUNED_FROM = 300
"""The same for pairs. At 100 a label comparing still beat tuning by far, so this is cautious."""


def train(
    examples: Dataset | None,
    gold: Dataset | None,
    *,
    encoder: str | Encoder = "embedded",
    labels: Sequence[str] | None = None,
    descriptions: Mapping[str, str] | None = None,
    settings: Training | None = None,
    seed: int = 0,
    pseudo: PseudoLabels | None = None,
    progress: Progress = lambda steps, _: steps,
) -> Classifier:
    """Fits a classifier to gold, synthetic examples and what the labels mean.

    A regularised linear head is fitted to the frozen encoder. With less than 16 real texts a label
    that is all; with more, everything but the embeddings is tuned from there (linear
    probing then fine-tuning, Kumar et al. 2022). Then the probabilities are calibrated by
    cross-validation on gold.

    Of pairs the head sees how well the tokens of one text are matched by the other's (see
    `PairModel`); where the encoder is tuned, it reads both as one input. Descriptions of labels
    stay out of pairs.

    The labels of synthetic text are softened towards what gold and descriptions make of it, as
    in soft bootstrapping (Reed et al. 2015), with a teacher that has seen no synthetic text.

    Args:
        examples: Synthetic examples with weights; rejected ones are left out. May be None.
        gold: Training gold. May be None.
        encoder: ``embedded``, a directory, a Hub name, or a loaded encoder. It is not changed.
        labels: Every class or tag, or the anchors of a scale of numbers; those of the
            descriptions, or else of the data, sorted, when None. Which of them it is the data's
            labels say.
        descriptions: Label to what it covers, phrases with 、 between. A label whose description
            is empty is described by its name. None describes nothing.
        settings: Hyperparameters; the encoder named there gives way to ``encoder``.
        seed: Of batches and dropout.
        pseudo: Real texts that voters labelled; of classes alone. Each weighs what a text of gold
            does, and is learnt with the probabilities of all labels.
        progress: Wraps the steps (iterable, total) to show how far it is.

    Raises:
        JapagenError: If there is nothing to train on, or a label has no name in ``labels``.
    """
    settings = settings or Training()
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
    mass = _loss_mass(gold, examples, settings.share)
    golds, votes = (len(d) if d is not None else 0 for d in (gold, voted))
    if pseudo is not None:
        targets[len(mass) :] = pseudo.probabilities
        mass = np.concatenate([mass, np.full(votes, mass[0] if golds else 1.0)])
    torch.manual_seed(seed)
    is_pair = bool(len(texts)) and texts.is_pair
    tunes = tunes_encoder(settings, golds + votes, len(space.names), is_pair)
    classifier = untrained(encoder, space, settings, is_pair=is_pair, tunes=tunes)
    data = _labelled(classifier, texts, targets, mass, golds, descriptions)
    features, phrases = see(classifier, data)

    def fit(rows: Ints, part_golds: int) -> tuple[Labelled, Head]:
        part, seen = data.take(rows), (features[rows], phrases)
        # What voters said is soft already; their texts are last, in every fold.
        part = soften(part, seen, part_golds, settings.soft_labels, len(rows) - votes)
        return part, fit_head(part, *seen)

    def tune(untuned: Classifier, part: Labelled, head: Head) -> None:
        set_head(untuned, head)
        rate = _learning_rate(settings, golds, len(space.names))
        # Without its phrases among the texts the encoder forgets what the head knew of them.
        targets = np.concatenate([part.targets, part.phrase_targets])
        mass = np.concatenate([part.mass, part.phrase_mass])
        rows = [*part.rows, *part.phrases]
        fine_tune(untuned, rows, targets, mass / mass.mean(), settings, rate, seed, progress)

    def judge(rows: Ints, part_golds: int, others: Ints) -> Floats:
        part, head = fit(rows, part_golds)
        if not tunes:
            return head.logits(features[others])
        own = copy.copy(classifier)
        own.model = copy.deepcopy(classifier.model)
        tune(own, part, head)
        return head_of(own).logits(head_features(own, [data.rows[i] for i in others]))

    if golds:
        shots = texts.column("shot_ids")[golds:]
        ids = texts.column("id")[:golds]
        folds = (_TUNED_FOLDS, 1 if golds > _MANY_GOLDS else None) if tunes else (FOLDS, None)
        judged, logits = out_of_fold_logits(data, ids, shots, judge, seed, *folds)
    whole, head = fit(np.arange(len(texts)), golds)
    if tunes:
        tune(classifier, whole, head)
        head = head_of(classifier)
    if golds:
        typical = TUNED_TEMPERATURE if tunes else TYPICAL_TEMPERATURE
        head, classifier.out_of_fold = calibrate(head, logits, targets[judged], space, typical)
    elif space.kind == "classification" and not tunes:
        head = head.cooled(ZERO_GOLD_TEMPERATURE)
    set_head(classifier, head)
    return classifier


def _learning_rate(settings: Training, golds: int, labels: int) -> float:
    """Of the layers: little gold pulls an encoder off soon; without gold, there is much text."""
    slow = 0 < golds < _FAST_FROM * labels
    return settings.learning_rate or (_SLOW if slow else _FAST)


def tunes_encoder(settings: Training, texts: int, labels: int, is_pair: bool = False) -> bool:
    """Whether there is so much real text that tuning beats a head on frozen vectors."""
    if settings.tune == "auto":
        return texts >= (PAIRS_TUNED_FROM if is_pair else TUNED_FROM) * labels
    return settings.tune == "always"


def untrained(
    encoder: str | Encoder, space: LabelSpace, settings: Training, *, is_pair: bool, tunes: bool
) -> Classifier:
    """A classifier whose head has learnt nothing yet."""
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
    golds: int,
    descriptions: Mapping[str, str] | None,
) -> Labelled:
    """Encodes everything that a head is fitted to."""
    phrases: list[str] = []
    phrase_labels: list[int] = []
    if descriptions is not None and not classifier.is_pair:
        phrases, phrase_labels = label_phrases(classifier.labels, descriptions)
    # A text of gold weighs 1; without gold, synthetic text weighs half of the descriptions.
    unit = mass[0] if golds else mass.sum() / (len(classifier.labels) * DESCRIPTION_MASS / 2)
    return Labelled(
        rows=classifier.encode(texts.texts, texts.column("text_pair")) if len(texts) else [],
        targets=targets,
        mass=mass / unit if golds or phrases else mass,
        phrases=classifier.encode(phrases) if phrases else [],
        phrase_labels=np.array(phrase_labels, dtype=np.int64),
        space=classifier.space,
        apart=classifier.reads_apart,
    )


def soften(
    data: Labelled, seen: Features, golds: int, share: float, end: int | None = None
) -> Labelled:
    """Mixes the labels of synthetic text with what a teacher makes of it.

    The teacher is a head on the frozen encoder, fitted to gold and descriptions.

    Args:
        data: Gold first, then synthetic text.
        seen: Features of the texts and of the phrases.
        golds: How many texts are gold.
        share: How far the labels give way, 0 to 1.
        end: Where synthetic text ends, and texts begin whose labels stay; with the last one if
            None.
    """
    end = len(data.rows) if end is None else end
    if not share or golds == end or not (golds or len(data.phrases)):
        return data
    texts, phrases = seen
    teacher = fit_head(data.take(slice(golds)), texts[:golds], phrases, around=texts)
    if data.space.kind == "classification":
        teacher = teacher.cooled(TYPICAL_TEMPERATURE if golds else ZERO_GOLD_TEMPERATURE)
    found = teacher.outputs(texts[golds:end], data.space)
    targets = data.targets.copy()
    targets[golds:end] = (1 - share) * targets[golds:end] + share * found
    return replace(data, targets=targets)


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
