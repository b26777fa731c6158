from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModel,
    DebertaV2Config,
    DistilBertConfig,
    ModernBertConfig,
    RobertaConfig,
    pipeline,
)

from japagen.config.sections import PAIRS_TUNED_FROM, Training
from japagen.data.dataset import Dataset, Example
from japagen.errors import DamagedError
from japagen.training.classifier import Classifier
from japagen.training.encoder import load_encoder
from japagen.training.head import HEAD_FILE, PairModel, head_features
from japagen.training.trainer import train
from tests.conftest import GOLD

TEXTS = [text for texts in GOLD.values() for text in texts]
texts = st.sampled_from([*TEXTS, "", "件"])


def _pairs(labels: tuple[object, object] = ("同じ", "違う")) -> Dataset:
    """Texts beside themselves, less their last word, and beside others."""
    same = [Example(t, labels[0], t[:-1], split="train") for t in TEXTS]  # type: ignore[arg-type]
    others = zip(TEXTS, TEXTS[5:] + TEXTS[:5], strict=True)
    return Dataset.of(
        [*same, *(Example(a, labels[1], b, split="train") for a, b in others)]  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def classifier(tiny_encoder: str) -> Classifier:
    return train(None, _pairs(), encoder=tiny_encoder)


def _compared(
    classifier: Classifier, pairs: list[tuple[str, str]]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    rows = classifier.encode([a for a, _ in pairs], [b for _, b in pairs])
    return head_features(classifier, rows)


def _by_hand(classifier: Classifier, first: str, second: str) -> list[float]:
    model = classifier.model
    sides = []
    for text in (first, second):
        inputs = classifier.tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            seen = model.encoder(**inputs, output_hidden_states=True)
        sides.append([s[0].numpy() for s in seen.hidden_states])
    one, other = sides
    means = [side[-1].mean(axis=0) for side in sides]
    ratio = np.log(len(other[0]) / len(one[0]))
    found = [float(np.dot(*means) / np.prod([np.linalg.norm(m) for m in means])), ratio, abs(ratio)]
    for layer in model.layers:
        a, b = (s[layer] / np.linalg.norm(s[layer], axis=1, keepdims=True) for s in sides)
        for best in ((a @ b.T).max(axis=1), (a @ b.T).max(axis=0)):
            found += [best.mean(), best.min(), np.sort(best)[:3].mean()]
    return found


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=6))
@settings(max_examples=20)
def test_pairs_are_compared_as_they_would_be_one_at_a_time(
    classifier: Classifier, pairs: list[tuple[str, str]]
) -> None:
    expected = [_by_hand(classifier, *pair) for pair in pairs]
    np.testing.assert_allclose(_compared(classifier, pairs), expected, atol=1e-5)


def test_a_text_is_fully_matched_by_itself(classifier: Classifier) -> None:
    cosine, ratio, distance, *matched = _compared(classifier, [(TEXTS[0], TEXTS[0])])[0]
    assert (ratio, distance) == (0, 0)
    np.testing.assert_allclose([cosine, *matched], 1, atol=1e-5)


def test_what_stands_in_both_texts_is_learnt_from_a_few_pairs(classifier: Classifier) -> None:
    assert isinstance(classifier.model, PairModel)
    found = classifier.predict(
        ["届いた荷物の返品。", "届いた荷物の返品。"], ["届いた荷物の返品", "件サイズ変更。"]
    )
    assert [p.label for p in found] == ["同じ", "違う"]
    assert len(classifier.out_of_fold) == 2 * len(TEXTS)
    assert np.mean([right for _, right in classifier.out_of_fold]) > 0.9


def test_numbers_of_pairs_lie_on_their_scale(tiny_encoder: str) -> None:
    made = train(None, _pairs((5.0, 0.5)), encoder=tiny_encoder, labels=["0", "5"])
    alike, unlike = made.predict(["荷物が届いた", "荷物が届いた"], ["荷物が届いた", "返品"])
    assert isinstance(alike.label, float)
    assert isinstance(unlike.label, float)
    assert 0 <= unlike.label < 2.5 < alike.label <= 5


def test_a_saved_comparison_predicts_the_same_over_an_ordinary_encoder(
    classifier: Classifier, tiny_encoder: str, tmp_path: Path
) -> None:
    classifier.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model")
    np.testing.assert_allclose(
        again.probabilities(TEXTS, TEXTS[::-1]),
        classifier.probabilities(TEXTS, TEXTS[::-1]),
        atol=1e-6,
    )
    again.save(tmp_path / "again")
    assert (tmp_path / "again" / HEAD_FILE).read_bytes() == (
        tmp_path / "model" / HEAD_FILE
    ).read_bytes()
    states = AutoModel.from_pretrained(tmp_path / "model").state_dict()
    for name, value in load_encoder(tiny_encoder).model.state_dict().items():
        assert torch.equal(states[name], value)
    (tmp_path / "model" / HEAD_FILE).write_bytes(b"no weights")
    with pytest.raises(DamagedError):
        Classifier.load(tmp_path / "model")


def test_where_the_encoder_is_tuned_it_reads_both_texts_at_once(
    tiny_encoder: str, tmp_path: Path
) -> None:
    short = Training(tune="always", min_steps=2, max_steps=2, max_length=64)
    made = train(None, _pairs(), encoder=tiny_encoder, settings=short)
    assert not made.is_bi_encoder
    made.save(tmp_path / "model")
    classify = pipeline("text-classification", model=str(tmp_path / "model"))
    found = classify({"text": TEXTS[0], "text_pair": TEXTS[1]})
    assert found["label"] == made.predict(TEXTS[:1], TEXTS[1:2])[0].label
    assert not Training().tunes(PAIRS_TUNED_FROM * 2 - 1, 2, is_pair=True)
    assert Training().tunes(PAIRS_TUNED_FROM * 2, 2, is_pair=True)


SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 50}

IDS = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}


@pytest.mark.parametrize(
    "config",
    [
        DistilBertConfig(vocab_size=50, dim=32, n_layers=3, n_heads=2, hidden_dim=64),
        ModernBertConfig(intermediate_size=64, **SMALL, **IDS),
        RobertaConfig(intermediate_size=64, **SMALL),
        DebertaV2Config(intermediate_size=64, **SMALL),
    ],
    ids=lambda config: config.model_type,
)
def test_every_family_of_encoders_compares(config: Any) -> None:
    torch.manual_seed(0)
    encoder = AutoModel.from_config(config).eval()
    model = PairModel(encoder, "mean", 2)
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 8], [5, 6, 7, 8], [9, 10, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]])
    with torch.inference_mode():
        seen = model.compare(input_ids=ids, attention_mask=mask)
    assert seen.shape == (2, model.classifier.in_features)
    np.testing.assert_allclose(seen[0, [0, *range(3, seen.shape[1])]], 1, atol=1e-4)
    assert seen.isfinite().all()
    assert seen.abs().max() <= 1 + 1e-4
    assert seen[1, 3:].min() < 0.99
