"""Filters of synthetic texts, each of which records what it measured."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from japagen.config.sections import Curation
from japagen.curation.naturalness import find_unnatural
from japagen.curation.near_duplicates import reject_near_duplicates, reject_near_vectors
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.japanese.morphology import Tagger
from japagen.japanese.normalization import japanese_share, normalize
from japagen.japanese.overlap import OverlapIndex
from japagen.japanese.pii.detector import (
    find_personal_data,
    mask_personal_data,
    replace_personal_data,
)

Filter = Callable[[Example], Rejection | None]

# Pieces of a prompt that a model repeats when it goes on with the document, not the list.
_ECHO = re.compile(
    r"(?:^|\s)(?:#{1,6}\s|分類[::]|文体[::]|ラベル[::]|出力[::])|実例集|の例文[::]|\{\{|</?[a-z]+>|```"
)
_REPEATED = re.compile(r"(.{2,}?)\1{3,}|(.)\2{9,}")


def curate(
    dataset: Dataset,
    settings: Curation,
    gold: Dataset | None = None,
    prompt_phrases: Iterable[str] = (),
    passages: Iterable[str] = (),
    tagger: Tagger | None = None,
    *,
    first: int = 0,
) -> Dataset:
    """Rejects what should not be trained on; nothing is dropped.

    Filters run in a fixed order, the cheap ones first, and the first that objects is recorded.
    Rows that arrive rejected stay as they are.

    Args:
        dataset: Synthetic examples.
        settings: Thresholds.
        gold: Training gold, for copies.
        prompt_phrases: Sentences that prompts showed besides gold.
        passages: Material that prompts showed.
        tagger: Finds names of people; the default dictionary when None.
        first: Rows before this one are only compared with: they passed the filters before.

    Returns:
        The same rows in the same order, with ``rejected`` filled in.
    """
    filters = _row_filters(settings, gold, prompt_phrases, list(passages), tagger)
    seen: dict[tuple[str, str], str] = {}
    rejections: list[Rejection | None] = []
    for row, example in enumerate(dataset):
        rejection = example.rejected
        if rejection is None and row >= first:
            rejection = next((r for f in filters if (r := f(example))), None)
        if rejection is None:
            rejection = _duplicate(example, seen)
        rejections.append(rejection)
    filtered = dataset.with_rejections(rejections)
    return reject_near_duplicates(filtered, settings.max_similarity, gold, first)


def _row_filters(
    settings: Curation,
    gold: Dataset | None,
    prompt_phrases: Iterable[str],
    passages: Sequence[str],
    tagger: Tagger | None,
) -> list[Filter]:
    filters: list[Filter] = [
        _too_short(settings.min_characters),
        _too_long(settings.max_characters),
        _not_japanese(settings.min_japanese_share),
        _repetitive,
        _same_twice,
        _prompt_echo(OverlapIndex(prompt_phrases), settings.max_gold_overlap),
    ]
    if settings.forbid_label_name:
        filters.append(_label_name)
    if settings.forbidden_words:
        filters.append(_forbidden(settings.forbidden_words))
    filters.append(lambda example: find_unnatural(_texts(example), settings.naturalness))
    if settings.personal_data == "reject":
        filters.append(_personal_data(tagger))
    if passages:
        filters.append(_passage_copy(OverlapIndex(passages), settings))
    if gold is not None and len(gold):
        filters.append(_gold_copy(_gold_index(gold), settings.max_gold_overlap))
    return filters


def _texts(example: Example) -> Sequence[str]:
    return [example.text] if example.text_pair is None else [example.text, example.text_pair]


def _too_short(least: int) -> Filter:
    def check(example: Example) -> Rejection | None:
        length = min(len(normalize(t)) for t in _texts(example))
        if length == 0:
            return Rejection("empty", 0, 1)
        return Rejection("too_short", length, least) if length < least else None

    return check


def _too_long(most: int) -> Filter:
    def check(example: Example) -> Rejection | None:
        length = max(len(normalize(t)) for t in _texts(example))
        return Rejection("too_long", length, most) if length > most else None

    return check


def _not_japanese(least: float) -> Filter:
    def check(example: Example) -> Rejection | None:
        share = min(japanese_share(t) for t in _texts(example))
        return Rejection("not_japanese", round(share, 3), least) if share < least else None

    return check


def _repetitive(example: Example) -> Rejection | None:
    for text in _texts(example):
        found = _REPEATED.search(text)
        if found:
            unit = found.group(1) or found.group(2)
            return Rejection("repetitive", len(found.group()) // len(unit), 3, unit[:40])
    return None


def _same_twice(example: Example) -> Rejection | None:
    """A pair of one text says nothing about its label but that both are the same."""
    if example.text_pair is None:
        return None
    first, second = (normalize(text).rstrip("。.!！") for text in _texts(example))
    if first != second:
        return None
    return Rejection("same_twice", 1, 0)


def _prompt_echo(phrases: OverlapIndex, most: float) -> Filter:
    def check(example: Example) -> Rejection | None:
        for text in _texts(example):
            found = _ECHO.search(unicodedata.normalize("NFKC", text))
            if found:
                return Rejection("prompt_echo", 1, 0, found.group().strip())
            share, phrase = phrases.nearest(text)
            if share > most:
                return Rejection("prompt_echo", round(share, 3), most, phrase)
        return None

    return check


def _label_name(example: Example) -> Rejection | None:
    label = example.label
    names = [label] if isinstance(label, str) else label if isinstance(label, list) else []
    for name in names:
        if any(normalize(name) in normalize(t) for t in _texts(example)):
            return Rejection("label_name", 1, 0, name)
    return None


def _forbidden(words: Sequence[str]) -> Filter:
    def check(example: Example) -> Rejection | None:
        for word in words:
            if any(normalize(word) in normalize(t) for t in _texts(example)):
                return Rejection("forbidden_word", 1, 0, word)
        return None

    return check


def _personal_data(tagger: Tagger | None) -> Filter:
    def check(example: Example) -> Rejection | None:
        found = [d for text in _texts(example) for d in find_personal_data(text, tagger)]
        # The detail names the kinds alone: it is shown in the report.
        kinds = ", ".join(sorted({d.kind for d in found}))
        return Rejection("personal_data", len(found), 0, kinds) if found else None

    return check


def _joined(example: Example) -> str:
    return "\n".join(_texts(example))


def _gold_index(gold: Dataset) -> OverlapIndex:
    return OverlapIndex(_joined(e) for e in gold)


def _gold_copy(index: OverlapIndex, most: float) -> Filter:
    def check(example: Example) -> Rejection | None:
        share, nearest = index.nearest(_joined(example))
        return (
            Rejection("gold_copy", round(share, 3), most, nearest[:200]) if share > most else None
        )

    return check


def _passage_copy(index: OverlapIndex, settings: Curation) -> Filter:
    """Both a long run and many short ones are copies: a passage is longer than most texts."""

    def check(example: Example) -> Rejection | None:
        for text in _texts(example):
            copied = index.longest_copy(text).text
            if len(copied) > settings.max_passage_copy:
                return Rejection(
                    "passage_copy", len(copied), settings.max_passage_copy, copied[:200]
                )
            share, nearest = index.nearest(text)
            if share > settings.max_gold_overlap:
                return Rejection(
                    "passage_copy", round(share, 3), settings.max_gold_overlap, nearest[:200]
                )
        return None

    return check


def _duplicate(example: Example, seen: dict[tuple[str, str], str]) -> Rejection | None:
    """The first of equal texts is kept, whatever its label."""
    key = (normalize(example.text), normalize(example.text_pair or ""))
    first = seen.setdefault(key, example.id)
    return None if first == example.id else Rejection("duplicate", 1, 0, first)


def filter_texts(
    dataset: Dataset,
    settings: Curation,
    gold: Dataset | None,
    *,
    phrases: Iterable[str] = (),
    passages: Iterable[str] = (),
    tagger: Tagger | None = None,
    seed: int = 0,
    embed: Callable[[Dataset | None], npt.NDArray[np.float32]] | None = None,
    first: int = 0,
) -> Dataset:
    """Treats personal data, applies the filters and, if wanted, compares meanings.

    Args:
        dataset: Synthetic examples.
        settings: Thresholds.
        gold: Training gold.
        phrases: Sentences that prompts showed besides gold.
        passages: Material that prompts showed.
        tagger: Finds names; the default dictionary when None.
        seed: Of fakes for personal data.
        embed: Gives encoder vectors of kept rows; meanings are not compared without it.
        first: Rows before this one went through all this before. They are left alone, and the
            others are compared with those of them that were kept.
    """
    treated = treat_personal_data(dataset, settings.personal_data, seed, tagger, first=first)
    curated = curate(treated, settings, gold, phrases, passages, tagger, first=first)
    most = settings.max_meaning_similarity
    if most is None or embed is None:
        return curated
    return reject_near_vectors(curated, most, embed(curated), gold, embed(gold), first)


def treat_personal_data(
    dataset: Dataset,
    action: str,
    seed: int = 0,
    tagger: Tagger | None = None,
    *,
    first: int = 0,
) -> Dataset:
    """Returns the dataset with its texts masked or with fakes in them.

    A rewritten text says what its parent says, which was treated before: only what the parent
    does not say is treated in it, so that a fake is not taken for somebody's data.

    Args:
        dataset: Synthetic examples.
        action: ``mask`` or ``replace``; anything else leaves the texts alone.
        seed: The same original gets the same fake in every text; see `replace_personal_data`.
        tagger: Finds names; the default dictionary when None.
        first: Rows before this one stay as they are: they have been treated, and a fake would
            get a fake of its own.
    """
    if action not in ("mask", "replace"):
        return dataset
    parents = dict(zip(dataset.column("id")[:first], dataset.texts[:first], strict=True))

    def treated(text: str | None, parent: str | None) -> str | None:
        if text is None:
            return None
        known = parents.get(parent or "", "")
        if action == "mask":
            return mask_personal_data(text, tagger, known)
        return replace_personal_data(text, seed, tagger, known)

    columns = {}
    for name in ("text", "text_pair"):
        values = dataset.column(name)
        new = zip(values[first:], dataset.column("parent_id")[first:], strict=True)
        columns[name] = [*values[:first], *(treated(*value) for value in new)]
    return dataset.with_columns(**columns)
