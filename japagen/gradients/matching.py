r"""How far a set of texts is from gold's gradients, as something to differentiate; imports torch.

For the texts of a label, with their mean gradient s_c and gold's goal g_c at checkpoint c,

    loss = mean_c (1 − cos(s_c, g_c)),    s_c = mean_i (softmax(W_c hᵢ) − onehot(y)) ⊗ hᵢ,

averaged over labels. The gradient of the head is a formula in h, so that one pass backwards gives
the loss's derivative by the encoder's input embeddings; no second derivative is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from japagen.gradients.target import Floats, GradientTarget, Ints


@dataclass(frozen=True)
class Embedded:
    """Texts as the encoder's input embeddings.

    Attributes:
        embeddings: Shape (n, length, width).
        mask: 1 for tokens and 0 for padding, shape (n, length).
        offsets: For each text, the characters of each token; (0, 0) for tokens that stand for
            none of the text's.
    """

    embeddings: torch.Tensor
    mask: torch.Tensor
    offsets: list[list[tuple[int, int]]]


class Matcher:
    """The matching loss of texts under one encoder.

    Args:
        model: A bare encoder in evaluation mode that takes ``inputs_embeds``; not changed.
        tokenizer: A fast tokenizer.
        target: Gold's gradients, from this encoder's unit-length vectors.
        prefix: What the encoder wants before every text.
        pooling: ``mean`` or ``cls``.
        max_length: Longest input in tokens.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        target: GradientTarget,
        prefix: str = "",
        pooling: str = "mean",
        max_length: int = 128,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.target = target
        self.prefix = prefix
        self._pooling = pooling
        self._max_length = max_length
        parts = (target.scaling.centre, target.heads, target.goals)
        self._centre, self._heads, self._goals = (
            torch.tensor(part, dtype=torch.float32, device=self.device) for part in parts
        )
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return self.table.device

    @property
    def table(self) -> torch.Tensor:
        """The encoder's input embeddings, shape (vocabulary, width)."""
        found: torch.Tensor = self.model.get_input_embeddings().weight
        return found

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Looks up the input embeddings of texts."""
        before = len(self.prefix)
        rows = self.tokenizer(
            [self.prefix + text for text in texts],
            truncation=True,
            max_length=self._max_length,
            return_offsets_mapping=True,
        )
        offsets = [
            [(max(a - before, 0), max(b - before, 0)) for a, b in row]
            for row in rows.pop("offset_mapping")
        ]
        batch = self.tokenizer.pad(rows)
        ids, mask = (
            torch.tensor(batch[name], device=self.device)
            for name in ("input_ids", "attention_mask")
        )
        return Embedded(self.table[ids], mask, offsets)

    def vectors(self, embeddings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Unit-length vectors of texts, shape (n, width)."""
        states = self.model(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
        if self._pooling == "cls":
            pooled = states[:, 0]
        else:
            weights = mask[..., None].to(states.dtype)
            pooled = (states * weights).sum(dim=1) / weights.sum(dim=1)
        return nn.functional.normalize(pooled, dim=1)

    def gradients(self, vectors: torch.Tensor, label: int) -> torch.Tensor:
        """Each text's gradient at every checkpoint, shape (n, checkpoints, labels, width + 1)."""
        scaled = (vectors - self._centre) / self.target.scaling.scale
        features = torch.cat([scaled, scaled.new_ones(len(scaled), 1)], dim=1)
        logits = torch.einsum("nd,ckd->nck", features, self._heads)
        hot = nn.functional.one_hot(torch.tensor(label, device=self.device), logits.shape[-1])
        residuals = torch.softmax(logits, dim=-1) - hot
        return residuals[..., None] * features[:, None, None, :]

    def distance(self, mean: torch.Tensor, label: int) -> torch.Tensor:
        """1 − cos of mean gradients, shape (..., checkpoints, labels, width + 1), with gold's.

        Averaged over the checkpoints: shape (...).
        """
        goal = self._goals[:, label].flatten(-2)
        cosines = nn.functional.cosine_similarity(mean.flatten(-2), goal, dim=-1)
        return (1 - cosines).mean(dim=-1)

    def loss(self, texts: Sequence[str], labels: Ints) -> float:
        """The matching loss of texts, averaged over the labels that have some."""
        with torch.inference_mode():
            found = []
            for label in sorted(set(labels.tolist())):
                mine = [text for text, own in zip(texts, labels, strict=True) if own == label]
                found.append(float(self.distance(self.all_gradients(mine, label).mean(0), label)))
        return sum(found) / len(found)

    def all_gradients(self, texts: Sequence[str], label: int, batch_size: int = 32) -> torch.Tensor:
        """Gradients of texts of one label, in their order and without a graph."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        found: dict[int, torch.Tensor] = {}
        with torch.no_grad():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                part = self.embed([texts[row] for row in rows])
                made = self.gradients(self.vectors(part.embeddings, part.mask), label)
                found.update(zip(rows, made, strict=True))
        return torch.stack([found[row] for row in range(len(texts))])


def losses_of(target: GradientTarget, vectors: Floats, label: int) -> Floats:
    """Mean cross-entropy over the checkpoints of each text for one label, shape (n,)."""
    from scipy.special import log_softmax

    features = target.scaling(vectors)
    parts = [log_softmax(features @ head.T, axis=1)[:, label] for head in target.heads]
    return np.asarray(-np.mean(parts, axis=0), dtype=np.float64)
