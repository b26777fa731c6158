"""Curation as the pipeline runs it, on generated texts and again on rewritten ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from japagen.curation.filters import curate
from japagen.curation.near_duplicates import reject_near_vectors
from japagen.curation.personal_data import treat_personal_data
from japagen.examples import Dataset
from japagen.japanese.morphology import Tagger
from japagen.stages.text_vectors import text_vectors
from japagen.storage.files import digest
from japagen.tasks.tasks import Task


def filter_texts(
    task: Task,
    dataset: Dataset,
    gold: Dataset | None,
    phrases: Sequence[str],
    tagger: Tagger,
    *,
    passages: Sequence[str] = (),
    again: bool = False,
) -> Dataset:
    """Treats personal data, applies the filters and, if wanted, compares meanings.

    Args:
        task: The task.
        dataset: Synthetic examples.
        gold: Training gold.
        phrases: Sentences that prompts showed besides gold.
        tagger: Finds names.
        passages: Material that prompts showed.
        again: Whether all but rewritten texts have been through it.
    """
    settings, encoder = task.curation, task.training
    treated = treat_personal_data(
        dataset, settings.personal_data, task.seed, tagger, only_rewritten=again
    )
    curated = curate(treated, settings, gold, phrases, passages, tagger)
    if settings.max_meaning_similarity is None:
        return curated
    vectors = text_vectors(
        (curated, gold), encoder.encoder, trust_remote_code=encoder.trust_remote_code
    )
    most = settings.max_meaning_similarity
    return reject_near_vectors(curated, most, vectors[0], gold, vectors[1])


def filter_inputs(task: Task, passages: Sequence[str] = ()) -> dict[str, Any]:
    """What the result depends on besides the settings of curation; only some of them read it."""
    found: dict[str, Any] = {"passages": digest(passages)} if passages else {}
    if task.curation.personal_data == "replace":
        found["seed"] = task.seed
    if task.curation.max_meaning_similarity is not None:
        from japagen.training.encoders import encoder_identity

        found["encoder"] = encoder_identity(task.training.encoder)
    return found
