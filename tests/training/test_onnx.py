"""Export to ONNX, of every encoder family's real class with random weights."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AlbertConfig, AlbertForSequenceClassification

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from japagen.config.sections import Training
from japagen.data.dataset import Dataset, Example
from japagen.errors import JapagenError, MissingExtraError
from japagen.training.classifier import CARD, ONNX_FILE, Classifier, OnnxClassifier
from japagen.training.onnx import (
    MARK,
    _FirstToken,
    agreement,
    balanced,
    export_onnx,
    round_weights,
)
from japagen.training.trainer import train
from tests.conftest import GOLD

TEXTS = [text for texts in GOLD.values() for text in texts]
SETTINGS = Training(max_length=64)


def _gold(**given: Any) -> Dataset:
    return Dataset.of(
        Example(t, given.get("label", label), t if given.get("pair") else None, split="train")
        for label, texts in GOLD.items()
        for t in texts
    )


@pytest.fixture(scope="module")
def classifier(tiny_encoder: str) -> Classifier:
    return train(None, _gold(), encoder=tiny_encoder, settings=SETTINGS)


@pytest.fixture(scope="module")
def int8(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "int8"
    export_onnx(classifier, path)
    return path


def test_float_export_is_the_same_classifier(classifier: Classifier, tmp_path: Path) -> None:
    exported = export_onnx(classifier, tmp_path / "o", int8=False)
    texts = [*TEXTS, "", "荷" * 200]
    for size in (1, 5, 32):
        np.testing.assert_allclose(
            exported.probabilities(texts, batch_size=size),
            classifier.probabilities(texts),
            atol=1e-5,
        )
    assert exported.labels == classifier.labels
    assert exported.out_of_fold == classifier.out_of_fold
    assert exported.confidence_for(0.5) == classifier.confidence_for(0.5)


def test_int8_multiplies_integers_and_agrees(classifier: Classifier, int8: Path) -> None:
    import onnx

    exported = Classifier.load(int8)
    assert isinstance(exported, OnnxClassifier)
    operators = [node.op_type for node in onnx.load(int8 / ONNX_FILE).graph.node]
    layers = classifier.model.config.num_hidden_layers
    # The last layer has query, key and value alone: the rest of it is done for the first token,
    # in float32. It computes the mean with the same query and key, of which one is left.
    assert operators.count("MatMulInteger") == 6 * (layers - 1) + 2
    # Query, key and value read one rounded input.
    assert operators.count("DynamicQuantizeLinear") == 4 * (layers - 1) + 1
    found = agreement(classifier, exported, TEXTS)
    assert found.texts == len(TEXTS)
    assert 0 < found.largest < 0.05
    assert found.share > 0.9


def test_disagreement_shows(classifier: Classifier, tiny_encoder: str) -> None:
    swapped = dict(zip(GOLD, reversed(GOLD.values()), strict=True))
    rows = [Example(t, label) for label, texts in swapped.items() for t in texts]
    other = train(None, Dataset.of(rows), encoder=tiny_encoder, settings=SETTINGS)
    found = agreement(classifier, other, TEXTS)
    assert found.share < 0.5
    assert not found.enough
    with pytest.raises(JapagenError, match="found none"):
        agreement(classifier, other, [])


def test_balancing_changes_nothing_before_rounding(classifier: Classifier) -> None:
    rows = classifier.collate(classifier.encode(TEXTS))
    model = balanced(classifier.model, rows)
    with torch.inference_mode():
        one, other = (m(**rows).logits for m in (classifier.model, model))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert model is not classifier.model


def test_first_token_alone_where_the_head_reads_no_other(classifier: Classifier) -> None:
    rows = classifier.collate(classifier.encode(TEXTS))
    model = balanced(classifier.model, rows)
    last = classifier.model.config.num_hidden_layers - 1
    alone = [name for name, m in model.named_modules() if isinstance(m, _FirstToken)]
    assert alone == [
        f"bert.encoder.layer.{last}.{part}"
        for part in ("attention.output.dense", "intermediate.dense", "output.dense")
    ]


def test_a_layer_that_is_run_several_times_answers_to_all_tokens() -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 64}
    config = AlbertConfig(**sizes, num_attention_heads=2, initializer_range=0.3)
    model = AlbertForSequenceClassification(config).eval()
    rows = {"input_ids": torch.randint(5, 60, (6, 12))}
    one, other = (m(**rows).logits for m in (model, balanced(model, rows)))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_rounding_keeps_the_mean_answer(classifier: Classifier) -> None:
    rows = classifier.collate(classifier.encode(TEXTS))
    exact = classifier.model(**rows).logits
    model = balanced(classifier.model, rows)
    nearest = copy.deepcopy(model)
    round_weights(model, rows)

    def products(of: Any) -> list[torch.Tensor]:
        return [m.weight for name, m in of.named_modules() if name.endswith(f".{MARK}")]

    for weight, rounded in zip(products(nearest), products(model), strict=True):
        step = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-6) / 127
        units = rounded / step
        torch.testing.assert_close(units, units.round(), atol=1e-3, rtol=0)
        weight.copy_((weight / step).round() * step)
    lost, most = ((m(**rows).logits - exact).mean(dim=0).abs().sum() for m in (model, nearest))
    assert lost < most / 2


@pytest.mark.parametrize("kind", ["multi_label", "regression", "pair"])
def test_other_kinds_of_labels_and_pairs(kind: str, tiny_encoder: str, tmp_path: Path) -> None:
    label = {"multi_label": ["配送", "返品"], "regression": 2.0}.get(kind)
    data = _gold(pair=kind == "pair", **({} if label is None else {"label": label}))
    names = ["0", "5"] if kind == "regression" else list(GOLD)
    settings = Training(max_length=64, tune="never")
    original = train(None, data, encoder=tiny_encoder, labels=names, settings=settings)
    exported = export_onnx(original, tmp_path / "o", int8=False)
    pairs = TEXTS[::-1] if kind == "pair" else None
    one, other = (c.predict(TEXTS, pairs) for c in (original, exported))
    assert [type(p.label) for p in one] == [type(p.label) for p in other]
    assert agreement(original, exported, TEXTS, pairs).share == 1
    if kind == "pair":
        assert exported.is_bi_encoder
        few = exported.probabilities([*TEXTS, ""], [*pairs, ""], batch_size=1)
        np.testing.assert_allclose(
            few, original.probabilities([*TEXTS, ""], [*pairs, ""]), atol=1e-5
        )
        with pytest.raises(JapagenError, match="Expected pairs of texts"):
            export_onnx(original, tmp_path / "i", texts=TEXTS)
        rounded = export_onnx(original, tmp_path / "i", texts=TEXTS, text_pairs=pairs)
        assert agreement(original, rounded, TEXTS, pairs).largest < 0.1


def test_prediction_needs_no_torch(int8: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from japagen import Classifier\n"
        f"print(Classifier.load({str(int8)!r}).predict(['荷物はどこ'], abstain_below=1.1)[0].label)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "None", done.stderr


def test_any_number_of_texts_in_a_bounded_buffer(int8: Path) -> None:
    exported = Classifier.load(int8)
    taken = 0

    def endless() -> Any:
        nonlocal taken
        for taken in count(1):
            yield TEXTS[taken % len(TEXTS)]

    for given, (text, prediction) in enumerate(
        islice(exported.predict_stream(endless(), batch_size=16), 500), start=1
    ):
        assert text == TEXTS[given % len(TEXTS)]
        assert prediction.label in GOLD
        assert taken - given < 16


def test_what_cannot_be_exported_or_opened(
    classifier: Classifier, int8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = Classifier.load(int8)
    with pytest.raises(JapagenError, match="found one in ONNX"):
        export_onnx(exported, tmp_path / "o")
    with pytest.raises(JapagenError, match="Copy its directory"):
        exported.save(tmp_path / "o")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(JapagenError, match="found other files"):
        export_onnx(classifier, tmp_path / "mine")
    (tmp_path / "bad").mkdir()
    for name in (CARD, "config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bad" / name).write_bytes((int8 / name).read_bytes())
    (tmp_path / "bad" / ONNX_FILE).write_bytes(b"no model")
    with pytest.raises(JapagenError, match="damaged"):
        Classifier.load(tmp_path / "bad")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for use in (lambda: Classifier.load(int8), lambda: export_onnx(classifier, tmp_path / "o")):
        with pytest.raises(MissingExtraError, match="onnxruntime") as caught:
            use()
        assert "japagen[onnx]" in caught.value.hint
    assert not (tmp_path / "o").exists()


def test_the_card_is_that_of_a_saved_classifier(
    classifier: Classifier, int8: Path, tmp_path: Path
) -> None:
    classifier.save(tmp_path / "saved")
    one, other = (json.loads((p / CARD).read_text("utf-8")) for p in (tmp_path / "saved", int8))
    assert one == other
