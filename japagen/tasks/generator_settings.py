"""The section ``generator`` of a task file: which model writes, where it is, what it charges."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from japagen.tasks.settings import Count, Section, Share


class Price(Section):
    """What a provider charges, as its price list has it on the day.

    Attributes:
        input_per_million: For a million tokens read.
        output_per_million: For a million tokens written.
        currency: Of the two.
        yen_per_unit: What one unit of the currency costs in yen; needed for any but JPY.
        batch: Share of these prices that requests in a batch cost (see `GeneratorSettings.batch`).
    """

    input_per_million: Annotated[float, Field(ge=0)]
    output_per_million: Annotated[float, Field(ge=0)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "JPY"
    yen_per_unit: Annotated[float, Field(gt=0)] = 1.0
    batch: Share = 0.5

    @model_validator(mode="after")
    def _convertible(self) -> Price:
        if self.currency != "JPY" and "yen_per_unit" not in self.model_fields_set:
            raise ValueError(f"yen_per_unit is needed to convert {self.currency}")
        return self


class GeneratorSettings(Section):
    """Which model writes the text.

    Attributes:
        backend: ``embedded`` (a GGUF in this process), ``openai`` (any compatible server),
            ``hf`` (transformers in this process) or ``replay`` (the record of a run).
        model: ``gemma3-270m``, ``qwen`` (a chat model, of the extra local-chat) or a GGUF path for
            embedded; the server's model name for openai; a directory, GGUF path or Hub name for
            hf; a run directory for replay.
        base_url: The server's address, for openai.
        api_key_env: The environment variable that holds the key, for openai.
        api: ``chat`` or ``completions``, for openai.
        slots: Requests at a time; chosen by the backend when absent.
        requests_per_minute: Most requests sent in a minute, retries included, for openai.
        tokens_per_minute: Most tokens in a minute, prompts and ``max_tokens``, for openai.
        batch: Send requests by the provider's batch API, for openai: cheaper, answered within
            a day, and a run that is stopped meanwhile takes up its batches where it left them.
        price: What tokens cost; for plans, budgets and reports.
    """

    backend: Literal["embedded", "openai", "hf", "replay"] = "embedded"
    model: str = "gemma3-270m"
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    api: Literal["chat", "completions"] = "chat"
    slots: Count | None = None
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    batch: bool = False
    price: Price | None = None

    @model_validator(mode="after")
    def _batches_by_openai(self) -> GeneratorSettings:
        if self.batch and self.backend != "openai":
            raise ValueError(f"batch goes with the backend openai, found {self.backend}")
        return self

    @property
    def price_now(self) -> Price | None:
        """The price of the requests as they are sent: of a batch, where they go in one."""
        if self.price is None or not self.batch:
            return self.price
        share = self.price.batch
        read, written = self.price.input_per_million, self.price.output_per_million
        changed = {"input_per_million": read * share, "output_per_million": written * share}
        return self.price.model_copy(update=changed)
