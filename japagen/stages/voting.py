"""Asks those who say which label a text has: heads on the encoder, and the generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from japagen.curation import label_judge
from japagen.curation.label_check import Floats, Vote, cross_fitted_vote, label_indices
from japagen.errors import JapagenError
from japagen.examples import Dataset
from japagen.generators.base import Answer, GeneratorInfo
from japagen.generators.choosing import AmbiguousOptionsError
from japagen.listeners import Listener
from japagen.prompts import PromptLibrary
from japagen.stages.asking import Asker
from japagen.storage.files import digest
from japagen.tasks.tasks import Task

if TYPE_CHECKING:
    from japagen.training.frozen import FrozenTraining


class Voters:
    """The voters of a run, who have gold to learn from.

    Args:
        task: Settings and labels.
        gold: Labelled texts.
        asker: The generator.
        listener: Told of the progress.
        stage: What they are asked for, as progress and the ledger name it.
    """

    def __init__(
        self, task: Task, gold: Dataset, asker: Asker, listener: Listener, stage: str
    ) -> None:
        self._task = task
        self._gold = gold
        self._asker = asker
        self._listener = listener
        self._stage = stage
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
        template = f"judge.{generator.prompt_kind}" if generator else None
        return {
            "gold": self._gold.fingerprint,
            "encoder": encoder_identity(task.training.encoder),
            "max_length": task.training.max_length,
            "labels": dict(task.labels),
            "texts": [task.text_type, task.domain],
            "generator": generator and generator.identity,
            "template": template and digest(self._prompts.template_hash(template)),
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
            self._frozen.log_probabilities,
            self.vectors(self._gold),
            label_indices(self._gold, self._labels),
            self.vectors(dataset),
            self._task.seed,
        )

    def _generator_votes(self, dataset: Dataset) -> list[Vote]:
        """The generator's vote, or none where it cannot be asked."""
        questions = label_judge.plan_questions(dataset, self._gold, self._task.seed)
        scores = self.judge(questions)
        if not scores:
            return []
        return [label_judge.to_vote(questions, scores, len(self._gold), len(dataset))]

    def judge(self, questions: Sequence[label_judge.Question]) -> list[list[float]]:
        """What the generator makes of each label, for each question; nothing if it cannot say.

        What got no answer stands in `unanswered` afterwards.
        """
        try:
            return self._scores(questions)
        except JapagenError as error:
            self._listener.note(f"The generator does not judge labels: {error.message}")
            # A server may be back the next time; labels that begin alike will not change.
            if not isinstance(error, AmbiguousOptionsError):
                self.unanswered.append(error.message)
            return []

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
            return self._weighed(questions, self._labels)
        except AmbiguousOptionsError:
            return self._weighed(questions, label_judge.letters(self._labels))

    def _weighed(
        self, questions: Sequence[label_judge.Question], names: Sequence[str]
    ) -> list[list[float]]:
        documents = label_judge.documents(questions, self._task, self._prompts, names)
        scores: list[list[float]] = [[] for _ in documents]
        stream = self._asker.choose(documents, names)
        for index, row in self._listener.track(stream, len(documents), self._stage):
            scores[index] = row
        return scores

    def _answered(self, questions: Sequence[label_judge.Question]) -> list[list[float]]:
        requests = label_judge.requests(questions, self._task, self._prompts, self._asker.info)
        asked = self._asker.ask(requests, self._stage)
        self.unanswered.extend(asked.failures)
        answers: Mapping[str, Answer] = asked.answers
        return [label_judge.read_judgement(answers.get(r.id), self._labels) for r in requests]
