"""Sends requests with the official client, on an event loop in a thread of its own.

Importing this module imports ``openai``.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import islice
from typing import Any

import openai

from japagen.data.files import parse_json
from japagen.errors import JapagenError
from japagen.llm.backend import MOST_REPLIES, Answer, Request
from japagen.llm.backends.openai_protocol import (
    Endpoint,
    Failure,
    ServerCapabilities,
    Usage,
    answer_of,
    failed_answer,
    options_of,
    prompt_of,
    read_failure,
)
from japagen.llm.backends.rate_limit import Gate, Pace, Patience

_CONNECT_SECONDS = 10.0
_MOST_FAILED_CONNECTIONS = 4
_MOST_ATTEMPTS = 100
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_STOP_SECONDS = 5.0
# How the client's `with_raw_response` marks a request.
_RAW_RESPONSE = "X-Stainless-Raw-Response"
# By name, since the client has changed its HTTP library (httpx, httpx2).
_CONNECT_ERRORS = ("ConnectError", "ConnectTimeout")


class Session:
    """One stream: a client, an event loop in a thread, and the requests under way.

    Args:
        endpoint: Whom to ask.
        capabilities: What is known of the server; added to.
        slots: Most requests at a time.
        patience: How long to wait for answers.
        pace: How fast attempts may follow each other.
        on_send: As of `Announcer`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        capabilities: ServerCapabilities,
        slots: int,
        patience: Patience,
        pace: Pace,
        on_send: Callable[[Request, bool], None],
    ) -> None:
        self._endpoint = endpoint
        self._capabilities = capabilities
        self._slots = slots
        self._patience = patience
        self._on_send = on_send
        self._gate = Gate(slots)
        self._pace = pace
        self._failing_since: float | None = None
        self._stopped = False
        self._stopping = threading.Lock()
        self._client = _client(endpoint)
        self._loop = asyncio.new_event_loop()
        # Looks up host names; the loop's own would leave its threads behind.
        self._executor = ThreadPoolExecutor(4, "japagen-lookup")
        self._loop.set_default_executor(self._executor)
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="japagen-openai", daemon=True
        )
        self._thread.start()

    def answers(self, requests: Iterator[Request]) -> Iterator[Answer]:
        """Yields answers as they come; `requests` is read in the caller's thread."""
        waiting: set[Future[Answer]] = set()
        while not self._stopped:
            for request in islice(requests, self._slots - len(waiting)):
                # Under the lock: nothing would ever finish what comes after the last stop.
                with self._stopping:
                    if self._stopped:
                        break
                    answer = self._answer(request)
                    waiting.add(asyncio.run_coroutine_threadsafe(answer, self._loop))
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            done = {future for future in done if not future.cancelled()}
            # Answers in hand are paid for: they go out before the error that ends the stream.
            yield from [future.result() for future in done if not future.exception()]
            for future in done:
                future.result()

    def stop(self) -> None:
        """Calls off what is under way and ends the thread; calling it twice is harmless."""
        with self._stopping:
            if self._stopped:
                return
            self._stopped = True
        wait([asyncio.run_coroutine_threadsafe(self._call_off(), self._loop)], _STOP_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()
        # Not waited for: nothing can call off a look-up that hangs.
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _call_off(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    async def _answer(self, request: Request) -> Answer:
        """Tries until there is a text, a verdict or no time left.

        The time runs from the first attempt: waiting for a first turn is not the server's fault.
        """
        clock = self._loop.time
        began = 0.0
        until: float | None = None
        usage = Usage()
        failure = Failure("no attempt was made")
        attempts = empty = 0
        reached = False
        while attempts < _MOST_ATTEMPTS:
            try:
                async with self._gate.turn(until):
                    await self._pace.wait(self._capabilities.most_tokens(request), until)
                    began = began or clock()
                    until = began + self._patience.deadline
                    attempts += 1
                    if not reached:
                        self._on_send(request, True)
                    outcome = await self._attempt(request, usage, until)
            except TimeoutError:
                break
            if isinstance(outcome, Answer):
                return outcome
            reached = reached or outcome.reached
            if not reached:
                self._on_send(request, False)
            until = began + self._patience.deadline
            # An attempt that the deadline cut short says less than the one before it.
            if attempts == 1 or clock() < until:
                failure = outcome
            self._check_reach(failure, attempts)
            empty += failure.retry == "again"
            pause = _pause(failure, attempts)
            out_of_time = clock() + pause >= until
            if failure.retry == "never" or empty == MOST_REPLIES or out_of_time:
                break
            await asyncio.sleep(pause)
        if failure.astray and not self._capabilities.answered:
            self._gate.shut()
            raise self._endpoint.wrong(self._endpoint.clean(failure.reason))
        self._check_progress(failure)
        reason, seconds = self._endpoint.clean(failure.reason), clock() - began
        if attempts > 1:
            reason += f" (given up after {attempts} attempts in {seconds:.0f} s)"
        return failed_answer(request, reason, usage, seconds)

    async def _attempt(self, request: Request, usage: Usage, until: float) -> Answer | Failure:
        """Sends a request once and tells the gate how it went."""
        sent = self._loop.time()
        try:
            answer = await self._exchange(request, usage, until - sent)
        except Failure as failure:
            if failure.astray and not (self._capabilities.answered or self._endpoint.usual):
                self._gate.shut()
                raise self._endpoint.wrong(self._endpoint.clean(failure.reason)) from None
            if failure.retry != "later":
                self._failing_since = None
                return failure
            if self._failing_since is None:
                self._failing_since = sent
            # Where the rest asked for outlasts the deadline, waiting helps no request.
            patient = failure.after is not None and failure.after < self._patience.deadline
            self._gate.slow_down(sent, failure.after if patient else None)
            return failure
        except JapagenError:
            self._gate.shut()
            raise
        self._capabilities.answered = True
        self._failing_since = None
        self._gate.speed_up()
        seconds = self._loop.time() - sent
        self._patience.answered(seconds)
        return replace(answer, seconds=seconds)

    async def _exchange(self, request: Request, usage: Usage, seconds: float) -> Answer:
        """Sends a request once and returns what came, or raises `Failure`."""
        endpoint, capabilities = self._endpoint, self._capabilities
        prompt = prompt_of(request, endpoint.api)
        options = options_of(request, endpoint, capabilities.refused)
        seconds, sent = min(self._patience.timeout, seconds), self._loop.time()
        try:
            # The client's own timeouts are for each read: a server that trickles never trips them.
            async with asyncio.timeout(seconds):
                body = await self._post(prompt, options)
        except (TimeoutError, openai.APIError, UnicodeEncodeError) as caught:
            error = caught
        else:
            capabilities.heard = True
            return self._read(body, request, usage)
        if isinstance(error, TimeoutError):
            self._patience.timed_out(sent, self._loop.time())
        # Outside the handler, or a traceback of ours would show the client's error too, and what
        # the server said in it may quote the key.
        raise self._judge(error, options, seconds)

    def _read(self, body: bytes, request: Request, usage: Usage) -> Answer:
        try:
            reply = parse_json(body.decode("utf-8-sig"))
        except ValueError:
            if not body.lstrip().startswith(b"<"):
                said = body[:1000].decode(errors="replace")
                raise Failure(f"the reply is not JSON: {said}", "again") from None
            raise Failure("the reply is a web page", "again", astray=True) from None
        return answer_of(reply, request, self._endpoint, self._capabilities, usage)

    def _judge(self, error: Exception, options: dict[str, Any], seconds: float) -> Failure:
        """Says what an error of the client means; raises `JapagenError` if nothing can work."""
        reached = type(error.__cause__).__name__ not in _CONNECT_ERRORS
        if isinstance(error, TimeoutError | openai.APITimeoutError):
            return Failure(f"no answer within {seconds:.3g} s", "later", reached=reached)
        if isinstance(error, UnicodeEncodeError):
            return Failure("the prompt holds characters that UTF-8 cannot carry")
        if isinstance(error, openai.APIStatusError):
            self._capabilities.heard = True
            status, said = error.status_code, error.response.text
            if self._capabilities.drops(status, said, options, self._endpoint):
                return Failure(f"HTTP {status}: {said}", "now")
            # A redirect made a GET of the request; 405 is a website's.
            moved = [f"HTTP {r.status_code}" for r in error.response.history if r.status_code < 307]
            if moved or status == 405:
                raise self._endpoint.wrong(", ".join([*moved, f"HTTP {status}"]))
            return read_failure(status, error.response.headers, said, self._endpoint)
        cause = error.__cause__ or error
        return Failure(f"{type(cause).__name__}: {cause}", "later", reached=reached)

    async def _post(self, prompt: dict[str, Any], options: dict[str, Any]) -> bytes:
        # Not by way of `chat.completions.create`: that walks through every message to rewrite
        # what it may hold, which takes a fifth of a request's work. And the raw response, since
        # the client's models let a malformed body through unchecked.
        response: Any = await self._client.post(
            self._endpoint.path,
            body={"model": self._endpoint.model, **prompt, **options},
            cast_to=object,
            options={"headers": _headers(self._endpoint)},
        )
        content: bytes = response.http_response.content
        return content

    def _check_reach(self, failure: Failure, attempt: int) -> None:
        """Raises when the server was never there."""
        if failure.reached or self._capabilities.heard or attempt < _MOST_FAILED_CONNECTIONS:
            return
        raise JapagenError(
            f"Cannot reach {self._endpoint.url} ({self._endpoint.clean(failure.reason)}).",
            "Check generator.base_url, and that the server is running.",
        )

    def _check_progress(self, failure: Failure) -> None:
        """Raises when the server has long stopped answering, so that nobody waits for hours."""
        since = self._failing_since
        if failure.retry != "later" or since is None:
            return
        silence = self._loop.time() - since
        if silence > 2 * self._patience.deadline:
            raise JapagenError(
                f"{self._endpoint.url} has answered nothing for {silence:.0f} s "
                f"({self._endpoint.clean(failure.reason)}).",
                "Look after the server, then run the same command again: what is answered is kept.",
            )


def _client_options(endpoint: Endpoint) -> dict[str, Any]:
    """How a client of either kind is to reach a server."""
    return {
        "api_key": endpoint.key,
        "base_url": endpoint.url,
        # How long a whole attempt may take is not the client's to say.
        "timeout": openai.Timeout(None, connect=_CONNECT_SECONDS),
        "max_retries": 0,
        # One connection a request: on a reused one, a server or proxy that sends a response twice
        # answers every later request with an earlier one's text, under the wrong label. (The
        # client does not notice.) The handshake is small beside the time a model takes.
        "default_headers": {"Connection": "close", **endpoint.headers},
        "default_query": dict(endpoint.query),
    }


def _headers(endpoint: Endpoint) -> dict[str, Any]:
    """Headers of a request whose response is wanted as it came, with the key if there is one."""
    key = {} if endpoint.has_key else {"Authorization": openai.Omit()}
    return {_RAW_RESPONSE: "true", **key}


def _client(endpoint: Endpoint) -> openai.AsyncOpenAI:
    http_client = None
    if endpoint.local:
        # A proxy from the environment is of no use for a server on this machine. Over plain HTTP
        # no certificate is looked at, and reading the store is most of the time a client takes.
        is_plain = endpoint.url.lower().startswith("http:")
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else True
        http_client = openai.DefaultAsyncHttpxClient(trust_env=False, verify=verify)
    return openai.AsyncOpenAI(http_client=http_client, **_client_options(endpoint))


def sync_client(endpoint: Endpoint, **other: Any) -> openai.OpenAI:
    """A client for single calls; ``other`` options take the place of the usual ones."""
    http_client = openai.DefaultHttpxClient(trust_env=False) if endpoint.local else None
    return openai.OpenAI(http_client=http_client, **{**_client_options(endpoint), **other})


def list_models(endpoint: Endpoint) -> list[str]:
    """Names of the models that a server lists; none where nothing can be had of it."""
    with sync_client(endpoint) as client:
        how: Any = {"headers": _headers(endpoint), "timeout": _CONNECT_SECONDS}
        try:
            response: Any = client.get("/models", cast_to=object, options=how)
            found = parse_json(response.http_response.text)
        except (openai.APIError, ValueError):
            return []
    listed = found.get("data") or found.get("models") if isinstance(found, dict) else found
    rows = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    names = [row.get("id") or row.get("name") for row in rows]
    return [name for name in names if isinstance(name, str)]


def _pause(failure: Failure, attempt: int) -> float:
    """Seconds to wait: exponential backoff with jitter, and never less than was asked for."""
    if failure.retry == "now":
        return 0.0
    backoff = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (attempt - 1))
    return (failure.after or 0.0) + backoff * random.uniform(0.5, 1.0)
