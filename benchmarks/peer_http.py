"""The same short requests to the same loopback server by japagen and by other tools.

    python benchmarks/peer_http.py --requests 2000 --peer distilabel=/venvs/distilabel/bin/python \
        --peer curator=/venvs/curator/bin/python

A peer is named with a Python that has it (``pip install 'distilabel[openai]'``,
``pip install bespokelabs-curator``). The server (its own process) answers after 200 ms and has
room for 64 at once; each tool is told so. A tool runs in a process of its own, with as many
requests as japagen's, twice:

rate    requests a second from the tool's start, imports included, to its last text; processor
        time a request and the most memory, over all of its processes (Linux alone can tell)
kill    stopped with SIGKILL once the server has answered half of the requests, then run again as
        the tool's own documentation has it: the texts that it ends with, and how many requests
        the server had to answer twice (up to 64 were in flight)
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOM = 64
RESULT = "texts"


def _japagen(url: str, count: int, folder: Path) -> int:
    from japagen.config.generation import GeneratorSettings
    from japagen.japanese.registers import Register
    from japagen.llm.backend import Message, Request, Sampling
    from japagen.llm.backends.openai import OpenAIGenerator
    from japagen.llm.client import run_requests
    from japagen.llm.ledger import Ledger

    register = Register.of("polite")
    requests = [
        Request(f"r{n}", (Message("user", f"依頼{n}"),), Sampling(), n, "配送", register, "t")
        for n in range(count)
    ]
    ledger = Ledger(folder / "ledger.sqlite")
    generator = OpenAIGenerator(
        GeneratorSettings(backend="openai", model="m", base_url=url, slots=ROOM)
    )
    texts = run_requests(requests, generator, ledger)
    generator.close()
    ledger.close()
    return len(texts)


def _distilabel(url: str, count: int, folder: Path) -> int:
    os.environ["DISTILABEL_LOG_LEVEL"] = "WARNING"
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    rows = [{"instruction": f"依頼{n}"} for n in range(count)]
    with Pipeline(name="peer", cache_dir=folder) as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=ROOM)
        llm = OpenAILLM(
            model="m", base_url=url, api_key="none", generation_kwargs={"max_new_tokens": 64}
        )
        # A batch is sent at once and waited for; a larger one would be more than the server takes.
        load >> TextGeneration(llm=llm, input_batch_size=ROOM)
    texts = pipeline.run(use_cache=True)["default"]["train"]["generation"]
    return sum(text is not None for text in texts)


def _curator(url: str, count: int, folder: Path) -> int:
    os.environ |= {
        "CURATOR_CACHE_DIR": str(folder),
        "CURATOR_DISABLE_RICH_DISPLAY": "1",
        "TELEMETRY_ENABLED": "false",
    }
    import litellm
    from bespokelabs import curator
    from datasets import Dataset

    # It counts tokens with a vocabulary that would be downloaded; a dependency of it has a copy.
    vocabulary = Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers"
    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(vocabulary))

    class Writer(curator.LLM):  # type: ignore[misc]
        def prompt(self, row: dict[str, Any]) -> str:
            return str(row["instruction"])

        def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
            return {"text": response}

    limits = {
        "max_concurrent_requests": ROOM,
        "max_requests_per_minute": 10**7,
        "max_tokens_per_minute": 10**9,
    }
    server = {"base_url": url, "api_key": "none"}
    writer = Writer(model_name="m", backend="openai", backend_params=server | limits)
    rows = Dataset.from_list([{"instruction": f"依頼{n}"} for n in range(count)])
    return len(writer(rows, working_dir=str(folder)).dataset)


TOOLS: dict[str, Callable[[str, int, Path], int]] = {
    "japagen": _japagen,
    "distilabel": _distilabel,
    "curator": _curator,
}


def _served(url: str) -> int:
    with urllib.request.urlopen(url) as response:
        return int(json.load(response)["served"])


def _family(parent: int) -> list[int]:
    """A process and all that it has started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [parent]
    for process in found:
        found += children.get(process, [])
    return found


def _memory(processes: list[int]) -> float:
    """MB that they hold, mapped files aside; what several share counts once."""
    total = 0
    for process in processes:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))
    return total / 1024


class _Client:
    """A tool at work in a process of its own."""

    def __init__(self, python: str, tool: str, url: str, count: int, folder: Path) -> None:
        program = [python, __file__, "--work", tool, "--url", url, "--folder", str(folder)]
        program += ["--requests", str(count)]
        self._result = folder / RESULT
        # A file, not a pipe: a tool that says more than a pipe holds would wait for a reader.
        self._log = (folder.parent / f"{folder.name}.log").open("a+")
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            program, stdout=self._log, stderr=self._log, start_new_session=True
        )

    def stop(self) -> None:
        """Kills it and all that it has started."""
        family = _family(self.process.pid)
        for process in family:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def wait(self, until: Callable[[], bool], limit: float) -> tuple[bool, float]:
        """Waits for the end or for ``until``; whether either came, and the most memory seen."""
        most, end = 0.0, self.began + limit
        while self.process.poll() is None and not until():
            if time.perf_counter() > end:
                return False, most
            most = max(most, _memory(_family(self.process.pid)))
            time.sleep(0.25)
        return True, most

    def texts(self) -> int | str:
        """How many texts it has, or the last line of what it said instead."""
        if self._result.exists():
            return int(self._result.read_text())
        self._log.seek(0)
        said = [line for line in self._log.read().splitlines() if line.strip()]
        return f"exit code {self.process.returncode}: {said[-1] if said else ''}"


def rate(python: str, tool: str, url: str, count: int, limit: float, room: Path) -> dict[str, Any]:
    """One undisturbed run."""
    folder = room / f"{tool}-rate"
    folder.mkdir()
    before, used = _served(url), os.times()
    client = _Client(python, tool, url, count, folder)
    ended, memory = client.wait(lambda: False, limit)
    seconds = time.perf_counter() - client.began
    if not ended:
        client.stop()
        return {"hung": f"no end within {limit:.0f} s, {_served(url) - before} answered"}
    texts, after = client.texts(), os.times()
    if isinstance(texts, str):
        return {"failed": texts}
    cpu = after.children_user + after.children_system - used.children_user - used.children_system
    return {
        "texts": texts,
        "seconds": round(seconds, 2),
        "requests_per_second": round(count / seconds, 1),
        "cpu_ms_per_request": round(1e3 * cpu / count, 2),
        "memory_mb": round(memory),
        "served": _served(url) - before,
    }


def kill(python: str, tool: str, url: str, count: int, limit: float, room: Path) -> dict[str, Any]:
    """A run that is killed in the middle, and the run after it."""
    folder = room / f"{tool}-kill"
    folder.mkdir()
    before = _served(url)
    client = _Client(python, tool, url, count, folder)
    client.wait(lambda: _served(url) - before >= count // 2, limit)
    client.stop()
    time.sleep(1)  # the server goes on with what was in flight
    half = _served(url) - before
    client = _Client(python, tool, url, count, folder)
    ended, _ = client.wait(lambda: False, limit)
    if not ended:
        client.stop()
        return {"killed_at": half, "hung": f"no end within {limit:.0f} s when run again"}
    texts, twice = client.texts(), _served(url) - before - count
    if isinstance(texts, str):
        return {"failed": texts}
    return {"killed_at": half, "texts": texts, "answered_twice": twice}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--peer", action="append", default=[], help="NAME=PYTHON")
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--limit", type=float, default=180, help="seconds a run may take")
    parser.add_argument("--work", choices=TOOLS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        texts = TOOLS[given.work](given.url, given.requests, given.folder)
        (given.folder / RESULT).write_text(str(texts))
        return
    pythons = {"japagen": sys.executable, **dict(peer.split("=", 1) for peer in given.peer)}
    server = [sys.executable, str(Path(__file__).with_name("latency_server.py"))]
    server += ["--latency", str(given.latency), "--room", str(ROOM)]
    process = subprocess.Popen(server, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as room:
        try:
            assert process.stdout
            url = f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
            for tool, python in pythons.items():
                for what in (rate, kill):
                    done = what(python, tool, url, given.requests, given.limit, Path(room))
                    found.setdefault(tool, {})[what.__name__] = done
                    print(tool, what.__name__, done, file=sys.stderr, flush=True)
        finally:
            process.terminate()
            process.wait()
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
