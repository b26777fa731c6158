"""The command that opens the review page."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from japagen.cli import terminal
from japagen.cli.options import Json, Language, Overwrite, RunPath, app


@app.command()
def review(
    run_path: RunPath,
    number: Annotated[int, typer.Option("-n", help="How many examples to show.", min=1)] = 100,
    reviewer: Annotated[str, typer.Option(help="Who decides; kept with every decision.")] = "",
    language: Annotated[
        Language, typer.Option("--lang", help="Language of the page.")
    ] = Language.JA,
    port: Annotated[int, typer.Option(help="0 for any free one.", min=0, max=65535)] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    gold: Annotated[
        Path | None,
        typer.Option(help="Write the texts that people found good here as gold; no page."),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option("--import", help="Take in an export of Label Studio or Argilla; no page."),
    ] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Print the result; no page.")] = False,
    seed: Annotated[int, typer.Option(help="Of the sample, at the first review.")] = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Let people check a sample on a local page: accept, reject, relabel, by keyboard."""
    from japagen.reviewing.opening import open_review, take_annotations, write_gold

    with open_review(
        run_path,
        number=number,
        seed=seed,
        reviewer=reviewer,
        language=language.value,
    ) as session:
        if gold is not None:
            count = write_gold(run_path, gold, overwrite=overwrite)
            terminal.say(f"wrote {gold}: {count} texts")
            return
        if answers is not None:
            counts = take_annotations(session, answers)
            terminal.say(
                f"{counts['taken']} answers taken, {counts['unknown']} not of this run",
                terminal.err,
            )
        elif not summary:
            from japagen.reviewing.server import serve

            def ready(address: str) -> None:
                terminal.say(
                    f"Review at {address}\nCtrl-C ends it; everything is saved.", terminal.err
                )
                if browser:
                    webbrowser.open(address)

            serve(session, port, ready)
        found = session.summary().to_dict()
    if as_json:
        terminal.print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    def share(name: str) -> str:
        part = found[name]
        if part is None:
            return "not known yet"
        return (
            f"{part['value']:.1%} (95% {part['low']:.1%} to {part['high']:.1%}; "
            f"speaks for {part['covers']:.0%} of the kept examples)"
        )

    counts = ", ".join(f"{verdict} {n}" for verdict, n in found["verdicts"].items())
    terminal.say(f"decided: {found['reviewed']} ({counts})")
    terminal.say(f"usable as they are: {share('accuracy')}")
    terminal.say(f"labels right: {share('label_accuracy')}")
    if found["agreement"] is not None:
        kappa = "" if found["kappa"] is None else f", kappa {found['kappa']:.2f}"
        terminal.say(f"agreement with the filters: {found['agreement']:.1%}{kappa}")
    if found["reviewed"]:
        terminal.say("The next run of the task takes these decisions in.", terminal.err)
