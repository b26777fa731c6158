"""LLM-as-a-judge: the generator is asked which label a text has, or to score it by a rubric.

Most generators are shown labelled gold. It is split into folds, and each prompt shows all folds but
one. Every prompt judges every text, and the gold texts that it does not show: so gold is scored by
prompts without it, as in cross-fitting, and the scores of the other texts are means over several
sets and orders of shots, on which a small model's judgement depends a great deal.

A base model continues a document, and its vote is the log-probability of each label's first token
behind ``分類：``. A chat model answers in JSON, and its vote is the log-probability of each label
where the server tells it; elsewhere its answers are counted.

A chat model in this process reads slowly and knows what descriptions mean: it is asked once about
each text and shown no gold, so that only the text is read again. Its vote is the log-probability of
each label's letter as the first token of its answer.

A rubric (`rubric_requests`) is for chat models alone: each text is scored by itself, from 1 to 5 on
each criterion, with the label and the register that it is meant to have.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from japagen.config.task import Task
from japagen.curation.label_check import Vote
from japagen.data.dataset import Dataset, Example, Rejection, assign_folds
from japagen.japanese.registers import OTHER
from japagen.llm.answers import one_line, read_label, read_scores
from japagen.llm.backend import (
    AmbiguousOptionsError,
    Answer,
    GeneratorInfo,
    Prompt,
    PromptKind,
    Request,
    Sampling,
)
from japagen.llm.prompts import PromptLibrary
from japagen.llm.requests import make_request

FOLDS = 4
RUBRIC = "rubric"
_TEMPLATE = "judge"
_ZERO_SHOT = "choose"
_MOST_CHARACTERS = 200  # of one text
_SHOT_CHARACTERS = 2200  # of all shots together: they fit a context of 2048 tokens
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Question:
    """One text to be judged by one prompt.

    Attributes:
        fold: The fold of gold that the prompt does not show; 0 where none is shown.
        gold: Whether the text is of the gold set.
        row: Its row there, or among the texts to check.
        text: The text, on one line.
        shots: What the prompt shows, in order: text and label; empty where it shows none.
    """

    fold: int
    gold: bool
    row: int
    text: str
    shots: tuple[tuple[str, str], ...]


def plan_questions(texts: Dataset, gold: Dataset, seed: int) -> list[Question]:
    """Plans a question per text and fold, and one per gold text; those of a fold stand together.

    Args:
        texts: What to judge.
        gold: Labelled texts; every label should have at least two.
        seed: Of the folds and of the order of the shots.
    """
    own = assign_folds(np.unique(gold.labels, return_inverse=True)[1], FOLDS, seed)
    shown, asked = _one_line_each(gold), _one_line_each(texts)
    # One shot of every label has to fit, however many labels there are.
    most = _SHOT_CHARACTERS // len(set(gold.labels))
    short = [text[:most] for text in shown]
    questions = []
    for fold in range(FOLDS):
        rows = [i for i in range(len(gold)) if own[i] != fold]
        shots = tuple(
            (short[i], str(gold.labels[i])) for i in _fitting(rows, gold, short, seed, fold)
        )
        for row in np.flatnonzero(own == fold).tolist():
            questions.append(Question(fold, True, row, shown[row], shots))
        questions += [Question(fold, False, row, text, shots) for row, text in enumerate(asked)]
    return questions


def plan_zero_shot(texts: Dataset, gold: Dataset) -> list[Question]:
    """Plans one question per text and per gold text, without shots.

    Args:
        texts: What to judge.
        gold: Labelled texts.
    """
    return [
        Question(0, is_gold, row, text, ())
        for is_gold, data in ((True, gold), (False, texts))
        for row, text in enumerate(_one_line_each(data))
    ]


def _fitting(
    rows: Sequence[int], gold: Dataset, shown: Sequence[str], seed: int, fold: int
) -> list[int]:
    """As many shots as there is room for, labels in turn, in a random order."""
    rng = random.Random(f"{seed}/judge/{fold}")
    by_label: dict[str, list[int]] = {}
    for row in rows:
        by_label.setdefault(str(gold.labels[row]), []).append(row)
    for own in by_label.values():
        rng.shuffle(own)
    chosen: list[int] = []
    room = _SHOT_CHARACTERS
    for turn in range(max(map(len, by_label.values()), default=0)):
        taken = [own[turn] for own in by_label.values() if turn < len(own)]
        room -= sum(len(shown[row]) for row in taken)
        if room < 0 and chosen:
            break
        chosen += taken
    rng.shuffle(chosen)
    return chosen


def _one_line_each(data: Dataset) -> list[str]:
    pairs = data.column("text_pair") if data.is_pair else [None] * len(data)
    return [
        one_line(text)[:_MOST_CHARACTERS]
        + ("" if pair is None else " ／ " + one_line(pair)[:_MOST_CHARACTERS])
        for text, pair in zip(data.texts, pairs, strict=True)
    ]


def weighing_prompts(
    questions: Sequence[Question],
    task: Task,
    prompts: PromptLibrary,
    names: Sequence[str],
    *,
    zero_shot: bool = False,
) -> list[Prompt]:
    """The prompts that a model goes on from with one of ``names``.

    Args:
        questions: What is asked.
        task: Says what a text and a label are.
        prompts: Where the templates come from.
        names: What stands for each label of the task, in order.
        zero_shot: Turns for a chat model (template ``choose``), in place of documents for a base
            model to continue (``judge``).
    """
    called = dict(zip(task.labels, names, strict=True))
    template = _ZERO_SHOT if zero_shot else _TEMPLATE
    kind: PromptKind = "chat" if zero_shot else "document"
    return [prompts.render(template, kind, _variables(q, task, called)) for q in questions]


def has_letters(labels: Collection[str]) -> bool:
    """Whether there is a letter for each label."""
    return len(labels) <= len(_LETTERS)


def letters(labels: Sequence[str]) -> list[str]:
    """One letter for each label, where the labels' own names begin alike."""
    if not has_letters(labels):
        raise AmbiguousOptionsError(
            f"Expected at most {len(_LETTERS)} labels for a model to judge, found {len(labels)}.",
            "Set alignment.label_trust: encoder.",
        )
    return list(_LETTERS[: len(labels)])


def requests(
    questions: Sequence[Question],
    task: Task,
    prompts: PromptLibrary,
    generator: GeneratorInfo,
) -> list[Request]:
    """The requests for a model that answers them one by one, one for each question."""
    called = {name: name for name in task.labels}
    return [
        make_request(
            _TEMPLATE,
            _variables(question, task, called),
            [task.seed, _TEMPLATE, question.fold, question.gold, question.row],
            prompts,
            generator,
            # What comes back should depend on the text and the shots, not on chance.
            Sampling(temperature=0.0, max_tokens=60),
            options=list(task.labels),
        )
        for question in questions
    ]


def _variables(question: Question, task: Task, called: Mapping[str, str]) -> dict[str, object]:
    return {
        "text": question.text,
        "text_type": task.text_type,
        "domain": task.domain,
        "label_type": task.label_type,
        "labels": [
            # A letter says nothing: the name then goes before the description.
            {
                "name": called[name],
                "description": text if called[name] == name else f"{name}。{text or ''}",
            }
            for name, text in task.labels.items()
        ],
        "shots": [{"text": text, "label": called[label]} for text, label in question.shots],
    }


def read_judgement(answer: Answer | None, labels: Sequence[str]) -> list[float]:
    """Reads an answer as log-probabilities; equal ones where it is unreadable.

    Where an answer only names a label, half a count is shared by all labels.
    """
    if answer is not None and len(answer.scores) == len(labels):
        return list(answer.scores)
    votes = np.full(len(labels), 0.5 / len(labels))
    if answer is not None and (name := read_label(answer.text, labels)):
        votes[list(labels).index(name)] += 1
    scores: list[float] = np.log(votes / votes.sum()).tolist()
    return scores


def to_vote(
    questions: Sequence[Question],
    scores: Sequence[Sequence[float]],
    gold: int,
    texts: int,
    name: str = "generator",
) -> Vote:
    """Averages the scores of all questions over the prompts.

    From each prompt's scores its own mean over all that it judged is taken (batch calibration,
    Zhou et al. 2023, arXiv:2309.17249): a prompt's preference for a label depends on
    which shots stand last, and differs from prompt to prompt.

    Args:
        questions: What was asked.
        scores: Log-probability of every label for each question.
        gold: Number of gold texts.
        texts: Number of texts to check.
        name: Of the labeler.
    """
    values = np.asarray(scores, dtype=np.float64)
    on_gold, on_texts = (np.zeros((rows, values.shape[1])) for rows in (gold, texts))
    folds = np.array([question.fold for question in questions])
    asked = np.unique(folds)
    for fold in asked:
        values[folds == fold] -= values[folds == fold].mean(axis=0)
    for question, row in zip(questions, values, strict=True):
        if question.gold:
            on_gold[question.row] = row
        else:
            on_texts[question.row] += row / len(asked)
    return Vote(name, on_gold, on_texts)


_SCORED_CHARACTERS = 1000  # of one text: its naturalness is that of all of it
_SCORE_TOKENS = 30  # of a criterion's name and its score
FILTER = "judge"


def rubric_requests(
    texts: Sequence[Example],
    task: Task,
    criteria: Mapping[str, str],
    prompts: PromptLibrary,
    generator: GeneratorInfo,
) -> list[Request]:
    """The requests to score texts, one for each.

    Args:
        texts: What is scored, with labels and the registers asked for.
        task: Says what a text and a label are.
        criteria: Name to description.
        prompts: Where the template ``rubric`` comes from.
        generator: A chat model.
    """
    space = task.label_space()
    called = {name: name for name in task.labels}
    found = []
    for example in texts:
        asked = example.register_asked
        known = asked is not None and asked.name != OTHER
        variables = {
            **_variables(Question(0, False, 0, "", ()), task, called),
            "text": "\n".join(one_line(text)[:_SCORED_CHARACTERS] for text in example.texts),
            "label": space.name(example.label or ""),
            "register": prompts.registers[asked.name] if asked and known else None,
            "criteria": criteria,
        }
        found.append(
            make_request(
                RUBRIC,
                variables,
                [task.seed, RUBRIC, example.id],
                prompts,
                generator,
                Sampling(temperature=0.0, max_tokens=20 + _SCORE_TOKENS * len(criteria)),
                criteria=list(criteria),
            )
        )
    return found


def with_judgement(
    texts: Dataset,
    rows: Sequence[int],
    answers: Sequence[Answer | None],
    criteria: Sequence[str],
    least: Mapping[str, float],
) -> Dataset:
    """Gives texts the scores that they got, and rejects those with too low a one.

    Args:
        texts: Examples.
        rows: Those that were scored.
        answers: Of each of the rows; one that is missing or cannot be read scores nothing.
        criteria: What was scored.
        least: Criterion to the least score that a text may have.
    """
    scores: list[dict[str, float] | None] = [None] * len(texts)
    rejections = texts.rejections
    for row, answer in zip(rows, answers, strict=True):
        found = read_scores(answer.text, criteria) if answer else {}
        scores[row] = found or None
        low = next((n for n, bound in least.items() if found.get(n, bound) < bound), None)
        if low is not None:
            rejections[row] = Rejection(FILTER, found[low], least[low], low)
    return texts.with_scores(scores).with_rejections(rejections)
