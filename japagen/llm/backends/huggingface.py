"""Text from a checkpoint that transformers loads into this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby, islice
from typing import TYPE_CHECKING

from japagen.generators.base import Answer, GeneratorInfo, Request
from japagen.generators.checkpoint import Checkpoint, find_checkpoint, require_gguf_packages

if TYPE_CHECKING:
    from japagen.generators.torch_engine import TorchEngine

_SLOTS_CPU, _SLOTS_CUDA = 8, 32


class HFGenerator:
    """Answers requests in batches with a causal language model of transformers.

    Weights are read from safetensors or GGUF, never from pickles, and code that comes with a
    checkpoint is not run. The model is loaded with the first request, onto a GPU where there is
    one. A seed belongs to its request, not to the batch that it happens to be in.

    Args:
        model: A directory, the path of a GGUF file, or a name on the Hugging Face Hub.
        slots: Requests in a batch; 8 on a CPU and 32 on a GPU when None.
        device: Such as ``cpu`` or ``cuda:1``; chosen when None.

    Raises:
        MissingExtraError: If a GGUF is named and a package that reads it is missing.
    """

    def __init__(self, model: str, *, slots: int | None = None, device: str | None = None) -> None:
        if model.endswith(".gguf"):
            require_gguf_packages()
        self._model = model
        self._slots = slots
        self._device = device
        self._engine: TorchEngine | None = None
        self._starting = threading.Lock()

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return find_checkpoint(self._model)

    @property
    def info(self) -> GeneratorInfo:
        """Who this generator is; reads the checkpoint's settings and tokenizer.

        Raises:
            JapagenError: If there is no such checkpoint, or transformers cannot read it.
        """
        return self._checkpoint.info

    def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answers every request once, batch after batch.

        The work is done in the thread that iterates, so closing the iterator leaves nothing
        behind. One batch of ``requests`` is read ahead.

        Raises:
            JapagenError: If the model cannot be loaded.
        """
        source = iter(requests)
        engine = self._started()
        while batch := list(islice(source, self._batch_size(engine))):
            for _, group in groupby(batch, key=lambda request: request.sampling):
                yield from self._answer(engine, list(group))

    def _batch_size(self, engine: TorchEngine) -> int:
        return self._slots or (_SLOTS_CPU if engine.device == "cpu" else _SLOTS_CUDA)

    def _answer(self, engine: TorchEngine, batch: Sequence[Request]) -> list[Answer]:
        began = time.perf_counter()
        done = engine.complete(
            [r.prompt for r in batch], batch[0].sampling, [r.seed for r in batch]
        )
        seconds = time.perf_counter() - began
        return [
            Answer(request.id, "", "error", seconds=seconds, error=written)
            if isinstance(written, str)
            else Answer(
                request.id,
                written.text,
                written.finish,
                written.prompt_tokens,
                written.completion_tokens,
                seconds,
            )
            for request, written in zip(batch, done, strict=True)
        ]

    def count_tokens(self, text: str) -> int:
        """Number of tokens of ``text``, without those that begin or end a document."""
        valid = text.encode("utf-8", "replace").decode()
        return len(self._checkpoint.tokenizer(valid, add_special_tokens=False)["input_ids"])

    def close(self) -> None:
        """Stops what is in progress and frees the model; the next request would load it anew."""
        with self._starting:
            engine, self._engine = self._engine, None
        if engine:
            engine.close()

    def _started(self) -> TorchEngine:
        from japagen.generators.torch_engine import TorchEngine

        with self._starting:
            if self._engine is None:
                self._engine = TorchEngine(self._checkpoint, self._device)
            return self._engine
