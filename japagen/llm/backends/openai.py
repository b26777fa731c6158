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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from japagen.config.generation import GeneratorSettings
from japagen.errors import JapagenError, MissingExtraError
from japagen.japanese.registers import Register
from japagen.llm.answers import read_answer, read_label
from japagen.llm.backend import (
    Answer,
    Generator,
    GeneratorInfo,
    Message,
    OutputTerms,
    Prompt,
    Request,
    Sampling,
)
from japagen.llm.backends.batches import BatchGenerator, BatchStream
from japagen.llm.backends.openai_server import Server
from japagen.llm.backends.replay import ReplayGenerator

if TYPE_CHECKING:
    from japagen.llm.backends.offline import Files
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
        settings: Of the backend ``openai``; see `GeneratorSettings`. Several servers share the
            requests, each with its own slots (64 unless set; fewer are used where it slows down)
            and bounds for a minute; which of them answers makes no difference. The variable
            OPENAI_BASE_URL is not read: the task file alone says where texts go.
        deadline: Seconds from a request's first attempt after which it is given up; by the
            time-out when None.
        batches: Where what was submitted is noted; without it nothing goes by the batch API.
        files: What is answered from a file, and written to one.
        note: Told what the user should know while waiting.

    Attributes:
        on_send: As of `Announcer`.
        scores_options: Answers hold scores where the server gives what they need.

    Raises:
        JapagenError: If the address is not http(s), or a server elsewhere has no key.
        MissingExtraError: If the package ``openai`` is not installed.
    """

    scores_options = True

    def __init__(
        self,
        settings: GeneratorSettings,
        *,
        deadline: float | None = None,
        batches: Path | None = None,
        files: Files | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        if importlib.util.find_spec("openai") is None:
            raise MissingExtraError("openai", "openai", "An OpenAI-compatible server")
        urls = settings.base_url
        self._one = not isinstance(urls, tuple)
        self._servers = [
            Server(settings, url, deadline) for url in (urls if isinstance(urls, tuple) else [urls])
        ]
        self.on_send: Callable[[Request, bool], None] = lambda request, sent: None
        self._batches = batches if settings.batch else None
        self._files = files
        self._note = note
        self._slots = settings.slots or _MOST_SLOTS
        self._sessions: set[Session] = set()

    @property
    def info(self) -> GeneratorInfo:
        """Who this generator is; what a server hides (weights, version) is not part of it.

        By the batch API it is the same one: what that has answered need not be asked again.
        """
        endpoints = [server.endpoint for server in self._servers]
        endpoint = endpoints[0]
        return GeneratorInfo(
            name=endpoint.model,
            identity=endpoint.identity if self._one else endpoint.identity_at(""),
            prompt_kind="chat" if endpoint.api == "chat" else "document",
            local=all(one.local for one in endpoints),
            terms=_OPENAI_TERMS if any(one.is_openai for one in endpoints) else _UNKNOWN_TERMS,
            resumable=self._writes or self._batches is not None,
        )

    @property
    def _writes(self) -> bool:
        """Whether requests are written to a file: there they wait for the answers."""
        return self._files is not None and self._files.requests is not None

    def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answers every request exactly once, failures included, in order of completion.

        At most ``slots`` requests are taken from ``requests`` ahead of their answers. Closing
        the iterator stops the work in flight; batches run on, and the next stream that is asked
        for the same requests takes them up.

        Raises:
            AwaitedError: If requests were written to a file.
            JapagenError: If nothing can work: the server cannot be reached or has stopped
                answering, or it refuses the key, the model or the account.
        """
        if self._files:
            requests = yield from self._files.answered(requests, self._servers[0])
        if self._batches is not None:
            from japagen.llm.backends.openai_session import OpenAIBatches

            how = (self._batches, self._note, self.on_send)
            yield from BatchStream(self._servers[0], OpenAIBatches, *how).answers(requests)
            return
        from japagen.llm.backends.openai_session import Session

        session = Session(
            self._servers,
            self._slots,
            lambda request, sent: self.on_send(request, sent),
            self._note,
        )
        self._sessions.add(session)
        try:
            yield from session.answers(iter(requests))
        finally:
            self._sessions.discard(session)
            session.stop()

    @property
    def refused(self) -> frozenset[str]:
        """Options that a server has refused so far."""
        return frozenset[str]().union(*(s.refused for s in self._servers))

    def models(self) -> list[str]:
        """Names of the models that every server lists; none where one lists none."""
        from japagen.llm.backends.openai_session import list_models

        first, *others = (list_models(server.endpoint) for server in self._servers)
        return [name for name in first if all(name in other for other in others)]

    def count_tokens(self, text: str) -> int:
        """Estimates tokens: characters times the ratio seen in this server's own counts.

        Before the first answer the ratio is a rough figure for Japanese (0.8). A measured one
        includes the chat template's tokens, so it errs on the high side.
        """
        # By the server that has counted most: they run the same model.
        seen = max(self._servers, key=lambda server: server.characters)
        return seen.estimate(len(text))

    def load(self) -> dict[str, tuple[int, int]]:
        """As of `Announcer`; empty where nothing is asked one by one."""
        return {
            url: load for session in list(self._sessions) for url, load in session.load().items()
        }

    def close(self) -> None:
        """Stops what is under way; calling it twice is harmless."""
        for session in list(self._sessions):
            session.stop()


_LABELS = ("配送", "返品")
_WRITE = (
    Message(
        "user",
        "商品の配送についての問い合わせを1件、日本語の1文で書いてください。\n"
        '次の形の JSON だけを返してください: {"text": "…"}',
    ),
)
_CHOOSE = (
    Message(
        "user",
        "「荷物がまだ届きません。」は配送と返品のどちらについての文ですか。\n"
        '次の形の JSON だけを返してください: {"label": "…"}',
    ),
)
_DOCUMENT = "問い合わせの例\n- サイズを交換できますか。\n- 再配達を頼みたいです。\n- "


def probe(generator: Generator, model: str) -> Iterator[tuple[str, str, str]]:
    """Asks a generator for a text and a label, and its server what models it has.

    A record of answers is not asked, but counted.

    Args:
        generator: Whom to ask.
        model: What its server calls the model.

    Yields:
        What was tried, its state (``ok``, ``refused``, ``unknown`` or ``failed``) and details.
    """
    if isinstance(generator, ReplayGenerator):
        answered, failed = generator.counts
        found = f"{answered} answers of {generator.info.name}, {failed} failures"
        yield "record", "ok" if answered else "failed", found
        told = "Recorded answers answer the prompts that they were given to alone: none was tried."
        yield "answers", "unknown", told
        return
    chat = generator.info.prompt_kind == "chat"
    server = generator if isinstance(generator, OpenAIGenerator) else None
    try:
        if isinstance(generator, OpenAIGenerator | BatchGenerator):
            names = generator.models()
            yield "models", "ok" if model in names else "unknown", ", ".join(names[:10])
        if isinstance(generator, BatchGenerator):
            yield "answers", "unknown", "It is asked by batches alone; none was sent."
            return
        request, answer = _asked(generator, _WRITE if chat else _DOCUMENT)
    except JapagenError as error:
        yield "answers", "failed", str(error).replace("\n", " ")
        return
    tokens = f"{answer.prompt_tokens} + {answer.completion_tokens} tokens"
    yield "answers", "failed" if answer.error else "ok", answer.error or tokens
    if answer.error:
        return
    yield "seconds for a text", "ok", f"{answer.seconds:.1f}"
    text, rejected = read_answer(request, answer)
    yield "text", "failed" if rejected else "ok", f"{rejected.detail}: {text}" if rejected else text
    if server and chat:
        refused = "response_format" in server.refused
        yield "JSON schema", "refused" if refused else "ok", ""
        _, named = _asked(generator, _CHOOSE, _LABELS)
        label = named.error or read_label(named.text, _LABELS) or named.text
        yield "label", "ok" if label in _LABELS else "failed", label
        state = "ok" if named.scores else "unknown"
        yield "log-probabilities", "refused" if "logprobs" in server.refused else state, ""
    if server and server.refused:
        yield "options left out", "refused", ", ".join(sorted(server.refused))


def _asked(
    generator: Generator, prompt: Prompt, options: tuple[str, ...] = ()
) -> tuple[Request, Answer]:
    # Enough for a model that thinks first.
    sampling = Sampling(max_tokens=1000, stop=("\n",) if isinstance(prompt, str) else ())
    request = Request("probe", prompt, sampling, 0, "", Register(), "probe", options=options)
    return request, next(iter(generator.stream([request])))
