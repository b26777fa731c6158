"""Starts the command line, with Ctrl-C handled from the first import to the last thread."""

from __future__ import annotations

import atexit
import os
import signal
import sys

_INTERRUPTED = 130


def main() -> None:
    """Runs the command line."""
    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if handled:
        # Registered first, it is called last: then Python would have a signal end the process.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    try:
        from japagen.cli.main import main as run
    except KeyboardInterrupt:
        # Nothing has been begun yet, and the modules that print may not be there.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        from japagen.i18n import localized, take_language

        take_language(sys.argv[1:])
        sys.stderr.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
        sys.stderr.write(localized("Interrupted. Nothing was begun.") + "\n")
        sys.exit(_INTERRUPTED)
    try:
        run()
    except KeyboardInterrupt:  # again, while the first was told
        sys.exit(_INTERRUPTED)
    finally:
        if handled:
            # All is said; threads may still wait for a server, for which nobody has to wait.
            signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))


if __name__ == "__main__":
    main()
