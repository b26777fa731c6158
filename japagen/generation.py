"""Decides what is asked for, asks it, and turns the answers into examples."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from japagen.examples import Dataset, Example, Rejection
from japagen.generators.base import Answer, Generator, GeneratorInfo, Request, Sampling
from japagen.japanese.registers import PRESETS, Register
from japagen.ledger import Ledger
from japagen.prompts import PromptLibrary
from japagen.tasks import Task

_REGISTER_SMOOTHING = 1.0


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


def register_shares(
    task: Task, gold: Dataset | None, unlabelled: Dataset | None = None
) -> dict[str, float]:
    """The register distribution to ask for.

    ``from_gold`` counts the presets seen in gold and unlabelled text, with one added to each:
    a register that a few texts happen not to show is still asked for now and then. Without
    any text, polite is asked for throughout.

    Args:
        task: The task.
        gold: Training gold with ``register_seen`` filled in.
        unlabelled: Unlabelled text with ``register_seen`` filled in.
    """
    if task.registers != "from_gold":
        return {name: share for name, share in task.registers.items() if share > 0}
    counts = dict.fromkeys(PRESETS, 0)
    for data in (gold, unlabelled):
        for row in data.column("register_seen") if data is not None else ():
            preset = Register.from_dict(row).preset if row else None
            if preset:
                counts[preset] += 1
    total = sum(counts.values())
    if not total:
        return {"polite": 1.0}
    whole = total + _REGISTER_SMOOTHING * len(counts)
    return {name: (n + _REGISTER_SMOOTHING) / whole for name, n in counts.items()}


def plan_requests(
    task: Task,
    gold: Dataset | None,
    registers: Mapping[str, float],
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
        registers: Preset name to share.
        prompts: Where templates come from.
        generator: Which kind of prompt is wanted, and from whom.

    Returns:
        The requests, in the order to send them.
    """
    strategy = strategy_of(task, gold)
    size = task.generation.completions_per_shot_set
    groups: list[tuple[int, list[Request]]] = []
    for label in task.labels:
        for preset, count in apportion(registers, task.generation.per_label).items():
            shots = _ShotSets(task, gold, label, preset) if strategy == "few_shot" else None
            for turn in range(-(-count // size)):
                chosen = shots.draw() if shots else []
                request = _request(task, label, preset, chosen, strategy, prompts, generator)
                completions = range(min(size, count - turn * size))
                group = [_seeded(request, task.seed, turn, n, generator) for n in completions]
                groups.append((turn, group))
    groups.sort(key=lambda group: group[0])
    return [request for _, group in groups for request in group]


class _ShotSets:
    """Draws shot sets for one label and register, each set only once.

    Draws of one label and register do not depend on those of another, so that asking for more
    texts keeps the requests of a smaller plan.
    """

    def __init__(self, task: Task, gold: Dataset | None, label: str, preset: str) -> None:
        rows = [e for e in gold or () if e.label == label]
        self._same = [e for e in rows if e.register_seen and e.register_seen.preset == preset]
        self._others = [e for e in rows if e not in self._same]
        self._count = min(task.generation.shots, len(rows))
        self._random = random.Random(f"{task.seed}/shots/{label}/{preset}")
        self._used: set[tuple[str, ...]] = set()

    def draw(self) -> list[Example]:
        for _ in range(20):
            chosen = self._draw()
            key = tuple(e.id for e in chosen)
            if key not in self._used:
                break
        # With very little gold every order may have been used; a repeat is then unavoidable.
        self._used.add(key)
        return chosen

    def _draw(self) -> list[Example]:
        same, others = list(self._same), list(self._others)
        self._random.shuffle(same)
        self._random.shuffle(others)
        # Two of another register keep the content varied where one register has few texts.
        room = max(self._count - 2, (self._count + 1) // 2)
        matching = same[:room]
        filling = (others + same[room:])[: self._count - len(matching)]
        # A model copies the manner of what it read last.
        return filling + matching


def _request(
    task: Task,
    label: str,
    preset: str,
    shots: Sequence[Example],
    strategy: str,
    prompts: PromptLibrary,
    generator: GeneratorInfo,
) -> Request:
    variables: dict[str, Any] = {
        "text_type": task.text_type,
        "description": task.description,
        "domain": task.domain,
        "label": label,
        "label_description": task.labels[label],
        "other_labels": [name for name in task.labels if name != label],
        "register": prompts.registers[preset],
        "shots": [_one_line(e.text) for e in shots],
    }
    kind = generator.prompt_kind
    g = task.generation
    return Request(
        id="",
        prompt=prompts.render(strategy, kind, variables),
        sampling=Sampling(
            temperature=g.temperature,
            top_k=g.top_k,
            min_p=g.min_p,
            max_tokens=g.max_tokens,
            stop=("\n",) if kind == "document" else (),
        ),
        seed=0,
        label=label,
        register=Register.of(preset),
        template=f"{strategy}.{kind}@{prompts.template_hash(f'{strategy}.{kind}')}",
        shot_ids=tuple(e.id for e in shots),
    )


def _seeded(
    request: Request, task_seed: int, group: int, completion: int, generator: GeneratorInfo
) -> Request:
    """Gives a request its seed and its id, both stable across runs and unrelated requests."""
    place = [task_seed, request.label, request.register.preset, group, completion]
    seed = int.from_bytes(hashlib.sha256(json.dumps(place).encode()).digest()[:4]) >> 1
    prompt = (
        request.prompt
        if isinstance(request.prompt, str)
        else [[m.role, m.content] for m in request.prompt]
    )
    key = json.dumps([generator.identity, prompt, asdict(request.sampling), seed])
    return replace(request, seed=seed, id=hashlib.sha256(key.encode()).hexdigest()[:16])


def run_requests(
    requests: Sequence[Request],
    generator: Generator,
    ledger: Ledger,
    progress: Callable[[Iterator[Answer], int], Iterator[Answer]] = lambda it, _: it,
) -> dict[str, Answer]:
    """Sends what has no answer yet; every answer is committed before it is used.

    Args:
        requests: What to ask.
        generator: Whom to ask.
        ledger: Where answers of this and earlier runs are.
        progress: Wraps the stream of answers to show how far it is.

    Returns:
        Request id to accepted answer. Requests that failed are absent; the ledger has why.
    """
    answered = ledger.answers(r.id for r in requests)
    waiting = [r for r in requests if r.id not in answered]
    if waiting:
        ledger.plan(waiting, generator.info.identity)
        for answer in progress(generator.stream(iter(waiting)), len(waiting)):
            ledger.record(answer)
        answered = ledger.answers(r.id for r in requests)
    return answered


def to_dataset(
    requests: Sequence[Request],
    answers: Mapping[str, Answer],
    failures: Mapping[str, str],
    generator: str,
) -> Dataset:
    """Turns answers into examples, in request order.

    A failed or unreadable answer stays as a rejected row with its reason.

    Args:
        requests: What was asked.
        answers: Request id to accepted answer.
        failures: Request id to the reason why there is none.
        generator: Name of the model that answered.
    """
    rows = (
        _to_example(request, answers.get(request.id), failures.get(request.id, "no answer"))
        for request in requests
    )
    return Dataset.of(replace(row, generator=generator) for row in rows)


def _to_example(request: Request, answer: Answer | None, failure: str) -> Example:
    rejected = None
    if answer is None:
        text, rejected = "", Rejection("failed", 1, 0, failure)
    elif isinstance(request.prompt, str):
        text = _clean_line(answer.text)
    else:
        found = _json_text(answer.text)
        text = _one_line(found if found is not None else answer.text)
        if found is None:
            rejected = Rejection("unreadable", 1, 0, "no JSON object with a text")
    if rejected is None and answer is not None and answer.finish == "length":
        rejected = Rejection(
            "truncated",
            answer.completion_tokens,
            request.sampling.max_tokens,
            "cut off at the token limit",
        )
    return Example(
        text=text,
        label=request.label,
        id=f"s-{request.id}",
        split="synthetic",
        source="generated",
        label_asked=request.label,
        register_asked=request.register,
        request_id=request.id,
        shot_ids=request.shot_ids,
        round=request.round,
        prompt_id=request.template,
        seed=request.seed,
        rejected=rejected,
    )


_BULLET = re.compile(r"^(?:[-*・•●]|\d{1,3}[.)．、]|[①-⑳])\s*")
_FENCE = re.compile(r"\{.*\}", re.DOTALL)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _clean_line(text: str) -> str:
    """Takes one list item out of a continued document."""
    line = _BULLET.sub("", text.strip().split("\n", 1)[0].strip())
    if len(line) > 1 and line[0] == "「" and line[-1] == "」" and "「" not in line[1:]:
        line = line[1:-1]
    return _one_line(line)


def _json_text(text: str) -> str | None:
    found = _FENCE.search(text)
    if not found:
        return None
    try:
        value = json.loads(found.group())
    except json.JSONDecodeError:
        return None
    inner = value.get("text") if isinstance(value, dict) else None
    return inner if isinstance(inner, str) and inner.strip() else None
