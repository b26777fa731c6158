"""Each encoder family, in its real class with random weights, from a tuning step to ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
    pipeline,
)

from japagen.config.sections import Training
from japagen.data.dataset import Dataset, Example
from japagen.training.classifier import Classifier
from japagen.training.encoder import load_encoder
from japagen.training.onnx import agreement, export_onnx
from japagen.training.trainer import train
from tests.conftest import GOLD
from tests.training.test_encoder import SMALL, save_bert

TEXTS = [text for texts in GOLD.values() for text in texts]


def _bert_with_mecab(directory: Path, _tokenizer: Any) -> None:
    save_bert(directory)


def _distilbert_with_sentencepiece(directory: Path, _tokenizer: Any) -> None:
    """As LINE's: a unigram vocabulary over raw text, ▁ for spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = Tokenizer(models.Unigram())
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=160, special_tokens=special, unk_token="[UNK]", show_progress=False
    )
    pieces.train_from_iterator(TEXTS, trainer)
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=pieces, **{f"{k}_token": v for k, v in names.items()}
    )
    fast.save_pretrained(directory)
    config = DistilBertConfig(vocab_size=len(fast), dim=32, n_layers=2, n_heads=2, hidden_dim=64)
    DistilBertModel(config).save_pretrained(directory)


def _modernbert(directory: Path, tokenizer: Any) -> None:
    tokenizer.save_pretrained(directory)
    ids = {f"{k}_token_id": 0 for k in ("pad", "bos", "eos", "cls", "sep")}
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        intermediate_size=64,
        max_position_embeddings=128,
        local_attention=8,
        global_attn_every_n_layers=2,
        **SMALL,
        **ids,
    )
    ModernBertModel(config).save_pretrained(directory)


def _deberta(directory: Path, tokenizer: Any) -> None:
    tokenizer.save_pretrained(directory)
    config = DebertaV2Config(
        vocab_size=len(tokenizer),
        intermediate_size=64,
        max_position_embeddings=128,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=16,
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
        type_vocab_size=0,
        **SMALL,
    )
    DebertaV2Model(config).save_pretrained(directory)


FAMILIES = [_bert_with_mecab, _distilbert_with_sentencepiece, _modernbert, _deberta]


@pytest.mark.parametrize("save", FAMILIES, ids=lambda f: f.__name__.strip("_"))
def test_from_a_tuning_step_to_onnx(
    save: Callable[[Path, Any], None], tiny_encoder: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    save(tmp_path / "encoder", AutoTokenizer.from_pretrained(tiny_encoder))
    encoder = load_encoder(str(tmp_path / "encoder"))
    settings = Training(tune="always", min_steps=1, max_steps=1, max_length=64)
    gold = Dataset.of(Example(t, label) for label, texts in GOLD.items() for t in texts)
    classifier = train(None, gold, encoder=encoder, settings=settings)

    classifier.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model")
    expected = classifier.probabilities(TEXTS)
    np.testing.assert_allclose(again.probabilities(TEXTS), expected, atol=1e-5)

    found = pipeline("text-classification", model=str(tmp_path / "model"))(TEXTS[0])[0]
    prediction = classifier.predict(TEXTS[:1])[0]
    assert found["label"] == prediction.label
    assert found["score"] == pytest.approx(prediction.confidence, abs=1e-5)

    pytest.importorskip("onnx")
    exported = export_onnx(again, tmp_path / "float", int8=False)
    assert agreement(again, exported, TEXTS).largest < 1e-4
    assert agreement(again, export_onnx(again, tmp_path / "int8"), TEXTS).largest < 0.05


@pytest.mark.parametrize(
    ("name", "prefix"), [("multilingual-e5-tiny", "query: "), ("ruri-tiny", "クエリ: ")]
)
def test_the_prefix_of_a_family_goes_before_every_text(
    name: str, prefix: str, tmp_path: Path
) -> None:
    encoder = load_encoder(str(save_bert(tmp_path / name)))
    assert encoder.prefix == prefix
    gold = Dataset.of(Example(t, label) for label, texts in GOLD.items() for t in texts)
    classifier = train(None, gold, encoder=encoder, settings=Training(max_length=64))
    ids = classifier.encode(["荷物"])[0]["input_ids"]
    assert ids == encoder.tokenizer(prefix + "荷物")["input_ids"]
    classifier.save(tmp_path / "model")
    assert Classifier.load(tmp_path / "model").prefix == prefix
