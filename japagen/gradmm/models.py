r"""The two models of a synthesis: an encoder that measures and a language model that reads.

The encoder says how far texts are from gold's gradients, as something to differentiate. For the
texts of a label, with their mean gradient s_c and gold's goal g_c at checkpoint c,

    loss = mean_c (1 − cos(s_c, g_c)),    s_c = mean_i (softmax(W_c hᵢ) − onehot(y)) ⊗ hᵢ.

The gradient of the head is a formula in h, so that one pass backwards gives the loss's derivative
by the encoder's input embeddings; no second derivative is taken. The language model says how likely
texts are, and their next words. This module imports torch.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from japagen.gradmm.target import Floats, GradientTarget
from japagen.llm.backends.huggingface import Checkpoint
from japagen.training.encoder import Encoder, pool, supports_bf16

_BATCH = 8  # texts that the language model reads at a time; logits are as wide as a vocabulary


def load_models(encoder: Encoder, checkpoint: Checkpoint, text_type: str) -> tuple[Encoder, Reader]:
    """A copy of the encoder that is trained later and a reader, on a GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = copy.deepcopy(encoder.model)
    half = device == "cuda" or supports_bf16()
    reader = checkpoint.load().to(device, torch.bfloat16 if half else torch.float32)
    prefix = f"{text_type}\n"
    return replace(encoder, model=model.to(device)), Reader(reader, checkpoint.tokenizer, prefix)


class Matcher:
    """The matching loss of texts under one encoder.

    Args:
        encoder: Makes vectors of unit length; its weights get no gradients any more.
        target: Gold's gradients, from this encoder.
        max_length: Longest input in tokens.
    """

    def __init__(self, encoder: Encoder, target: GradientTarget, max_length: int = 128) -> None:
        self.tokenizer: Any = encoder.tokenizer
        self._encoder = encoder
        self._max_length = min(max_length, encoder.max_length)
        encoder.model.requires_grad_(False)
        # Input embeddings, shape (vocabulary, width).
        self.table: torch.Tensor = encoder.model.get_input_embeddings().weight  # type: ignore[assignment]
        self._scale = target.scaling.scale
        parts = (target.scaling.centre, target.heads, target.goals)
        self._centre, self._heads, self._goals = (
            torch.tensor(part, dtype=torch.float32, device=self.table.device) for part in parts
        )

    def word_embeddings(self, surfaces: Sequence[str]) -> torch.Tensor:
        """Mean input embedding of each word's tokens, shape (n, width)."""
        rows = self.tokenizer(list(surfaces), add_special_tokens=False)["input_ids"]
        blank = self.tokenizer.get_vocab().get("▁")  # SentencePiece puts it before a text
        kept = [[token for token in row if token != blank] or row for row in rows]
        return torch.stack([self.table[row].mean(dim=0) for row in kept])

    def embed(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Input embeddings of texts (n, length, width), and 1 for tokens and 0 for padding."""
        read = [self._encoder.prefix + text for text in texts]
        batch = self.tokenizer(read, truncation=True, max_length=self._max_length, padding=True)
        ids, mask = _tensors(batch, self.table.device)
        return self.table[ids], mask

    def vectors(self, embeddings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Unit-length vectors of texts, shape (n, width)."""
        model = self._encoder.model
        states = model(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
        return nn.functional.normalize(pool(states, mask, self._encoder.pooling), dim=1)

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

    @torch.no_grad()
    def text_gradients(self, texts: Sequence[str], label: int) -> torch.Tensor:
        """Gradients of texts of one label as `gradients` gives them, without a graph."""
        return self.gradients(self.vectors(*self.embed(texts)), label)


class Reader:
    """A causal model of transformers that reads texts behind a common beginning.

    Args:
        model: In evaluation mode.
        tokenizer: Its tokenizer.
        context: What stands before every text, such as what the texts are, with a line's end;
            the attribute holds its tokens.
    """

    def __init__(self, model: Any, tokenizer: Any, context: str) -> None:
        self.model = model
        self.device: torch.device = model.device
        self.tokenizer = tokenizer
        self.context: list[int] = tokenizer(context)["input_ids"]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text by itself."""
        return [list(row) for row in self.tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def padded(
        self, rows: Sequence[Sequence[int]], side: Literal["left", "right"]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens as rows of one length, and 1 for tokens and 0 for padding."""
        read = {"input_ids": [list(row) for row in rows]}
        pad = self.tokenizer.pad
        return _tensors(pad(read, padding_side=side, return_attention_mask=True), self.device)

    def log_likelihoods(self, texts: Sequence[str], given: int = 0) -> Floats:
        """Log-probability of each text's tokens behind its first ``given``, shape (n,)."""
        rows = [self.context + row for row in self.tokens(texts)]
        start, found = len(self.context) + given, []
        for at in range(0, len(rows), _BATCH):
            ids, mask = self.padded(rows[at : at + _BATCH], "right")
            with torch.inference_mode():
                logits = self.model(ids, attention_mask=mask, use_cache=False).logits
                log_p = torch.log_softmax(logits[:, :-1].float(), dim=-1)
                own = log_p.gather(2, ids[:, 1:, None])[..., 0].where(mask[:, 1:] > 0, 0)
            found.append(own[:, start - 1 :].sum(dim=1).cpu().numpy())
        return np.concatenate(found).astype(np.float64)

    def perplexities(self, texts: Sequence[str]) -> Floats:
        """exp(− log-probability / tokens) of each text, shape (n,)."""
        counts = np.array([max(len(row), 1) for row in self.tokens(texts)])
        return np.asarray(np.exp(-self.log_likelihoods(texts) / counts))


class Writing:
    """Texts that grow by a word at a time, a batch of them read together.

    Words are of one or more tokens; shorter ones are padded on the left and masked.

    Args:
        reader: Whose model reads.
        number: Texts.
    """

    def __init__(self, reader: Reader, number: int) -> None:
        self._reader = reader
        self._cache: Any = None
        self._mask = torch.zeros((number, 0), dtype=torch.long, device=reader.device)
        self.add([reader.context] * number)

    @torch.inference_mode()
    def add(self, tokens: Sequence[Sequence[int]]) -> None:
        """Adds tokens to each text, at least one.

        ``logits`` are then those of the token behind them, shape (n, vocabulary).
        """
        ids, new = self._reader.padded(tokens, "left")
        self._mask = torch.cat([self._mask, new], dim=1)
        places = (self._mask.cumsum(dim=1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        out = self._reader.model(
            ids,
            attention_mask=self._mask,
            position_ids=places,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = out.past_key_values
        self.logits: torch.Tensor = out.logits[:, -1].float()


def _tensors(batch: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """A padded batch's tokens, and 1 for tokens and 0 for padding."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
