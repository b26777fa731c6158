"""Cuts texts into blocks and counts them, here or in joblib's worker processes."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from joblib import Parallel, cpu_count, delayed

from japagen.alignment.blocks import Block, Lexicon, count_block
from japagen.errors import JapagenError
from japagen.japanese.morphology import Tagger

# Fixed, so that where blocks begin does not depend on how many workers count them.
BLOCK_ROWS, BLOCK_BYTES = 16_384, 8_000_000
# UTF-8 bytes that a worker must have to do before it is worth starting: it takes half a second,
# in which some 20,000 short sentences are counted.
_BYTES_A_WORKER = 3_000_000
# Seconds that an idle worker waits for more, holding its lexicon.
_IDLE_SECONDS = 5


def default_workers(size: int) -> int:
    """Returns how many processes are worth it for ``size`` bytes of text; 1 is this one."""
    return max(1, min(cpu_count(), size // _BYTES_A_WORKER))


def spans(texts: pa.ChunkedArray) -> list[tuple[int, int]]:
    """Cuts texts into blocks of at most 16,384 rows and, beyond one row, 8 MB of UTF-8."""
    sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
    ends = np.cumsum(sizes, dtype=np.int64)
    found = []
    start, read = 0, 0
    while start < len(ends):
        full = int(np.searchsorted(ends, read + BLOCK_BYTES, side="right"))
        stop = min(max(full, start + 1), start + BLOCK_ROWS, len(ends))
        found.append((start, stop))
        start, read = stop, int(ends[stop - 1])
    return found


def count_blocks(
    texts: Sequence[pa.ChunkedArray], tagger: Tagger, workers: int
) -> Generator[Block, None, None]:
    """Yields the counts of each block of texts, in order.

    Args:
        texts: The texts of each block.
        tagger: The morphological analyser.
        workers: How many processes; with 1 nothing is started.

    Raises:
        JapagenError: If a process ends without an answer.
        Exception: Whatever counting raises, in a worker or here.
    """
    lexicon = Lexicon(tagger)
    # Threads would share one MeCab, so the caller's choice of joblib's backend does not count.
    parallel = Parallel(
        n_jobs=max(1, min(workers, len(texts))),
        backend="loky",
        return_as="generator",
        batch_size=1,
        idle_worker_timeout=_IDLE_SECONDS,
        initializer=_obey_parent,
    )
    with _ctrl_c_held():  # The workers start here, the counting below.
        blocks = parallel(
            delayed(count_block)(block.to_numpy().tolist(), lexicon) for block in texts
        )
    try:
        for block in blocks:  # noqa: UP028 (closed below, not by `yield from`)
            yield block
    except BrokenExecutor as error:
        raise JapagenError(
            "A worker process ended before its work was done.",
            "It may have run out of memory: use fewer workers.",
        ) from error
    finally:
        with warnings.catch_warnings():
            # Whoever stops early knows that blocks are left.
            warnings.simplefilter("ignore", UserWarning)
            blocks.close()


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Holds Ctrl-C back, for good in processes that start meanwhile: their parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows has none.
        yield
        return
    resource_tracker.ensure_running()  # Started later, it would let Ctrl-C through again.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _obey_parent() -> None:
    """Leaves Ctrl-C to the parent, and ends this worker with a parent that was killed.

    By itself a worker would wait for ever for its results to be read.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
