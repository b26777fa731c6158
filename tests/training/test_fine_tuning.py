from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from japagen.config.sections import Training
from japagen.data.dataset import Dataset, Example
from japagen.data.labels import Floats, LabelSpace
from japagen.errors import JapagenError
from japagen.training.classifier import Classifier
from japagen.training.encoder import Encoder, load_encoder
from japagen.training.head import DESCRIPTION_MASS, Rows, head_of, set_head
from japagen.training.trainer import _batches, fine_tune, row_losses, step_count, train
from tests.conftest import GOLD

HEAD = Training(max_length=64)


@pytest.fixture(scope="module")
def encoder(tiny_encoder: str) -> Encoder:
    return load_encoder(tiny_encoder)


def _gold() -> Dataset:
    return Dataset.of(
        Example(text, label, split="train") for label, texts in GOLD.items() for text in texts
    )


@given(st.lists(st.integers(1, 60), min_size=1, max_size=50), st.integers(1, 9), st.integers(1, 30))
def test_every_pass_sees_every_example_once(
    lengths: list[int], batch_size: int, steps: int
) -> None:
    batches = list(_batches(lengths, batch_size, steps, random.Random(0)))
    assert len(batches) == steps
    per_pass = -(-len(lengths) // batch_size)
    for start in range(0, steps - per_pass + 1, per_pass):
        seen = sorted(i for batch in batches[start : start + per_pass] for i in batch)
        if len(lengths) <= batch_size * 16:
            assert seen == list(range(len(lengths)))


def test_steps_have_bounds() -> None:
    settings = Training(epochs=2, batch_size=10, min_steps=5, max_steps=30)
    assert [step_count(n, settings) for n in (1, 100, 101, 1000)] == [5, 20, 22, 30]


def test_tuning_goes_on_from_the_head_leaves_embeddings_and_repeats(encoder: Encoder) -> None:
    made = []
    for rate in (1e-12, 1e-3, 1e-3):
        classifier = train(None, _gold(), encoder=encoder, settings=HEAD)
        before, words = head_of(classifier), classifier.model.get_input_embeddings().weight.clone()
        rows = classifier.encode(_gold().texts)
        targets = classifier.space.codes(_gold().labels)
        settings = Training(min_steps=3, max_steps=3, head_learning_rate=rate)
        fine_tune(classifier, rows, targets, np.ones(len(rows)), settings, rate, seed=3)
        assert torch.equal(classifier.model.get_input_embeddings().weight, words)
        made.append((before, head_of(classifier)))
    (before, still), (_, moved), (_, again) = made
    np.testing.assert_allclose(still.weight, before.weight, atol=1e-6)
    assert not np.allclose(moved.weight, before.weight, atol=1e-4)
    np.testing.assert_array_equal(moved.weight, again.weight)


def test_a_head_comes_out_as_it_was_put_in(encoder: Encoder) -> None:
    classifier = train(None, _gold(), encoder=encoder, settings=HEAD)
    head = head_of(classifier)
    set_head(classifier, head.scaled(2.0))
    np.testing.assert_allclose(head_of(classifier).weight * 2, head.weight)


def test_what_labels_mean_is_tuned_on_beside_gold(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def record(classifier: Classifier, rows: Rows, targets: Floats, mass: Floats, *_: Any) -> None:
        seen.append((classifier.tokenizer.batch_decode([r["input_ids"] for r in rows]), mass))
        assert len(rows) == len(targets) == len(mass)

    monkeypatch.setattr("japagen.training.trainer.fine_tune", record)
    described = {"配送": "荷物、届け先、遅れ", "返品": "交換"}
    gold = _gold().where(np.array([e.label in described for e in _gold()]))
    train(
        None,
        gold,
        encoder=encoder,
        descriptions=described,
        settings=Training(max_length=64, tune="always"),
    )
    texts, mass = seen[-1]
    assert len(texts) == len(gold) + 4
    weights = mass / mass[0]
    np.testing.assert_allclose(weights[: len(gold)], 1)
    # Each label's phrases weigh as much together, in texts of gold.
    np.testing.assert_allclose(
        weights[len(gold) :], [*[DESCRIPTION_MASS / 3] * 3, DESCRIPTION_MASS]
    )


TAGS = LabelSpace("multi_label", ("a", "b", "c"))
SCALE = LabelSpace("regression", ("0", "10"))
LABELS: dict[str, list[Any]] = {
    "classification": ["正", "負"],
    "multi_label": [["正"], ["正", "負"]],
    "regression": [1.0, 4.5],
}


def _data(kind: str) -> Dataset:
    labels = LABELS[kind]
    return Dataset.of(
        Example(f"荷物が{n}個届きました。", labels[n % 2], split="train") for n in range(12)
    )


@pytest.mark.parametrize("kind", list(LABELS))
def test_every_kind_is_saved_as_an_ordinary_checkpoint(
    kind: str, tiny_encoder: str, tmp_path: Path
) -> None:
    from transformers import pipeline

    short = Training(min_steps=3, max_steps=3, max_length=64)
    made = train(None, _data(kind), encoder=tiny_encoder, settings=short)
    made.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model")
    text = "荷物が届きました。"
    first = made.predict([text])[0]
    assert again.space == made.space
    assert again.predict([text])[0].label == pytest.approx(first.label)
    classify = pipeline("text-classification", model=str(tmp_path / "model"), top_k=None)
    found = {row["label"]: row["score"] for row in classify([text])[0]}
    if kind == "regression":
        assert isinstance(first.label, float)
        low, high = made.space.bounds
        assert min(max(found["score"], low), high) == pytest.approx(first.label, abs=1e-4)
    else:
        assert found == pytest.approx(first.probabilities, abs=1e-5)


def test_a_classifier_of_pairs_refuses_single_texts(tiny_encoder: str, tmp_path: Path) -> None:
    rows = [Example(f"荷物{n}", str(n % 2), f"届いた{n}", split="train") for n in range(8)]
    short = Training(min_steps=2, max_steps=2, max_length=64)
    made = train(None, Dataset.of(rows), encoder=tiny_encoder, settings=short)
    made.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model")
    assert len(again.predict(["荷物"], ["届いた"])) == 1
    with pytest.raises(JapagenError, match="Expected pairs of texts, found single texts"):
        again.predict(["荷物"])
    streamed = list(again.predict_stream(iter([("荷物", "届いた"), ("商品", "来た")]), 1))
    assert [pair for pair, _ in streamed] == [("荷物", "届いた"), ("商品", "来た")]


def test_losses_are_those_of_torch() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 3), torch.eye(3)[[0, 2, 1, 1, 0]]
    classes = LabelSpace("classification", ("a", "b", "c"))
    expected = torch.nn.functional.cross_entropy(logits, targets.argmax(1), reduction="none")
    torch.testing.assert_close(row_losses(classes, logits, targets), expected)
    mean = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(row_losses(TAGS, logits, targets).mean(), mean)
    numbers = torch.tensor([[0.0], [10.0]])
    off = row_losses(SCALE, numbers, torch.tensor([[10.0], [10.0]]))
    # The whole length of a scale is √12 of its standard deviations.
    torch.testing.assert_close(off, torch.tensor([12.0, 0.0]))
