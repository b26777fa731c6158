"""Sends a run's requests: through the ledger, within the budget of what they cost."""

from __future__ import annotations

import math
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from japagen.config.generation import Budget, GeneratorSettings, Price
from japagen.errors import AwaitedError, JapagenError
from japagen.listener import Listener, Silent
from japagen.llm.answers import UNREADABLE, why_unreadable, why_unusable
from japagen.llm.backend import (
    MOST_REPLIES,
    Announcer,
    Answer,
    Generator,
    GeneratorInfo,
    OptionScorer,
    Prompt,
    Request,
    Waiting,
    Watcher,
    choice_key,
    load_generator,
    prompt_texts,
    scores_options,
)
from japagen.llm.backends.offline import HERE, Elsewhere
from japagen.llm.ledger import Ledger, ledger_errors
from japagen.llm.requests import prepare

if TYPE_CHECKING:
    from japagen.config.code import CodeTask
    from japagen.config.qa import QATask
    from japagen.config.task import Task

AskingTask: TypeAlias = "Task | CodeTask | QATask"
"""A task of any kind: whom it asks, what it may spend, what leaves the machine."""


def yen(price: Price, prompt_tokens: float, completion_tokens: float) -> float:
    """What tokens cost in yen."""
    millionths = (
        prompt_tokens * price.input_per_million + completion_tokens * price.output_per_million
    )
    return millionths / 1e6 * price.yen_per_unit


_Cost = npt.NDArray[np.float64]
"""Tokens, and yen."""


class BudgetTracker:
    """A budget: what is spent, and what is set aside for requests in flight.

    Nothing is set aside that the budget does not hold, so it is never passed: not even if every
    request in flight writes up to its limit, and has to be asked for as often as a backend
    asks for a text that did not come.

    Args:
        budget: The bounds; none when None.
        price: What tokens cost; needed for a bound in yen.
        totals: What was spent before, as `Ledger.totals` has it.

    Raises:
        JapagenError: If there is a bound in yen and no price.
    """

    def __init__(
        self,
        budget: Budget | None = None,
        price: Price | None = None,
        totals: Mapping[str, float] | None = None,
    ) -> None:
        bounds = budget or Budget()
        self._price = price
        if bounds.yen is not None and price is None:
            raise JapagenError(
                "generation.budget.yen needs to know what tokens cost, found no generator.price.",
                "Set generator.price: {input_per_million: ..., output_per_million: ...}, or a "
                "budget in tokens.",
            )
        self._bounds = np.array([bounds.tokens or math.inf, bounds.yen or math.inf])
        self._aside: dict[str, tuple[_Cost, int]] = {}
        before = Counter(totals or {})
        self._used = self._cost(
            before["prompt_tokens"] + before["lost_prompt_tokens"],
            before["completion_tokens"] + before["lost_completion_tokens"],
        )

    def reserve(self, request: Request, prompt_tokens: int, replies: int = MOST_REPLIES) -> bool:
        """Sets aside what a request may cost; False, and nothing is, if that is too much.

        Args:
            request: What is about to be sent.
            prompt_tokens: How long its prompt is at most.
            replies: Replies that it may be charged for.
        """
        cost = self._cost(replies * prompt_tokens, replies * request.sampling.max_tokens)
        if (self._used + cost > self._bounds).any():
            return False
        self._aside[request.id] = cost, replies
        self._used += cost
        return True

    def left(self) -> tuple[int | None, float | None]:
        """Tokens and yen that are neither spent nor set aside; None where there is no bound."""
        tokens, money = (self._bounds - self._used).tolist()
        return int(tokens) if tokens < math.inf else None, money if money < math.inf else None

    def settle(self, answer: Answer) -> None:
        """Spends what an answer cost, and frees what was set aside for it."""
        aside, replies = self._aside.pop(answer.request_id, (np.zeros(2), 1))
        self._used += self._cost(answer.prompt_tokens, answer.completion_tokens) - aside
        if not (answer.prompt_tokens or answer.error):  # a server that does not count tokens
            self._used += aside / replies

    def _cost(self, prompt_tokens: float, completion_tokens: float) -> _Cost:
        money = yen(self._price, prompt_tokens, completion_tokens) if self._price else 0.0
        return np.array([prompt_tokens + completion_tokens, money])


_BEYOND_BUDGET = "not sent: generation.budget is used up"


@dataclass(frozen=True)
class Asked:
    """What came of a list of requests.

    Attributes:
        answers: Request id to accepted answer, of this and earlier runs, or else to one that
            cannot be read.
        failures: Request id to the reason why there is none.
        sent: How many had no answer before and were sent.
        unusable: ``unreadable`` and ``truncated``: how many answers hold nothing else.
    """

    answers: Mapping[str, Answer]
    failures: Mapping[str, str]
    sent: int
    unusable: Mapping[str, int]

    @property
    def beyond_budget(self) -> bool:
        """Whether the budget did not hold some of them."""
        return _BEYOND_BUDGET in self.failures.values()

    def check(self, requests: Sequence[Request]) -> None:
        """Raises JapagenError if there is nothing to go on with.

        Args:
            requests: What was asked.
        """
        if not self.answers:
            raise JapagenError(
                f"None of {len(requests)} requests was answered.",
                f"The first reason: {next(iter(self.failures.values()), 'unknown')}",
            )
        if sum(self.unusable.values()) == len(self.answers):
            begins = " ".join(next(iter(self.answers.values())).text.split())[:60]
            raise JapagenError(
                f"None of {len(self.answers)} answers can be used: {_counts(self.unusable)}.",
                "Raise generation.max_tokens: a model that thinks first needs 2,000 or more."
                if "truncated" in self.unusable
                else f"The same command asks again. The first answer begins: '{begins}'",
            )


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {number}" for name, number in numbers.items())


def ask_unrecorded(
    task: AskingTask, requests: Sequence[Request], generator: Generator
) -> tuple[Sequence[Request], dict[str, Answer], dict[str, str]]:
    """Asks without a ledger or a budget.

    Returns:
        The requests as they left, request id to answer, and to the reason why there is none.
    """
    dictionary = task.japanese.user_dictionary
    sent = prepare(requests, generator.info, task.privacy, dictionary).requests
    answers = {answer.request_id: answer for answer in generator.stream(iter(sent))}
    failures = {key: answer.error for key, answer in answers.items() if answer.error}
    return sent, {key: a for key, a in answers.items() if key not in failures}, failures


class LLMClient:
    """One run's generator and ledger.

    Args:
        task: Says whom to ask and what may be spent.
        generator: A backend to use in place of it.
        path: The ledger.
        listener: Told of the progress.
        elsewhere: What the task's own generator is not asked from here.
    """

    def __init__(
        self,
        task: AskingTask,
        generator: Generator | None,
        path: Path,
        listener: Listener,
        elsewhere: Elsewhere = HERE,
    ) -> None:
        self._elsewhere = elsewhere
        self._task = task
        self._loaded = generator
        self._given = generator is not None
        self._path = path
        self._listener = listener

    @property
    def _generator(self) -> Generator:
        if self._loaded is None:
            settings, note = self._task.generator, self._listener.note
            files = self._elsewhere.files(settings.backend, self._path, note)
            batches = self._path.with_name("batches")
            self._loaded = load_generator(settings, batches, note, files)
        return self._loaded

    @property
    def info(self) -> GeneratorInfo:
        """Who is asked; its model starts with the first request that has no answer yet."""
        return self._generator.info

    @property
    def can_choose(self) -> bool:
        """Whether the generator can weigh what may come after a prompt."""
        return isinstance(self._generator, OptionScorer)

    @property
    def given(self) -> bool:
        """Whether the caller has given a generator in place of the task's."""
        return self._given

    def other(self, settings: GeneratorSettings) -> LLMClient:
        """Asks another generator through the same ledger and budget, and the same files.

        One without an address, which answers in this process, is asked here all the same.
        """
        task = self._task.model_copy(update={"generator": settings})
        elsewhere = self._elsewhere
        if settings.backend != "openai":
            elsewhere = replace(elsewhere, requests=None, answers=None)
        return LLMClient(task, None, self._path, self._listener, elsewhere)

    @property
    def can_score(self) -> bool:
        """Whether its answers may say how likely it finds each of a request's options."""
        return scores_options(self._generator)

    def choose(
        self, prompts: Sequence[Prompt], options: Sequence[str]
    ) -> Iterator[tuple[int, list[float]]]:
        """Weighs options after prompts, through the ledger; see `OptionScorer.choose`.

        What a model weighs differs in the last digits from run to run: what is recorded is not
        asked for again, so that a run resumed or replayed ends as the first one did.
        """
        generator = self._generator
        assert isinstance(generator, OptionScorer)
        identity = self.info.identity
        keys = [choice_key(identity, prompt, options) for prompt in prompts]
        with ledger_errors(self._path), closing(Ledger(self._path)) as ledger:
            known = ledger.choices(keys)
            yield from ((i, known[key]) for i, key in enumerate(keys) if key in known)
            waiting = [i for i, key in enumerate(keys) if key not in known]
            if not waiting:
                return
            for at, scores in generator.choose([prompts[i] for i in waiting], options):
                ledger.record_choice(keys[waiting[at]], scores)
                yield waiting[at], scores

    def ask(self, requests: Sequence[Request], purpose: str) -> Asked:
        """Sends what has no answer yet and tells of it under the name of its purpose.

        Raises:
            AwaitedError: If some of it is answered elsewhere.
        """
        part = self._elsewhere.part
        ids = [r.id for r in requests]
        budget, price = self._task.generation.budget, self._task.generator.price_now
        dictionary = self._task.japanese.user_dictionary
        outgoing = prepare(requests, self.info, self._task.privacy, dictionary)
        with ledger_errors(self._path), closing(Ledger(self._path)) as ledger:
            tracker = BudgetTracker(budget, price, ledger.totals())
            known = ledger.answers(ids)
            mine, others = outgoing.requests, list[Request]()
            if part:
                others = [r for r in mine if r.id not in known and not self._elsewhere.holds(r)]
                away = {r.id for r in others}
                mine = [r for r in mine if r.id not in away]
                ids = [r.id for r in mine]
                # All parts plan the same requests, by which they are known to belong together.
                ledger.plan(others, self.info.identity, purpose, lost=False)
            sent = len(ids) - len(known)
            if sent:
                again = f"{sent} of {len(ids)} to do" if sent < len(ids) else ""
                self._listener.stage(purpose, "start", again)
            before = ledger.wall_seconds(purpose)
            ledger.note_masked(outgoing.masked)
            answers = run_requests(
                mine,
                self._generator,
                ledger,
                purpose,
                tracker,
                self._listener,
            )
            failures = {k: v for k, v in ledger.failures(ids).items() if k not in answers}
            seconds = ledger.wall_seconds(purpose) - before
        if sent and outgoing.masked:
            pieces = sum(sum(found.values()) for found in outgoing.masked.values())
            self._listener.note(
                f"{pieces} pieces of personal data were masked in {len(outgoing.masked)} prompts "
                f"to {self.info.name} (privacy.prompts: mask)."
            )
        if sent:
            self._listener.stage(purpose, "done", f"{seconds:.1f}")
        if failures:
            reason = next(iter(failures.values()))
            self._listener.note(
                f"{len(failures)} of {len(ids)} requests have no answer ({reason}); "
                "the same command tries them again."
            )
        found = (why_unusable(r, answers[r.id]) for r in requests if r.id in answers)
        unusable = dict(Counter(filter(None, found)).most_common())
        if unusable:
            again = "; the same command asks for the unreadable ones again"
            self._listener.note(
                f"{sum(unusable.values())} of {len(ids)} answers cannot be used "
                f"({_counts(unusable)}){again if UNREADABLE in unusable else ''}."
            )
        unsent = [key for key in ids if key not in answers and key not in failures]
        if unsent:
            self._listener.note(
                f"{len(unsent)} of {len(ids)} requests were not sent: generation.budget does not "
                "hold what they may cost. Raise it and run the same command again."
            )
        if part and others:
            raise AwaitedError(
                f"Part {part.number} of {part.of} is done: {len(answers)} of its {len(ids)} "
                f"requests are answered, {len(others)} are for the other parts.",
                "When all are done: japagen data merge RUN_1 RUN_2 … -o RUN, then run the task "
                "with --out RUN.",
            )
        beyond = dict.fromkeys(unsent, _BEYOND_BUDGET)
        return Asked(answers, {**failures, **beyond}, sent, unusable)

    def cost(self) -> tuple[Mapping[str, float], float]:
        """Totals over every attempt, and the wall time of generation alone, in seconds.

        Where the task has a price, ``yen`` is what all attempts have cost; for a generator
        elsewhere, ``masked_personal_data`` counts what was masked in prompts to it.
        """
        with ledger_errors(self._path), closing(Ledger(self._path)) as ledger:
            totals = dict(ledger.totals())
            masked = ledger.masked()
            seconds = round(ledger.wall_seconds("generate"), 3)
        if price := self._task.generator.price_now:
            spent = yen(price, totals["prompt_tokens"], totals["completion_tokens"])
            totals["yen"] = round(spent, 4)
        if not self.info.local:
            totals["masked_personal_data"] = masked
        return totals, seconds

    def close(self) -> None:
        """Frees the model; calling it twice is harmless."""
        if self._loaded is not None:
            self._loaded.close()


# What a chat template puts around each turn, about.
_TOKENS_A_TURN = 8
# Estimates of a prompt's tokens are raised by this until the first has been counted.
_FIRST_DOUBT, _LASTING_DOUBT = 2.0, 1.05


def run_requests(
    requests: Sequence[Request],
    generator: Generator,
    ledger: Ledger,
    purpose: str = "generate",
    tracker: BudgetTracker | None = None,
    listener: Listener | None = None,
) -> dict[str, Answer]:
    """Sends what has no answer yet; every answer is committed before it is used.

    An answer that cannot be read is asked for once more, with another seed. If that one cannot be
    read either, it is returned as it is; to the ledger it is a failure, so the next run asks again.

    At the first Ctrl-C nothing more is sent to a generator that is not on this machine, but what
    is in flight, and will be paid for, is waited for. The second one stops at once. What goes on
    without this process is not waited for.

    Args:
        requests: What to ask.
        generator: Whom to ask.
        ledger: Where answers of this and earlier runs are.
        purpose: What the ledger's time is counted under.
        tracker: What may be spent; no bound when None.
        listener: Told how far it is, and what is waited for.

    Returns:
        Request id to accepted answer, or to the last one that could not be read. Requests that
        failed are absent; the ledger has why.
    """
    ledger.name(generator.info)
    answered = ledger.answers(r.id for r in requests)
    # A run of 0.1 kept what it could not read.
    if old := [r.id for r in requests if r.id in answered and why_unreadable(r, answered[r.id])]:
        ledger.disown(old)
        answered = ledger.answers(answered)
    waiting = [r for r in requests if r.id not in answered]
    if not waiting:
        return answered
    info = generator.info
    ledger.plan(waiting, info.identity, purpose, lost=not info.resumable)
    with _first_ctrl_c(patient=not (info.local or info.resumable)) as pressed:
        outbox = _Outbox(waiting, generator, ledger, tracker or BudgetTracker(), pressed)
        listener, told = listener or Silent(), False
        if isinstance(listener, Watcher):
            listener.watch(purpose, outbox.waiting)
        for _ in listener.track(outbox.answers(), len(waiting), purpose):
            if pressed.is_set() and not told:
                listener.note("Waiting for what is in flight; Ctrl-C again stops at once.")
                told = True
        if pressed.is_set():
            raise KeyboardInterrupt
    ids = [r.id for r in requests]
    return ledger.unreadable(ids) | ledger.answers(ids)


class _Outbox:
    """What is still to be sent, and the marks of what is in flight."""

    def __init__(
        self,
        waiting: Sequence[Request],
        generator: Generator,
        ledger: Ledger,
        tracker: BudgetTracker,
        pressed: threading.Event,
    ) -> None:
        self._waiting = list(waiting)
        self._asked = {r.id: r for r in waiting}
        self._again: set[str] = set()
        self._next = 0
        self._generator = generator
        # Others send a request as they take it.
        self._remote = generator if isinstance(generator, Announcer) else None
        if self._remote:
            self._remote.on_send = self._mark
        self._ledger = ledger
        self._tracker = tracker
        self._pressed = pressed
        # Prompts of neighbours are often the same.
        self._estimate = lru_cache(1)(self._count)
        self._estimates: dict[str, int] = {}
        self._tokens: dict[str, int] = {}
        self._in_flight: set[str] = set()
        self._settled = 0
        self._doubt = 0.0

    def answers(self) -> Iterator[Answer]:
        """Streams until all is sent or the tracker allows no more, even with nothing in flight.

        The most that requests in flight may cost is set aside, and most of it comes back with
        the answers; what comes back is enough for another stream.

        Yields:
            Answers that are recorded, one per request.
        """
        before = -1
        while before < self._next < len(self._waiting) and not self._pressed.is_set():
            before = self._next
            for answer in self._generator.stream(self._going_out()):
                final = self._record(answer)
                self.settle(answer)
                if final:
                    yield answer

    def _record(self, answer: Answer) -> bool:
        """Commits an answer; False if it cannot be read and is asked for again."""
        request = self._asked.get(answer.request_id)
        if request is None or not why_unreadable(request, answer):
            self._ledger.record(answer)
            return True
        self._ledger.record(replace(answer, finish="error", error=UNREADABLE))
        # Another batch for a few of them may take another day: the next run has one for all.
        if request.id in self._again or self._generator.info.resumable:
            return True
        self._again.add(request.id)
        # The same seed would bring the same answer.
        self._waiting.append(replace(request, seed=request.seed ^ 1))
        return False

    def _going_out(self) -> Iterator[Request]:
        while self._next < len(self._waiting) and not self._pressed.is_set():
            request = self._waiting[self._next]
            estimate = self._estimate(request.prompt)
            tokens = math.ceil(estimate * (self._doubt or _FIRST_DOUBT))
            replies = 1 if self._generator.info.resumable else MOST_REPLIES
            if not self._tracker.reserve(request, tokens, replies):
                return
            self._estimates[request.id] = estimate
            self._tokens[request.id] = tokens
            self._next += 1
            if not self._remote:
                self._mark(request)
            yield request

    def _mark(self, request: Request, sent: bool = True) -> None:
        """Notes that a request goes out, or did not: only what is out may cost something."""
        if sent:
            self._ledger.mark_sent(request, self._tokens[request.id])
            self._in_flight.add(request.id)
        else:
            self._ledger.unmark(request)
            self._in_flight.discard(request.id)

    def waiting(self) -> Waiting:
        """What is waited for now."""
        servers = self._remote.load() if self._remote else {}
        in_flight = len(self._in_flight)
        unsent = len(self._waiting) - self._settled - in_flight
        return Waiting(in_flight, unsent, servers, *self._tracker.left())

    def _count(self, prompt: Prompt) -> int:
        count = self._generator.count_tokens
        return sum(count(text) + _TOKENS_A_TURN for text in prompt_texts(prompt))

    def settle(self, answer: Answer) -> None:
        """Takes an answer's cost, and learns how far estimates of prompts are off."""
        self._tracker.settle(answer)
        self._in_flight.discard(answer.request_id)
        self._settled += 1
        estimate = self._estimates.pop(answer.request_id, 0)
        if estimate and answer.prompt_tokens and not answer.error:
            seen = _LASTING_DOUBT * answer.prompt_tokens / estimate
            self._doubt = max(seen, 1.0, self._doubt)


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
