from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from japagen.errors import JapagenError
from japagen.examples import Dataset, Example
from japagen.tasks.kinds import LabelSpace
from japagen.tasks.settings import Training
from japagen.training.classifier import Classifier
from japagen.training.fitting import train
from japagen.training.objectives import row_losses

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
