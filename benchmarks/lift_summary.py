"""Turns the scores of benchmarks/lift.py into shares of the gap, a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Scores = Mapping[tuple[str, int, int, str], float]
"""Leading metric by task, shots, draw and arm; the ceiling's at draw -1 and 0 shots."""
Estimate = tuple[float, float]
"""A mean and its standard error; the error is nan where there is one draw."""
Paired = tuple[Floats, Floats, float]
"""An arm's scores, those of gold only for the same draws, and that of full gold."""
BASE, CEILING = "gold only", "full gold"
LEAST_GAP = 0.03
"""Below this there is no gap to close, and its share would be noise."""


def mean(values: Floats) -> Estimate:
    """Mean and standard error of the mean."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(error)


def share_of_gap(arm: Floats, base: Floats, ceiling: float) -> Estimate | None:
    """How much of the way from gold only to full gold an arm goes, paired by draw.

    The ratio of the mean gain to the mean gap, and its standard error by the delta method
    (Cochran 1977, Sampling Techniques, 6.4): that of the residuals of the gains over the share
    of each draw's own gap.

    Args:
        arm: Scores of the arm, one per draw.
        base: Scores of gold only for the same draws.
        ceiling: Score of full gold.

    Returns:
        The share (1 is full gold) and its error; None where the gap is below `LEAST_GAP`.
    """
    gain, gap = arm - base, ceiling - base
    if gap.mean() < LEAST_GAP:
        return None
    share = float(gain.mean() / gap.mean())
    _, error = mean(gain - share * gap)
    return share, error / float(gap.mean())


def over_tasks(found: Sequence[Paired | None]) -> Estimate | None:
    """The share of the gaps of all tasks together: the sum of mean gains over that of mean gaps.

    A mean of the tasks' own shares would be ruled by the task with the smallest gap. Draws of
    different tasks are independent.

    Args:
        found: Of each task.

    Returns:
        The share and its error; None unless every task was measured and there is a gap.
    """
    parts = [part for part in found if part is not None]
    if not parts or len(parts) < len(found):
        return None
    gap = sum(float((ceiling - base).mean()) for _, base, ceiling in parts)
    if gap < LEAST_GAP:
        return None
    share = sum(float((arm - base).mean()) for arm, base, _ in parts) / gap
    errors = [mean(arm - base - share * (ceiling - base))[1] for arm, base, ceiling in parts]
    return share, float(np.sqrt(np.square(errors).sum())) / gap


def of_arm(scores: Scores, task: str, shots: int, arm: str) -> Floats:
    """An arm's scores for the draws that gold only has too, in order; may be empty."""
    if arm in (CEILING, "prompting, zero-shot"):
        once = scores.get((task, 0, -1, arm))
        return np.array([] if once is None else [once])
    draws = [d for t, s, d, a in sorted(scores) if (t, s, a) == (task, shots, arm)]
    both = [d for d in draws if (task, shots, d, BASE) in scores]
    return np.array([scores[task, shots, d, arm] for d in both])


def paired(scores: Scores, task: str, shots: int, arm: str) -> Paired | None:
    """An arm's scores, those of gold only for the same draws, and the ceiling; None if absent."""
    values, ceiling = of_arm(scores, task, shots, arm), of_arm(scores, task, shots, CEILING)
    draws = [d for t, s, d, a in sorted(scores) if (t, s, a) == (task, shots, arm)]
    base = np.array([scores[k] for d in draws if (k := (task, shots, d, BASE)) in scores])
    if arm == "prompting, zero-shot":
        base = of_arm(scores, task, shots, BASE)
        values = np.repeat(values, len(base)) if len(values) else values
    if not len(values) or not len(base) or not len(ceiling) or arm == CEILING:
        return None
    return values, base, float(ceiling[0])


def gap_of(scores: Scores, task: str, shots: int, arm: str) -> Estimate | None:
    """`share_of_gap` of an arm, or None where something is missing."""
    found = paired(scores, task, shots, arm)
    return found and share_of_gap(*found)


def table(scores: Scores, arms: Sequence[str], columns: Sequence[tuple[str, int]]) -> str:
    """A markdown table: arms by tasks and shots, scores and shares of the gap.

    Arms and columns that nothing was measured of are left out.

    Args:
        scores: What was measured.
        arms: Rows.
        columns: Task and shots.
    """
    columns = [place for place in columns if len(of_arm(scores, *place, BASE))]
    several = sorted({shots for _, shots in columns})
    tasks = list(dict.fromkeys(task for task, _ in columns))
    heads = [f"{task} {shots}" for task, shots in columns]
    heads += [f"all, {shots}" for shots in several] if len(tasks) > 1 else []
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for arm in arms:
        cells = [_cell(scores, task, shots, arm) for task, shots in columns]
        if set(cells) <= {"–"}:
            continue
        if len(tasks) > 1:
            cells += [_cell_of_all(scores, tasks, shots, arm) for shots in several]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    counts = [str(len(of_arm(scores, task, shots, BASE))) for task, shots in columns]
    blanks = [""] * (len(heads) - len(columns))
    lines.append(f"| draws of gold | {' | '.join([*counts, *blanks])} |")
    return "\n".join(lines)


def _cell(scores: Scores, task: str, shots: int, arm: str) -> str:
    values = of_arm(scores, task, shots, arm)
    if not len(values):
        return "–"
    value, error = mean(values)
    said = f"{value:.3f}" + (f" ± {error:.3f}" if np.isfinite(error) else "")
    if arm in (BASE, CEILING):
        return said
    draws = len(of_arm(scores, task, shots, BASE))
    partial = f" ({len(values)} draws)" if 1 < len(values) < draws else ""
    share = gap_of(scores, task, shots, arm)
    return f"{said}; {_percent(share)}{partial}" if share else said + partial


def _cell_of_all(scores: Scores, tasks: Sequence[str], shots: int, arm: str) -> str:
    if arm in (BASE, CEILING):
        return "0%" if arm == BASE else "100%"
    found = over_tasks([paired(scores, task, shots, arm) for task in tasks])
    return _percent(found) if found else "–"


def _percent(share: Estimate) -> str:
    value, error = share
    return f"{100 * value:.0f}%" + (f" ± {100 * error:.0f}" if np.isfinite(error) else "")


def draw_figure(
    scores: Scores, arms: Sequence[str], tasks: Sequence[str], shots: Sequence[int], path: Path
) -> None:
    """Draws the share of all tasks' gaps that each arm closes, with its standard error."""
    from matplotlib.figure import Figure

    shown = [
        arm
        for arm in arms
        if arm not in (BASE, CEILING)
        and any(over_tasks([paired(scores, t, count, arm) for t in tasks]) for count in shots)
    ]
    figure = Figure(figsize=(8, 0.42 * len(shown) + 1.2), layout="constrained")
    axes = figure.subplots()
    named: set[int] = set()
    for at, count in enumerate(shots):
        for row, arm in enumerate(shown):
            found = over_tasks([paired(scores, task, count, arm) for task in tasks])
            if found is None:
                continue
            value, error = 100 * found[0], 100 * found[1]
            axes.errorbar(
                value,
                row + 0.18 * (at - (len(shots) - 1) / 2),
                xerr=error if np.isfinite(error) else None,
                fmt="os^D"[at],
                color=f"C{at}",
                capsize=3,
                label=None if count in named else f"{count} gold a label",
            )
            named.add(count)
    axes.set_yticks(range(len(shown)), shown)
    axes.invert_yaxis()
    axes.axvline(0, color="grey", linewidth=1)
    axes.set_xlabel("gap from gold only to full gold closed, %")
    axes.set_title(", ".join(tasks), fontsize="medium")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(shots))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
