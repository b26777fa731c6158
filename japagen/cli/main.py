"""From what went wrong to one message and an exit code: 2 the user's, 130 interrupted."""

from __future__ import annotations

import _thread
import errno
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from japagen.cli import terminal
from japagen.errors import JapagenError

# What typer exits with after Ctrl-C.
_INTERRUPTED = 130
_MOMENT = 0.01  # seconds
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ACCESS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
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
