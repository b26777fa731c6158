"""Datasets that are not labelled texts: files of their rows, exports, what a run came to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

from pydantic import BaseModel

from japagen.data.dataset import Rejection
from japagen.data.export import card_beside, check_suffix
from japagen.data.files import parse_json, read_json, refuse_existing, write_text
from japagen.data.registry import Registry
from japagen.errors import DamagedError, JapagenError


class Row(Protocol):
    """A data class that says why it was rejected."""

    @property
    def rejected(self) -> Rejection | None:
        """Set when a filter rejected it."""


R = TypeVar("R")


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """Writes data classes or mappings as JSON Lines, atomically."""
    plain = (row if isinstance(row, Mapping) else asdict(row) for row in rows)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in plain))


def read_lines(path: Path, row_of: Callable[[Mapping[str, Any]], R]) -> list[R]:
    """Reads what `write_lines` wrote in a run.

    Raises:
        JapagenError: If it is not there yet.
        DamagedError: If it cannot be read.
    """
    try:
        return [row_of(parse_json(line)) for line in path.read_text("utf-8").splitlines()]
    except FileNotFoundError:
        raise _unfinished(path) from None
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(path) from error


def rejection_of(row: Mapping[str, Any]) -> Rejection | None:
    """What a row of a file says of its rejection."""
    return Rejection(**row["rejected"]) if row.get("rejected") else None


class RowSummary(BaseModel):
    """What a run came to that makes other rows than labelled texts.

    Attributes:
        japagen: The version.
        created: When the run began, ISO 8601.
        task: Its name.
        description: What the rows are.
        generator: Who wrote them.
        terms: What may be done with what it writes.
        cost: Totals over every attempt; empty where nobody was asked.
    """

    FILE: ClassVar[str]
    japagen: str
    created: str
    task: str
    description: str
    generator: str
    terms: str
    cost: dict[str, float]

    @classmethod
    def load(cls, run: Path) -> Self:
        """Reads the one of a run.

        Raises:
            JapagenError: If the run is not finished.
            DamagedError: If it cannot be read.
        """
        path = run / cls.FILE
        try:
            return cls.model_validate(read_json(path))
        except FileNotFoundError:
            raise _unfinished(path) from None
        except ValueError as error:
            raise DamagedError(path) from error


def _unfinished(path: Path) -> JapagenError:
    return JapagenError(
        f"{path.parent} has no {path.name} yet.", "Finish the run first: japagen run CONFIG"
    )


def export_rows(
    forms: Registry,
    form: str,
    path: Path,
    rows: Sequence[Row],
    *more: Any,
    card: str,
    rejected: bool,
    overwrite: bool,
) -> list[Path]:
    """Writes rows with their card.

    Args:
        forms: The formats that there are.
        form: The name of one.
        path: A file with its suffix, or a directory where it has none.
        rows: Rejected ones included.
        *more: What else the format's function is given.
        card: Markdown; ``README.md`` in the directory or ``NAME.card.md`` beside the file.
        rejected: Whether to write rejected rows too; only ``jsonl`` says why.
        overwrite: Replace what is there.

    Returns:
        What was written, the data first.

    Raises:
        JapagenError: If the form is unknown or does not fit the path, there is nothing to
            write, or something is there already.
    """
    found = forms.find(form)
    check_suffix(found, path)
    if rejected and form != "jsonl":
        raise JapagenError(
            f"Expected --rejected with the format jsonl, found {form}.",
            "Only there the reason stands beside what was rejected.",
        )
    chosen = [row for row in rows if rejected or row.rejected is None]
    if not chosen:
        raise JapagenError(
            "Expected rows to export, found none that the filters kept.",
            "Loosen the filters in the task file, or include rejected rows.",
        )
    refuse_existing(path, overwrite)
    beside = card_beside(path, card, overwrite) if found.suffix else path / "README.md"
    found.load()(path, chosen, *more)
    write_text(beside, card)
    return [path, beside]
