"""Kinds of label, label spaces and pseudo-labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from japagen.data.dataset import Dataset, Label
from japagen.errors import JapagenError, nearest

Kind = Literal["classification", "multi_label", "regression"]
Floats = npt.NDArray[np.float64]
# Joins the tags of a set into the name under which the set is asked for and shown.
SEPARATOR = "、"
NO_TAGS = "該当なし"
_IN_CELLS = re.compile(r"[|｜、,，;；]")
_THRESHOLD = 0.5


@dataclass(frozen=True)
class LabelSpace:
    """The labels of one task.

    Attributes:
        kind: One class per text, any number of tags, or a number.
        names: Every class; every tag; or the anchors of the scale, as written in the task.
        may_be_empty: Whether a text may have no tag at all.
    """

    kind: Kind
    names: tuple[str, ...]
    may_be_empty: bool = False

    @classmethod
    def of(cls, data: Dataset, names: Sequence[str] | None = None) -> LabelSpace:
        """Reads the kind off the labels of a dataset: text, lists or numbers.

        Args:
            data: Labelled rows.
            names: As of `LabelSpace`; what the data shows, sorted, when None.
        """
        form = data.table.schema.field("label").type
        if pa.types.is_floating(form):
            values = [v for v in data.labels if v is not None]
            seen = [anchor_name(v) for v in (min(values), max(values))] if values else []
            return cls("regression", tuple(names or seen))
        names = tuple(names) if names is not None else tuple(sorted(data.label_counts()))
        if pa.types.is_list(form):
            return cls("multi_label", names, any(not row for row in data.labels))
        return cls("classification", names)

    def check(self) -> None:
        """Refuses names that could not be told apart in files.

        Raises:
            ValueError: Saying which.
        """
        if self.kind == "multi_label":
            for name in self.names:
                if _IN_CELLS.search(name) or name == NO_TAGS:
                    raise ValueError(
                        f"labels of a multi_label task hold none of | 、 , ; and are not "
                        f"'{NO_TAGS}', found '{name}'"
                    )

    @property
    def outputs(self) -> int:
        """Number of outputs of a model for one text."""
        return 1 if self.kind == "regression" else len(self.names)

    @cached_property
    def anchors(self) -> Floats:
        """The scale's anchors as numbers, in the order of ``names``."""
        return np.array([float(name) for name in self.names])

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of the scale."""
        return float(self.anchors.min()), float(self.anchors.max())

    @property
    def spread(self) -> float:
        """Standard deviation of numbers that lie evenly on the scale: the unit of its errors."""
        low, high = self.bounds
        return (high - low) / float(np.sqrt(12)) or 1.0

    def from_logits(self, logits: Floats) -> Floats:
        """Probabilities of classes (softmax) or of tags (sigmoid), or numbers kept on the scale.

        Args:
            logits: Shape (n, outputs); what is returned has the same.
        """
        from scipy.special import expit, softmax

        if self.kind == "regression":
            return np.clip(logits, *self.bounds)
        found: Floats = softmax(logits, axis=1) if self.kind == "classification" else expit(logits)
        return found

    def name(self, label: Label) -> str:
        """The name under which a label is asked for, counted and shown.

        That of a number is the nearest anchor (the lower of two), that of a list its tags in
        the task's order.
        """
        if self.kind == "regression":
            return self.names[int(np.abs(self.anchors - float(label)).argmin())]  # type: ignore[arg-type]
        if isinstance(label, list):
            known = [name for name in self.names if name in label]
            return SEPARATOR.join(known) or NO_TAGS
        return str(label)

    def label(self, name: str) -> Label:
        """Inverse of `name`, as far as there is one: the label of a text asked for by it."""
        if self.kind == "regression":
            return float(name)
        if self.kind == "multi_label":
            return [] if name == NO_TAGS else name.split(SEPARATOR)
        return name

    def asked(self, gold: Sequence[Label] = ()) -> dict[str, float]:
        """The names to ask for, with their weights, adding up to the number of labels.

        Classes and anchors have equal weights. For tags it is the sets that gold has, as often as
        it has them, since tags do not combine at random; without gold, each tag alone.
        """
        sets = Counter(self.name(label) for label in gold) if self.kind == "multi_label" else None
        if not sets:
            return dict.fromkeys(self.names, 1.0)
        return {name: sets[name] / sets.total() * len(self.names) for name in sorted(sets)}

    def closeness(self, label: Label, name: str) -> float:
        """Suitability of a text with another label as an example of ``name``, 0 (none) to 1.

        For tags the Jaccard index of both sets, for other kinds whether they are the same.
        """
        if self.kind != "multi_label":
            return float(self.name(label) == name)
        one, other = set(self.tags(self.name(label))), set(self.tags(name))
        return len(one & other) / len(one | other) if one | other else 1.0

    def tags(self, name: str) -> list[str]:
        """The names of the labels that stand behind the name of one: itself, or its tags."""
        found = self.label(name)
        return found if isinstance(found, list) else [name]

    def read(self, label: Label | None) -> Label:
        """Takes a label as a file holds it.

        Numbers are read as the class of that name, and text as a number or as tags with a
        separator between them, as the kind wants.

        Raises:
            ValueError: If it cannot be read so, or is not one of the space; says why.
        """
        if self.kind == "regression":
            return self._read_number(label)
        names = self._split(label) if self.kind == "multi_label" else [_class(label)]
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise ValueError(
                f"the label '{unknown[0]}'{nearest(unknown[0], self.names)}; "
                f"expected one of: {', '.join(self.names)}"
            )
        if self.kind == "classification":
            return names[0]
        return [name for name in self.names if name in names]

    def _read_number(self, label: Label | None) -> float:
        try:
            value = float(label)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise ValueError(f"the label '{label}'; expected a number") from None
        low, high = self.bounds
        if not low <= value <= high:
            raise ValueError(f"the label {value:g}; expected a number from {low:g} to {high:g}")
        return value

    def _split(self, label: Label | None) -> list[str]:
        if isinstance(label, list):
            return label
        name = _class(label)
        if name in self.names:
            return [name]
        return [part.strip() for part in _IN_CELLS.split(name) if part.strip()]

    def codes(self, labels: Sequence[Label]) -> Floats:
        """Labels as numbers, shape (n, outputs): 1 at the class or the tags, or the number.

        Raises:
            JapagenError: If a label is not in the space.
        """
        if self.kind == "regression":
            return np.array(labels, dtype=np.float64).reshape(-1, 1)
        at = {name: i for i, name in enumerate(self.names)}
        rows = [label if isinstance(label, list) else [str(label)] for label in labels]
        unknown = sorted({name for row in rows for name in row if name not in at})
        if unknown:
            raise JapagenError(
                f"Expected labels among {', '.join(self.names)}, found {', '.join(unknown)}.",
                "Correct the labels or name them in the task.",
            )
        codes = np.zeros((len(rows), len(self.names)))
        for index, row in enumerate(rows):
            codes[index, [at[name] for name in row]] = 1
        return codes

    def decide(self, outputs: Floats) -> Floats:
        """Turns predicted probabilities or numbers into the `codes` of a decision.

        Args:
            outputs: Probabilities of classes or tags, or numbers, shape (n, outputs).
        """
        if self.kind == "regression":
            return np.clip(outputs, *self.bounds)
        decided = np.zeros_like(outputs)
        best = outputs.argmax(axis=1) if len(outputs) else np.zeros(0, dtype=int)
        if self.kind == "multi_label":
            decided = (outputs >= _THRESHOLD).astype(np.float64)
            none = ~decided.any(axis=1) & (not self.may_be_empty)
            decided[none, best[none]] = 1
        else:
            decided[np.arange(len(best)), best] = 1
        return decided

    def by_name(self, outputs: Floats) -> Floats:
        """Predictions by name, shape (n, names); for a number 1 at its anchor."""
        if self.kind != "regression":
            return outputs
        nearest = np.abs(outputs - self.anchors).argmin(axis=1)
        return np.asarray(np.eye(len(self.names))[nearest])

    def labels(self, codes: Floats) -> list[Label]:
        """Inverse of `codes`."""
        if self.kind == "regression":
            return [float(value) for value in codes[:, 0]]
        if self.kind == "multi_label":
            return [[self.names[i] for i in np.flatnonzero(row)] for row in codes]
        return [self.names[int(row.argmax())] for row in codes]


def anchor_name(number: object) -> str:
    """How an anchor is written; what is no number stays as it is."""
    try:
        return f"{float(str(number)):.6g}"
    except ValueError:
        return str(number)


def _class(label: object) -> str:
    """A number in Parquet or JSON is read as the class of that name."""
    return f"{label:g}" if isinstance(label, float) else str(label)


def label_indices(dataset: Dataset, labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """The index of every row's label among ``labels``.

    Raises:
        JapagenError: If a row has another label.
    """
    at = {label: index for index, label in enumerate(labels)}
    unknown = sorted({str(label) for label in dataset.labels if label not in at})
    if unknown:
        raise JapagenError(
            f"Expected labels among {', '.join(labels)}, found {', '.join(unknown)}.",
            "Correct the labels or name them in the task.",
        )
    return np.array([at[label] for label in dataset.labels], dtype=np.int64)


@dataclass(frozen=True)
class PseudoLabels:
    """Pseudo-labelled texts (Lee 2013).

    Attributes:
        texts: The texts, each with its likeliest label.
        probabilities: Of every label, in the order of the task's, shape (texts, labels).
        text_weight: Gold texts that each counts for in the loss.
    """

    texts: Dataset
    probabilities: npt.NDArray[np.float64]
    text_weight: float = 1.0

    def __len__(self) -> int:
        return len(self.texts)
