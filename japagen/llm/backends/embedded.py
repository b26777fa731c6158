"""Text from a model inside this process: a packaged one or any GGUF file."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice, pairwise, takewhile
from operator import eq
from pathlib import Path
from typing import TypeVar

from joblib import cpu_count

from japagen.errors import MissingExtraError
from japagen.llm.backend import (
    AmbiguousOptionsError,
    Answer,
    GeneratorInfo,
    Prompt,
    Request,
    answer_format,
    prompt_texts,
)
from japagen.llm.backends.gguf_weights import GEMMA, Weights, find_weights
from japagen.llm.backends.llama_cpp import EngineError, LlamaEngine

logger = logging.getLogger(__name__)
Job = TypeVar("Job")
Result = TypeVar("Result")

SLOTS = 8
CONTEXT = 2048
# Chat prompts say more, and several texts are written after one.
CHAT_CONTEXT = 4096
_LOOK_AHEAD = 8
"""Requests read ahead of their answers, for each slot: as many as one shot set serves."""
_MOST_THREADS = 8
_CHOOSING_SLOTS = 4
"""Slots that choose at a time: each reads a long common part, and has a batch of its own.

Of chat turns there is one: all share their beginning, and a model of 1.5 billion parameters took
0.74 seconds of one core per text with four slots and 0.70 with one.
"""


class EmbeddedGenerator:
    """Answers requests with llama.cpp, without a server and without a network.

    The engine starts with the first request. Requests whose prompts begin alike should stand
    together: each such run is given to one slot, which reads the common part once.

    Several slots share one matrix product, whose rounding depends on what the others do; the
    same seed therefore need not give the same text twice.

    Args:
        model: "gemma3-270m", "qwen" or the path of a GGUF file.
        slots: Completions at a time; 8 when None.
        threads: Threads of the computation; `default_threads` when None.
        context: Tokens that a prompt and its completion may have together; when None, 2048, and
            4096 for a chat model.
        cache: Where assembled and cut models are kept; japagen's cache when None.

    Raises:
        JapagenError: If there is no such model.
    """

    def __init__(
        self,
        model: str | Path = GEMMA.key,
        *,
        slots: int | None = None,
        threads: int | None = None,
        context: int | None = None,
        cache: Path | None = None,
    ) -> None:
        self._weights: Weights = find_weights(model)
        self._slots = slots or SLOTS
        self._threads = threads or default_threads()
        chat = self._weights.prompt_kind == "chat"
        self._context = context or (CHAT_CONTEXT if chat else CONTEXT)
        self._cache = cache
        self._engine: LlamaEngine | None = None
        self._starting = threading.Lock()

    @cached_property
    def info(self) -> GeneratorInfo:
        """Who this generator is.

        Raises:
            MissingExtraError: If xllamacpp is not installed.
        """
        try:
            engine = version("xllamacpp")
        except PackageNotFoundError as error:
            raise MissingExtraError("xllamacpp", self._weights.extra, "The embedded LLM") from error
        return GeneratorInfo(
            name=self._weights.name,
            identity=f"{self._weights.name}:{self._weights.identity}:xllamacpp-{engine}",
            prompt_kind=self._weights.prompt_kind,
            local=True,
            terms=self._weights.terms,
        )

    def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answers every request once, in order of completion.

        ``requests`` is read a little ahead of the answers, in the thread that iterates.
        Closing the iterator, or an exception such as KeyboardInterrupt while it waits, stops
        the completions in progress at their next token.
        """
        engine, source, waiting = self._started(), iter(requests), SlotQueue()
        pending = read = cached = 0

        def read_ahead() -> int:
            fresh = list(islice(source, engine.slots * _LOOK_AHEAD - pending))
            waiting.put(fresh)
            return pending + len(fresh)

        pending = read_ahead()
        work = partial(self._answer, engine)
        with closing(_by_slot(engine.slots, waiting.take, work)) as answers:
            for answer, from_cache in answers:
                read, cached = read + answer.prompt_tokens, cached + from_cache
                yield answer
                pending -= 1
                pending = read_ahead()
        logger.debug("Of %d prompt tokens, %d were in their slot already.", read, cached)

    def _answer(
        self, engine: LlamaEngine, request: Request, slot: int, stopped: Callable[[], bool]
    ) -> tuple[Answer, int]:
        """The answer, and how many tokens of the prompt were in the slot already."""
        began = time.perf_counter()
        try:
            self._check_kind(request.prompt)
            form = answer_format(request)
            found = engine.complete(
                request.prompt, request.sampling, request.seed, slot, stopped, form
            )
        except EngineError as error:
            seconds = time.perf_counter() - began
            return Answer(request.id, "", "error", seconds=seconds, error=error.message), 0
        used = (found.prompt_tokens, found.completion_tokens, time.perf_counter() - began)
        return Answer(request.id, found.text, found.finish, *used), found.cached_tokens

    def _check_kind(self, prompt: Prompt) -> None:
        if not isinstance(prompt, str) and self._weights.prompt_kind == "document":
            raise EngineError("The model has no chat template; it continues documents only.")

    def count_tokens(self, text: str) -> int:
        """Number of tokens of ``text``, without those that begin or end a document."""
        return len(self._started().tokenize(text))

    def choose(
        self, prompts: Sequence[Prompt], options: Sequence[str]
    ) -> Iterator[tuple[int, list[float]]]:
        """Weighs given continuations after every prompt; see `OptionScorer`.

        Neighbours go to the same slot, which reads what they have in common once.

        Raises:
            AmbiguousOptionsError: If two options begin with the same token.
            EngineError: If a prompt does not fit the context, or the model has no chat template.
        """
        engine = self._started()
        for prompt in prompts:
            self._check_kind(prompt)
        first = prompts[0] if prompts else ""
        # A chat template ends the line before the answer.
        ending = first.rsplit("\n", 1)[-1] if isinstance(first, str) else "\n"
        tokens = _first_tokens(engine, ending, options)
        most = _CHOOSING_SLOTS if isinstance(first, str) else 1
        slots = min(engine.slots, most, max(len(prompts), 1))
        bounds = [len(prompts) * slot // slots for slot in range(slots + 1)]
        shares = [iter(range(*share)) for share in pairwise(bounds)]

        def work(index: int, slot: int, _: Callable[[], bool]) -> tuple[int, list[float]]:
            return index, engine.next_token(prompts[index], tokens, slot)

        return _by_slot(slots, lambda slot: next(shares[slot], None), work)

    def close(self) -> None:
        """Stops what is in progress and frees the model; the next request would start it again."""
        with self._starting:
            engine, self._engine = self._engine, None
        if engine:
            engine.close()

    def _started(self) -> LlamaEngine:
        with self._starting:
            if self._engine is None:
                path = self._weights.file(self._cache)
                self._engine = LlamaEngine(path, self._slots, self._threads, self._context)
            return self._engine


def default_threads() -> int:
    """Threads that the embedded model uses.

    As many as ``OMP_NUM_THREADS`` says; otherwise the processors this process may use, at most 8.
    More do not help a model of this size, and threads that have to share a processor wait for
    each other at every layer.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() else min(int(cpu_count()), _MOST_THREADS)


def _first_tokens(engine: LlamaEngine, ending: str, options: Sequence[str]) -> list[int]:
    """The first token of every option, as it is split behind a prompt's last line."""
    before = engine.tokenize(ending)
    split = [engine.tokenize(ending + option) for option in options]
    found = [tokens[len(before)] for tokens in split if tokens[: len(before)] == before]
    if len(set(found)) < len(options):
        raise AmbiguousOptionsError(
            f"Expected options that begin with different tokens, found {', '.join(options)}.",
            "Let letters or numbers stand for them.",
        )
    return found


def _by_slot(
    slots: int,
    take: Callable[[int], Job | None],
    work: Callable[[Job, int, Callable[[], bool]], Result],
) -> Generator[Result, None, None]:
    """Gives every slot one job after another, and yields what comes of them.

    Args:
        slots: How many work at a time.
        take: The next job for a slot, None if there is none for now; called where this iterates.
        work: Does a job in a slot; its last argument says whether nobody waits for it any more.
    """
    stopped = threading.Event()
    busy: dict[Future[Result], int] = {}
    pool = ThreadPoolExecutor(slots)

    def keep_busy() -> None:
        for slot in set(range(slots)) - set(busy.values()):
            if (job := take(slot)) is not None:
                busy[pool.submit(work, job, slot, stopped.is_set)] = slot

    try:
        keep_busy()
        while busy:
            # On Windows only the end of a wait lets a KeyboardInterrupt through.
            done, _ = wait(busy, 0.5, FIRST_COMPLETED)
            for future in done:
                del busy[future]
            # Slots need not wait for whoever takes the results.
            keep_busy()
            yield from [future.result() for future in done]
            keep_busy()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


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
    be worth another reading of its prompt, and else has nothing to do.
    """

    def __init__(self) -> None:
        self._waiting: list[deque[Request]] = []
        self._begun: dict[int, deque[Request]] = {}
        self._read: dict[int, str] = {}
        self._newest: deque[Request] = deque()
        self._last: Request | None = None

    def put(self, requests: Sequence[Request]) -> None:
        """Adds requests behind the others."""
        for request in requests:
            if self._last is None or not _alike(self._last, request):
                self._newest = deque()
            if not self._newest:
                self._waiting.append(self._newest)
            self._newest.append(request)
            self._last = request

    def take(self, slot: int) -> Request | None:
        """Returns the best request for a slot; None if it should wait for another."""
        run = self._choose(slot)
        if run is None:
            return None
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
            # The longest beginning in common with what the slot has read.
            return max(fresh, key=lambda run: sum(takewhile(bool, map(eq, last, _flat(run[0])))))
        # Whoever began a run comes back for the rest of it.
        longest = max(self._waiting, key=len, default=deque[Request]())
        return longest if len(longest) >= _WORTH_HELP else None


def _alike(a: Request, b: Request) -> bool:
    if a.prompt == b.prompt:
        return True
    one, other = _flat(a), _flat(b)
    common = (max(len(one), len(other)) + 1) // 2
    return one[:common] == other[:common]


def _flat(request: Request) -> str:
    return "\n".join(prompt_texts(request.prompt))
