"""Texts of several fields: how prompts tell of them, those that are asked for later, what came.

The first request asks for the fields of ``request: 1``, from which the classifier's text is made.
When the texts are there, each is shown to the model again as what it wrote, and the next fields
are asked for: an answer to an inquiry, or the next turn of a conversation.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from japagen.config.fields import FieldSet, last_request
from japagen.config.task import Task
from japagen.data.dataset import Dataset, Example, Rejection, hash_rank
from japagen.data.summary import FieldSummary
from japagen.errors import JapagenError
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.japanese.registers import OTHER
from japagen.llm.answers import read_records
from japagen.llm.backend import Answer, GeneratorInfo, Request, Sampling
from japagen.llm.prompts import PromptLibrary
from japagen.llm.requests import label_variables, make_request

_LATER = "later_fields"
# A field with more values than this is no category, and the report does not list them.
_MOST_VALUES = 12


def field_variables(
    asked: FieldSet | None, prompts: PromptLibrary, draw: str, number: int
) -> list[dict[str, Any]]:
    """What templates may say of each field: name, description, type, values, optional, register.

    Args:
        asked: The fields.
        prompts: Where registers are described.
        draw: What the order of the examples of a register is drawn from.
        number: Which prompt of the draw, from 0.
    """
    return [
        {
            "name": name,
            "description": field.description,
            "type": field.type,
            "values": list(field.values),
            "optional": field.optional,
            "register": prompts.style(field.in_register, draw, number, voices=False)
            if field.in_register
            else None,
        }
        for name, field in (asked.fields if asked else {}).items()
    ]


def check_templates(
    task: Task, prompts: PromptLibrary, generator: GeneratorInfo, strategy: str
) -> None:
    """Refuses a model that follows no instructions, and templates that tell of no fields.

    Raises:
        JapagenError: If there is no way to ask for the task's fields.
    """
    generator.need_chat("for generation.fields")
    later = [f"{_LATER}.chat"] if last_request(task.generation.fields) > 1 else []
    for template in [f"{strategy}.chat", *later]:
        if not prompts.mentions(template, "fields"):
            raise JapagenError(
                f"Expected the template {template}.j2 in {prompts.directory} to tell of "
                "generation.fields, found that it does not.",
                "Use `fields` in it, as the built-in fields.chat.j2 does, or include that.",
            )


def plan_later(
    task: Task,
    texts: Dataset,
    number: int,
    prompts: PromptLibrary,
    generator: GeneratorInfo,
) -> dict[str, Request]:
    """Requests for the fields of ``request: number``, by the id of the text that each is for.

    Texts that are rejected get none.

    Args:
        task: The task.
        texts: With the fields before filled in.
        number: Which request, from 2.
        prompts: Where the template ``later_fields`` comes from.
        generator: Who is asked.
    """
    asked = task.generation.asked_fields(number)
    if asked is None:
        return {}
    space = task.label_space()
    draw, planned = f"{task.seed}/fields", {}
    for row in texts:
        if row.rejected is not None or not row.fields:
            continue
        label = space.name(row.label_asked) if row.label_asked is not None else ""
        variables = {
            **label_variables(task, label),
            "values": dict(row.fields),
            "written": json.dumps({"text": dict(row.fields)}, ensure_ascii=False),
            "fields": field_variables(asked, prompts, draw, int(hash_rank(row.id)[:4], 16)),
        }
        planned[row.id] = make_request(
            _LATER,
            variables,
            [task.seed, row.id, number],
            prompts,
            generator,
            Sampling.of(task.generation),
            label=label,
            register=row.register_asked,
            shot_ids=row.shot_ids,
            round=row.round,
            fields=asked,
        )
    return planned


def with_later(
    texts: Dataset,
    planned: Mapping[str, Request],
    answers: Mapping[str, Answer],
    failures: Mapping[str, str],
) -> Dataset:
    """Fills in the fields that `plan_later` asked for; a text that got none is rejected.

    Args:
        texts: All texts, those of `plan_later` among them.
        planned: What it planned.
        answers: Request id to accepted answer.
        failures: Request id to the reason why there is none.
    """
    return Dataset.of(
        _completed(row, request, answers.get(request.id), failures)
        if (request := planned.get(row.id))
        else row
        for row in texts
    )


def _completed(
    row: Example, request: Request, answer: Answer | None, failures: Mapping[str, str]
) -> Example:
    names = ", ".join(request.fields.fields if request.fields else ())
    if answer is None:
        why = failures.get(request.id, "no answer")
        return replace(row, rejected=Rejection("failed", 1, 0, f"{names}: {why}"))
    values, rejected = read_records(request, answer)[-1]
    if rejected:
        rejected = replace(rejected, detail=f"{names}: {rejected.detail}")
    return replace(row, fields={**(row.fields or {}), **values}, rejected=rejected)


def later_requests(task: Task) -> range:
    """The numbers of the requests that follow the one for the texts."""
    return range(2, last_request(task.generation.fields) + 1)


def measure_fields(
    task: Task, dataset: Dataset, analyzer: RegisterAnalyzer
) -> list[FieldSummary] | None:
    """What the kept texts have in each field, and how often it is in its register.

    A field without a register of its own is held to the one that its text was asked for in, if
    it is said by somebody (``role``) or is all of the text.

    Args:
        task: The task.
        dataset: Synthetic texts.
        analyzer: Finds registers.

    Returns:
        None without fields, or without a text that has any.
    """
    kept = dataset.kept
    rows = [e for e in kept if e.fields is not None]
    if not task.generation.fields or not rows:
        return None
    found = []
    first = task.generation.asked_fields()
    alone = first.text.strip("{}") if first else ""
    for name, field in task.generation.fields.items():
        values = [(e, (e.fields or {}).get(name)) for e in rows]
        filled = [(e, value) for e, value in values if value is not None]
        counts = Counter(str(value) for _, value in filled)
        wanted: list[tuple[str, str]] = []
        if field.type == "string" and (field.in_register or field.role or name == alone):
            wanted = [
                (field.in_register or (e.register_asked.name if e.register_asked else OTHER), value)
                for e, value in filled
            ]
        seen = analyzer.registers([text for _, text in wanted]) if wanted else []
        met = sum(found.name == register for (register, _), found in zip(wanted, seen, strict=True))
        few = field.type != "string" and len(counts) <= _MOST_VALUES
        found.append(
            FieldSummary(
                name=name,
                type=field.type,
                role=field.role,
                texts=len(rows),
                filled=len(filled),
                characters=round(sum(map(len, counts.elements())) / len(filled), 1)
                if filled and field.type == "string"
                else None,
                values={v: counts[v] for v in field.values or sorted(counts, key=int)}
                if few
                else {},
                asked_register=field.in_register,
                register_match=met / len(wanted) if wanted else None,
            )
        )
    return found
