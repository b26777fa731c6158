"""How many requests which server gets at a time, found out while sending."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

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
