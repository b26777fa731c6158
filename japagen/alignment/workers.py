"""Counts the blocks of large datasets in processes of their own.

Each is a fresh interpreter and neither a fork nor a `multiprocessing` child: a fork copies locks
that other threads hold, and a spawned child runs the user's script again unless it guards
against that. Texts and blocks pass through a temporary directory, the pipes carry row numbers.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from japagen.alignment.blocks import Block, Lexicon, count_block
from japagen.alignment.shards import load_block
from japagen.alignment.worker import Job, block_path, texts_path
from japagen.errors import JapagenError
from japagen.japanese.morphology import Tagger

# UTF-8 bytes that a worker must have to do before it is worth starting: it takes half a second,
# in which some 20,000 short sentences are counted.
_BYTES_A_WORKER = 3_000_000


def default_workers(size: int) -> int:
    """Returns how many processes are worth it for ``size`` bytes of text; 1 is this one."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # Only Linux has it.
        cores = os.cpu_count() or 1
    return max(1, min(cores, size // _BYTES_A_WORKER))


def count_jobs(
    tables: Sequence[pa.Table], jobs: Sequence[Job], tagger: Tagger, workers: int
) -> Generator[tuple[Job, Block], None, None]:
    """Yields the block of every job, in any order.

    Args:
        tables: The datasets' texts: columns ``id`` and those that the jobs name.
        jobs: What to count.
        tagger: The morphological analyser.
        workers: How many processes; with 1 nothing is started or written.

    Raises:
        JapagenError: If a process ends without an answer.
        Exception: Whatever counting raises, in a worker or here.
    """
    if workers > 1 and len(jobs) > 1:
        yield from _in_processes(tables, jobs, tagger, min(workers, len(jobs)))
        return
    lexicon = Lexicon(tagger)
    for job in jobs:
        yield job, count_block(_values(tables, job, job.column), lexicon)


def _values(tables: Sequence[pa.Table], job: Job, column: str) -> list[str]:
    rows = tables[job.dataset].column(column).slice(job.start, job.stop - job.start)
    return list(rows.to_numpy().tolist())


def _in_processes(
    tables: Sequence[pa.Table], jobs: Sequence[Job], tagger: Tagger, workers: int
) -> Iterator[tuple[Job, Block]]:
    with tempfile.TemporaryDirectory(prefix="japagen-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        for number in {job.dataset for job in jobs}:
            _write_texts(texts_path(directory, number), tables[number])
        with _pool(directory, tagger, workers) as processes:
            for job in _answered(processes, jobs):
                path = block_path(directory, job)
                block, ids = load_block(path)
                path.unlink()
                if ids != _values(tables, job, "id"):
                    raise RuntimeError(f"The block of {job} holds other rows than were asked for.")
                yield job, block


def _write_texts(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


@contextlib.contextmanager
def _pool(directory: Path, tagger: Tagger, workers: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Starts the workers, and ends them at once whatever happens."""
    processes: list[subprocess.Popen[bytes]] = []
    greeting = pickle.dumps((sys.path, directory, pickle.dumps(tagger)))
    try:
        for _ in range(workers):
            process = subprocess.Popen(
                [sys.executable, "-c", "from japagen.alignment.worker import main; main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
                # Ctrl-C is for this process, which then ends the others.
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
            processes.append(process)
            assert process.stdin is not None
            process.stdin.write(greeting)
            process.stdin.flush()
        yield processes
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                # A request that was never read cannot be flushed either.
                with contextlib.suppress(OSError):
                    assert pipe is not None
                    pipe.close()


def _answered(processes: Sequence[subprocess.Popen[bytes]], jobs: Sequence[Job]) -> Iterator[Job]:
    """Gives every free worker the next job; yields jobs as they are done."""
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[Job, Exception | None]] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    for process in processes:
        threading.Thread(target=_drive, args=(process, waiting, answers), daemon=True).start()
    for _ in jobs:
        job, error = answers.get()
        if error is not None:
            raise error
        yield job


def _drive(
    process: subprocess.Popen[bytes],
    waiting: queue.SimpleQueue[Job],
    answers: queue.SimpleQueue[tuple[Job, Exception | None]],
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    while True:
        try:
            job = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            pickle.dump(job, process.stdin)
            process.stdin.flush()
            answer = pickle.load(process.stdout)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            answer = JapagenError(
                f"A worker process ended with status {process.wait()} before its work was done.",
                "It may have run out of memory: use fewer workers.",
            )
        answers.put((job, answer))
        if answer is not None:
            return
