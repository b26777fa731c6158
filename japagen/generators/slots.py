"""Hands requests to slots so that a slot reads as little of each prompt as possible."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from japagen.generators.base import Request

_WORTH_HELP = 4
"""Requests of a run that must wait before a second slot reads its prompt.

With ten shots a prompt takes as much work as four or five texts, and slots share the processors:
one that reads takes from those that write.
"""


class SlotQueue:
    """Requests that wait, in runs of neighbours whose prompts share their first half.

    A slot remembers only its own last prompt, so a run stays with one slot while other runs
    keep the other slots busy: its prompt is then read once. A slot with nothing of its own
    takes the run, of those that nobody has begun, whose prompt has most in common with the one
    that it read last. When there is none it helps with the longest one, if that is long enough to
    be worth another reading of its prompt, and else waits.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[deque[Request]] = []
        self._begun: dict[int, deque[Request]] = {}
        self._read: dict[int, str] = {}
        self._newest: deque[Request] = deque()
        self._last: Request | None = None
        self._closed = False

    def put(self, requests: Sequence[Request]) -> None:
        """Adds requests behind the others, all of them before a slot takes the first."""
        with self._changed:
            for request in requests:
                if self._last is None or not _alike(self._last, request):
                    self._newest = deque()
                if not self._newest:
                    self._waiting.append(self._newest)
                self._newest.append(request)
                self._last = request
            # Not every slot can use every request.
            self._changed.notify_all()

    def close(self) -> None:
        """Drops what waits and lets the slots go."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._begun.clear()
            self._changed.notify_all()

    def take(self, slot: int) -> Request | None:
        """Returns the best request for a slot, waiting for one; None once closed."""
        with self._changed:
            while (run := self._choose(slot)) is None:
                if self._closed:
                    return None
                self._changed.wait()
            request = run.popleft()
            self._begun[slot] = run
            self._read[slot] = _flat(request)
            self._waiting = [r for r in self._waiting if r]
            return request

    def _choose(self, slot: int) -> deque[Request] | None:
        own = self._begun.get(slot)
        if own:
            return own
        begun = {id(run) for run in self._begun.values()}
        last = self._read.get(slot, "")
        fresh = [run for run in self._waiting if id(run) not in begun]
        if fresh:
            return max(fresh, key=lambda run: _common(last, _flat(run[0])))
        # Whoever began a run comes back for the rest of it.
        longest = max(self._waiting, key=len, default=deque[Request]())
        return longest if len(longest) >= _WORTH_HELP else None


def _alike(a: Request, b: Request) -> bool:
    if a.prompt == b.prompt:
        return True
    one, other = _flat(a), _flat(b)
    common = (max(len(one), len(other)) + 1) // 2
    return one[:common] == other[:common]


def _common(one: str, other: str) -> int:
    """Characters that two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _flat(request: Request) -> str:
    if isinstance(request.prompt, str):
        return request.prompt
    return "\n".join(turn.content for turn in request.prompt)
