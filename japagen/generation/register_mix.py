"""The register distribution to ask for, for each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from japagen.config.task import Task
from japagen.data.dataset import Dataset
from japagen.data.labels import LabelSpace
from japagen.japanese.registers import OTHER, PRESETS, Register

Shares = dict[str, float]
_NAMES = (*PRESETS, OTHER)
_SMOOTHING = 1.0
_PERMUTATIONS = 999
_SIGNIFICANCE = 0.05


def register_shares(
    task: Task, gold: Dataset | None, unlabelled: Dataset | None = None, *, shown: bool = True
) -> dict[str, Shares]:
    """Computes the register distribution to ask for, for every label.

    ``from_gold`` counts the registers seen in gold and unlabelled text, with one added to each
    preset: a register that a few texts happen not to show is still asked for now and then.
    Texts of no preset (styles mixed, or no predicate) are asked for as often as they occur,
    "as the examples shown". Where gold's registers depend on its labels (a permutation test
    of the G statistic, p < 0.05), each label's shares are its own counts on top of the common
    shares, worth as many texts as there are presets; elsewhere every label has the common
    shares. Without any text, polite is asked for throughout.

    Args:
        task: The task.
        gold: Training gold with ``register_seen`` filled in.
        unlabelled: Unlabelled text with ``register_seen`` filled in.
        shown: Prompts show gold, so that "as the examples shown" can be asked for.

    Returns:
        Name of what is asked for (see `LabelSpace.asked`) to register name to share; the shares
        of each add up to 1.
    """
    space = task.label_space(gold)
    labels = list(space.asked(gold.labels if gold is not None else ()))
    if task.registers != "from_gold":
        wanted = {name: share for name, share in task.registers.items() if share > 0}
        return {label: dict(wanted) for label in labels}
    names = _NAMES if shown else tuple(PRESETS)
    table = _table(gold, space, labels, names)
    common = _common_shares(table.sum(axis=0) + _seen(unlabelled, names), names)
    if not common:
        return {label: {"polite": 1.0} for label in labels}
    if not depends_on_label(table, task.seed):
        return {label: dict(common) for label in labels}
    prior = np.array([common.get(name, 0.0) for name in names])
    weight = _SMOOTHING * len(PRESETS)
    own = (table + weight * prior) / (table.sum(axis=1, keepdims=True) + weight)
    return {
        label: {name: float(s) for name, s in zip(names, row, strict=True) if s > 0}
        for label, row in zip(labels, own, strict=True)
    }


def depends_on_label(table: npt.NDArray[np.float64], seed: int = 0) -> bool:
    """Whether the rows of a count table differ significantly.

    A permutation test: registers are shuffled over labels, and the G statistic (twice the
    sample size times the mutual information) of the table is compared with theirs. It holds for
    the small counts that gold has, where the chi-squared distribution does not.

    Args:
        table: Counts, shape (labels, registers).
        seed: Of the permutations.
    """
    counts = table.astype(np.int64)
    rows = np.repeat(np.arange(len(counts)), counts.sum(axis=1))
    columns = np.concatenate([np.repeat(np.arange(counts.shape[1]), row) for row in counts])
    if len(set(rows.tolist())) < 2 or len(set(columns.tolist())) < 2:
        return False
    rng = np.random.default_rng(seed)
    observed = _information(rows, columns, counts.shape)
    dealt = [
        _information(rows, rng.permutation(columns), counts.shape) for _ in range(_PERMUTATIONS)
    ]
    above = sum(value >= observed - 1e-12 for value in dealt)
    return (above + 1) / (_PERMUTATIONS + 1) < _SIGNIFICANCE


def _information(
    rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], shape: tuple[int, ...]
) -> float:
    """Σ n log n over the cells: mutual information but for terms that permuting leaves."""
    joint = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).astype(float)
    positive = joint[joint > 0]
    return float((positive * np.log(positive)).sum())


def _table(
    gold: Dataset | None, space: LabelSpace, labels: Sequence[str], names: Sequence[str]
) -> npt.NDArray[np.float64]:
    table = np.zeros((len(labels), len(names)))
    if gold is not None:
        for label, row in zip(gold.labels, gold.column("register_seen"), strict=True):
            name = Register.from_dict(row).name if row else OTHER
            asked = space.name(label)
            if name in names and asked in labels:
                table[labels.index(asked), names.index(name)] += 1
    return table


def _seen(data: Dataset | None, names: Sequence[str]) -> npt.NDArray[np.float64]:
    counts = dict.fromkeys(names, 0.0)
    for row in data.column("register_seen") if data is not None else ():
        name = Register.from_dict(row).name if row else OTHER
        if name in counts:
            counts[name] += 1
    return np.array(list(counts.values()))


def _common_shares(counts: npt.NDArray[np.float64], names: Sequence[str]) -> Mapping[str, float]:
    if not counts.sum():
        return {}
    smoothed = counts + [_SMOOTHING if name in PRESETS else 0.0 for name in names]
    shares = smoothed / smoothed.sum()
    return {name: float(s) for name, s in zip(names, shares, strict=True) if s > 0}
