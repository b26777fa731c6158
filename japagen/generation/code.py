"""Asks for programs: an instruction, a solution and tests a request, spread over what they are on.

Every topic is asked for about as often, and so is every difficulty by its share, each pairing as
often as chance has it. Prompts show a few examples, which change from request to request.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from japagen.config.code import CodeTask
from japagen.config.fields import FieldSet, TextField
from japagen.data.code import PARTS, Program
from japagen.llm.answers import read_records
from japagen.llm.backend import Answer, GeneratorInfo, Request, Sampling
from japagen.llm.prompts import PromptLibrary
from japagen.llm.requests import make_request

TEMPLATE = "code"
_ASKED = FieldSet(fields=dict.fromkeys(PARTS, TextField()), text="{instruction}", verbatim=True)
# Models put fences round code inside of a string, too.
_FENCED = re.compile(r"\s*```[\w+-]*[ \t]*\n(.*?)\n?```\s*", re.DOTALL)


def plan_programs(
    task: CodeTask, examples: Sequence[Program], prompts: PromptLibrary, info: GeneratorInfo
) -> list[Request]:
    """Plans a request for each program; the same task plans the same requests.

    Args:
        task: The task.
        examples: Programs that prompts may show.
        prompts: The templates.
        info: Whom to ask.

    Raises:
        JapagenError: If the generator continues documents.
    """
    info.need_chat("to write programs")
    settings, rng = task.generation, random.Random(f"{task.seed}/{TEMPLATE}")
    topics = spread(dict.fromkeys(task.topics, 1 / len(task.topics)), settings.programs)
    difficulties = spread(task.difficulties, settings.programs)
    rng.shuffle(difficulties)
    requests = []
    for number, (topic, difficulty) in enumerate(zip(topics, difficulties, strict=True)):
        shown = rng.sample(range(len(examples)), min(settings.shots, len(examples)))
        variables = {
            "description": task.description,
            "topic": topic,
            "difficulty": difficulty,
            "examples": [_shown(examples[at]) for at in shown],
            "instruction": settings.instruction,
        }
        requests.append(
            make_request(
                TEMPLATE,
                variables,
                [task.seed, TEMPLATE, topic, difficulty, number],
                prompts,
                info,
                Sampling.of(settings),
                label=topic,
                shot_ids=[examples[at].id for at in shown],
                settings=[difficulty],
                fields=_ASKED,
            )
        )
    return requests


def _shown(program: Program) -> str:
    """An example as an answer would have it."""
    parts = {name: getattr(program, name) for name in PARTS}
    return json.dumps(parts, ensure_ascii=False)


def spread(shares: Mapping[str, float], number: int) -> list[str]:
    """Names, as often as their shares of a number say, each as evenly spread as can be.

    >>> spread({"a": 0.5, "b": 0.5}, 3)
    ['a', 'b', 'a']
    """
    taken = dict.fromkeys(shares, 0)
    found = []
    for at in range(1, number + 1):
        name = max(shares, key=lambda name: shares[name] * at - taken[name])
        taken[name] += 1
        found.append(name)
    return found


def to_programs(
    requests: Sequence[Request],
    answers: Mapping[str, Answer],
    failures: Mapping[str, str],
    generator: str,
) -> list[Program]:
    """The programs that were answered, in the order asked; what has no answer is rejected.

    Args:
        requests: What was asked.
        answers: Request id to answer.
        failures: Request id to the reason why there is none.
        generator: Name of the model.
    """
    found = []
    for request in requests:
        program = Program(
            instruction="",
            solution="",
            tests="",
            id=f"p-{request.id}",
            topic=request.label,
            difficulty=request.settings[0],
            source=generator,
            request_id=request.id,
            prompt_id=request.template,
        )
        answer = answers.get(request.id)
        if answer is None:
            why = failures.get(request.id, "unknown")
            found.append(program.reject("failed", 1, 0, why))
            continue
        parts, rejected = read_records(request, answer)[-1]
        if rejected:
            said = replace(program, instruction=answer.text, rejected=rejected)
            found.append(said)
            continue
        written = replace(
            program,
            instruction=parts["instruction"].strip(),
            solution=unfenced(parts["solution"]),
            tests=unfenced(parts["tests"]),
        )
        found.append(written)
    return found


def unfenced(text: str) -> str:
    r"""Code without the fences round it, ending with its last line.

    >>> unfenced("```python\nx = 1\n```")
    'x = 1\n'
    """
    inside = _FENCED.fullmatch(text)
    return (inside[1] if inside else text).strip("\n") + "\n"
