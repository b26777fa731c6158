"""Which changed texts stand in the place of those that they were made of, and what that came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from japagen.curation.label_check import (
    beats_guessing,
    encoder_vote,
    fit_pool,
    held_out_posterior,
)
from japagen.examples import EDITED, Dataset, Example, Rejection
from japagen.gradients.subsets import extended_shots
from japagen.gradients.target import Floats
from japagen.japanese.register_detection import RegisterAnalyzer
from japagen.japanese.registers import OTHER
from japagen.stages.edit_work import EditWork
from japagen.stages.text_vectors import text_vectors
from japagen.tasks.matching_settings import STRATEGY

if TYPE_CHECKING:
    from japagen.gradients.changing import Changed

REFUSED = "edit_refused"
_SHOWN = 5


@dataclass(frozen=True)
class Edited:
    """What the stage leaves.

    Attributes:
        dataset: All rows.
        vectors: Of the changed texts, which stand behind the others.
        summary: For the report.
    """

    dataset: Dataset
    vectors: npt.NDArray[np.float64]
    summary: dict[str, Any]


class EditOutcome:
    """What becomes of changed texts and of those that they were made of."""

    def __init__(self, work: EditWork, analyzer: RegisterAnalyzer, changed: list[Changed]) -> None:
        self._work = work
        self._analyzer = analyzer
        self._changed = changed
        self._at = [at for at, each in enumerate(changed) if each.changes]

    def settle(self, filtered: Callable[[Dataset], Dataset]) -> Edited:
        """Keeps the children that pass, each in the place of its parent."""
        work, dataset = self._work, self._work.dataset
        made = [self._child(at) for at in self._at]
        children = Dataset.of(made)
        width = work.gold_vectors.shape[1]
        vectors: npt.NDArray[np.float64] = np.zeros((0, width))
        if made:
            reports = self._analyzer.analyze_all(children.texts)
            children = children.with_registers([r.register for r in reports])
            children = children.with_rejections([self._register_changed(c) for c in children])
            # The filters compare children with everything but the parents that they would replace.
            going = {str(c.parent_id): c for c in children.kept}
            tried = filtered(Dataset.concat([self._held(going), children]))
            children = tried.take(range(len(dataset), len(tried)))
            settings = work.task.training
            (found,) = text_vectors(
                [children], settings.encoder, trust_remote_code=settings.trust_remote_code
            )
            vectors = found.astype(np.float64)
            children = self._judged(children, vectors)
        passed = {str(c.parent_id): c for c in children.kept}
        both = Dataset.concat([self._held(passed), children]) if made else dataset
        summary = self._summary(children, vectors)
        return Edited(both, vectors, summary)

    def _child(self, at: int) -> Example:
        work, parent = self._work, self._work.texts[at]
        subset = work.subsets[work.dealt[at]]
        ids = subset.ids[work.labels[at]]
        return replace(
            parent,
            text=self._changed[at].text,
            id=f"{parent.id}-e",
            derived=EDITED,
            parent_id=parent.id,
            shot_ids=tuple(extended_shots(parent.shot_ids, parent.request_id, ids)),
            register_seen=None,
            generator=work.models.name,
            prompt_id=f"{STRATEGY}.{work.task.gradient_matching.method}",
        )

    def _register_changed(self, child: Example) -> Rejection | None:
        parent = self._parents[str(child.parent_id)].register_seen
        before, after = (seen.name if seen else OTHER for seen in (parent, child.register_seen))
        if parent is None or before == after:
            return None
        return Rejection(REFUSED, 1, 0, f"{before} before, {after} after")

    @cached_property
    def _parents(self) -> dict[str, Example]:
        texts = self._work.texts.take(np.array(self._at, dtype=np.int64))
        return {e.id: e for e in texts}

    def _held(self, going: Mapping[str, Example]) -> Dataset:
        """All rows, those of ``going`` rejected."""
        ids = self._work.texts.column("id")
        at = {ids[i]: i for i in self._at}

        def rejection(id_: str, before: Mapping[str, Any] | None) -> Rejection | None:
            if id_ not in going:
                return Rejection(**before) if before else None
            changed = self._changed[at[id_]]
            words = "、".join(f"{old}→{new}" for old, new in changed.changes)
            detail = f"{words}; in {going[id_].id}"
            return Rejection(EDITED, round(changed.ratio, 3), self._most, detail)

        dataset = self._work.dataset
        rows = zip(dataset.column("id"), dataset.column("rejected"), strict=True)
        return dataset.with_rejections([rejection(*row) for row in rows])

    @property
    def _most(self) -> float:
        return self._work.task.gradient_matching.perplexity

    def _judged(self, children: Dataset, vectors: Floats) -> Dataset:
        """Rejects the children that classifiers of gold alone find to have another label.

        The label of the others is trusted less than their parent's by as much as it has become
        less likely.
        """
        work, own = self._work, self._work.labels[self._at]
        read = np.concatenate([vectors, work.vectors[self._at]])
        vote = encoder_vote(work.gold_vectors, work.gold_labels, read, work.task.seed)
        held_out = held_out_posterior([vote.gold], work.gold_labels, work.task.seed)
        if not beats_guessing(held_out, work.gold_labels):
            return children
        chances = fit_pool([vote.gold], work.gold_labels).posterior([vote.texts])
        after, before = np.split(chances, 2)
        names, said = list(work.task.labels), after.argmax(axis=1)
        if work.task.alignment.label_trust != "none":
            rows = np.arange(len(own))
            less = np.minimum(after[rows, own] / np.maximum(before[rows, own], 1e-12), 1.0)
            trust = np.array(children.column("weight_label"), dtype=np.float64)
            children = children.with_columns(weight_label=trust * less)
        return children.with_rejections(
            [
                Rejection(REFUSED, 1, 0, f"{names[own[row]]} asked, {names[said[row]]} found")
                if child.rejected is None and said[row] != own[row]
                else child.rejected
                for row, child in enumerate(children)
            ]
        )

    def _summary(self, children: Dataset, vectors: Floats) -> dict[str, Any]:
        work = self._work
        kept = children.kept_mask if len(children) else np.zeros(0, dtype=bool)
        taken = [at for at, stays in zip(self._at, kept, strict=True) if stays]
        after = work.vectors.copy()
        after[taken] = vectors[kept]
        changed = [self._changed[at] for at in taken]
        return {
            "method": work.task.gradient_matching.method,
            "model": work.models.name,
            "terms": asdict(work.models.terms),
            "texts": len(work.rows),
            "edited": len(taken),
            "refused": len(self._at) - len(taken),
            "words": round(float(np.mean([len(c.changes) for c in changed])), 2) if taken else None,
            "loss_before": self._loss(work.vectors),
            "loss_after": self._loss(after),
            "perplexity": round(float(np.median([c.ratio for c in changed])), 3) if taken else None,
            "most_perplexity": self._most,
            "targets": len(work.subsets),
            "examples": [
                {
                    "label": str(work.texts.labels[at]),
                    "before": work.texts.texts[at],
                    "after": self._changed[at].text,
                }
                for at in taken[:_SHOWN]
            ],
        }

    def _loss(self, vectors: Floats) -> float | None:
        """1 − cosine with gold, over checkpoints, labels and targets; each text counts alike."""
        found, weights = [], []
        for number, label, rows in self._work.groups():
            target = self._work.subsets[number].target
            cosines = target.cosines(vectors[rows], np.full(len(rows), label))
            if not np.isnan(cosines[:, label]).all():
                found.append(1 - float(np.nanmean(cosines[:, label])))
                weights.append(len(rows))
        return round(float(np.average(found, weights=weights)), 4) if found else None
