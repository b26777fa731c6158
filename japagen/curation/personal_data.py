"""Masks personal data in synthetic texts, or puts fakes in its place."""

from __future__ import annotations

from japagen.examples import REWRITTEN, SYNTHESISED, Dataset
from japagen.japanese.morphology import Tagger
from japagen.japanese.pii import mask_personal_data, replace_personal_data


def treat_personal_data(
    dataset: Dataset,
    action: str,
    seed: int = 0,
    tagger: Tagger | None = None,
    *,
    only_rewritten: bool = False,
) -> Dataset:
    """Returns the dataset with its texts masked or with fakes in them.

    A rewritten text says what its parent says, which was treated before: only what the parent
    does not say is treated in it, so that a fake is not taken for somebody's data.

    Args:
        dataset: Synthetic examples.
        action: ``mask`` or ``replace``; anything else leaves the texts alone.
        seed: The same original gets the same fake in every text; see `replace_personal_data`.
        tagger: Finds names; the default dictionary when None.
        only_rewritten: Leave the others as they are: they have been treated, and a fake would
            get a fake of its own.
    """
    if action not in ("mask", "replace"):
        return dataset
    ids, texts = dataset.column("id"), dataset.texts
    parents = dict(zip(ids, texts, strict=True))

    def treated(text: str | None, parent: str | None, derived: str | None) -> str | None:
        if text is None or (only_rewritten and derived not in (REWRITTEN, SYNTHESISED)):
            return text
        known = parents.get(parent or "", "")
        if action == "mask":
            return mask_personal_data(text, tagger, known)
        return replace_personal_data(text, seed, tagger, known)

    columns = {}
    for name in ("text", "text_pair"):
        origins = dataset.column("parent_id"), dataset.column("derived")
        values = zip(dataset.column(name), *origins, strict=True)
        columns[name] = [treated(*value) for value in values]
    return dataset.with_columns(**columns)
