"""Starts the command line, with Ctrl-C handled from the first import on."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line."""
    try:
        from japagen.cli.main import main as run
    except KeyboardInterrupt:
        # Nothing has been begun yet, and the modules that print may not be there.
        sys.stderr.write("Interrupted. Nothing was begun.\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
