"""Servers that speak OpenAI's API: where they are, and what they bear, found out while sending."""

from __future__ import annotations

import asyncio
import heapq
import ipaddress
import itertools
import logging
import math
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from japagen.config.generation import GeneratorSettings
from japagen.data.files import digest
from japagen.errors import JapagenError
from japagen.llm.answers import one_line
from japagen.llm.backend import TOKENS_PER_CHARACTER, Request, prompt_texts
from japagen.llm.backends.openai_protocol import options_of, refused_option

_log = logging.getLogger(__name__)

_FIRST_LIMIT = 4


class Gate:
    """How many requests a server gets at a time: as many as it bears.

    The limit follows TCP's congestion control (RFC 5681): it grows by one with each success
    until the first setback, by one per round of successes after it, and halves with a setback.
    All methods belong to the event loop's thread.

    Args:
        most: The limit never exceeds this.

    Attributes:
        limit: Requests let through at a time, rounded down.
        active: Requests that are through.
        changed: Called where one more may be let through.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(min(_FIRST_LIMIT, most))
        self.active = 0
        self.changed: Callable[[], None] = lambda: None
        self._slowed_at: float | None = None
        self._opens_at = 0.0

    def room_at(self, now: float) -> int:
        """Requests that it holds at a loop time, those let through included; none while closed."""
        return int(self.limit) if now >= self._opens_at else 0

    @property
    def has_room(self) -> bool:
        """Whether another request may be let through now."""
        return self.active < self.room_at(asyncio.get_running_loop().time())

    def speed_up(self, *, afresh: bool = False) -> None:
        """Takes note of a success; ``afresh`` where it ends a rest, which tells of no overload."""
        if afresh:
            self._slowed_at = None
        step = 1.0 if self._slowed_at is None else 1.0 / self.limit
        self.limit = min(float(self.most), self.limit + step)
        self.changed()

    def slow_down(self, sent_at: float, pause: float | None = None) -> bool:
        """Takes note of a sign of overload.

        Requests that were under way together tell of the same overload, so only one of them
        halves the limit.

        Args:
            sent_at: Loop time at which the failed request was sent.
            pause: Seconds for which the server asked to be left alone; nobody is let in.

        Returns:
            Whether it is the one.
        """
        is_first = self._slowed_at is None or sent_at > self._slowed_at
        if is_first:
            self.limit = max(1.0, self.limit / 2)
            self._slowed_at = asyncio.get_running_loop().time()
        if pause:
            self._close(pause)
        return is_first

    def rest(self, seconds: float) -> None:
        """Lets nobody in for some time, and then one."""
        self.limit = 1.0
        self._close(seconds)

    def _close(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() + seconds > self._opens_at:
            self._opens_at = loop.time() + seconds
            loop.call_at(self._opens_at, lambda: self.changed())

    def shut(self) -> None:
        """Lets nobody in any more."""
        self._opens_at = math.inf


class Line:
    """Requests that wait for a turn at one of several gates, the least loaded first.

    A request that comes back for another attempt goes before those never sent, because its
    deadline is running.

    Args:
        gates: Where they wait.
    """

    def __init__(self, gates: Sequence[Gate]) -> None:
        self._gates = gates
        self._order = itertools.count()
        self._queue: list[tuple[bool, int, asyncio.Future[int]]] = []
        for gate in gates:
            gate.changed = self._admit

    @asynccontextmanager
    async def turn(self, until: float | None) -> AsyncIterator[int]:
        """Waits for a turn and holds it; yields the number of its gate.

        Args:
            until: Loop time at which to stop waiting; None for a request never sent before.

        Raises:
            TimeoutError: If there was no turn by then.
        """
        async with asyncio.timeout_at(until):
            number = await self._enter(fresh=until is None)
        try:
            yield number
        finally:
            self._leave(number)

    async def _enter(self, *, fresh: bool) -> int:
        waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (fresh, next(self._order), waiter))
        self._admit()
        try:
            number: int = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # let in just as it was called off
                self._leave(waiter.result())
            raise
        return number

    def _leave(self, number: int) -> None:
        self._gates[number].active -= 1
        self._admit()

    def _admit(self) -> None:
        while self._queue:
            free = [number for number, gate in enumerate(self._gates) if gate.has_room]
            if not free:
                return
            number = min(free, key=lambda n: self._gates[n].active / self._gates[n].limit)
            waiter = heapq.heappop(self._queue)[2]
            if not waiter.done():
                self._gates[number].active += 1
                waiter.set_result(number)


class Pace:
    """Spaces requests out so that a provider's limits for a minute are never passed.

    They are spread evenly instead of in a burst and a wait, since providers watch shorter spans
    than the minute that they speak of.

    Args:
        requests_per_minute: No bound when None.
        tokens_per_minute: No bound when None.
    """

    def __init__(self, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        self._each = 60 / requests_per_minute if requests_per_minute else 0.0
        self._token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._free_at = 0.0

    async def wait(self, tokens: int, until: float | None) -> None:
        """Waits until a request may be sent.

        Args:
            tokens: Its prompt's and the most that it may write.
            until: Loop time at which to stop waiting; None for no end.

        Raises:
            TimeoutError: If it may not be sent by then.
        """
        clock = asyncio.get_running_loop().time
        turn = max(clock(), self._free_at)
        if until is not None and turn > until:
            raise TimeoutError
        self._free_at = turn + max(self._each, self._token * tokens)
        await asyncio.sleep(turn - clock())


class Patience:
    """How long an attempt may take, as the server's own answers suggest.

    Nobody knows beforehand how long a model takes: one on a CPU writes for minutes. So time-outs
    grow where nothing comes in time, and stay well above the slowest answer that came.

    Args:
        timeout: Seconds for an attempt; found out when None.
        deadline: Seconds for all attempts at a request; by the time-out when None.
    """

    def __init__(self, timeout: float | None, deadline: float | None) -> None:
        self._fixed = timeout
        self._deadline = deadline
        self._grown = _FIRST_TIMEOUT
        self._grown_at = -math.inf
        self._slowest = 0.0

    @property
    def timeout(self) -> float:
        """Seconds after which an attempt is given up."""
        return self._fixed or max(self._grown, _SLOWER * self._slowest)

    @property
    def deadline(self) -> float:
        """Seconds from a request's first attempt after which it is given up."""
        return self._deadline or max(_LEAST_DEADLINE, _ATTEMPTS * self.timeout)

    def answered(self, seconds: float) -> None:
        """Takes note of how long an answer took."""
        self._slowest = max(seconds, _FORGETTING * self._slowest)

    def timed_out(self, sent_at: float, now: float) -> None:
        """Takes note of an attempt that took too long; of those sent together the first counts."""
        if sent_at > self._grown_at:
            self._grown = min(_LONGEST_TIMEOUT, 2 * self.timeout)
            self._grown_at = now


_FIRST_TIMEOUT, _LONGEST_TIMEOUT = 60.0, 480.0
_LEAST_DEADLINE, _ATTEMPTS = 300.0, 3
_SLOWER, _FORGETTING = 3.0, 0.98


OPENAI_URL = "https://api.openai.com/v1"
_URLS = {
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
}
# The client insists on a key; a server that wants none ignores it.
_NO_KEY = "no-key"
# A shorter one is no secret, and blotting it out would garble messages.
_SHORTEST_SECRET = 4
_LONGEST_REASON = 300


class Endpoint:
    """A model on a server, its address checked and its key found.

    No repr, message or log shows the key, or the headers.

    Args:
        settings: Of a backend that is asked over a network.
        url: The address, its provider's own when None; its query may name the ``api-version``, as
            Azure has it.

    Raises:
        JapagenError: If the address is not http(s), holds a password, or is not on this
            machine and there is no key.
    """

    def __init__(self, settings: GeneratorSettings, url: str | None = None) -> None:
        self.backend = settings.backend
        url, _, query = (url or _URLS.get(self.backend, OPENAI_URL)).partition("?")
        url, self.query = url.rstrip("/"), dict(parse_qsl(query))
        # The address of a request, as documentation shows it.
        url = url.removesuffix("/completions").removesuffix("/chat")
        if query and set(self.query) != {"api-version"}:
            url += f"?{query}"
        _check_url(url)
        self.model, self.url, self.api = settings.model, url, settings.api
        self.path = "/chat/completions" if self.api == "chat" else "/completions"
        self.extra_body, self.omit = settings.extra_body, frozenset(settings.omit)
        self.key_variable = settings.api_key_env
        key = _secret(self.key_variable)
        self.key = key or _NO_KEY
        self.headers = {name: _secret(variable) for name, variable in settings.headers.items()}
        if lacking := [settings.headers[n] for n, value in self.headers.items() if not value]:
            raise JapagenError(
                f"Expected the value of a header to {url} in the environment variable "
                f"{lacking[0]}, found none.",
                f"Run: export {lacking[0]}=...",
            )
        if not key and not self.headers and not self.local:
            raise JapagenError(
                f"Expected the key of {url} in the environment variable {self.key_variable}, "
                "found none.",
                f"Run: export {self.key_variable}=... (any word if the server asks for no key).",
            )

    @property
    def identity(self) -> str:
        """What changes the answers of the model, as far as anybody can tell from here."""
        return self.identity_at(f"{self.url}:")

    def identity_at(self, place: str) -> str:
        """The identity of the model where ``place`` stands for the address."""
        how = digest([self.extra_body, sorted(self.omit)]) if self.extra_body or self.omit else ""
        return f"{self.backend}:{place}{self.api}:{self.model}" + (f":{how}" if how else "")

    @property
    def batch_url(self) -> str:
        """What a line of a batch names in place of the address."""
        return f"/v1{self.path}"

    @property
    def has_key(self) -> bool:
        """Whether there is a key to send."""
        return self.key != _NO_KEY or not self.headers

    @property
    def usual(self) -> bool:
        """Whether the address looks as addresses of the API do."""
        return bool(re.search(r"/v\d|/openai|/deployments/", urlsplit(self.url).path))

    def wrong(self, said: str) -> JapagenError:
        """The error of an address at which nothing speaks the API."""
        return JapagenError(
            f"Expected the {self.api} API at {self.url}, found something else ({said}).",
            "Check generator.base_url, and that the server is running."
            if self.usual
            else f"It usually ends in /v1: set generator.base_url: {self.url}/v1",
        )

    @property
    def local(self) -> bool:
        """True for an address on this machine."""
        host = urlsplit(self.url).hostname or ""
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    @property
    def is_openai(self) -> bool:
        """True for OpenAI's own servers, regional ones included."""
        host = urlsplit(self.url).hostname or ""
        return host == "api.openai.com" or host.endswith(".api.openai.com")

    def clean(self, text: str) -> str:
        """Puts what a server or the client said on one line without the key."""
        for secret in (self.key, *self.headers.values()):
            if secret != _NO_KEY and len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***")
        text = one_line(text)
        return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


class Server:
    """An endpoint, how it is asked, and what a generator has learnt of it over all its streams.

    Args:
        settings: Of the backend ``openai``.
        url: As of `Endpoint`.
        deadline: As of `Patience`.

    Attributes:
        endpoint: Whom to ask.
        patience: How long to wait for its answers.
        pace: How fast attempts may follow each other.
        refused: Options that it refused.
        heard: Whether it has ever sent a response.
        answered: Whether it has ever sent a text.
        characters: Length of the prompts whose tokens it has counted.
        tokens: Their tokens.
    """

    def __init__(
        self, settings: GeneratorSettings, url: str | None = None, deadline: float | None = None
    ) -> None:
        self.endpoint = Endpoint(settings, url)
        self.patience = Patience(settings.timeout, deadline)
        self.pace = Pace(settings.requests_per_minute, settings.tokens_per_minute)
        self.refused: set[str] = set()
        self.heard = self.answered = False
        self.characters = self.tokens = 0

    def options(self, request: Request) -> dict[str, Any]:
        """The part of the body that says how to answer, without what has been refused."""
        return options_of(request, self.endpoint, self.refused)

    def drops(self, status: int, said: str, options: Mapping[str, Any]) -> bool:
        """Whether a refusal is about one of the options sent; that is left out from now on."""
        if status not in (400, 422, 500, 501):
            return False
        # What went out with a format that has been refused since is not what was answered.
        answered = self.answered and "response_format" not in self.refused & options.keys()
        # Something else may be behind a 500: unless it names an option it is tried again.
        name = refused_option(said, options, answered or status >= 500)
        if name is not None and name not in self.refused:
            self.refused.add(name)
            _log.warning("%s refuses '%s'; going on without it.", self.endpoint.url, name)
        return name is not None

    def estimate(self, characters: int) -> int:
        """Tokens of a text of this length, by the ratio seen so far."""
        ratio = self.tokens / self.characters if self.tokens else TOKENS_PER_CHARACTER
        return math.ceil(characters * ratio)

    def most_tokens(self, request: Request) -> int:
        """What a request may cost, by the way providers count it before it is answered."""
        return (
            self.estimate(sum(map(len, prompt_texts(request.prompt)))) + request.sampling.max_tokens
        )


def _secret(variable: str) -> str:
    # A newline from `export KEY="$(cat file)"` would end up inside an HTTP header.
    value = os.environ.get(variable, "").strip()
    if not value.isascii() or not value.isprintable():
        raise JapagenError(
            f"Expected {variable} to hold a key in ASCII, found other characters.",
            f"Set it again: export {variable}=...",
        )
    return value


def _check_url(url: str) -> None:
    if "@" in url or "?" in url:
        raise JapagenError(
            "Expected base_url without user name, password and query: it is written to reports.",
            "Keep the key in the environment variable that generator.api_key_env names.",
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or url.split() != [url]:
        raise JapagenError(
            f"Expected base_url to be an http(s) address, found '{url}'.",
            "For example generator.base_url: http://127.0.0.1:8080/v1",
        )
