"""Composes the search of the mix for a run: vectors, trust and alignment of every fold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from japagen.alignment.alignment import alignment_weights
from japagen.examples import Dataset
from japagen.japanese.morphology import Tagger
from japagen.listeners import Listener
from japagen.mixing.confirming import Confirmation, confirm
from japagen.mixing.evidence import Evidence, Fold
from japagen.mixing.finding import find_mix
from japagen.mixing.linear_head import Floats
from japagen.mixing.mix import FoundMix, Mix
from japagen.stages.text_vectors import text_vectors
from japagen.tasks.tasks import Task

if TYPE_CHECKING:
    from japagen.training.frozen import FrozenTraining


def find_mix_of(
    task: Task,
    gold: Dataset | None,
    dataset: Dataset,
    unlabelled: Dataset | None,
    method: str,
    tagger: Tagger,
    listener: Listener,
    vouched: Collection[str] = (),
) -> FoundMix:
    """Finds the mix for a run.

    Args:
        task: Its settings.
        gold: Training gold with registers.
        dataset: Aligned synthetic examples.
        unlabelled: Unlabelled texts.
        method: How the run was aligned.
        tagger: Morphological analyser.
        listener: Told of the progress.
        vouched: Ids of texts whose label a person has vouched for.
    """
    trusted, curation = task.alignment.label_trust != "none", task.curation
    settles = trusted and curation.label_miss == "relabel"
    encoder = task.training.encoder
    vectors: dict[tuple[str, str | None], Floats] = {}

    tunes = _tunes(task, gold)
    frozen = _frozen(task, gold, tunes)

    def embed(*datasets: Dataset) -> tuple[Floats, Floats]:
        if frozen is not None and method != "gradient_matching":
            return _seen(frozen, datasets[0]), _seen(frozen, datasets[1])
        remote = task.training.trust_remote_code
        rows = text_vectors((*datasets, unlabelled), encoder, trust_remote_code=remote)
        for data, found in zip((*datasets, unlabelled), rows, strict=True):
            if data is not None:
                vectors.update(zip(_contents(data), found.astype(np.float64), strict=True))
        if frozen is not None:
            return _seen(frozen, datasets[0]), _seen(frozen, datasets[1])
        return rows[0].astype(np.float64), rows[1].astype(np.float64)

    def of(data: Dataset) -> Floats:
        return np.array([vectors[content] for content in _contents(data)])

    def weigh(synthetic: Dataset, train: Dataset, own: Floats) -> Floats:
        trust = own if trusted else np.ones(len(synthetic))
        if method == "none" or not len(synthetic):
            return trust
        needed = [d for d in (train, synthetic, unlabelled) if d is not None]
        tilt = alignment_weights(
            synthetic.with_columns(weight_label=trust),
            train,
            unlabelled,
            label_prior=task.label_prior,
            method=method,
            floor=task.alignment.floor,
            seed=task.seed,
            tagger=tagger,
            vectors=[of(d) for d in needed] if method == "gradient_matching" else None,
        )
        return np.asarray(trust * tilt, dtype=np.float64)

    def progress(folds: Iterable[Any], total: int) -> Iterator[Any]:
        return listener.track(folds, total, "mix")

    def tune(fold: Fold, mix: Mix, share: float) -> Floats:
        from japagen.training.fitting import train

        assert gold is not None
        synthetic = None
        if share > 0:
            chosen = fold.choose(mix)
            synthetic = dataset.kept.take(fold.split.usable[chosen]).with_columns(
                label=[list(task.labels)[i] for i in fold.targets[chosen]],
                weight_distribution=fold.weights[chosen],
                weight_label=np.ones(len(chosen)),
            )
        held = gold.take(fold.split.held)
        classifier = train(
            synthetic,
            gold.take(fold.split.train),
            encoder=encoder,
            descriptions=task.labels,
            # A fold has less gold than the run, which alone says whether it is tuned.
            settings=task.training.model_copy(
                update={"synthetic_share": share, "tune": "always" if tunes else "never"}
            ),
            seed=task.seed,
            progress=lambda steps, total: listener.track(steps, total, "mix"),
        )
        return classifier.probabilities(held.texts, held.column("text_pair"))

    def check(evidence: Evidence, mix: Mix) -> Confirmation:
        return confirm(
            evidence,
            mix,
            tune,
            most_folds=task.mixing.confirm_folds,
            minutes=task.mixing.confirm_minutes,
        )

    return find_mix(
        gold,
        dataset,
        list(task.labels),
        task.training.share,
        embed,
        weigh,
        seed=task.seed,
        repeats=task.mixing.repeats,
        relabel=curation.label_confidence if settles else None,
        head=None if frozen is None else frozen.probabilities,
        vouched=vouched,
        confirm=check if task.mixing.confirm else None,
        progress=progress,
    )


def _tunes(task: Task, gold: Dataset | None) -> bool:
    """Whether the run would tune the encoder on gold."""
    from japagen.training.fitting import tunes_encoder

    if gold is None or not len(gold):
        return False
    return tunes_encoder(task.training, len(gold), len(task.labels), gold.is_pair)


def _frozen(task: Task, gold: Dataset | None, tunes: bool) -> FrozenTraining | None:
    """The head that the run will train, or tune from, where it can be had in every fold."""
    from japagen.training.frozen import FrozenTraining

    if gold is None or not len(gold) or task.kind != "classification":
        return None
    # A pair that is tuned on is read in another way than one that is compared.
    if gold.is_pair and tunes:
        return None
    return FrozenTraining(task.training.encoder, task.labels, task.training, gold.is_pair)


def _seen(frozen: FrozenTraining, data: Dataset) -> Floats:
    return frozen.vectors(data.texts, data.column("text_pair"))


def _contents(data: Dataset) -> list[tuple[str, str | None]]:
    return list(zip(data.texts, data.column("text_pair"), strict=True))
