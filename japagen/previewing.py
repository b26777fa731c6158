"""What a run would ask, before it asks it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from japagen import generation, pairs
from japagen.data import TaskData, load_data
from japagen.errors import JapagenError
from japagen.examples import Dataset, Example
from japagen.generators.base import Generator, GeneratorInfo, Request
from japagen.generators.loading import load_generator
from japagen.knowledge import Knowledge
from japagen.ledger import Ledger, ledger_errors
from japagen.outgoing import prepare
from japagen.planning import find_registers, load_analyzer, plan, shots_of
from japagen.prompts import PromptLibrary
from japagen.refining import why_not
from japagen.spending import Purse, yen
from japagen.tasks import Task


def _text(request: Request) -> str:
    if isinstance(request.prompt, str):
        return request.prompt
    return "\n".join(f"[{m.role}]\n{m.content}" for m in request.prompt)


# Requests sent to find out how fast a generator on this machine is.
_SAMPLE = 4


@dataclass(frozen=True)
class Rate:
    """What one answer takes on average.

    Attributes:
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        seconds: Elapsed time; less than an answer takes where several are written at a time.
        source: Where the figures are from.
    """

    prompt_tokens: float
    completion_tokens: float
    seconds: float
    source: Literal["ledger", "sample"]


def estimate(task: Task, run: Path | None = None, sample: int | None = None) -> dict[str, Any]:
    """Says what a run would take, in requests, tokens, time and yen.

    Time and the length of answers are measured: on what ``run`` has in its ledger, or else on
    a few requests that are sent now.

    Args:
        task: The task.
        run: A run directory of the task; ``runs/NAME`` when None. It need not exist.
        sample: Requests to send if the ledger says nothing; when None, 4 to a generator on this
            machine and none to one elsewhere.

    Returns:
        ``requests``, ``answered`` (in the ledger already), ``rounds`` (requests of each),
        ``cells`` (label, register, requests), ``knowledge`` (label, kind, item, requests that
        name it), ``prompt_tokens``, ``shared_prompt_tokens`` (every distinct prompt counted
        once), ``max_completion_tokens``, and for what is not answered yet ``completion_tokens``,
        ``seconds``, ``yen`` (expected; None where nothing was measured) and ``max_yen`` (None
        without a price), ``measured_on`` (ledger or sample), ``budget`` and ``notes`` (sentences on
        what this generator will not be asked, or may be asked besides). What later rounds
        name because the earlier ones lack it is not known before they are asked, and not in it.
    """
    with closing(load_generator(task.generator)) as generator:
        # A budget in yen without a price is refused here as it would be later.
        Purse(task.generation.budget, task.generator.price)
        requests = _all_requests(task, load_data(task), generator.info)
        dictionary = task.japanese.user_dictionary
        outgoing = prepare(requests, generator.info, task.privacy, dictionary)
        requests = list(outgoing.requests)
        tokens = {text: generator.count_tokens(text) for text in {_text(r) for r in requests}}
        answered, rate = _recorded(requests, generator, run or Path("runs") / task.name)
        waiting = [r for r in requests if r.id not in answered]
        rate = rate or _measured(waiting, generator, sample)
    cells = Counter((r.label, r.register.name) for r in requests)
    named = Counter((r.label, _shown(Knowledge.parse(k))) for r in requests for k in r.knowledge)
    prompt_tokens = sum(tokens[_text(r)] for r in waiting)
    most = sum(r.sampling.max_tokens for r in waiting)
    expected = round(rate.completion_tokens * len(waiting)) if rate else None
    price = task.generator.price
    return {
        "generator": generator.info.name,
        "requests": len(requests),
        "answered": len(answered),
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
        "completion_tokens": expected,
        "seconds": rate and round(rate.seconds * len(waiting), 1),
        "yen": yen(price, prompt_tokens, expected) if price and expected is not None else None,
        "max_yen": yen(price, prompt_tokens, most) if price else None,
        "measured_on": rate and rate.source,
        "budget": task.generation.budget.model_dump(exclude_none=True),
        "notes": _notes(task, generator.info),
        "masked": sum(sum(found.values()) for found in outgoing.masked.values()),
    }


def _notes(task: Task, info: GeneratorInfo) -> list[str]:
    """What the table of requests does not show."""
    notes = []
    if info.prompt_kind == "document" and any(
        len(task.generation.grid(label)) > 1 for label in task.labels
    ):
        notes.append(
            f"{info.name} continues documents: of generation.attributes it is told the first alone."
        )
    if info.prompt_kind == "document" and task.generation.paraphrase_share:
        notes.append(f"{info.name} continues documents: no gold text will be put in other words.")
    if task.refinement.rounds and not task.refinement.generator:
        reason = why_not(task, task.gold is not None, info)
        most = 2 * task.refinement.rounds
        notes.append(
            f"No text will be refined: {reason}."
            if reason
            else f"Refinement asks at most {most} times more for each text whose label is doubtful."
        )
    return notes


def _shown(known: Knowledge) -> Knowledge:
    """What a plan lists: passages and gold are counted, not shown one by one."""
    sources = {"passage": "generation.corpus", "paraphrase": "gold"}
    return replace(known, item=sources.get(known.kind, known.item))


def _recorded(
    requests: Sequence[Request], generator: Generator, run: Path
) -> tuple[set[str], Rate | None]:
    """Ids that a run has answers to, and what an answer took in it."""
    path = run / "ledger.sqlite"
    if not path.is_file():
        return set(), None
    with ledger_errors(path), closing(Ledger(path)) as ledger:
        answered = set(ledger.answers(r.id for r in requests))
        found = ledger.rate(generator.info.identity)
    return answered, found and Rate(*found, "ledger")


def _measured(waiting: Sequence[Request], generator: Generator, sample: int | None) -> Rate | None:
    """What an answer takes in a sample sent now; None if there is none or nobody answers."""
    count = (_SAMPLE if generator.info.local else 0) if sample is None else sample
    chosen = _spread(waiting, count)
    if not chosen:
        return None
    began = time.perf_counter()
    try:
        answers = [a for a in generator.stream(iter(chosen)) if not a.error]
    except JapagenError:
        if sample is not None:
            raise
        return None  # a plan is wanted even while the server is down
    seconds = time.perf_counter() - began
    if not answers:
        return None
    count = len(answers)
    prompt, completion = (
        sum(getattr(a, name) for a in answers) / count
        for name in ("prompt_tokens", "completion_tokens")
    )
    return Rate(prompt, completion, seconds / count, "sample")


def sample(task: Task, number: int) -> list[dict[str, Any]]:
    """Sends ``number`` requests spread over labels, registers and what they name; keeps nothing.

    Returns:
        For each: label, register, what it names, template, the prompt as sent, and the text or
        the error.
    """
    with closing(load_generator(task.generator)) as generator:
        data = load_data(task)
        requests = plan(task, data, generator.info)
        if task.pair:
            firsts = _send(task, requests[: -(-number // len(task.labels))], generator)[1]
            requests = _seconds(task, data, firsts, generator.info)
        chosen, made = _send(task, _spread(requests, number), generator)
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


def _send(
    task: Task, requests: Sequence[Request], generator: Generator
) -> tuple[Sequence[Request], Dataset]:
    """The requests as they leave, and what came of them."""
    sent = prepare(requests, generator.info, task.privacy).requests
    answers = {a.request_id: a for a in generator.stream(iter(sent))}
    accepted = {key: a for key, a in answers.items() if not a.error}
    failures = {key: a.error for key, a in answers.items() if a.error}
    return sent, generation.to_dataset(sent, accepted, failures, generator.info.name)


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


def _spread(requests: Sequence[Request], number: int) -> list[Request]:
    """The first request of every label, register and kind of knowledge, then the second ones."""
    seen: Counter[tuple[str, ...]] = Counter()
    ranked = []
    for index, request in enumerate(requests):
        kinds = [Knowledge.parse(k).kind for k in request.knowledge]
        cell = (request.label, request.register.name, *kinds)
        ranked.append((seen[cell], index, request))
        seen[cell] += 1
    return [request for _, _, request in sorted(ranked, key=lambda r: r[:2])[:number]]
