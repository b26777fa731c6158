"""Asks any server that speaks OpenAI's chat or completions API.

Requests run on an event loop in a thread of its own, so that slow ones neither hold up fast
ones nor the caller (who may have a loop running already, as notebooks do), and so that all of
them can be called off at once.

What differs between servers is settled here:

- ``top_k`` and ``min_p`` are no part of OpenAI's API, which answers 400 for them. They are sent
  to every other server (llama-server and vLLM take them) as extra fields of the body.
- Chat requests ask for a JSON object ``{"text": string}``, those with options for
  ``{"label": one of them}`` and for the log-probabilities of its tokens.
- An option that the server refuses by name is left out from then on, with one warning: not
  every server knows ``response_format``, and reasoning models take no ``temperature``.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from japagen.errors import MissingExtraError
from japagen.llm.backend import Answer, GeneratorInfo, OutputTerms, Request
from japagen.llm.backends.openai_protocol import Endpoint, ServerCapabilities
from japagen.llm.backends.rate_limit import Pace

if TYPE_CHECKING:
    from japagen.llm.backends.openai_session import Session

_MOST_SLOTS = 64
_UNKNOWN_TERMS = OutputTerms("The server does not say: check the terms of the model it runs.")
_OPENAI_TERMS = OutputTerms(
    "OpenAI's terms restrict using output to develop models that compete with OpenAI: "
    "check that they allow what you train with this text.",
    "https://openai.com/policies/",
)


class OpenAIGenerator:
    """Answers requests through an OpenAI-compatible server.

    Args:
        model: The server's name for the model.
        base_url: The server's address, usually ending in ``/v1``; OpenAI's when None (the
            variable OPENAI_BASE_URL is not read: the task file alone says where texts go).
        api: ``chat`` answers chat turns, ``completions`` continues documents.
        api_key_env: The environment variable that holds the key. A server on this machine
            needs none.
        slots: Most requests at a time; 64 when None. Fewer are sent where the server slows down.
        timeout: Seconds after which an attempt is given up.
        deadline: Seconds from a request's first attempt after which it is given up.
        requests_per_minute: Most attempts sent in a minute; no bound when None.
        tokens_per_minute: Most tokens in a minute, prompts and ``max_tokens``; no bound when None.

    Raises:
        JapagenError: If the address is not http(s), or a server elsewhere has no key.
        MissingExtraError: If the package ``openai`` is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api: Literal["chat", "completions"] = "chat",
        api_key_env: str = "OPENAI_API_KEY",
        slots: int | None = None,
        timeout: float = 60.0,
        deadline: float = 300.0,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> None:
        if importlib.util.find_spec("openai") is None:
            raise MissingExtraError("openai", "openai", "An OpenAI-compatible server")
        self._endpoint = Endpoint.of(model, base_url, api, api_key_env, os.environ)
        self._slots = slots or _MOST_SLOTS
        self._timeout = timeout
        self._deadline = deadline
        self._pace = Pace(requests_per_minute, tokens_per_minute)
        self._capabilities = ServerCapabilities()
        self._sessions: set[Session] = set()

    @property
    def info(self) -> GeneratorInfo:
        """Who this generator is; what a server hides (weights, version) is not part of it."""
        endpoint = self._endpoint
        return GeneratorInfo(
            name=endpoint.model,
            identity=f"openai:{endpoint.url}:{endpoint.api}:{endpoint.model}",
            prompt_kind="chat" if endpoint.api == "chat" else "document",
            local=endpoint.local,
            terms=_OPENAI_TERMS if endpoint.is_openai else _UNKNOWN_TERMS,
        )

    def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answers every request exactly once, failures included, in order of completion.

        At most ``slots`` requests are taken from ``requests`` ahead of their answers. Closing
        the iterator stops the work in flight.

        Raises:
            JapagenError: If nothing can work: the server cannot be reached or has stopped
                answering, or it refuses the key, the model or the account.
        """
        from japagen.llm.backends.openai_session import Session

        session = Session(
            self._endpoint,
            self._capabilities,
            self._slots,
            self._timeout,
            self._deadline,
            self._pace,
        )
        self._sessions.add(session)
        try:
            yield from session.answers(iter(requests))
        finally:
            self._sessions.discard(session)
            session.stop()

    def count_tokens(self, text: str) -> int:
        """Estimates tokens: characters times the ratio seen in this server's own counts.

        Before the first answer the ratio is a rough figure for Japanese (0.8). A measured one
        includes the chat template's tokens, so it errs on the high side.
        """
        return self._capabilities.estimate(len(text))

    @property
    def scores_options(self) -> bool:
        """Answers to requests with options hold scores, where the server gives what they need."""
        return True

    def close(self) -> None:
        """Stops what is under way; calling it twice is harmless."""
        for session in list(self._sessions):
            session.stop()
