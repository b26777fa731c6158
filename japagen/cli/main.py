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
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from typer import rich_utils

import japagen
from japagen.cli import terminal
from japagen.cli.terminal import Language, app
from japagen.config.curation import CODE_VARIABLE
from japagen.config.generation import ALLOWED_VARIABLES
from japagen.config.sections import TRUST_VARIABLE
from japagen.errors import JapagenError
from japagen.i18n import localized, take_language, user_language

# Importing the commands registers them, in the order in which help lists them: a newcomer's.
# isort: off
from japagen.cli import task_commands  # noqa: F401
from japagen.cli import data_commands  # noqa: F401
from japagen.cli import model_commands  # noqa: F401

# isort: on

# What typer exits with after Ctrl-C.
_INTERRUPTED = 130
# What a shell shows of a program that writes to a pipe which nobody reads any more.
_PIPE_CLOSED = 128 + 13
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
            hint = "Free some room; the same command goes on from here."
            _leave(JapagenError(f"Cannot write {_where(error)}: {error.strerror}.", hint))
        if error.errno in _NO_ACCESS:
            hint = "Check the path and its permissions, or choose another."
            _leave(JapagenError(f"Cannot use {_where(error)}: {error.strerror}.", hint))
        raise
    finally:
        sys.unraisablehook = usual


def _leave(error: JapagenError) -> None:
    terminal.print_error(error)
    sys.exit(error.status)


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
    language: Annotated[
        Language | None,
        typer.Option(
            "--lang",
            help="Language of all that is said and of reports; by default that of the locale.",
            show_default=False,
        ),
    ] = None,
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
    allow_code: Annotated[
        bool,
        typer.Option("--allow-code", help="Let the task run Python functions that lie beside it."),
    ] = False,
) -> None:
    # The language was taken before: see `main`.
    # A task file may come from anywhere; what the user says here it cannot say for itself.
    if allow_env:
        os.environ[ALLOWED_VARIABLES] = ",".join(allow_env)
    if trust_remote_code:
        os.environ[TRUST_VARIABLE] = "1"
    if allow_code:
        os.environ[CODE_VARIABLE] = "1"


class _FoldingTable(Table):
    """A table of help that folds Japanese, which has no spaces to break at, and cuts nothing."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*cells, **options)
        for column in self.columns:
            column.overflow = "fold"


def _prepare_help_pages() -> None:
    for name in ("ARGUMENTS", "OPTIONS", "COMMANDS"):
        title = f"{name}_PANEL_TITLE"
        setattr(rich_utils, title, localized(getattr(rich_utils, title)))
    for name in ("DEFAULT_STRING", "REQUIRED_LONG_STRING"):
        text = getattr(rich_utils, name).replace("{}", "{0}")
        setattr(rich_utils, name, localized(text).replace("{0}", "{}"))
    # Columns would make tables of their own, which cut.
    folding = {"Table": _FoldingTable, "Columns": lambda cells: Group(*cells)}
    for name, value in folding.items():
        setattr(rich_utils, name, value)


def translate_help(command: Any) -> Any:
    """Has a command, and those below it, explain themselves in the user's language."""
    usage, help_option = command.get_usage, command.get_help_option

    def translated_option(context: Any) -> Any:
        return _translated(help_option(context))

    command.get_usage = lambda context: localized(usage(context))
    command.get_help_option = translated_option
    for explained in (command, *command.params):
        _translated(explained)
    for below in getattr(command, "commands", {}).values():
        translate_help(below)
    return command


def _translated(explained: Any) -> Any:
    if getattr(explained, "help", None):
        explained.help = localized(explained.help)
    return explained


def _print_usage_error(error: Any) -> None:
    """Says what is wrong with a command line as everything else is said."""
    if type(error).__name__ == "NoArgsIsHelpError":  # its help is on the screen
        return
    terminal.print_error(JapagenError(error.format_message()))
    if context := getattr(error, "ctx", None):
        terminal.err.print(context.get_usage())
        terminal.say(f"Try '{context.command_path} --help' for help.", terminal.err)


@contextmanager
def quiet_pipes() -> Iterator[None]:
    """Ends as other programs do when whoever reads the output has read enough: without a word."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as error:
        # Typer and rich make an exit of it, with the code of a bug.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_PIPE_CLOSED)


def main() -> None:
    """Runs the command line; see `exit_codes` for how it ends."""
    words = sys.argv[1:]
    take_language(words)
    sys.argv[1:] = words
    # Japanese must come out right whatever the locale says.
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    columns = logging.getLogger("japagen.data.records")
    if not columns.handlers:
        columns.addHandler(terminal.TakenColumns())
    columns.setLevel(logging.INFO)
    rich_utils.rich_format_error = _print_usage_error  # type: ignore[assignment]
    with exit_codes(), quiet_pipes():
        if user_language() == "ja":
            _prepare_help_pages()
        translate_help(typer.main.get_command(app))()
