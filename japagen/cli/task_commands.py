"""Commands on a task file: from writing one to the finished run."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from japagen.cli import terminal
from japagen.cli.terminal import Config, Json, Out, Sets, app, say
from japagen.config.task import Task, sources_from_options
from japagen.config.yaml_file import parse_overrides
from japagen.data.files import write_text
from japagen.data.yaml_text import parse_yaml, to_yaml
from japagen.errors import JapagenError
from japagen.i18n import Language, localized, user_language
from japagen.reporting.text import Words

if TYPE_CHECKING:
    from japagen.pipeline.kinds import Kind


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the task.", show_default=False)],
    labels: Annotated[str, typer.Option(help="Labels, separated by , or 、.")],
    directory: Annotated[Path, typer.Option(help="Where to write.")] = Path(),
) -> None:
    """Write a task file and a gold template to fill in."""
    for path in write_task(name, re.split("[,，、]", labels), directory, user_language()):
        terminal.say(f"wrote {path}")
    terminal.say(next_steps(name, directory), terminal.err)


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
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print results and errors only.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Do everything: generate, curate, align, train, report. Resumes.

    Exits with code 3 when a test of the task file (tests) fails.
    """
    if (columns or encoding) and not synthetic:
        option = "--column" if columns else "--encoding"
        raise JapagenError(
            f"{option} is about the files of --synthetic, which is absent.",
            "Give the file's path too.",
        )
    if kind := _kind_of(config):
        if synthetic or until is not Stage.REPORT:
            option = "--synthetic" if synthetic else f"--until {until.value}"
            raise JapagenError(
                f"{option} goes with tasks that train a classifier.", "Leave it out."
            )
        with terminal.Terminal(quiet=quiet) as listener:
            other = kind.load(config, parse_overrides(sets or ()))
            path = kind.run(other, out, listener=listener)
        found = kind.summary(path)
        if as_json:
            terminal.print_json(found.model_dump(mode="json"))
        else:
            terminal.print_made(path, found)
        return
    with terminal.Terminal(quiet=quiet) as listener:
        from japagen.pipeline.run import run as run_task

        task = Task.load(config, parse_overrides(sets or ()))
        sources = None
        if synthetic:
            sources = sources_from_options(synthetic, columns or (), encoding or "utf-8")
        result = run_task(task, out, synthetic=sources, until=until.value, listener=listener)
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

            found = estimate(Task.load(config, overrides), out, number)
    if as_json:
        terminal.print_json(found)
        return
    if "questions" in found:
        _print_questions_plan(found)
        return
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
        parts = [row["label"], row["register"], *row["knowledge"], *told, row["template"]]
        named = [row["source"]] if len({r["source"] for r in rows}) > 1 else []
        terminal.out.rule(" / ".join([*named, *filter(None, parts)]))
        if row["prompt"]:
            terminal.out.print(row["prompt"], style="dim")
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


_TASK = """\
{about}
name: {name}

{texts}
description: お客様から届いた文章
text_type: 文章
domain: ""

{described}
labels:
{labels}

{gold}
# gold: {{path: {name}_gold.csv}}
# test: {{path: {name}_test.csv}}
# unlabelled: {{path: {name}_unlabelled.csv}}

{registers}
registers: {{polite: 0.4, plain: 0.2, casual: 0.2, honorific: 0.2}}

generation:
  per_label: 60

seed: 0
"""


def _comments(name: str, language: Language) -> dict[str, str]:
    about = f"""\
# {name}: a japagen task. Run it with: japagen run {name}.yaml
# It runs as it is, from the label descriptions alone; better descriptions and a few labelled
# texts make it good."""
    texts = """\
# What the texts are, what one of them is called, and where they come from (in Japanese; prompts
# use them)."""
    described = """\
# Each label with a Japanese description of what belongs to it; phrases with 、 between are best:
# 請求額、明細、支払い方法"""
    gold = f"""\
# Fill in {name}_gold.csv (16 texts per label is a good start), then remove the # below. Some of
# it is held out to score on, unless you give a test file of its own."""
    registers = "# Shares of polite, plain, casual and honorific, or from_gold."
    return {
        "about": localized(about, language),
        "texts": localized(texts, language),
        "described": localized(described, language),
        "gold": localized(gold, language),
        "registers": localized(registers, language),
    }


def write_task(
    name: str, labels: Sequence[str], directory: Path, language: Language = "en"
) -> list[Path]:
    """Writes ``NAME.yaml`` and ``NAME_gold.csv``; nothing is overwritten.

    Args:
        name: Name of the task and, with suffixes, of the files.
        labels: Its labels.
        directory: Where to write.
        language: Of the comments.

    Returns:
        The paths written.

    Raises:
        JapagenError: If a file exists already, or name or labels are not usable.
    """
    names = [label.strip() for label in labels if label.strip()]
    lines = to_yaml(dict.fromkeys(names, ""))
    indented = "\n".join(f"  {line}" for line in lines.splitlines())
    text = _TASK.format(name=name, labels=indented, **_comments(name, language))
    where = f"the task '{name}'"
    Task.parse(parse_yaml(text, where), where)
    gold = io.StringIO()
    csv.writer(gold, lineterminator="\n").writerow(["text", "label"])
    files = {directory / f"{name}.yaml": text, directory / f"{name}_gold.csv": gold.getvalue()}
    for path in files:
        if path.exists():
            raise JapagenError(f"{path} exists already.", "Choose another name or --directory.")
    for path, content in files.items():
        write_text(path, content)
    return list(files)


def next_steps(name: str, directory: Path) -> str:
    """What to do after `write_task`."""
    task = directory / f"{name}.yaml"
    return (
        f"Next: describe the labels in {task}, fill in {directory / f'{name}_gold.csv'}, and\n"
        f"  japagen preview {task}\n  japagen run {task}"
    )


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
    if found["answered"]:
        say(f"answered already: {found['answered']:,}; time and yen are of the rest")
    say(f"prompts of generation: {found['shared_prompt_tokens']:,} tokens after sharing prefixes")
    if found["measured_on"]:
        say(f"time and length of answers are measured on the {found['measured_on']}")
    else:
        say("time: not measured (--sample N sends N requests to find out)")
    for step in found["unknown"]:
        if step == "refine":
            say("refinement: how many texts are in doubt is known when they are there")
            continue
        say(
            f"{terminal.cell(_STEPS[step])}: how many are needed is known when 20 texts "
            "are there; until then 'about' does not count them, and 'at most' does"
        )
    if found["batch"] is not None:
        say(
            f"yen: at {found['batch']:.0%} of generator.price, that of the batch API; a batch may "
            "take a day, and each round and step waits for the one before"
        )
    if found["budget"]:
        _print_budget(found)
    if found["masked"]:
        say(f"personal data masked in prompts: {found['masked']:,} pieces")


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


def _print_budget(found: Mapping[str, Any]) -> None:
    most = {"tokens": found["max_tokens_left"], "yen": found["max_yen"]}
    for unit, bound in found["budget"].items():
        enough = most[unit] is not None and most[unit] <= bound
        say(
            f"budget: {bound:,} {unit} for all steps and sessions of a run together; "
            + ("it holds the most that is left" if enough else "less than the most that is left")
        )
    say(
        "What no longer fits is not sent: its rows say so, the run goes on with what there is, "
        "and a larger budget takes up there. Generation is paid for first, labels last."
    )
