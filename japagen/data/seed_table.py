"""A table whose rows prompts tell of, one for each text: who writes it, or what it is about.

The rows of each label are drawn apart from those of the others, so that no label is left to the
first rows of a sorted file: a classifier would learn who writes instead of what is said.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heapreplace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from japagen.data.tables import Table, column, open_table
from japagen.errors import JapagenError, nearest

_IDS = ("id", "uuid")
# Prompts say nothing of these unless they are asked to.
_ASIDE = (*_IDS, "weight")


@dataclass(frozen=True, slots=True)
class SeedRow:
    """One row.

    Attributes:
        id: What the lineage of its texts calls it: the cell of a column ``id`` or ``uuid``, or
            else where it stands, such as ``line 3``.
        values: Column to cell, as one line of text; empty where the cell is.
    """

    id: str
    values: Mapping[str, str]


@dataclass(frozen=True)
class SeedTable:
    """The rows of a table, and how they are drawn.

    Attributes:
        path: The file or directory.
        columns: What prompts may name.
        rows: In file order.
        weights: How often each row is drawn, against the others; None where all are as often.
        in_order: Whether rows are taken as they stand.
    """

    path: Path
    columns: Sequence[str]
    rows: Sequence[SeedRow] = field(repr=False)
    weights: Sequence[float] | None = field(default=None, repr=False)
    in_order: bool = False

    def draw(self, labels: Sequence[str], seed: int) -> dict[str, Iterator[SeedRow]]:
        """Maps each label to its rows, endlessly.

        In order, every label begins with the first row. Drawn, the labels begin at places as far
        apart as can be, and none sees a row again before all rows of its weight were seen as
        often: over any number of draws a row comes as often as its weight says, give or take one.

        Args:
            labels: What texts are asked for.
            seed: Of the draw.
        """
        return {
            label: map(self.rows.__getitem__, self._indices(seed, place / len(labels)))
            for place, label in enumerate(labels)
        }

    def _indices(self, seed: int, start: float) -> Iterator[int]:
        """Systematic sampling in time: a row of weight w is due every 1/w, from a random moment."""
        if self.in_order:
            yield from cycle(range(len(self.rows)))
        rng = np.random.default_rng(random.Random(f"{seed}/seed").randrange(2**32))
        phases = (rng.random(len(self.rows)) + start) % 1
        weights = self.weights or [1.0] * len(self.rows)
        due = [(phases[i] / w, i, 1 / w) for i, w in enumerate(weights) if w > 0]
        heapify(due)
        while True:
            moment, index, wait = due[0]
            yield index
            heapreplace(due, (moment + wait, index, wait))


def read_seed_table(
    path: Path,
    encoding: str | None = "utf-8",
    *,
    columns: Sequence[str] = (),
    weight: str | None = None,
    in_order: bool = False,
) -> SeedTable:
    """Reads the rows of a file in any format that `open_table` reads.

    Args:
        path: The file.
        encoding: Of a text file; detected when None.
        columns: What prompts may name; when empty all columns but the weight and the id.
        weight: The column that says how often each row is drawn.
        in_order: Whether rows are taken as they stand.

    Raises:
        JapagenError: If the file cannot be read or has no rows, a column is missing, two rows have
            one id, a row says nothing, or weights are negative, no numbers or all zero.
    """
    table = open_table(path, encoding)
    aside = {*_ASIDE, weight, ""}
    told = columns or [name for name in table.names if name not in aside]
    theirs = {name: _column(name, table) for name in told}
    key = next((name for name in _IDS if name in table.names), None)
    weighing = _column(weight, table) if weight else None
    wanted = {name for name in (*theirs.values(), key, weighing) if name}
    rows, weights, places = [], [], dict[str, str]()
    for where, cells in table.rows(wanted) if theirs else ():
        values = {name: _line(cells.get(column)) for name, column in theirs.items()}
        if not table.typed and not any(cells.values()):
            continue  # Excel ends a CSV with rows of commas alone.
        if not any(values.values()):
            raise JapagenError(
                f"Expected a value in one of {', '.join(told)} on {where} of {path}, found empty "
                "cells.",
                "Fill the row in or remove it.",
            )
        id_ = _line(cells.get(key)) if key else ""
        row = SeedRow(id_ or where, values)
        if row.id in places:
            raise JapagenError(
                f"Expected the ids of {path} to be unique, found '{row.id}' on {places[row.id]} "
                f"and on {where}.",
                "Make them unique, or rename the column.",
            )
        places[row.id] = where
        rows.append(row)
        if weighing:
            weights.append(_weight(cells.get(weighing), where, path))
    if not rows:
        raise JapagenError(
            f"Expected rows to tell of in {path}, found none.", "Give it columns and rows."
        )
    if weighing and not any(weights):
        raise JapagenError(
            f"Expected a weight above 0 on one row of {path} or more, found 0 on all {len(rows)}.",
            f"Correct the column {weighing}.",
        )
    return SeedTable(path, tuple(told), rows, weights or None, in_order)


def _column(name: str, table: Table) -> str:
    found = column(name, table.names)
    if found is None:
        raise JapagenError(
            f"Expected a column '{name}' in {table.path}, found "
            f"{', '.join(filter(None, table.names))}{nearest(name, table.names)}.",
            "Correct generation.seed, or rename the column.",
        )
    return found


def _weight(cell: Any, where: str, path: Path) -> float:
    try:
        weight = float(cell)
    except (TypeError, ValueError):
        weight = math.nan
    # A comparison with what is no number is false.
    if 0 <= weight < math.inf:
        return weight
    raise JapagenError(
        f"Expected a weight of 0 or more on {where} of {path}, found '{_line(cell)}'.",
        "Write a number; a row of weight 0 is never drawn.",
    )


def _line(cell: Any) -> str:
    """A cell as one line of text; what a number lacks in places is not made up."""
    if cell is None or cell != cell:  # nan
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, list | tuple):
        cell = "、".join(map(_line, cell))
    if isinstance(cell, dict):
        cell = json.dumps(cell, ensure_ascii=False, default=str)
    return " ".join(str(cell).split())
