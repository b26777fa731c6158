"""Commands on files, finished runs and trained classifiers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from japagen.cli import terminal
from japagen.cli.options import Json, Language, Overwrite, RunPath, app
from japagen.storage.lines import read_pairs, read_texts


class ExportFormat(Enum):
    """Formats of an export."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    HF = "hf"
    ARGILLA = "argilla"
    LABEL_STUDIO = "label-studio"


ABSTAINED = "保留"
"""What stands in place of a label that the classifier does not give."""

_METHOD_HELP = "entropy, dsir, gradient_matching, labels (their shares alone), or none."


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
    registers: Annotated[
        bool | None,
        typer.Option(
            help="Find registers of texts that come without, so that they are matched; "
            "up to 50,000 texts if absent.",
            show_default=False,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Measure on its vectors as well: embedded, a directory or a Hub name."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that read texts; chosen if absent.", min=1)
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Weight any dataset against any gold set, without a task file."""
    with terminal.Terminal(doing="align") as listener:
        from japagen.stages.aligning import align_files

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
            registers=registers,
            encoder=encoder,
            workers=workers,
            progress=partial(listener.track, what="align"),
            note=listener.note,
        )
    if as_json:
        terminal.print_json(found.to_dict())
    else:
        terminal.say(f"wrote {output}")
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
    model: Annotated[
        Path, typer.Argument(help="A run, or a saved or exported classifier.", show_default=False)
    ],
    file: Annotated[
        Path | None, typer.Argument(help="A file of texts; standard input if absent.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Texts at a time.", min=1)] = 32,
    abstain_below: Annotated[
        float, typer.Option(help="Give no label below this probability.", min=0, max=1)
    ] = 0.0,
    precision: Annotated[
        float | None,
        typer.Option(
            help="Give no label where fewer than this share of gold was right in cross-validation.",
            min=0,
            max=1,
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the label and probability of each line, or the number.

    Pairs are read from the columns text and text_pair, or from lines with a tab between them.
    """
    from japagen.running.results import open_classifier

    with terminal.Terminal(doing="predict"):
        classifier = open_classifier(model)
    if precision is not None:
        abstain_below = max(abstain_below, classifier.confidence_for(precision))
    with terminal.Terminal(quiet=terminal.out.is_terminal, doing="predict") as listener:
        texts: Iterator[str | tuple[str, str]] = (
            read_pairs(file, sys.stdin) if classifier.is_pair else read_texts(file, sys.stdin)
        )
        texts = listener.track(texts, None, "predict")
        for text, prediction in classifier.predict_stream(texts, batch_size, abstain_below):
            sides = [text] if isinstance(text, str) else list(text)
            if as_json:
                row = {
                    **dict(zip(("text", "text_pair"), sides, strict=False)),
                    **prediction.to_dict(),
                }
                terminal.print_json_line(row)
            else:
                share = "" if prediction.confidence is None else f"{prediction.confidence:.3f}\t"
                label = (
                    terminal.label_text(prediction.label)
                    if prediction.label is not None
                    else ABSTAINED
                )
                terminal.out.print(f"{label}\t{share}" + "\t".join(sides))


@app.command()
def monitor(
    model: Annotated[Path, typer.Argument(help="A run or a saved classifier.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="New texts.", show_default=False)],
    seed: Annotated[int, typer.Option(help="Of samples and permutations.")] = 0,
    as_json: Json = False,
) -> None:
    """Compare new traffic with what the classifier was made for; exits 3 to say: retrain."""
    with terminal.Terminal(doing="monitor"):
        from japagen.inspecting.watching import watch

        found = watch(model, file, seed)
    if as_json:
        terminal.print_json(found.to_dict())
    else:
        terminal.print_table(
            f"{found.new} new texts against {found.reference}: {found.verdict}",
            ["what", "change", "p", ""],
            [
                (c.name, f"{c.value:.3f}", f"{c.p_value:.3f}", "drifted" if c.drifted else "")
                for c in found.checks
            ],
        )
        if found.new_words:
            words = ", ".join(f"{word} ({n})" for word, n in found.new_words.items())
            terminal.say(f"words never seen before: {words}")
    if found.verdict == "retrain":
        raise typer.Exit(3)


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
    from japagen.exporting.cards import dataset_card
    from japagen.exporting.exports import export_dataset, form_of
    from japagen.running.results import Run

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
        terminal.say(f"wrote {path}")


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
    from japagen.reporting.report import render_report
    from japagen.running.results import Run
    from japagen.storage.files import write_text

    found = Run.open(run_path)
    path = output or run_path / "report.html"
    write_text(path, render_report(found.metrics, found.dataset, language=language.value))
    terminal.say(f"wrote {path}")


@app.command()
def diff(
    run_a: RunPath,
    run_b: RunPath,
    number: Annotated[int, typer.Option("-n", help="Examples of each change.", min=0)] = 5,
    as_json: Json = False,
) -> None:
    """Show what changed between the datasets of two runs, and why."""
    from japagen.cli.comparison import print_comparison
    from japagen.inspecting.comparing import compare_runs
    from japagen.running.results import Run

    found = compare_runs(Run.open(run_a), Run.open(run_b))
    if as_json:
        terminal.print_json(found)
    else:
        print_comparison(found, number)


@app.command()
def explain(
    run_path: RunPath,
    example_id: Annotated[str, typer.Argument(help="An example's id.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show what made an example what it is: request, model, filters, weights."""
    from japagen.cli.comparison import print_explanation
    from japagen.inspecting.explaining import explain_example
    from japagen.running.results import Run

    found = explain_example(Run.open(run_path), example_id)
    if as_json:
        terminal.print_json(found)
    else:
        print_explanation(found)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show what is installed and what is missing."""
    from japagen.inspecting.doctor import diagnose

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
