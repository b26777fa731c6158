"""The step "generate": rounds of requests, pairs in two turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import sqrt
from typing import Any

import numpy as np

from japagen.config.curation import Curation
from japagen.config.generation import Knowledge, UntilKept
from japagen.config.task import Task
from japagen.data.dataset import Dataset
from japagen.data.labels import LabelSpace
from japagen.data.summary import LabelCoverage, LabelUntil, UntilReason, UntilSummary
from japagen.errors import JapagenError
from japagen.generation import coverage, fields, pairs, planner
from japagen.generation.coverage import named_in, passages_in
from japagen.generation.planner import (
    RequestPlanner,
    Shares,
    Tally,
    first_wants,
    register_shares,
    round_sizes,
    to_ask,
    to_dataset,
)
from japagen.japanese.registers import OTHER, Register
from japagen.listener import Silent
from japagen.llm.backend import Answer, GeneratorInfo, Request
from japagen.llm.client import Asked
from japagen.pipeline.cache import Step, only
from japagen.pipeline.context import RunContext, TaskContext, find_registers
from japagen.pipeline.steps import curate
from japagen.pipeline.steps.curate import TextFilter

_GENERATE = Step("generate", 2, ("generated.parquet",))
_FIRSTS = Step("generate-firsts", 2, ("firsts.parquet",))
_LATER = Step("later-fields", 1, ())
_ROUND = Step("round", 2, ("rounds/1.json",))
# A round that named nothing but what is missing would be all exceptions.
_MOST_MISSING = 0.5
# How often texts that a list came without are asked for again.
_MORE_REQUESTS = 2
# Registers are asked for otherwise than planned where they are off by more standard errors.
_REGISTER_ERRORS = 2.0
_LEAST_REGISTER = 0.25


@dataclass(frozen=True)
class Generated:
    """What the generator wrote.

    Attributes:
        dataset: Its texts; failed requests are rejected rows.
        passages: Material that prompts showed.
        named: Id of a text that was asked for to what it was to name.
        rounds: What was found after each round, JSON-ready; empty with one round.
        until: What came of asking until enough texts were kept; None where that was not asked.
    """

    dataset: Dataset
    passages: Sequence[str]
    named: Mapping[str, tuple[Knowledge, ...]] = field(default_factory=dict)
    rounds: Sequence[dict[str, Any]] = ()
    until: UntilSummary | None = None


def generate(run: RunContext) -> Generated:
    """Asks the task's generator for all texts.

    Raises:
        JapagenError: If no request of the first round, or of a turn, was answered.
    """
    return _generate_pairs(run) if run.task.pair else _generate_texts(run)


def _generate_texts(run: RunContext) -> Generated:
    task, info = run.task, run.client.info
    prompts = RequestPlanner(
        task, run.gold, run.prompts, info, run.analyzer.tagger, run.data.corpus, run.data.seed
    )
    requests: list[Request] = []
    rounds: list[dict[str, Any]] = []
    until = None
    if task.generation.until:
        asked, until = _ask_until(run, prompts, requests, task.generation.until)
    else:
        asked, rounds = _ask_rounds(run, prompts, requests)
    dataset = run.cache.step(
        _GENERATE,
        _written,
        # What was just answered has been told; the file it goes to is no news.
        told=Silent() if asked.sent else None,
        requests=requests,
        answers=asked.answers,
        failures=asked.failures,
        generator=info.name,
        space=task.label_space(),
    )
    passages = not_to_copy(run, requests)
    return Generated(
        _with_later(run, dataset, passages), passages, named_in(requests), rounds, until
    )


def _with_later(run: RunContext, texts: Dataset, passages: Sequence[str]) -> Dataset:
    """Asks for the fields that are asked for when the texts are there, of those worth it."""
    for number in fields.later_requests(run.task):
        filtered = run.cache.step(
            _LATER.named(f"worth-completing-{number}", f"fields/{number}-texts.parquet"),
            lambda texts, text_filter: text_filter(texts),
            told=Silent(),
            texts=texts,
            text_filter=TextFilter.of(run, passages),
        )
        worth = texts.where(filtered.kept_mask)
        planned = fields.plan_later(run.task, worth, number, run.prompts, run.client.info)
        asked = run.client.ask(list(planned.values()), "generate")
        if planned:
            asked.check(list(planned.values()))
        texts = run.cache.step(
            _LATER.named(f"later-fields-{number}", f"fields/{number}.parquet"),
            fields.with_later,
            told=Silent() if asked.sent else None,
            texts=texts,
            planned=planned,
            answers=asked.answers,
            failures=asked.failures,
        )
    return texts


def _ask_rounds(
    run: RunContext, prompts: RequestPlanner, requests: list[Request]
) -> tuple[Asked, list[dict[str, Any]]]:
    """Asks round by round; ``requests`` becomes all that were asked.

    What is found after a round is kept by the ids of the requests so far. An answer that comes
    later, to a request that failed before, changes nothing that was already asked on its grounds.
    """
    task = run.task
    sizes = round_sizes(task)
    asked = Asked({}, {}, 0, {})
    rounds: list[dict[str, Any]] = []
    registers: Mapping[str, Shares] = planned_registers(run)
    planned = registers
    wanted = {label: first_wants(task, label, sizes[0]) for label in task.labels}
    for number, size in enumerate(sizes):
        more = _ask_all(run, prompts, prompts.round(number, size, registers, wanted), requests)
        asked = _joined(asked, more)
        if len(sizes) == 1:
            break
        rounds.append(_look_back(run, requests, asked, rounds))
        if number + 1 == len(sizes):
            break
        if rounds[-1]["stopped"]:
            texts = sum(r.texts for r in requests) / len(requests)
            left = round(sum(sizes[number + 1 :]) * len(task.labels) / texts)
            run.listener.note(
                f"Round {number + 1} of {len(sizes)} brought the texts no closer to gold; "
                f"{left} requests were saved."
            )
            break
        registers, wanted = _next(task, planned, rounds[-1], sizes[number + 1])
    return asked, rounds


def _ask_until(
    run: RunContext, prompts: RequestPlanner, requests: list[Request], until: UntilKept
) -> tuple[Asked, UntilSummary]:
    """Asks again for labels that are short of kept texts; ``requests`` becomes all asked.

    As with other rounds, what was found after one is kept: an answer that comes later changes
    nothing that was already asked on its grounds.
    """
    task = run.task
    registers = planned_registers(run)
    asked = Asked({}, {}, 0, {})
    history: dict[str, list[Tally]] = {label: [] for label in task.labels}
    sizes = dict.fromkeys(task.labels, until.kept)
    number = 0
    while True:
        wanted = {label: first_wants(task, label, size) for label, size in sizes.items()}
        planned = prompts.round(number, sizes, registers, wanted)
        more = _ask_all(run, prompts, planned, requests, needed=number == 0)
        asked, number = _joined(asked, more), number + 1
        tallies = _tallies(run, number, requests, asked, more)
        for label, past in history.items():
            if label not in sizes:
                # What came of others may have decided on its texts again.
                past.pop()
            past.append(tallies[label])
        found = {label: to_ask(until, past) for label, past in history.items()}
        sizes = {label: size for label, (size, _) in found.items() if size}
        if not sizes or more.beyond_budget:
            break
    short: UntilReason = "budget" if more.beyond_budget else "unanswered"
    came: dict[str, LabelUntil] = {}
    for label, (_, why) in found.items():
        reason = short if why in (None, "unanswered") else why
        asked_for, kept = tallies[label].asked, tallies[label].kept
        came[label] = LabelUntil(asked=asked_for, kept=kept, reason=reason)
        run.listener.note(
            f"Label '{label}': {kept} texts kept of {asked_for} asked for, {until.kept} wanted: "
            f"{_STOPPED[reason]}"
        )
    return asked, UntilSummary(wanted=until.kept, rounds=number, labels=came)


_STOPPED: dict[UntilReason, str] = {
    "enough": "enough.",
    "rounds": "generation.until.rounds were over.",
    "yield": "too few of the last texts were kept (generation.until.least_yield).",
    "budget": "generation.budget is used up.",
    "unanswered": "the generator did not answer; the same command asks again.",
}


def _tallies(
    run: RunContext, number: int, requests: Sequence[Request], asked: Asked, last: Asked
) -> dict[str, Tally]:
    """What has become of each label's texts after a round, found now or kept."""
    settings, model = curate.register_control(run, ask=True)
    unanswered = model.unanswered if model else []
    silent = {r.label for r in requests if r.id in last.failures}
    silent -= {r.label for r in requests if r.id in last.answers}
    if silent or last.beyond_budget:
        # A label stops here for want of answers. When they come, it goes on.
        unanswered += last.failures
    found = run.cache.step(
        _ROUND.named(f"round-{number}", f"rounds/{number}.json"),
        _counted,
        # Answers that come later change nothing: see above.
        uses={"asked": asked, "generator": run.client.info.name},
        unanswered=unanswered,
        requests=requests,
        text_filter=TextFilter.of(run, not_to_copy(run, requests)),
        settings=settings,
        model=model,
        source=run.task.generator_source,
        labels=list(run.task.labels),
    )
    return {label: Tally(**row) for label, row in found.items()}


def _counted(
    requests: Sequence[Request],
    text_filter: TextFilter,
    settings: Curation,
    model: curate.ModelRewriter | None,
    source: str,
    labels: Sequence[str],
    asked: Asked,
    generator: str,
) -> dict[str, dict[str, int]]:
    rows = to_dataset(requests, asked.answers, asked.failures, generator)
    # The model rewrites what its own source wrote.
    rows = find_registers(rows.with_columns(source=[source] * len(rows)), text_filter.analyzer)
    kept = curate.held_to_registers(text_filter(rows), settings, text_filter, model).kept
    failed = [row is not None and row["filter"] == "failed" for row in rows.column("rejected")]
    written = Counter(rows.labels)
    lost = Counter(label for label, lost in zip(rows.labels, failed, strict=True) if lost)
    counts = Counter(kept.labels)
    return {
        label: asdict(Tally(written[label], written[label] - lost[label], counts[label]))
        for label in labels
    }


def not_to_copy(context: TaskContext, requests: Sequence[Request]) -> list[str]:
    """Passages that prompts showed, and what they said of writers, which small models recite."""
    passages, seed, table = passages_in(requests), context.task.generation.seed, context.data.seed
    # A text about a row may well say what its columns do, such as the name of a product.
    if seed is None or table is None or seed.role != "writer":
        return passages
    told = {id_ for request in requests for id_ in request.seed_rows}
    values = {v for row in table.rows if row.id in told for v in row.values.values() if v}
    return sorted({*passages, *values})


def _written(
    requests: Sequence[Request],
    answers: Mapping[str, Answer],
    failures: Mapping[str, str],
    generator: str,
    space: LabelSpace | None = None,
    text_filter: TextFilter | None = None,
) -> Dataset:
    """The texts, filtered if wanted; those that are asked for without a label have none."""
    label_of = space.label if space else lambda _: None
    made = to_dataset(requests, answers, failures, generator, label_of)
    return text_filter(made) if text_filter else made


def _ask_all(
    run: RunContext,
    prompts: RequestPlanner,
    requests: Sequence[Request],
    before: list[Request],
    *,
    needed: bool = True,
) -> Asked:
    """Asks, and again for texts that lists came without; all requests join those before.

    Raises:
        JapagenError: If answers are needed and none can be used.
    """
    asked = Asked({}, {}, 0, {})
    for attempt in range(1 + _MORE_REQUESTS):
        if not requests:
            break
        before += requests
        more = run.client.ask(requests, "generate")
        if attempt == 0 and needed:
            more.check(requests)
        asked = _joined(asked, more)
        requests = prompts.missing(requests, more.answers)
    if lacking := sum(r.texts for r in requests):
        run.listener.note(
            f"{lacking} texts did not come: answers held fewer than they were asked for."
        )
    return asked


def _joined(one: Asked, other: Asked) -> Asked:
    return Asked(
        {**one.answers, **other.answers},
        {**one.failures, **other.failures},
        one.sent + other.sent,
        Counter(one.unusable) + Counter(other.unusable),
    )


def _look_back(
    run: RunContext, requests: Sequence[Request], asked: Asked, before: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What the texts so far are and lack, found now or kept."""
    number, task = len(before), run.task
    names = ("labels", "concepts", "rare_cases", "boundary_cases", "seed")
    covers = only(
        task, *names, generation=only(task.generation, "attributes", "knowledge", "rare_share")
    )
    return run.cache.step(
        _ROUND.named(f"round-{number + 1}", f"rounds/{number + 1}.json"),
        _found,
        # Answers that come later change nothing: see above.
        uses={"asked": asked, "generator": run.client.info.name},
        requests=requests,
        text_filter=TextFilter.of(run, not_to_copy(run, requests)),
        unlabelled=run.data.unlabelled,
        task=covers,
        before=before[-1]["distances"].get("words") if before else None,
    )


def _found(
    requests: Sequence[Request],
    text_filter: TextFilter,
    unlabelled: Dataset | None,
    task: Task,
    before: Mapping[str, Any] | None,
    asked: Asked,
    generator: str,
) -> dict[str, Any]:
    from japagen.generation.coverage import Distance, has_fallen, round_distances, shortfall

    gold, tagger = text_filter.gold, text_filter.analyzer.tagger
    number = max(request.round for request in requests)
    rows = to_dataset(requests, asked.answers, asked.failures, generator)
    rows = text_filter(find_registers(rows, text_filter.analyzer))
    kept = rows.kept
    rounds = np.array(kept.column("round"), dtype=np.int64)
    targets = [d for d in (gold, unlabelled) if d is not None]
    distances = round_distances([kept.where(rounds == 0), kept], targets, tagger, task.seed)[-1]
    stopped = bool(before and distances) and not has_fallen(
        Distance(**(before or {})), distances["words"]
    )
    missing = (
        shortfall(rows, gold, unlabelled, task.labels, tagger)
        if gold is not None
        else {label: [] for label in task.labels}
    )
    covered = coverage.measure_coverage(task, rows, named_in(requests), tagger)
    last = [request for request in requests if request.round == number]
    return {
        "round": number + 1,
        "requests": len(last),
        "named": _named(last),
        "kept": int((rounds == number).sum()),
        "distances": {name: asdict(distance) for name, distance in distances.items()},
        "missing": {label: [asdict(m) for m in found] for label, found in missing.items()},
        "registers": {label: _registers(kept, label) for label in task.labels},
        "coverage": {label: found.model_dump() for label, found in covered.items()},
        "stopped": stopped,
    }


def _next(
    task: Task, planned: Mapping[str, Shares], found: Mapping[str, Any], size: int
) -> tuple[dict[str, Shares], dict[str, dict[Knowledge, float]]]:
    """What the next round asks for: registers, and things to name."""
    registers, wanted = {}, {}
    for label in task.labels:
        registers[label] = next_registers(planned[label], found["registers"][label], size)
        covered = LabelCoverage.model_validate(found["coverage"][label])
        wants = coverage.due(covered, size)
        gaps = {
            Knowledge(row["kind"], row["item"], tuple(row["gold_ids"])): (
                row["target"] - row["synthetic"]
            )
            * (covered.kept + size)
            for row in found["missing"][label]
        }
        room = min(_MOST_MISSING * size, max(0.0, size - sum(wants.values())))
        scale = min(1.0, room / max(sum(gaps.values()), 1e-9))
        wanted[label] = wants | {known: scale * gap for known, gap in gaps.items()}
    return registers, wanted


def next_registers(planned: Mapping[str, float], seen: Mapping[str, int], size: int) -> Shares:
    """Register shares of the next round, which make up for what came out otherwise.

    Args:
        planned: Shares wanted of all texts.
        seen: Kept texts in each register, whatever was asked for.
        size: Requests of the next round.

    Returns:
        Shares that add up to 1. A register that is off by no more than two standard errors keeps
        its share; none falls below a quarter of it.
    """
    n = sum(seen.values())
    needs = {}
    for name, share in planned.items():
        usual = share * size
        off = share * n - seen.get(name, 0)
        noise = _REGISTER_ERRORS * sqrt(n * share * (1 - share))
        needs[name] = max(_LEAST_REGISTER * usual, usual + (off if abs(off) > noise else 0.0))
    total = sum(needs.values())
    return {name: need / total for name, need in needs.items()}


def _named(requests: Sequence[Request]) -> dict[str, int]:
    """How many requests name something of each kind."""
    return Counter(Knowledge.parse(text).kind for r in requests for text in r.knowledge)


def _registers(kept: Dataset, label: str) -> dict[str, int]:
    return Counter(
        Register.from_dict(row).name if row else OTHER
        for name, row in zip(kept.labels, kept.column("register_seen"), strict=True)
        if name == label
    )


def _generate_pairs(run: RunContext) -> Generated:
    """Asks for first texts, rejects what curation would, and asks for their second texts.

    There is a row for each first text and label; those that miss a text are rejected.
    """
    task, info = run.task, run.client.info
    firsts = plan(run, info)
    passages = not_to_copy(run, firsts)
    asked = run.client.ask(firsts, "generate")
    asked.check(firsts)
    text_filter = TextFilter.of(run, passages)
    if run.gold is not None:
        alone = run.gold.with_columns(text_pair=[None] * len(run.gold))
        text_filter = replace(text_filter, gold=alone)
    texts = run.cache.step(
        _FIRSTS,
        _written,
        told=Silent(),
        requests=firsts,
        answers=asked.answers,
        failures=asked.failures,
        generator=info.name,
        text_filter=text_filter,
    )
    shots = shots_of(run)
    requests = pairs.plan_seconds(task, shots, texts, run.prompts, info)
    if not requests:
        reasons = ", ".join(f"{name}: {n}" for name, n in texts.rejection_counts.items())
        raise JapagenError(
            f"None of {len(texts)} first texts can be used: {reasons}.",
            "Read firsts.parquet in the run and loosen curation in the task.",
        )
    seconds = run.client.ask(requests, "generate")
    seconds.check(requests)
    dataset = run.cache.step(
        _GENERATE,
        pairs.to_pairs,
        told=Silent() if asked.sent + seconds.sent else None,
        task=only(
            task,
            "labels",
            "kind",
            "scale",
            "pair",
            generation=only(task.generation, "completions_per_shot_set"),
        ),
        gold=shots,
        firsts=texts,
        requests=requests,
        answers=seconds.answers,
        failures=seconds.failures,
        generator=info.name,
    )
    return Generated(dataset, passages)


def plan(context: TaskContext, info: GeneratorInfo) -> list[Request]:
    """The requests a task would send, in order; of pairs those of the first turn."""
    task, prompts, data = context.task, context.prompts, context.data
    registers, tagger = planned_registers(context), context.analyzer.tagger
    if task.pair:
        return pairs.plan_firsts(
            task, context.gold, registers, prompts, info, tagger, data.corpus, data.seed
        )
    planning = RequestPlanner(task, context.gold, prompts, info, tagger, data.corpus, data.seed)
    return planning.plan(registers)


def planned_registers(context: TaskContext) -> dict[str, Shares]:
    """Label to register name to the share of its requests."""
    task, unlabelled = context.task, context.data.unlabelled
    if task.registers == "from_gold" and unlabelled is not None:
        unlabelled = find_registers(unlabelled, context.analyzer)
    shown = planner.strategy_of(task, context.gold) == "few_shot"
    return register_shares(task, context.gold, unlabelled, shown=shown)


def shots_of(context: TaskContext) -> Dataset | None:
    """The gold that prompts may show: none of it under a zero-shot strategy."""
    few_shot = planner.strategy_of(context.task, context.gold) == "few_shot"
    return context.gold if few_shot else None
