"""The step "generate": rounds of requests, pairs in two turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from japagen.config.sections import Knowledge
from japagen.config.task import Task
from japagen.config.task_data import TaskData
from japagen.config.yaml_file import read_honorifics
from japagen.curation.filters import curate, filter_texts
from japagen.data.dataset import Dataset
from japagen.data.files import digest, read_json, write_json
from japagen.data.summary import LabelCoverage
from japagen.errors import JapagenError
from japagen.generation import coverage, pairs, planner
from japagen.generation.coverage import passages_in
from japagen.generation.planner import RequestPlanner, first_wants, round_sizes, to_dataset
from japagen.generation.register_mix import Shares, register_shares
from japagen.japanese.morphology import Tagger
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.japanese.registers import OTHER, Register
from japagen.listener import Listener, Silent
from japagen.llm.backend import Answer, GeneratorInfo, Request
from japagen.llm.client import Asked, Asker
from japagen.llm.prompts import PromptLibrary
from japagen.pipeline.cache import StageRunner, fingerprint_of

# A round that named nothing but what is missing would be all exceptions.
_MOST_MISSING = 0.5
# How often texts that a list came without are asked for again.
_MORE_REQUESTS = 2
# Registers are asked for otherwise than planned where they are off by more standard errors.
_REGISTER_ERRORS = 2.0
_LEAST_REGISTER = 0.25


@dataclass(frozen=True)
class Generated:
    """What came of all rounds.

    Attributes:
        requests: Everything asked, in order.
        answers: Request id to accepted answer.
        failures: Request id to the reason why there is none.
        sent: How many requests had no answer before.
        rounds: What was found after each round, JSON-ready; empty with one round.
    """

    requests: list[Request]
    answers: Mapping[str, Answer]
    failures: Mapping[str, str]
    sent: int
    rounds: list[dict[str, Any]]


class Rounds:
    """Generates a task's texts in rounds.

    What is found after a round is kept by the ids of the requests so far. An answer that comes
    later, to a request that failed before, changes nothing that was already asked on its grounds.

    Args:
        task: The task.
        data: Its texts.
        gold: Gold with registers, or None.
        analyzer: Finds registers.
        asker: Asks the generator through the ledger.
        stages: Keeps what was found after each round.
        listener: Told when the rounds end early.
    """

    def __init__(
        self,
        task: Task,
        data: TaskData,
        gold: Dataset | None,
        analyzer: RegisterAnalyzer,
        asker: Asker,
        stages: StageRunner,
        listener: Listener,
    ) -> None:
        self._task = task
        self._gold = gold
        self._unlabelled = data.unlabelled
        self._corpus = data.corpus
        self._analyzer = analyzer
        self._asker = asker
        self._stages = stages
        self._listener = listener
        self._prompts = PromptLibrary(task.generation.prompts)
        self._registers = planned_registers(task, data, gold, analyzer)

    def generate(self) -> Generated:
        """Asks for everything, round by round.

        Raises:
            JapagenError: If no request of the first round was answered.
        """
        task, info = self._task, self._asker.info
        planner = RequestPlanner(
            task, self._gold, self._prompts, info, self._analyzer.tagger, self._corpus
        )
        sizes = round_sizes(task)
        made = Generated([], {}, {}, 0, [])
        registers: Mapping[str, Shares] = self._registers
        wanted = {label: first_wants(task, label, sizes[0]) for label in task.labels}
        for number, size in enumerate(sizes):
            requests = planner.round(number, size, registers, wanted)
            made = self._ask(made, requests, planner)
            if len(sizes) == 1:
                break
            made.rounds.append(self._look_back(made, number))
            if made.rounds[-1]["stopped"] and number + 1 < len(sizes):
                texts = sum(r.texts for r in made.requests) / len(made.requests)
                left = round(sum(sizes[number + 1 :]) * len(task.labels) / texts)
                self._listener.note(
                    f"Round {number + 1} of {len(sizes)} brought the texts no closer to gold; "
                    f"{left} requests were saved."
                )
                break
            if number + 1 < len(sizes):
                registers, wanted = self._next(made.rounds[-1], sizes[number + 1])
        return made

    def _ask(self, made: Generated, requests: list[Request], planner: RequestPlanner) -> Generated:
        asked = self._asker.ask(requests, "generate")
        asked.check(requests)
        answers, failures, sent = dict(asked.answers), dict(asked.failures), asked.sent
        short = planner.missing(requests, answers)
        for _ in range(_MORE_REQUESTS):
            if not short:
                break
            requests = [*requests, *short]
            asked = self._asker.ask(short, "generate")
            answers, failures = {**answers, **asked.answers}, {**failures, **asked.failures}
            sent += asked.sent
            short = planner.missing(short, asked.answers)
        if lacking := sum(r.texts for r in short):
            self._listener.note(
                f"{lacking} texts did not come: answers held fewer than they were asked for."
            )
        answers, failures = {**made.answers, **answers}, {**made.failures, **failures}
        return Generated(
            [*made.requests, *requests], answers, failures, made.sent + sent, made.rounds
        )

    def _look_back(self, made: Generated, number: int) -> dict[str, Any]:
        """What the texts so far are and lack, found now or kept."""
        task = self._task
        fingerprint = {
            "requests": digest([r.id for r in made.requests]),
            "gold": fingerprint_of(self._gold),
            "unlabelled": fingerprint_of(self._unlabelled),
            "curation": task.curation.model_dump(mode="json"),
            "prompts": digest(self._prompts.phrases),
            "japanese": self._analyzer.identity,
        }
        result: dict[str, Any] = self._stages.run(
            f"round-{number + 1}",
            [f"rounds/{number + 1}.json"],
            fingerprint,
            lambda: self._found(made, number),
            write_json,
            read_json,
        )
        return result

    def _found(self, made: Generated, number: int) -> dict[str, Any]:
        from japagen.generation.gaps import (
            Distance,
            as_rows,
            has_fallen,
            round_distances,
            shortfall,
        )

        task, tagger = self._task, self._analyzer.tagger
        rows = to_dataset(made.requests, made.answers, made.failures, self._asker.info.name)
        seen = find_registers(rows, self._analyzer)
        passages = coverage.passages_in(made.requests)
        rows = filter_texts(
            task, seen, self._gold, self._prompts.phrases, tagger, passages=passages
        )
        kept = rows.kept
        rounds = kept.column("round")
        first = kept.where(_mask(rounds, 0))
        targets = [d for d in (self._gold, self._unlabelled) if d is not None]
        distances = round_distances([first, kept], targets, tagger, task.seed)[-1]
        stopped = False
        if number and distances:
            before = made.rounds[-1]["distances"].get("words")
            stopped = bool(before) and not has_fallen(Distance(**before), distances["words"])
        missing = (
            shortfall(rows, self._gold, self._unlabelled, task.labels, tagger)
            if self._gold is not None
            else {label: [] for label in task.labels}
        )
        covered = coverage.measure_coverage(task, rows, coverage.named_in(made.requests), tagger)
        return {
            "round": number + 1,
            "requests": sum(r.round == number for r in made.requests),
            "named": _named([r for r in made.requests if r.round == number]),
            "kept": sum(r == number for r in rounds),
            "distances": {name: distance.to_dict() for name, distance in distances.items()},
            "missing": as_rows(missing),
            "registers": {label: _registers(kept, label) for label in task.labels},
            "coverage": {label: found.model_dump() for label, found in covered.items()},
            "stopped": stopped,
        }

    def _next(
        self, found: Mapping[str, Any], size: int
    ) -> tuple[dict[str, Shares], dict[str, dict[Knowledge, float]]]:
        """What the next round asks for: registers, and things to name."""
        registers, wanted = {}, {}
        for label in self._task.labels:
            registers[label] = next_registers(
                self._registers[label], found["registers"][label], size
            )
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


def _mask(values: list[int], wanted: int) -> Any:
    import numpy as np

    return np.array(values, dtype=np.int64) == wanted


def _named(requests: list[Request]) -> dict[str, int]:
    """How many requests name something of each kind."""
    counts: dict[str, int] = {}
    for request in requests:
        for text in request.knowledge:
            kind = Knowledge.parse(text).kind
            counts[kind] = counts.get(kind, 0) + 1
    return counts


def _registers(kept: Dataset, label: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, row in zip(kept.labels, kept.column("register_seen"), strict=True):
        if name == label:
            preset = Register.from_dict(row).name if row else OTHER
            counts[preset] = counts.get(preset, 0) + 1
    return counts


def generate_pairs(
    task: Task, gold: Dataset | None, firsts: list[Request], asker: Asker, stages: StageRunner
) -> Dataset:
    """Asks for first texts, turns down what curation would, and asks for their second texts.

    Args:
        task: A task of pairs.
        gold: Training gold with ``register_seen`` filled in, or None.
        firsts: The requests of the first turn.
        asker: Whom to ask.
        stages: Where both turns' texts are kept.

    Returns:
        A row for each first text and label; those that miss a text are rejected.

    Raises:
        JapagenError: If no request of a turn was answered.
    """
    prompts, info = PromptLibrary(task.generation.prompts), asker.info
    asked = asker.ask(firsts, "generate")
    asked.check(firsts)
    tagger = Tagger(task.japanese.user_dictionary)
    fingerprint = {
        **_asked(asked, firsts),
        "curation": task.curation.model_dump(mode="json"),
        "gold": fingerprint_of(gold),
        "phrases": digest(prompts.phrases),
        "dictionary": tagger.identity,
    }

    def make() -> Dataset:
        rows = planner.to_dataset(firsts, asked.answers, asked.failures, info.name, lambda _: None)
        shown = gold.with_columns(text_pair=[None] * len(gold)) if gold is not None else None
        return curate(rows, task.curation, shown, prompts.phrases, passages_in(firsts), tagger)

    texts = stages.dataset("generate-firsts", "firsts.parquet", fingerprint, make, Silent())
    shots = shots_of(task, gold)
    requests = pairs.plan_seconds(task, shots, texts, prompts, info)
    if not requests:
        counts = _reasons(texts)
        raise JapagenError(
            f"None of {len(texts)} first texts can be used: {counts}.",
            "Read firsts.parquet in the run and loosen curation in the task.",
        )
    seconds = asker.ask(requests, "generate")
    seconds.check(requests)
    return stages.dataset(
        "generate",
        "generated.parquet",
        {"firsts": texts.fingerprint, **_asked(seconds, requests)},
        lambda: pairs.to_pairs(
            task, shots, texts, requests, seconds.answers, seconds.failures, info.name
        ),
        listener=Silent() if asked.sent + seconds.sent else stages.listener,
    )


def _reasons(texts: Dataset) -> str:
    """Why texts were rejected, for a message."""
    reasons = [row["filter"] for row in texts.column("rejected") if row]
    return ", ".join(f"{name}: {reasons.count(name)}" for name in dict.fromkeys(reasons))


def _asked(asked: Asked, requests: list[Request]) -> dict[str, str]:
    answers = asked.answers
    return {
        "requests": digest([r.id for r in requests]),
        "answers": digest({key: answers[key].text for key in sorted(answers)}),
        "failures": digest(dict(sorted(asked.failures.items()))),
    }


def plan(
    task: Task, data: TaskData, info: GeneratorInfo, gold: Dataset | None = None
) -> list[Request]:
    """The requests a task would send, in order; of pairs those of the first turn.

    Args:
        task: The task.
        data: Its texts.
        info: Who would answer.
        gold: Gold with registers already found; found here when None.
    """
    analyzer = load_analyzer(task)
    if gold is None and data.gold is not None:
        gold = find_registers(data.gold, analyzer)
    shares = planned_registers(task, data, gold, analyzer)
    prompts = PromptLibrary(task.generation.prompts)
    planned = pairs.plan_firsts if task.pair else planner.plan_requests
    return planned(task, gold, shares, prompts, info, analyzer.tagger, data.corpus)


def planned_registers(
    task: Task, data: TaskData, gold: Dataset | None, analyzer: RegisterAnalyzer
) -> dict[str, Shares]:
    """Label to register name to the share of its requests.

    Args:
        task: The task.
        data: Its texts.
        gold: Gold with registers, or None.
        analyzer: Finds those of unlabelled texts, where they count.
    """
    unlabelled = data.unlabelled
    if task.registers == "from_gold" and unlabelled is not None:
        unlabelled = find_registers(unlabelled, analyzer)
    shown = planner.strategy_of(task, gold) == "few_shot"
    return register_shares(task, gold, unlabelled, shown=shown)


def shots_of(task: Task, gold: Dataset | None) -> Dataset | None:
    """The gold that prompts may show: none of it under a zero-shot strategy."""
    return gold if planner.strategy_of(task, gold) == "few_shot" else None


def load_analyzer(task: Task) -> RegisterAnalyzer:
    """Opens the dictionary and the list of honorifics that a task names.

    Raises:
        JapagenError: If one of them cannot be read.
    """
    honorifics = task.japanese.honorifics
    if isinstance(honorifics, Path):
        honorifics = read_honorifics(honorifics)
    return RegisterAnalyzer(task.japanese.user_dictionary, honorifics)


def find_registers(data: Dataset, analyzer: RegisterAnalyzer) -> Dataset:
    """Fills in the register seen in every text."""
    return data.with_registers([r.register for r in analyzer.analyze_all(data.texts)])
