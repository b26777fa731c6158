"""A finished or half-finished run, read back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from japagen.errors import DamagedError, JapagenError
from japagen.examples import Dataset
from japagen.running.runs import is_run, task_of
from japagen.storage.files import read_json
from japagen.storage.formats import load_dataset

_EXAMPLES = {"generate": "written.parquet", "curate": "registers.parquet"}

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier


@dataclass(frozen=True)
class Run:
    """A run directory and what is in it.

    Attributes:
        path: The directory.
    """

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Opens a directory that `run` wrote.

        Raises:
            JapagenError: If it is not a run directory.
        """
        task_of(path)
        return cls(Path(path))

    def _need(self, name: str, command: str) -> Path:
        path = self.path / name
        if not path.exists():
            raise JapagenError(
                f"{self.path} has no {name} yet.", f"Finish the run first: japagen {command}"
            )
        return path

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds."""
        path = self._need("metrics.json", "run CONFIG")
        found = read_json(path)
        if not isinstance(found, dict) or "task" not in found:
            raise DamagedError(path)
        return found

    @cached_property
    def dataset(self) -> Dataset:
        """The synthetic examples, rejected ones included, with registers and weights."""
        return self.after("train")

    def after(self, stage: str) -> Dataset:
        """The examples as a stage (generate, curate or a later one) left them."""
        name = _EXAMPLES.get(stage, "aligned.parquet")
        if stage == "curate" and (self.path / "refined.parquet").is_file():
            name = "refined.parquet"
        return load_dataset(self._need(name, f"{stage} CONFIG"))

    @cached_property
    def latest(self) -> Dataset:
        """The examples as the last finished stage left them, rejected ones included."""
        names = ("aligned", "reviewed", "trusted", "refined", "registers", "curated")
        found = next((n for n in names if (self.path / f"{n}.parquet").is_file()), "written")
        return load_dataset(self._need(f"{found}.parquet", "generate CONFIG"))

    @cached_property
    def classifier(self) -> Classifier:
        """The fine-tuned classifier of the first seed."""
        from japagen.training.classifier import Classifier

        return Classifier.load(self._need("model", "train CONFIG"))


def open_classifier(path: Path) -> Classifier:
    """The classifier of a run, or one that was saved or exported on its own.

    Raises:
        JapagenError: If there is none.
    """
    from japagen.training.classifier import Classifier

    return Run.open(path).classifier if is_run(path) else Classifier.load(path)
