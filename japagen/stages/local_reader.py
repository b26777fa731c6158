"""The causal language model and the encoder that texts are changed by, in this process."""

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
    from japagen.gradients.matching import Matcher
    from japagen.gradients.reader import Reader
    from japagen.gradients.target import GradientTarget
    from japagen.training.encoders import Encoder


class LocalReader:
    """Loads the two models when they are first needed, on a GPU where there is one.

    Args:
        task: Names them.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._name = task.gradient_matching.model or task.generator.model

    def check(self) -> None:
        """Finds out before a run what would stop it hours later.

        Raises:
            MissingExtraError: If a package that reads a GGUF file is missing.
            JapagenError: If the language model cannot be found, or the encoder's tokenizer cannot
                say where its tokens stand in a text.
        """
        self._check_model()
        if self._task.training.encoder != "embedded" and not self.encoder.tokenizer.is_fast:
            raise JapagenError(
                "Expected an encoder with a fast tokenizer, which says where its tokens stand in a "
                f"text, found {type(self.encoder.tokenizer).__name__}.",
                "Set another training.encoder, or generation.strategy: few_shot.",
            )

    def _check_model(self) -> None:
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
        if self._weights is not None:
            return f"{self._weights.name}:{self._weights.identity}"
        return self._checkpoint.info.identity

    @property
    def name(self) -> str:
        """Of the language model."""
        return self._weights.name if self._weights is not None else self._checkpoint.info.name

    @property
    def terms(self) -> OutputTerms:
        """What may be done with words that the language model has found."""
        return self._weights.terms if self._weights is not None else self._checkpoint.info.terms

    @cached_property
    def _weights(self) -> Weights | None:
        """The GGUF file, cut for Japanese where that can be done; None for other checkpoints."""
        if self._name in PACKAGED or self._name.endswith(".gguf"):
            return find_weights(self._name, cut=True)
        return None

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        from japagen.generators.checkpoint import find_checkpoint

        weights = self._weights
        return find_checkpoint(self._name if weights is None else str(weights.file()))

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that is trained later, as it is before."""
        from japagen.training.encoders import load_encoder

        settings = self._task.training
        return load_encoder(settings.encoder, trust_remote_code=settings.trust_remote_code)

    @cached_property
    def reader(self) -> Reader:
        """The language model, which reads texts behind what they are called."""
        import torch

        from japagen.gradients.reader import Reader
        from japagen.training.encoders import supports_bf16

        device = _device()
        half = device == "cuda" or supports_bf16()
        model = self._checkpoint.load().to(device, torch.bfloat16 if half else torch.float32)
        return Reader(model, self._checkpoint.tokenizer, f"{self._task.text_type}\n")

    def matcher(self, target: GradientTarget) -> Matcher:
        """Measures how far texts are from a target."""
        from japagen.gradients.matching import Matcher

        encoder = self.encoder
        return Matcher(
            encoder.model.to(_device()),  # type: ignore[arg-type]
            encoder.tokenizer,
            target,
            encoder.prefix,
            encoder.pooling,
            min(encoder.max_length, self._task.training.max_length),
        )


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
