"""Weights one file of examples against others, without a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from japagen.alignment.alignment import Alignment, align_datasets
from japagen.alignment.resampling import resample
from japagen.formats import check_new, read_examples, write_examples


def align_files(
    synthetic: Path,
    gold: Path,
    output: Path,
    *,
    unlabelled: Path | None = None,
    number: int | None = None,
    overwrite: bool = False,
    method: str = "entropy",
    seed: int = 0,
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
        seed: Of everything random.
        **settings: More arguments of `align_datasets`.

    Raises:
        JapagenError: If a file cannot be read or written, or a setting is unknown.
    """
    check_new(output, overwrite=overwrite)
    examples = read_examples(synthetic, require_label=True)
    target = read_examples(gold, split="train", require_label=True)
    more = read_examples(unlabelled, split="unlabelled") if unlabelled else None
    vectors = None
    if method == "gradient_matching":
        from japagen.text_vectors import text_vectors

        vectors = text_vectors((target, examples, more))
    found = align_datasets(
        examples, target, more, method=method, seed=seed, vectors=vectors, **settings
    )
    if number is None:
        written = examples.with_columns(weight_distribution=found.weights)
    else:
        written = resample(examples, found.weights, number, seed)
    write_examples(output, written)
    return found
