"""What a run would ask, before it asks it."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import Any

from japagen import generation, pairs
from japagen.data import TaskData, load_data
from japagen.examples import Dataset, Example
from japagen.generators.base import Generator, GeneratorInfo, Request
from japagen.generators.loading import load_generator
from japagen.knowledge import Knowledge
from japagen.planning import find_registers, load_analyzer, plan, shots_of
from japagen.prompts import PromptLibrary
from japagen.tasks import Task


def _text(request: Request) -> str:
    if isinstance(request.prompt, str):
        return request.prompt
    return "\n".join(f"[{m.role}]\n{m.content}" for m in request.prompt)


def estimate(task: Task) -> dict[str, Any]:
    """Counts requests and tokens of a run without sending anything.

    Returns:
        ``requests``, ``rounds`` (requests of each), ``cells`` (label, register, requests),
        ``knowledge`` (label, kind, item, requests that name it), ``prompt_tokens``,
        ``shared_prompt_tokens`` (every distinct prompt counted once) and
        ``max_completion_tokens``. What later rounds name because the earlier ones lack it is not
        known before they are asked, and not in it.
    """
    with closing(load_generator(task.generator)) as generator:
        requests = _all_requests(task, load_data(task), generator.info)
        tokens = {text: generator.count_tokens(text) for text in {_text(r) for r in requests}}
        cells = Counter((r.label, r.register.name) for r in requests)
        named = Counter((r.label, Knowledge.parse(k)) for r in requests for k in r.knowledge)
        return {
            "generator": generator.info.name,
            "requests": len(requests),
            "cells": [
                {"label": label, "register": preset, "requests": n}
                for (label, preset), n in cells.items()
            ],
            "rounds": [n for _, n in sorted(Counter(r.round for r in requests).items())],
            "knowledge": [
                {"label": label, "kind": known.kind, "item": known.item, "requests": n}
                for (label, known), n in named.items()
            ],
            "prompt_tokens": sum(tokens[_text(r)] for r in requests),
            "shared_prompt_tokens": sum(tokens.values()),
            "max_completion_tokens": sum(r.sampling.max_tokens for r in requests),
        }


def sample(task: Task, number: int) -> list[dict[str, Any]]:
    """Sends ``number`` requests spread over labels, registers and what they name; keeps nothing.

    Returns:
        For each: label, register, what it names, template, the prompt, and the text or the error.
    """
    with closing(load_generator(task.generator)) as generator:
        data = load_data(task)
        requests = plan(task, data, generator.info)
        if task.pair:
            firsts = _send(requests[: -(-number // len(task.labels))], generator)
            requests = _seconds(task, data, firsts, generator.info)
        chosen = _spread(requests, number)
        made = _send(chosen, generator)
    return [
        {
            "label": request.label,
            "register": request.register.name,
            "knowledge": list(request.knowledge),
            "template": request.template,
            "prompt": _text(request),
            "text": example.text,
            "error": example.rejected.detail if example.rejected else "",
        }
        for request, example in zip(chosen, made, strict=True)
    ]


def _send(requests: list[Request], generator: Generator) -> Dataset:
    answers = {a.request_id: a for a in generator.stream(iter(requests))}
    accepted = {key: a for key, a in answers.items() if not a.error}
    failures = {key: a.error for key, a in answers.items() if a.error}
    return generation.to_dataset(requests, accepted, failures, generator.info.name)


def _seconds(task: Task, data: TaskData, firsts: Dataset, info: GeneratorInfo) -> list[Request]:
    gold = data.gold and find_registers(data.gold, load_analyzer(task))
    prompts = PromptLibrary(task.generation.prompts)
    return pairs.plan_seconds(task, shots_of(task, gold), firsts, prompts, info)


def _all_requests(task: Task, data: TaskData, info: GeneratorInfo) -> list[Request]:
    """Every request; of pairs, those for second texts with a stand-in for the first."""
    requests = plan(task, data, info)
    if not task.pair:
        return requests
    phrases = PromptLibrary(task.generation.prompts).registers["polite"]["examples"]
    stand_ins = Dataset.of(
        Example(phrases[i % len(phrases)], id=f"s-{r.id}", register_asked=r.register)
        for i, r in enumerate(requests)
    )
    return [*requests, *_seconds(task, data, stand_ins, info)]


def _spread(requests: list[Request], number: int) -> list[Request]:
    """The first request of every label, register and kind of knowledge, then the second ones."""
    seen: Counter[tuple[str, ...]] = Counter()
    ranked = []
    for index, request in enumerate(requests):
        kinds = [Knowledge.parse(k).kind for k in request.knowledge]
        cell = (request.label, request.register.name, *kinds)
        ranked.append((seen[cell], index, request))
        seen[cell] += 1
    return [request for _, _, request in sorted(ranked, key=lambda r: r[:2])[:number]]
