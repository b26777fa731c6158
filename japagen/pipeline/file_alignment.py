"""Weights one file of examples against others, without a task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from japagen.alignment.weights import Alignment, align_datasets
from japagen.data.dataset import Dataset
from japagen.data.formats import check_new, read_examples, write_examples

# Texts whose register is found unasked: at some 9,500 a second of one core it is what would take
# longest with a million of them.
MOST_UNASKED = 50_000
PER_SECOND = 9_500


def align_files(
    synthetic: Path,
    gold: Path,
    output: Path,
    *,
    unlabelled: Path | None = None,
    number: int | None = None,
    overwrite: bool = False,
    method: str = "entropy",
    encoder: str | None = None,
    registers: bool | None = None,
    note: Callable[[str], None] = lambda message: None,
    **settings: Any,
) -> Alignment:
    """Reads, weights and writes examples.

    Args:
        synthetic: Labelled examples to weight.
        gold: Labelled examples of the target.
        output: Written with ``weight``; a CSV, JSONL or Parquet file.
        unlabelled: Texts of the target.
        number: Draw this many rows by weight, each then of weight 1, in place of weights.
        overwrite: Replace an output that is there.
        method: See `align_datasets`.
        encoder: Measure the maximum mean discrepancy on this encoder's vectors: ``embedded``, a
            directory or a Hub name. The method that needs vectors takes ``embedded`` unasked.
        registers: Find the register of texts that come without one, so that it is matched;
            None does so up to 50,000 texts in all.
        note: Told what was left undone.
        **settings: More arguments of `align_datasets`.

    Raises:
        JapagenError: If a file cannot be read or written, or a setting is unknown.
    """
    check_new(output, overwrite=overwrite)
    examples = read_examples(synthetic, require_label=True)
    target = read_examples(gold, split="train", require_label=True)
    more = read_examples(unlabelled, split="unlabelled") if unlabelled else None
    encoder = encoder or ("embedded" if method == "gradient_matching" else None)
    vectors = None
    if encoder:
        from japagen.training.encoder import text_vectors

        vectors = text_vectors((target, examples, more), encoder)
    found = align_datasets(
        *with_registers((examples, target, more), registers, note),
        method=method,
        vectors=vectors,
        resample=number,
        **settings,
    )
    if number is None:
        written = examples.with_columns(weight_distribution=found.weights)
    else:
        drawn = examples.take(np.flatnonzero(found.weights))
        written = drawn.with_columns(weight_distribution=[1.0] * number)
    write_examples(output, written)
    return found


def with_registers(
    datasets: tuple[Dataset, Dataset, Dataset | None],
    wanted: bool | None,
    note: Callable[[str], None] = lambda message: None,
) -> tuple[Dataset, Dataset, Dataset | None]:
    """Finds the register of texts that come without one; see `align_files`."""
    lacking = sum(d.table.column("register_seen").null_count for d in datasets if d is not None)
    if wanted is False or not lacking:
        return datasets
    if wanted is None and lacking > MOST_UNASKED:
        note(
            f"Registers are not matched: {lacking:,} texts come without one. "
            f"--registers finds them, in about {lacking / PER_SECOND / 60:.0f} minutes."
        )
        return datasets
    from japagen.japanese.register.detector import RegisterAnalyzer

    analyzer = RegisterAnalyzer()

    def filled(dataset: Dataset) -> Dataset:
        if not dataset.table.column("register_seen").null_count:
            return dataset
        kept = dataset.column("register_seen")
        rows = [row for row, register in enumerate(kept) if register is None]
        texts = dataset.texts
        for row, report in zip(rows, analyzer.analyze_all(texts[r] for r in rows), strict=True):
            kept[row] = report.register.to_dict()
        return dataset.with_columns(register_seen=kept)

    first, second, third = datasets
    return filled(first), filled(second), None if third is None else filled(third)
