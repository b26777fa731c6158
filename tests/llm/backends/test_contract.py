"""What every backend promises, tested on all of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from japagen.japanese.registers import Register
from japagen.llm.backend import Answer, Generator, Message, PromptKind, Request, Sampling
from japagen.llm.backends.embedded import EmbeddedGenerator
from japagen.llm.backends.huggingface import HFGenerator
from japagen.llm.backends.replay import ReplayGenerator
from japagen.llm.client import run_requests
from japagen.llm.ledger import Ledger
from tests.fault_server import Call, FaultServer, Reply, asking, chat, echo, error
from tests.llm.backends.tiny_checkpoint import write_checkpoint
from tests.llm.backends.tiny_model import write_tiny_model
from tests.scripted import ScriptedGenerator

FAILING = "長" * 300
BACKENDS = ("embedded", "openai", "hf", "replay", "scripted")


@dataclass(frozen=True)
class Backend:
    """A backend under test.

    Attributes:
        make: A generator of it that has not begun.
        kind: Which prompts it takes.
        reads_ahead: Most requests that it may read ahead of their answers.
    """

    make: Callable[[], Generator]
    kind: PromptKind
    reads_ahead: int

    def request(self, number: int, prompt: str = "商品の返品です。") -> Request:
        return Request(
            id=f"r{number}",
            prompt=prompt if self.kind == "document" else (Message("user", prompt),),
            sampling=Sampling(max_tokens=4, top_k=20),
            seed=number,
            label="返品",
            register=Register.of("polite"),
            template="t",
        )

    def requests(self, count: int) -> Iterator[Request]:
        """Every fifth one fails."""
        for n in range(count):
            yield self.request(n, FAILING) if n % 5 == 4 else self.request(n)


def _respond(call: Call) -> Reply:
    if FAILING in call.prompt:
        return error(400, "filtered", code="content_filter")
    return Reply(echo(call).body, delay=0.002)


def _script(request: Request) -> str | Answer:
    if FAILING in str(request.prompt):
        return Answer(request.id, "", "error", 3, 0, 0.1, "refused")
    return f"はい、{request.seed}番です。"


def _backend(name: str, directory: Path, open_for: ExitStack) -> Backend:
    if name == "embedded":
        pytest.importorskip("xllamacpp")
        path = write_tiny_model(directory / "tiny.gguf")
        how = {"slots": 3, "threads": 1, "context": 256}
        return Backend(lambda: EmbeddedGenerator(path, cache=directory, **how), "document", 24)
    if name == "openai":
        server = open_for.enter_context(FaultServer(_respond))
        return Backend(lambda: asking("m", base_url=server.url, slots=6), "chat", 6)
    if name == "hf":
        path = write_checkpoint(directory / "llama")
        return Backend(lambda: HFGenerator(str(path), slots=4, device="cpu"), "document", 4)
    if name == "replay":
        backend = Backend(lambda: ReplayGenerator(directory / "ledger.sqlite"), "document", 1)
        with closing(Ledger(directory / "ledger.sqlite")) as ledger:
            run_requests(list(backend.requests(40)), ScriptedGenerator(_script), ledger)
        return backend
    return Backend(lambda: ScriptedGenerator(_script), "document", 1)


@pytest.fixture(scope="module", params=BACKENDS)
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    with ExitStack() as open_for:
        yield _backend(request.param, tmp_path_factory.mktemp(request.param), open_for)


@pytest.fixture(scope="module")
def generator(backend: Backend) -> Iterator[Generator]:
    with closing(backend.make()) as made:
        yield made


def _none_but(before: set[threading.Thread]) -> bool:
    """Whether all threads begun since are gone, or go within seconds."""
    until = time.monotonic() + 5
    while extra := _workers() - before:
        if time.monotonic() > until:
            raise AssertionError(f"still at work: {extra}")
        time.sleep(0.01)
    return True


def _workers() -> set[threading.Thread]:
    """Threads at work, those of the test's own server apart."""
    return {t for t in threading.enumerate() if "process_request_thread" not in t.name}


@pytest.mark.parametrize("count", [0, 1, 40])
def test_every_request_is_answered_exactly_once(
    backend: Backend, generator: Generator, count: int
) -> None:
    answers = list(generator.stream(backend.requests(count)))
    assert sorted(a.request_id for a in answers) == sorted(r.id for r in backend.requests(count))
    for answer in answers:
        failed = int(answer.request_id[1:]) % 5 == 4
        assert (answer.finish == "error") is failed
        assert bool(answer.error) is failed
        assert not (failed and answer.text)
        assert answer.prompt_tokens >= 0
        assert answer.completion_tokens >= 0
        assert answer.seconds >= 0
        if not failed:
            assert answer.prompt_tokens > 0
            assert answer.completion_tokens > 0


def test_requests_are_read_only_a_little_ahead_and_in_the_iterating_thread(
    backend: Backend, generator: Generator
) -> None:
    taken = 0

    def source() -> Iterator[Request]:
        nonlocal taken
        for request in backend.requests(40):
            assert threading.current_thread() is threading.main_thread()
            taken += 1
            yield request

    for received, _ in enumerate(generator.stream(source()), 1):
        assert taken <= received - 1 + backend.reads_ahead
    assert received == taken == 40


def test_a_stream_closed_early_stops_its_work(backend: Backend, generator: Generator) -> None:
    taken = 0

    def source() -> Iterator[Request]:
        nonlocal taken
        for request in backend.requests(40):
            taken += 1
            yield request

    list(generator.stream(backend.requests(1)))
    before = _workers()
    stream = generator.stream(source())
    next(stream)
    stream.close()
    assert taken <= backend.reads_ahead
    assert _none_but(before)
    assert list(stream) == []
    assert len(list(generator.stream(backend.requests(3)))) == 3


def test_a_stream_never_begun_does_nothing(backend: Backend, generator: Generator) -> None:
    before = _workers()
    source = iter(backend.requests(3))
    generator.stream(source).close()
    assert next(source).id == "r0"
    assert _none_but(before)


def test_an_error_of_the_source_comes_out(backend: Backend, generator: Generator) -> None:
    def source() -> Iterator[Request]:
        yield backend.request(0)
        raise LookupError("the plan broke")

    with pytest.raises(LookupError, match="the plan broke"):
        list(generator.stream(source()))
    assert len(list(generator.stream(backend.requests(3)))) == 3


def test_counts_tokens(generator: Generator) -> None:
    assert generator.count_tokens("") == 0
    assert 0 < generator.count_tokens("です") <= generator.count_tokens("です" * 50)
    assert generator.count_tokens("\ud800") >= 1


def test_info_is_stable_and_can_be_written_down(backend: Backend, generator: Generator) -> None:
    info = generator.info
    assert info == generator.info
    assert info.name
    assert info.identity
    assert info.prompt_kind == backend.kind
    assert info.local
    assert info.terms.summary
    assert json.loads(json.dumps(asdict(info)))["identity"] == info.identity
    with closing(backend.make()) as other:
        assert other.info == info


def test_closing_is_harmless_at_any_time(backend: Backend) -> None:
    unused = backend.make()
    unused.close()
    unused.close()
    used = backend.make()
    assert len(list(used.stream(backend.requests(2)))) == 2
    used.close()
    used.close()


def test_what_a_reply_holds_is_the_answer_to_its_own_request() -> None:
    """Where the text tells which request it belongs to, it does."""
    with FaultServer(lambda call: Reply(chat(call.prompt))) as server:
        generator = asking("m", base_url=server.url)
        asked = Backend(lambda: generator, "chat", 64)
        prompts = [asked.request(n, f"依頼{n}") for n in range(60)]
        texts = {a.request_id: a.text for a in generator.stream(prompts)}
    assert texts == {f"r{n}": f"依頼{n}" for n in range(60)}
