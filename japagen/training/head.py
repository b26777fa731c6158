"""Linear heads on the features of an encoder, and those features: of a text, or of two compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from japagen.data.labels import Floats, Ints, LabelSpace
from japagen.training.encoder import Encoder, by_length, pool

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier


Rows = Sequence[dict[str, list[int]]]

DESCRIPTION_MASS = 8.0
"""How many gold texts a label's description counts for."""
_NO_MASS = 1e-9
# The logit of a label with neither text nor description.
_NEVER = -20.0
# scikit-learn's C of a tag. From 1 to 30 made little difference.
_TAG_STRENGTH = 10.0
# scikit-learn's alpha for numbers in units of their spread. What it shrinks too much, calibration
# stretches again.
_RIDGE = 3.0
# How much longer the first feature of a pair, the cosine of both texts, is than the others
# together, for numbers: most numbers that pairs are given say how much alike they are.
_COSINE = 3.0
_LEAST_SPREAD = 1e-3
_BATCH = 32


@dataclass(frozen=True)
class Labelled:
    """Encoded texts with soft labels, and the phrases of the label descriptions.

    Attributes:
        rows: Encoded texts, n of them; may be none.
        targets: `LabelSpace.codes` of each text's label or something between, shape (n, outputs).
        mass: Weight of each text, shape (n,); about 1 for a text of gold.
        phrases: Encoded phrases, m of them; may be none.
        phrase_labels: Label index of each phrase, shape (m,).
        space: The labels.
        bi_encoder: Whether features are those of `PairModel`, each with a meaning of its own.
    """

    rows: Rows
    targets: Floats
    mass: Floats
    phrases: Rows
    phrase_labels: Ints
    space: LabelSpace
    bi_encoder: bool = False

    @property
    def phrase_targets(self) -> Floats:
        """Targets of the phrases, as if they were texts, shape (m, outputs)."""
        if self.space.kind == "regression":
            return np.asarray(self.space.anchors[self.phrase_labels][:, None])
        return np.asarray(np.eye(len(self.space.names))[self.phrase_labels])

    @property
    def phrase_mass(self) -> Floats:
        """Weight of each phrase, shape (m,): those of a label together weigh the same."""
        counts = np.bincount(self.phrase_labels, minlength=len(self.space.names))
        return np.asarray(DESCRIPTION_MASS / counts[self.phrase_labels])

    def take(self, index: slice | Ints) -> Labelled:
        """Returns the same phrases with some of the texts."""
        rows = [self.rows[i] for i in np.arange(len(self.rows))[index]]
        return replace(self, rows=rows, targets=self.targets[index], mass=self.mass[index])


@dataclass(frozen=True)
class Head:
    """A linear head: weight, shape (labels, width), and bias, shape (labels,)."""

    weight: Floats
    bias: Floats

    def logits(self, features: Floats) -> Floats:
        """Returns logits, shape (n, labels)."""
        return np.asarray(features @ self.weight.T + self.bias)

    def outputs(self, features: Floats, space: LabelSpace) -> Floats:
        """Returns probabilities, or numbers kept on the scale, shape (n, outputs)."""
        return space.from_logits(self.logits(features))

    def scaled(self, temperature: float) -> Head:
        """Returns the head whose logits are divided by the temperature."""
        return Head(self.weight / temperature, self.bias / temperature)


@torch.no_grad()
def head_of(classifier: Classifier) -> Head:
    """A copy of the classifier's last layer."""
    linear = last_linear(classifier.model)
    return Head(linear.weight.double().numpy(), linear.bias.double().numpy())


@torch.no_grad()
def set_head(classifier: Classifier, head: Head) -> None:
    """Puts the head into the classifier's last layer."""
    linear = last_linear(classifier.model)
    linear.weight.copy_(torch.from_numpy(head.weight))
    linear.bias.copy_(torch.from_numpy(head.bias))


def fit_head(data: Labelled, features: Floats, phrases: Floats) -> Head:
    """Fits a linear model to labelled features and label descriptions.

    It is a logistic regression for classes, one for each tag, and a ridge regression for numbers.

    The features are centred and scaled by one number, their root mean square distance from the
    centre: scaling each dimension by itself lifts those that hold nothing, and 16 texts per label
    cannot tell which they are. Those of `PairModel` are few and each of them is chosen, hence
    scaled by itself. Descriptions are shorter and drier than texts, so they are centred by
    themselves: what is left is how they differ from each other.

    Args:
        data: Targets, masses and phrase labels; its rows are not read.
        features: Of the texts, shape (n, width).
        phrases: Of the phrases, shape (m, width).
    """
    space = data.space
    phrase_centre = _balanced_mean(phrases, data.phrase_labels)
    if len(features):
        centre = np.average(features, axis=0, weights=data.mass)
        squares = np.average((features - centre) ** 2, axis=0, weights=data.mass)
    else:
        centre, squares = phrase_centre, ((phrases - phrase_centre) ** 2).mean(axis=0)
    scale = _scale(squares, data.bi_encoder, data.bi_encoder and space.kind == "regression")
    points = np.concatenate([features - centre, phrases - phrase_centre]) / scale
    targets = np.concatenate([data.targets, data.phrase_targets])
    mass = np.concatenate([data.mass, data.phrase_mass])
    fit = {"classification": _classes, "multi_label": _tags, "regression": _numbers}[space.kind]
    weight, bias = fit(points, targets, mass)
    weight = weight / scale
    return Head(weight, bias - weight @ centre)


def _scale(squares: Floats, bi_encoder: bool, alike: bool) -> Floats:
    """The divisor of each feature, such that vectors have a length of about 1."""
    if not bi_encoder:
        return np.full(len(squares), float(np.sqrt(squares.sum())) or 1.0)
    own = np.sqrt(squares) + _LEAST_SPREAD
    if not alike:
        return np.asarray(own * np.sqrt(len(own)))
    scale = own * np.sqrt((len(own) - 1) * (1 + _COSINE**2))
    scale[0] = own[0] * np.sqrt(1 + _COSINE**-2)
    return np.asarray(scale)


def _classes(points: Floats, targets: Floats, mass: Floats) -> tuple[Floats, Floats]:
    from sklearn.linear_model import LogisticRegression

    labels = targets.shape[1]
    masses = targets * mass[:, None]
    # A distribution over labels is that many rows of one label each.
    rows, columns = np.nonzero(masses > _NO_MASS)
    present = np.unique(columns)
    weight, bias = np.zeros((labels, points.shape[1])), np.full(labels, _NEVER)
    if len(present) < 2:
        bias[present] = 0.0
        return weight, bias
    model = LogisticRegression(max_iter=500)
    model.fit(points[rows], columns, sample_weight=masses[rows, columns])
    coefficients, intercepts = model.coef_, model.intercept_
    if len(present) == 2:
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight[present], bias[present] = coefficients, intercepts
    return weight, bias


def _tags(points: Floats, targets: Floats, mass: Floats) -> tuple[Floats, Floats]:
    """Balances each tag: texts with it and texts without it have the same total weight.

    Otherwise, with few texts per tag and many tags, no tag would ever be predicted.
    """
    from sklearn.linear_model import LogisticRegression

    weight, bias = np.zeros((targets.shape[1], points.shape[1])), np.zeros(targets.shape[1])
    for tag, column in enumerate(targets.T):
        masses = np.stack([(1 - column) * mass, column * mass])
        without, having = masses.sum(axis=1)
        if min(without, having) < _NO_MASS:
            # Never or always there: the log odds of one more text of the other kind.
            bias[tag] = np.log((having + 0.5) / (without + 0.5))
            continue
        masses *= (without + having) / 2 / masses.sum(axis=1, keepdims=True)
        there, rows = np.nonzero(masses > _NO_MASS)
        model = LogisticRegression(C=_TAG_STRENGTH, max_iter=500)
        model.fit(points[rows], there, sample_weight=masses[there, rows])
        weight[tag], bias[tag] = model.coef_[0], model.intercept_[0]
    return weight, bias


def _numbers(points: Floats, targets: Floats, mass: Floats) -> tuple[Floats, Floats]:
    from sklearn.linear_model import Ridge

    numbers = targets[:, 0]
    spread = float(numbers.std()) or 1.0
    model = Ridge(alpha=_RIDGE).fit(points, numbers / spread, sample_weight=mass)
    return model.coef_[None, :] * spread, np.array([model.intercept_ * spread])


def _balanced_mean(features: Floats, labels: Ints) -> Floats:
    """Mean over the labels of the means of their features."""
    if not len(features):
        return np.zeros(features.shape[1])
    means = [features[labels == label].mean(axis=0) for label in np.unique(labels)]
    return np.asarray(np.mean(means, axis=0))


# The pooling layer's values are this much larger than its residual stream, so that layer
# normalisation leaves the mean and little else.
_MEAN_SCALE = 100.0
# tanh is nearly linear below 0.3; normalised states are a few units wide.
_POOLER_SCALE = 0.05


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
    through = (attention.value, layer.attention.output.dense, pooler.dense)
    silent = (attention.query, attention.key, layer.intermediate.dense, layer.output.dense)
    for part in silent:
        nn.init.zeros_(part.weight)
    for part in silent + through:
        nn.init.zeros_(part.bias)
    attention.value.weight.copy_(torch.eye(width))
    layer.attention.output.dense.weight.copy_(_MEAN_SCALE * torch.eye(width))
    pooler.dense.weight.copy_(_POOLER_SCALE * torch.eye(width))


def last_linear(model: Any) -> nn.Linear:
    """The linear layer that gives the logits."""
    outputs = model.config.num_labels
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == outputs]
    return layers[-1]


def head_features(classifier: Classifier, rows: Rows) -> Floats:
    """The input of the last linear layer for each encoded row, shape (n, width)."""
    out = np.zeros((len(rows), last_linear(classifier.model).in_features))
    for index in by_length([len(row["input_ids"]) for row in rows], _BATCH):
        out[index] = classifier.see([rows[i] for i in index])[1]
    return out


HEAD_FILE = "pair_head.safetensors"
# Parts of the encoder's depth whose states are compared; 0 is what goes into the first layer.
_DEPTHS = (0.0, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0)
_LEAST_MATCHED = 3
_A_LAYER = 6
_OF_ALL = 3
_FAR = 2.0


class PairModel(nn.Module):
    """A frozen encoder, a comparison of two texts, and a linear layer.

    An encoder of single texts that reads a pair as one input does not compare the two, and a few
    dozen pairs do not teach it to. Untrained, it does know which words of one text have a
    counterpart in the other: each token is matched with all tokens of the other text, in the
    states of several layers (the greedy matching of BERTScore, Zhang et al. 2020). Tokens of the
    second text without a counterpart, for example, are evidence against entailment by the first.

    It takes the place of a sequence classification model in `Classifier`. The rows of its input
    are all first texts and then, in the same order, all second ones; it gives one row of logits
    a pair.

    Args:
        encoder: A bare ``transformers`` encoder. It is kept, not copied, and not changed.
        pooling: How token vectors become a text's vector.
        outputs: Numbers to give for a pair.
    """

    is_bi_encoder = True

    def __init__(self, encoder: Any, pooling: Literal["mean", "cls"], outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.config = type(encoder.config).from_dict(encoder.config.to_dict())
        self.config.num_labels = outputs
        layers = encoder.config.num_hidden_layers
        self.layers = sorted({round(layers * depth) for depth in _DEPTHS})
        self.classifier = nn.Linear(_OF_ALL + _A_LAYER * len(self.layers), outputs)

    @classmethod
    def over(cls, encoder: Encoder, outputs: int) -> PairModel:
        """A model with an untrained linear layer."""
        return cls(encoder.model, encoder.pooling, outputs)

    def forward(self, **inputs: torch.Tensor) -> SequenceClassifierOutput:
        """Returns logits, shape (n, outputs), of 2n rows: n first texts, then n second ones."""
        return SequenceClassifierOutput(logits=self.classifier(self.compare(**inputs)))

    def compare(self, **inputs: torch.Tensor) -> torch.Tensor:
        """The features of each pair, shape (n, features).

        The cosine of both texts' vectors, the logarithm of the ratio of their lengths and its
        absolute value; and for each layer, of the first text and of the second: the mean, the
        least, and the mean of the three least, over its tokens, of the largest cosine with a
        token of the other.
        """
        seen = self.encoder(**inputs, output_hidden_states=True)
        mask = inputs["attention_mask"]
        vectors = nn.functional.normalize(pool(seen.last_hidden_state, mask, self.pooling), dim=1)
        first, second = vectors.chunk(2)
        one, other = mask.sum(dim=1).float().log().chunk(2)
        found = [(first * second).sum(dim=1), other - one, (other - one).abs()]
        masks = mask.bool().chunk(2)
        for layer in self.layers:
            states = nn.functional.normalize(seen.hidden_states[layer], dim=2)
            found += _matched(*states.chunk(2), *masks)
        return torch.stack(found, dim=1)

    def save_pretrained(self, path: str | Path) -> None:
        """Writes the encoder as an ordinary checkpoint, and the linear layer next to it."""
        from safetensors.torch import save_file

        self.encoder.save_pretrained(path)
        save_file(self.classifier.state_dict(), Path(path) / HEAD_FILE)

    @classmethod
    def from_pretrained(cls, path: Path, pooling: Literal["mean", "cls"]) -> PairModel:
        """Reads what `save_pretrained` wrote."""
        from safetensors.torch import load_file
        from transformers import AutoModel

        head = load_file(path / HEAD_FILE)
        encoder = AutoModel.from_pretrained(path, use_safetensors=True, trust_remote_code=False)
        model = cls(encoder, pooling, len(head["bias"]))
        model.classifier.load_state_dict(head)
        return model


def _matched(
    first: torch.Tensor, second: torch.Tensor, mask: torch.Tensor, other_mask: torch.Tensor
) -> list[torch.Tensor]:
    """Matching scores of the tokens of each text with the other's: six numbers per pair."""
    cosines = first @ second.transpose(1, 2)
    there = mask[:, :, None] & other_mask[:, None, :]
    cosines = cosines.masked_fill(~there, -_FAR)
    found = []
    for best, known in ((cosines.amax(dim=2), mask), (cosines.amax(dim=1), other_mask)):
        mean = (best * known).sum(dim=1) / known.sum(dim=1)
        least = best.masked_fill(~known, _FAR).topk(
            min(_LEAST_MATCHED, best.shape[1]), largest=False
        )
        count = known.sum(dim=1).clamp(max=_LEAST_MATCHED)
        few = (least.values * (least.values < _FAR)).sum(dim=1) / count
        found += [mean, least.values[:, 0], few]
    return found
