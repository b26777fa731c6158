"""The step "labels": label check and pseudo-labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from japagen.config.curation import Curation
from japagen.config.generation import GeneratorSettings
from japagen.config.task import Task
from japagen.config.task_data import TaskData
from japagen.curation import llm_judge
from japagen.curation.label_check import (
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
from japagen.data.files import digest
from japagen.data.labels import Floats, Ints, PseudoLabels, label_indices
from japagen.errors import JapagenError
from japagen.llm.backend import AmbiguousOptionsError
from japagen.llm.backends.gguf_weights import QWEN, chat_model_installed
from japagen.llm.client import LLMClient
from japagen.pipeline.cache import Step, only
from japagen.pipeline.context import Asking, RunContext, TextEncoder, need_some

if TYPE_CHECKING:
    from japagen.training.trainer import FrozenTraining

T = TypeVar("T")
_TRUST = Step("trust", 5, ("trusted.parquet", "reliability.json"))
_PSEUDO = Step("pseudo", 2, ("pseudo.npy", "pseudo.parquet", "pseudo.json"))


@dataclass(frozen=True)
class CheckedLabels:
    """What the label check made of the texts.

    Attributes:
        dataset: With `weight_label`, relabelled or rejected where the evidence says so.
        reliability: Of each source's labels; the prior where none were checked.
    """

    dataset: Dataset
    reliability: Mapping[str, Reliability]


def check_labels(run: RunContext, texts: Dataset, *, ask: bool) -> CheckedLabels:
    """Finds out how sure each synthetic text's label is, and how reliable each source.

    Sets `weight_label`, and relabels or rejects what most likely has another label. Without gold,
    for tags and numbers, or where the task trusts all labels alike, nothing changes.
    """
    task, gold = run.task, run.data.gold
    trust = task.alignment.label_trust
    priors = {name: _prior(run, name) for name in dict.fromkeys(texts.column("source"))}
    if gold is None or trust == "none" or task.kind != "classification":
        return CheckedLabels(
            texts, {name: estimate_reliability(None, prior) for name, prior in priors.items()}
        )
    judge = Judge.of(run, run.client, _TRUST) if ask and trust == "pool" else None
    checked, reliability = run.cache.step(
        _TRUST,
        _settle,
        uses={"note": run.listener.note},
        unanswered=judge.unanswered if judge else (),
        texts=texts,
        labelers=Labelers.of(run, judge),
        priors=priors,
        settings=only(task.curation, "label_miss", "label_confidence"),
    )
    found = {name: Reliability.from_dict(value) for name, value in reliability.items()}
    return CheckedLabels(need_some(run, checked, _TRUST), found)


def _settle(
    texts: Dataset,
    labelers: Labelers,
    priors: Mapping[str, Writer],
    settings: Curation,
    note: Callable[[str], None],
) -> tuple[Dataset, dict[str, Any]]:
    # Nobody is asked about what is rejected already.
    kept, labels = texts.kept, labelers.labels
    verified = verify_labels(
        texts,
        labelers.targets,
        labelers.vote(kept),
        (labelers.features(labelers.gold), labelers.features(kept)),
        labels=labels,
        priors=priors,
        miss=settings.label_miss,
        least=settings.label_confidence,
        seed=labelers.task.seed,
    )
    said = ", ".join(f"{name} {weight:.2f}" for name, weight in verified.labelers.items())
    note(f"Labelers ({said}): {verified.right:.0%} right on gold left out.")
    for name, found in verified.reliability.items():
        if found.evidence is not None:
            note(
                f"Labels of {name}: {found.accuracy(len(labels)):.0%} expected to be "
                f"right; the labelers agree with {found.evidence.agreed} of "
                f"{found.evidence.texts}."
            )
    reliability = {name: value.to_dict() for name, value in verified.reliability.items()}
    return verified.dataset, reliability


def _prior(run: RunContext, source: str) -> Writer:
    own = source == run.task.generator_source
    return "base_model" if own and run.client.info.prompt_kind == "document" else "writer"


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
    """The unlabelled texts that labelers would be asked about; None where there are none to ask.

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
    run: RunContext, learnt: Dataset | None = None, text_weight: float = 0.0, *, ask: bool
) -> Pseudo:
    """Has labelers label unlabelled texts: the generator, and all that the classifier learns from.

    The encoder's vote knows the synthetic texts ``learnt`` too, each as ``text_weight`` gold texts.
    """
    texts, gold = sample_of(run.task, run.data), run.data.gold
    if texts is None:
        return Pseudo()
    if gold is None:
        return Pseudo(found=_none("no_gold"))
    named = None if run.client.given and ask else chat_labeler(run.task)
    client = run.client if named is None else run.client.other(named)
    with closing(client) if named else nullcontext():
        judge = Judge.of(run, client, _PSEUDO) if ask or named else None
        if judge is None:
            # The texts would be labelled by what the classifier learns from anyway.
            return Pseudo(found=_none("no_generator"))
        probabilities, labelled, found = run.cache.step(
            _PSEUDO,
            _label,
            unanswered=judge.unanswered,
            texts=texts,
            labelers=Labelers.of(run, judge, learnt, text_weight),
            always=run.task.training.pseudo_labels == "always",
        )
    if not len(probabilities):
        return Pseudo(found=found)
    return Pseudo(PseudoLabels(labelled, probabilities, found["text_weight"]), found)


Labelled = tuple[Floats, Dataset, dict[str, Any]]


def _label(texts: Dataset, labelers: Labelers, always: bool) -> Labelled:
    """Probabilities of the labels, the texts with the likeliest, and the grounds."""
    labels, targets = labelers.labels, labelers.targets
    votes = labelers.vote(texts)
    if labelers.judge and labelers.judge.unanswered:
        # What nobody has judged would be labelled by the encoder alone.
        return _unlabelled("unanswered")
    if len(votes) < 2:
        return _unlabelled("no_generator")
    on_gold = [vote.gold for vote in votes]
    pool = fit_pool(on_gold, targets)
    right = held_out_posterior(on_gold, targets, labelers.task.seed).argmax(axis=1) == targets
    accuracy = estimate_accuracy(int(right.sum()), len(right), len(labels))
    found: dict[str, Any] = {
        "labelers": {v.name: round(float(w), 3) for v, w in zip(votes, pool.weights, strict=True)},
        "right": float(right.mean()),
        "reliability": accuracy.mean,
        "text_weight": accuracy.squared,
    }
    if not always and not accuracy.text_weight:
        return _unlabelled("guessing", found)
    posterior = pool.posterior([vote.texts for vote in votes])
    best = posterior.argmax(axis=1)
    named = texts.with_columns(
        label=[labels[i] for i in best], weight_label=posterior[np.arange(len(best)), best]
    )
    counts = {label: int((best == i).sum()) for i, label in enumerate(labels)}
    reason = "always" if always else "reliable"
    found = {"reason": reason, "texts": len(texts), "per_label": counts, **found}
    return posterior, named, found


def _none(reason: str) -> dict[str, Any]:
    return {"reason": reason, "texts": 0}


def _unlabelled(reason: str, found: Mapping[str, Any] | None = None) -> Labelled:
    return np.zeros((0, 0)), Dataset.of([]), {**_none(reason), **(found or {})}


_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Judge(Asking):
    """A generator that says which label a text has.

    A text without an answer is judged as if every label were as likely.
    """

    @classmethod
    def of(cls, run: RunContext, client: LLMClient, stage: Step) -> Judge | None:
        """The generator of a run, or another one; None where it does not judge labels."""
        kind = client.info.prompt_kind
        if kind == "document" and not (client.can_choose or client.can_score):
            # It writes, but does not say how likely it finds a label.
            return None
        names = [f"judge.{kind}"]
        if kind == "chat" and client.can_choose:
            names.append("choose.chat")
        task = only(run.task, "labels", "text_type", "domain", "label_type", "seed")
        return cls.through(client, run, stage.name, names, task=task)

    def votes(self, texts: Dataset, gold: Dataset) -> list[Vote]:
        """Its vote on the texts and on gold, or none where it cannot be asked."""
        return self._unless_refused(lambda: [self._vote(texts, gold)])

    def judge(self, questions: Sequence[llm_judge.Question]) -> list[list[float]]:
        """What it makes of each label, for questions without shots.

        Returns:
            A row for each question; nothing if it cannot say.
        """

        def scores() -> list[list[float]]:
            if self._weighs_answers:
                with suppress(AmbiguousOptionsError):
                    return self._zero_shot(questions)
            return self._scores(questions)

        return self._unless_refused(scores)

    def _unless_refused(self, ask: Callable[[], list[T]]) -> list[T]:
        try:
            return ask()
        except JapagenError as error:
            self.listener.note(f"The generator does not judge labels: {error.message}")
            # A server may be back the next time; labels that begin alike will not change.
            if not isinstance(error, AmbiguousOptionsError):
                self.unanswered.append(error.message)
            return []

    @property
    def _weighs_answers(self) -> bool:
        """Whether it is a chat model in this process, which judges without shots."""
        return self.generator.prompt_kind == "chat" and self.client.can_choose

    def _vote(self, texts: Dataset, gold: Dataset) -> Vote:
        counts = len(gold), len(texts)
        if self._weighs_answers:
            # Refused where labels outnumber letters, or a record holds a server's answers.
            with suppress(AmbiguousOptionsError):
                questions = llm_judge.plan_zero_shot(texts, gold)
                scores = self._zero_shot(questions)
                return llm_judge.to_vote(questions, scores, *counts, self.generator.name)
        questions = llm_judge.plan_questions(texts, gold, self.task.seed)
        return llm_judge.to_vote(questions, self._scores(questions), *counts)

    def _zero_shot(self, questions: Sequence[llm_judge.Question]) -> list[list[float]]:
        """What a chat model makes of each text by the labels' descriptions alone."""
        names = llm_judge.letters(list(self.task.labels))
        return self._weighed(questions, names, zero_shot=True)

    def _scores(self, questions: Sequence[llm_judge.Question]) -> list[list[float]]:
        """Weighed by a base model in this process, else by answers: with scores or as votes."""
        if self.generator.prompt_kind == "document" and self.client.can_choose:
            try:
                return self._chosen(questions)
            except AmbiguousOptionsError:
                if not self.client.can_score:
                    raise
        return self._answered(questions)

    def _chosen(self, questions: Sequence[llm_judge.Question]) -> list[list[float]]:
        """What a base model weighs the labels' names at, or letters where names begin alike."""
        names = list(self.task.labels)
        try:
            return self._weighed(questions, names)
        except AmbiguousOptionsError:
            return self._weighed(questions, llm_judge.letters(names))

    def _weighed(
        self,
        questions: Sequence[llm_judge.Question],
        names: Sequence[str],
        *,
        zero_shot: bool = False,
    ) -> list[list[float]]:
        prompts = llm_judge.weighing_prompts(
            questions, self.task, self.prompts, names, zero_shot=zero_shot
        )
        scores: list[list[float]] = [[] for _ in prompts]
        stream = self.client.choose(prompts, names)
        for index, row in self.listener.track(stream, len(prompts), self.stage):
            scores[index] = row
        return scores

    def _answered(self, questions: Sequence[llm_judge.Question]) -> list[list[float]]:
        requests = llm_judge.requests(questions, self.task, self.prompts, self.generator)
        answers, labels = self.ask(requests), list(self.task.labels)
        return [llm_judge.read_judgement(answers.get(r.id), labels) for r in requests]


@dataclass(frozen=True)
class Labelers:
    """The labelers of a run, who have gold to learn from: the encoder, and perhaps the generator.

    Attributes:
        task: Labels with descriptions, the length that is read of a text, and the seed of folds.
        gold: Labelled texts, each of them once: a repeated one would be held out and known at once.
        encoder: Votes through heads on its vectors, as `train` fits them.
        judge: The generator; None where it is not asked.
        learnt: Texts that the encoder's vote learns from beside gold.
        text_weight: Gold texts that one of them counts for on average.
    """

    task: Task
    gold: Dataset
    encoder: TextEncoder
    judge: Judge | None
    learnt: Dataset | None = None
    text_weight: float = 0.0

    @classmethod
    def of(
        cls, run: RunContext, judge: Judge | None, learnt: Dataset | None = None, weight: float = 0
    ) -> Labelers:
        """Those of a run that has gold."""
        assert run.data.gold is not None
        gold = run.data.gold.distinct.only("text", "text_pair", "label")
        training = only(run.task.training, "max_length")
        task = only(run.task, "labels", "seed", training=training)
        return cls(task, gold, run.encoder, judge, learnt and learnt.kept, weight)

    @property
    def labels(self) -> list[str]:
        """Every label, in the task's order."""
        return list(self.task.labels)

    @property
    def targets(self) -> Ints:
        """Label index of each gold text."""
        return label_indices(self.gold, self.labels)

    def vote(self, texts: Dataset) -> list[Vote]:
        """The encoder's vote, and behind it the generator's where it is asked and answers."""
        on_gold, on_texts = self.features(self.gold), self.features(texts)
        vote = cross_fitted_vote(self._fit, on_gold, self.targets, on_texts, self.task.seed)
        return [vote, *(self.judge.votes(texts, self.gold) if self.judge else ())]

    def features(self, texts: Dataset) -> Floats:
        """What a head on the frozen encoder sees of the texts, shape (rows, width)."""
        return self._frozen.features(texts)

    @property
    def _frozen(self) -> FrozenTraining:
        length = self.task.training.max_length
        return self.encoder.frozen(self.task.labels, length, self.gold.is_pair)

    def _fit(self, seen: Floats, targets: Ints, others: Floats) -> Floats:
        """Log-probabilities of others under a head that learnt from gold and the texts beside."""
        if self.learnt is None:
            return self._frozen.log_probabilities(seen, targets, others)
        found = self._frozen.probabilities(
            np.concatenate([seen, self.features(self.learnt)]),
            np.concatenate([targets, label_indices(self.learnt, self.labels)]),
            np.concatenate([np.ones(len(seen)), self.text_weight * self.learnt.weights]),
            others,
        )
        return np.asarray(np.log(np.maximum(found, _TINY)))
