"""Opens the review of a run directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.data.dataset import Dataset
from japagen.data.formats import check_new, write_examples
from japagen.errors import JapagenError
from japagen.pipeline.run_directory import Run
from japagen.review.decisions import FILE, Decision, Decisions
from japagen.review.feedback import to_gold
from japagen.review.session import Language, Session
from japagen.review.session import serve as serve  # for commands


@contextmanager
def open_review(
    path: str | Path,
    *,
    number: int = 100,
    seed: int = 0,
    reviewer: str = "",
    language: Language = "ja",
) -> Iterator[Session]:
    """Opens a run's review, with the decisions made before.

    The seed is that of the sample; the first review's counts.

    Raises:
        JapagenError: If it is not a run, or has no examples yet.
    """
    run = Run.open(path)
    dataset = run.after("train", "curate")
    task = Task.load(run.path / "task.yaml", recorded=True)
    with closing(Decisions(run.path / FILE)) as decisions:
        yield Session(
            dataset,
            task.labels,
            decisions,
            number=number,
            seed=seed,
            reviewer=reviewer,
            language=language,
            name_of=task.label_space().name,
            gold=_gold_of(task),
            bounds=task.curation.judge.bounds if task.curation.judge else None,
        )


def _gold_of(task: Task) -> Dataset | None:
    """The task's gold, if its files are still where they were: a review can do without."""
    try:
        return load_data(task).gold
    except JapagenError:
        return None


def decisions_of(path: str | Path) -> Mapping[str, Decision]:
    """The decisions of a run, by example; empty where there was no review."""
    file = Path(path) / FILE
    if not file.is_file():
        return {}
    with closing(Decisions(file)) as decisions:
        return decisions.latest()


def write_gold(path: str | Path, output: Path, *, overwrite: bool = False) -> int:
    """Writes the texts that people found good as labelled gold.

    Returns:
        How many texts.

    Raises:
        JapagenError: If the file is there, or nobody has found a text good yet.
    """
    check_new(output, overwrite=overwrite)
    found = to_gold(Run.open(path).after("train", "curate"), decisions_of(path))
    if not len(found):
        raise JapagenError(
            f"Expected accepted or relabelled texts in {path}, found none.",
            f"Review some first: japagen data review {path}",
        )
    write_examples(output, found)
    return len(found)
