"""What the command line shows: progress bars, stage lines, errors."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from japagen.errors import JapagenError

T = TypeVar("T")
# Seconds before a bar appears.
_PATIENCE = 2.0
# Results go to standard output, everything said on the way to standard error, so that
# `--json | jq` works with bars showing.
out = Console(highlight=False, markup=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


class Terminal:
    """A listener that prints a line a stage, and bars where someone is watching.

    Args:
        quiet: Say nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def stage(self, name: str, news: str, detail: str) -> None:
        """Prints one line when a stage starts again, ends or is kept."""
        if self._quiet:
            return
        if news == "kept":
            err.print(f"  {name}: kept from an earlier run", style="dim")
        elif news == "done":
            err.print(f"✓ {name} ({detail} s)")
        elif detail:
            err.print(f"  {name}: runs again ({detail})", style="yellow")

    def note(self, message: str) -> None:
        """Prints a line that should be read."""
        if not self._quiet:
            err.print(f"! {message}", style="yellow")

    def track(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """Shows a bar on a terminal after two seconds; passes items through silently elsewhere."""
        if self._quiet or not err.is_terminal:
            yield from items
            return
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        progress = Progress(*columns, console=err, transient=True)
        bar = progress.add_task(what, total=total)
        # Work that is over in a moment needs no bar, and the first item alone may take long.
        timer = threading.Timer(_PATIENCE, progress.start)
        timer.daemon = True
        timer.start()
        try:
            for item in items:
                yield item
                progress.advance(bar)
        finally:
            timer.cancel()
            timer.join()
            progress.stop()


def print_json(value: Any) -> None:
    """Prints indented JSON to standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def print_json_line(value: Any) -> None:
    """Prints one line of JSON to standard output, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Prints a table to standard output."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    out.print(table)


def print_error(error: JapagenError) -> None:
    """Prints what was expected and found, and what to do."""
    err.print(f"Error: {error.message}", style="bold red")
    if error.hint:
        err.print(error.hint)


def print_summary(path: Path, metrics: Mapping[str, Any]) -> None:
    """Prints what a run came to in a few lines."""
    counts, scores = metrics["counts"], metrics["scores"]
    out.print(
        f"{counts['kept']} of {counts['generated']} synthetic texts kept, "
        f"{counts['gold']} gold, {counts['test']} to score on"
    )
    if scores is None:
        out.print("scores: not measured (no labelled texts to score on)")
    else:
        for name in ("gold_only", "with_synthetic"):
            arm = scores[name]
            shown = f"macro-F1 {arm['macro_f1']:.3f}" if arm else "not measured"
            out.print(f"{name.replace('_', ' ')}: {shown}")
        gain = scores["gain"]
        if gain:
            out.print(
                f"gain: {gain['value']:+.3f} (95% interval {gain['low']:+.3f} to "
                f"{gain['high']:+.3f} over the test texts): {scores['verdict'].replace('_', ' ')}"
            )
    out.print(f"report: {path / 'report.html'}")


def print_alignment(found: Mapping[str, Any]) -> None:
    """Prints what alignment did: the prior and the effective sample size."""
    prior, diagnostics = found["prior"], found["diagnostics"]
    out.print(f"label prior: {prior['how']} ({prior['why']})")
    size = diagnostics["effective_sample_size"]
    out.print(f"effective sample size: {json.dumps(size, ensure_ascii=False)}")


def register_line(text: str, report: Any) -> str:
    """One line a text: style, keigo, level, and the evidence."""
    register = report.register
    keigo = "+".join(register.to_dict()["keigo"]) or "-"
    evidence = " ".join(f"{e.surface}[{e.kind}]" for e in report.evidence[:6])
    level = report.keico_level or "-"
    return f"{register.style}\t{keigo}\tlevel {level}\t{text}\t{evidence or report.why}"
