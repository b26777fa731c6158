"""Commands on a task file: from writing one to the finished run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from japagen.cli import plan_view, scaffold, terminal
from japagen.cli.options import Columns, Config, Json, Out, Overwrite, Quiet, Sets, Synthetic, app
from japagen.errors import JapagenError
from japagen.messages import user_language
from japagen.storage.files import write_text
from japagen.tasks.overrides import parse_overrides
from japagen.tasks.tasks import Task, sources_from_options


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the task.", show_default=False)],
    labels: Annotated[str, typer.Option(help="Labels, separated by commas.")],
    directory: Annotated[Path, typer.Option(help="Where to write.")] = Path(),
) -> None:
    """Write a task file and a gold template to fill in."""
    for path in scaffold.write_task(name, labels.split(","), directory, user_language()):
        terminal.say(f"wrote {path}")
    terminal.say(scaffold.next_steps(name, directory), terminal.err)


def _run(
    config: Path,
    out: Path | None,
    sets: list[str] | None,
    until: Any,
    synthetic: list[str] | None = None,
    columns: list[str] | None = None,
    *,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    if columns and not synthetic:
        raise JapagenError(
            "--column maps columns of --synthetic, which is absent.", "Give the file's path too."
        )
    with terminal.Terminal(quiet=quiet) as listener:
        from japagen.pipeline import run as run_task

        task = Task.load(config, parse_overrides(sets or ()))
        sources = sources_from_options(synthetic, columns or ()) if synthetic else None
        result = run_task(task, out, synthetic=sources, until=until, listener=listener)
    if until != "report":
        dataset = result.after(until)
        counts = {"examples": len(dataset), "kept": int(dataset.kept_mask.sum())}
        if as_json:
            terminal.print_json({"run": str(result.path), **counts})
        else:
            terminal.say(f"{result.path}: {counts['kept']} of {counts['examples']} kept")
    elif as_json:
        terminal.print_json(result.metrics)
    else:
        terminal.print_summary(result.path, result.metrics)


def _command(last: str) -> Callable[..., None]:
    """Returns a command that runs as far as a stage."""

    def command(
        config: Config,
        out: Out = None,
        sets: Sets = None,
        synthetic: Synthetic = None,
        columns: Columns = None,
        quiet: Quiet = False,
        as_json: Json = False,
    ) -> None:
        _run(config, out, sets, last, synthetic, columns, quiet=quiet, as_json=as_json)

    return command


app.command(
    "run", help="Do everything: generate, curate, align, train, evaluate, report. Resumes."
)(_command("report"))


@app.command()
def generate(
    config: Config, out: Out = None, sets: Sets = None, quiet: Quiet = False, as_json: Json = False
) -> None:
    """Generate synthetic examples, and stop there."""
    _run(config, out, sets, "generate", quiet=quiet, as_json=as_json)


app.command("curate", help="Generate and curate, and stop there.")(_command("curate"))
app.command("train", help="Go on as far as the trained classifier.")(_command("train"))
app.command(
    "evaluate", help="Score the classifier against gold alone; runs what is missing first."
)(_command("report"))


@app.command()
def plan(
    config: Config,
    out: Out = None,
    number: Annotated[
        int | None,
        typer.Option(
            "--sample",
            help="Requests to send to measure time and length; 4 to a local generator, none to "
            "one elsewhere, unless said here.",
            min=0,
        ),
    ] = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Show the requests, tokens, time and yen that a run would take, before it is run."""
    with terminal.Terminal(doing="plan"):
        from japagen.stages.estimating import estimate

        found = estimate(Task.load(config, parse_overrides(sets or ())), out, number)
    if as_json:
        terminal.print_json(found)
        return
    for source in found["sources"]:
        terminal.say(f"{source['texts']:,} texts are read from {source['file']} ({source['name']})")
    if not found["steps"]:
        for note in found["notes"]:
            terminal.say(note)
        return
    terminal.print_table(
        f"{found['texts']} texts asked of {found['generator']}",
        ["label", "register", "texts", "requests"],
        [(r["label"], r["register"], r["texts"], r["requests"]) for r in found["cells"]],
    )
    if found["knowledge"]:
        terminal.print_table(
            "requests that name something",
            ["label", "kind", "item", "requests"],
            [(r["label"], r["kind"], r["item"], r["requests"]) for r in found["knowledge"]],
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
    plan_view.print_estimate(found)


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
        from japagen.stages.previewing import sample

        rows = sample(Task.load(config, parse_overrides(sets or ())), number)
    if as_json:
        terminal.print_json(rows)
        return
    for row in rows:
        parts = [row["label"], row["register"], *row["knowledge"], row["template"]]
        named = [row["source"]] if len({r["source"] for r in rows}) > 1 else []
        terminal.out.rule(" / ".join([*named, *filter(None, parts)]))
        if row["prompt"]:
            terminal.out.print(row["prompt"], style="dim")
        terminal.out.print(f"→ {row['text'] or row['error']}", style="bold")


@app.command()
def attributes(
    config: Config,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the YAML here.")
    ] = None,
    number: Annotated[int, typer.Option("-n", help="Attributes per label.", min=1, max=20)] = 6,
    values: Annotated[int, typer.Option(help="Values of each.", min=2, max=20)] = 8,
    sets: Sets = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Have the generator propose generation.attributes: what texts of each label vary in."""
    if output is not None and output.exists() and not overwrite:
        raise JapagenError(f"{output} exists already.", "Choose another name, or give --overwrite.")
    with terminal.Terminal(doing="attributes"):
        from japagen.stages.proposing import propose_attributes

        found = propose_attributes(Task.load(config, parse_overrides(sets or ())), number, values)
    for label, why in found.refused.items():
        terminal.say(f"{label}: nothing proposed ({why})", terminal.err)
    if output is not None:
        write_text(output, found.to_yaml())
        terminal.say(f"wrote {output}", terminal.err)
    if as_json:
        terminal.print_json({"generator": found.generator, "attributes": found.grids})
    elif output is None:
        terminal.out.print(found.to_yaml(), end="", markup=False, highlight=False, soft_wrap=True)
