"""Combinations of attributes, drawn so that every value and every pair of values is as frequent.

Attributed prompts (AttrPrompt, Yu et al. 2023, arXiv:2306.15895) draw each attribute by chance.
Here each combination is the one whose values, and pairs of values, came least often so far: the
entropy of every attribute, and of every two, is then as high as it can be for any number of
requests, not only in the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations as couples
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_SEPARATOR = "："
# A larger grid is searched in a part of it, drawn anew for every combination.
_CANDIDATES = 1024

Combination: TypeAlias = Sequence[tuple[str, str]]


def combinations(grid: Mapping[str, Sequence[str]], seed: int) -> Iterator[Combination]:
    """Combinations of a grid, without end.

    Args:
        grid: Attribute to its values, two or more attributes or values.
        seed: Of the order among combinations that are equally good.

    Yields:
        One value of each attribute, in the order of the grid.
    """
    names, sizes = list(grid), [len(values) for values in grid.values()]
    if not names:
        return
    rng = np.random.default_rng(seed)
    places = list(couples(range(len(names)), 2))
    singles = [np.zeros(size) for size in sizes]
    doubles = [np.zeros((sizes[i], sizes[j])) for i, j in places]
    whole = prod(sizes) <= _CANDIDATES
    drawn = _every(sizes) if whole else None
    used: dict[tuple[int, ...], int] = {}
    while True:
        rows = rng.permutation(drawn) if drawn is not None else _some(sizes, rng)
        # Each count over what is expected of it, so that a large attribute weighs no less.
        cost = sum(
            (sizes[i] * counts[rows[:, i]] for i, counts in enumerate(singles)),
            start=np.zeros(len(rows)),
        )
        for (i, j), counts in zip(places, doubles, strict=True):
            cost += counts.size * counts[rows[:, i], rows[:, j]]
        best = [tuple(map(int, row)) for row in rows[np.isclose(cost, cost.min())]]
        chosen = min(best, key=lambda row: used.get(row, 0))
        used[chosen] = used.get(chosen, 0) + 1
        for i, value in enumerate(chosen):
            singles[i][value] += 1
        for (i, j), counts in zip(places, doubles, strict=True):
            counts[chosen[i], chosen[j]] += 1
        yield tuple((name, grid[name][value]) for name, value in zip(names, chosen, strict=True))


def _every(sizes: Sequence[int]) -> npt.NDArray[np.int64]:
    """All combinations, shape (product of the sizes, attributes)."""
    grids = np.meshgrid(*(np.arange(size) for size in sizes), indexing="ij")
    return np.stack([g.ravel() for g in grids], axis=1)


def _some(sizes: Sequence[int], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.stack([rng.integers(size, size=_CANDIDATES) for size in sizes], axis=1)


def as_item(combination: Combination) -> str:
    """A combination as one thing to name: a line for each attribute."""
    return "\n".join(f"{name}{_SEPARATOR}{value}" for name, value in combination)


def from_item(item: str) -> Combination:
    """Inverse of `as_item`."""
    parted = (line.partition(_SEPARATOR) for line in item.split("\n"))
    return tuple((name, value) for name, _, value in parted)
