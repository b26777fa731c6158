"""How a pipeline tells what it is doing, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


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
