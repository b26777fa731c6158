"""The run directory: one task's stages, each with a fingerprint, written atomically."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from japagen.errors import DamagedError, JapagenError
from japagen.storage.files import digest, read_json, write_json

T = TypeVar("T")
_MARK = "run.json"
# What `files.atomic` and `Classifier.save` call a file until it is whole.
_LEFTOVER = re.compile(r"\.[\w.-]+\.[a-z0-9_]{8}")


class RunDirectory:
    """Where a run keeps what it made, so that it can go on after any interruption.

    Args:
        path: The directory; made if it does not exist.
        task_name: The task that the directory belongs to.

    Raises:
        JapagenError: If the directory holds something else, belongs to another task, or is in
            use by another process.
    """

    def __init__(self, path: str | Path, task_name: str) -> None:
        self.path = Path(path)
        self._claim(task_name)
        self._lock = FileLock(self.path / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise JapagenError(
                f"{self.path} is in use by another japagen process.",
                "Wait for it to finish, or choose another --out.",
            ) from None
        self._clear_leftovers()
        self._used: set[str] = set()

    def _claim(self, task_name: str) -> None:
        mark = self.path / _MARK
        if mark.is_file():
            owner = task_of(self.path)
            if owner != task_name:
                raise JapagenError(
                    f"{self.path} belongs to the task '{owner}', not to '{task_name}'.",
                    "Choose another directory with --out.",
                )
            return
        if self.path.exists() and (not self.path.is_dir() or _foreign(self.path)):
            raise JapagenError(
                f"{self.path} exists and is not a run directory; nothing was written to it.",
                "Choose another directory with --out.",
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JapagenError(
                f"Cannot make the run directory {self.path}: {error.strerror}.",
                "Choose another directory with --out.",
            ) from None
        write_json(mark, {"task": task_name, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z")})

    def release(self) -> None:
        """Lets other processes use the directory."""
        self._lock.release()

    @property
    def created(self) -> str:
        """When the directory was made, ISO 8601."""
        return str(read_json(self.path / _MARK)["created"])

    def file(self, *parts: str) -> Path:
        """A path inside the directory."""
        return self.path.joinpath(*parts)

    def stage(
        self,
        name: str,
        fingerprint: Mapping[str, Any],
        outputs: Sequence[str],
        make: Callable[[], T],
        save: Callable[[Path, T], None],
        load: Callable[[Path], T],
        say: Callable[[str, str], None] = lambda name, news: None,
    ) -> T:
        """Returns a stage's result, made now or kept from an earlier run.

        Args:
            name: The stage.
            fingerprint: Everything that the result depends on; JSON-ready.
            outputs: Files or directories that the stage leaves, relative to the run.
            make: Computes the result.
            save: Writes it to the first of the outputs; has to be atomic.
            load: Reads it from there.
            say: Told ``("kept", "")``, ``("start", why)`` or ``("done", seconds)``.
        """
        self._used.add(name)
        record = self.file("stages", f"{name}.json")
        paths = [self.file(output) for output in outputs]
        parts = {key: digest(value) for key, value in fingerprint.items()}
        before = _read_record(record)
        why = _why_again(before, parts, paths)
        if before and not why:
            try:
                kept = load(paths[0])
            except DamagedError:
                why = "its output is damaged"
            else:
                say("kept", "")
                return kept
        say("start", why)
        # Without its record a result counts as unfinished, whatever happens while it is made.
        record.unlink(missing_ok=True)
        started = time.perf_counter()
        made = make()
        save(paths[0], made)
        seconds = round(time.perf_counter() - started, 3)
        made_files = {path.name: _sizes(path) for path in paths if path.is_dir()}
        write_json(record, {"fingerprint": parts, "seconds": seconds, "sizes": made_files})
        say("done", f"{seconds:.1f}")
        return made

    def forget(self, name: str) -> None:
        """Has a stage run again next time, whatever its inputs."""
        self.file("stages", f"{name}.json").unlink(missing_ok=True)

    def forget_others(self, name: str) -> None:
        """Forgets the stages that are called like this one but for what follows the last dash."""
        family = name.rpartition("-")[0]
        for record in self.file("stages").glob(f"{family}-*.json"):
            if record.stem != name:
                self.forget(record.stem)

    def seconds(self) -> dict[str, float]:
        """Time that each stage of this run took when it last ran.

        Stages that an earlier run of other settings left behind, such as other seeds, are no
        part of it.
        """
        return {
            record.stem: read_json(record)["seconds"]
            for record in sorted(self.file("stages").glob("*.json"))
            if record.stem in self._used
        }

    def _clear_leftovers(self) -> None:
        """Removes half-written files that a killed process left; the lock is held."""
        for folder in (self.path, *map(self.file, ("stages", "predictions", "rounds"))):
            for path in folder.glob(".*"):
                if not _LEFTOVER.fullmatch(path.name):
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _read_record(path: Path) -> dict[str, Any] | None:
    """A stage's record; a damaged one counts as none."""
    try:
        record = read_json(path)
    except (FileNotFoundError, DamagedError):
        return None
    return record if isinstance(record, dict) and "fingerprint" in record else None


def _why_again(
    before: Mapping[str, Any] | None, now: Mapping[str, str], paths: Sequence[Path]
) -> str:
    """Why a stage has to run again; empty when it has not, or has never run."""
    if not before:
        return ""
    was = before["fingerprint"]
    changed = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    if changed:
        return f"changed: {', '.join(changed)}"
    if not all(path.exists() for path in paths):
        return "its output is missing"
    # Files are read back, and so checked; directories are not.
    sizes = before.get("sizes", {})
    whole = all(sizes[p.name].items() <= _sizes(p).items() for p in paths if p.name in sizes)
    return "" if whole else "its output is damaged"


def _sizes(directory: Path) -> dict[str, int]:
    """Bytes of every file below a directory."""
    return {
        path.relative_to(directory).as_posix(): path.stat().st_size
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _foreign(directory: Path) -> bool:
    """Whether a directory holds anything but what a run killed at its first step left."""
    return any(
        not (path.name.startswith(f".{_MARK}.") and _LEFTOVER.fullmatch(path.name))
        for path in directory.iterdir()
    )


def is_run(path: str | Path) -> bool:
    """Whether a path is a run directory."""
    return (Path(path) / _MARK).is_file()


def task_of(path: str | Path) -> str:
    """Returns the name of the task that a run directory belongs to.

    Raises:
        JapagenError: If the path is not a run directory.
    """
    mark = Path(path) / _MARK
    try:
        return str(read_json(mark)["task"])
    except (FileNotFoundError, NotADirectoryError):
        raise JapagenError(
            f"Expected a run directory, found no {_MARK} in {path}.",
            "Give the directory that `japagen run` wrote.",
        ) from None
    except (DamagedError, KeyError, TypeError):
        raise DamagedError(mark, "Choose another directory with --out.") from None
