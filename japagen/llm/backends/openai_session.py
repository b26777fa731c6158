"""Sends requests with OpenAI's client: one by one on an event loop in a thread, or in batches.

Importing this module imports ``openai``.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import openai

from japagen.data.files import parse_json
from japagen.errors import JapagenError
from japagen.llm.backend import MOST_REPLIES, Answer, Request
from japagen.llm.backends.batches import Batch
from japagen.llm.backends.openai_protocol import (
    Failure,
    Usage,
    answer_of,
    batch_line,
    failed_answer,
    prompt_of,
    read_failure,
)
from japagen.llm.backends.openai_server import Endpoint, Gate, Line, Server

_CONNECT_SECONDS = 10.0
_MOST_FAILED_CONNECTIONS = 4
_MOST_ATTEMPTS = 100
# Rounds of failures, no success between them, after which an endpoint among others is dropped, and
# how long it is left alone: each time twice as long.
_MOST_SETBACKS = 3
_FIRST_REST, _LONGEST_REST = 1.0, 120.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_STOP_SECONDS = 5.0
# How the client's `with_raw_response` marks a request.
_RAW_RESPONSE = "X-Stainless-Raw-Response"
# By name, since the client has changed its HTTP library (httpx, httpx2).
_CONNECT_ERRORS = ("ConnectError", "ConnectTimeout")


@dataclass
class _Lane:
    """One of the servers that a stream asks.

    Attributes:
        server: The server; what is known of it is added to.
        gate: How many requests it gets.
        client: How it is reached.
        failing_since: Loop time since which it has answered nothing.
        setbacks: Rounds of failures since then.
        rest: Seconds that it was last left alone for; 0 where it is not dropped.
        told: Whether the user knows that it was dropped.
    """

    server: Server
    gate: Gate
    client: openai.AsyncOpenAI = field(init=False)
    failing_since: float | None = None
    setbacks: int = 0
    rest: float = 0.0
    told: bool = False

    def __post_init__(self) -> None:
        self.client = _client(self.server.endpoint)

    def clean(self, failure: Failure) -> str:
        """The reason of a failure as it may be shown."""
        return self.server.endpoint.clean(failure.reason)


class Session:
    """One stream: an event loop in a thread, and the requests under way.

    Each attempt goes to the server that is the least loaded for what it bears. One among others
    that cannot be reached, or fails again and again, is dropped: its requests go to the others,
    and it gets one again after a pause, which grows until that one is answered.

    Args:
        servers: Whom to ask; what is known of them is added to.
        slots: Most requests at a time to each.
        on_send: As of `Announcer`.
        note: Told of servers that are dropped and taken up again.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        slots: int,
        on_send: Callable[[Request, bool], None],
        note: Callable[[str], None],
    ) -> None:
        self._lanes = [_Lane(server, Gate(slots)) for server in servers]
        self._line = Line([lane.gate for lane in self._lanes])
        self._slots = slots * len(servers)
        self._on_send = on_send
        self._note = note
        self._stopped = False
        self._stopping = threading.Lock()
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

    def load(self) -> dict[str, tuple[int, int]]:
        """As of `Announcer`."""
        now = self._loop.time()
        return {
            lane.server.endpoint.url: (lane.gate.active, lane.gate.room_at(now))
            for lane in self._lanes
        }

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
        for lane in self._lanes:
            await lane.client.close()

    async def _answer(self, request: Request) -> Answer:
        """Tries until there is a text, a verdict or no time left.

        The time runs from the first attempt: waiting for a first turn is not the server's fault.
        """
        clock = self._loop.time
        began = 0.0
        until: float | None = None
        usage = Usage()
        failure, lane = Failure("no attempt was made"), self._lanes[0]
        attempts = empty = 0
        reached = False
        while attempts < _MOST_ATTEMPTS:
            try:
                async with self._line.turn(until) as number:
                    lane = self._lanes[number]
                    server = lane.server
                    await server.pace.wait(server.most_tokens(request), until)
                    began = began or clock()
                    until = began + server.patience.deadline
                    attempts += 1
                    if not reached:
                        self._on_send(request, True)
                    try:
                        outcome = await self._attempt(lane, request, usage, until)
                    except JapagenError:
                        self._shut()
                        raise
            except TimeoutError:
                break
            if isinstance(outcome, Answer):
                return outcome
            reached = reached or outcome.reached
            if not reached:
                self._on_send(request, False)
            until = began + server.patience.deadline
            # An attempt that the deadline cut short says less than the one before it.
            if attempts == 1 or clock() < until:
                failure = outcome
            self._check_reach(lane, failure, attempts)
            empty += failure.retry == "again"
            pause = _pause(failure, attempts)
            out_of_time = clock() + pause >= until
            if failure.retry == "never" or empty == MOST_REPLIES or out_of_time:
                break
            await asyncio.sleep(pause)
        self._check_progress(lane, failure)
        reason, seconds = lane.clean(failure), clock() - began
        if attempts > 1:
            reason += f" (given up after {attempts} attempts in {seconds:.0f} s)"
        return failed_answer(request, reason, usage, seconds)

    def _shut(self) -> None:
        """Sends nothing more: the stream is about to end with an error."""
        for lane in self._lanes:
            lane.gate.shut()

    async def _attempt(
        self, lane: _Lane, request: Request, usage: Usage, until: float
    ) -> Answer | Failure:
        """Sends a request once and tells the gate how it went."""
        sent, server = self._loop.time(), lane.server
        try:
            answer = await self._exchange(lane, request, usage, until - sent)
        except Failure as failure:
            if failure.astray and not (server.answered or server.endpoint.usual):
                raise server.endpoint.wrong(lane.clean(failure)) from None
            if failure.retry == "later":
                lane.failing_since = lane.failing_since or sent
                self._set_back(lane, failure, sent)
            else:
                lane.failing_since, lane.setbacks = None, 0
            return failure
        server.answered = True
        lane.failing_since, lane.setbacks = None, 0
        if lane.rest and lane.told:
            self._note(f"{server.endpoint.url} answers again.")
        lane.gate.speed_up(afresh=bool(lane.rest))
        lane.rest = 0.0
        seconds = self._loop.time() - sent
        server.patience.answered(seconds)
        return replace(answer, seconds=seconds)

    def _set_back(self, lane: _Lane, failure: Failure, sent: float) -> None:
        """Gives a server that failed fewer requests, or none for a while if there are others."""
        alone = len(self._lanes) == 1
        # Where the rest asked for outlasts the deadline, waiting helps no request of the only one.
        patient = failure.after is not None and failure.after < lane.server.patience.deadline
        is_new = lane.gate.slow_down(sent, failure.after if patient or not alone else None)
        if alone:
            return
        failure.after = None  # it is the server's, and the request goes to another one
        lane.setbacks += is_new
        if is_new and (not failure.reached or lane.setbacks >= _MOST_SETBACKS):
            if not lane.told:
                self._note(
                    f"{lane.server.endpoint.url} does not answer ({lane.clean(failure)}): the "
                    "other endpoints take its requests, and it is tried again later."
                )
                lane.told = True
            lane.rest = min(_LONGEST_REST, 2 * lane.rest or _FIRST_REST)
            lane.gate.rest(lane.rest)

    async def _exchange(
        self, lane: _Lane, request: Request, usage: Usage, seconds: float
    ) -> Answer:
        """Sends a request once and returns what came, or raises `Failure`."""
        server, patience = lane.server, lane.server.patience
        prompt, options = prompt_of(request, server.endpoint.api), server.options(request)
        seconds, sent = min(patience.timeout, seconds), self._loop.time()
        try:
            # The client's own timeouts are for each read: a server that trickles never trips them.
            async with asyncio.timeout(seconds):
                body = await _post(lane, prompt, options)
        except (TimeoutError, openai.APIError, UnicodeEncodeError) as caught:
            error = caught
        else:
            server.heard = True
            return _read(server, body, request, usage)
        if isinstance(error, TimeoutError):
            patience.timed_out(sent, self._loop.time())
        # Outside the handler, or a traceback of ours would show the client's error too, and what
        # the server said in it may quote the key.
        raise _judge(server, error, options, seconds)

    def _check_reach(self, lane: _Lane, failure: Failure, attempt: int) -> None:
        """Raises when no server was ever there."""
        if failure.reached or attempt < _MOST_FAILED_CONNECTIONS:
            return
        if any(one.server.heard or one.failing_since is None for one in self._lanes):
            return
        raise JapagenError(
            f"Cannot reach {self._urls} ({lane.clean(failure)}).",
            "Check generator.base_url, and that the server is running.",
        )

    def _check_progress(self, lane: _Lane, failure: Failure) -> None:
        """Raises where nothing speaks the API, or all have long stopped answering."""
        if failure.astray and not lane.server.answered:
            self._shut()
            raise lane.server.endpoint.wrong(lane.clean(failure))
        since = [one.failing_since for one in self._lanes if one.failing_since is not None]
        if failure.retry != "later" or len(since) < len(self._lanes):
            return
        silence = self._loop.time() - max(since)
        if silence > 2 * lane.server.patience.deadline:
            self._shut()
            raise JapagenError(
                f"{self._urls} has answered nothing for {silence:.0f} s ({lane.clean(failure)}).",
                "Look after the server, then run the same command again: what is answered is kept.",
            )

    @property
    def _urls(self) -> str:
        return ", ".join(lane.server.endpoint.url for lane in self._lanes)


def _read(server: Server, body: bytes, request: Request, usage: Usage) -> Answer:
    try:
        reply = parse_json(body.decode("utf-8-sig"))
    except ValueError:
        if not body.lstrip().startswith(b"<"):
            said = body[:1000].decode(errors="replace")
            raise Failure(f"the reply is not JSON: {said}", "again") from None
        raise Failure("the reply is a web page", "again", astray=True) from None
    return answer_of(reply, request, server, usage)


def _judge(server: Server, error: Exception, options: dict[str, Any], seconds: float) -> Failure:
    """Says what an error of the client means; raises `JapagenError` if nothing can work."""
    reached = type(error.__cause__).__name__ not in _CONNECT_ERRORS
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return Failure(f"no answer within {seconds:.3g} s", "later", reached=reached)
    if isinstance(error, UnicodeEncodeError):
        return Failure("the prompt holds characters that UTF-8 cannot carry")
    if isinstance(error, openai.APIStatusError):
        server.heard = True
        status, said = error.status_code, error.response.text
        if server.drops(status, said, options):
            return Failure(f"HTTP {status}: {said}", "now")
        # A redirect made a GET of the request; 405 is a website's.
        moved = [f"HTTP {r.status_code}" for r in error.response.history if r.status_code < 307]
        if moved or status == 405:
            raise server.endpoint.wrong(", ".join([*moved, f"HTTP {status}"]))
        return read_failure(status, error.response.headers, said, server.endpoint)
    cause = error.__cause__ or error
    return Failure(f"{type(cause).__name__}: {cause}", "later", reached=reached)


async def _post(lane: _Lane, prompt: dict[str, Any], options: dict[str, Any]) -> bytes:
    endpoint = lane.server.endpoint
    # Not by way of `chat.completions.create`: that walks through every message to rewrite
    # what it may hold, which takes a fifth of a request's work. And the raw response, since
    # the client's models let a malformed body through unchecked.
    response: Any = await lane.client.post(
        endpoint.path,
        body={"model": endpoint.model, **prompt, **options},
        cast_to=object,
        options={"headers": _headers(endpoint)},
    )
    content: bytes = response.http_response.content
    return content


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


def _sync_client(endpoint: Endpoint, **other: Any) -> openai.OpenAI:
    """A client for single calls; ``other`` options take the place of the usual ones."""
    http_client = openai.DefaultHttpxClient(trust_env=False) if endpoint.local else None
    return openai.OpenAI(http_client=http_client, **{**_client_options(endpoint), **other})


def list_models(endpoint: Endpoint) -> list[str]:
    """Names of the models that a server lists; none where nothing can be had of it."""
    with _sync_client(endpoint) as client:
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


class OpenAIBatches:
    """OpenAI's batches, as of `BatchApi`: a file of requests, and files of rows.

    Args:
        server: Whom to ask.
        retries: How often a call is tried again.
    """

    errors: tuple[type[Exception], ...] = (openai.APIError,)

    def __init__(self, server: Server, retries: int) -> None:
        self._server = server
        how: dict[str, Any] = {"timeout": openai.NOT_GIVEN, "max_retries": retries}
        self._client = _sync_client(server.endpoint, **how)
        self.close = self._client.close

    def submit(self, key: str, requests: Sequence[Request]) -> str:
        """Uploads requests and starts a batch of them."""
        lines = "\n".join(batch_line(request, self._server) for request in requests)
        file = (f"japagen-{key}.jsonl", lines.encode())
        uploaded = self._client.files.create(file=file, purpose="batch")
        batch = self._client.batches.create(
            input_file_id=uploaded.id,
            endpoint=self._server.endpoint.batch_url,  # type: ignore[arg-type]
            completion_window="24h",
            metadata={"japagen": key},
        )
        return batch.id

    def since(self, moment: float) -> Iterator[Batch]:
        """The batches begun since, the newest first."""
        for batch in self._client.batches.list(limit=100):
            if (batch.created_at or 0) < moment:
                return
            yield _batch(batch)

    def look(self, batch_id: str) -> Batch:
        """A batch as it is now."""
        return _batch(self._client.batches.retrieve(batch_id))

    def download(self, name: str) -> bytes:
        """A file of rows."""
        return self._client.files.content(name).content

    def row(self, line: Any) -> Any:
        """A row as it is."""
        return line

    def delete(self, name: str) -> None:
        """Deletes a file."""
        self._client.files.delete(name)


def _batch(found: Any) -> Batch:
    results = tuple(filter(None, (found.output_file_id, found.error_file_id)))
    errors = (found.errors and found.errors.data) or []
    return Batch(
        id=found.id,
        state=found.status,
        ended=found.status in ("completed", "failed", "expired", "cancelled"),
        whole=found.status == "completed",
        said="; ".join(filter(None, (e.message for e in errors[:3]))),
        results=results,
        kept=tuple(filter(None, (found.input_file_id, *results))),
        key=(found.metadata or {}).get("japagen", ""),
    )


def _pause(failure: Failure, attempt: int) -> float:
    """Seconds to wait: exponential backoff with jitter, and never less than was asked for."""
    if failure.retry == "now":
        return 0.0
    backoff = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (attempt - 1))
    return (failure.after or 0.0) + backoff * random.uniform(0.5, 1.0)
