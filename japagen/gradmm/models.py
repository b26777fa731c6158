"""The causal language model and the encoder that texts are synthesised with, in this process."""

from __future__ import annotations

import importlib.util
from functools import cached_property
from typing import TYPE_CHECKING

from japagen.errors import JapagenError, MissingExtraError
from japagen.generators.base import OutputTerms
from japagen.generators.packaged import PACKAGED
from japagen.generators.weights import Weights, find_weights
from japagen.tasks.tasks import Task

if TYPE_CHECKING:
    from japagen.generators.checkpoint import Checkpoint
    from japagen.gradmm.matching import Matcher
    from japagen.gradmm.reader import Reader
    from japagen.gradmm.target import GradientTarget
    from japagen.training.encoders import Encoder


class Models:
    """Loads the models that a task names when they are first needed, on a GPU if there is one."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._name = task.gradient_matching.model or task.generator.model

    def check(self) -> None:
        """Finds out before a run what would stop it hours later.

        Raises:
            MissingExtraError: If a package that reads a GGUF file is missing.
            JapagenError: If the language model cannot be found.
        """
        try:
            found = self._weights or self._checkpoint
        except MissingExtraError:
            raise
        except JapagenError as error:
            key = "gradient_matching" if self._task.gradient_matching.model else "generator"
            raise JapagenError(error.message, f"Check {key}.model.") from error
        for package in ("gguf", "accelerate") if found is self._weights else ():
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, "hf", "Reading a GGUF file with transformers")

    @property
    def identity(self) -> str:
        """Changes when the language model does."""
        weights = self._weights
        return f"{weights.name}:{weights.identity}" if weights else self._checkpoint.info.identity

    @property
    def name(self) -> str:
        """Of the language model."""
        return (self._weights or self._checkpoint.info).name

    @property
    def terms(self) -> OutputTerms:
        """What may be done with words that the language model has found."""
        return (self._weights or self._checkpoint.info).terms

    @cached_property
    def _weights(self) -> Weights | None:
        """The GGUF file, cut for Japanese where that can be done; None for other checkpoints."""
        if self._name in PACKAGED or self._name.endswith(".gguf"):
            return find_weights(self._name, cut=True)
        return None

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        from japagen.generators.checkpoint import find_checkpoint

        return find_checkpoint(str(self._weights.file()) if self._weights else self._name)

    @cached_property
    def reader(self) -> Reader:
        """The language model, which reads texts behind what they are called."""
        import torch

        from japagen.gradmm.reader import Reader
        from japagen.training.encoders import supports_bf16

        half = torch.cuda.is_available() or supports_bf16()
        model = self._checkpoint.load().to(_device(), torch.bfloat16 if half else torch.float32)
        return Reader(model, self._checkpoint.tokenizer, f"{self._task.text_type}\n")

    @cached_property
    def _encoder(self) -> Encoder:
        from japagen.training.encoders import load_encoder

        settings = self._task.training
        return load_encoder(settings.encoder, trust_remote_code=settings.trust_remote_code)

    def matcher(self, target: GradientTarget) -> Matcher:
        """Measures how far texts are from a target, under the encoder that is trained later."""
        from japagen.gradmm.matching import Matcher

        encoder = self._encoder
        model = encoder.model.to(_device())  # type: ignore[arg-type]
        length = min(encoder.max_length, self._task.training.max_length)
        return Matcher(model, encoder.tokenizer, target, encoder.prefix, encoder.pooling, length)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
