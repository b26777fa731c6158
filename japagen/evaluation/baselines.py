"""Baselines: classifiers of a few lines to compare a run's classifier with.

They use nothing of japagen's: no descriptions, weights, frozen parts or calibration. They are
fitted to labelled texts and return probabilities for others.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from japagen.data.dataset import Dataset
from japagen.data.labels import Floats, LabelSpace

if TYPE_CHECKING:
    import torch

    from japagen.training.classifier import Progress
    from japagen.training.encoder import Encoder

BATCH = 16
"""Texts of a batch that the encoder is fine-tuned on."""
_LEARNING_RATE, _HEAD_LEARNING_RATE = 5e-5, 1e-3
_PASSES, _LEAST_STEPS = 3, 60
_LIKE = 8  # Tokens within which lengths are alike, so that batches differ from pass to pass.


def fit_tfidf(train: Dataset, test: Dataset, space: LabelSpace) -> Floats:
    """Fits logistic regression to TF-IDF of character 2- to 4-grams, with scikit-learn's defaults.

    N-grams run across word boundaries, which Japanese does not mark, and counts are sublinear.
    The two texts of a pair are one document with a line break between them.

    Args:
        train: Labelled texts; their weights are not read.
        test: Texts to classify.
        space: The labels: classes or tags.

    Returns:
        Probabilities of every class or tag, shape (len(test), labels).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(2, 4), sublinear_tf=True)
    seen = vectorizer.fit_transform(train.joined_texts)
    unseen = vectorizer.transform(test.joined_texts)
    targets = space.codes(train.labels)
    if space.kind == "classification":
        return _regress(seen, targets.argmax(axis=1), unseen, len(space.names))
    tags = [_regress(seen, column.astype(int), unseen, 2)[:, 1] for column in targets.T]
    return np.stack(tags, axis=1)


def _regress(seen: Any, targets: npt.NDArray[Any], unseen: Any, classes: int) -> Floats:
    """Probabilities of ``classes`` classes; those without an example have none."""
    from sklearn.linear_model import LogisticRegression

    found = np.zeros((unseen.shape[0], classes))
    present = np.unique(targets)
    if len(present) == 1:
        found[:, present] = 1.0
        return found
    model = LogisticRegression(max_iter=1000).fit(seen, targets)
    found[:, model.classes_] = model.predict_proba(unseen)
    return found


def fit_plain(
    train: Dataset,
    test: Dataset,
    space: LabelSpace,
    encoder: Encoder,
    *,
    seed: int = 0,
    max_length: int = 128,
    max_steps: int | None = None,
    progress: Progress = lambda steps, _: steps,
) -> Floats:
    """Fine-tunes an encoder with a fresh linear layer on its pooled states, the textbook way.

    AdamW over everything at 5e-5, and at 1e-3 for the fresh layer, which learns too little in so
    few steps otherwise; 16 texts per batch, those of like length together; all texts weigh alike.
    Three passes, but at least 60 steps, with the rates declining to nothing. A pair is read as
    one input.

    Args:
        train: Labelled texts; their weights are not read.
        test: Texts to classify.
        space: The labels: classes or tags.
        encoder: It is copied, not changed.
        seed: Of the linear layer, the batches and dropout.
        max_length: Tokens that are read of an input.
        max_steps: At most so many steps; None for no bound.
        progress: Wraps the steps (iterable, total) to show how far it is.

    Returns:
        Probabilities of every class or tag, shape (len(test), labels).
    """
    import torch

    from japagen.training.encoder import by_length, pool, supports_bf16
    from japagen.training.trainer import row_losses

    torch.manual_seed(seed)
    model = copy.deepcopy(encoder.model)
    head = torch.nn.Linear(model.config.hidden_size, space.outputs)
    steps = max(_PASSES * -(-len(train) // BATCH), _LEAST_STEPS)
    steps = min(steps, max_steps or steps)
    groups = [
        {"params": list(model.parameters()), "lr": _LEARNING_RATE},
        {"params": list(head.parameters()), "lr": _HEAD_LEARNING_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    bf16 = supports_bf16()

    def logits(rows: Sequence[dict[str, list[int]]]) -> torch.Tensor:
        inputs = encoder.tokenizer.pad(list(rows), return_tensors="pt")
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            states = model(**inputs).last_hidden_state
        return head(pool(states.float(), inputs["attention_mask"], encoder.pooling))  # type: ignore[no-any-return]

    rows = _encoded(train, encoder, max_length)
    targets = torch.from_numpy(space.codes(train.labels)).float()
    model.train()
    lengths = [len(row["input_ids"]) for row in rows]
    for index in progress(_batches(lengths, steps, random.Random(seed)), steps):
        loss = row_losses(space, logits([rows[i] for i in index]), targets[index]).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    model.train(False)
    found = np.zeros((len(test), space.outputs))
    unseen = _encoded(test, encoder, max_length)
    with torch.inference_mode():
        for index in by_length([len(row["input_ids"]) for row in unseen], 2 * BATCH):
            found[index] = logits([unseen[i] for i in index]).double().numpy()
    return space.from_logits(found)


def _encoded(data: Dataset, encoder: Encoder, max_length: int) -> list[dict[str, list[int]]]:
    firsts = [encoder.prefix + text for text in data.texts]
    seconds = [encoder.prefix + pair for pair in data.column("text_pair")] if data.is_pair else None
    most = min(max_length, encoder.max_length)
    rows = encoder.tokenizer(firsts, seconds, truncation=True, max_length=most)
    return [{key: rows[key][i] for key in rows} for i in range(len(firsts))]


def _batches(lengths: Sequence[int], steps: int, rng: random.Random) -> Iterator[list[int]]:
    """Batches of similar lengths in random order: half the padding, and so half the time.

    The trainer draws its own otherwise; published figures of this baseline were drawn so.
    """
    made = 0
    while made < steps:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        order.sort(key=lambda i: lengths[i] // _LIKE)
        batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        rng.shuffle(batches)
        yield from batches[: steps - made]
        made += len(batches)
