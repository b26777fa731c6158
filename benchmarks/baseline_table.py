"""Prints runs of japagen beside what a reader would try first, as one Markdown table.

Each run is a column: its baselines, japagen on gold only, and japagen with what it learnt from
besides, on the leading metric with its 95% interval. Nothing is measured here; what a run left
out reads "—".

Run with: python benchmarks/baseline_table.py runs/quickstart runs/other
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from japagen.data.summary import RunSummary
from japagen.reporting.sections_training import lines, own_models
from japagen.reporting.text import LANGUAGES, Words, table


def baseline_table(runs: Sequence[RunSummary], words: Words) -> str:
    """A row a classifier, a column a run.

    Args:
        runs: What each measured; those without scores are left out.
        words: The language of the row heads.
    """
    scored = [(run, run.scores.metric) for run in runs if run.scores]
    columns = [
        {
            title: words.interval(model.measured(metric))
            for title, model in (*lines(run, words), *own_models(run, words))
        }
        for run, metric in scored
    ]
    titles = list(dict.fromkeys(title for column in columns for title in column))
    heads = [
        words("baselines.classifier"),
        *(f"{run.task.name} ({words(metric)})" for run, metric in scored),
    ]
    return table(heads, [[t, *(column.get(t, "—") for column in columns)] for t in titles])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--lang", choices=LANGUAGES, default="en")
    given = parser.parse_args()
    runs = [RunSummary.load(path / "metrics.json") for path in given.runs]
    print(baseline_table(runs, Words(given.lang)))


if __name__ == "__main__":
    main()
