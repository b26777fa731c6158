"""The step "labels": label check and pseudo-labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from japagen.config.sections import GeneratorSettings
from japagen.config.task import Task
from japagen.config.task_data import TaskData
from japagen.curation import llm_judge
from japagen.curation.label_check import (
    Floats,
    Ints,
    Vote,
    cross_fitted_vote,
    fit_pool,
    held_out_posterior,
    verify_labels,
)
from japagen.curation.reliability import (
    Reliability,
    Writer,
    estimate_accuracy,
    estimate_reliability,
)
from japagen.data.dataset import Dataset
from japagen.data.files import digest, read_array, read_json, write_array, write_json
from japagen.data.formats import load_dataset, write_examples
from japagen.data.labels import PseudoLabels, label_indices
from japagen.errors import JapagenError
from japagen.listener import Listener
from japagen.llm.backend import AmbiguousOptionsError, Answer, GeneratorInfo, Prompt
from japagen.llm.backends.gguf_weights import QWEN, chat_model_installed
from japagen.llm.client import Asker
from japagen.llm.prompts import PromptLibrary
from japagen.pipeline.cache import StageRunner

if TYPE_CHECKING:
    from japagen.training.trainer import FrozenTraining


_STAGE = "trust"
_TEXTS, _RELIABILITY = "trusted.parquet", "reliability.json"


@dataclass(frozen=True)
class CheckedLabels:
    """What the label check made of the texts.

    Attributes:
        dataset: With `weight_label`, relabelled or rejected where the evidence says so.
        reliability: Of each source's labels; the prior where none were checked.
    """

    dataset: Dataset
    reliability: Mapping[str, Reliability]


class LabelChecker:
    """Finds out how sure each synthetic text's label is, and how reliable each source.

    Args:
        task: Settings and labels.
        data: Gold; nothing else of it is read.
        asker: The generator, as one of the labelers.
        stages: Where the result is kept.
    """

    def __init__(self, task: Task, data: TaskData, asker: Asker, stages: StageRunner) -> None:
        self._task = task
        # A repeated text would be held out and known at once.
        self._gold = data.gold.distinct if data.gold is not None else None
        self._asker = asker
        self._stages = stages
        self._labels = list(task.labels)

    def check(self, dataset: Dataset, *, ask: bool) -> CheckedLabels:
        """Sets `weight_label`, and relabels or rejects what most likely has another label.

        Without gold, for tags and numbers, or where the task trusts all labels alike, nothing
        changes.

        Args:
            dataset: Curated examples.
            ask: Whether the generator may be a labeler.
        """
        trust = self._task.alignment.label_trust
        if self._gold is None or trust == "none" or self._task.kind != "classification":
            names = dict.fromkeys(dataset.column("source"))
            return CheckedLabels(
                dataset, {name: estimate_reliability(None, self._prior(name)) for name in names}
            )
        voters = Voters(self._task, self._gold, self._asker, self._listener, _STAGE)
        generator = voters.generator if ask and trust == "pool" else None
        fingerprint = {
            "examples": dataset.fingerprint,
            "check": self._task.curation.model_dump(include={"label_miss", "label_confidence"}),
            "priors": {name: self._prior(name) for name in set(dataset.column("source"))},
            **voters.inputs(generator),
        }

        def make() -> CheckedLabels:
            # Nobody is asked about what is rejected already.
            return self._settle(dataset, voters, voters.vote(dataset.kept, generator))

        checked = self._stages.run(_STAGE, [_TEXTS, _RELIABILITY], fingerprint, make, _save, _load)
        if voters.unanswered:
            self._stages.directory.forget(_STAGE)
        return checked

    def _settle(self, dataset: Dataset, voters: Voters, votes: Sequence[Vote]) -> CheckedLabels:
        assert self._gold is not None
        names = dict.fromkeys(dataset.column("source"))
        curation = self._task.curation
        verified = verify_labels(
            dataset,
            label_indices(self._gold, self._labels),
            votes,
            (voters.vectors(self._gold), voters.vectors(dataset.kept)),
            labels=self._labels,
            priors={name: self._prior(name) for name in names},
            miss=curation.label_miss,
            least=curation.label_confidence,
            seed=self._task.seed,
        )
        said = ", ".join(f"{name} {weight:.2f}" for name, weight in verified.labelers.items())
        self._listener.note(f"Labelers ({said}): {verified.right:.0%} right on gold left out.")
        for name, found in verified.reliability.items():
            if found.evidence is not None:
                self._listener.note(
                    f"Labels of {name}: {found.accuracy(len(self._labels)):.0%} expected to be "
                    f"right; the labelers agree with {found.evidence.agreed} of "
                    f"{found.evidence.texts}."
                )
        return CheckedLabels(verified.dataset, verified.reliability)

    def _prior(self, source: str) -> Writer:
        own = source == self._task.generator_source
        return "base_model" if own and self._asker.info.prompt_kind == "document" else "writer"

    @property
    def _listener(self) -> Listener:
        return self._stages.listener


def _save(path: Path, checked: CheckedLabels) -> None:
    found = {name: value.to_dict() for name, value in checked.reliability.items()}
    write_json(path.parent / _RELIABILITY, found)
    write_examples(path, checked.dataset)


def _load(path: Path) -> CheckedLabels:
    found = read_json(path.parent / _RELIABILITY)
    return CheckedLabels(
        load_dataset(path), {name: Reliability.from_dict(value) for name, value in found.items()}
    )


_PSEUDO_STAGE = "pseudo"
_ARRAY, _PSEUDO_TEXTS, _FOUND = "pseudo.npy", "pseudo.parquet", "pseudo.json"
# Some unlabelled text is left for `japagen model monitor`, which needs texts that were not learnt.
_SHARE = 0.75


@dataclass(frozen=True)
class Pseudo:
    """What came of it.

    Attributes:
        labels: What to train on; None where nothing is.
        found: The grounds, JSON-ready; None where the task has no unlabelled text.
    """

    labels: PseudoLabels | None = None
    found: dict[str, Any] | None = None

    @property
    def texts(self) -> Dataset | None:
        """The texts to train on."""
        return self.labels.texts if self.labels else None


def sample_of(task: Task, data: TaskData) -> Dataset | None:
    """The unlabelled texts that voters would be asked about; None where there are none to ask.

    Texts that come to the file push few of the others out, so that most answers still serve.
    """
    settings, unlabelled = task.training, data.unlabelled
    if unlabelled is None or settings.pseudo_labels == "never" or task.kind != "classification":
        return None
    known = {(e.text, e.text_pair) for e in data.gold or ()}
    place: dict[int, str] = {}
    for row, example in enumerate(unlabelled):
        content = example.text, example.text_pair
        if content not in known:
            place[row] = digest([task.seed, *content])
            known.add(content)
    most = min(settings.pseudo_label_texts, int(_SHARE * len(place)))
    chosen = sorted(sorted(place, key=place.__getitem__)[:most])
    return unlabelled.take(chosen) if chosen else None


def chat_labeler(task: Task) -> GeneratorSettings | None:
    """The embedded chat model, where it shall label unlabelled texts in place of the generator.

    A base model of 270 million parameters knows little more of the labels than gold says, and a
    run on files alone has no generator.
    """
    own, default = task.generator, GeneratorSettings()
    chosen = (own.backend, own.model) != (default.backend, default.model)
    if task.training.labeler != "auto" or (task.generator_source is not None and chosen):
        return None
    return GeneratorSettings(model=QWEN.key) if chat_model_installed() else None


def pseudo_label(
    task: Task,
    data: TaskData,
    asker: Asker,
    stages: StageRunner,
    *,
    ask: bool,
    learnt: Dataset | None = None,
    text_weight: float = 0.0,
) -> Pseudo:
    """Has labelers label unlabelled texts: the generator, and all that the classifier learns from.

    Args:
        task: Settings and labels.
        data: Gold and unlabelled texts.
        asker: The generator, as one of the labelers.
        stages: Where the result is kept.
        ask: Whether the generator may be asked.
        learnt: Synthetic texts that are trained on; the encoder's vote knows them too.
        text_weight: Gold texts that one of them counts for on average.
    """
    texts, gold = sample_of(task, data), data.gold and data.gold.distinct
    if texts is None:
        return Pseudo()
    if gold is None:
        return Pseudo(found=_none("no_gold"))
    labeler = None if asker.given and ask else chat_labeler(task)
    if labeler is not None:
        with closing(asker.other(labeler)) as other:
            return _labelled(task, gold, texts, other, stages, True, learnt, text_weight)
    return _labelled(task, gold, texts, asker, stages, ask, learnt, text_weight)


def _labelled(
    task: Task,
    gold: Dataset,
    texts: Dataset,
    asker: Asker,
    stages: StageRunner,
    ask: bool,
    learnt: Dataset | None,
    text_weight: float,
) -> Pseudo:
    voters = Voters(
        task, gold, asker, stages.listener, _PSEUDO_STAGE, learnt=learnt, text_weight=text_weight
    )
    generator = voters.generator if ask else None
    if generator is None:
        # The texts would be labelled by what the classifier learns from anyway.
        return Pseudo(found=_none("no_generator"))
    fingerprint = {
        "unlabelled": texts.fingerprint,
        "columns": list(task.labels),  # their order is that of the probabilities
        "always": task.training.pseudo_labels == "always",
        **voters.inputs(generator),
    }
    made = stages.run(
        _PSEUDO_STAGE,
        [_ARRAY, _PSEUDO_TEXTS, _FOUND],
        fingerprint,
        lambda: _settle(task, gold, texts, voters.vote(texts, generator), voters.unanswered),
        lambda path, made: _save_pseudo(path.parent, made),
        lambda path: _load_pseudo(path.parent),
    )
    if voters.unanswered:
        stages.directory.forget(_PSEUDO_STAGE)
    return made


def _settle(
    task: Task,
    gold: Dataset,
    texts: Dataset,
    votes: Sequence[Vote],
    unanswered: Sequence[str],
) -> Pseudo:
    labels = list(task.labels)
    if unanswered:
        # What nobody has judged would be labelled by the encoder alone.
        return Pseudo(found=_none("unanswered"))
    if len(votes) < 2:
        return Pseudo(found=_none("no_generator"))
    targets, on_gold = label_indices(gold, labels), [vote.gold for vote in votes]
    pool = fit_pool(on_gold, targets)
    right = held_out_posterior(on_gold, targets, task.seed).argmax(axis=1) == targets
    accuracy = estimate_accuracy(int(right.sum()), len(right), len(labels))
    found: dict[str, Any] = {
        "voters": {v.name: round(float(w), 3) for v, w in zip(votes, pool.weights, strict=True)},
        "right": float(right.mean()),
        "reliability": accuracy.mean,
        "text_weight": accuracy.squared,
    }
    always = task.training.pseudo_labels == "always"
    if not always and not accuracy.text_weight:
        return Pseudo(found={**_none("guessing"), **found})
    posterior = pool.posterior([vote.texts for vote in votes])
    best = posterior.argmax(axis=1)
    named = texts.with_columns(
        label=[labels[i] for i in best], weight_label=posterior[np.arange(len(best)), best]
    )
    counts = {label: int((best == i).sum()) for i, label in enumerate(labels)}
    reason = "always" if always else "reliable"
    found = {"reason": reason, "texts": len(texts), "per_label": counts, **found}
    return Pseudo(PseudoLabels(named, posterior, accuracy.squared), found)


def _none(reason: str) -> dict[str, Any]:
    return {"reason": reason, "texts": 0}


def _save_pseudo(directory: Path, made: Pseudo) -> None:
    write_json(directory / _FOUND, made.found)
    write_examples(directory / _PSEUDO_TEXTS, made.texts or Dataset.of([]))
    write_array(directory / _ARRAY, made.labels.probabilities if made.labels else np.zeros((0, 0)))


def _load_pseudo(directory: Path) -> Pseudo:
    found, posterior = read_json(directory / _FOUND), read_array(directory / _ARRAY)
    if not len(posterior):
        return Pseudo(found=found)
    labels = PseudoLabels(load_dataset(directory / _PSEUDO_TEXTS), posterior, found["text_weight"])
    return Pseudo(labels, found)


def without_learnt(data: TaskData, pseudo: Pseudo) -> TaskData:
    """The task's texts less the unlabelled ones that the classifier has learnt from."""
    if pseudo.labels is None or data.unlabelled is None:
        return data
    learnt = {(e.text, e.text_pair) for e in pseudo.labels.texts}
    left = Dataset.of(e for e in data.unlabelled if (e.text, e.text_pair) not in learnt)
    return replace(data, unlabelled=left if len(left) else None)


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
        from japagen.training.encoder import encoder_identity

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
            "texts": [task.text_type, task.domain, task.label_type],
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
        from japagen.training.trainer import FrozenTraining

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

    def judge(self, questions: Sequence[llm_judge.Question]) -> list[list[float]]:
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
                questions = llm_judge.plan_zero_shot(dataset, gold)
                scores = self._zero_shot(questions)
                return llm_judge.to_vote(questions, scores, *counts, self._asker.info.name)
        questions = llm_judge.plan_questions(dataset, gold, task.seed)
        return llm_judge.to_vote(questions, self._scores(questions), *counts)

    def _zero_shot(self, questions: Sequence[llm_judge.Question]) -> list[list[float]]:
        """What a chat model makes of each text by the labels' descriptions alone."""
        names = llm_judge.letters(self._labels)
        turns = llm_judge.zero_shot_turns(questions, self._task, self._prompts, names)
        return self._weighed(turns, names)

    def _scores(self, questions: Sequence[llm_judge.Question]) -> list[list[float]]:
        """Weighed by a base model in this process, else by answers: with scores or as votes."""
        if self._asker.info.prompt_kind == "document" and self._asker.can_choose:
            try:
                return self._chosen(questions)
            except AmbiguousOptionsError:
                if not self._asker.can_score:
                    raise
        return self._answered(questions)

    def _chosen(self, questions: Sequence[llm_judge.Question]) -> list[list[float]]:
        """What a base model weighs the labels' names at, or letters where names begin alike."""
        try:
            return self._weighed(self._documents(questions, self._labels), self._labels)
        except AmbiguousOptionsError:
            names = llm_judge.letters(self._labels)
            return self._weighed(self._documents(questions, names), names)

    def _documents(
        self, questions: Sequence[llm_judge.Question], names: Sequence[str]
    ) -> list[str]:
        return llm_judge.documents(questions, self._task, self._prompts, names)

    def _weighed(self, prompts: Sequence[Prompt], names: Sequence[str]) -> list[list[float]]:
        scores: list[list[float]] = [[] for _ in prompts]
        stream = self._asker.choose(prompts, names)
        for index, row in self._listener.track(stream, len(prompts), self._stage):
            scores[index] = row
        return scores

    def _answered(self, questions: Sequence[llm_judge.Question]) -> list[list[float]]:
        requests = llm_judge.requests(questions, self._task, self._prompts, self._asker.info)
        asked = self._asker.ask(requests, self._stage)
        self.unanswered.extend(asked.failures)
        answers: Mapping[str, Answer] = asked.answers
        return [llm_judge.read_judgement(answers.get(r.id), self._labels) for r in requests]
