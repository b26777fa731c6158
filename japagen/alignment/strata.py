"""Sorts labels into strata: classes, bins of a number, or one stratum for lists of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from japagen.alignment.counting import Floats, Ints
from japagen.data.dataset import Dataset
from japagen.errors import JapagenError, nearest

LabelKind = Literal["class", "number", "list"]
_BINS = 5
_KIND_NAMES = {"class": "text", "number": "numbers", "list": "lists"}


@dataclass(frozen=True)
class Strata:
    """The labels of synthetic and gold rows as small integers.

    Attributes:
        kind: "class"; "number" (regression, binned); "list" (multi-label, one stratum).
        names: Name of each stratum, sorted for classes.
        synthetic: Shape (n,): stratum of each synthetic row.
        gold: Shape (m,): stratum of each gold row.
        tags: For lists, the labels.
        synthetic_tags: For lists, shape (n, len(tags)): 1 where a synthetic row has the label.
        gold_tags: For lists, shape (m, len(tags)): the same for gold.
    """

    kind: LabelKind
    names: tuple[str, ...]
    synthetic: Ints
    gold: Ints
    tags: tuple[str, ...] = ()
    synthetic_tags: Floats = field(default_factory=lambda: np.empty((0, 0)))
    gold_tags: Floats = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def label_groups(self) -> list[int]:
        """Group of each synthetic row: one for each label, bin or set of labels.

        While each group's total weight stays, so do the label's shares or rates.
        """
        groups = self.synthetic
        if self.kind == "list":
            _, groups = np.unique(self.synthetic_tags, axis=0, return_inverse=True)
        return [int(group) for group in groups]


def stratify(synthetic: Dataset, gold: Dataset, prior: Mapping[str, float] | None = None) -> Strata:
    """Gives every labelled row its stratum.

    Numbers fall into at most five bins of equal width over gold's range (synthetic's without
    gold); a bin that gold leaves empty joins the next.

    Args:
        synthetic: Labelled rows to weight.
        gold: Labelled target rows, perhaps none.
        prior: Label shares given by the user, which may name labels that gold lacks.

    Raises:
        JapagenError: If rows lack labels, kinds differ, or synthetic has a label that neither
            gold nor the prior knows.
    """
    kind = _kind(synthetic, gold)
    if kind == "class":
        return _classes(synthetic, gold, prior)
    asked, wanted = synthetic.labels, gold.labels
    if kind == "number":
        return _binned(asked, wanted)
    return _tagged(asked, wanted, prior)


def _classes(synthetic: Dataset, gold: Dataset, prior: Mapping[str, float] | None) -> Strata:
    # Distinct labels alone become Python objects.
    coded = [
        d.table.column("label").cast(pa.string()).combine_chunks().dictionary_encode()
        for d in (synthetic, gold)
    ]
    asked, wanted = (c.dictionary.to_pylist() for c in coded)
    known = set(wanted) | set(prior or ())
    if known:
        _refuse_unknown(set(asked), known)
    names = tuple(sorted(known | set(asked)))
    codes = []
    for part, labels in zip(coded, (asked, wanted), strict=True):
        place = np.array([names.index(label) for label in labels], dtype=np.int64)
        codes.append(place[part.indices.to_numpy()])
    return Strata("class", names, codes[0], codes[1])


def _kind(synthetic: Dataset, gold: Dataset) -> LabelKind:
    kinds: dict[str, LabelKind] = {}
    for name, dataset in (("synthetic", synthetic), ("gold", gold)):
        missing = dataset.table.column("label").null_count
        if missing:
            raise JapagenError(
                f"Expected every {name} row to have a label, found {missing} without one.",
                "Pass texts without labels as the unlabelled dataset.",
            )
        if len(dataset):
            form = dataset.table.schema.field("label").type
            kinds[name] = (
                "class"
                if pa.types.is_string(form)
                else "list"
                if pa.types.is_list(form)
                else "number"
            )
    if len(set(kinds.values())) > 1:
        raise JapagenError(
            "Expected synthetic and gold labels of one kind, found "
            f"{_KIND_NAMES[kinds['synthetic']]} in synthetic and {_KIND_NAMES[kinds['gold']]} in "
            "gold.",
            "Check that both files use the same label column.",
        )
    return next(iter(kinds.values()), "class")


def _refuse_unknown(asked: set[str], known: set[str]) -> None:
    unknown = sorted(asked - known)
    if len(unknown) > 1:
        raise JapagenError(
            f"Synthetic has labels that gold never has: {', '.join(unknown)}; gold has "
            f"{', '.join(sorted(known))}.",
            "Add gold texts of these labels, give their shares with a label prior, or drop the "
            "rows.",
        )
    if unknown:
        raise JapagenError(
            f"Synthetic has the label '{unknown[0]}'{nearest(unknown[0], known)}, which gold never "
            f"has; gold has {', '.join(sorted(known))}.",
            "Add gold texts of that label, give its share with a label prior, or drop its rows.",
        )


def _binned(asked: Sequence[float], wanted: Sequence[float]) -> Strata:
    values = np.array(wanted if len(wanted) else asked, dtype=float)
    edges: Floats = np.empty(0)
    if len(values):
        edges = np.linspace(values.min(), values.max(), _BINS + 1)[1:-1]
        filled = np.bincount(np.searchsorted(edges, values, side="right"), minlength=_BINS) > 0
        # An edge stays where something lies in the bin below it, and the last bin keeps its own.
        edges = np.unique(edges[filled[:-1]])
        edges = edges[(edges > values.min()) & (edges <= values.max())]
    bounds = ["-∞", *(f"{edge:g}" for edge in edges), "∞"]
    names = tuple(f"{a} to {b}" for a, b in pairwise(bounds))
    codes = [np.searchsorted(edges, np.array(v, float), side="right") for v in (asked, wanted)]
    return Strata("number", names, codes[0].astype(np.int64), codes[1].astype(np.int64))


def _tagged(
    asked: Sequence[list[str]], wanted: Sequence[list[str]], prior: Mapping[str, float] | None
) -> Strata:
    in_asked, in_wanted = ({t for row in rows for t in row} for rows in (asked, wanted))
    known = in_wanted | set(prior or ())
    if known:
        _refuse_unknown(in_asked, known)
    tags = tuple(sorted(known | in_asked))
    return Strata(
        "list",
        ("all",),
        np.zeros(len(asked), dtype=np.int64),
        np.zeros(len(wanted), dtype=np.int64),
        tags,
        *(_indicators(rows, tags) for rows in (asked, wanted)),
    )


def _indicators(rows: Sequence[Sequence[Any]], tags: Sequence[str]) -> Floats:
    return np.array([[float(t in row) for t in tags] for row in rows]).reshape(-1, len(tags))
