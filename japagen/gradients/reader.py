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

    def log_likelihoods(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Returns the log-probability of each text and its number of tokens, each shape (n,)."""
        total, count = np.zeros(len(texts)), np.zeros(len(texts))
        for rows, ids, logits in self._read(texts):
            log_p = torch.log_softmax(logits[:, :-1].float(), dim=-1)
            found = log_p.gather(2, ids[:, 1:, None])[..., 0]
            for at, row in enumerate(rows):
                length = len(self._tokens(texts[row]))
                start = len(self.context) - 1
                total[row] = float(found[at, start : start + length].sum())
                count[row] = length
        return total, count

    def perplexities(self, texts: Sequence[str]) -> Floats:
        """exp(− log-probability / tokens) of each text, shape (n,)."""
        total, count = self.log_likelihoods(texts)
        return np.asarray(np.exp(-total / np.maximum(count, 1)))

    def rest_log_likelihoods(self, words: Sequence[str]) -> Floats:
        """Log-probability of each word's tokens behind its first, given the first, shape (n,).

        The word stands at the beginning: what a word's first token leaves open depends little on
        what stands before it.
        """
        total = np.zeros(len(words))
        for rows, ids, logits in self._read(words):
            log_p = torch.log_softmax(logits[:, :-1].float(), dim=-1)
            found = log_p.gather(2, ids[:, 1:, None])[..., 0]
            for at, row in enumerate(rows):
                end = len(self.context) - 1 + len(self._tokens(words[row]))
                total[row] = float(found[at, len(self.context) : end].sum())
        return total

    def next_tokens(
        self, texts: Sequence[str], number: int
    ) -> Iterator[tuple[int, list[tuple[int, list[int]]]]]:
        """The likeliest next tokens at every place of every text.

        Args:
            texts: The texts.
            number: Tokens wanted at each place.

        Yields:
            A text's index, and for each of its tokens the character it starts at and the ids of
            the likeliest tokens there, likeliest first.
        """
        for rows, _, logits in self._read(texts):
            best = logits.topk(number, dim=-1).indices
            for at, row in enumerate(rows):
                encoded = self.tokenizer(
                    texts[row], add_special_tokens=False, return_offsets_mapping=True
                )
                start = len(self.context) - 1
                places = [
                    (begin, best[at, start + i].tolist())
                    for i, (begin, _) in enumerate(encoded["offset_mapping"])
                ]
                yield row, places

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
        self._number = number
        self._begin = reader.context

    def begin(self) -> torch.Tensor:
        """Reads what stands before the texts; returns logits as `add` does."""
        return self.add([self._begin] * self._number)

    @torch.inference_mode()
    def add(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Adds tokens to each text, at least one; returns the next's logits (n, vocabulary)."""
        width = max(len(row) for row in tokens)
        device = self._reader.device
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in tokens], device=device)
        new = torch.tensor(
            [[0] * (width - len(row)) + [1] * len(row) for row in tokens], device=device
        )
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
