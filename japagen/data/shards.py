"""Tables in shards: Parquet files of a run directory, each done when its completion file is there.

A kernel is a function from table to table that can be pickled. A step runs one over the shards of
the step before, and whoever starts the same command again, on whatever engine, goes on with those
that have no completion file. So a run may also be shared out in parts, which know of each other
by these files alone:

    OUT/sharded.json          what the run is made of; another command is refused
    OUT/input/00017.parquet   a piece of the input, unless that lies in Parquet shards already
    OUT/STEP/00017.parquet    what a step made of it
    OUT/done/STEP/00017.json  that it is whole: rows, time, peak memory of the worker
    OUT/aside/STEP/00017.json rows that ended the worker three times, and why they are not in it
    OUT/result.json           what all came to

Tables carry the column `ROW`, a row's number in the whole input: where shards begin changes no
result.
"""

from __future__ import annotations

import errno
import gc
import os
import re
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from japagen.data.engines import Died, Engine
from japagen.data.files import atomic, read_json, write_json
from japagen.data.tables import open_table
from japagen.errors import DamagedError, JapagenError

T = TypeVar("T")
Kernel: TypeAlias = Callable[[pa.Table], pa.Table]
"""Makes a table of a table; pickled, and called in any process. A row's result must not depend on
which rows come with it, unless the step puts together what belongs together."""

ROW = "japagen_row"
"""The column of a row's number in the whole input, from 0."""
SHARD_ROWS = 50_000
_MARK, _RESULT = "sharded.json", "result.json"
_DEATHS = 3
_MOST_FAILED = 10
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


# What a run is made of, as it is called on the command line.
_TOLD = {
    "files": "the input",
    "settings": "the curation settings (--set, --task), or options of the command",
    "gold": "gold texts",
    "unlabelled": "unlabelled texts",
    "model": "the model",
    "shard_rows": "--shard-rows",
    "columns": "--column",
    "text": "--column",
    "dictionary": "--user-dictionary",
    "honorifics": "--honorifics",
    "version": "the version of japagen",
}


class Listener(Protocol):
    """As much of `japagen.listener.Listener` as is told here."""

    def stage(self, name: str, news: str, detail: str) -> None:
        """A step was kept, starts or is done."""

    def note(self, message: str) -> None:
        """Something the user should know."""

    def track(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """Passes items through and shows how many are done."""


@dataclass(frozen=True)
class Part:
    """One of the parts that a run is shared out in.

    Attributes:
        number: From 1.
        of: How many there are.
    """

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Part:
        """Reads ``2/5``.

        Raises:
            JapagenError: If it is something else.
        """
        if text is None:
            return cls()
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            hint = "2/5 is the second of five: count from 1, up to the number of parts."
            raise JapagenError(f"Expected a part such as 2/5, found '{text}'.", hint)
        return cls(int(number), int(of))

    def has(self, place: int) -> bool:
        """Whether the piece of work at a place, from 0, belongs to this part."""
        return place % self.of == self.number - 1


@dataclass(frozen=True)
class Shard:
    """A Parquet file of the input.

    Attributes:
        name: Its number, as in the names of files.
        path: Where it lies.
        first: The number of its first row in the whole input.
        rows: How many it has.
    """

    name: str
    path: Path
    first: int
    rows: int


@dataclass(frozen=True)
class Piece:
    """What a kernel is given of one file.

    Attributes:
        path: The file.
        first: Number of its first row, where the file has no column `ROW`.
        between: A column with the least and the first too large of the values to read.
        columns: Those to read; all if None.
    """

    path: Path
    first: int | None = None
    between: tuple[str, int, int] | None = None
    columns: tuple[str, ...] | None = None

    def read(self) -> pa.Table:
        """Reads it, with the column `ROW`.

        Raises:
            DamagedError: If the file cannot be read.
        """
        filters = None
        if self.between is not None:
            name, low, high = self.between
            filters = [(name, ">=", low), (name, "<", high)]
        try:
            table = pq.read_table(
                self.path,
                columns=self.columns and list(self.columns),
                filters=filters,
                page_checksum_verification=True,
                partitioning=None,
            )
            table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            hint = "Put a whole file in its place; the same command goes on with what is left."
            raise DamagedError(self.path, hint) from error
        if self.first is None:
            return table
        numbers = pa.array(np.arange(self.first, self.first + len(table), dtype=np.int64))
        if ROW in table.column_names:  # Another run's.
            table = table.drop_columns([ROW])
        return table.append_column(ROW, numbers)


class Waiting(Exception):  # noqa: N818 (it is no error)
    """A step cannot start: other parts have not done theirs of the one before.

    Args:
        step: What they have to do.
        left: How many of its shards.
    """

    def __init__(self, step: str, left: int) -> None:
        super().__init__(step)
        self.step, self.left = step, left


@dataclass(frozen=True)
class _Job:
    """One shard of one step.

    Attributes:
        name: The shard.
        pieces: What it is made of.
        kernel: What makes it.
        output: Its file.
        done: Its completion file.
        without: Numbers of rows that are put aside.
        only: Try these places of the rows alone, and leave nothing.
    """

    name: str
    pieces: tuple[Piece, ...]
    kernel: Kernel
    output: Path
    done: Path
    without: tuple[int, ...] = ()
    only: tuple[int, int] | None = None

    def read(self) -> pa.Table:
        rows = pa.concat_tables([p.read() for p in self.pieces], promote_options="permissive")
        if self.without:
            kept = ~np.isin(rows.column(ROW).to_numpy(), self.without)
            rows = rows.filter(pa.array(kept))
        return rows if self.only is None else rows.slice(*self.only)


@dataclass(frozen=True)
class _Failed:
    """Why a shard could not be made."""

    message: str
    hint: str = ""
    full: bool = False


@dataclass(frozen=True)
class _Made:
    """A shard that is whole; rows are those that were read."""

    rows: int


def _run(job: _Job) -> _Made | _Failed:
    """Makes a shard, in any process; what goes wrong is told and not raised."""
    started, worked = time.perf_counter(), time.process_time()
    try:
        if job.only is None and job.done.exists():
            return _Made(int(read_json(job.done)["rows"]))
        rows = job.read()
        gc.disable()  # It would go through all rows again and again, a tenth of the time.
        made = job.kernel(rows)
        if job.only is None:
            _write(job.output, made)
            record = {"rows": len(rows), "made": len(made), "aside": len(job.without)}
            write_json(job.done, {**record, **_spent(started, worked)})
        return _Made(len(rows))
    except JapagenError as error:
        return _Failed(error.message, error.hint)
    except OSError as error:
        where = error.filename or job.output
        return _Failed(f"{where}: {error.strerror or error}", full=error.errno in _NO_ROOM)
    except Exception as error:  # whatever a kernel raises is told with the shard
        last = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{Path(last.filename).name}:{last.lineno}"
        return _Failed(f"{type(error).__name__}: {error} ({at})")
    finally:
        gc.enable()


def _write(path: Path, table: pa.Table) -> None:
    # Groups of rows small enough for a range of sorted values to be found by them.
    with atomic(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True, row_group_size=65_536)


def _lock(path: Path) -> Any:
    from filelock import FileLock  # here: whoever reads examples imports this module

    return FileLock(path)


def _spent(started: float, worked: float) -> dict[str, float]:
    """What was spent since the times of two clocks."""
    seconds = round(time.perf_counter() - started, 3)
    cpu = round(time.process_time() - worked, 3)
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak_mb()}


def peak_mb() -> int:
    """The most memory that this process has held, in MB; 0 where that is not known."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux, where getrusage counts what the parent held at the start
        held = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii", errors="replace"))
        if held:
            return int(held[1]) // 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@dataclass
class ShardedRun:
    """A run directory of shards.

    Attributes:
        path: The directory.
        engine: What runs the kernels.
        part: What this process does of it.
        listener: Told of every step.
        shards: The input.
        typed: Whether the input told numbers from texts, which CSV does not.
    """

    path: Path
    engine: Engine
    part: Part
    listener: Listener
    shards: list[Shard] = field(default_factory=list)
    typed: bool = True
    _lock: Any = None

    @classmethod
    def open(
        cls,
        path: Path,
        source: Path,
        made_of: Mapping[str, Any],
        engine: Engine,
        part: Part,
        listener: Listener,
        *,
        encoding: str | None = None,
        shard_rows: int = SHARD_ROWS,
    ) -> ShardedRun:
        """Makes the directory, or goes on in it.

        Args:
            path: The directory.
            source: A directory of Parquet files, which are read where they lie, or a file of any
                known format, which is cut into shards first.
            made_of: The command and all else that results depend on, JSON-ready.
            engine: What runs the kernels.
            part: What this process is to do of it.
            listener: Told of every step.
            encoding: Of a text file; found out when None.
            shard_rows: Rows of a shard where the input is cut.

        Raises:
            JapagenError: If the directory is another run's or in use, or the input cannot be read.
        """
        run = cls(path, engine, part, listener)
        files = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
        if not files or not all(file.is_file() for file in files):
            raise JapagenError(
                f"Expected a file or a directory of Parquet files at {source}, found none.",
                "Check the path.",
            )
        # Before the directory is claimed: a whole file of another size may take its place.
        counts = [_rows_of(file) for file in files if file.suffix.lower() == ".parquet"]
        table = None if source.is_dir() else open_table(source, encoding)
        if table is not None and next(table.rows(None), None) is None:
            raise JapagenError(f"Expected examples in {source}, found none.", "Fill it in.")
        sizes = {file.name: file.stat().st_size for file in files}
        run._claim({**made_of, "files": sizes, "shard_rows": shard_rows})
        run._lock = _lock(path / f".lock-{part.number}-of-{part.of}")
        try:
            run._lock.acquire(timeout=0)
        except TimeoutError:  # its Timeout is one
            raise JapagenError(
                f"Part {part.number} of {part.of} of {path} is being done by another process.",
                "Wait for it to finish.",
            ) from None
        run.typed = table is None or table.typed
        if table is not None:
            with _lock(path / ".lock-input"):
                files = run._cut(source, encoding, shard_rows)
            counts = [*map(_rows_of, files)]
        run._number(files, counts)
        return run

    def _claim(self, made_of: Mapping[str, Any]) -> None:
        mark = self.path / _MARK
        if not mark.is_file():
            if self.path.is_file() or any(self.path.glob("[!.]*")):
                raise JapagenError(
                    f"{self.path} exists and is not the directory of a sharded run; nothing was "
                    "written to it.",
                    "Choose another directory with --output.",
                )
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(mark, made_of)
        known = read_json(mark)
        # As JSON has it: tuples are lists.
        hint = "Choose another directory with --output, or repeat the command that made it."
        if (command := known.get("command")) != made_of.get("command"):
            raise JapagenError(f"{self.path} holds a run of 'japagen data {command}'.", hint)
        differing = [k for k in {*known, *made_of} if known.get(k) != _as_json(made_of.get(k))]
        if differing:
            told = sorted({f"  - {_TOLD.get(k, k)}" for k in differing})
            raise JapagenError(
                "\n".join([f"{self.path} holds a run that differs in:", *told]), hint
            )

    def _cut(self, source: Path, encoding: str | None, rows: int) -> list[Path]:
        """Writes the input in pieces, all but those that are there; the last mark says all are."""
        done, folder = self.path / "done" / "input.json", self.path / "input"
        if not done.is_file():
            self.listener.stage("input", "start", "")
            started, number = time.perf_counter(), 0
            for table in _tables(source, encoding, rows):
                path = folder / f"{number:05d}.parquet"
                if not path.is_file():
                    _write(path, table)
                number += 1
            write_json(done, {"shards": number})
            self.listener.stage("input", "done", f"{time.perf_counter() - started:.1f}")
        return [folder / f"{n:05d}.parquet" for n in range(read_json(done)["shards"])]

    def _number(self, paths: Sequence[Path], counts: Sequence[int]) -> None:
        first = 0
        for number, (path, rows) in enumerate(zip(paths, counts, strict=True)):
            self.shards.append(Shard(f"{number:05d}", path, first, rows))
            first += rows

    @property
    def rows(self) -> int:
        """How many rows the input has."""
        return sum(shard.rows for shard in self.shards)

    def release(self) -> None:
        """Lets other processes do this part."""
        if self._lock is not None:
            self._lock.release()

    def file(self, *parts: str) -> Path:
        """A path inside the directory."""
        return self.path.joinpath(*parts)

    def input(self) -> dict[str, list[Piece]]:
        """The pieces of the first step, by shard."""
        return {s.name: [Piece(s.path, s.first)] for s in self.shards}

    def output(self, step: str, *columns: str) -> dict[str, list[Piece]]:
        """What a step made of each shard, all of it or some columns."""
        return {
            s.name: [Piece(self.file(step, f"{s.name}.parquet"), columns=columns or None)]
            for s in self.shards
        }

    def step(self, name: str, kernel: Kernel, pieces: Mapping[str, Sequence[Piece]]) -> None:
        """Makes all that is not made yet, as far as it belongs to this part.

        Args:
            name: The step.
            kernel: What makes a shard of its pieces.
            pieces: By the name of the shard that is made of them.

        Raises:
            JapagenError: If shards cannot be made; the others are made first.
            OSError: If the disk is full.
            Waiting: If this part is done and others are not.
        """
        jobs = [
            _Job(
                shard,
                tuple(read),
                kernel,
                self.file(name, f"{shard}.parquet"),
                self.file("done", name, f"{shard}.json"),
                tuple(row["row"] for row in self._aside(name, shard)),
            )
            for place, (shard, read) in enumerate(pieces.items())
            if self.part.has(place)
        ]
        left = [job for job in jobs if not job.done.is_file()]
        if not left:
            self.listener.stage(name, "kept", "")
        else:
            self.listener.stage(name, "start", "")
            started = time.perf_counter()
            self._make(name, left)
            self.listener.stage(name, "done", f"{time.perf_counter() - started:.1f}")
        missing = [s for s in pieces if not self.file("done", name, f"{s}.json").is_file()]
        if missing:
            raise Waiting(name, len(missing))

    def alone(self, name: str, make: Callable[[], pa.Table]) -> Path:
        """Makes a table that needs all shards, once, in whichever process comes to it first."""
        path = self.file(f"{name}.parquet")
        with _lock(self.file(f".lock-{name}")):
            if not path.is_file():
                self.listener.stage(name, "start", "")
                started, worked = time.perf_counter(), time.process_time()
                table = make()
                _write(path, table)
                record = {"rows": len(table), "made": len(table), "aside": 0}
                write_json(self.file("done", name, "all.json"), record | _spent(started, worked))
                self.listener.stage(name, "done", f"{time.perf_counter() - started:.1f}")
        return path

    @property
    def result(self) -> dict[str, Any] | None:
        """What the run came to; None before it has."""
        path = self.file(_RESULT)
        return dict(read_json(path)) if path.is_file() else None

    def finish(self, result: Mapping[str, Any], *clear: str) -> None:
        """Keeps what the run came to, and removes what steps made on the way."""
        write_json(self.file(_RESULT), result)
        for step in clear:
            shutil.rmtree(self.file(step), ignore_errors=True)

    def _make(self, name: str, jobs: Sequence[_Job]) -> None:
        deaths: Counter[str] = Counter()
        reasons: dict[str, str] = {}
        failed: dict[str, _Failed] = {}
        waiting = list(jobs)
        with_bar = partial(self.listener.track, total=len(jobs), what=name)
        while waiting and len(failed) < _MOST_FAILED:
            again: list[_Job] = []
            with closing(self.engine.map(_run, waiting)) as results:
                for job, result in with_bar(results):
                    if isinstance(result, Died):
                        deaths[job.name] += 1
                        again.append(job)
                        reasons[job.name] = result.reason
                    elif isinstance(result, _Failed):
                        if result.full:
                            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(job.output))
                        failed[job.name] = result
                        if len(failed) >= _MOST_FAILED:
                            break
            waiting = []
            for job in again:
                if deaths[job.name] < _DEATHS:
                    waiting.append(job)
                elif aside := self._deadly(name, job, reasons[job.name]):
                    deaths[job.name] = 0
                    waiting.append(replace(job, without=(*job.without, *aside)))
                else:
                    failed[job.name] = _Failed(
                        f"{reasons[job.name]}, {_DEATHS} times, and no single row does it",
                        "It may have run out of memory: give fewer --workers.",
                    )
        if failed:
            shown = "; ".join(
                f"{self.file(name, shard).name} ({self._where(jobs, shard)}): {why.message}"
                for shard, why in sorted(failed.items())[:3]
            )
            hint = next((why.hint for why in failed.values() if why.hint), "")
            raise JapagenError(
                f"{len(failed)} of {len(jobs)} shards of the step '{name}' could not be made: "
                f"{shown}",
                hint or "What is made stays; the same command goes on with the others.",
            )

    def _where(self, jobs: Sequence[_Job], shard: str) -> str:
        return next(str(job.pieces[0].path) for job in jobs if job.name == shard)

    def _aside(self, step: str, shard: str) -> list[dict[str, Any]]:
        path = self.file("aside", step, f"{shard}.json")
        return list(read_json(path)) if path.is_file() else []

    def _deadly(self, step: str, job: _Job, reason: str) -> list[int]:
        """Numbers of the rows that end a worker by themselves, found by halving.

        What is found is put aside in a file of its own, with all that the rows hold.
        """
        rows = job.read()
        found: list[int] = []
        halves = [(0, len(rows))]
        while halves:
            start, size = halves.pop()
            tried = self.engine.map(_run, [replace(job, only=(start, size))])
            if not isinstance(next(tried)[1], Died):
                continue
            if size == 1:
                found.append(start)
            else:
                half = size // 2
                halves += [(start, half), (start + half, size - half)]
        if not found:
            return []
        numbers = rows.column(ROW).to_pylist()
        path = self.file("aside", step, f"{job.name}.json")
        told = [
            {"row": numbers[at], "reason": reason, "values": _shown(rows, at)}
            for at in sorted(found)
        ]
        write_json(path, [*self._aside(step, job.name), *told])
        self.listener.note(
            f"{len(found)} rows of shard {job.name} end every worker that reads them: they are put "
            f"aside in {path}."
        )
        return [numbers[at] for at in found]

    def summary(self, *steps: str) -> dict[str, dict[str, float]]:
        """What steps took, over all shards: rows, seconds of work, and the most memory in MB."""
        found = {}
        for step in steps:
            done = [read_json(path) for path in sorted(self.file("done", step).glob("*.json"))]
            seconds = sum(one["seconds"] for one in done)
            rows = sum(one["rows"] for one in done)
            found[step] = {
                "rows": rows,
                "aside": sum(one["aside"] for one in done),
                "seconds": round(seconds, 1),
                "cpu_seconds": round(sum(one["cpu_seconds"] for one in done), 1),
                "rows_per_second": round(rows / seconds, 1) if seconds else 0.0,
                "peak_mb": max((one["peak_mb"] for one in done), default=0),
            }
        return found


def _rows_of(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError, ValueError) as error:
        hint = "Put a whole file in its place; rows cannot be numbered without it."
        raise DamagedError(path, hint) from error


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _as_json(v) for k, v in value.items()}
    return [_as_json(v) for v in value] if isinstance(value, list | tuple) else value


def _shown(rows: pa.Table, at: int) -> dict[str, Any]:
    values = rows.slice(at, 1).to_pylist()[0]
    return {k: v if isinstance(v, int | float | bool) else str(v) for k, v in values.items() if v}


def _tables(source: Path, encoding: str | None, rows: int) -> Iterator[pa.Table]:
    """A file in tables of so many rows, one at a time."""
    if source.suffix.lower() == ".parquet":
        try:
            with pq.ParquetFile(source, page_checksum_verification=True) as file:
                # Batches end with row groups.
                batches = file.iter_batches(min(rows, 8192))
                yield from _of_rows(batches, file.schema_arrow, rows)
        except (pa.ArrowException, ValueError) as error:
            raise DamagedError(source, "Put a whole file in its place.") from error
        return
    table = open_table(source, encoding)
    found = (row for _, row in table.rows(None))
    schema = None if table.typed else pa.schema([(name, pa.string()) for name in table.names])
    while chunk := list(islice(found, rows)):
        # Rows of JSON leave out what they lack.
        names = dict.fromkeys(name for row in chunk for name in row)
        yield pa.table({name: [row.get(name) for row in chunk] for name in names}, schema)


def _of_rows(batches: Iterable[pa.RecordBatch], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += len(batch)
        while count >= rows:
            table = pa.Table.from_batches(held, schema)
            yield table.slice(0, rows).combine_chunks()
            rest = table.slice(rows)
            held, count = rest.to_batches(), len(rest)
    if count:
        yield pa.Table.from_batches(held, schema).combine_chunks()
