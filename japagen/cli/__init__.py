"""The command line: parse, call, print; nothing else."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import japagen
from japagen.cli import terminal

from japagen.cli.exits import exit_codes
from japagen.cli.options import app


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


def main() -> None:
    """Runs the command line; see `exit_codes` for how it ends."""
    # Japanese must come out right whatever the locale says.
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    with exit_codes():
        app()
