"""What a run has made already: a step's result is kept while what it was made of stays the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel

from japagen.data.files import read_array, read_json, write_array, write_json, write_text
from japagen.data.formats import load_dataset, write_examples
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
    """The results of one run.

    Args:
        directory: Where they are kept.
        listener: Told of every step.
    """

    def __init__(self, directory: RunDirectory, listener: Listener) -> None:
        self.directory = directory
        self._listener = listener

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
        files = [file for file in step.files if Path(file).suffix]
        listener = told or self._listener

        def save(first: Path, made: Any) -> None:
            if step.save:
                step.save(first, made)
                return
            for file, part in zip(files, made if len(files) > 1 else [made], strict=True):
                _FORMATS[Path(file).suffix][0](self.directory.file(file), part)

        def load(first: Path) -> Any:
            if step.load:
                return step.load(first)
            parts = [_FORMATS[Path(f).suffix][1](self.directory.file(f)) for f in files]
            return tuple(parts) if len(files) > 1 else parts[0]

        made: T = self.directory.stage(
            step.name,
            {"version": step.version, **{name: canonical(v) for name, v in inputs.items()}},
            step.files,
            lambda: function(**inputs, **(uses or {})),
            save,
            load,
            say=lambda news, detail: listener.stage(step.name, news, detail),
        )
        if unanswered:
            self.directory.forget(step.name)
        return made

    def identity(self, name: str) -> Any:
        """What a finished step was made of, for steps that read what it left."""
        return read_json(self.directory.file("stages", f"{name}.json"))["fingerprint"]


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
