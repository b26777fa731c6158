"""The command line: parse, call, print; nothing else."""

from __future__ import annotations

import errno
import sqlite3
import sys
from collections.abc import Iterator
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import japagen
from japagen import scaffold, terminal
from japagen.errors import JapagenError
from japagen.tasks import Task, parse_overrides

# What typer exits with after Ctrl-C.
_INTERRUPTED = 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From a handful of labelled Japanese texts to a trained compact classifier.",
)

Config = Annotated[Path, typer.Argument(help="The task file (YAML).", show_default=False)]
RunPath = Annotated[Path, typer.Argument(help="A run directory.", show_default=False)]
Out = Annotated[Path | None, typer.Option("--out", help="Run directory; runs/NAME if absent.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Replace a key of the task: --set seed=3.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
Synthetic = Annotated[
    Path | None,
    typer.Option(help="CSV, JSONL or Parquet that any LLM wrote, in place of generation."),
]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="Map a column of the file: text=本文.")
]


class Language(Enum):
    """Languages of the report."""

    JA = "ja"
    EN = "en"


class ExportFormat(Enum):
    """Formats of an export."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    HF = "hf"


def _format_of(path: Path) -> ExportFormat:
    known = {f".{form.value}": form for form in ExportFormat if form is not ExportFormat.HF}
    if path.suffix.lower() not in known:
        raise JapagenError(
            f"Expected a path that ends in {', '.join(known)}, found '{path.name}'.",
            "Give such a path, or name the format with --format.",
        )
    return known[path.suffix.lower()]


def _version(show: bool) -> None:
    if show:
        terminal.out.print(japagen.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the task.", show_default=False)],
    labels: Annotated[str, typer.Option(help="Labels, separated by commas.")],
    directory: Annotated[Path, typer.Option(help="Where to write.")] = Path(),
) -> None:
    """Write a task file and a gold template to fill in."""
    for path in scaffold.write_task(name, labels.split(","), directory):
        terminal.out.print(f"wrote {path}")
    terminal.err.print(scaffold.next_steps(name, directory))


def _run(
    config: Path,
    out: Path | None,
    sets: list[str] | None,
    until: Any,
    *,
    synthetic: Path | None = None,
    columns: list[str] | None = None,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    from japagen.pipeline import run as run_task
    from japagen.tasks import Source

    task = Task.load(config, parse_overrides(sets or ()))
    source = None
    if synthetic is not None:
        source = Source(path=synthetic, columns=parse_overrides(columns or ()))
    elif columns:
        raise JapagenError("--column maps columns of --synthetic, which is absent.")
    listener = terminal.Terminal(quiet=quiet)
    result = run_task(task, out, synthetic=source, until=until, listener=listener)
    if until != "report":
        dataset = result.after(until)
        counts = {"examples": len(dataset), "kept": int(dataset.kept_mask.sum())}
        if as_json:
            terminal.print_json({"run": str(result.path), **counts})
        else:
            terminal.out.print(f"{result.path}: {counts['kept']} of {counts['examples']} kept")
    elif as_json:
        terminal.print_json(result.metrics)
    else:
        terminal.print_summary(result.path, result.metrics)


@app.command()
def run(
    config: Config,
    out: Out = None,
    sets: Sets = None,
    synthetic: Synthetic = None,
    columns: Columns = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Do everything: generate, curate, align, train, evaluate, report. Resumes."""
    _run(
        config,
        out,
        sets,
        "report",
        synthetic=synthetic,
        columns=columns,
        quiet=quiet,
        as_json=as_json,
    )


@app.command()
def generate(
    config: Config, out: Out = None, sets: Sets = None, quiet: Quiet = False, as_json: Json = False
) -> None:
    """Generate synthetic examples, and stop there."""
    _run(config, out, sets, "generate", quiet=quiet, as_json=as_json)


@app.command()
def curate(
    config: Config,
    out: Out = None,
    sets: Sets = None,
    synthetic: Synthetic = None,
    columns: Columns = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Generate and curate, and stop there."""
    _run(
        config,
        out,
        sets,
        "curate",
        synthetic=synthetic,
        columns=columns,
        quiet=quiet,
        as_json=as_json,
    )


@app.command()
def train(
    config: Config, out: Out = None, sets: Sets = None, quiet: Quiet = False, as_json: Json = False
) -> None:
    """Go on as far as the trained classifier."""
    _run(config, out, sets, "train", quiet=quiet, as_json=as_json)


@app.command()
def evaluate(
    config: Config, out: Out = None, sets: Sets = None, quiet: Quiet = False, as_json: Json = False
) -> None:
    """Score the classifier against gold alone; runs what is missing first."""
    _run(config, out, sets, "report", quiet=quiet, as_json=as_json)


@app.command()
def plan(config: Config, sets: Sets = None, as_json: Json = False) -> None:
    """Show how many requests and tokens a run would take, before anything is spent."""
    from japagen.previewing import estimate

    found = estimate(Task.load(config, parse_overrides(sets or ())))
    if as_json:
        terminal.print_json(found)
        return
    terminal.print_table(
        f"{found['requests']} requests to {found['generator']}",
        ["label", "register", "requests"],
        [(r["label"], r["register"], r["requests"]) for r in found["cells"]],
    )
    terminal.out.print(
        f"prompt tokens: {found['prompt_tokens']:,} "
        f"({found['shared_prompt_tokens']:,} after sharing prefixes)\n"
        f"completion tokens: at most {found['max_completion_tokens']:,}"
    )


@app.command()
def preview(
    config: Config,
    number: Annotated[int, typer.Option("-n", help="How many examples.", min=1)] = 5,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Show rendered prompts and a few generated examples."""
    from japagen.previewing import sample

    rows = sample(Task.load(config, parse_overrides(sets or ())), number)
    if as_json:
        terminal.print_json(rows)
        return
    for row in rows:
        terminal.out.rule(f"{row['label']} / {row['register']} / {row['template']}")
        terminal.out.print(row["prompt"], style="dim")
        terminal.out.print(f"→ {row['text'] or row['error']}", style="bold")


@app.command()
def align(
    synthetic: Annotated[Path, typer.Argument(help="Examples to weight.", show_default=False)],
    gold: Annotated[Path, typer.Argument(help="Labelled examples.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write.")],
    unlabelled: Annotated[Path | None, typer.Option(help="Texts of the target.")] = None,
    method: Annotated[str, typer.Option(help="entropy or none.")] = "entropy",
    label_prior: Annotated[str, typer.Option(help="auto, gold, uniform or estimate.")] = "auto",
    floor: Annotated[float, typer.Option(help="Least effective sample share a label.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Processes that read texts; chosen if absent.", min=1)
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Weight any dataset against any gold set, without a task file."""
    from japagen.alignment.alignment import align_datasets
    from japagen.formats import read_examples, write_examples

    examples = read_examples(synthetic, require_label=True)
    found = align_datasets(
        examples,
        read_examples(gold, split="train", require_label=True),
        read_examples(unlabelled, split="unlabelled") if unlabelled else None,
        label_prior=label_prior,
        method=method,
        floor=floor,
        seed=seed,
        workers=workers,
        progress=partial(terminal.Terminal(quiet=quiet).track, what="align, blocks of texts"),
    )
    write_examples(output, examples.with_columns(weight_distribution=found.weights))
    if as_json:
        terminal.print_json(found.to_dict())
    else:
        terminal.out.print(f"wrote {output}")
        terminal.print_alignment(found.to_dict())


def _lines(file: Path | None) -> Iterator[str]:
    """Texts of a file of examples, lines of any other file, or lines of standard input."""
    if file is None or str(file) == "-":
        yield from (line.rstrip("\n") for line in sys.stdin)
    elif file.suffix.lower() in (".csv", ".jsonl", ".ndjson", ".parquet"):
        from japagen.formats import read_examples

        yield from read_examples(file).texts
    elif not file.is_file():
        raise JapagenError(f"There is no file at {file}.", "Check the path.")
    else:
        with file.open(encoding="utf-8-sig") as lines:
            yield from (line.rstrip("\n") for line in lines)


@app.command()
def register(
    file: Annotated[
        Path | None, typer.Argument(help="A file of texts; standard input if absent.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the register of each line, with its evidence."""
    from japagen.japanese.register_detection import analyze_register

    for text in _lines(file):
        report = analyze_register(text)
        if as_json:
            terminal.print_json_line({"text": text, **report.to_dict()})
        else:
            terminal.out.print(terminal.register_line(text, report))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A run or a saved classifier.", show_default=False)],
    file: Annotated[
        Path | None, typer.Argument(help="A file of texts; standard input if absent.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Texts at a time.", min=1)] = 32,
    as_json: Json = False,
) -> None:
    """Print the label and probability of each line."""
    from japagen.training.classifier import Classifier

    inner = model / "model"
    classifier = Classifier.load(inner if inner.is_dir() else model)
    for text, prediction in classifier.predict_stream(_lines(file), batch_size):
        if as_json:
            terminal.print_json_line(
                {
                    "text": text,
                    "label": prediction.label,
                    "probabilities": prediction.probabilities,
                }
            )
        else:
            share = prediction.probabilities[prediction.label]
            terminal.out.print(f"{prediction.label}\t{share:.3f}\t{text}")


@app.command()
def export(
    run_path: RunPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write.")],
    form: Annotated[
        ExportFormat | None, typer.Option("--format", help="From the suffix if absent.")
    ] = None,
    bom: Annotated[bool, typer.Option(help="Byte order mark, for Excel.")] = False,
    rejected: Annotated[bool, typer.Option(help="Include rejected examples.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
) -> None:
    """Write the dataset with its card."""
    from japagen.exports import dataset_card, export_dataset
    from japagen.results import Run

    found = Run.open(run_path)
    written = export_dataset(
        found.dataset,
        output,
        (form or _format_of(output)).value,
        card=dataset_card(found.metrics, found.dataset),
        bom=bom,
        include_rejected=rejected,
        overwrite=overwrite,
    )
    for path in written:
        terminal.out.print(f"wrote {path}")


@app.command()
def report(
    run_path: RunPath,
    language: Annotated[
        Language, typer.Option("--lang", help="Language of the report.")
    ] = Language.JA,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="RUN/report.html if absent.")
    ] = None,
) -> None:
    """Write the HTML report of a finished run."""
    from japagen.files import write_text
    from japagen.reporting.report import render_report
    from japagen.results import Run

    found = Run.open(run_path)
    path = output or run_path / "report.html"
    write_text(path, render_report(found.metrics, found.dataset, language=language.value))
    terminal.out.print(f"wrote {path}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show what is installed and what is missing."""
    from japagen.doctor import diagnose

    rows = diagnose()
    if as_json:
        terminal.print_json(rows)
    else:
        terminal.print_table(
            "japagen doctor",
            ["what", "state", "detail"],
            [(r["what"], r["state"], r["detail"]) for r in rows],
        )
    if any(row["state"] == "missing" and row["needed"] for row in rows):
        raise typer.Exit(2)


def main() -> None:
    """Runs the command line and turns errors into exit codes: 2 the user's, 130 interrupted."""
    # Japanese must come out right whatever the locale says.
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    try:
        app()
    except JapagenError as error:
        terminal.print_error(error)
        sys.exit(2)
    except SystemExit as leaving:
        if leaving.code == _INTERRUPTED:
            terminal.err.print("Interrupted. The same command goes on from here.")
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        hint = "Free some room or choose another --out; the same command goes on from here."
        terminal.print_error(
            JapagenError(f"Cannot write {error.filename}: {error.strerror}.", hint)
        )
        sys.exit(2)
    except sqlite3.OperationalError as error:
        if "full" not in str(error) and "readonly" not in str(error):
            raise
        terminal.print_error(JapagenError(f"Cannot write the ledger: {error}.", "Free some room."))
        sys.exit(2)
