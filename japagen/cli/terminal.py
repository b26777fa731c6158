"""The application, the options that commands share, and what they print."""

from __future__ import annotations

import csv
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from japagen.data.files import write_text
from japagen.errors import AwaitedError, JapagenError
from japagen.i18n import localized, translated, user_language

if TYPE_CHECKING:
    from japagen.data.code import CodeSummary
    from japagen.data.qa import QASummary
    from japagen.data.summary import AlignmentSummary, RunSummary, WordShift
    from japagen.llm.backend import Waiting
    from japagen.pipeline.sharded import Sharding

T = TypeVar("T")
_WIDE = 1_000_000
_METRICS_SECONDS = 5.0
# Results go to standard output, everything said on the way to standard error, so that
# `--json | jq` works with bars showing.
out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(text: str, to: Console | None = None) -> None:
    """Prints what japagen itself says, in the user's language; data is printed as it is."""
    (to or out).print("\n".join(map(localized, text.split("\n"))))


class TakenColumns(logging.Handler):
    """Prints what the log says of columns that were taken for texts and labels, once each."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a line."""
        text = record.getMessage()
        if text not in self._said:
            self._said.add(text)
            say(text, err)


class _Count(MofNCompleteColumn):
    """How many are done, where that is counted."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text(f"{int(task.completed)}" if task.completed else "")
        return super().render(task)


class _Remaining(TimeRemainingColumn):
    """How long it still takes, where that can be told."""

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None else super().render(task)


class _Awaited(ProgressColumn):
    """What the step of a bar is waiting for, asked anew whenever the bar is drawn."""

    def __init__(self, watched: Mapping[str, Callable[[], Waiting]]) -> None:
        super().__init__()
        self._watched = watched

    def render(self, task: Task) -> Text:
        """In a few words."""
        tell = self._watched.get(task.description)
        return Text(awaited_text(tell()) if tell else "")


def awaited_text(waiting: Waiting) -> str:
    """What is waited for, in a few words of the user's language."""
    most = sum(most for _, most in waiting.servers.values())
    in_flight = cell("{0} in flight, at most {1}") if most else cell("{0} in flight")
    parts = [in_flight.format(waiting.in_flight, most)]
    if resting := sum(not most for _, most in waiting.servers.values()):
        parts.append(cell("{0} endpoints left alone").format(resting))
    if waiting.tokens_left is not None:
        parts.append(cell("{0} tokens left").format(f"{max(0, waiting.tokens_left):,}"))
    if waiting.yen_left is not None:
        parts.append(cell("{0} yen left").format(f"{max(0.0, waiting.yen_left):,.1f}"))
    return ", ".join(parts)


class MetricsFile:
    """The figures of a run that is under way, in Prometheus' text format.

    For the text-file collector of Prometheus' node exporter, or anything else that reads files:
    it is written anew every few seconds, as a whole.

    Args:
        path: Where to write.
        watched: Step to what tells what it waits for.
    """

    def __init__(self, path: Path, watched: Mapping[str, Callable[[], Waiting]]) -> None:
        self._path = path
        self._watched = watched
        self._done: dict[str, int] = {}
        self._totals: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_on, daemon=True)

    def open(self) -> None:
        """Writes from now on."""
        self.write()
        self._thread.start()

    def close(self) -> None:
        """Writes a last time."""
        self._closing.set()
        self._thread.join()
        with suppress(OSError):
            self.write()

    def _write_on(self) -> None:
        while not self._closing.wait(_METRICS_SECONDS):
            with suppress(OSError):  # a full disk is told of where it stops the run
                self.write()

    def finish(self, name: str, seconds: float) -> None:
        """Takes note of a step that is done."""
        self._seconds[name] = seconds

    def count(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        """Passes items through and counts them."""
        self._done[what] = 0
        if total is not None:
            self._totals[what] = total
        for item in items:
            yield item
            self._done[what] += 1

    def write(self) -> None:
        """Writes what is known now."""
        rows: list[tuple[str, dict[str, str], float]] = [
            ("updated_timestamp_seconds", {}, time.time())
        ]
        for name, figures in (
            ("step_duration_seconds", self._seconds),
            ("step_items_done", self._done),
            ("step_items", self._totals),
        ):
            rows += [(name, {"step": step}, value) for step, value in list(figures.items())]
        for step, tell in list(self._watched.items()):
            waiting = tell()
            rows.append(("requests_in_flight", {"step": step}, waiting.in_flight))
            rows.append(("requests_unsent", {"step": step}, waiting.unsent))
            for url, (busy, most) in waiting.servers.items():
                rows.append(("endpoint_requests_in_flight", {"endpoint": url}, busy))
                rows.append(("endpoint_requests_limit", {"endpoint": url}, most))
            left = {"tokens": waiting.tokens_left, "yen": waiting.yen_left}
            rows += [("budget_left", {"unit": k}, v) for k, v in left.items() if v is not None]
        lines, seen = [], set()
        for name, labels, value in sorted(rows, key=lambda row: row[0]):
            if name not in seen:
                lines.append(f"# TYPE japagen_{name} gauge")
                seen.add(name)
            # JSON escapes what Prometheus wants escaped: backslashes, quotes, line breaks.
            told = ",".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in labels.items())
            lines.append(f"japagen_{name}{{{told}}} {value!r}")
        write_text(self._path, "\n".join(lines) + "\n")


class Terminal:
    """A listener that prints a line per stage, and bars where someone is watching.

    Bars show inside a ``with`` block: one for every stage that is under way, which counts
    while something is tracked.

    Args:
        quiet: Say nothing.
        doing: What the bar is called until the first stage starts.
        metrics: A file for the figures of the run; see `MetricsFile`.
    """

    def __init__(
        self, *, quiet: bool = False, doing: str = "reading", metrics: Path | None = None
    ) -> None:
        self._watched: dict[str, Callable[[], Waiting]] = {}
        self._metrics = MetricsFile(metrics, self._watched) if metrics else None
        self._quiet = quiet
        self._doing = doing
        self._bars: dict[str, TaskID] = {}
        self._progress: Progress | None = None

    def __enter__(self) -> Terminal:
        if self._metrics:
            self._metrics.open()
        if not self._quiet and err.is_terminal:
            columns = (
                TextColumn("  {task.description}"),
                BarColumn(),
                _Count(),
                TimeElapsedColumn(),
                _Remaining(),
                _Awaited(self._watched),
            )
            self._progress = Progress(*columns, console=err, transient=True, redirect_stdout=False)
            try:
                self._progress.start()
                self._open(self._doing)
            except BaseException:  # Ctrl-C this early: nobody else would take the bar away
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None
        self._bars.clear()
        if self._metrics:
            self._metrics.close()
            self._metrics = None

    def _open(self, name: str) -> None:
        if self._progress and name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=None)

    def _shut(self, name: str) -> None:
        bar = self._bars.pop(name, None)
        if self._progress and bar is not None:
            self._progress.remove_task(bar)

    def stage(self, name: str, news: str, detail: str) -> None:
        """Prints one line when a stage starts again, ends or is kept."""
        self._shut(self._doing)
        if news == "done":
            self._watched.pop(name, None)
            if self._metrics:
                self._metrics.finish(name, float(detail))
        if news == "start":
            self._open(name)
        else:
            self._shut(name)
        if self._quiet:
            return
        if news == "kept":
            err.print("  " + localized(f"{name}: kept from an earlier run"), style="dim")
        elif news == "done":
            err.print("✓ " + localized(f"{name} ({detail} s)"))
        elif detail:
            err.print("  " + localized(f"{name}: runs again ({detail})"), style="yellow")

    def note(self, message: str) -> None:
        """Prints a line that should be read."""
        if not self._quiet:
            err.print(f"! {localized(message)}", style="yellow")

    def watch(self, what: str, tell: Callable[[], Waiting]) -> None:
        """Shows on the bar of ``what``, and in the metrics, what is waited for."""
        self._watched[what] = tell

    def track(self, items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
        """Counts on the bar of ``what``; passes items through silently without one."""
        if self._metrics:
            items = self._metrics.count(items, total, what)
        if not self._progress:
            yield from items
            return
        alone = what not in self._bars
        self._open(what)
        bar = self._bars[what]
        self._progress.update(bar, total=total, completed=0)
        try:
            for item in items:
                yield item
                self._progress.advance(bar)
        finally:
            if alone:
                self._shut(what)
            elif self._progress:
                self._progress.reset(bar, total=None)


def print_json(value: Any) -> None:
    """Prints indented JSON to standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def print_json_line(value: Any) -> None:
    """Prints one line of JSON to standard output, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def print_tsv(cells: Iterable[Any]) -> None:
    """Prints a row of TSV to standard output, at once, with quotes where they are needed.

    Data does not go through `out`, which would take tabs and words between colons for its own.
    """
    csv.writer(sys.stdout, delimiter="\t", lineterminator="\n").writerow(cells)
    sys.stdout.flush()


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Prints a table to standard output; its title and the names of columns are translated."""
    heading = cell(title)
    heading = localized(title) if heading == title else heading
    table = Table(*map(cell, columns), title=heading, title_justify="left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    # In a pipe nothing is wrapped.
    wide = Console(highlight=False, markup=False, emoji=False, width=_WIDE)
    (out if out.is_terminal else wide).print(table)


def cell(text: str) -> str:
    """A text of japagen's own in a table, in the user's language; its places are still open."""
    return translated("table", text, user_language())


def print_error(error: JapagenError) -> None:
    """Prints what was expected and found, and what to do."""
    if isinstance(error, AwaitedError):
        err.print(localized(error.message), style="bold")
    else:
        # Apart: a message may begin with a value that stands elsewhere in Japanese.
        err.print(f"{localized('Error:')} {localized(error.message)}", style="bold red")
    if error.hint:
        err.print(localized(error.hint))


def print_lines(template: str, view: Mapping[str, Any]) -> None:
    """Prints what a template says, line by line."""
    from japagen.reporting.text import rendered

    out.print(rendered(template, view, user_language()), end="")


def print_summary(path: Path, summary: RunSummary) -> None:
    """Prints what a run came to in a few lines."""
    from japagen.reporting.sections_alignment import alarm_text
    from japagen.reporting.sections_overview import worth_text
    from japagen.reporting.sections_training import left_out, lines, tests_of
    from japagen.reporting.text import Words

    words, scores = Words(user_language()), summary.scores
    measured = lines(summary, words)
    view = {
        "w": words,
        "summary": summary,
        "path": path / "report.html",
        "worth_text": worth_text,
        "measured": measured,
        "left_out": left_out(summary, words),
        "best": [max(measured, key=lambda one: one[1].score(scores.metric) or 0.0)]
        if scores and measured
        else [],
        "alarms": [
            alarm_text(a, words) for a in (summary.diversity.alarms if summary.diversity else ())
        ],
        "tests": tests_of(summary, words),
    }
    print_lines("cli/run.txt.j2", view)


def print_made(path: Path, summary: QASummary | CodeSummary) -> None:
    """Prints what a run of another kind than labelled texts came to."""
    from japagen.data.qa import QASummary
    from japagen.reporting.code import rejection_rows
    from japagen.reporting.text import Words

    if isinstance(summary, QASummary):
        print_questions(path, summary)
        return
    rejections = rejection_rows(summary, Words(user_language()))
    view = {"summary": summary, "rejections": rejections, "path": path / "report.html"}
    print_lines("cli/programs.txt.j2", view)


def print_questions(path: Path, summary: QASummary) -> None:
    """Prints what a run of questions came to: what was kept, why not, and how hard it is."""
    from japagen.data.qa import KINDS
    from japagen.reporting.qa import artefact_rows, retrieval_rows, yield_rows
    from japagen.reporting.text import Words

    words = Words(user_language())
    for kind, number in summary.made.items():
        if number:
            say(f"{words.name('qa', kind)}: {summary.kept[kind]} of {number} kept")
    rejected = [
        (words(f"qa.{kind}"), *row) for kind in KINDS for row in yield_rows(summary, kind, words)
    ]
    if rejected:
        print_table("rejected", ["kind", "filter", "questions"], rejected)
    if summary.retrieval:
        ranks = [f"recall@{rank}" for rank in summary.retrieval[0].recall]
        rows = retrieval_rows(summary, words)
        print_table("retrieval", ["retriever", *ranks, "MRR@10"], rows)
        say(f"found trivially by BM25: {words.share(summary.trivial)}")
    if summary.artefacts:
        print_table(
            "options guessed without reading",
            ["guess", "hits", "share", "chance", "p"],
            artefact_rows(summary.artefacts, words),
        )
    say(f"report: {path / 'report.html'}")


def label_text(label: str | float | list[str]) -> str:
    """A class as it is, a number with three decimals, a list of tags in one cell."""
    if isinstance(label, list):
        return "、".join(label)
    return label if isinstance(label, str) else f"{label:.3f}"


def print_alignment(found: AlignmentSummary) -> None:
    """Prints what alignment did: the grounds, every measure before and after, and the words."""
    from japagen.reporting.sections_alignment import distance_rows, notes
    from japagen.reporting.text import Words

    words, prior, diagnostics = Words(user_language()), found.prior, found.diagnostics
    say(f"method: {words.name('method', found.method)}")
    say(f"label prior: {prior.how} ({prior.why})")
    for note in notes(diagnostics, words):
        say(f"note: {note}")
    rows = distance_rows(diagnostics, words)
    print_table("distance to the target [95% interval]", ["measure", "before", "after"], rows)
    size = diagnostics.effective_sample_size
    shares = ", ".join(f"{label} {share:.0%}" for label, share in size.per_label.items())
    say(f"effective sample size: {size.rows:,.0f} rows, {size.share:.0%} ({shares})")
    if diagnostics.overused:
        say(f"overused before weighting: {_joined(diagnostics.overused)}")
    if diagnostics.underused:
        say(f"underused before weighting: {_joined(diagnostics.underused)}")


def _joined(shifts: Iterable[WordShift]) -> str:
    return "、".join(shift.word for shift in shifts)


def sharding(
    engine: str | None,
    address: str | None,
    part: str | None,
    workers: int | None,
    shard_rows: int | None,
    column: list[str] | None,
    encoding: str | None,
) -> Sharding | None:
    """How a command on a file is run in shards; None if it is not to be.

    Raises:
        JapagenError: If an option is given that means nothing without an engine.
    """
    from japagen.config.sources import column_options
    from japagen.data.shards import SHARD_ROWS
    from japagen.pipeline.sharded import Sharding

    if engine is None:
        given = {"--address": address, "--part": part, "--shard-rows": shard_rows}
        if named := [option for option, value in given.items() if value is not None]:
            raise JapagenError(
                f"{named[0]} is about shards, and no --engine is given.",
                "Add --engine processes, or --engine ray.",
            )
        return None
    rows = shard_rows or SHARD_ROWS
    return Sharding(engine, address, part, workers, rows, column_options(column), encoding)


def print_shards(found: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints what a command in shards came to."""
    if as_json:
        print_json(found)
        return
    from japagen.reporting.text import Words

    if waiting := found.get("waiting"):
        say(
            f"This part is done up to the step '{waiting['step']}', of which others still have "
            f"{waiting['shards']} to do. The same command goes on when they are there."
        )
        return
    if "kept" in found:
        say(f"{found['kept']:,} of {found['rows']:,} rows kept")
        words = Words(user_language())
        rows = [(words.name("filter", name), f"{n:,}") for name, n in found["rejected"].items()]
        if rows:
            print_table("rejected", ["filter", "number"], rows)
    if everything := found.get("all"):
        size, error = everything["effective_sample_size"], everything.get("sampling_error")
        say(f"effective sample size of all rows: {size['rows']:,.0f} of {everything['rows']:,}")
        if error:
            gap = everything["largest_gap"]
            say(
                f"fitted on {everything['sample']:,} rows; their means are up to "
                f"{error['after']:.2f} standard errors of the target from those of all rows"
            )
            say(
                "largest gap to the target, in tolerances: "
                f"{gap['before']:.2f} before, {gap['after']:.2f} after"
            )
    print_table(
        "what it took",
        ["step", "rows", "set aside", "seconds", "rows per second", "peak MB"],
        [
            (
                name,
                f"{step['rows']:,}",
                step["aside"],
                f"{step['seconds']:,.1f}",
                f"{step['rows_per_second']:,.0f}",
                f"{step['peak_mb']:,}",
            )
            for name, step in found["steps"].items()
        ],
    )
    say(f"wrote {found['output']}")


def register_cells(text: str, report: Any) -> list[str]:
    """One row per text: style, keigo, level, and the evidence."""
    register = report.register
    keigo = "+".join(register.to_dict()["keigo"]) or "-"
    evidence = " ".join(f"{e.surface}[{e.kind}]" for e in report.evidence[:6])
    level = report.keico_level or "-"
    return [register.style, keigo, f"level {level}", text, evidence or report.why]


def lint_rows(text: str, findings: Sequence[Any]) -> list[list[str]]:
    """One row per finding: the text, its kind, the words, the text with them corrected, and why."""
    from japagen.japanese.register.lint import corrected

    return [
        [
            text,
            finding.kind,
            finding.surface,
            corrected(text, [finding]) if finding.correction is not None else "-",
            localized(finding.why),
        ]
        for finding in findings
    ]


# What commands were called before 0.2, and what to type now.
RENAMED = {
    **{name: f"run --until {name}" for name in ("generate", "curate", "train")},
    "evaluate": "run",
    **{
        name: f"data {name}"
        for name in ("align", "attributes", "diff", "explain", "export", "register", "review")
    },
    **{name: f"model {name}" for name in ("monitor", "onnx", "predict")},
}


class _Commands(TyperGroup):
    """The commands, which take their old names too until the next release."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Looks up a command; see `RENAMED`."""
        old = args[0]
        if old in RENAMED:
            say(f"'japagen {old}' is now 'japagen {RENAMED[old]}'.", err)
            args = [*RENAMED[old].split(), *args[1:]]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From a handful of labelled Japanese texts to a trained compact classifier.",
)
data = typer.Typer(
    no_args_is_help=True,
    help="Work on datasets: curate, align, export, register, diff, merge, explain, review, "
    "attributes, topics.",
)
model = typer.Typer(no_args_is_help=True, help="Use trained classifiers: predict, monitor, onnx.")
app.add_typer(data, name="data")
app.add_typer(model, name="model")

Config = Annotated[Path, typer.Argument(help="The task file (YAML).", show_default=False)]
RunPath = Annotated[Path, typer.Argument(help="A run directory.", show_default=False)]
Out = Annotated[Path | None, typer.Option("--out", help="Run directory; by default runs/NAME.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key of the task: --set seed=3.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
FileColumns = Annotated[
    list[str] | None,
    typer.Option("--column", help="Map a column of the file: text=本文."),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        help="Encoding of the texts, such as cp932; detected by default.", show_default=False
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        help="Run in shards, into a directory: here, processes or ray.", show_default=False
    ),
]
Address = Annotated[
    str | None,
    typer.Option(help="Of a Ray cluster; auto for the one on this machine.", show_default=False),
]
PartOf = Annotated[
    str | None,
    typer.Option(
        "--part", help="Do one part of the shards: 2/5 is the second of five.", show_default=False
    ),
]
Workers = Annotated[
    int | None, typer.Option(help="Number of processes; by default up to one per core.", min=1)
]
ShardRows = Annotated[
    int | None,
    typer.Option(help="Rows of a shard; by default 50,000.", min=1, show_default=False),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Overwrite existing files.")]


class Language(Enum):
    """Languages of all that is said."""

    JA = "ja"
    EN = "en"


PageLanguage = Annotated[
    Language | None,
    typer.Option("--lang", help="By default that of the locale.", show_default=False),
]
