"""Whether japagen closes the gap between a handful of gold and a whole labelled pool.

    python benchmarks/lift.py --data DIR [--quick] [--tasks A,B] [--shots 16,4] [--draws N]
        [--arms A;B] [--per-label N] [--test N] [--cache DIR] [--json FILE] [--figure FILE]

DIR holds a folder a task with ``pool.jsonl`` (gold is drawn from it) and ``dev.jsonl`` (scored
on, and read by nothing else); the quickstart's texts come with the checkout. Every figure is
kept as soon as it is there: the same command goes on where it was, and another one adds to it.
docs/research/lift.md says what the arms are and how the share of the gap is made.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from lift_arms import ARMS, ONCE, PLAIN, applies, free, scored
from lift_summary import Scores, draw_figure, table
from lift_tasks import CLASSIFIED, TASKS, Cell, fingerprint, make_cell

from japagen.data.files import cache_dir, digest, read_json, write_json
from japagen.pipeline.run import step_versions


def kept_at(cell: Cell, arm: str, cache: Path) -> Path:
    """Where an arm's figure is kept."""
    place = f"{cell.name}-once" if arm in ONCE else cell.path.name
    return cache / "results" / place / f"{arm.replace(', ', '-').replace(' ', '_')}.json"


def measure(cell: Cell, arm: str, cache: Path, *, kept_only: bool = False) -> dict[str, Any] | None:
    """An arm's scores in a cell: kept ones where nothing has changed, or new ones.

    Args:
        cell: The draw of gold.
        arm: One of `ARMS`.
        cache: Where figures are kept.
        kept_only: Measure nothing.

    Returns:
        ``scores``, ``seconds`` and the leading ``metric``; None where nothing is kept.
    """
    path = kept_at(cell, arm, cache)
    inputs = digest([arm, cell.name, depends_on(cell, arm)])
    if path.is_file() and (kept := read_json(path))["inputs"] == inputs:
        return dict(kept)
    if kept_only:
        return None
    started = time.monotonic()
    scores = scored(cell, ARMS[arm](cell))
    seconds = round(time.monotonic() - started, 1)
    found = {"inputs": inputs, "scores": scores, "seconds": seconds, "metric": cell.task.metric}
    write_json(path, found)
    said = " ".join(f"{name} {value:.3f}" for name, value in scores.items())
    print(
        f"{time.strftime('%H:%M:%S')} {cell.path.name:28} {arm:30} {said} ({seconds} s)", flush=True
    )
    return found


def depends_on(cell: Cell, arm: str) -> list[Any]:
    """What an arm's figure depends on, so that a kept one is measured anew where that changed."""
    said = [cell.task.text_type, cell.task.domain, dict(cell.task.labels)]
    if arm in ONCE:
        return [cell.pool.fingerprint, cell.test.fingerprint, said]
    if arm in PLAIN:
        return [cell.gold.fingerprint, cell.test.fingerprint, said, cell.draw]
    return [fingerprint(cell), step_versions()]


def cells(given: argparse.Namespace) -> Iterator[Cell]:
    """The cells in order of worth: the first draw of every task, then the second."""
    for draw in range(given.draws):
        for name in given.tasks:
            for shots in given.shots:
                yield make_cell(
                    name, shots, draw, given.data, given.cache, given.per_label, given.test
                )


def collect(given: argparse.Namespace, *, kept_only: bool) -> Scores:
    """Scores of every cell and arm that was asked for.

    Args:
        given: The command line.
        kept_only: Measure nothing.
    """
    found: dict[tuple[str, int, int, str], float] = {}
    for cell in cells(given):
        for arm in given.arms:
            if not applies(arm, cell):
                continue
            made = measure(cell, arm, given.cache, kept_only=kept_only)
            if made is None:
                continue
            once = arm in ONCE
            key = (cell.name, 0 if once else cell.shots, -1 if once else cell.draw, arm)
            found[key] = made["scores"][made["metric"]]
        free(cell.path / "run")
    return found


def show(scores: Scores, given: argparse.Namespace) -> None:
    """Prints the tables, and writes what was asked for."""
    for group in (CLASSIFIED, tuple(t for t in TASKS if t not in CLASSIFIED)):
        tasks = [task for task in group if task in given.tasks]
        if tasks:
            columns = [(task, shots) for task in tasks for shots in sorted(given.shots)]
            print(f"\n{table(scores, given.arms, columns)}")
    if given.json:
        rows = [[*key, value] for key, value in sorted(scores.items())]
        given.json.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    aim = [task for task in CLASSIFIED if task in given.tasks]
    if given.figure and aim:
        draw_figure(scores, given.arms, aim, sorted(given.shots), given.figure)


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line; ``--quick`` makes everything small."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder a task")
    parser.add_argument("--tasks", default=",".join(TASKS), help="with commas between")
    parser.add_argument("--shots", default="16,4", help="gold texts per label")
    parser.add_argument("--draws", type=int, default=5, help="draws of gold")
    parser.add_argument("--arms", default=";".join(ARMS), help="with ; between")
    parser.add_argument("--per-label", type=int, default=60, help="texts to generate a label")
    parser.add_argument("--test", type=int, default=600, help="test texts at most")
    parser.add_argument("--cache", type=Path, help="where figures and runs are kept")
    parser.add_argument("--kept", action="store_true", help="show what is kept, measure nothing")
    parser.add_argument("--quick", action="store_true", help="one small cell of the quickstart")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--figure", type=Path, help="draw the shares of the gap there")
    given = parser.parse_args(arguments)
    given.tasks = _among(parser, given.tasks.split(","), TASKS)
    given.arms = _among(parser, given.arms.split(";"), ARMS)
    given.shots = [int(shots) for shots in str(given.shots).split(",")]
    if given.quick:
        given.tasks, given.shots, given.draws = ["quickstart"], [4], 1
        given.per_label, given.test = 6, 40
    given.cache = given.cache or cache_dir("lift")
    return given


def _among(parser: argparse.ArgumentParser, names: Sequence[str], known: Any) -> list[str]:
    for name in names:
        if name not in known:
            parser.error(f"expected one of {'; '.join(known)}, found '{name}'")
    return list(names)


def main() -> None:
    """Reads the command line, measures, and shows what was found."""
    given = read_arguments()
    show(collect(given, kept_only=given.kept), given)


if __name__ == "__main__":
    main()
