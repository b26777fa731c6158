"""The run directory: one task's stages, each with a fingerprint, written atomically."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from japagen.errors import JapagenError
from japagen.files import digest, read_json, write_json

T = TypeVar("T")
_MARK = "run.json"


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
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise JapagenError(
                f"{self.path} exists and is not a run directory; nothing was written to it.",
                "Choose another directory with --out.",
            )
        self.path.mkdir(parents=True, exist_ok=True)
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
        record = self.file("stages", f"{name}.json")
        paths = [self.file(output) for output in outputs]
        parts = {key: digest(value) for key, value in fingerprint.items()}
        before = read_json(record) if record.is_file() else None
        if before and before["fingerprint"] == parts and all(p.exists() for p in paths):
            say("kept", "")
            return load(paths[0])
        say("start", _changes(before["fingerprint"], parts) if before else "")
        # Without its record a result counts as unfinished, whatever happens while it is made.
        record.unlink(missing_ok=True)
        started = time.perf_counter()
        made = make()
        save(paths[0], made)
        seconds = round(time.perf_counter() - started, 3)
        write_json(record, {"fingerprint": parts, "seconds": seconds})
        say("done", f"{seconds:.1f}")
        return made

    def forget(self, name: str) -> None:
        """Has a stage run again next time, whatever its inputs."""
        self.file("stages", f"{name}.json").unlink(missing_ok=True)

    def seconds(self) -> dict[str, float]:
        """Time that each finished stage took when it last ran."""
        return {
            record.stem: read_json(record)["seconds"]
            for record in sorted(self.file("stages").glob("*.json"))
        }


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return f"changed: {', '.join(changed)}" if changed else "its output is missing"


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
    except (ValueError, KeyError, TypeError):
        raise JapagenError(f"{mark} is damaged.", "Choose another directory with --out.") from None
