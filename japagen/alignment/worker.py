"""The process that counts blocks for another; started by `japagen.alignment.workers`.

It reads pickled messages from standard input, first what to set up and then one job at a time,
and answers each on standard output with None or the exception that came up. When its input ends,
its parent is gone: it removes the directory that they share and leaves.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple


class Job(NamedTuple):
    """One block to count: rows ``start`` to ``stop`` of a column of a dataset's texts."""

    number: int
    dataset: int
    column: str
    start: int
    stop: int


def texts_path(directory: Path, dataset: int) -> Path:
    """Where the texts of a dataset lie, as an Arrow IPC file."""
    return directory / f"texts-{dataset}.arrow"


def block_path(directory: Path, job: Job) -> Path:
    """Where the block of a job goes."""
    return directory / f"block-{job.number}.npz"


class _Counter:
    def __init__(self, directory: Path, tagger: Any) -> None:
        from japagen.alignment.blocks import Lexicon

        self._directory = directory
        self._lexicon = Lexicon(tagger)
        self._tables: dict[int, Any] = {}

    def count(self, job: Job) -> None:
        import pyarrow as pa

        from japagen.alignment.blocks import count_block
        from japagen.alignment.shards import save_block

        if job.dataset not in self._tables:
            file = pa.memory_map(str(texts_path(self._directory, job.dataset)))
            self._tables[job.dataset] = pa.ipc.open_file(file).read_all()
        rows = self._tables[job.dataset].slice(job.start, job.stop - job.start)
        texts, ids = (rows.column(name).to_numpy().tolist() for name in (job.column, "id"))
        save_block(block_path(self._directory, job), count_block(texts, self._lexicon), ids)


def _picklable(error: Exception) -> Exception:
    error.add_note("In a worker process:\n" + "".join(traceback.format_tb(error.__traceback__)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def _remove(directory: Path) -> None:
    # More than once: the other workers may be writing there a last time.
    for _ in range(5):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.2)


def _serve(requests: BinaryIO, answers: BinaryIO, directory: Path, tagger: bytes) -> None:
    counter: _Counter | None = None
    while True:
        try:
            job = pickle.load(requests)
        except EOFError:
            return
        answer: Exception | None = None
        try:
            if counter is None:
                counter = _Counter(directory, pickle.loads(tagger))
            counter.count(job)
        except Exception as error:
            answer = _picklable(error)
        pickle.dump(answer, answers)
        answers.flush()


def main() -> None:
    """Serves until the input ends. Nothing else may write to the answers' channel."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    path, directory, tagger = pickle.load(requests)
    sys.path[:] = path
    with contextlib.suppress(BrokenPipeError):
        _serve(requests, answers, directory, tagger)
    _remove(directory)
    os._exit(0)  # What was not written has no reader.


if __name__ == "__main__":
    main()
