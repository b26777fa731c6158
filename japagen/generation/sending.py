"""Sends requests to a generator: through the ledger, within a budget, and until Ctrl-C."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from japagen.generation.ledger import Ledger
from japagen.generation.spending import Purse
from japagen.generators.base import MOST_REPLIES, Answer, Generator, Request

Progress = Callable[[Iterator[Answer], int], Iterator[Answer]]
# What a chat template puts around each turn, about.
_TOKENS_A_TURN = 8
# Estimates of a prompt's tokens are raised by this until the first has been counted.
_FIRST_DOUBT, _LASTING_DOUBT = 2.0, 1.05


def run_requests(
    requests: Sequence[Request],
    generator: Generator,
    ledger: Ledger,
    progress: Progress = lambda it, _: it,
    purpose: str = "generate",
    purse: Purse | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> dict[str, Answer]:
    """Sends what has no answer yet; every answer is committed before it is used.

    At the first Ctrl-C nothing more is sent to a generator that is not on this machine, but what
    is in flight, and will be paid for, is waited for. The second one stops at once. What goes on
    without this process is not waited for.

    Args:
        requests: What to ask.
        generator: Whom to ask.
        ledger: Where answers of this and earlier runs are.
        progress: Wraps the stream of answers to show how far it is.
        purpose: What the ledger's time is counted under.
        purse: What may be spent; no bound when None.
        note: Told what the user should know.

    Returns:
        Request id to accepted answer. Requests that failed are absent; the ledger has why.
    """
    ledger.name(generator.info)
    answered = ledger.answers(r.id for r in requests)
    waiting = [r for r in requests if r.id not in answered]
    if not waiting:
        return answered
    info = generator.info
    ledger.plan(waiting, info.identity, purpose, lost=not info.resumable)
    with _first_ctrl_c(patient=not (info.local or info.resumable)) as pressed:
        outbox = _Outbox(waiting, generator, ledger, purse or Purse(), pressed)
        for answer in progress(outbox.answers(), len(waiting)):
            ledger.record(answer)
            outbox.settle(answer)
            if pressed.is_set() and outbox.announce():
                note("Waiting for what is in flight; Ctrl-C again stops at once.")
        if pressed.is_set():
            raise KeyboardInterrupt
    return ledger.answers(r.id for r in requests)


class _Outbox:
    """What is still to be sent, and the marks of what is in flight."""

    def __init__(
        self,
        waiting: Sequence[Request],
        generator: Generator,
        ledger: Ledger,
        purse: Purse,
        pressed: threading.Event,
    ) -> None:
        self._waiting = waiting
        self._next = 0
        self._generator = generator
        self._ledger = ledger
        self._purse = purse
        self._pressed = pressed
        self._announced = False
        self._counted: tuple[object, int] = (None, 0)
        self._estimates: dict[str, int] = {}
        self._doubt = _FIRST_DOUBT
        self._sure = False

    def answers(self) -> Iterator[Answer]:
        """Streams until all is sent or the purse allows no more, even with nothing in flight.

        The most that requests in flight may cost is set aside, and most of it comes back with
        the answers; what comes back is enough for another stream.
        """
        before = -1
        while before < self._next < len(self._waiting) and not self._pressed.is_set():
            before = self._next
            yield from self._generator.stream(self._going_out())

    def _going_out(self) -> Iterator[Request]:
        while self._next < len(self._waiting) and not self._pressed.is_set():
            request = self._waiting[self._next]
            estimate = self._estimate(request)
            tokens = math.ceil(estimate * self._doubt)
            replies = 1 if self._generator.info.resumable else MOST_REPLIES
            if not self._purse.set_aside(request, tokens, replies):
                return
            self._ledger.mark_sent(request, tokens)
            self._estimates[request.id] = estimate
            self._next += 1
            yield request

    def _estimate(self, request: Request) -> int:
        """Tokens of a prompt; those of neighbours are often the same."""
        prompt = request.prompt
        if self._counted[0] != prompt:
            texts = [prompt] if isinstance(prompt, str) else [m.content for m in prompt]
            tokens = sum(self._generator.count_tokens(t) + _TOKENS_A_TURN for t in texts)
            self._counted = (prompt, tokens)
        return self._counted[1]

    def settle(self, answer: Answer) -> None:
        """Takes an answer's cost, and learns how far estimates of prompts are off."""
        self._purse.settle(answer)
        estimate = self._estimates.pop(answer.request_id, 0)
        if estimate and answer.prompt_tokens and not answer.error:
            seen = _LASTING_DOUBT * answer.prompt_tokens / estimate
            self._doubt = max(seen, 1.0, self._doubt if self._sure else 0.0)
            self._sure = True

    def announce(self) -> bool:
        """True the first time."""
        first, self._announced = not self._announced, True
        return first


@contextmanager
def _first_ctrl_c(*, patient: bool) -> Iterator[threading.Event]:
    """Has the first Ctrl-C set an event in place of interrupting, where there is a user to wait.

    Only the main thread may handle signals; elsewhere, and where the program handles Ctrl-C in
    its own way, nothing is changed.
    """
    pressed = threading.Event()
    usual = signal.default_int_handler
    main = threading.current_thread() is threading.main_thread()
    if not (patient and main and signal.getsignal(signal.SIGINT) is usual):
        yield pressed
        return

    def wait_for_the_rest(number: int, frame: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, wait_for_the_rest)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, usual)
