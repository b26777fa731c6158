"""The command line's entry point, and its exit codes."""

from __future__ import annotations

import _thread
import errno
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

import japagen
from japagen.cli import terminal
from japagen.cli.terminal import app
from japagen.config.sections import ALLOWED_VARIABLES, TRUST_VARIABLE
from japagen.errors import JapagenError

# Importing the commands registers them, in the order in which help lists them: a newcomer's.
# isort: off
from japagen.cli import task_commands  # noqa: F401
from japagen.cli import data_commands  # noqa: F401
from japagen.cli import model_commands  # noqa: F401

# isort: on

# What typer exits with after Ctrl-C.
_INTERRUPTED = 130
_MOMENT = 0.01  # seconds
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ACCESS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Exits with the code that belongs to an error; what is a bug of ours passes through."""
    usual = sys.unraisablehook

    def press_again(lost: sys.UnraisableHookArgs) -> None:
        """Python ignores what is raised in callbacks of the garbage collector, Ctrl-C too."""
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            usual(lost)
            return
        timer = threading.Timer(_MOMENT, _thread.interrupt_main)
        timer.daemon = True
        timer.start()

    sys.unraisablehook = press_again
    try:
        yield
    except JapagenError as error:
        _leave(error)
    except KeyboardInterrupt:
        _interrupted()
        sys.exit(_INTERRUPTED)
    except SystemExit as leaving:
        if leaving.code == _INTERRUPTED:
            _interrupted()
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            hint = "Free some room or choose another --out; the same command goes on from here."
            _leave(JapagenError(f"Cannot write {_where(error)}: {error.strerror}.", hint))
        if error.errno in _NO_ACCESS:
            hint = "Check the path and its permissions, or choose another."
            _leave(JapagenError(f"Cannot use {_where(error)}: {error.strerror}.", hint))
        raise
    finally:
        sys.unraisablehook = usual


def _leave(error: JapagenError) -> None:
    terminal.print_error(error)
    sys.exit(2)


def _interrupted() -> None:
    terminal.say("Interrupted. The same command goes on from here.", terminal.err)


def _where(error: OSError) -> str:
    return str(error.filename) if error.filename else "a file"


def _version(show: bool) -> None:
    if show:
        terminal.out.print(japagen.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    allow_env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Let the task send the value of this environment variable to its server.",
        ),
    ] = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Let the task run code that an encoder brings."),
    ] = False,
) -> None:
    # A task file may come from anywhere; what the user says here it cannot say for itself.
    if allow_env:
        os.environ[ALLOWED_VARIABLES] = ",".join(allow_env)
    if trust_remote_code:
        os.environ[TRUST_VARIABLE] = "1"


def main() -> None:
    """Runs the command line; see `exit_codes` for how it ends."""
    # Japanese must come out right whatever the locale says.
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    columns = logging.getLogger("japagen.data.records")
    columns.addHandler(terminal.TakenColumns())
    columns.setLevel(logging.INFO)
    with exit_codes():
        app()
