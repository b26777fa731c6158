"""Runs a function over many inputs: here, in processes of this machine, or on a Ray cluster.

An engine knows nothing of what it runs. Results come in any order, and an input whose worker ends
in the middle of it comes back as `Died`, for certain: others that were running beside it are run
again. Whatever has to outlive an engine is left in files by the function itself (`data.shards`).

On Ray every input is a task of its own that is told the paths of files: no texts pass through the
object store or the driver, and a task that dies is known by name. What Ray Data would add, a
stream of blocks between stages, is what files with completion marks replace here.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Protocol, TypeVar

from japagen.errors import JapagenError, MissingExtraError

J = TypeVar("J")
R = TypeVar("R")

ENGINES = ("here", "processes", "ray")
# Enough for the descriptions of tasks, which are all that is kept there.
_OBJECT_STORE = 150_000_000
_ANSWERS_WITHIN = 5  # seconds


@dataclass(frozen=True)
class Died:
    """What stands in place of a result whose worker process ended.

    Attributes:
        reason: What is known of why.
    """

    reason: str


class Engine(Protocol):
    """Runs functions over inputs."""

    def map(
        self, function: Callable[[J], R], inputs: Iterable[J]
    ) -> Generator[tuple[J, R | Died], None, None]:
        """Yields each input with its result, in any order.

        Args:
            function: A function of a module, or anything else that can be pickled. It may be run
                more than once for an input.
            inputs: Taken as workers become free.

        Raises:
            Exception: Whatever the function raises.
        """


class Here:
    """One input after the other, in this process."""

    def map(
        self, function: Callable[[J], R], inputs: Iterable[J]
    ) -> Generator[tuple[J, R | Died], None, None]:
        """See `Engine.map`; nothing here can die alone."""
        for one in inputs:
            yield one, function(one)


class Processes:
    """Worker processes of this machine, a thread each.

    Args:
        workers: How many; one per core if None.
    """

    def __init__(self, workers: int | None = None) -> None:
        from joblib import cpu_count

        self.workers = workers or int(cpu_count())
        self._pool: Any = None

    def map(
        self, function: Callable[[J], R], inputs: Iterable[J]
    ) -> Generator[tuple[J, R | Died], None, None]:
        """See `Engine.map`."""
        rest = iter(inputs)
        while True:
            broken: list[J] = []
            yield from self._together(function, rest, broken, self.workers)
            if not broken:
                return
            # A pool breaks as a whole: which of them ended it shows when each has it to itself.
            for one in broken:
                alone = [one] if len(broken) == 1 else []
                if not alone:
                    yield from self._together(function, iter([one]), alone, 1)
                if alone:
                    yield one, Died("its worker process ended")

    def _together(
        self, function: Callable[[J], R], rest: Iterator[J], broken: list[J], at_a_time: int
    ) -> Iterator[tuple[J, R]]:
        """Runs inputs until there are none or the pool breaks; then those that ran are named."""
        running: dict[Future[R], J] = {}
        try:
            while not broken:
                with ctrl_c_held():  # Workers start here.
                    for one in islice(rest, at_a_time - len(running)):
                        running[self._started().submit(function, one)] = one
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    one = running.pop(future)
                    try:
                        result = future.result()
                    except BrokenExecutor:
                        broken.append(one)
                        continue
                    yield one, result
            broken.extend(running.values())
        finally:
            if running or broken:
                self.close()

    def _started(self) -> Any:
        if self._pool is None:
            from joblib.externals.loky import ProcessPoolExecutor

            # It starts a worker anew that has grown, as those of large shards do, and warns of it.
            warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
            self._pool = ProcessPoolExecutor(
                self.workers,
                initializer=obey,
                initargs=(os.getpid(),),
                env={"OMP_NUM_THREADS": "1"},
            )
        return self._pool

    def close(self) -> None:
        """Ends the workers, whatever they are doing."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None


class Ray:
    """Tasks of a Ray cluster that this process is connected to, one core each.

    Args:
        ray: The module.
        workers: Tasks that wait or run at a time; twice the cluster's cores if None.
    """

    def __init__(self, ray: Any, workers: int | None = None) -> None:
        self._ray = ray
        self._most = workers or max(1, 2 * int(ray.cluster_resources().get("CPU", 1)))

    def map(
        self, function: Callable[[J], R], inputs: Iterable[J]
    ) -> Generator[tuple[J, R | Died], None, None]:
        """See `Engine.map`."""
        ray, rest = self._ray, iter(inputs)
        ended = (
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.OutOfMemoryError,
            ray.exceptions.NodeDiedError,
        )
        # Ray would run a task that kills its worker again and again, and say nothing.
        task = ray.remote(num_cpus=1, max_retries=0)(lambda one: function(one))
        running: dict[Any, J] = {}
        try:
            while True:
                for one in islice(rest, self._most - len(running)):
                    running[task.remote(one)] = one
                if not running:
                    return
                for reference in ray.wait(list(running), num_returns=1)[0]:
                    one = running.pop(reference)
                    try:
                        result = ray.get(reference)
                    except ended as error:
                        yield one, Died(str(error).partition("\n")[0])
                    else:
                        yield one, result
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


@contextmanager
def open_engine(
    name: str, *, address: str | None = None, workers: int | None = None
) -> Iterator[Engine]:
    """Yields an engine, and ends what it started.

    Args:
        name: One of `ENGINES`.
        address: Of a Ray cluster, ``auto`` for the one that runs on this machine. Without one,
            and without ``RAY_ADDRESS``, a cluster of this machine's cores is started.
        workers: How many inputs at a time; None takes what there is.

    Raises:
        JapagenError: If the name is unknown, an address is given to another engine than Ray, or
            the cluster cannot be reached.
    """
    if name not in ENGINES:
        raise JapagenError(f"Unknown engine '{name}'.", f"Use one of: {', '.join(ENGINES)}.")
    if address and name != "ray":
        raise JapagenError(
            f"Expected no --address for the engine '{name}', found '{address}'.",
            "Only --engine ray connects to a cluster.",
        )
    if name == "here":
        yield Here()
    elif name == "processes":
        processes = Processes(workers)
        try:
            yield processes
        finally:
            processes.close()
    else:
        with _connected(address or os.environ.get("RAY_ADDRESS"), workers) as engine:
            yield engine


@contextmanager
def _connected(address: str | None, workers: int | None) -> Iterator[Ray]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:
        # Ray would leave a token for this one cluster below the home directory.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        # Its workers would give way to all other programs: niceness 15.
        os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "ray", "The engine ray") from None
    if ray.is_initialized():  # Somebody's connection, which stays open.
        yield Ray(ray, workers)
        return
    # Sockets lie in there, whose paths may have 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    how: dict[str, Any] = {"address": address}
    if address is None:
        from joblib import cpu_count

        how = {
            "address": "local",
            "num_cpus": workers or int(cpu_count()),
            "num_gpus": 0,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE,
            "_temp_dir": str(folder),
        }
    try:
        try:
            if address and ":" in address:
                _reach(address)
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **how)
        except (ConnectionError, RuntimeError, ValueError, OSError, AssertionError) as error:
            raise JapagenError(
                f"Cannot reach a Ray cluster at '{how['address']}': "
                f"{str(error).partition(chr(10))[0]}",
                "Check that it runs (ray status) and its address; the same command goes on.",
            ) from error
        try:
            yield Ray(ray, workers)
        finally:
            # Of a cluster that was there before, this ends the connection alone.
            ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _reach(address: str) -> None:
    """Knocks at a door that Ray would stand before for minutes.

    Raises:
        OSError: If nobody answers.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=_ANSWERS_WITHIN):
        pass


@contextmanager
def ctrl_c_held() -> Iterator[None]:
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


def obey(parent: int) -> None:
    """Has a worker process leave Ctrl-C to its parent, and end when that has ended."""
    # A worker whose parent was killed would wait for ever for its results to be read.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
