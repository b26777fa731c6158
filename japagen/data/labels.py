"""Kinds of label, label spaces and pseudo-labels."""

from __future__ import annotations

import ast
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from japagen.data.tables import folded
from japagen.errors import JapagenError, nearest

if TYPE_CHECKING:
    from japagen.data.dataset import Dataset, Label

Kind = Literal["classification", "multi_label", "regression"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
# Joins the tags of a set into the name under which the set is asked for and shown.
SEPARATOR = "、"
NO_TAGS = "該当なし"
_IN_CELLS = re.compile(r"[|｜、,，;；\n]")
# As Python writes lists, and as numpy does, with nothing between the texts.
_NO_COMMA = re.compile(r"(?<=['\"])\s+(?=['\"])")
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
        names = self._split(label)
        if self.kind == "classification" and len(names) != 1:
            raise ValueError(f"{len(names)} labels in place of one: {', '.join(names) or 'none'}")
        found = [self.find(name) for name in names]
        unknown = [name for name, known in zip(names, found, strict=True) if known is None]
        if unknown:
            several = "" if self.kind == "classification" else ", with 、 , ; or | between several"
            raise ValueError(
                f"the label '{unknown[0]}'{nearest(unknown[0], self.names)}; "
                f"expected one of: {', '.join(self.names)}{several}"
            )
        if self.kind == "classification":
            return str(found[0])
        return [name for name in self.names if name in found]

    def find(self, name: str) -> str | None:
        """The name of the space that a label means, None where it means none.

        Characters may be composed otherwise or of another width, and a number be written
        otherwise (``1.0`` or ``01`` for ``1``), where that leaves one name alone.
        """
        if name in self.names:
            return name
        keys: tuple[Callable[[str], object], ...] = (folded, _number)
        for key, known in zip(keys, self._known, strict=True):
            if key(name) is not None and known.get(key(name)):
                return known[key(name)]
        return None

    @cached_property
    def _known(self) -> tuple[Mapping[object, str | None], ...]:
        """Names by each of the forms that are compared; None where two share it."""
        found: tuple[dict[object, str | None], ...] = ({}, {})
        for name in self.names:
            for known, form in zip(found, (folded(name), _number(name)), strict=True):
                known[form] = None if form in known else name
        return found

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
        """The names that a label as a file holds it consists of."""
        if isinstance(label, list):
            return [name for part in label for name in self._split(part)]
        name = _class(label)
        if self.kind == "classification" or self.find(name):
            return [name]
        return [] if folded(name) == NO_TAGS else tags_in(name)

    def codes(self, labels: Sequence[Label]) -> Floats:
        """Labels as numbers, shape (n, outputs): 1 at the class or the tags, or the number.

        Raises:
            JapagenError: If a label is not in the space.
        """
        if self.kind == "regression":
            return np.array(labels, dtype=np.float64).reshape(-1, 1)
        at = {name: i for i, name in enumerate(self.names)}
        rows = [label if isinstance(label, list) else [_class(label)] for label in labels]
        rows = [[self.find(name) or name for name in row] for row in rows]
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
    whole = isinstance(label, float) and label.is_integer()
    return str(int(label)) if whole else str(label)  # type: ignore[call-overload]


def _number(name: str) -> Decimal | None:
    try:
        found = Decimal(name)
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def tags_in(cell: str) -> list[str]:
    """The tags of a cell with separators between them."""
    return [part.strip() for part in _IN_CELLS.split(cell) if part.strip()]


Parsed = str | int | float | list[str] | None
"""A label as one cell says it; what it is, its whole column decides."""


def parse_label(value: Any, classes: Sequence[str] | None = None) -> Parsed:
    """Reads what a file says of one label.

    Args:
        value: A text, a number, a list of them, or what Label Studio writes for several.
        classes: The names of class ids, where the file says them; -1 is none of them.

    Returns:
        None where there is no label: nothing, white space, or what is not a number (NaN).

    Raises:
        ValueError: If it is anything else.
    """
    if value is None:
        return None
    if isinstance(value, dict) and set(value) == {"choices"}:
        value = value["choices"]
    if isinstance(value, list | tuple):
        parts = [parse_label(part, classes) for part in value]
        if any(part is None or isinstance(part, list) for part in parts):
            raise ValueError(f"a list of labels holds only texts, not {value!r}")
        return list(dict.fromkeys(map(_class, parts)))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value).strip() or None
    if isinstance(value, Decimal) and value.is_finite():
        value = int(value) if value == int(value) else float(value)
    if isinstance(value, int) and classes is not None:
        if not -1 <= value < len(classes):
            raise ValueError(f"a class id from 0 to {len(classes) - 1} is expected, not {value}")
        return unicodedata.normalize("NFC", classes[value]) if value >= 0 else None
    if not isinstance(value, int | float) or math.isinf(value):
        raise ValueError(f"a label is text, a number or a list of texts, not {value!r}")
    return None if math.isnan(value) else value


def unify_labels(
    column: Sequence[Parsed],
    *,
    classes: Collection[str] = (),
    is_own: bool = False,
    typed: bool = True,
) -> list[Label | None]:
    """Makes labels of one kind of a whole column.

    They are lists where any is a list, also as text that JSON or Python wrote; a text is then
    the tags in it. Otherwise they are classes where any is a text or all are whole numbers:
    class ids are written so, also as 1.0 where some are missing. What is left are numbers.

    Args:
        column: What `parse_label` found.
        classes: The names of classes, where labels are known to be classes: one that looks like
            a list is none.
        is_own: Whether japagen wrote it, which writes classes as texts and numbers as numbers.
        typed: Whether the file tells the two apart; CSV does not.
    """
    texts = {label for label in column if isinstance(label, str)}
    lists = {text: found for text in texts if (found := _listed(text)) is not None}
    # A class called [重要] or [1] makes all that stand in brackets classes.
    if (
        not lists.keys().isdisjoint(classes)
        or any(text.startswith("[") and text not in lists for text in texts)
        or (lists and all(re.fullmatch(r"\[\d+\]", text) for text in lists))
    ):
        lists = {}
    if is_own and not typed and texts and all(map(_is_float, texts)):
        return [float(label) if isinstance(label, str) else None for label in column]
    known = [lists.get(label, label) if isinstance(label, str) else label for label in column]
    if any(isinstance(label, list) for label in known):
        return [None if label is None else _tags(label) for label in known]
    numbers = [label for label in known if isinstance(label, int | float)]
    whole = all(float(number).is_integer() for number in numbers if isinstance(number, float))
    if texts or (whole and not is_own):
        return [None if label is None else _class(label) for label in known]
    return [None if label is None else float(label) for label in known]  # type: ignore[arg-type]


def _tags(label: str | int | float | list[str]) -> list[str]:
    if isinstance(label, list):
        return label
    name = _class(label)
    return [] if folded(name) == NO_TAGS else tags_in(name)


def _listed(text: str) -> list[str] | None:
    """The list that a text is in JSON or in Python; None if it is none."""
    if not text.startswith(("[", '{"choices"')):
        return None
    for read, written in ((json.loads, text), (ast.literal_eval, _NO_COMMA.sub(", ", text))):
        try:
            found = parse_label(read(written))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return found
    return None


def _is_float(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and repr(float(text)) == text
    except ValueError:
        return False


def label_indices(dataset: Dataset, labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """The index of every row's label among ``labels``.

    Raises:
        JapagenError: If a row has another label.
    """
    codes = LabelSpace("classification", tuple(labels)).codes(dataset.labels)
    return np.asarray(codes.argmax(axis=1), dtype=np.int64)


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
