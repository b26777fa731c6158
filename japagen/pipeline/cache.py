"""What a run has made already: a step's result is kept while what it was made of stays the same."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel

from japagen.data.files import digest, read_array, read_json, write_array, write_json, write_text
from japagen.data.formats import load_dataset, write_examples
from japagen.errors import DamagedError
from japagen.listener import Listener
from japagen.pipeline.run_directory import RunDirectory

T = TypeVar("T")
Settings = TypeVar("Settings", bound=BaseModel)
_FORMATS: dict[str, tuple[Callable[[Path, Any], None], Callable[[Path], Any]]] = {
    ".parquet": (write_examples, load_dataset),
    ".json": (write_json, read_json),
    ".npy": (write_array, read_array),
    ".html": (write_text, lambda path: path.read_text(encoding="utf-8")),
}


@dataclass(frozen=True)
class Step:
    """A step whose result is kept in the run.

    Attributes:
        name: What messages, records and the report call it.
        version: Raised when its code makes something else of the same inputs.
        files: What it leaves, relative to the run. The result is written to the files, in the form
            that their suffix says; where there are several, it is a tuple with a part for each.
            Directories, which have no suffix, are left by the function itself.
        save: Writes the result to the first file, in place of that.
        load: Reads it from there.
    """

    name: str
    version: int
    files: tuple[str, ...]
    save: Callable[[Path, Any], None] | None = None
    load: Callable[[Path], Any] | None = None

    def named(self, name: str, *files: str) -> Step:
        """One of several steps that share their code and its version."""
        return replace(self, name=name, files=files)


class Cache:
    """The results of one run."""

    def __init__(self, directory: RunDirectory, listener: Listener) -> None:
        self.directory = directory
        self._listener = listener
        self._used: set[str] = set()

    def step(
        self,
        step: Step,
        function: Callable[..., T],
        /,
        *,
        uses: Mapping[str, Any] | None = None,
        unanswered: Sequence[str] = (),
        told: Listener | None = None,
        **inputs: Any,
    ) -> T:
        """Returns what ``function(**inputs, **uses)`` gives, made now or kept.

        A result is kept while the step's version and all ``inputs`` are the same, so the function
        should read nothing else.

        Args:
            step: What is done.
            function: Does it.
            uses: More arguments of the function that its result does not depend on, such as a
                listener, or that follow from the others.
            unanswered: Filled by the function with what got no answer; the result then is used,
                but made again next time.
            told: Told of the step in place of the run's listener.
            **inputs: Everything that the result depends on; see `canonical`.
        """
        listener = told or self._listener
        self._used.add(step.name)
        paths = [self.directory.file(file) for file in step.files]
        now = {
            name: digest(canonical(v)) for name, v in {"version": step.version, **inputs}.items()
        }
        before = _read_record(self._record(step.name))
        why = _why_again(before, now, paths)
        kept = False
        if before and not why:
            try:
                made: T = _load(step, paths)
                kept = True
                listener.stage(step.name, "kept", "")
            except DamagedError:
                why = "its output is damaged"
        if not kept:
            listener.stage(step.name, "start", why)
            # Without its record a result counts as unfinished, whatever happens while it is made.
            self._forget(step.name)
            self._take_over(step.name, [path for path in paths if not path.suffix])
            started = time.perf_counter()
            _forget_peak()
            made = function(**inputs, **(uses or {}))
            _save(step, paths, made)
            seconds = round(time.perf_counter() - started, 3)
            sizes = {path.name: _sizes(path) for path in paths if path.is_dir()}
            took = {"seconds": seconds, "peak_bytes": _peak_bytes()}
            write_json(self._record(step.name), {"fingerprint": now, **took, "sizes": sizes})
            listener.stage(step.name, "done", f"{seconds:.1f}")
        if unanswered:
            self._forget(step.name)
        return made

    def identity(self, name: str) -> Any:
        """What a finished step was made of, for steps that read what it left."""
        return read_json(self._record(name))["fingerprint"]

    def _record(self, name: str) -> Path:
        return self.directory.file("stages", f"{name}.json")

    def _forget(self, name: str) -> None:
        self._record(name).unlink(missing_ok=True)

    def _take_over(self, name: str, directories: Sequence[Path]) -> None:
        """Forgets the other steps that left one of some directories, which now gets another's."""
        if not directories:
            return
        for record in self.directory.file("stages").glob("*.json"):
            left = (_read_record(record) or {}).get("sizes", {})
            if record.stem != name and any(path.name in left for path in directories):
                self._forget(record.stem)

    def took(self, what: Literal["seconds", "peak_bytes"]) -> dict[str, Any]:
        """Time, or the most memory of this process, of each step of this run when it last ran.

        Steps that an earlier run of other settings left behind, such as other seeds, are no part
        of it. What the process held before, such as an encoder, counts as memory; other processes
        do not, and where nobody counts it there is none.
        """
        records = sorted(self.directory.file("stages").glob("*.json"))
        found = {r.stem: read_json(r).get(what) for r in records if r.stem in self._used}
        return {name: figure for name, figure in found.items() if figure is not None}


def _save(step: Step, paths: Sequence[Path], made: Any) -> None:
    if step.save:
        step.save(paths[0], made)
        return
    files = [path for path in paths if path.suffix]
    for file, part in zip(files, made if len(files) > 1 else [made], strict=True):
        _FORMATS[file.suffix][0](file, part)


def _load(step: Step, paths: Sequence[Path]) -> Any:
    if step.load:
        return step.load(paths[0])
    parts = [_FORMATS[path.suffix][1](path) for path in paths if path.suffix]
    return tuple(parts) if len(parts) > 1 else parts[0]


def _forget_peak() -> None:
    """Has the kernel count this process's peak of memory from here on; Linux alone can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int | None:
    """The most memory that this process has held since then; None where nobody counts it."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else None


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


def canonical(value: Any) -> Any:
    """What of a value counts when it is compared with that of an earlier run, JSON-ready.

    An object is stood for by its ``fingerprint`` or ``identity``, where it has one; settings by
    those that differ from their defaults; other data classes by the fields that are compared;
    mappings keep their order, since that of labels is the order of their probabilities.

    Raises:
        TypeError: For what cannot be compared, such as a function: it belongs into ``uses``.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Path | np.generic):
        return str(value)
    for name in ("fingerprint", "identity"):
        if (found := getattr(value, name, None)) is not None:
            return canonical(found)
    if isinstance(value, BaseModel):
        return canonical(value.model_dump(mode="json", exclude_defaults=True))
    if isinstance(value, np.ndarray):
        return [value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, Mapping):
        return [[canonical(key), canonical(part)] for key, part in value.items()]
    if isinstance(value, Set):
        return sorted(map(canonical, value))
    if isinstance(value, Sequence):
        return [canonical(part) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        return [canonical(getattr(value, f.name)) for f in fields(value) if f.compare]
    raise TypeError(f"{type(value).__name__} has no fingerprint; hand it over in `uses`")


def only(settings: Settings, *names: str, **sections: BaseModel) -> Settings:
    """Settings with the defaults in place of all but some.

    A step that is given these reads no more, and an edit of the others does not have it made again.

    Args:
        settings: Of a task, or a section of one; fields without a default stay as they are.
        *names: What the step reads.
        **sections: Sections of which it reads a part.
    """
    left_out = {
        name: field.get_default(call_default_factory=True)
        for name, field in type(settings).model_fields.items()
        if name not in names and not field.is_required()
    }
    return settings.model_copy(update=left_out | sections)
