"""The directory of a run: its files, its results and its versions."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from japagen.config.task import Task, need_labels
from japagen.config.yaml_file import read_mapping
from japagen.data.dataset import Dataset, html_table
from japagen.data.files import TEMPORARY, digest, read_json, write_json
from japagen.data.formats import load_dataset
from japagen.data.summary import RunSummary
from japagen.errors import DamagedError, JapagenError

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier


_MARK = "run.json"
# What `files.atomic` and `files.atomic_directory` call a file until it is whole.
_LEFTOVER = re.compile(rf"\..+{re.escape(TEMPORARY)}")


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


# What holds the examples after a stage, the best first; in a run that was stopped within a stage
# they may be in any file of _NEWEST.
_LEFT_BY = {"generate": ("written",), "curate": ("judged", "refined", "registers")}
_NEWEST = (
    "aligned",
    "reviewed-synthesised",
    "synthesised",
    "selected",
    "reviewed",
    "trusted",
    "judged",
    "refined",
    "registers",
    "curated",
    "written",
)


@dataclass(frozen=True)
class Run:
    """A run directory and what is in it.

    Attributes:
        path: The directory.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Opens a directory that `run` wrote.

        Raises:
            JapagenError: If it is not a run directory, or one of a task without labels.
        """
        task_of(path)
        if (task := Path(path) / "task.yaml").is_file():
            need_labels(read_mapping(task), str(path))
        return cls(Path(path))

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self._verdict()[0]}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict, the scores and where the report is."""
        title, *more = self._verdict()
        rows: list[list[Any]] = [["", text] for text in more]
        if (self.path / "metrics.json").is_file():
            counts, scores = self.summary.counts, self.summary.scores
            rows.append(["kept", f"{counts.kept:,} / {counts.generated:,}"])
            arms = (
                {"gold": scores.gold_only, "gold + synthetic": scores.with_synthetic}
                if scores
                else {}
            )
            for name, arm in arms.items():
                if scores and arm:
                    figures = (f"{metric} {arm.score(metric):.3f}" for metric in scores.metrics)
                    rows.append([name, ", ".join(figures)])
        return html_table(title, [], [*rows, ["", str(self.path)]])

    def _verdict(self) -> list[str]:
        if not (self.path / "metrics.json").is_file():
            return ["not finished"]
        from japagen.reporting.report import verdict_texts

        return verdict_texts(self.summary)

    def report(self) -> Path:
        """The report, one HTML file that needs nothing else; a browser shows it."""
        return self._need("report.html", "run CONFIG")

    def to_pandas(self) -> Any:
        """The synthetic examples as a DataFrame; see `Dataset.to_pandas`."""
        return self.dataset.to_pandas()

    def _need(self, name: str, command: str) -> Path:
        path = self.path / name
        if not path.exists():
            raise JapagenError(
                f"{self.path} has no {name} yet.", f"Finish the run first: japagen {command}"
            )
        return path

    @cached_property
    def task(self) -> Task:
        """The task as it was last run; with what code gave it, which is kept in the directory."""
        return Task.load(self._need("task.yaml", "run CONFIG"), recorded=True)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds, as plain dictionaries."""
        path = self._need("metrics.json", "run CONFIG")
        RunSummary.load(path)  # refuses what is not the file of a run
        found: dict[str, Any] = read_json(path)
        return found

    @cached_property
    def summary(self) -> RunSummary:
        """What metrics.json holds, with names and types."""
        return RunSummary.load(self._need("metrics.json", "run CONFIG"))

    @cached_property
    def dataset(self) -> Dataset:
        """The synthetic examples, rejected ones included, with registers and weights."""
        return self.after("train")

    def after(self, *stages: str) -> Dataset:
        """The examples as the first of some stages that is finished left them.

        Args:
            *stages: Of generate, curate and the later ones.
        """
        names = [name for stage in stages for name in _LEFT_BY.get(stage, ("aligned",))]
        return self._first(names, stages[-1])

    @cached_property
    def latest(self) -> Dataset:
        """The examples as the last finished step left them, rejected ones included."""
        return self._first(_NEWEST, "generate")

    def _first(self, names: Sequence[str], stage: str) -> Dataset:
        found = next((n for n in names if (self.path / f"{n}.parquet").is_file()), names[-1])
        return load_dataset(self._need(f"{found}.parquet", f"{stage} CONFIG"))

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


def content_hash(dataset: Dataset) -> str:
    """SHA-256 of what a reader of the dataset learns from.

    Ids, texts, labels, rejections and weights to six digits count; the order of the rows and
    where they came from do not.
    """
    names = ("id", "text", "text_pair", "label", "rejected")
    rows = zip(*(dataset.column(n) for n in names), dataset.weights.tolist(), strict=True)
    lines = sorted(
        json.dumps([*row[:-2], row[-2] and row[-2]["filter"], f"{row[-1]:.6g}"], ensure_ascii=False)
        for row in rows
    )
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def record_version(path: Path, dataset: Dataset, task: Task) -> dict[str, Any]:
    """Adds the dataset to the run's versions, unless it is the last one already.

    Returns:
        The version: ``hash``, ``parent`` (the hash of the version before it in this run, or
        None), ``task`` (the task's digest), ``examples`` and ``kept``.
    """
    known = versions(path)
    found = {
        "hash": content_hash(dataset),
        "parent": known[-1]["hash"] if known else None,
        "task": digest(task.model_dump(mode="json")),
        "examples": len(dataset),
        "kept": int(dataset.kept_mask.sum()),
    }
    if known and known[-1]["hash"] == found["hash"]:
        return known[-1]
    write_json(path, [*known, found])
    return found


def versions(path: Path) -> list[dict[str, Any]]:
    """The recorded versions, oldest first; none where nothing was recorded or it is damaged."""
    try:
        found = read_json(path)
    except (FileNotFoundError, DamagedError):
        return []
    return found if isinstance(found, list) else []
