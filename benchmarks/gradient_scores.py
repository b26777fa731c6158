"""What benchmarks/gradient_matching.py says of the texts of an arm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gradient_arms import Draw, Made
from label_fidelity import distinct2
from scipy.special import log_softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score

from japagen.curation.label_check import label_indices
from japagen.curation.memorization import find_memories, summarize_memories
from japagen.examples import Dataset, Example
from japagen.gradients.target import Floats, Ints, gradient_target
from japagen.gradients.words import WholeWords
from japagen.japanese.morphology import default_tagger
from japagen.tasks.kinds import LabelSpace
from japagen.training.probing import Head, Labelled, fit_head

_SHARE = 0.4


def score(found: Draw, made: Made, test: Dataset) -> dict[str, float]:
    """The figures that need no language model."""
    vectors, true = found.models.vectors(made.texts), label_indices(test, found.labels)
    unseen, used = found.models.vectors(test.texts), made.weights > 0
    own, weights = made.labels[used], made.weights[used]
    alone = head_of(found.labels, vectors[used], own, weights)
    golds = np.full(len(found.true), (1 - _SHARE) / _SHARE * weights.sum() / len(found.true))
    both = head_of(
        found.labels,
        np.concatenate([found.gold, vectors[used]]),
        np.concatenate([found.true, own]),
        np.concatenate([golds, weights]),
    )
    held = found.models.vectors(found.texts.held.texts)
    held_true = label_indices(found.texts.held, found.labels)
    beyond = gradient_target(held, held_true, found.vectors, len(found.labels))
    words = WholeWords(default_tagger(), found.texts.gold.texts)
    known = set(found.pool.texts)
    return {
        "alone": macro_f1(true, alone.logits(unseen).argmax(axis=1)),
        "gold": macro_f1(true, both.logits(unseen).argmax(axis=1)),
        "ngram": _ngram_f1(made, test.texts, true),
        "cos_gold": float(np.nanmean(found.target.cosines(vectors, made.labels))),
        "cos_held": float(np.nanmean(beyond.cosines(vectors, made.labels))),
        "unknown": words.unknown_share(made.texts),
        "distinct2": distinct2(made.texts, len(made.texts)),
        "new": float(np.mean([text not in known for text in made.texts])),
        **_membership(found, vectors, alone, held, held_true),
        **_copies(found, made),
    }


def head_of(labels: Sequence[str], vectors: Floats, own: Ints, mass: Floats) -> Head:
    """The linear head that `japagen.training` fits, without descriptions of the labels."""
    space = LabelSpace("classification", tuple(labels))
    targets, none = np.eye(len(labels))[own], np.zeros(0, dtype=np.int64)
    rows = Labelled([{}] * len(vectors), targets, mass / mass[0], [], none, space)
    return fit_head(rows, vectors, np.zeros((0, vectors.shape[1])))


def macro_f1(true: Ints, said: Ints) -> float:
    """Macro-F1, 0 to 1."""
    return float(f1_score(true, said, average="macro"))


def _ngram_f1(made: Made, others: Sequence[str], true: Ints) -> float:
    counts = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
    seen = counts.fit_transform(made.texts)
    model = LogisticRegression(C=10.0, max_iter=500)
    model.fit(seen, made.labels, sample_weight=made.weights)
    return macro_f1(true, model.predict(counts.transform(others)))


def _membership(
    found: Draw, vectors: Floats, alone: Head, held: Floats, held_true: Ints
) -> dict[str, float]:
    """Area under the curve of two guesses at which real texts were gold; 0.5 knows nothing.

    By the loss of a classifier trained on the texts alone (Yeom et al. 2018, arXiv 1709.01604),
    and by the likeness to the nearest of the texts. Mean over labels.
    """
    real = np.concatenate([found.gold, held])
    true = np.concatenate([found.true, held_true])
    member = np.arange(len(real)) < len(found.gold)
    sure = log_softmax(alone.logits(real), axis=1)[np.arange(len(real)), true]
    near = (real @ vectors.T).max(axis=1)

    def area(guess: Floats) -> float:
        # Within a label: gold has as many texts of each, and what is held back has not.
        mine = [true == label for label in np.unique(true)]
        return float(np.mean([roc_auc_score(member[own], guess[own]) for own in mine]))

    return {"member_loss": area(sure), "member_near": area(near)}


def _copies(found: Draw, made: Made) -> dict[str, float]:
    """What the report says of copies of gold."""
    texts = Dataset.of([Example(text) for text in made.texts])
    memories = find_memories(texts, found.texts.gold)
    summary = summarize_memories(texts, memories, found.texts.gold) or {}
    return {
        key: float(summary[key])
        for key in ("mean_overlap", "max_overlap", "median_copied", "longest_copied", "long_copies")
    }
