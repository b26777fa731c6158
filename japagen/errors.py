"""The one error type that users see."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class JapagenError(Exception):
    """Something the user can put right: bad input, a missing extra, a full disk.

    The command line prints it without a traceback and exits with its status.

    Args:
        message: What was expected and what was found.
        hint: What to do about it; printed on a line of its own.
    """

    status = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class AwaitedError(JapagenError):
    """A run has gone as far as it can: what it needs next comes from another process."""

    status = 4


class MissingExtraError(JapagenError):
    """An optional dependency is not installed.

    Args:
        package: The import that failed.
        extra: The extra of japagen that brings it.
        purpose: What the package is needed for, as a noun phrase.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed.",
            f"Install it with: pip install 'japagen[{extra}]'",
        )


class DamagedError(JapagenError):
    """A file of a run directory cannot be read back.

    Args:
        path: The file.
        hint: What the user can do.
    """

    def __init__(self, path: object, hint: str = "") -> None:
        super().__init__(
            f"{path} is damaged: it cannot be read back.",
            hint or "If a run wrote it, run its task into the same directory: it is made again.",
        )


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns " (did you mean 'x'?)" for the closest known word, or an empty string."""
    # One wrong character of two is half of a Japanese label.
    cutoff = 0.5 if len(word) <= 3 else 0.6
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f" (did you mean '{close[0]}'?)" if close else ""
