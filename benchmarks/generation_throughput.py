"""How much of the engine's, or a server's, speed is left after everything japagen does.

    python benchmarks/generation_throughput.py http --requests 10000
    python benchmarks/generation_throughput.py endpoints --requests 600 --latency 0.5 --room 8
    python benchmarks/generation_throughput.py embedded --requests 64 [--data DIR]

``http`` asks a loopback server (its own process) that answers after 200 ms and has room for 64,
through the official client, the throttle and the ledger on disk. The ideal rate is room over
latency. ``endpoints`` asks one, two and four such servers, and two of which one is killed when half
of the requests are answered. ``embedded`` writes with the packaged Gemma three times in one run:
the bare engine with the same slots, prompts and vocabulary; japagen with its queue and ledger; and
one request at a time with a new prompt each. Requests are the first of the task's own run: one of
64 texts would ask for two or three per label and register, and read a prompt for so few. No way
finds a prompt in its slots. On a busy machine only the ratios of one run mean something.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from japagen.config.generation import GeneratorSettings
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.japanese.registers import Register
from japagen.listener import Silent, T
from japagen.llm.backend import Answer, Message, Request, Sampling
from japagen.llm.backends.embedded import EmbeddedGenerator, default_threads
from japagen.llm.backends.gguf_weights import GEMMA
from japagen.llm.backends.llama_cpp import LlamaEngine
from japagen.llm.backends.openai import OpenAIGenerator
from japagen.llm.client import run_requests
from japagen.llm.ledger import Ledger
from japagen.pipeline.context import TaskContext
from japagen.pipeline.steps.generate import plan

ROOT = Path(__file__).parents[1]


@contextmanager
def _latency_server(latency: float, room: int) -> Iterator[str]:
    with _killable_server(latency, room) as (url, _):
        yield url


@contextmanager
def _killable_server(latency: float, room: int) -> Iterator[tuple[str, Callable[[], None]]]:
    program = [sys.executable, str(Path(__file__).with_name("latency_server.py"))]
    program += ["--latency", str(latency), "--room", str(room)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1", process.kill
    finally:
        process.terminate()
        process.wait()


async def _bare_client(url: str, count: int, room: int) -> None:
    """Answers ``count`` requests with nothing but sockets: what server and machine allow."""
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "依頼"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
    sent = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent)
            json.loads((await reader.read()).split(b"\r\n\r\n", 1)[1])["choices"]
            writer.close()

    await asyncio.gather(*(work() for _ in range(room)))


def _short_requests(count: int) -> list[Request]:
    register = Register.of("polite")
    return [
        Request(f"r{n}", (Message("user", f"依頼{n}"),), Sampling(), n, "配送", register, "t")
        for n in range(count)
    ]


def _openai(urls: str | tuple[str, ...], slots: int, **other: Any) -> OpenAIGenerator:
    settings = GeneratorSettings(backend="openai", model="m", base_url=urls, slots=slots)
    return OpenAIGenerator(settings, **other)


class _Killing(Silent):
    """A listener that kills a server when half of the answers are there."""

    def __init__(self, kill: Callable[[], None]) -> None:
        self._kill = kill

    def track(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """Passes the items through."""
        for done, item in enumerate(items, 1):
            if done == total // 2:
                self._kill()
            yield item


def endpoints(count: int, latency: float, room: int) -> dict[str, Any]:
    """Answers ``count`` short requests by one, two and four servers, and while one dies."""
    found: dict[str, Any] = {"requests": count, "ideal_per_second_and_server": room / latency}
    for name, number, dies in (("1", 1, False), ("2", 2, False), ("4", 4, False), ("2-1", 2, True)):
        notes: list[str] = []
        with ExitStack() as stack:
            opened = [stack.enter_context(_killable_server(latency, room)) for _ in range(number)]
            urls = tuple(url for url, _ in opened)
            opening = _openai(urls, room, note=notes.append)
            generator = stack.enter_context(closing(opening))
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            ledger = stack.enter_context(closing(Ledger(Path(directory) / "ledger.sqlite")))

            listener = _Killing(opened[0][1]) if dies else None
            began = time.perf_counter()
            answers = run_requests(_short_requests(count), generator, ledger, listener=listener)
            seconds = time.perf_counter() - began
            attempts = ledger.totals()["attempts"]
        found[name] = {
            "requests_per_second": count / seconds,
            "answers": len(answers),
            "attempts": attempts,
            "notes": len(notes),
        }
    return found


def http(count: int, latency: float, room: int) -> dict[str, Any]:
    """Answers ``count`` short requests and compares with the rate that the server allows."""
    requests = _short_requests(count)
    bare: list[float] = []

    def time_bare() -> None:
        began = time.perf_counter()
        asyncio.run(_bare_client(url, count // 5, room))
        bare.append(count // 5 / (time.perf_counter() - began))

    with (
        _latency_server(latency, room) as url,
        tempfile.TemporaryDirectory() as directory,
        closing(Ledger(Path(directory) / "ledger.sqlite")) as ledger,
        closing(_openai(url, room)) as generator,
    ):
        time_bare()
        began, used = time.perf_counter(), time.process_time()
        answers = run_requests(requests, generator, ledger)
        seconds, used = time.perf_counter() - began, time.process_time() - used
        time_bare()
    assert len(answers) == count
    ideal, rate = room / latency, count / seconds
    return {
        "requests": count,
        "seconds": seconds,
        "requests_per_second": rate,
        "ideal_per_second": ideal,
        "share_of_ideal": rate / ideal,
        "bare_per_second": bare,
        "share_of_bare": rate * len(bare) / sum(bare),
        "cpu_ms_per_request": 1e3 * used / count,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _requests(data: Path | None, count: int, completions: int) -> list[Request]:
    task = Task.load(ROOT / "configs" / "quickstart_local.yaml")
    if data is not None:
        rows = [json.loads(line) for line in (data / "pool.jsonl").open(encoding="utf-8")]
        labels = sorted({row["label"] for row in rows})
        gold = {"path": str(data / "pool.jsonl"), "per_label": 16}
        raw = {"name": data.name, "labels": labels, "gold": gold, "registers": {"polite": 1.0}}
        task = Task.parse(raw)
    how = {"completions_per_shot_set": completions}
    task = task.model_copy(update={"generation": task.generation.model_copy(update=how)})
    with closing(EmbeddedGenerator()) as generator:
        return plan(TaskContext.open(task, load_data(task)), generator.info)[:count]


@dataclass(frozen=True)
class _Turn:
    """What one way of writing came to: tokens written, texts, and what they took."""

    tokens: int
    texts: int
    seconds: float
    cpu: float

    def __str__(self) -> str:
        rates = (
            f"{self.tokens / self.seconds:.1f} tokens/s, {self.texts / self.seconds:.2f} texts/s"
        )
        return f"{rates}; {self.tokens / self.cpu:.1f} and {self.texts / self.cpu:.2f} a CPU second"


def _timed(write: Callable[[], int], texts: int) -> _Turn:
    began, used = time.perf_counter(), time.process_time()
    tokens = write()
    return _Turn(tokens, texts, time.perf_counter() - began, time.process_time() - used)


def _forget(engine: LlamaEngine) -> None:
    """Has every slot read something else, so that the next way has to read its prompts."""
    for slot in range(engine.slots):
        engine.complete("。", Sampling(max_tokens=1), 0, slot, lambda: False)


def _raw(engine: LlamaEngine, requests: Sequence[Request]) -> int:
    """Completion tokens of the bare engine, whole shot sets dealt to its slots."""
    sets: dict[object, list[Request]] = defaultdict(list)
    for request in requests:
        sets[request.prompt].append(request)
    waiting = list(sets.values())
    tokens: list[int] = []

    def work(slot: int) -> None:
        while waiting:
            for r in waiting.pop(0):
                done = engine.complete(r.prompt, r.sampling, r.seed, slot, lambda: False)
                tokens.append(done.completion_tokens)

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(engine.slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(tokens)


def _ours(generator: EmbeddedGenerator, requests: Sequence[Request]) -> int:
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(Ledger(Path(directory) / "ledger.sqlite")) as ledger,
    ):
        answers: dict[str, Answer] = run_requests(requests, generator, ledger)
        return sum(a.completion_tokens for a in answers.values())


def embedded(count: int, data: Path | None, rounds: int, threads: int) -> dict[str, Any]:
    """Takes turns between the three, so that what else the machine does hits all alike."""
    shared, fresh = _requests(data, count, 8), _requests(data, max(8, count // 4), 1)
    ours = EmbeddedGenerator(threads=threads)
    ours.count_tokens("")
    # What it would cost without japagen: the model as published, one slot.
    whole = replace(GEMMA, cut=False).file()
    naive = LlamaEngine(whole, 1, threads, 2048)
    engine = ours._started()
    found: dict[str, list[_Turn]] = defaultdict(list)
    for turn in range(rounds):
        turned = [replace(r, id=f"{r.id}-{turn}", seed=r.seed + turn) for r in shared]
        again = [replace(r, seed=r.seed + turn) for r in fresh]
        ways = [
            ("raw", engine, partial(_raw, engine, turned), len(turned)),
            ("ours", engine, partial(_ours, ours, turned), len(turned)),
            ("naive", naive, partial(_raw, naive, again), len(again)),
        ]
        for name, writer, write, texts in ways if turn % 2 == 0 else ways[::-1]:
            _forget(writer)
            done = _timed(write, texts)
            found[name].append(done)
            print(f"{turn} {name}: {done}", file=sys.stderr, flush=True)
    ours.close()
    naive.close()
    sums = {
        name: _Turn(*(sum(getattr(t, f.name) for t in turns) for f in fields(_Turn)))
        for name, turns in found.items()
    }
    raw, own, alone = sums["raw"], sums["ours"], sums["naive"]
    return {
        "requests": len(shared),
        "prompts": len({r.prompt for r in shared}),
        "threads": threads,
        "tokens_per_second": {name: t.tokens / t.seconds for name, t in sums.items()},
        "texts_per_second": {name: t.texts / t.seconds for name, t in sums.items()},
        "share_of_raw": own.tokens / own.seconds * raw.seconds / raw.tokens,
        "times_naive": own.texts / own.seconds * alone.seconds / alone.texts,
        # Where other programs want the processors, these say more. With several threads the
        # time that they wait for each other counts as theirs.
        "share_of_raw_cpu": own.tokens / own.cpu * raw.cpu / raw.tokens,
        "times_naive_cpu": own.texts / own.cpu * alone.cpu / alone.texts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("http", "endpoints", "embedded"))
    parser.add_argument("--requests", type=int, default=None)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--room", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    # On a busy machine, threads that wait for each other at every layer wait longest: give 1.
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--data", type=Path, default=None, help="a folder with pool.jsonl")
    arguments = parser.parse_args()
    if arguments.what == "http":
        found = http(arguments.requests or 10_000, arguments.latency, arguments.room)
    elif arguments.what == "endpoints":
        found = endpoints(arguments.requests or 600, arguments.latency, arguments.room)
    else:
        found = embedded(
            arguments.requests or 64, arguments.data, arguments.rounds, arguments.threads
        )
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
