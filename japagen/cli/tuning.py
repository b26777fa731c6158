"""The command that searches how to ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from japagen.cli import terminal, tune_view
from japagen.cli.options import Config, Json, Overwrite, Quiet, Sets, app
from japagen.tasks.overrides import parse_overrides
from japagen.tasks.tasks import Task


@app.command()
def tune(
    config: Config,
    budget: Annotated[int, typer.Option(help="Requests in all.", min=1, show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Where trials are kept; runs/NAME-tune if absent.")
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(help="Task file to write; tuned.yaml beside CONFIG if absent."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Settings to try; as many as the budget holds.", min=2)
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(help="Values of a key to try: --vary generation.shots=[4,8]; [] for none."),
    ] = None,
    sets: Sets = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search instructions, shots and sampling by gold alone; write the best. Resumes."""
    from japagen.tuning.task_file import check_target, write_changed

    task = Task.load(config, parse_overrides(sets or ()))
    target = write or config.parent / "tuned.yaml"
    check_target(target, config, overwrite=overwrite)
    varied = parse_overrides(vary or (), "--vary", "generation.temperature=[0.6,0.8]")
    with terminal.Terminal(quiet=quiet) as listener:
        from japagen.tuning.search import tune as search

        found = search(task, budget, out, arms=trials, vary=varied, listener=listener)
    write_changed(config, target, found["chosen"], tune_view.heading(found))
    found["file"] = str(target)
    if as_json:
        terminal.print_json(found)
    else:
        tune_view.print_trials(found)
