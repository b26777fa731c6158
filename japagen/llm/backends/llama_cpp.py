"""llama.cpp's server inside this process, by way of the package xllamacpp."""

from __future__ import annotations

import gc
import http.client
import json
import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from japagen.errors import JapagenError, MissingExtraError
from japagen.llm.backend import TEXT_OBJECT, Message, Prompt, Sampling

# Servers whose start was interrupted; they go when the process does.
_ABANDONED: list[Any] = []
_MAX_SEED = 2**32 - 1  # llama.cpp takes this very number for "any seed"
_LISTED = 100  # log-probabilities in one answer: what is asked for is nearly always among them
_CERTAIN = 1e4  # a bias that no difference between two logits comes near


class EngineError(JapagenError):
    """The engine turned a request down, or stopped before it was answered."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine wrote.

    Attributes:
        text: The completion, without the stop string.
        finish: "stop" at a natural end, "length" at the token limit.
        prompt_tokens: Tokens of the prompt.
        cached_tokens: How many of them were still in the slot from the request before.
        completion_tokens: Tokens written.
    """

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class LlamaEngine:
    """A loaded model with several slots that generate at the same time.

    A slot keeps the keys and values of what it read last, and a request that begins the same
    way reads only the rest. Slots do not share them: whoever sends requests chooses the slot.

    The engine also listens on a free port of the loopback interface, because that is the only
    way xllamacpp offers to its tokenizer; a random key keeps other users of the machine out.

    Args:
        path: A GGUF file.
        slots: Completions at a time.
        threads: Threads of the computation.
        context: Tokens of prompt and completion together, for each slot.

    Raises:
        MissingExtraError: If xllamacpp is not installed.
        JapagenError: If the model cannot be loaded.
    """

    def __init__(self, path: Path, slots: int, threads: int, context: int) -> None:
        xllamacpp = _import_xllamacpp()
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel = slots
        params.n_ctx = slots * context
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        # Layers with a sliding window otherwise forget the prompt as the completion grows, and
        # every request reads its whole prompt again (Gemma 3: a quarter of the speed).
        params.swa_full = True
        # Both copy whole slot states, which repeats what choosing the slot already does.
        params.cache_ram_mib = 0
        params.n_ctx_checkpoints = 0
        params.warmup = False
        params.fit_params = False
        params.verbosity = -1
        params.ui = False
        params.endpoint_slots = False
        params.n_threads_http = 2
        self._key = secrets.token_hex(16)
        params.api_keys = [self._key]
        self.slots = slots
        self._stopped = threading.Event()
        try:
            self._server = _in_a_thread(lambda: xllamacpp.Server(params))
        except RuntimeError as error:
            raise JapagenError(
                f"Expected a model that llama.cpp can load, found {path}, which it cannot.",
                "Check that the file is whole and that its architecture is supported by the"
                " installed xllamacpp; a smaller `slots` or `context` needs less memory.",
            ) from error

    def complete(
        self,
        prompt: Prompt,
        sampling: Sampling,
        seed: int,
        slot: int,
        cancelled: Callable[[], bool],
        form: dict[str, Any] = TEXT_OBJECT,
    ) -> Completion:
        """Writes one completion; blocks without holding the interpreter.

        Args:
            prompt: A document to continue, or chat turns.
            sampling: How to draw tokens.
            seed: Of this completion.
            slot: Which slot to use, from 0; one call at a time for each.
            cancelled: Asked after every token; the completion stops when it returns True.
            form: The ``response_format`` that an answer to chat turns is held to.

        Raises:
            EngineError: If the engine turned the request down, or it was cancelled.
        """
        chunks: list[dict[str, Any]] = []

        def receive(chunk: dict[str, Any]) -> bool:
            chunks.append(chunk)
            return self._stopped.is_set() or cancelled()

        body = _options(sampling, seed) | {
            "id_slot": slot,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if not isinstance(prompt, str):
            body["response_format"] = form
        self._ask(prompt, body, receive)
        return _read(chunks)

    def next_token(self, prompt: Prompt, wanted: Sequence[int], slot: int) -> list[float]:
        """Log-probability of each wanted token as the next one, over the whole vocabulary.

        Args:
            prompt: A document, or chat turns whose answer would begin with the token.
            wanted: Token ids.
            slot: Which slot to use; one call at a time for each.

        Raises:
            EngineError: If the engine turned the request down.
        """
        listed = self._listed(prompt, slot, _LISTED, {})
        # A token too unlikely for the list is made the one that is written: its logit is raised,
        # yet the log-probability that comes back is that of the model's own logits.
        for token in set(wanted) - set(listed):
            forced = {"logit_bias": [[token, _CERTAIN]]}
            listed |= self._listed(prompt, slot, 1, forced)
        if missing := set(wanted) - set(listed):
            raise EngineError(f"llama.cpp does not say how likely the tokens {missing} are.")
        return [listed[token] for token in wanted]

    def _listed(
        self, prompt: Prompt, slot: int, number: int, options: dict[str, Any]
    ) -> dict[int, float]:
        body = {"max_tokens": 1, "samplers": ["top_k"], "top_k": 1, "id_slot": slot} | options
        chat = {"logprobs": True, "top_logprobs": number}
        body |= {"logprobs": number} if isinstance(prompt, str) else chat
        answer = self._ask(prompt, body)
        if "error" in answer:
            raise EngineError(f"llama.cpp cannot take the request: {answer['error']['message']}")
        found = answer["choices"][0].get("logprobs")
        if not found:  # the likeliest token is one that ends the text
            return {}
        (written,) = found["content"]
        return {item["id"]: item["logprob"] for item in [written, *written["top_logprobs"]]}

    def _ask(self, prompt: Prompt, body: dict[str, Any], *receive: Callable[[Any], bool]) -> Any:
        server = self._running()
        try:
            if isinstance(prompt, str):
                return server.handle_completions(body | {"prompt": prompt}, *receive)
            return server.handle_chat_completions(body | _turns(prompt), *receive)
        except (RuntimeError, ValueError) as error:  # what C++ exceptions become
            raise EngineError(f"llama.cpp cannot take the request: {error}") from error

    def tokenize(self, text: str) -> list[int]:
        """Token ids of ``text``, without those that begin or end a document."""
        host = str(self._running().listening_address).removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=60)
        try:
            valid = text.encode("utf-8", "replace").decode()
            body = json.dumps({"content": valid}).encode()
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request("POST", "/tokenize", body, headers)
            tokens: list[int] = json.loads(connection.getresponse().read())["tokens"]
            return tokens
        finally:
            connection.close()

    def _running(self) -> Any:
        # Callers hold the server while they use it, so that `close` cannot free it under them.
        server = self._server
        if server is None:
            raise EngineError("The generator was closed.")
        return server

    def close(self) -> None:
        """Stops the completions in progress and frees the model."""
        self._stopped.set()
        self._server = None
        gc.collect()


def _in_a_thread(make: Callable[[], Any]) -> Any:
    """Returns what ``make`` returns, and keeps it if the wait for it is interrupted.

    A server freed before its loop has begun waits for the loop's end for ever, with the
    interpreter held. In the main thread a KeyboardInterrupt that came while the model was
    loaded would free it just then; in another thread none can come.
    """
    made: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            made.put((make(), None))
        except BaseException as error:  # it belongs in the thread that waits
            made.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        result, error = made.get()
    except BaseException:
        _ABANDONED.append(made)
        raise
    if error is not None:
        raise error
    return result


def _import_xllamacpp() -> Any:
    try:
        with _short_spins():
            import xllamacpp
    except ModuleNotFoundError as error:
        raise MissingExtraError("xllamacpp", "local", "The embedded LLM") from error
    except ImportError as error:
        raise JapagenError(
            f"The embedded LLM's engine does not start: {error}.",
            "It needs a C++ run time with OpenMP; on Debian and Ubuntu: apt install libgomp1",
        ) from error
    return xllamacpp


@contextmanager
def _short_spins() -> Iterator[None]:
    """Has threads that wait for each other give up their processor soon.

    GNU OpenMP reads the setting when it is loaded, which the import does unless torch has done
    it before. Its default, 300,000 turns, costs four fifths of the speed as soon as another
    program wants the same processors; on an idle machine 2,000 turns cost a tenth at most.
    """
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "2000"
    try:
        yield
    finally:
        os.environ.pop("GOMP_SPINCOUNT", None)


def _options(sampling: Sampling, seed: int) -> dict[str, Any]:
    return {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        # top_k comes first so that the others look at a hundred tokens, not at all of them.
        "samplers": ["top_k", "min_p", "temperature"],
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop),
        "seed": seed % _MAX_SEED,
    }


def _turns(prompt: tuple[Message, ...]) -> dict[str, Any]:
    return {
        "messages": [{"role": turn.role, "content": turn.content} for turn in prompt],
        # A model that thinks first would spend max_tokens on that.
        "chat_template_kwargs": {"enable_thinking": False},
    }


def _read(chunks: list[dict[str, Any]]) -> Completion:
    """Puts the streamed pieces together."""
    text, finish, usage = "", None, None
    for chunk in chunks:
        if "error" in chunk:
            raise EngineError(f"llama.cpp cannot take the request: {chunk['error']['message']}")
        for choice in chunk["choices"]:
            text += choice.get("text") or choice.get("delta", {}).get("content") or ""
            finish = choice["finish_reason"] or finish
        usage = chunk.get("usage", usage)
    if finish is None or usage is None:
        raise EngineError("The completion was stopped before its end.")
    return Completion(
        text=text,
        finish="length" if finish == "length" else "stop",
        prompt_tokens=usage["prompt_tokens"],
        cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
        completion_tokens=usage["completion_tokens"],
    )
