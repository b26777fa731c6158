"""Rewrites a text into another register, by rules or by a model whose work is checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import cast, get_args

from japagen.curation.register_quota import Rewritten
from japagen.examples import Example
from japagen.generators.base import Answer, GeneratorInfo, Request, Sampling
from japagen.japanese.conversion import Target, convert_style
from japagen.japanese.normalization import normalize
from japagen.japanese.register_detection import RegisterAnalyzer
from japagen.japanese.registers import OTHER, Register
from japagen.prompts import PromptLibrary
from japagen.requesting import draft_request, identified, one_line, read_answer
from japagen.tasks.tasks import Task

Wanted = Sequence[tuple[Example, str]]
_TEMPLATE = "rewrite"
# Rewriting should say the same: little is left to chance.
_TEMPERATURE = 0.3
_LEAST_SHARED = 0.75
_LENGTHS = (0.5, 2.5)


def rewrite_by_rules(wanted: Wanted, analyzer: RegisterAnalyzer) -> list[Rewritten]:
    """Rewrites predicates where morphology decides it; refuses everything else."""
    return [_by_rules(example, target, analyzer) for example, target in wanted]


def _by_rules(example: Example, target: str, analyzer: RegisterAnalyzer) -> Rewritten:
    if example.text_pair is not None:
        return Rewritten(refused="pairs are not rewritten")
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
    """Asks a model and takes the first attempt that stands the check of `why_not`.

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
            for n in (tries if example.text_pair is None else ())
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
    draft = draft_request(
        _TEMPLATE,
        {
            "text": one_line(example.text),
            "text_type": task.text_type,
            "register": register,
            "pairs": list(zip(before, register["examples"], strict=False)),
        },
        prompts,
        generator,
        Sampling(_TEMPERATURE, max_tokens=task.generation.max_tokens),
        label=str(example.label),
        register=Register.of(target),
        shot_ids=example.shot_ids,
        round=example.round,
    )
    return identified(draft, [task.seed, example.id, target, attempt], generator)


def _first_good(
    example: Example,
    target: str,
    requests: Sequence[Request],
    answers: Mapping[str, Answer],
    generator: GeneratorInfo,
    analyzer: RegisterAnalyzer,
) -> Rewritten:
    why = "pairs are not rewritten" if example.text_pair is not None else "no answer"
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
    """Why a rewritten text cannot stand for the original; empty when it can.

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
