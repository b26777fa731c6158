"""Commands on a task file: from writing one to the finished run."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from japagen.cli import terminal
from japagen.cli.new_task import Answers, Gold, find_gold, say_next, warn_of_unused, write_task
from japagen.cli.terminal import Config, FileColumns, Json, Out, Sets, app, say
from japagen.config.sections import NAME
from japagen.config.sources import column_options, sources_from_options
from japagen.config.task import Task
from japagen.config.yaml_file import parse_overrides
from japagen.errors import JapagenError
from japagen.i18n import localized, user_language
from japagen.reporting.text import Words

if TYPE_CHECKING:
    from japagen.pipeline.kinds import Kind


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the task.", show_default=False)],
    labels: Annotated[
        str,
        typer.Option(
            help="Labels, separated by , or 、; by default those of gold.", show_default=False
        ),
    ] = "",
    directory: Annotated[Path, typer.Option(help="Where to write.")] = Path(),
    gold: Annotated[
        Path | None,
        typer.Option(
            help="Labelled texts to learn from; by default NAME_gold or gold where it is written.",
            show_default=False,
        ),
    ] = None,
    column: FileColumns = None,
    excel: Annotated[
        bool, typer.Option("--excel", help="Write the gold template for Excel (.xlsx).")
    ] = False,
    ask: Annotated[
        bool, typer.Option(help="Ask on a terminal what the texts are and what labels mean.")
    ] = True,
) -> None:
    """Write a task file, and a gold template to fill in where there is no gold yet."""
    if not re.fullmatch(NAME, name):
        raise JapagenError(
            f"Expected letters, digits, _, . and - only as NAME, not . or - first, found {name!r}.",
            "Choose another name.",
        )
    path = gold or find_gold(name, directory)
    found = Gold.read(path, column_options(column)) if path else None
    names = [label.strip() for label in re.split("[,，、]", labels) if label.strip()]
    names = names or list(found.labels if found else ())
    if not names:
        raise JapagenError(
            "Expected labels or labelled texts, found neither.",
            "Give --labels a,b,c or --gold FILE.",
        )
    answers = Answers.asked(names) if ask and sys.stdin.isatty() else None
    written = write_task(
        name, names, directory, user_language(), gold=found, answers=answers, excel=excel
    )
    for path in written:
        terminal.say(f"wrote {path}")
    if found:
        encoding = found.keys.get("encoding", "utf-8")
        terminal.say(f"gold is read from {found.path} ({encoding})")
        terminal.say(f"labels: {', '.join(names)}")
    say_next(written, answers)


class Stage(Enum):
    """How far a run goes."""

    GENERATE = "generate"
    CURATE = "curate"
    ALIGN = "align"
    TRAIN = "train"
    REPORT = "report"


@app.command()
def run(
    config: Config,
    out: Out = None,
    until: Annotated[Stage, typer.Option(help="The last stage to run.")] = Stage.REPORT,
    sets: Sets = None,
    synthetic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FILE",
            help="CSV, JSONL or Parquet that any LLM wrote, in place of generation; once a source.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", help="Map a column of the files: text=本文."),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="Encoding of the files, such as cp932; by default utf-8."),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Ask only this part of the requests; see data merge."),
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option(
            help="Write requests to this file (JSONL of a batch) in place of sending them."
        ),
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(help="Answers to requests that were written by --requests.")
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(help="Write the run's figures to this file, in Prometheus' text format."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print results and errors only.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Do everything: generate, curate, align, train, report. Resumes.

    Exits with code 3 when a test of the task file (tests) fails, with 4 when it waits for answers
    from elsewhere (--part, --requests).
    """
    if (columns or encoding) and not synthetic:
        option = "--column" if columns else "--encoding"
        raise JapagenError(
            f"{option} is about the files of --synthetic, which is absent.",
            "Give the file's path too.",
        )
    from japagen.data.shards import Part
    from japagen.llm.backends.offline import Elsewhere

    elsewhere = Elsewhere(Part.parse(part) if part else None, requests, answers)
    if kind := _kind_of(config):
        if synthetic or until is not Stage.REPORT:
            option = "--synthetic" if synthetic else f"--until {until.value}"
            raise JapagenError(
                f"{option} goes with tasks that train a classifier.", "Leave it out."
            )
        with terminal.Terminal(quiet=quiet, metrics=metrics) as listener:
            other = kind.load(config, parse_overrides(sets or ()))
            path = kind.run(other, out, listener=listener, elsewhere=elsewhere)
        found = kind.summary(path)
        if as_json:
            terminal.print_json(found.model_dump(mode="json"))
        else:
            terminal.print_made(path, found)
        return
    with terminal.Terminal(quiet=quiet, metrics=metrics) as listener:
        from japagen.pipeline.run import run as run_task

        task = Task.load(config, parse_overrides(sets or ()))
        warn_of_unused(config, task)
        sources = None
        if synthetic:
            sources = sources_from_options(synthetic, columns or (), encoding or "utf-8")
        result = run_task(
            task,
            out,
            synthetic=sources,
            until=until.value,
            elsewhere=elsewhere,
            listener=listener,
        )
    if until is not Stage.REPORT:
        dataset = result.after(until.value)
        counts = {"examples": len(dataset), "kept": int(dataset.kept_mask.sum())}
        if as_json:
            terminal.print_json({"run": str(result.path), **counts})
        else:
            terminal.say(f"{result.path}: {counts['kept']} of {counts['examples']} kept")
    elif as_json:
        terminal.print_json(result.metrics)
    else:
        terminal.print_summary(result.path, result.summary)
    if until is Stage.REPORT and result.summary.failed_tests:
        raise typer.Exit(3)


@app.command()
def plan(
    config: Config,
    out: Out = None,
    number: Annotated[
        int | None,
        typer.Option(
            "--sample",
            help="Requests to send to measure time and length; by default 4 to a local generator "
            "and none to a remote one.",
            min=0,
        ),
    ] = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Show the requests, tokens, time and yen that a run would take, before it is run."""
    with terminal.Terminal(doing="plan"):
        overrides = parse_overrides(sets or ())
        if kind := _kind_of(config):
            found = kind.plan(kind.load(config, overrides), out, number)
        else:
            from japagen.pipeline.estimate import estimate

            task = Task.load(config, overrides)
            warn_of_unused(config, task)
            found = estimate(task, out, number)
    if as_json:
        terminal.print_json(found)
        return
    if "questions" in found:
        _print_questions_plan(found)
        return
    if memory := found.get("peak_bytes"):
        shown = (
            f"{name} {'?' if n is None else f'{n / 1e9:.1f} GB'}" for name, n in memory.items()
        )
        terminal.say(f"memory at most, about: {', '.join(shown)}")
    for source in found["sources"]:
        terminal.say(f"{source['texts']:,} texts are read from {source['file']} ({source['name']})")
    if not found["steps"]:
        for note in found["notes"]:
            terminal.say(note)
        return
    words = Words(user_language())
    terminal.print_table(
        localized(f"{found['texts']} texts asked of {found['generator']}"),
        ["label", "register", "texts", "requests"],
        [
            (r["label"], words.name("register", r["register"]), r["texts"], r["requests"])
            for r in found["cells"]
        ],
    )
    if found["knowledge"]:
        terminal.print_table(
            "requests that name something",
            ["label", "kind", "item", "requests"],
            [
                (r["label"], words.name("knowledge", r["kind"]), r["item"], r["requests"])
                for r in found["knowledge"]
            ],
        )
    if len(found["rounds"]) > 1:
        later = sum(found["rounds"][1:])
        terminal.say(
            f"{len(found['rounds'])} rounds: {', '.join(map(str, found['rounds']))} requests. What "
            f"the {later} later ones name because the texts before them lack it, and whether they "
            "are needed at all, is only known then."
        )
    for note in found["notes"]:
        terminal.say(note)
    print_estimate(found)


@app.command()
def preview(
    config: Config,
    number: Annotated[
        int, typer.Option("-n", help="How many prompts, or texts, of each source.", min=1)
    ] = 5,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Show rendered prompts and a few texts of each source."""
    with terminal.Terminal(doing="preview"):
        overrides = parse_overrides(sets or ())
        if kind := _kind_of(config):
            rows = kind.preview(kind.load(config, overrides), number)
        else:
            from japagen.pipeline.preview import sample

            rows = sample(Task.load(config, overrides), number)
    if as_json:
        terminal.print_json(rows)
        return
    if rows and "questions" in rows[0]:
        _print_questions_preview(rows)
        return
    for row in rows:
        told = [seed["row"] for seed in row["seed_rows"]]
        register = Words(user_language()).name("register", row["register"])
        parts = [row["label"], register, *row["knowledge"], *told, row["template"]]
        named = [row["source"]] if len({r["source"] for r in rows}) > 1 else []
        terminal.out.rule(" / ".join([*named, *filter(None, parts)]))
        if row["prompt"]:
            terminal.out.print(row["prompt"], style="dim")
        for one in row["fields"]:
            for name, value in one.items():
                terminal.out.print(f"→ {name}: {'' if value is None else value}", style="bold")
        if not row["fields"]:
            terminal.out.print(f"→ {row['text'] or row['error']}", style="bold")
        for scores in filter(None, row["scores"]):
            terminal.out.print("  " + ", ".join(f"{name} {s:g}" for name, s in scores.items()))


def _kind_of(config: Path) -> Kind | None:
    """What does the commands of a task that makes something else than labelled texts."""
    from japagen.pipeline.kinds import kind_of

    return kind_of(config)


def _print_questions_plan(found: Mapping[str, Any]) -> None:
    """Prints what `qa.estimate` found."""
    for reason in found["skipped"].values():
        say(f"Left out: {reason}")
    say(
        f"{len(found['documents'])} documents, {found['passages']:,} passages: "
        f"{found['questions']:,} questions on {found['asked']:,} of them, asked of "
        f"{found['generator']}"
    )
    print_estimate(found)
    say("Of questions that are rejected no more is asked: this is the most that it can come to.")


def _print_questions_preview(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints what `qa.preview` found."""
    for row in rows:
        terminal.out.rule(" / ".join(filter(None, [row["passage"], row["title"]])))
        terminal.out.print(row["prompt"], style="dim")
        for q in row["questions"]:
            terminal.out.print(f"→ {q['question']}", style="bold")
            rejected = f"  ({q['rejected']})" if q["rejected"] else ""
            terminal.out.print(f"   {q['answer']}{rejected}", style="bold")
        if row["error"]:
            terminal.out.print(f"→ {row['error']}", style="bold")


_STEPS = {
    "generate": "generation",
    "rewrite": "register rewrites",
    "refine": "refinement",
    "rubric": "scores of the judge",
    "trust": "judging labels",
    "zero_shot": "labels of test texts",
    "round_trip": "questions asked again",
    "closed_book": "questions without their passage",
    "distractors": "wrong options",
    "choices": "choices among options",
    "unanswerable": "questions to a neighbouring passage",
    "options_alone": "choices without the passage",
}


def print_estimate(found: Mapping[str, Any]) -> None:
    """Prints what `estimating.estimate` found: a line per step, the sum, and the budget."""
    rows = [_row(_STEPS[step["step"]], step) for step in found["steps"]]
    if len(rows) > 1:
        rows.append(_row("together", {**found, "expected_requests": found["requests"]}))
    terminal.print_table(
        "what it takes",
        ["step", "requests", "prompt tokens", "answer tokens", "time", "yen"],
        rows,
    )
    view = {
        "found": found,
        "unknown": [terminal.cell(_STEPS[step]) for step in found["unknown"] if step != "refine"],
        "left": {"tokens": found["max_tokens_left"], "yen": found["max_yen"]},
    }
    terminal.print_lines("cli/plan.txt.j2", view)


def _row(name: str, step: Mapping[str, Any]) -> list[str]:
    requests = f"{step['requests']:,}"
    if step["expected_requests"] != step["requests"]:
        about = step["expected_requests"]
        most = terminal.cell("at most {0}").format(requests)
        requests = most if about is None else f"{about:,}, {most}"
    seconds, money = step["seconds"], step["max_yen"]
    return [
        terminal.cell(name),
        requests,
        f"{step['prompt_tokens']:,}",
        _about(step["completion_tokens"], step["max_completion_tokens"], ",.0f"),
        "?" if seconds is None else terminal.cell("{0} s").format(f"{seconds:,.0f}"),
        "-" if money is None else _about(step["yen"], money, ",.2f"),
    ]


def _about(expected: float | None, most: float, form: str) -> str:
    if not most:
        return "-"
    about = "" if expected is None else f"{expected:{form}}, "
    return about + terminal.cell("at most {0}").format(f"{most:{form}}")
