"""Register control: texts off register are kept, rewritten or rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from japagen.config.task import Task
from japagen.data.dataset import REWRITTEN, Dataset, Example, Rejection
from japagen.japanese.normalization import normalize
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.japanese.registers import OTHER, Register
from japagen.japanese.style.converter import Target, convert_style
from japagen.llm.answers import one_line, read_answer
from japagen.llm.backend import Answer, GeneratorInfo, Request, Sampling
from japagen.llm.prompts import PromptLibrary
from japagen.llm.requests import make_request

Action = Literal["keep", "rewrite"]


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The result of rewriting one text.

    Attributes:
        text: The new text; empty when refused.
        register: The register found in it.
        refused: Why there is no new text.
        generator: Who rewrote it: "rules" or a model's name.
        request_id: The request that did, if it was a model.
        prompt_id: That request's template.
        seed: That request's seed.
    """

    text: str = ""
    register: Register | None = None
    refused: str = ""
    generator: str = "rules"
    request_id: str | None = None
    prompt_id: str | None = None
    seed: int | None = None


Rewriter = Callable[[Sequence[tuple[Example, str]]], Sequence[Rewritten]]
"""Rewrites examples, each into the register named beside it, one result each."""


def control_registers(
    dataset: Dataset, actions: Sequence[Action], rules: Rewriter, model: Rewriter | None = None
) -> tuple[Dataset, Dataset | None]:
    """Keeps, rewrites or rejects the examples that are off register.

    Each label and register has room for as many examples as were asked for in it. Examples in
    the register asked for take their places first; then every action is tried in turn on what
    is left, in the order of the dataset, so that the same answers give the same dataset. What
    no action can place is rejected.

    ``keep`` takes an example for what it is where its own register has room. ``rewrite`` asks
    the rules and then the model for the register that was asked for, and the rules for any
    other register with room.

    Args:
        dataset: Examples with the registers asked for and seen; rows without the first, and
            rejected rows, stay as they are.
        actions: What to do with a miss, in order.
        rules: Rewrites without a model.
        model: Rewrites with one; None for rules alone.

    Returns:
        The same rows in the same order, with ``rejected`` filled in, and the rewritten
        children of rejected rows (None when there are none).
    """
    control = _Control(list(dataset))
    for action in actions:
        if action == "keep":
            control.keep()
        else:
            control.rewrite(rules, _as_asked)
            if model is not None:
                control.rewrite(model, _as_asked)
            control.rewrite(rules, control.open_registers)
    return control.result(dataset)


class _Control:
    """The places taken so far, and the examples that have none."""

    def __init__(self, rows: list[Example]) -> None:
        self._rows = rows
        asked = [(_label(e), e.register_asked.name) for e in rows if e.register_asked]
        self._asked = Counter(asked)
        self._room = Counter(asked)
        self._children: dict[int, Example] = {}
        self._refused: dict[int, str] = {}
        self._pending: list[int] = []
        for index, row in enumerate(rows):
            if row.rejected is None and row.register_asked is not None:
                if _seen(row) == row.register_asked.name:
                    self._room[_label(row), _seen(row)] -= 1
                else:
                    self._pending.append(index)

    def _take(self, row: Example, register: str) -> bool:
        if self._room[_label(row), register] <= 0:
            return False
        self._room[_label(row), register] -= 1
        return True

    def open_registers(self, row: Example) -> list[str]:
        """Registers of the row's label with room, the emptiest first."""
        room = {name: n for (label, name), n in self._room.items() if label == _label(row)}
        return sorted((n for n in room if room[n] > 0), key=lambda n: -room[n])

    def keep(self) -> None:
        rows = self._rows
        self._pending = [i for i in self._pending if not self._take(rows[i], _seen(rows[i]))]

    def rewrite(self, rewriter: Rewriter, targets: Callable[[Example], list[str]]) -> None:
        """Rewrites what is pending, each into the first of its targets that has room."""
        sent: list[tuple[int, str]] = []
        for index in self._pending:
            row = self._rows[index]
            wanted = [t for t in targets(row) if t not in (OTHER, _seen(row))]
            target = next((t for t in wanted if self._take(row, t)), None)
            if target:
                sent.append((index, target))
        made = rewriter([(self._rows[i], target) for i, target in sent])
        for (index, target), found in zip(sent, made, strict=True):
            row = self._rows[index]
            if found.text:
                self._children[index] = _child(row, target, found)
            else:
                self._room[_label(row), target] += 1
                self._refused[index] = f"{target}: {found.refused}"
        self._pending = [i for i in self._pending if i not in self._children]

    def result(self, dataset: Dataset) -> tuple[Dataset, Dataset | None]:
        rejections = [row.rejected for row in self._rows]
        for index in (*self._pending, *self._children):
            rejections[index] = self._rejection(index, self._rows[index])
        children = [self._children[i] for i in sorted(self._children)]
        controlled = dataset.with_rejections(rejections)
        return controlled, Dataset.of(children) if children else None

    def _rejection(self, index: int, row: Example) -> Rejection:
        seen = _seen(row)
        asked = row.register_asked.name if row.register_asked else ""
        places = self._asked[_label(row), seen]
        detail = f"{asked} asked, {seen} seen"
        child = self._children.get(index)
        if child is not None:
            target = child.register_asked.name if child.register_asked else ""
            return Rejection("rewritten", 1, 0, f"{detail}; {target} in {child.id}")
        if index in self._refused:
            detail += f"; not rewritten as {self._refused[index]}"
        return Rejection("register", places + 1, places, detail)


def _label(row: Example) -> str:
    return str(row.label_asked)


def _as_asked(row: Example) -> list[str]:
    return [row.register_asked.name] if row.register_asked else []


def _seen(row: Example) -> str:
    return row.register_seen.name if row.register_seen else OTHER


def _child(parent: Example, target: str, found: Rewritten) -> Example:
    return replace(
        parent,
        text=found.text,
        id=f"{parent.id}-r",
        derived=REWRITTEN,
        parent_id=parent.id,
        register_asked=Register.of(target),
        register_seen=found.register,
        request_id=found.request_id or parent.request_id,
        generator=found.generator,
        prompt_id=found.prompt_id,
        seed=found.seed if found.seed is not None else parent.seed,
    )


Wanted = Sequence[tuple[Example, str]]
_TEMPLATE = "rewrite"
# Rewriting should say the same: little is left to chance.
_TEMPERATURE = 0.3
_LEAST_SHARED = 0.75
_LENGTHS = (0.5, 2.5)


def rewrite_by_rules(wanted: Wanted, analyzer: RegisterAnalyzer) -> list[Rewritten]:
    """Rewrites predicates where morphology decides it; refuses everything else."""
    return [_by_rules(example, target, analyzer) for example, target in wanted]


def _left_alone(example: Example) -> str:
    """Why a text is not rewritten; empty where it may be."""
    if example.fields is not None:
        return "texts of several fields are not rewritten"
    return "pairs are not rewritten" if example.text_pair is not None else ""


def _by_rules(example: Example, target: str, analyzer: RegisterAnalyzer) -> Rewritten:
    if refused := _left_alone(example):
        return Rewritten(refused=refused)
    if target not in get_args(Target):
        return Rewritten(refused="no rules")
    made = convert_style(example.text, cast(Target, target), analyzer.tagger)
    if not made.text:
        return Rewritten(refused=made.refused)
    register = analyzer.analyze(made.text).register
    if register.name != target:
        return Rewritten(refused=f"the rules' text reads as {register.name}")
    return Rewritten(made.text, register)


def rewrite_by_model(
    wanted: Wanted,
    task: Task,
    prompts: PromptLibrary,
    generator: GeneratorInfo,
    analyzer: RegisterAnalyzer,
    send: Callable[[Sequence[Request]], Mapping[str, Answer]],
) -> list[Rewritten]:
    """Asks a model and takes the first attempt that `why_not` accepts.

    Args:
        wanted: Examples, each with the register to write it in.
        task: Says how often to try, and what a text is called.
        prompts: Where the template ``rewrite`` comes from.
        generator: Who is asked.
        analyzer: Reads the registers of the answers.
        send: Asks; returns request id to answer, without those that failed.
    """
    tries = range(task.curation.rewrite_attempts)
    attempts = [
        [
            _request(example, target, n, task, prompts, generator)
            for n in (() if _left_alone(example) else tries)
        ]
        for example, target in wanted
    ]
    answers = send([request for row in attempts for request in row])
    return [
        _first_good(example, target, row, answers, generator, analyzer)
        for (example, target), row in zip(wanted, attempts, strict=True)
    ]


def _request(
    example: Example,
    target: str,
    attempt: int,
    task: Task,
    prompts: PromptLibrary,
    generator: GeneratorInfo,
) -> Request:
    seen = example.register_seen.name if example.register_seen else OTHER
    # A text of no preset has no examples of its own; plain ones are the least marked.
    before = prompts.registers["plain" if seen == OTHER else seen]["examples"]
    register = prompts.registers[target]
    return make_request(
        _TEMPLATE,
        {
            "text": one_line(example.text),
            "text_type": task.text_type,
            "register": register,
            "pairs": list(zip(before, register["examples"], strict=False)),
        },
        [task.seed, example.id, target, attempt],
        prompts,
        generator,
        Sampling(_TEMPERATURE, max_tokens=task.generation.max_tokens),
        label=str(example.label),
        register=Register.of(target),
        shot_ids=example.shot_ids,
        round=example.round,
    )


def _first_good(
    example: Example,
    target: str,
    requests: Sequence[Request],
    answers: Mapping[str, Answer],
    generator: GeneratorInfo,
    analyzer: RegisterAnalyzer,
) -> Rewritten:
    why = _left_alone(example) or "no answer"
    for request in requests:
        if request.id not in answers:
            continue
        text, unusable = read_answer(request, answers[request.id])
        why = unusable.filter if unusable else why_not(example.text, text, target, analyzer)
        if not why:
            register = analyzer.analyze(text).register
            return Rewritten(
                text, register, "", generator.name, request.id, request.template, request.seed
            )
    return Rewritten(refused=why)


def why_not(before: str, after: str, target: str, analyzer: RegisterAnalyzer) -> str:
    """Why a rewritten text cannot replace the original; empty when it can.

    It has to be in the register wanted, keep every number and most nouns and bring few new
    ones, and be of like length. Verbs may change: 行く becomes 伺う.
    """
    found = analyzer.analyze(after).register.name
    if found != target:
        return f"reads as {found}"
    if _numbers(before) != _numbers(after):
        return "numbers changed"
    low, high = _LENGTHS
    if not low <= len(after) / max(len(before), 1) <= high:
        return "length changed"
    old, new = _nouns(before, analyzer), _nouns(after, analyzer)
    shared = sum((old & new).values())
    if shared < _LEAST_SHARED * max(sum(old.values()), sum(new.values())):
        return "content changed"
    return ""


def _numbers(text: str) -> Counter[str]:
    digits = (c if c.isdigit() else " " for c in normalize(text))
    return Counter("".join(digits).split())


def _nouns(text: str, analyzer: RegisterAnalyzer) -> Counter[str]:
    words = analyzer.tagger.tokenize(normalize(text))
    return Counter(m.lemma for m in words if m.pos1 == "名詞" and m.pos2 != "助動詞語幹")
