from __future__ import annotations

import numpy as np
import pytest

from japagen.examples import Dataset, Example
from japagen.tasks.settings import Training
from japagen.training.encoders import Encoder, load_encoder
from japagen.training.fitting import train, tunes_encoder
from japagen.training.probing import Floats, head_of
from japagen.training.pseudo_labels import PseudoLabels
from tests.conftest import GOLD

DESCRIPTIONS = {"配送": "荷物、届け先", "返品": "返品、交換"}
LABELS = list(DESCRIPTIONS)


@pytest.fixture(scope="module")
def encoder(tiny_encoder: str) -> Encoder:
    return load_encoder(tiny_encoder)


def rows(split: str, start: int, end: int) -> Dataset:
    return Dataset.of(
        Example(text, label, split=split)  # type: ignore[arg-type]
        for label in LABELS
        for text in GOLD[label][start:end]
    )


def direction(gold: Dataset, encoder: Encoder, pseudo: PseudoLabels | None = None) -> Floats:
    """Weight and bias of the head, apart from the temperature that calibration gave it."""
    settings = Training(tune="never")
    made = train(
        None, gold, encoder=encoder, descriptions=DESCRIPTIONS, settings=settings, pseudo=pseudo
    )
    head = head_of(made)
    both = np.concatenate([head.weight.ravel(), head.bias])
    return np.asarray(both / np.linalg.norm(both))


def one_hot(texts: Dataset) -> Floats:
    return np.eye(2)[[LABELS.index(str(label)) for label in texts.labels]]


def test_what_voters_are_sure_of_counts_as_gold_does(encoder: Encoder) -> None:
    gold, more = rows("train", 0, 3), rows("unlabelled", 3, 6)
    alone = direction(gold, encoder)
    voted = direction(gold, encoder, PseudoLabels(more, one_hot(more)))
    np.testing.assert_allclose(voted, direction(Dataset.concat([gold, more]), encoder), atol=1e-5)
    assert not np.allclose(voted, alone, atol=1e-3)


def test_probabilities_are_learnt_and_not_the_likeliest_label(encoder: Encoder) -> None:
    gold, more = rows("train", 0, 3), rows("unlabelled", 3, 6)
    sure = direction(gold, encoder, PseudoLabels(more, one_hot(more)))
    unsure = direction(gold, encoder, PseudoLabels(more, 0.2 * one_hot(more) + 0.4))
    assert not np.allclose(sure, unsure, atol=1e-3)


def test_a_text_counts_for_as_many_gold_texts_as_it_says(encoder: Encoder) -> None:
    gold, more = rows("train", 0, 3), rows("unlabelled", 3, 6)
    twice = PseudoLabels(more, one_hot(more), text_weight=2.0)
    repeated = Dataset.concat([gold, more, more])
    np.testing.assert_allclose(
        direction(gold, encoder, twice), direction(repeated, encoder), atol=1e-5
    )
    none = PseudoLabels(more, one_hot(more), text_weight=1e-6)
    np.testing.assert_allclose(direction(gold, encoder, none), direction(gold, encoder), atol=1e-3)


def test_real_texts_that_were_voted_on_count_towards_tuning() -> None:
    assert not tunes_encoder(Training(), 31, 2)
    assert tunes_encoder(Training(), 32, 2)
