"""Which examples people look at, so that the few they read speak for all."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from japagen.examples import Dataset, Label

Doubt = Literal["doubtful", "rejected", "middling", "sure"]
# The order in which people see them: where a look changes most comes first.
ORDER: tuple[Doubt, ...] = ("doubtful", "rejected", "middling", "sure")
# Share of the sample; the doubtful get more than their third, since they vary most.
_SHARES: Mapping[Doubt, float] = {"doubtful": 0.4, "rejected": 0.15, "middling": 0.25, "sure": 0.2}
# A request without an answer and an empty text have nothing to read.
_NOTHING_TO_READ = ("failed", "first_text")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one example stands in the order of review.

    Attributes:
        example_id: The example.
        label: Its label when the order was drawn.
        doubt: Rejected by curation, or the third of its label by trust in the label.
        position: Its place in the seeded order of its label and doubt, from 0.
    """

    example_id: str
    label: str
    doubt: Doubt
    position: int

    @property
    def stratum(self) -> tuple[str, Doubt]:
        """Label and doubt: within it, any first few are a random sample."""
        return self.label, self.doubt


def draw_order(
    dataset: Dataset, seed: int = 0, name_of: Callable[[Label], str] = str
) -> list[Place]:
    """Puts every readable example into its stratum, in random order within it.

    Strata are the label, crossed with three equal parts of its kept examples by `weight_label`
    and its rejected ones. The order depends on the examples' ids and the seed alone.

    Args:
        dataset: A run's examples, rejected ones included.
        seed: Of the order within strata.
        name_of: What a label is called; see `LabelSpace.name`.
    """
    groups: dict[tuple[str, Doubt], list[str]] = defaultdict(list)
    for label, rows in _by_label(dataset, name_of).items():
        kept = [row for row in rows if not row[2]]
        third = np.array_split(np.arange(len(kept)), 3)
        for doubt, part in zip(("doubtful", "middling", "sure"), third, strict=True):
            groups[label, doubt] = [kept[i][1] for i in part]  # type: ignore[index]
        groups[label, "rejected"] = [row[1] for row in rows if row[2]]
    places = []
    for (label, doubt), ids in groups.items():
        shuffled = sorted(ids)
        random.Random(f"{seed}/{label}/{doubt}").shuffle(shuffled)
        places += [Place(name, label, doubt, at) for at, name in enumerate(shuffled)]
    return places


def _by_label(
    dataset: Dataset, name_of: Callable[[Label], str]
) -> dict[str, list[tuple[float, str, bool]]]:
    """Label to (trust, id, rejected), the least trusted first."""
    rows: dict[str, list[tuple[float, str, bool]]] = defaultdict(list)
    columns = (dataset.labels, dataset.column("weight_label"), dataset.column("id"))
    for label, trust, name, rejected, text in zip(
        *columns, dataset.column("rejected"), dataset.texts, strict=True
    ):
        if text.strip() and not (rejected and rejected["filter"] in _NOTHING_TO_READ):
            rows[name_of(label)].append((trust, name, rejected is not None))
    return {label: sorted(found) for label, found in sorted(rows.items())}


def choose(places: Sequence[Place], number: int) -> list[Place]:
    """Picks the sample to show, in the order in which to show it.

    A larger number keeps every example of a smaller one. Labels take turns.

    Args:
        places: Every example's place.
        number: How many to show at most.
    """
    strata: dict[tuple[str, Doubt], list[Place]] = defaultdict(list)
    for place in sorted(places, key=lambda p: p.position):
        strata[place.stratum].append(place)
    queue: list[tuple[float, int, Place]] = []
    labels = sorted({label for label, _ in strata})
    for (label, doubt), members in strata.items():
        # The n-th of a stratum comes when the stratum's share of the sample reaches it.
        share = _SHARES[doubt] / len(labels)
        queue += [((p.position + 0.5) / share, labels.index(label), p) for p in members]
    queue.sort(key=lambda entry: entry[:2])
    chosen = [place for _, _, place in queue[:number]]
    return sorted(chosen, key=lambda p: (ORDER.index(p.doubt), p.position, labels.index(p.label)))
