"""The models of benchmarks/gradient_matching.py, and what they said of texts, kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from label_fidelity import TASKS

from japagen.gradients.reader import Reader
from japagen.storage.files import digest
from japagen.training.encoders import embed, load_encoder, supports_bf16


class Models:
    """The encoder and the language model, loaded when needed, and what they said of texts."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known: dict[str, Any] = {}

    @cached_property
    def encoder(self) -> Any:
        """The embedded encoder."""
        return load_encoder("embedded")

    @cached_property
    def language_model(self) -> tuple[Any, Any]:
        """The embedded generator's model, in transformers, and its tokenizer."""
        import torch

        from japagen.generators.checkpoint import find_checkpoint
        from japagen.generators.packaged import GEMMA
        from japagen.generators.weights import find_weights

        checkpoint = find_checkpoint(str(find_weights(GEMMA.key, True).file()))
        precise = torch.bfloat16 if supports_bf16() else torch.float32
        return checkpoint.load().to(precise), checkpoint.tokenizer

    def reader(self, task: str) -> Reader:
        """Reads texts of a task."""
        return Reader(*self.language_model, TASKS[task]["text_type"] + "\n")

    def _remembered(self, name: str, texts: list[str], make: Callable[[list[str]], Any]) -> Any:
        file = self._cache / f"{name}.npz"
        if name not in self._known:
            stored = np.load(file, allow_pickle=False) if file.exists() else None
            self._known[name] = (
                dict(zip(stored["keys"].tolist(), stored["values"], strict=True)) if stored else {}
            )
        known, keys = self._known[name], [digest(text) for text in texts]
        new = {k: text for k, text in zip(keys, texts, strict=True) if k not in known}
        if new:
            known.update(zip(new, make(list(new.values())), strict=True))
            np.savez(file, keys=np.array(list(known)), values=np.stack(list(known.values())))
        return np.stack([known[key] for key in keys])

    def vectors(self, texts: list[str]) -> Any:
        """Encoder vectors, shape (n, width)."""
        found = self._remembered("vectors", texts, lambda new: embed(self.encoder, new))
        return found.astype(np.float64)

    def perplexities(self, task: str, texts: list[str]) -> Any:
        """Perplexity of each text, shape (n,)."""
        return self._remembered(
            f"perplexity-{task}", texts, lambda new: self.reader(task).perplexities(new)
        )
