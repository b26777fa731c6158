"""Text from a model inside this process: a packaged one or any GGUF file."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path

from japagen.errors import MissingExtraError
from japagen.llm.backend import (
    AmbiguousOptionsError,
    Answer,
    GeneratorInfo,
    Prompt,
    Request,
    answer_format,
)
from japagen.llm.backends.gguf_weights import GEMMA, Weights, find_weights
from japagen.llm.backends.llama_cpp import Completion, EngineError, LlamaEngine

logger = logging.getLogger(__name__)

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
        japanese_vocabulary: Cut the vocabulary to what Japanese needs, where the model allows
            it: about 1.7 times the speed and 40% of the memory for Gemma 3 270M. Foreign
            words outside it are then written in shorter pieces.
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
        japanese_vocabulary: bool = True,
        cache: Path | None = None,
    ) -> None:
        self._weights: Weights = find_weights(model, cut=japanese_vocabulary)
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
        return _Stream(self._started(), self._weights, requests).answers()

    def count_tokens(self, text: str) -> int:
        """Number of tokens of ``text``, without those that begin or end a document."""
        return len(self._started().tokenize(text))

    def choose(
        self, prompts: Sequence[Prompt], options: Sequence[str]
    ) -> Iterator[tuple[int, list[float]]]:
        """Weighs given continuations after every prompt; see `Chooser`.

        Neighbours go to the same slot, which reads what they have in common once.

        Raises:
            AmbiguousOptionsError: If two options begin with the same token.
            EngineError: If a prompt does not fit the context, or the model has no chat template.
        """
        engine = self._started()
        if self._weights.prompt_kind == "document":
            for prompt in prompts:
                _check_kind(prompt, has_template=False)
        first = prompts[0] if prompts else ""
        # A chat template ends the line before the answer.
        ending = first.rsplit("\n", 1)[-1] if isinstance(first, str) else "\n"
        slots = _CHOOSING_SLOTS if isinstance(first, str) else 1
        return _choices(engine, prompts, _first_tokens(engine, ending, options), slots)

    def close(self) -> None:
        """Stops what is in progress and frees the model; the next request would start it anew."""
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
    """Threads that the embedded model uses: the processors this process may use, at most 8.

    More do not help a model of this size, and threads that have to share a processor wait for
    each other at every layer.
    """
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    else:
        usable = os.cpu_count() or 1
    return min(usable, _MOST_THREADS)


def _check_kind(prompt: Prompt, has_template: bool) -> None:
    if not (isinstance(prompt, str) or has_template):
        raise EngineError("The model has no chat template; it continues documents only.")


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


def _choices(
    engine: LlamaEngine, prompts: Sequence[Prompt], tokens: Sequence[int], slots: int
) -> Iterator[tuple[int, list[float]]]:
    """Shares the prompts out among the slots, neighbours together."""
    workers = min(engine.slots, slots, max(len(prompts), 1))
    bounds = [len(prompts) * w // workers for w in range(workers + 1)]
    done: queue.SimpleQueue[tuple[int, list[float]] | BaseException] = queue.SimpleQueue()
    cancelled = threading.Event()

    def work(slot: int) -> None:
        try:
            for index in range(bounds[slot], bounds[slot + 1]):
                if cancelled.is_set():
                    return
                done.put((index, engine.next_token(prompts[index], tokens, slot)))
        except BaseException as error:  # it belongs in the thread that iterates
            done.put(error)

    threads = [threading.Thread(target=work, args=(w,), daemon=True) for w in range(workers)]
    try:
        for thread in threads:
            thread.start()
        for _ in prompts:
            item = done.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        cancelled.set()
        for thread in threads:
            thread.join()


class _Stream:
    """One call of `EmbeddedGenerator.stream`: a thread for each slot, and what they share."""

    def __init__(self, engine: LlamaEngine, weights: Weights, requests: Iterable[Request]) -> None:
        self._engine = engine
        self._has_template = weights.prompt_kind == "chat"
        self._requests = iter(requests)
        self._waiting = SlotQueue()
        self._done: queue.SimpleQueue[tuple[Answer, int] | BaseException] = queue.SimpleQueue()
        self._cancelled = threading.Event()

    def answers(self) -> Iterator[Answer]:
        slots = range(self._engine.slots)
        workers = [threading.Thread(target=self._work, args=(s,), daemon=True) for s in slots]
        limit = len(workers) * _LOOK_AHEAD
        pending = read = cached = 0
        try:
            for worker in workers:
                worker.start()
            while True:
                fresh = list(islice(self._requests, limit - pending))
                self._waiting.put(fresh)
                pending += len(fresh)
                if not pending:
                    break
                answer, from_cache = self._next()
                pending -= 1
                read, cached = read + answer.prompt_tokens, cached + from_cache
                yield answer
        finally:
            self._cancelled.set()
            self._waiting.close()
            for worker in workers:
                worker.join()
            logger.debug("Of %d prompt tokens, %d were in their slot already.", read, cached)

    def _next(self) -> tuple[Answer, int]:
        while True:
            try:
                # On Windows only the end of a wait lets a KeyboardInterrupt through.
                item = self._done.get(timeout=0.5)
            except queue.Empty:
                continue
            if isinstance(item, BaseException):
                raise item
            return item

    def _work(self, slot: int) -> None:
        try:
            while (request := self._waiting.take(slot)) is not None:
                self._done.put(self._answer(request, slot))
        except BaseException as error:  # a bug of ours: it belongs in the thread that iterates
            self._done.put(error)

    def _answer(self, request: Request, slot: int) -> tuple[Answer, int]:
        began = time.perf_counter()
        try:
            completion = self._complete(request, slot)
        except EngineError as error:
            seconds = time.perf_counter() - began
            return Answer(request.id, "", "error", seconds=seconds, error=error.message), 0
        answer = Answer(
            request_id=request.id,
            text=completion.text,
            finish=completion.finish,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            seconds=time.perf_counter() - began,
        )
        return answer, completion.cached_tokens

    def _complete(self, request: Request, slot: int) -> Completion:
        _check_kind(request.prompt, self._has_template)
        return self._engine.complete(
            request.prompt,
            request.sampling,
            request.seed,
            slot,
            self._cancelled.is_set,
            answer_format(request),
        )


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
