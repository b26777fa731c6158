"""Makes the generator that a task names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from japagen.config.sections import GeneratorSettings
from japagen.errors import JapagenError
from japagen.llm.backend import Generator

_MODELS = {
    "openai": "the server's model name",
    "hf": "a directory, GGUF path or Hub name",
    "replay": "a run directory",
}


def load_generator(
    settings: GeneratorSettings,
    batches: Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Generator:
    """Returns the backend; models and connections start with the first request.

    Args:
        settings: Which, and how.
        batches: Where batches are noted; without it nothing goes by the batch API.
        note: Told what the user should know while waiting.

    Raises:
        JapagenError: If the settings do not go together or an extra is missing.
    """
    if settings.backend == "embedded":
        from japagen.llm.backends.embedded import EmbeddedGenerator

        return EmbeddedGenerator(settings.model, slots=settings.slots)
    if settings.model == "gemma3-270m":
        raise JapagenError(
            f"generator.backend {settings.backend} needs {_MODELS[settings.backend]}, found the "
            "embedded default.",
            "Set generator.model.",
        )
    if settings.backend == "replay":
        from japagen.llm.backends.replay import ReplayGenerator

        return ReplayGenerator(settings.model)
    if settings.backend == "hf":
        from japagen.llm.backends.huggingface import HFGenerator

        return HFGenerator(settings.model, slots=settings.slots)
    if settings.batch and batches is not None:
        from japagen.llm.backends.openai_batch import OpenAIBatchGenerator

        return OpenAIBatchGenerator(
            settings.model,
            batches,
            note,
            base_url=settings.base_url,
            api=settings.api,
            api_key_env=settings.api_key_env,
        )
    from japagen.llm.backends.openai import OpenAIGenerator

    return OpenAIGenerator(
        settings.model,
        base_url=settings.base_url,
        api=settings.api,
        api_key_env=settings.api_key_env,
        slots=settings.slots,
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
    )
