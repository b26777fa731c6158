"""Decides what is asked for, asks it, and turns the answers into examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from japagen.examples import Dataset, Example, Label, Rejection
from japagen.generators.base import Answer, Generator, GeneratorInfo, Request, Sampling
from japagen.japanese.registers import Register
from japagen.ledger import Ledger
from japagen.prompts import PromptLibrary
from japagen.requesting import draft_request, identified, one_line, read_answer
from japagen.shots import ShotSets
from japagen.tasks import Task


def strategy_of(task: Task, gold: Dataset | None) -> str:
    """The strategy in force: ``auto`` is few-shot where there is gold."""
    if task.generation.strategy != "auto":
        return task.generation.strategy
    return "few_shot" if gold is not None and len(gold) else "zero_shot"


def apportion(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Splits ``total`` by shares with the largest-remainder method.

    Returns:
        Name to count, adding up to ``total``; ties go to the earlier name.
    """
    mass = sum(shares.values())
    exact = {name: share / mass * total for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def plan_requests(
    task: Task,
    gold: Dataset | None,
    registers: Mapping[str, Mapping[str, float]],
    prompts: PromptLibrary,
    generator: GeneratorInfo,
) -> list[Request]:
    """Decides every request of a run.

    Requests that share a prompt stand together, so that a backend can reuse the prefix; shot
    sets of different labels take turns, so that a run cut short is still balanced. Everything
    is drawn from the task's seed.

    Args:
        task: The task.
        gold: Training gold with ``register_seen`` filled in, or None.
        registers: Label to register name to share.
        prompts: Where templates come from.
        generator: Which kind of prompt is wanted, and from whom.

    Returns:
        The requests, in the order to send them.
    """
    strategy = strategy_of(task, gold)
    size = task.generation.completions_per_shot_set
    groups: list[tuple[int, list[Request]]] = []
    asked = task.label_space(gold).asked(gold.labels if gold is not None else ())
    for label, number in apportion(asked, task.generation.per_label * len(task.labels)).items():
        for register, count in apportion(registers[label], number).items():
            shots = ShotSets(task, gold, label, register) if strategy == "few_shot" else None
            for turn in range(-(-count // size)):
                chosen = shots.draw() if shots else []
                draft = _draft(task, label, register, chosen, strategy, prompts, generator)
                completions = range(min(size, count - turn * size))
                place = [task.seed, label, register, turn]
                group = [identified(draft, [*place, n], generator) for n in completions]
                groups.append((turn, group))
    groups.sort(key=lambda group: group[0])
    return [request for _, group in groups for request in group]


def _draft(
    task: Task,
    label: str,
    register: str,
    shots: Sequence[Example],
    strategy: str,
    prompts: PromptLibrary,
    generator: GeneratorInfo,
) -> Request:
    space = task.label_space()
    # Texts of several labels stand among those of others: each says whose it is.
    marked = task.kind == "multi_label"
    variables: dict[str, Any] = {
        **label_variables(task, label),
        "register": prompts.registers[register],
        "shots": [
            f"【{space.name(e.label)}】{one_line(e.text)}"
            if marked and e.label is not None
            else one_line(e.text)
            for e in shots
        ],
        "mark": f"【{label}】" if marked and shots else "",
    }
    g = task.generation
    return draft_request(
        strategy,
        variables,
        prompts,
        generator,
        Sampling(g.temperature, g.top_k, g.min_p, g.max_tokens),
        label=label,
        register=Register.of(register),
        shot_ids=[e.id for e in shots],
    )


def label_variables(task: Task, label: str) -> dict[str, Any]:
    """What templates may say of the task and of the label asked for."""
    own = task.label_space().tags(label)
    others = [name for name in task.labels if name not in own]
    return {
        "text_type": task.text_type,
        "description": task.description,
        "domain": task.domain,
        "label_type": task.label_type,
        "label": label,
        "label_description": task.describe(label),
        "other_labels": [] if task.kind == "regression" else others,
    }


def run_requests(
    requests: Sequence[Request],
    generator: Generator,
    ledger: Ledger,
    progress: Callable[[Iterator[Answer], int], Iterator[Answer]] = lambda it, _: it,
    purpose: str = "generate",
) -> dict[str, Answer]:
    """Sends what has no answer yet; every answer is committed before it is used.

    Args:
        requests: What to ask.
        generator: Whom to ask.
        ledger: Where answers of this and earlier runs are.
        progress: Wraps the stream of answers to show how far it is.
        purpose: What the ledger's time is counted under.

    Returns:
        Request id to accepted answer. Requests that failed are absent; the ledger has why.
    """
    answered = ledger.answers(r.id for r in requests)
    waiting = [r for r in requests if r.id not in answered]
    if waiting:
        ledger.plan(waiting, generator.info.identity, purpose)
        for answer in progress(generator.stream(iter(waiting)), len(waiting)):
            ledger.record(answer)
        answered = ledger.answers(r.id for r in requests)
    return answered


def to_dataset(
    requests: Sequence[Request],
    answers: Mapping[str, Answer],
    failures: Mapping[str, str],
    generator: str,
    label_of: Callable[[str], Label | None] = str,
) -> Dataset:
    """Turns answers into examples, in request order.

    A failed or unreadable answer stays as a rejected row with its reason.

    Args:
        requests: What was asked.
        answers: Request id to accepted answer.
        failures: Request id to the reason why there is none.
        generator: Name of the model that answered.
        label_of: From the name that was asked for to the label; see `LabelSpace.label`.
    """
    rows = [
        _to_example(request, answers.get(request.id), failures.get(request.id, "no answer"))
        for request in requests
    ]
    labels = [label_of(request.label) for request in requests]
    return Dataset.of(
        replace(row, generator=generator, label=label, label_asked=label)
        for row, label in zip(rows, labels, strict=True)
    )


def _to_example(request: Request, answer: Answer | None, failure: str) -> Example:
    rejected: Rejection | None
    if answer is None:
        text, rejected = "", Rejection("failed", 1, 0, failure)
    else:
        text, rejected = read_answer(request, answer)
    return Example(
        text=text,
        id=f"s-{request.id}",
        split="synthetic",
        source="generated",
        register_asked=request.register,
        request_id=request.id,
        shot_ids=request.shot_ids,
        round=request.round,
        prompt_id=request.template,
        seed=request.seed,
        rejected=rejected,
    )
