"""Exports classifiers to ONNX, with weights in int8.

The exported directory holds ``model.onnx``, the tokenizer and the same small ``japagen.json`` as a
saved classifier, so that labels, calibrated probabilities, abstention and pairs come from the very
code that serves the torch model: only `OnnxClassifier._logits` differs.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from japagen.data.files import atomic_directory
from japagen.errors import JapagenError
from japagen.training.classifier import ONNX_FILE, Classifier, OnnxClassifier, import_onnx_package

LEAST_AGREEMENT = 0.99
"""Below this share of texts with the same label an export is not to be trusted unseen."""
# Of ONNX's operators: old enough for any onnxruntime in use, new enough for every encoder.
_OPSET = 17
# What the exporter traces a forward pass of; by whether texts come in pairs.
_EXAMPLE: tuple[tuple[list[str], ...], ...] = (
    (["荷物はいつ届きますか。", "返品"],),
    (["荷物はいつ届きますか。", "返品"], ["配送", "返品したいです。"]),
)
_SHOWN, _FEW, _WORDS = 48, 4, 24
# Numbers agree if they differ by less than this share of their scale.
_SAME_NUMBER = 0.01
_Rows = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Agreement:
    """Agreement of an exported classifier with the torch one.

    Attributes:
        texts: How many were compared.
        share: With the same label, the same tags, or a number within 1% of the scale.
        largest: Largest difference of a probability, or of a number.
    """

    texts: int
    share: float
    largest: float

    @property
    def enough(self) -> bool:
        """Whether it is as good as the torch classifier for all that was seen."""
        return self.share >= LEAST_AGREEMENT

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        return {**asdict(self), "enough": self.enough}


def export_onnx(
    classifier: Classifier,
    path: str | Path,
    *,
    int8: bool = True,
    texts: Sequence[str] = (),
    text_pairs: Sequence[str | None] | None = None,
) -> OnnxClassifier:
    """Writes a classifier as ONNX and opens what it wrote.

    The directory appears whole or not at all and replaces an earlier one.

    Args:
        classifier: A torch classifier.
        path: Directory for ``model.onnx``, the tokenizer and ``japagen.json``.
        int8: Multiply in 8-bit integers: weights are rounded once, activations as they come.
        texts: Of the kind that it will read. 8 bits are laid out for 48 of them, without any for
            words drawn at random, which is less exact for a tuned encoder.
        text_pairs: The second texts, where it reads pairs.

    Raises:
        MissingExtraError: If the extra ``onnx`` is not installed.
        JapagenError: If the classifier is an exported one already.
    """
    if isinstance(classifier, OnnxClassifier):
        raise JapagenError(
            "Expected a torch classifier to export, found one in ONNX.",
            "Give the run or the saved classifier that it was made from.",
        )
    for package in ("onnx", "onnxruntime"):
        import_onnx_package(package, "Export to ONNX")
    path = Path(path)
    if path.is_dir() and any(path.iterdir()) and not (path / ONNX_FILE).is_file():
        raise JapagenError(
            f"Expected a new directory or an earlier export, found other files in {path}.",
            "Give another directory with -o.",
        )
    with atomic_directory(path) as directory:
        classifier.save_all_but_weights(directory)
        if int8:
            rows = _shown(classifier, texts, text_pairs)
            model = balanced(classifier.model, rows)
            round_weights(model, rows)
            with tempfile.TemporaryDirectory() as scratch:
                plain = Path(scratch) / ONNX_FILE
                _trace(classifier, model, plain)
                _quantize(plain, directory / ONNX_FILE)
        else:
            _trace(classifier, copy.deepcopy(classifier.model), directory / ONNX_FILE)
    exported = Classifier.load(path)
    assert isinstance(exported, OnnxClassifier)
    return exported


def agreement(
    classifier: Classifier,
    exported: Classifier,
    texts: Sequence[str],
    text_pairs: Sequence[str | None] | None = None,
) -> Agreement:
    """Compares two forms of one classifier on texts.

    Args:
        classifier: The one that counts as right.
        exported: The other one.
        texts: At least one.
        text_pairs: The second texts, where it reads pairs.

    Raises:
        JapagenError: If there is no text, or pairs are wanted and not given.
    """
    if not len(texts):
        raise JapagenError("Expected texts to compare on, found none.", "Give a file of texts.")
    classifier.check_pairs(texts, text_pairs)
    one, other = (c.probabilities(texts, text_pairs) for c in (classifier, exported))
    space = classifier.space
    if space.kind == "regression":
        low, high = space.bounds
        same = (np.abs(one - other) < _SAME_NUMBER * (high - low)).all(axis=1)
    else:
        labels = (space.labels(space.decide(found)) for found in (one, other))
        same = np.array([a == b for a, b in zip(*labels, strict=True)])
    return Agreement(len(texts), float(same.mean()), float(np.abs(one - other).max()))


def _trace(classifier: Classifier, model: Any, path: Path) -> None:
    """Writes a torch model as ONNX, for any number of texts of any length.

    The exporter that traces needs no further package, and knows every encoder family.
    """

    class InOrder(nn.Module):
        """The exporter gives inputs by place; a model takes them by name."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> Any:
            return self.model(**dict(zip(rows, inputs, strict=True))).logits

    for part in model.modules():
        if hasattr(part, "set_attn_implementation"):
            # torch's own attention is exported with a check of every probability.
            part.set_attn_implementation("eager")
            break
    rows = classifier.collate(classifier.encode(*_EXAMPLE[classifier.is_pair]))
    axes = {name: {0: "texts", 1: "tokens"} for name in rows} | {
        "logits": {0: "pairs" if classifier.is_bi_encoder else "texts"}
    }
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            InOrder().eval(),
            tuple(rows.values()),
            str(path),
            input_names=list(rows),
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )


def _shown(
    classifier: Classifier, texts: Sequence[str], text_pairs: Sequence[str | None] | None
) -> dict[str, torch.Tensor]:
    """Some of the texts, or words drawn at random where there are none, as a model reads them."""
    rng = np.random.default_rng(0)
    if len(texts):
        classifier.check_pairs(texts, text_pairs)
        chosen = rng.permutation(len(texts))[:_SHOWN]
        texts = [texts[i] for i in chosen]
        text_pairs = None if text_pairs is None else [text_pairs[i] for i in chosen]
    else:
        tokenizer = classifier.tokenizer
        drawn = rng.integers(0, len(tokenizer), (_SHOWN, _WORDS)).tolist()
        texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in drawn]
        text_pairs = texts[::-1] if classifier.is_pair else None
    return classifier.collate(classifier.encode(texts, text_pairs))


def _quantize(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = importlib.import_module("onnx").load(source, load_external_data=False).graph
    products = [n.name for n in graph.node if n.op_type == "MatMul" and f"/{MARK}/" in n.name]
    # It logs advice about preprocessing, which changes nothing here.
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(
            source,
            target,
            nodes_to_quantize=products,
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)


# Prepares an encoder for dynamic quantisation, so that 8 bits are enough for it.
#
# onnxruntime rounds the input of a matrix product with one scale for a whole batch. A few channels
# and a few tokens of every BERT are some hundred times larger than the rest (Bondarenko et al.
# 2021), and leave the rest two or three bits. So each linear layer's input is divided by
#
# - a number a channel, sqrt(max |x_j| / max |w_j|), that its weights take over (SmoothQuant, Xiao
#   et al. 2023, with a = 0.5), and,
# - where tokens differ much, its own maximum a token, that its output takes back.
#
# Both are exact before rounding. Rounded weights answer the mean input with an error, the same for
# every text; the bias takes it back (Nagel et al. 2019).

MARK = "balanced"
"""In the name of every matrix product that should be quantised."""
_TINY = 1e-6
_LARGEST_WEIGHT = 127
_ALIKE = 4.0
"""Tokens whose largest maximum is less than this many medians share a scale well enough."""


class _Balanced(nn.Module):
    """A linear layer that reads its input in units that 8 bits can hold."""

    def __init__(self, linear: nn.Linear, shrink: nn.Parameter) -> None:
        super().__init__()
        self.shrink = shrink
        product = nn.Linear(linear.in_features, linear.out_features, bias=False)
        product.weight = nn.Parameter(linear.weight / shrink, requires_grad=False)
        bias = linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
        self.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.add_module(MARK, product)
        self.by_token = True

    def look(self, inputs: tuple[torch.Tensor, ...]) -> None:
        """Learns from some inputs whether tokens need scales of their own."""
        largest = (inputs[0] * self.shrink).flatten(0, -2).abs().amax(dim=1)
        self.by_token = bool(largest.max() > _ALIKE * largest.median())

    def round(self, inputs: tuple[torch.Tensor, ...]) -> None:
        """Rounds the weights to 8 bits, so that the mean answer to some inputs stays."""
        weight = self.get_parameter(f"{MARK}.weight")
        # As onnxruntime does, which then finds nothing left to round.
        step = weight.abs().amax(dim=1, keepdim=True).clamp(min=_TINY) / _LARGEST_WEIGHT
        rounded = (weight / step).round() * step
        mean = (inputs[0] * self.shrink).flatten(0, -2).mean(dim=0)
        self.bias.add_((weight - rounded) @ mean)
        weight.copy_(rounded)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        inputs = inputs * self.shrink
        product = self.get_submodule(MARK)
        if not self.by_token:
            return torch.as_tensor(product(inputs) + self.bias)
        largest = inputs.abs().amax(dim=-1, keepdim=True) + _TINY
        return torch.as_tensor(product(inputs / largest) * largest + self.bias)


class _FirstToken(nn.Module):
    """A linear layer that answers to the first token alone, in float32, where no other is read.

    The model adds the answer to the states of all tokens, which does no harm.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.linear(inputs[:, :1]))


@torch.enable_grad()
def _read_at_first(model: Any, layers: Mapping[str, nn.Linear], rows: _Rows) -> set[str]:
    """The layers whose answers to later tokens change nothing in the logits.

    So it is behind the last attention of an encoder whose head reads the first token.
    """
    # A model may run one layer several times, as ALBERT does.
    answers: list[tuple[str, torch.Tensor]] = []

    def keep(name: str) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        return lambda _module, _inputs, output: answers.append((name, output))

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    model.requires_grad_(True)
    # Squared, as the sum of the logits can be the same whatever the text is.
    total = model(**rows).logits.square().sum()
    for hook in hooks:
        hook.remove()
    slopes = torch.autograd.grad(total, [answer for _, answer in answers], allow_unused=True)
    model.requires_grad_(False)
    if not any(slope is not None and slope.any() for slope in slopes):
        return set()  # a head that answers alike to every text shows nothing
    read = {
        name
        for (name, _), slope in zip(answers, slopes, strict=True)
        if slope is None or slope.dim() != 3 or slope.shape[1] < 2 or slope[:, 1:].any()
    }
    return {name for name, _ in answers} - read


@torch.no_grad()
def balanced(model: Any, rows: _Rows) -> Any:
    """Returns a copy of a model that computes the same, with its layers' inputs balanced.

    Args:
        model: Of ``transformers``; heads are left as they are.
        rows: Some texts, which show how large its activations are.
    """
    model = copy.deepcopy(model).eval()
    layers = {
        name: module
        for name, module in model.named_modules()
        # Layers stand in lists and have numbers; what is outside them is pooler and head.
        if isinstance(module, nn.Linear) and any(part.isdigit() for part in name.split("."))
    }
    # Gradients keep what every layer computes: of a few texts that is little.
    alone = _read_at_first(model, layers, {name: part[:_FEW] for name, part in rows.items()})
    largest: dict[str, torch.Tensor] = {}
    # The first of the layers that read a tensor one after another, as query, key and value do.
    first: dict[str, str] = {}
    read: torch.Tensor | None = None
    leader = ""

    def watch(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            nonlocal read, leader
            if inputs[0] is not read:
                read, leader = inputs[0], name
            first[name] = leader
            found = inputs[0].abs().flatten(0, -2).amax(dim=0)
            largest[name] = torch.maximum(largest.get(name, found), found)

        return hook

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    model(**rows)
    for hook in hooks:
        hook.remove()
    for leader in set(first.values()):
        names = [name for name in first if first[name] == leader]
        if alone.issuperset(names):
            for name in names:
                model.set_submodule(name, _FirstToken(layers[name]))
            continue
        weights = torch.cat([layers[name].weight for name in names])
        per_input = weights.abs().amax(dim=0).clamp(min=_TINY)
        shrink = (per_input / largest[leader].clamp(min=_TINY)).sqrt()
        shared = nn.Parameter(shrink, requires_grad=False)
        for name in names:
            model.set_submodule(name, _Balanced(layers[name], shared))
    _before_layers(model, rows, _Balanced.look)
    return model


def _before_layers(
    model: Any,
    rows: _Rows,
    act: Callable[[_Balanced, tuple[torch.Tensor, ...]], None],
) -> None:
    """Runs a balanced model on some texts, and gives every layer its input before it answers."""
    layers = [layer for layer in model.modules() if isinstance(layer, _Balanced)]
    hooks = [layer.register_forward_pre_hook(act) for layer in layers]
    model(**rows)
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def round_weights(model: Any, rows: _Rows) -> None:
    """Rounds the weights of a balanced model to 8 bits, one layer after another.

    Args:
        model: What `balanced` returned; it is changed.
        rows: Some texts, whose answers should stay the same on average.
    """
    _before_layers(model, rows, _Balanced.round)
