"""Asks with some settings, and measures what came."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from japagen.curation.label_check import label_indices
from japagen.errors import JapagenError
from japagen.examples import Dataset
from japagen.generation import generation
from japagen.generation.coverage import passages_in
from japagen.generators.base import Request
from japagen.prompts import PromptLibrary
from japagen.running.data import TaskData
from japagen.running.stage_runner import fingerprint_of
from japagen.stages.asking import Asker
from japagen.stages.curating import filter_texts
from japagen.stages.planning import find_registers, load_analyzer, plan
from japagen.stages.text_vectors import text_vectors
from japagen.storage.files import digest
from japagen.tasks.tasks import Task
from japagen.tuning.measures import Measure, Score, Texts, probabilities, unit
from japagen.tuning.space import Changes, varied

# Seeds of the rounds of requests stand apart, and from the task's own.
_SEED_STEP = 7919


@dataclass(frozen=True)
class Asking:
    """Some settings and the requests that they stand for so far.

    Attributes:
        changes: The settings.
        requests: In the order of their rounds.
        shot_sets: Which of them share a prompt.
    """

    changes: Changes
    requests: tuple[Request, ...] = ()
    shot_sets: tuple[int, ...] = ()


class Bench:
    """One task's gold, generator and judge.

    Args:
        task: As it stands.
        data: Its texts; only gold and, for registers, unlabelled text are read.
        asker: Asks through the ledger.
    """

    def __init__(self, task: Task, data: TaskData, asker: Asker) -> None:
        assert data.gold is not None
        self.task = task
        self._asker = asker
        self._analyzer = load_analyzer(task)
        self._gold = find_registers(data.gold, self._analyzer)
        self._data = replace(data, test=None)
        self._labels = list(task.labels)
        self._targets = label_indices(self._gold, self._labels)
        self._phrases = PromptLibrary(task.generation.prompts).phrases

    def fingerprint(self, askings: Sequence[Asking]) -> dict[str, Any]:
        """What the results of these requests depend on."""
        from japagen.training.encoders import encoder_identity

        return {
            "requests": digest([[r.id for r in a.requests] for a in askings]),
            "gold": fingerprint_of(self._gold),
            "encoder": encoder_identity(self.task.training.encoder),
            "curation": self.task.curation.model_dump(mode="json"),
            "japanese": self._analyzer.identity,
        }

    def extended(self, asking: Asking, number: int, per_label: int) -> Asking:
        """With more requests, drawn from a seed that is this round's alone.

        Args:
            asking: What there is.
            number: Of the round.
            per_label: Requests more for each label.
        """
        task = varied(self.task, asking.changes)
        changed = {"per_label": per_label, "rounds": 1}
        seeded = task.model_copy(
            update={
                "seed": task.seed + _SEED_STEP * (number + 1),
                "generation": task.generation.model_copy(update=changed),
            }
        )
        more = plan(seeded, self._data, self._asker.info, self._gold)
        sets: dict[Any, int] = {}
        first = max(asking.shot_sets, default=-1) + 1
        own = [sets.setdefault((r.label, r.prompt), first + len(sets)) for r in more]
        return replace(
            asking,
            requests=(*asking.requests, *more),
            shot_sets=(*asking.shot_sets, *own),
        )

    def texts(self, askings: Sequence[Asking]) -> list[Texts]:
        """What all of them brought, asked together.

        Raises:
            JapagenError: If less than half of the requests of some settings were answered.
        """
        asked = self._asker.ask([r for a in askings for r in a.requests], "tune")
        rows, sets = [], []
        for asking in askings:
            answered = [i for i, r in enumerate(asking.requests) if r.id in asked.answers]
            if 2 * len(answered) < len(asking.requests):
                why = next(iter(asked.failures.values()), "unknown")
                raise JapagenError(
                    f"Only {len(answered)} of {len(asking.requests)} requests were answered with "
                    f"{asking.changes or 'the task as it stands'}; the first reason: {why}.",
                    "Put that right, then run the same command again: what is answered is kept.",
                )
            requests = [asking.requests[i] for i in answered]
            made = generation.to_dataset(requests, asked.answers, {}, self._asker.info.name)
            seen = find_registers(made, self._analyzer)
            tagger = self._analyzer.tagger
            passages = passages_in(requests)
            read = (self.task, seen, self._gold, self._phrases, tagger)
            rows.append(filter_texts(*read, passages=passages))
            of_request = {asking.requests[i].id: asking.shot_sets[i] for i in answered}
            sets.append(np.array([of_request[id_] for id_ in made.column("request_id")]))
        return self._judged(rows, sets)

    def _judged(self, rows: Sequence[Dataset], sets: Sequence[Any]) -> list[Texts]:
        together = Dataset.concat(rows)
        training = self.task.training
        on_gold, on_texts = text_vectors(
            (self._gold, together),
            training.encoder,
            trust_remote_code=training.trust_remote_code,
        )
        right = probabilities(on_gold, self._targets, on_texts, self.task.seed)
        own = label_indices(together, self._labels)
        bounds = np.cumsum([0, *map(len, rows)])
        return [
            Texts(
                labels=own[a:b],
                shot_sets=sets[i],
                kept=together.kept_mask[a:b],
                right=right[np.arange(a, b), own[a:b]],
                vectors=unit(on_texts[a:b]),
            )
            for i, (a, b) in enumerate(itertools.pairwise(bounds))
        ]

    def measure(self) -> Measure:
        """What scores them."""
        training = self.task.training
        (vectors,) = text_vectors(
            (self._gold,), training.encoder, trust_remote_code=training.trust_remote_code
        )
        return Measure(unit(vectors), self._targets, self.task.seed)


def trial_row(rung: int, changes: Changes, texts: Texts, score: Score) -> dict[str, Any]:
    """One line of the table of trials."""
    return {
        "rung": rung,
        "changes": changes,
        "requests": len(texts.labels),
        "kept": int(texts.kept.sum()),
        **{name: round(value, 4) for name, value in asdict(score).items()},
    }
