"""From a bare encoder to a classification model, and to what its head sees and is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from japagen.training.encoders import Encoder

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier

# The pooling layer's values are this much larger than its residual stream, so that layer
# normalisation leaves the mean and little else.
_MEAN_SCALE = 100.0
# tanh is nearly linear below 0.3; normalised states are a few units wide.
_POOLER_SCALE = 0.05

Floats = npt.NDArray[np.float64]


def classification_model(encoder: Encoder, labels: int) -> Any:
    """Returns a sequence classification model over a copy of the encoder's weights.

    A BERT that was trained with mean pooling gets one more layer that computes the mean, in
    ordinary BERT parameters: zero queries and keys attend to all tokens alike, values and
    output pass them through. The result is a plain ``BertForSequenceClassification`` that any
    ``transformers`` pipeline loads, yet its head sees the mean, not a first-token state that
    this encoder never learnt to use.
    """
    from transformers import AutoModelForSequenceClassification

    config = type(encoder.model.config).from_dict(encoder.model.config.to_dict())
    config.num_labels = labels
    mean = encoder.pooling == "mean" and config.model_type == "bert"
    if mean:
        config.num_hidden_layers += 1
    elif encoder.pooling == "mean" and hasattr(config, "classifier_pooling"):
        config.classifier_pooling = "mean"
    model = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    base = getattr(model, model.base_model_prefix)
    base.load_state_dict(encoder.model.state_dict(), strict=False)
    if mean:
        _make_mean_pooling(base.encoder.layer[-1], base.pooler)
    return model


@torch.no_grad()
def _make_mean_pooling(layer: Any, pooler: Any) -> None:
    attention = layer.attention.self
    width = attention.query.in_features
    for part in (attention.query, attention.key, layer.intermediate.dense, layer.output.dense):
        nn.init.zeros_(part.weight)
    for part in (
        attention.query,
        attention.key,
        attention.value,
        layer.attention.output.dense,
        layer.intermediate.dense,
        layer.output.dense,
        pooler.dense,
    ):
        nn.init.zeros_(part.bias)
    attention.value.weight.copy_(torch.eye(width))
    layer.attention.output.dense.weight.copy_(_MEAN_SCALE * torch.eye(width))
    pooler.dense.weight.copy_(_POOLER_SCALE * torch.eye(width))


def last_linear(model: Any) -> nn.Linear:
    """The linear layer that gives the logits."""
    outputs = model.config.num_labels
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == outputs]
    return layers[-1]


def head_features(
    classifier: Classifier, rows: Sequence[dict[str, list[int]]], batch_size: int = 32
) -> Floats:
    """What the last linear layer sees for each encoded row, shape (n, width)."""
    if not len(rows):
        return np.zeros((0, last_linear(classifier.model).in_features))
    seen: list[torch.Tensor] = []
    hook = last_linear(classifier.model).register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0].detach())
    )
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    try:
        classifier.model.eval()
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                index = order[start : start + batch_size]
                classifier.model(**classifier.collate([rows[i] for i in index]))
    finally:
        hook.remove()
    features = torch.cat(seen).double().numpy()
    out = np.empty_like(features)
    out[order] = features
    return out
