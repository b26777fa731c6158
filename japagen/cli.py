"""The command line: parse, call, print; nothing else."""

from __future__ import annotations

import sys
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import japagen
from japagen import scaffold, terminal
from japagen.errors import JapagenError
from japagen.exits import exit_codes
from japagen.lines import read_texts
from japagen.overrides import parse_overrides
from japagen.tasks import Task, synthetic_source

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


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


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
    synthetic: Path | None = None,
    columns: list[str] | None = None,
    *,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    if columns and synthetic is None:
        raise JapagenError(
            "--column maps columns of --synthetic, which is absent.", "Give the file's path too."
        )
    with terminal.Terminal(quiet=quiet) as listener:
        from japagen.pipeline import run as run_task

        task = Task.load(config, parse_overrides(sets or ()))
        source = synthetic_source(synthetic, columns or ()) if synthetic else None
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
    _run(config, out, sets, "report", synthetic, columns, quiet=quiet, as_json=as_json)


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
    _run(config, out, sets, "curate", synthetic, columns, quiet=quiet, as_json=as_json)


@app.command()
def train(
    config: Config,
    out: Out = None,
    sets: Sets = None,
    synthetic: Synthetic = None,
    columns: Columns = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Go on as far as the trained classifier."""
    _run(config, out, sets, "train", synthetic, columns, quiet=quiet, as_json=as_json)


@app.command()
def evaluate(
    config: Config,
    out: Out = None,
    sets: Sets = None,
    synthetic: Synthetic = None,
    columns: Columns = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score the classifier against gold alone; runs what is missing first."""
    _run(config, out, sets, "report", synthetic, columns, quiet=quiet, as_json=as_json)


@app.command()
def plan(config: Config, sets: Sets = None, as_json: Json = False) -> None:
    """Show how many requests and tokens a run would take, before anything is spent."""
    with terminal.Terminal():
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
    with terminal.Terminal(doing="preview"):
        from japagen.previewing import sample

        rows = sample(Task.load(config, parse_overrides(sets or ())), number)
    if as_json:
        terminal.print_json(rows)
        return
    for row in rows:
        terminal.out.rule(f"{row['label']} / {row['register']} / {row['template']}")
        terminal.out.print(row["prompt"], style="dim")
        terminal.out.print(f"→ {row['text'] or row['error']}", style="bold")


_METHOD_HELP = (
    "entropy, dsir, dsir_characters, kernel_mean, density_ratio, sliced_transport, "
    "gradient_matching, labels (their shares alone), none, or auto: what does best on target "
    "texts left out."
)


@app.command()
def align(
    synthetic: Annotated[Path, typer.Argument(help="Examples to weight.", show_default=False)],
    gold: Annotated[Path, typer.Argument(help="Labelled examples.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write.")],
    unlabelled: Annotated[Path | None, typer.Option(help="Texts of the target.")] = None,
    method: Annotated[str, typer.Option(help=_METHOD_HELP)] = "entropy",
    label_prior: Annotated[str, typer.Option(help="auto, gold, uniform or estimate.")] = "auto",
    floor: Annotated[float, typer.Option(help="Least effective sample share a label.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    number: Annotated[
        int | None,
        typer.Option("--resample", help="Draw this many by weight, each then of weight 1."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that read texts; chosen if absent.", min=1)
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Weight any dataset against any gold set, without a task file."""
    with terminal.Terminal(doing="align") as listener:
        from japagen.aligning import align_files

        found = align_files(
            synthetic,
            gold,
            output,
            unlabelled=unlabelled,
            number=number,
            overwrite=overwrite,
            method=method,
            seed=seed,
            label_prior=label_prior,
            floor=floor,
            workers=workers,
            progress=partial(listener.track, what="align"),
        )
    if as_json:
        terminal.print_json(found.to_dict())
    else:
        terminal.out.print(f"wrote {output}")
        terminal.print_alignment(found.to_dict())


@app.command()
def register(
    file: Annotated[
        Path | None, typer.Argument(help="A file of texts; standard input if absent.")
    ] = None,
    user_dictionary: Annotated[
        Path | None, typer.Option(help="A compiled MeCab user dictionary.")
    ] = None,
    honorifics: Annotated[
        Path | None, typer.Option(help="Own honorific words (YAML): WORD: sonkeigo.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the register of each line, with its evidence."""
    from japagen.japanese.own_honorifics import read_honorifics
    from japagen.japanese.register_detection import RegisterAnalyzer

    own = read_honorifics(honorifics) if honorifics else None
    analyzer = RegisterAnalyzer(user_dictionary, own)
    # One line at a time, so that an answer comes as soon as a line is typed; on a terminal the
    # lines themselves show how far it is.
    with terminal.Terminal(quiet=terminal.out.is_terminal, doing="register") as listener:
        for text in listener.track(read_texts(file, sys.stdin), None, "register"):
            report = analyzer.analyze(text)
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
    from japagen.results import Run
    from japagen.runs import is_run
    from japagen.training.classifier import Classifier

    with terminal.Terminal(doing="predict"):
        classifier = Run.open(model).classifier if is_run(model) else Classifier.load(model)
    with terminal.Terminal(quiet=terminal.out.is_terminal, doing="predict") as listener:
        texts = listener.track(read_texts(file, sys.stdin), None, "predict")
        for text, prediction in classifier.predict_stream(texts, batch_size):
            probabilities = prediction.probabilities
            if as_json:
                row = {"text": text, "label": prediction.label, "probabilities": probabilities}
                terminal.print_json_line(row)
            else:
                share = probabilities[prediction.label]
                terminal.out.print(f"{prediction.label}\t{share:.3f}\t{text}")


@app.command()
def export(
    run_path: RunPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write.")],
    form: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="From the suffix of the path if absent; hf has none."),
    ] = None,
    bom: Annotated[bool, typer.Option("--bom", help="Byte order mark, for Excel.")] = False,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Include rejected examples.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the dataset with its card."""
    from japagen.exports import dataset_card, export_dataset, form_of
    from japagen.results import Run

    found = Run.open(run_path)
    card = dataset_card(found.metrics, found.dataset)
    written = export_dataset(
        found.dataset,
        output,
        form.value if form else form_of(output),
        card=card,
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
    """Runs the command line; see `exit_codes` for how it ends."""
    # Japanese must come out right whatever the locale says.
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    with exit_codes():
        app()
