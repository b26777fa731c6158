"""Keeps the profile of texts beside a classifier, and compares new traffic with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from japagen.examples import Dataset, Example
from japagen.inspecting.monitoring import FILE, Drift, Profile, compare, plain_texts, profile_of
from japagen.running.data import TaskData
from japagen.running.results import open_classifier
from japagen.running.stage_runner import StageRunner
from japagen.storage.formats import is_known, read_examples
from japagen.storage.lines import read_texts

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier


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


def keep_reference(
    data: TaskData,
    stages: StageRunner,
    inputs: Mapping[str, Any],
    classifier: Callable[[], Classifier],
) -> None:
    """Leaves beside the classifier what new traffic will be compared with.

    Texts that it has learnt from would look too certain, so only others count.

    Args:
        data: Texts to score on and unlabelled ones are the reference.
        stages: Keep it while nothing has changed.
        inputs: What the classifier was made from.
        classifier: Loads it.
    """
    found = [d for d in (data.test, data.unlabelled) if d is not None]
    if not found:
        return
    # Labels are not read, and both files may use the same ids.
    unlabelled = [replace(e, label=None, label_asked=None, id="") for d in found for e in d]
    texts = Dataset.of(unlabelled)
    stages.run(
        "reference",
        [FILE],
        {"texts": texts.fingerprint, **inputs},
        lambda: profile_of(texts, classifier()),
        lambda path, made: made.save(path.parent),
        lambda path: Profile.load(path.parent),
    )
