"""How a pipeline tells what it is doing, without knowing who listens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
logger = logging.getLogger("japagen")


class Listener(Protocol):
    """Told of every stage and every longer loop."""

    def stage(self, name: str, news: str, detail: str) -> None:
        """A stage was ``kept``, does ``start`` (detail: why again) or is ``done`` (seconds)."""

    def note(self, message: str) -> None:
        """Something the user should know."""

    def track(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """Passes ``items`` through and shows how many of ``total`` are done."""


class Silent:
    """Says nothing."""

    def stage(self, name: str, news: str, detail: str) -> None:
        """Ignores it."""

    def note(self, message: str) -> None:
        """Ignores it."""

    def track(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """Passes the items through."""
        yield from items


class Logged:
    """Writes to the log, and shows bars in notebooks and terminals.

    Steps are logged as ``INFO``, what the user should know as ``WARNING``.

    Args:
        bars: Whether to show bars.
    """

    def __init__(self, *, bars: bool = True) -> None:
        self._bars = bars
        self._watched: dict[str, Callable[[], Any]] = {}

    def watch(self, what: str, tell: Callable[[], Any]) -> None:
        """Shows beside the bar of ``what`` how many requests are in flight."""
        self._watched[what] = tell

    def stage(self, name: str, news: str, detail: str) -> None:
        """Logs a step that starts, ends or is kept."""
        logger.info("%s: %s%s", name, news, f" ({detail})" if detail else "")

    def note(self, message: str) -> None:
        """Logs a warning."""
        logger.warning(message)

    def track(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """Passes the items through a bar."""
        if not self._bars:
            yield from items
            return
        from tqdm.auto import tqdm

        with tqdm(items, total=total, desc=what, leave=False) as bar:
            for item in bar:
                if tell := self._watched.get(what):
                    bar.set_postfix(in_flight=tell().in_flight, refresh=False)
                yield item
