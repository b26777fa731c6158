"""How likely a causal language model finds texts and their next words; imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float64]
_BATCH_TOKENS = 2048


class Reader:
    """A causal model of transformers that reads texts behind a common beginning.

    Args:
        model: In evaluation mode.
        tokenizer: Its tokenizer.
        context: What stands before every text, such as what the texts are, with a line's end;
            the attribute holds its tokens.
    """

    def __init__(self, model: Any, tokenizer: Any, context: str = "文章\n") -> None:
        self.model = model
        self.device: torch.device = model.device
        self.tokenizer = tokenizer
        self.context: list[int] = tokenizer(context)["input_ids"]

    def log_likelihoods(self, texts: Sequence[str], given: int = 0) -> tuple[Floats, Floats]:
        """Log-probability of each text's tokens behind its first ``given``, and their number.

        Returns:
            Two arrays of shape (n,).
        """
        total, count = np.zeros(len(texts)), np.zeros(len(texts))
        start = len(self.context) - 1
        for rows, ids, logits in self._read(texts):
            log_p = torch.log_softmax(logits[:, :-1].float(), dim=-1)
            found = log_p.gather(2, ids[:, 1:, None])[..., 0]
            for at, row in enumerate(rows):
                length = len(self._tokens(texts[row]))
                total[row] = float(found[at, start + given : start + length].sum())
                count[row] = max(length - given, 0)
        return total, count

    def perplexities(self, texts: Sequence[str]) -> Floats:
        """exp(− log-probability / tokens) of each text, shape (n,)."""
        total, count = self.log_likelihoods(texts)
        return np.asarray(np.exp(-total / np.maximum(count, 1)))

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _read(self, texts: Sequence[str]) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
        """Yields rows, ids (n, length) and logits (n, length, vocabulary); padded on the right."""
        sequences = [self.context + self._tokens(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda row: len(sequences[row]))
        while order:
            width = len(sequences[order[-1]])
            taken = max(1, _BATCH_TOKENS // width)
            rows, order = order[-taken:], order[:-taken]
            padded = [sequences[r] + [0] * (width - len(sequences[r])) for r in rows]
            mask = [[1] * len(sequences[r]) + [0] * (width - len(sequences[r])) for r in rows]
            ids, read = (torch.tensor(part, device=self.device) for part in (padded, mask))
            with torch.inference_mode():
                logits = self.model(ids, attention_mask=read, use_cache=False).logits
            yield rows, ids, logits


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

    def begin(self) -> torch.Tensor:
        """Reads what stands before the texts; returns logits as `add` does."""
        return self.add([self._reader.context] * len(self._mask))

    @torch.inference_mode()
    def add(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Adds tokens to each text, at least one; returns the next's logits (n, vocabulary)."""
        width = max(len(row) for row in tokens)
        padded = [[0] * (width - len(row)) + list(row) for row in tokens]
        read = [[0] * (width - len(row)) + [1] * len(row) for row in tokens]
        ids, new = (torch.tensor(part, device=self._reader.device) for part in (padded, read))
        self._mask = torch.cat([self._mask, new], dim=1)
        places = (self._mask.cumsum(dim=1) - 1).clamp_min(0)[:, -width:]
        out = self._reader.model(
            ids,
            attention_mask=self._mask,
            position_ids=places,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = out.past_key_values
        found: torch.Tensor = out.logits[:, -1].float()
        return found
