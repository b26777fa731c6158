r"""How far a set of texts is from gold's gradients, as something to differentiate; imports torch.

For the texts of a label, with their mean gradient s_c and gold's goal g_c at checkpoint c,

    loss = mean_c (1 − cos(s_c, g_c)),    s_c = mean_i (softmax(W_c hᵢ) − onehot(y)) ⊗ hᵢ.

The gradient of the head is a formula in h, so that one pass backwards gives the loss's derivative
by the encoder's input embeddings; no second derivative is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from japagen.gradmm.target import GradientTarget


class Matcher:
    """The matching loss of texts under one encoder.

    Args:
        model: A bare encoder in evaluation mode that takes ``inputs_embeds``; not changed.
        tokenizer: Its tokenizer.
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
        self._prefix = prefix
        self._pooling = pooling
        self._max_length = max_length
        self._scale = target.scaling.scale
        parts = (target.scaling.centre, target.heads, target.goals)
        self._centre, self._heads, self._goals = (
            torch.tensor(part, dtype=torch.float32, device=self.table.device) for part in parts
        )
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    @property
    def table(self) -> torch.Tensor:
        """The encoder's input embeddings, shape (vocabulary, width)."""
        found: torch.Tensor = self.model.get_input_embeddings().weight
        return found

    def word_embeddings(self, surfaces: Sequence[str]) -> torch.Tensor:
        """Mean input embedding of each word's tokens, shape (n, width)."""
        rows = self.tokenizer(list(surfaces), add_special_tokens=False)["input_ids"]
        mark = self.tokenizer.tokenize("あ")[0] != "あ"  # SentencePiece puts ▁ before a text
        blank = self.tokenizer.convert_tokens_to_ids("▁") if mark else None
        kept = [[token for token in row if token != blank] or row for row in rows]
        return torch.stack([self.table[row].mean(dim=0) for row in kept])

    def embed(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Input embeddings of texts (n, length, width), and 1 for tokens and 0 for padding."""
        rows = self.tokenizer(
            [self._prefix + text for text in texts], truncation=True, max_length=self._max_length
        )
        batch = self.tokenizer.pad(rows)
        ids, mask = (
            torch.tensor(batch[name], device=self.table.device)
            for name in ("input_ids", "attention_mask")
        )
        return self.table[ids], mask

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
        scaled = (vectors - self._centre) / self._scale
        features = torch.cat([scaled, scaled.new_ones(len(scaled), 1)], dim=1)
        logits = torch.einsum("nd,ckd->nck", features, self._heads)
        hot = nn.functional.one_hot(torch.tensor(label, device=logits.device), logits.shape[-1])
        left = torch.softmax(logits, dim=-1) - hot
        return left[..., None] * features[:, None, None, :]

    def distance(self, mean: torch.Tensor, label: int) -> torch.Tensor:
        """1 − cos of a mean gradient, shape (checkpoints, labels, width + 1), with gold's."""
        goal = self._goals[:, label].flatten(-2)
        return 1 - nn.functional.cosine_similarity(mean.flatten(-2), goal, dim=-1).mean()

    def all_gradients(self, texts: Sequence[str], label: int, batch_size: int = 32) -> torch.Tensor:
        """Gradients of texts of one label, in their order and without a graph."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        found: dict[int, torch.Tensor] = {}
        with torch.no_grad():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                made = self.gradients(self.vectors(*self.embed([texts[r] for r in rows])), label)
                found.update(zip(rows, made, strict=True))
        return torch.stack([found[row] for row in range(len(texts))])
