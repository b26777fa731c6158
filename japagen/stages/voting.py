"""Asks those who say which label a text has: heads on the encoder, and the generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from japagen.curation import label_judge
from japagen.curation.label_check import Floats, Ints, Vote, cross_fitted_vote, label_indices
from japagen.errors import JapagenError
from japagen.examples import Dataset
from japagen.generators.base import Answer, GeneratorInfo, Prompt
from japagen.generators.choosing import AmbiguousOptionsError
from japagen.listeners import Listener
from japagen.prompts import PromptLibrary
from japagen.stages.asking import Asker
from japagen.storage.files import digest
from japagen.tasks.tasks import Task

if TYPE_CHECKING:
    from japagen.training.frozen import FrozenTraining

_TINY = 1e-12


class Voters:
    """The voters of a run, who have gold to learn from.

    Args:
        task: Settings and labels.
        gold: Labelled texts.
        asker: The generator.
        listener: Told of the progress.
        stage: What they are asked for, as progress and the ledger name it.
        learnt: Texts that the encoder's vote learns from beside gold.
        text_weight: Gold texts that one of them counts for on average.
    """

    def __init__(
        self,
        task: Task,
        gold: Dataset,
        asker: Asker,
        listener: Listener,
        stage: str,
        *,
        learnt: Dataset | None = None,
        text_weight: float = 0.0,
    ) -> None:
        self._task = task
        self._gold = gold
        self._asker = asker
        self._listener = listener
        self._stage = stage
        self._learnt = learnt.kept if learnt is not None else None
        self._text_weight = text_weight
        self._prompts = PromptLibrary(task.generation.prompts)
        self._labels = list(task.labels)
        self._vectors: dict[str, Floats] = {}
        self.unanswered: list[str] = []

    @property
    def generator(self) -> GeneratorInfo | None:
        """The generator, if it can say what it makes of a label."""
        info = self._asker.info
        says = self._asker.can_choose or self._asker.can_score
        # Else it writes, but does not say how likely it finds a label.
        return None if info.prompt_kind == "document" and not says else info

    def inputs(self, generator: GeneratorInfo | None) -> dict[str, Any]:
        """What the votes depend on besides the texts.

        Args:
            generator: That of `generator`; None where it is not asked.
        """
        from japagen.training.encoders import encoder_identity

        task = self._task
        learnt = self._learnt and [self._learnt.fingerprint, self._text_weight]
        templates = [f"judge.{generator.prompt_kind}"] if generator else []
        if generator and self._weighs_answers:
            templates.append("choose.chat")
        return {
            "gold": self._gold.fingerprint,
            "learnt": learnt,
            "encoder": encoder_identity(task.training.encoder),
            "max_length": task.training.max_length,
            "labels": dict(task.labels),
            "texts": [task.text_type, task.domain],
            "generator": generator and generator.identity,
            "template": [digest(self._prompts.template_hash(name)) for name in templates],
            "seed": task.seed,
        }

    def vote(self, texts: Dataset, generator: GeneratorInfo | None) -> list[Vote]:
        """The encoder's vote, and behind it the generator's where it is asked and answers.

        What got no answer stands in `unanswered` afterwards: such a text is voted for as if every
        label were as likely, and what comes of these votes should not be kept.

        Args:
            texts: What to vote on.
            generator: That of `generator`; None where it is not asked.
        """
        found = [self._encoder_vote(texts)]
        if generator:
            found += self._generator_votes(texts)
        return found

    def vectors(self, dataset: Dataset) -> Floats:
        """What a head on the frozen encoder sees of the texts, made once, shape (rows, width)."""
        if dataset.fingerprint not in self._vectors:
            found = self._frozen.vectors(dataset.texts, dataset.column("text_pair"))
            self._vectors[dataset.fingerprint] = found
        return self._vectors[dataset.fingerprint]

    @cached_property
    def _frozen(self) -> FrozenTraining:
        from japagen.training.frozen import FrozenTraining

        task = self._task
        return FrozenTraining(task.training.encoder, task.labels, task.training, self._gold.is_pair)

    def _encoder_vote(self, dataset: Dataset) -> Vote:
        """The vote of heads on the frozen encoder, descriptions and all, as `train` fits them."""
        return cross_fitted_vote(
            self._fit,
            self.vectors(self._gold),
            label_indices(self._gold, self._labels),
            self.vectors(dataset),
            self._task.seed,
        )

    def _fit(self, seen: Floats, targets: Ints, others: Floats) -> Floats:
        """Log-probabilities of others under a head that learnt from gold and the texts beside."""
        if self._learnt is None:
            return self._frozen.log_probabilities(seen, targets, others)
        weights = self._text_weight * self._learnt.weights
        found = self._frozen.probabilities(
            np.concatenate([seen, self.vectors(self._learnt)]),
            np.concatenate([targets, label_indices(self._learnt, self._labels)]),
            np.concatenate([np.ones(len(seen)), weights]),
            others,
        )
        return np.asarray(np.log(np.maximum(found, _TINY)))

    def _generator_votes(self, dataset: Dataset) -> list[Vote]:
        """The generator's vote, or none where it cannot be asked."""
        try:
            return [self._generator_vote(dataset)]
        except JapagenError as error:
            self._refused(error)
            return []

    def judge(self, questions: Sequence[label_judge.Question]) -> list[list[float]]:
        """What the generator makes of each label, for questions without shots.

        What got no answer stands in `unanswered` afterwards.

        Returns:
            A row for each question; nothing if it cannot say.
        """
        try:
            if self._weighs_answers:
                with suppress(AmbiguousOptionsError):
                    return self._zero_shot(questions)
            return self._scores(questions)
        except JapagenError as error:
            self._refused(error)
            return []

    def _refused(self, error: JapagenError) -> None:
        self._listener.note(f"The generator does not judge labels: {error.message}")
        # A server may be back the next time; labels that begin alike will not change.
        if not isinstance(error, AmbiguousOptionsError):
            self.unanswered.append(error.message)

    @property
    def _weighs_answers(self) -> bool:
        """Whether it is a chat model in this process, which judges without shots."""
        return self._asker.info.prompt_kind == "chat" and self._asker.can_choose

    def _generator_vote(self, dataset: Dataset) -> Vote:
        task, gold = self._task, self._gold
        counts = len(gold), len(dataset)
        if self._weighs_answers:
            # Refused where labels outnumber letters, or a record holds a server's answers.
            with suppress(AmbiguousOptionsError):
                questions = label_judge.plan_zero_shot(dataset, gold)
                scores = self._zero_shot(questions)
                return label_judge.to_vote(questions, scores, *counts, self._asker.info.name)
        questions = label_judge.plan_questions(dataset, gold, task.seed)
        return label_judge.to_vote(questions, self._scores(questions), *counts)

    def _zero_shot(self, questions: Sequence[label_judge.Question]) -> list[list[float]]:
        """What a chat model makes of each text by the labels' descriptions alone."""
        names = label_judge.letters(self._labels)
        turns = label_judge.zero_shot_turns(questions, self._task, self._prompts, names)
        return self._weighed(turns, names)

    def _scores(self, questions: Sequence[label_judge.Question]) -> list[list[float]]:
        """Weighed by a base model in this process, else by answers: with scores or as votes."""
        if self._asker.info.prompt_kind == "document" and self._asker.can_choose:
            try:
                return self._chosen(questions)
            except AmbiguousOptionsError:
                if not self._asker.can_score:
                    raise
        return self._answered(questions)

    def _chosen(self, questions: Sequence[label_judge.Question]) -> list[list[float]]:
        """What a base model weighs the labels' names at, or letters where names begin alike."""
        try:
            return self._weighed(self._documents(questions, self._labels), self._labels)
        except AmbiguousOptionsError:
            names = label_judge.letters(self._labels)
            return self._weighed(self._documents(questions, names), names)

    def _documents(
        self, questions: Sequence[label_judge.Question], names: Sequence[str]
    ) -> list[str]:
        return label_judge.documents(questions, self._task, self._prompts, names)

    def _weighed(self, prompts: Sequence[Prompt], names: Sequence[str]) -> list[list[float]]:
        scores: list[list[float]] = [[] for _ in prompts]
        stream = self._asker.choose(prompts, names)
        for index, row in self._listener.track(stream, len(prompts), self._stage):
            scores[index] = row
        return scores

    def _answered(self, questions: Sequence[label_judge.Question]) -> list[list[float]]:
        requests = label_judge.requests(questions, self._task, self._prompts, self._asker.info)
        asked = self._asker.ask(requests, self._stage)
        self.unanswered.extend(asked.failures)
        answers: Mapping[str, Answer] = asked.answers
        return [label_judge.read_judgement(answers.get(r.id), self._labels) for r in requests]
