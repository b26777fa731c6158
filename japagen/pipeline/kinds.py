"""Kinds of task that make another dataset than labelled texts: what commands do with each.

A kind is a module of the pipeline that has the functions of `Kind`. It stands in `KINDS` under
the name that a task file gives as ``kind``; from there the command line finds it by the task
file, and by the copy of it that a run directory holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from japagen.config.task import OTHER_KINDS, Task
from japagen.config.yaml_file import read_mapping
from japagen.listener import Listener
from japagen.llm.backends.offline import HERE, Elsewhere
from japagen.llm.client import AskingTask

KINDS = {name: f"japagen.pipeline.{name}" for name in OTHER_KINDS}


class Kind(Protocol):
    """What a module in `KINDS` has."""

    def load(self, path: Path, overrides: Mapping[str, Any] | None = None) -> Any:
        """Reads a task file; see `Task.load`."""

    def run(
        self,
        task: Any,
        out: Path | None = None,
        *,
        listener: Listener | None = None,
        elsewhere: Elsewhere = HERE,
    ) -> Path:
        """Runs a task, or goes on where an earlier run stopped; returns the run directory."""

    def plan(self, task: Any, out: Path | None, number: int | None) -> dict[str, Any]:
        """What a run would take; see `estimate.estimate_requests`."""

    def preview(self, task: Any, number: int) -> list[dict[str, Any]]:
        """Prompts and answers; see `preview.sample`."""

    def summary(self, path: Path) -> Any:
        """What a finished run came to."""

    def report(self, path: Path, language: Literal["ja", "en"]) -> str:
        """The HTML report of a finished run."""

    def export(
        self, path: Path, output: Path, form: str | None, *, rejected: bool, overwrite: bool
    ) -> list[Path]:
        """Writes the dataset of a run with its card; returns what was written."""


def kind_of(path: Path) -> Kind | None:
    """The kind of a task file or a run directory; None where labelled texts are made.

    Raises:
        JapagenError: If the task file cannot be read.
    """
    file = path / "task.yaml" if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        return None
    home = KINDS.get(str(read_mapping(file).get("kind")))
    return cast(Kind, import_module(home)) if home else None


def load_task(path: Path, overrides: Mapping[str, Any] | None = None) -> AskingTask:
    """Reads a task file of any kind; see `Task.load`."""
    kind = kind_of(path)
    found: AskingTask = (kind or Task).load(path, overrides)
    return found
