"""Reads new traffic and compares it with the profile beside a classifier."""

from __future__ import annotations

from pathlib import Path

from japagen.examples import Dataset, Example
from japagen.formats import is_known, read_examples
from japagen.lines import read_texts
from japagen.monitoring import Drift, Profile, compare, plain_texts, profile_of
from japagen.results import open_classifier


def watch(model: Path, file: Path, seed: int = 0) -> Drift:
    """Says whether the texts of a file are still what a classifier was made for.

    Args:
        model: A run, or a saved classifier with a profile in or beside its directory.
        file: A file of examples, whose labels are not read, or one text a line.
        seed: Of samples and permutations.

    Raises:
        JapagenError: If either cannot be read, or there is nothing to compare with.
    """
    reference = Profile.load(model)
    if is_known(file):
        examples = read_examples(file)
    else:
        examples = Dataset.of(Example(text) for text in read_texts(file, ()) if text.strip())
    new = profile_of(examples, open_classifier(model))
    return compare(reference, plain_texts(examples), new, seed)
