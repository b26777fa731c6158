"""Decides what is asked for, and turns the answers into examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from japagen.examples import Dataset, Example, Label, Rejection
from japagen.generation.phrasing import Phrasing
from japagen.generation.shots import ShotSets
from japagen.generators.base import Answer, GeneratorInfo, Request, Sampling
from japagen.japanese.morphology import Tagger, default_tagger
from japagen.japanese.registers import Register
from japagen.prompts import PromptLibrary
from japagen.requesting import draft_request, identified, one_line, read_answer
from japagen.tasks.knowledge import KINDS, Knowledge
from japagen.tasks.tasks import Task


def strategy_of(task: Task, gold: Dataset | None) -> str:
    """How texts are asked for: where there is gold few-shot, unless the task says otherwise."""
    if task.generation.strategy in ("few_shot", "zero_shot"):
        return task.generation.strategy
    return "few_shot" if gold is not None and len(gold) else "zero_shot"


_Name = TypeVar("_Name", bound=Hashable)


def apportion(shares: Mapping[_Name, float], total: int) -> dict[_Name, int]:
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


def round_sizes(task: Task) -> list[int]:
    """Requests for each label in each round, the larger rounds first; empty ones left out."""
    sizes = apportion(dict.fromkeys(range(task.generation.rounds), 1.0), task.generation.per_label)
    return [size for size in sizes.values() if size]


def plan_requests(
    task: Task,
    gold: Dataset | None,
    registers: Mapping[str, Mapping[str, float]],
    prompts: PromptLibrary,
    generator: GeneratorInfo,
    tagger: Tagger | None = None,
    corpus: Dataset | None = None,
) -> list[Request]:
    """Decides every request of a run, as far as that is possible before the first answer.

    Args:
        task: The task.
        gold: Training gold with ``register_seen`` filled in, or None.
        registers: Label to register name to share.
        prompts: Where templates come from.
        generator: Which kind of prompt is wanted, and from whom.
        tagger: Reads gold, where prompts say what each text is about.
        corpus: Texts to take passages from, or None.

    Returns:
        The requests, in the order to send them. Those of later rounds name what the user wants
        covered, and not yet what the earlier rounds will turn out to lack.
    """
    planner = RequestPlanner(task, gold, prompts, generator, tagger, corpus)
    requests: list[Request] = []
    for number, size in enumerate(round_sizes(task)):
        wanted = {label: first_wants(task, label, size) for label in task.labels}
        requests += planner.round(number, size, registers, wanted)
    return requests


def first_wants(task: Task, label: str, size: int) -> dict[Knowledge, float]:
    """Requests of a label, of ``size``, that each thing the user wants covered is due."""
    return {known: share * size for known, share in task.wanted_shares(label).items()}


class RequestPlanner:
    """Decides requests, a round at a time.

    Requests that share a prompt stand together, so that a backend can reuse the prefix; shot
    sets of different labels take turns, so that a run cut short is still balanced. Everything
    is drawn from the task's seed, and a round depends on earlier ones only by what it is told
    to name.

    Args:
        task: The task.
        gold: Training gold with ``register_seen`` filled in, or None.
        prompts: Where templates come from.
        generator: Which kind of prompt is wanted, and from whom.
        tagger: Reads gold, where prompts say what each text is about.
        corpus: Texts to take passages from, or None.
    """

    def __init__(
        self,
        task: Task,
        gold: Dataset | None,
        prompts: PromptLibrary,
        generator: GeneratorInfo,
        tagger: Tagger | None = None,
        corpus: Dataset | None = None,
    ) -> None:
        self._task = task
        self._gold = gold
        self._prompts = prompts
        self._generator = generator
        self._strategy = strategy_of(task, gold)
        self._phrasing = Phrasing(
            task, gold, tagger or default_tagger(), generator.prompt_kind, corpus
        )
        self._space = task.label_space(gold)
        self._asked = self._space.asked(gold.labels if gold is not None else ())
        self._shots: dict[tuple[str, str], ShotSets] = {}
        self._turns: Counter[tuple[str, str]] = Counter()

    def round(
        self,
        number: int,
        size: int,
        registers: Mapping[str, Mapping[str, float]],
        wanted: Mapping[str, Mapping[Knowledge, float]],
    ) -> list[Request]:
        """The requests of the next round, in the order to send them.

        Args:
            number: Which round, from 0.
            size: Requests for each label.
            registers: Label to register name to share.
            wanted: Label to what is to be named, in how many requests; scaled down where that
                is more than there are. The rest name an item of the task's knowledge, or nothing.
        """
        groups: list[tuple[int, list[Request]]] = []
        for label, requests in apportion(self._asked, size * len(self._task.labels)).items():
            counts = apportion(registers[label], requests)
            items = deal(wanted.get(label, {}), requests, self._phrasing.items(label, number))
            cells = fitted(spread(items, counts), self._phrasing.fits)
            for register, named in cells.items():
                groups += self._cell(number, label, register, named)
        groups.sort(key=lambda group: group[0])
        return [request for _, group in groups for request in group]

    def _cell(
        self, number: int, label: str, register: str, named: Sequence[Knowledge | None]
    ) -> list[tuple[int, list[Request]]]:
        """The requests of one label and register, by shot set."""
        size = self._task.generation.completions_per_shot_set
        groups = []
        for start in range(0, len(named), size):
            turn = self._turns[label, register]
            self._turns[label, register] += 1
            shots = self._draw(label, register)
            place = [self._task.seed, label, register, turn]
            group = []
            for n, known in enumerate(named[start : start + size]):
                settled = self._phrasing.settled(known, [*place, n], label, shots)
                draft = self._draft(number, label, register, shots, settled)
                group.append(identified(draft, [*place, n], self._generator))
            groups.append((turn, group))
        return groups

    def _draw(self, label: str, register: str) -> list[Example]:
        if self._strategy != "few_shot":
            return []
        key = label, register
        if key not in self._shots:
            self._shots[key] = ShotSets(self._task, self._gold, label, register)
        return self._shots[key].draw()

    def _draft(
        self,
        number: int,
        label: str,
        register: str,
        shots: Sequence[Example],
        known: Knowledge | None,
    ) -> Request:
        task, g = self._task, self._task.generation
        rewriting = known is not None and known.kind == "paraphrase" and bool(known.gold_ids)
        # A text that is put in other words stands alone: it descends from itself.
        shots = [] if rewriting else shots
        named = self._phrasing.variables(known, [e.text for e in shots])
        # Texts of several labels stand among those of others: each says whose it is.
        marked = task.kind == "multi_label"
        variables: dict[str, Any] = {
            **label_variables(task, label),
            "register": self._prompts.registers[register],
            "shots": [
                f"【{self._space.name(e.label)}】{one_line(e.text)}"
                if marked and e.label is not None
                else one_line(e.text)
                for e in shots
            ],
            "mark": f"【{label}】" if marked and shots else "",
            **named,
        }
        if rewriting and known is not None:
            variables["original"] = self._phrasing.original(known)
        ids = dict.fromkeys([*(e.id for e in shots), *(known.gold_ids if known else ())])
        return draft_request(
            "paraphrase" if rewriting else self._strategy,
            variables,
            self._prompts,
            self._generator,
            Sampling(g.temperature, g.top_k, g.min_p, g.max_tokens),
            label=label,
            register=Register.of(register),
            shot_ids=tuple(ids),
            knowledge=known.named if known else (),
            round=number,
        )


def deal(
    wanted: Mapping[Knowledge, float], size: int, others: Iterator[Knowledge | None]
) -> list[Knowledge | None]:
    """Gives each of ``size`` requests one thing to name, or none.

    Args:
        wanted: In how many requests each thing is wanted; scaled down where that is too many.
        size: How many requests there are.
        others: What requests left over name; they name nothing when it ends.

    Returns:
        One entry a request; equal ones and those of one kind stand together.
    """
    shares: dict[Knowledge | None, float] = {k: n for k, n in wanted.items() if n > 0}
    free = max(0.0, size - sum(shares.values()))
    counts = apportion({**shares, None: free}, size) if shares or free else {}
    left = counts.pop(None, 0)
    named = sorted(counts.items(), key=lambda item: KINDS.index(item[0].kind) if item[0] else 0)
    dealt: list[Knowledge | None] = [known for known, count in named for _ in range(count)]
    return [*dealt, *(next(others, None) for _ in range(left))]


def spread(
    items: Sequence[Knowledge | None], counts: Mapping[str, int]
) -> dict[str, list[Knowledge | None]]:
    """Gives out a label's items over its registers, each register an even part of every kind."""
    slots = sorted(
        ((i + 0.5) / count, place, register)
        for place, (register, count) in enumerate(counts.items())
        for i in range(count)
    )
    cells: dict[str, list[Knowledge | None]] = {r: [] for r, count in counts.items() if count}
    for (_, _, register), item in zip(slots, items, strict=True):
        cells[register].append(item)
    return cells


def label_variables(task: Task, label: str) -> dict[str, Any]:
    """What templates may say of the task and of the label asked for."""
    own = task.label_space().tags(label)
    others = [name for name in task.labels if name not in own]
    return {
        "text_type": task.text_type,
        "description": task.description,
        "domain": task.domain,
        "instruction": task.generation.instruction,
        "label_type": task.label_type,
        "label": label,
        "label_description": task.describe(label),
        "other_labels": [] if task.kind == "regression" else others,
    }


def fitted(
    cells: Mapping[str, Sequence[Knowledge | None]], fits: Callable[[Knowledge | None, str], bool]
) -> dict[str, list[Knowledge | None]]:
    """Moves what does not fit a register to one that it fits, by exchange.

    Args:
        cells: Register to what its requests name.
        fits: Whether a request in a register can name something.

    Returns:
        As many entries a register; what fits nowhere is named by no request.
    """
    found = {register: list(items) for register, items in cells.items()}
    places = [(register, i) for register, items in found.items() for i in range(len(items))]
    for register, i in places:
        item = found[register][i]
        if fits(item, register):
            continue
        found[register][i] = None
        for other, j in places:
            if fits(item, other) and fits(found[other][j], register) and found[other][j] != item:
                found[register][i], found[other][j] = found[other][j], item
                break
    return found


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
        register_asked=request.register,
        request_id=request.id,
        shot_ids=request.shot_ids,
        round=request.round,
        prompt_id=request.template,
        seed=request.seed,
        rejected=rejected,
    )
