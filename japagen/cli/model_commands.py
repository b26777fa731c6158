"""Commands on trained classifiers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from japagen.cli import terminal
from japagen.cli.terminal import Json
from japagen.cli.terminal import model as group
from japagen.data.formats import read_pairs, read_texts

ABSTAINED = "保留"
"""What stands in place of a label that the classifier does not give."""


@group.command()
def predict(
    model: Annotated[
        Path, typer.Argument(help="A run, or a saved or exported classifier.", show_default=False)
    ],
    file: Annotated[
        Path | None, typer.Argument(help="A file of texts; by default standard input.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Texts at a time.", min=1)] = 32,
    abstain_below: Annotated[
        float, typer.Option(help="Abstain below this probability.", min=0, max=1)
    ] = 0.0,
    precision: Annotated[
        float | None,
        typer.Option(
            help="Abstain below the confidence that reached this precision on held-out gold.",
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
    from japagen.pipeline.run_directory import open_classifier

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


@group.command()
def monitor(
    model: Annotated[Path, typer.Argument(help="A run or a saved classifier.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="New texts.", show_default=False)],
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    as_json: Json = False,
) -> None:
    """Detect drift in new texts; exits with code 3 when retraining is recommended."""
    with terminal.Terminal(doing="monitor"):
        from japagen.pipeline.deployment import watch

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


@group.command()
def onnx(
    model: Annotated[Path, typer.Argument(help="A run or a saved classifier.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="By default RUN/onnx, or MODEL-onnx."),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8/--no-int8", help="Quantise to 8-bit integers.")
    ] = True,
    check: Annotated[
        Path | None,
        typer.Option(
            help="Texts to compare with torch on; by default the kept texts of a run.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Export a classifier to ONNX for `predict`, and check it against torch."""
    with terminal.Terminal(doing="onnx") as listener:
        from japagen.pipeline.deployment import export_classifier

        found = export_classifier(model, output, int8=int8, check=check)
        agreement = found.agreement
        if agreement is None:
            listener.note("Not checked against torch: give texts with --check FILE.")
        elif not agreement.enough:
            listener.note(
                f"Only {agreement.share:.1%} of {agreement.texts} texts have the label that torch "
                "gives them. Measure it on labelled texts before use, or export with --no-int8."
            )
    if as_json:
        terminal.print_json(found.to_dict())
        return
    terminal.out.print(f"wrote {found.path} ({found.megabytes:.0f} MB)")
    if agreement is not None:
        terminal.out.print(
            f"same as torch: {agreement.share:.1%} of {agreement.texts} texts, "
            f"largest difference {agreement.largest:.3f}"
        )
