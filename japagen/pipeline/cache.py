"""Runs the stages of one run: each is made once and kept while its inputs stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from japagen.data.dataset import Dataset
from japagen.data.formats import load_dataset, write_examples
from japagen.listener import Listener
from japagen.pipeline.run_directory import RunDirectory

T = TypeVar("T")
# Raised when a stage's code changes what it makes from the same inputs.
STAGE_VERSIONS = {
    "generate": 1,
    "sources": 1,
    "round": 1,
    "curate": 4,
    "registers": 4,
    "refine": 2,
    "audit": 1,
    "trust": 4,
    "pseudo": 1,
    "review": 1,
    "vectors": 1,
    "select": 3,
    "synthesise": 1,
    "align": 4,
    "diversity": 2,
    "distances": 1,
    "worth": 1,
    "train": 5,
    "baseline": 1,
    "zero_shot": 1,
    "reference": 1,
    "nearest": 1,
    "latency": 1,
    "report": 1,
    "rung": 1,
    "gain": 1,
}


class StageRunner:
    """A run directory with a listener that is told of every stage.

    Args:
        directory: Where results are kept.
        listener: Told of the progress.
    """

    def __init__(self, directory: RunDirectory, listener: Listener) -> None:
        self.directory = directory
        self.listener = listener

    def run(
        self,
        name: str,
        outputs: Sequence[str],
        fingerprint: Mapping[str, object],
        make: Callable[[], T],
        save: Callable[[Path, T], None],
        load: Callable[[Path], T],
        listener: Listener | None = None,
    ) -> T:
        """Returns a stage's result, made now or kept; see `RunDirectory.stage`.

        Args:
            name: A stage of `STAGE_VERSIONS`, with ``-`` and more behind where there are several.
            outputs: Files that it leaves, relative to the run.
            fingerprint: Everything that the result depends on besides the stage's version.
            make: Computes the result.
            save: Writes it to the first of the outputs.
            load: Reads it from there.
            listener: Told in place of the run's own.
        """
        told = listener or self.listener
        return self.directory.stage(
            name,
            {"version": STAGE_VERSIONS[name.split("-")[0]], **fingerprint},
            outputs,
            make,
            save,
            load,
            say=lambda news, detail: told.stage(name, news, detail),
        )

    def dataset(
        self,
        name: str,
        output: str,
        fingerprint: Mapping[str, object],
        make: Callable[[], Dataset],
        listener: Listener | None = None,
    ) -> Dataset:
        """Runs a stage whose result is a dataset in a Parquet file."""
        return self.run(name, [output], fingerprint, make, write_examples, load_dataset, listener)


def fingerprint_of(data: Dataset | None) -> str | None:
    """A dataset's fingerprint, or None without one."""
    return data.fingerprint if data is not None else None
