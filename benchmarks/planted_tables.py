"""Prints what benchmarks/planted_shift.py measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from planted_scores import paired_gain

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Runs = dict[str, dict[str, dict[str, float]]]


def summary(runs: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and standard error of every figure; shares undone are ratios of means."""
    values = {key: np.array([run.get(key, np.nan) for run in runs]) for key in runs[0]}
    out = {key: _mean(v) for key, v in values.items() if np.isfinite(v).any()}
    for key in ("label", "length", "register"):
        out[f"{key} undone"] = undone(values[f"{key} before"], values[f"{key} after"])
    excess = values["token before"] - values["token floor"]
    for name, floor in (("token undone", "token floor"), ("at ESS", "token floor at ESS")):
        out[name] = undone(excess, values["token after"] - values[floor])
    return out


def _mean(values: Floats) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(error)


def undone(before: Floats, after: Floats) -> tuple[float, float]:
    def share(keep: Bools) -> float:
        return 1 - float(after[keep].sum() / before[keep].sum())

    n = len(before)
    parts = np.array([share(np.arange(n) != i) for i in range(n)])
    error = float(np.sqrt((n - 1) / n * ((parts - parts.mean()) ** 2).sum()))
    return share(np.ones(n, dtype=bool)), error


COLUMNS = {
    "label TV": "label undone",
    "token JS": "token undone",
    "at ESS": "at ESS",
    "length": "length undone",
    "register": "register undone",
    "ESS": "ESS",
    "least": "least ESS of a label",
    "λ": "tolerance",
    "s": "seconds",
}


def show(runs: Sequence[Runs], setting: str) -> None:
    """Prints one table: a row a method, a column a figure."""
    before = summary([run[setting]["entropy"] for run in runs])
    shown = "; ".join(
        f"{k} {before[f'{k} before'][0]:.3f}" for k in ("label", "length", "register")
    )
    excess = before["token before"][0] - before["token floor"][0]
    print(f"\n  {setting}\n  planted: {shown}; token JS excess {excess:.4f}")
    print(f"    {'':24s}" + "".join(f"{name:>14s}" for name in COLUMNS))
    for method in runs[0][setting]:
        found = summary([run[setting][method] for run in runs])
        cells = [found.get(key) for key in COLUMNS.values()]
        line = [f"{c[0]:7.2f} ± {c[1]:.2f}" if c else "-" for c in cells]
        print(f"    {method:24s}" + "".join(f"{cell:>14s}" for cell in line))


def show_scores(runs: Sequence[Runs], setting: str, key: str) -> None:
    """Prints macro-F1 and its paired gain over no weights, a row a method."""
    found = {
        method: np.array([run[setting][method][key] for run in runs])
        for method, figures in runs[0][setting].items()
        if key in figures
    }
    if not found:
        return
    alone = [run[setting]["none"].get(f"{key} of gold alone", np.nan) for run in runs]
    shown = f"; gold alone {np.mean(alone):.3f}" if np.isfinite(alone).all() else ""
    print(f"\n  {setting}: {key} on dev{shown}")
    for method, scores in found.items():
        mean, low, high, lower = paired_gain(scores, found["none"])
        gain = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}], below in {lower} of {len(scores)}"
        print(f"    {method:24s}{scores.mean():.3f}   {'' if method == 'none' else gain}")
