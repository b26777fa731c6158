"""Commands that make a classifier ready for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from japagen.cli import terminal
from japagen.cli.options import Json, app


@app.command()
def onnx(
    model: Annotated[Path, typer.Argument(help="A run or a saved classifier.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="RUN/onnx, or MODEL-onnx, if absent."),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8/--no-int8", help="Multiply in 8-bit integers.")
    ] = True,
    check: Annotated[
        Path | None,
        typer.Option(
            help="Texts to compare with torch on; the kept texts of a run if absent.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Export a classifier to ONNX for `predict`, and check it against torch."""
    with terminal.Terminal(doing="onnx") as listener:
        from japagen.exporting.deployment import export_classifier

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
