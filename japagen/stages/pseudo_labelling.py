"""Labels real texts that nobody labelled, by the voters on labels, for training."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from japagen.curation.label_check import Vote, fit_pool, held_out_posterior, label_indices
from japagen.curation.reliability import estimate_accuracy
from japagen.examples import Dataset
from japagen.generators.packaged import QWEN, chat_model_installed
from japagen.running.data import TaskData
from japagen.running.stage_runner import StageRunner
from japagen.stages.asking import Asker
from japagen.stages.voting import Voters
from japagen.storage.files import digest, read_array, read_json, write_array, write_json
from japagen.storage.formats import load_dataset, write_examples
from japagen.tasks.generator_settings import GeneratorSettings
from japagen.tasks.tasks import Task
from japagen.training.pseudo_labels import PseudoLabels

_STAGE = "pseudo"
_ARRAY, _TEXTS, _FOUND = "pseudo.npy", "pseudo.parquet", "pseudo.json"
# Some unlabelled text is left for `japagen monitor`, which needs texts that were not learnt.
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
    own = task.generator_source is not None and task.generator != GeneratorSettings()
    if own or task.training.labeler != "auto" or not chat_model_installed():
        return None
    return GeneratorSettings(model=QWEN.key)


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
    texts, gold = sample_of(task, data), data.gold
    if texts is None:
        return Pseudo()
    if gold is None:
        return Pseudo(found=_none("no_gold"))
    if labeler := chat_labeler(task):
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
        task, gold, asker, stages.listener, _STAGE, learnt=learnt, text_weight=text_weight
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
        _STAGE,
        [_ARRAY, _TEXTS, _FOUND],
        fingerprint,
        lambda: _settle(task, gold, texts, voters.vote(texts, generator), voters.unanswered),
        lambda path, made: _save(path.parent, made),
        lambda path: _load(path.parent),
    )
    if voters.unanswered:
        stages.directory.forget(_STAGE)
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


def _save(directory: Path, made: Pseudo) -> None:
    write_json(directory / _FOUND, made.found)
    write_examples(directory / _TEXTS, made.texts or Dataset.of([]))
    write_array(directory / _ARRAY, made.labels.probabilities if made.labels else np.zeros((0, 0)))


def _load(directory: Path) -> Pseudo:
    found, posterior = read_json(directory / _FOUND), read_array(directory / _ARRAY)
    if not len(posterior):
        return Pseudo(found=found)
    labels = PseudoLabels(load_dataset(directory / _TEXTS), posterior, found["text_weight"])
    return Pseudo(labels, found)


def without_learnt(data: TaskData, pseudo: Pseudo) -> TaskData:
    """The task's texts less the unlabelled ones that the classifier has learnt from."""
    if pseudo.labels is None or data.unlabelled is None:
        return data
    learnt = {(e.text, e.text_pair) for e in pseudo.labels.texts}
    left = Dataset.of(e for e in data.unlabelled if (e.text, e.text_pair) not in learnt)
    return replace(data, unlabelled=left if len(left) else None)
