"""Gathers the voters on a run's labels and has curation act on what they say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from japagen.curation import label_judge
from japagen.curation.label_check import (
    Vote,
    beats_guessing,
    cross_fitted_vote,
    fit_pool,
    held_out_posterior,
    label_indices,
    settle_labels,
)
from japagen.errors import JapagenError
from japagen.examples import Dataset
from japagen.generators.base import Answer
from japagen.generators.choosing import AmbiguousOptionsError
from japagen.listeners import Listener
from japagen.prompts import PromptLibrary
from japagen.running.data import TaskData
from japagen.running.stage_runner import StageRunner, fingerprint_of
from japagen.stages.asking import Asker
from japagen.storage.files import digest
from japagen.tasks.tasks import Task

_STAGE = "trust"


class LabelChecker:
    """Finds out how sure each synthetic text's label is.

    Args:
        task: Settings and labels.
        data: Gold; nothing else of it is read.
        asker: The generator, as one of the voters.
        stages: Where the result is kept.
    """

    def __init__(self, task: Task, data: TaskData, asker: Asker, stages: StageRunner) -> None:
        self._task = task
        self._gold = data.gold
        self._asker = asker
        self._stages = stages
        self._prompts = PromptLibrary(task.generation.prompts)
        self._labels = list(task.labels)

    def check(self, dataset: Dataset, *, ask: bool) -> Dataset:
        """Sets `weight_label`, and relabels or rejects what voters find to have another label.

        Without gold, for tags and numbers, or where the task trusts all labels alike, nothing
        changes.

        Args:
            dataset: Curated examples.
            ask: Whether the generator may be a voter.
        """
        from japagen.training.encoders import encoder_identity

        trust = self._task.alignment.label_trust
        if self._gold is None or trust == "none" or self._task.kind != "classification":
            return dataset
        info = self._asker.info if ask and trust == "pool" else None
        says = self._asker.can_choose or self._asker.can_score if info else False
        if info and info.prompt_kind == "document" and not says:
            info = None  # it writes, but does not say how likely it finds a label
        template = f"judge.{info.prompt_kind}" if info else None
        fingerprint = {
            "examples": dataset.fingerprint,
            "gold": fingerprint_of(self._gold),
            "encoder": encoder_identity(self._task.training.encoder),
            "max_length": self._task.training.max_length,
            "labels": dict(self._task.labels),
            "texts": [self._task.text_type, self._task.domain],
            "check": self._task.curation.model_dump(include={"label_miss", "label_confidence"}),
            "generator": info and info.identity,
            "template": template and digest(self._prompts.template_hash(template)),
            "seed": self._task.seed,
        }
        incomplete: list[str] = []

        def make() -> Dataset:
            assert self._gold is not None
            kept = dataset.kept  # nobody is asked about what is rejected already
            votes = [self._encoder_vote(kept)]
            if info:
                votes += self._generator_votes(kept, incomplete)
            return self._settle(dataset, votes) if votes else dataset

        checked = self._stages.dataset(_STAGE, "trusted.parquet", fingerprint, make)
        if incomplete:
            self._stages.directory.forget(_STAGE)
        return checked

    def _settle(self, dataset: Dataset, votes: Sequence[Vote]) -> Dataset:
        assert self._gold is not None
        targets = label_indices(self._gold, self._labels)
        on_gold = [vote.gold for vote in votes]
        pool = fit_pool(on_gold, targets)
        held_out = held_out_posterior(on_gold, targets, self._task.seed)
        right = held_out.argmax(axis=1) == targets
        said = ", ".join(f"{v.name} {w:.2f}" for v, w in zip(votes, pool.weights, strict=True))
        self._listener.note(
            f"Voters on labels ({said}): {right.mean():.0%} right on gold left out."
        )
        if not beats_guessing(held_out, targets):
            self._listener.note("That is no better than guessing: labels are taken as they are.")
            return dataset
        posterior = np.full((len(dataset), len(self._labels)), 1 / len(self._labels))
        posterior[dataset.kept_mask] = pool.posterior([vote.texts for vote in votes])
        curation = self._task.curation
        return settle_labels(
            dataset, self._labels, posterior, curation.label_miss, curation.label_confidence
        )

    @property
    def _listener(self) -> Listener:
        return self._stages.listener

    def _encoder_vote(self, dataset: Dataset) -> Vote:
        """The vote of heads on the frozen encoder, descriptions and all, as `train` fits them."""
        from japagen.training.frozen import FrozenTraining

        task, gold = self._task, self._gold
        assert gold is not None
        frozen = FrozenTraining(task.training.encoder, task.labels, task.training, gold.is_pair)
        on_gold, on_texts = (
            frozen.vectors(d.texts, d.column("text_pair")) for d in (gold, dataset)
        )
        return cross_fitted_vote(
            frozen.log_probabilities,
            on_gold,
            label_indices(gold, self._labels),
            on_texts,
            task.seed,
        )

    def _generator_votes(self, dataset: Dataset, incomplete: list[str]) -> list[Vote]:
        """The generator's vote, or none where it cannot be asked."""
        assert self._gold is not None
        questions = label_judge.plan_questions(dataset, self._gold, self._task.seed)
        try:
            scores = self._scores(questions, incomplete)
        except JapagenError as error:
            self._listener.note(f"The generator does not judge labels: {error.message}")
            return []
        return [label_judge.to_vote(questions, scores, len(self._gold), len(dataset))]

    def _scores(
        self, questions: Sequence[label_judge.Question], incomplete: list[str]
    ) -> list[list[float]]:
        """Weighed by a base model in this process, else by answers: with scores or as votes."""
        if self._asker.info.prompt_kind == "document" and self._asker.can_choose:
            try:
                return self._chosen(questions)
            except AmbiguousOptionsError:
                if not self._asker.can_score:
                    raise
        return self._answered(questions, incomplete)

    def _chosen(self, questions: Sequence[label_judge.Question]) -> list[list[float]]:
        """What a base model weighs the labels' names at, or letters where names begin alike."""
        try:
            return self._weighed(questions, self._labels)
        except AmbiguousOptionsError:
            return self._weighed(questions, label_judge.letters(self._labels))

    def _weighed(
        self, questions: Sequence[label_judge.Question], names: Sequence[str]
    ) -> list[list[float]]:
        documents = label_judge.documents(questions, self._task, self._prompts, names)
        scores: list[list[float]] = [[] for _ in documents]
        stream = self._asker.choose(documents, names)
        for index, row in self._listener.track(stream, len(documents), _STAGE):
            scores[index] = row
        return scores

    def _answered(
        self, questions: Sequence[label_judge.Question], incomplete: list[str]
    ) -> list[list[float]]:
        requests = label_judge.requests(questions, self._task, self._prompts, self._asker.info)
        asked = self._asker.ask(requests, _STAGE)
        incomplete.extend(asked.failures)
        answers: Mapping[str, Answer] = asked.answers
        return [label_judge.read_judgement(answers.get(r.id), self._labels) for r in requests]
