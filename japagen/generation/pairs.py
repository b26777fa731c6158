"""Pairs in two turns: first texts of no label, then for each of them a second text by label.

Every first text serves every label, so that what tells labels apart is the second text against
the first, not the first alone (contrast sets, Gardner et al. 2020), and one text less is paid
for a pair.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, repeat
from typing import Any

from japagen.config.task import Task
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.seed_table import SeedTable
from japagen.generation import planner
from japagen.generation.planner import seed_variables
from japagen.generation.shots import ShotSets
from japagen.generation.topics import Phrasing, apportion
from japagen.japanese.morphology import Tagger, default_tagger
from japagen.japanese.registers import Register
from japagen.llm.answers import one_line, read_answer
from japagen.llm.backend import Answer, GeneratorInfo, Request, Sampling
from japagen.llm.prompts import PromptLibrary
from japagen.llm.requests import label_variables, make_request

_FIRST, _SECOND = "pair_first", "pair_second"


def plan_firsts(
    task: Task,
    gold: Dataset | None,
    registers: Mapping[str, Mapping[str, float]],
    prompts: PromptLibrary,
    generator: GeneratorInfo,
    tagger: Tagger | None = None,
    corpus: Dataset | None = None,
    seed_table: SeedTable | None = None,
) -> list[Request]:
    """Decides the requests of the first turn; arguments as of `RequestPlanner`.

    Their label is empty. There are as many as pairs are wanted of each label, in the registers
    that the labels want on average. It is these that name the task's knowledge.
    """
    phrasing = Phrasing(task, gold, tagger or default_tagger(), generator.prompt_kind, corpus)
    known = phrasing.items("", 0)
    prompts.check_seed(f"{_FIRST}.{generator.prompt_kind}", seed_table)
    rows = seed_table.draw([""], task.seed)[""] if seed_table else repeat(None)
    shown = planner.strategy_of(task, gold) == "few_shot"
    size = task.generation.completions_per_shot_set
    groups: list[tuple[int, list[Request]]] = []
    for register, count in apportion(_mean(registers), _number(task, gold)).items():
        shots = ShotSets(task, gold, None, register) if shown else None
        for turn in range(-(-count // size)):
            chosen = shots.draw() if shots else []
            group = []
            for n in range(min(size, count - turn * size)):
                place = [task.seed, _FIRST, register, turn, n]
                named = phrasing.settled(next(known, None), place, shots=chosen)
                chat = generator.prompt_kind == "chat"
                style = prompts.style(
                    register,
                    f"{task.seed}/style/{register}",
                    turn * size + n if chat else turn,
                    voices=chat,
                )
                texts, row = [e.text for e in chosen], next(rows)
                variables = {
                    **_pair_variables(task),
                    "register": style,
                    "shots": [one_line(text) for text in texts],
                    **phrasing.variables(named, texts),
                    **seed_variables(task, row),
                }
                request = make_request(
                    _FIRST,
                    variables,
                    place,
                    prompts,
                    generator,
                    Sampling.of(task.generation),
                    register=Register.of(register),
                    shot_ids=[e.id for e in chosen],
                    knowledge=named.named if named else (),
                    seed_rows=[row.id] if row else (),
                )
                group.append(request)
            groups.append((turn, group))
    groups.sort(key=lambda group: group[0])
    return [request for _, group in groups for request in group]


def plan_seconds(
    task: Task,
    gold: Dataset | None,
    firsts: Dataset,
    prompts: PromptLibrary,
    generator: GeneratorInfo,
) -> list[Request]:
    """Decides the requests of the second turn: one for each first text and label.

    Which shots a first text goes with depends on its place in the plan alone: one that failed
    and is answered later changes nothing for the others.

    Args:
        task: The task.
        gold: Training gold with ``register_seen`` filled in, or None.
        firsts: What came of the first turn, in the order of the plan; rejected ones are skipped.
        prompts: Where templates come from.
        generator: Which kind of prompt is wanted, and from whom.

    Returns:
        The requests, in the order to send them: those that share a prompt's beginning together.
    """
    labels = _asked(task, gold)
    made: dict[tuple[str, str], ShotSets] = {}
    requests = []
    for register, block in _blocks(firsts, task.generation.completions_per_shot_set):
        for label in labels:
            chosen: list[Example] = []
            if gold is not None:
                shots = made.get((label, register)) or ShotSets(task, gold, label, register)
                made[label, register] = shots
                chosen = shots.draw()
            requests += [
                _second(task, first, label, chosen, prompts, generator)
                for first in block
                if first.rejected is None
            ]
    return requests


def _blocks(firsts: Dataset, size: int) -> Iterator[tuple[str, Sequence[Example]]]:
    """First texts of one register that share their shots, in the order of the plan."""
    for register, group in groupby(firsts, lambda e: (e.register_asked or Register()).name):
        rows = list(group)
        for start in range(0, len(rows), size):
            yield register, rows[start : start + size]


def _second(
    task: Task,
    first: Example,
    label: str,
    shots: Sequence[Example],
    prompts: PromptLibrary,
    generator: GeneratorInfo,
) -> Request:
    variables = {
        **_pair_variables(task, label),
        "shots": [
            {"first": one_line(e.text), "second": one_line(e.text_pair or "")} for e in shots
        ],
        "first_text": first.text,
        "first_json": json.dumps({"text": first.text}, ensure_ascii=False),
    }
    return make_request(
        _SECOND,
        variables,
        [task.seed, first.id, label],
        prompts,
        generator,
        Sampling.of(task.generation),
        label=label,
        register=first.register_asked,
        # A pair descends from what either turn showed.
        shot_ids=list(dict.fromkeys([*first.shot_ids, *(e.id for e in shots)])),
        round=first.round,
    )


def to_pairs(
    task: Task,
    gold: Dataset | None,
    firsts: Dataset,
    requests: Sequence[Request],
    answers: Mapping[str, Answer],
    failures: Mapping[str, str],
    generator: str,
) -> Dataset:
    """Joins both turns: a row for each first text and label, first texts in order.

    A first text that failed or was rejected leaves its rows rejected for the same reason.

    Args:
        task: The task.
        gold: As of `plan_seconds`.
        firsts: As of `plan_seconds`.
        requests: The second turn.
        answers: Request id to accepted answer.
        failures: Request id to the reason why there is none.
        generator: Name of the model that answered.
    """
    waiting = iter(requests)
    by_place: dict[tuple[str, str], Request] = {}
    labels = _asked(task, gold)
    for _, block in _blocks(firsts, task.generation.completions_per_shot_set):
        for label in labels:
            by_place.update(((e.id, label), next(waiting)) for e in block if e.rejected is None)
    space = task.label_space()
    rows = []
    for first in firsts:
        for label in labels:
            request = by_place.get((first.id, label))
            row = _row(first, request, answers, failures, task)
            value = space.label(label)
            row = replace(row, id=f"{row.id}-{label}" if request is None else row.id)
            rows.append(replace(row, label=value, label_asked=value, generator=generator))
    return Dataset.of(rows)


def _row(
    first: Example,
    request: Request | None,
    answers: Mapping[str, Answer],
    failures: Mapping[str, str],
    task: Task,
) -> Example:
    row = replace(first, parent_id=first.id, text_pair="")
    if request is None:
        why = first.rejected
        assert why is not None
        detail = f"{why.filter}: {why.detail}" if why.detail else why.filter
        kind = "failed" if why.filter == "failed" else "first_text"
        return replace(row, rejected=Rejection(kind, 1, 0, f"first text {detail}"))
    answer = answers.get(request.id)
    if answer is None:
        text = ""
        rejected: Rejection | None = Rejection(
            "failed", 1, 0, failures.get(request.id, "no answer")
        )
    else:
        text, rejected = read_answer(request, answer)
    return replace(
        row,
        text_pair=text.removeprefix(f"{_names(task)[1]}：").strip(),
        id=f"s-{request.id}",
        request_id=request.id,
        shot_ids=request.shot_ids,
        prompt_id=request.template,
        seed=request.seed,
        rejected=rejected,
    )


def _asked(task: Task, gold: Dataset | None) -> list[str]:
    return list(task.label_space(gold).asked(gold.labels if gold is not None else ()))


def _number(task: Task, gold: Dataset | None) -> int:
    """First texts: as many as are needed for per_label pairs per label."""
    wanted = task.generation.per_label * len(task.labels)
    return max(1, round(wanted / len(_asked(task, gold))))


def _mean(registers: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for shares in registers.values() for name in shares)
    return {
        name: sum(shares.get(name, 0.0) for shares in registers.values()) / len(registers)
        for name in names
    }


def _names(task: Task) -> tuple[str, str]:
    assert task.pair is not None
    return task.pair.first, task.pair.second


def _pair_variables(task: Task, label: str = "") -> dict[str, Any]:
    first, second = _names(task)
    return {**label_variables(task, label), "first_name": first, "second_name": second}
