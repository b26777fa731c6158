"""Asks those who say which label a text has: heads on the encoder, and the generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from japagen.curation import label_judge
from japagen.curation.label_check import Vote, cross_fitted_vote, label_indices
from japagen.errors import JapagenError
from japagen.examples import Dataset
from japagen.generators.base import Answer, GeneratorInfo, Prompt
from japagen.generators.choosing import AmbiguousOptionsError
from japagen.listeners import Listener
from japagen.prompts import PromptLibrary
from japagen.stages.asking import Asker
from japagen.storage.files import digest
from japagen.tasks.tasks import Task


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
        templates = [f"judge.{generator.prompt_kind}"] if generator else []
        if generator and self._weighs_answers:
            templates.append("choose.chat")
        return {
            "gold": self._gold.fingerprint,
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

    def _encoder_vote(self, dataset: Dataset) -> Vote:
        """The vote of heads on the frozen encoder, descriptions and all, as `train` fits them."""
        from japagen.training.frozen import FrozenTraining

        task, gold = self._task, self._gold
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

    def _generator_votes(self, dataset: Dataset) -> list[Vote]:
        """The generator's vote, or none where it cannot be asked."""
        try:
            return [self._generator_vote(dataset)]
        except JapagenError as error:
            self._listener.note(f"The generator does not judge labels: {error.message}")
            # A server may be back the next time; labels that begin alike will not change.
            if not isinstance(error, AmbiguousOptionsError):
                self.unanswered.append(error.message)
            return []

    @property
    def _weighs_answers(self) -> bool:
        """Whether it is a chat model in this process, which judges without shots."""
        return self._asker.info.prompt_kind == "chat" and self._asker.can_choose

    def _generator_vote(self, dataset: Dataset) -> Vote:
        task, gold = self._task, self._gold
        if self._weighs_answers:
            # Refused where labels outnumber letters, or a record holds a server's answers.
            with suppress(AmbiguousOptionsError):
                return self._zero_shot_vote(dataset)
        questions = label_judge.plan_questions(dataset, gold, task.seed)
        scores = self._scores(questions)
        return label_judge.to_vote(questions, scores, len(gold), len(dataset))

    def _zero_shot_vote(self, dataset: Dataset) -> Vote:
        """What a chat model makes of each text by the labels' descriptions alone."""
        questions = label_judge.plan_zero_shot(dataset, self._gold)
        names = label_judge.letters(self._labels)
        turns = label_judge.zero_shot_turns(questions, self._task, self._prompts, names)
        scores = self._weighed(turns, names)
        name = self._asker.info.name
        return label_judge.to_vote(questions, scores, len(self._gold), len(dataset), name)

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
