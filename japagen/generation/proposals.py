"""Has a task's generator propose what its texts could vary in, label by label.

This is the first step of attributed prompts (AttrPrompt, Yu et al. 2023, arXiv:2306.15895): a model
names attributes and values, and people look them over before texts are asked for by them. The model
sees the labels' descriptions and no gold, so that texts asked for by its proposals descend from
none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from japagen.config.task import Task
from japagen.data.yaml_text import to_yaml
from japagen.errors import JapagenError
from japagen.generation.planner import label_variables
from japagen.llm.answers import read_texts, why_unreadable
from japagen.llm.backend import Answer, Generator, GeneratorInfo, Request, Sampling, load_generator
from japagen.llm.prompts import PromptLibrary
from japagen.llm.requests import make_request, prepare

_TEMPLATE = "attributes"
# What is to be found should depend on the label more than on chance, and still be varied.
_TEMPERATURE = 0.7
_TOKENS_A_VALUE = 24
_NUMBERING = re.compile(r"^[\s\-・*•]*(?:\d{1,2}[.)．、]|[①-⑳])?\s*")
# What a model may put between values; the first that is there does.
_BETWEEN = ("／", "/", "、", "，", ",")
_ENDS = " 　「」『』\"'。…・"

Grid = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Proposal:
    """What a model proposes.

    Attributes:
        generator: Name of the model.
        grids: Label to attribute to its values; of pairs, the empty label alone.
        refused: Label to the reason why there is nothing for it.
    """

    generator: str
    grids: Mapping[str, Grid]
    refused: Mapping[str, str]

    def to_yaml(self) -> str:
        """The section ``attributes`` of a task file's ``generation``."""
        grids: Any = {
            label: {name: list(values) for name, values in grid.items()}
            for label, grid in self.grids.items()
        }
        section = {"attributes": grids.get("", grids)}
        text = to_yaml(section, flow=True)
        return f"# generation:\n{_indented(text)}"


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def propose_attributes(
    task: Task, number: int = 6, values: int = 8, generator: Generator | None = None
) -> Proposal:
    """Asks a task's generator once for each label; nothing is kept.

    Args:
        task: The task.
        number: Attributes to ask for.
        values: Values of each to ask for.
        generator: A backend to use in place of the task's; it stays open.

    Raises:
        JapagenError: If the generator continues documents, or nothing usable came for any label.
    """
    if generator is None:
        with closing(load_generator(task.generator)) as loaded:
            return propose_attributes(task, number, values, loaded)
    info = generator.info
    if info.prompt_kind == "document":
        raise JapagenError(
            f"Expected a chat model to propose attributes, found {info.name}, which continues "
            "documents and follows no instructions.",
            "Set generator to a chat model, such as {backend: openai, model: …}, or write "
            "generation.attributes yourself.",
        )
    labels = [""] if task.pair else list(task.labels)
    requests = [_request(task, label, number, values, info) for label in labels]
    dictionary = task.japanese.user_dictionary
    sent = prepare(requests, info, task.privacy, dictionary).requests
    answers = {a.request_id: a for a in generator.stream(iter(sent))}
    again = [
        replace(request, seed=request.seed ^ 1)
        for request in sent
        if (answer := answers.get(request.id)) and why_unreadable(request, answer)
    ]
    if again:
        answers |= {a.request_id: a for a in generator.stream(iter(again))}
    grids, refused = {}, {}
    for request in sent:
        answer = answers.get(request.id)
        grid = {} if answer is None or answer.error else read_grid(request, answer, task)
        if grid:
            grids[request.label] = grid
        else:
            why = answer.error if answer else ""
            refused[request.label] = why or "no attribute with two or more values"
    if not grids:
        raise JapagenError(
            f"{info.name} proposed no attributes for any of {len(labels)} labels.",
            f"The first reason: {next(iter(refused.values()))}",
        )
    return Proposal(info.name, grids, refused)


def _request(task: Task, label: str, number: int, values: int, info: GeneratorInfo) -> Request:
    prompts = PromptLibrary(task.generation.prompts)
    said = label_variables(task, label) if label else _of_pairs(task)
    return make_request(
        _TEMPLATE,
        {**said, "number": number, "values": values},
        [task.seed, _TEMPLATE, label],
        prompts,
        info,
        Sampling(_TEMPERATURE, max_tokens=number * (values + 1) * _TOKENS_A_VALUE),
        label=label,
        each=[()] * number,
    )


def _of_pairs(task: Task) -> dict[str, Any]:
    """What the template may say where the texts to vary have no label yet: first texts of pairs."""
    return {
        "text_type": task.text_type,
        "description": task.description,
        "domain": task.domain,
        "label_type": "種類",
        "label": task.text_type,
        "label_description": "",
        "other_labels": [],
    }


def read_grid(request: Request, answer: Answer, task: Task) -> Grid:
    """The attributes that an answer names, each once, with two or more different values.

    What is left out: lines of another form, a repeated value, an attribute that says which label
    it is, and one that repeats the values of another.
    """
    names: dict[str, str] = {}
    found: dict[str, dict[str, str]] = {}
    for line, rejected in read_texts(request, answer):
        if rejected is None or rejected.filter == "truncated":
            name, _, rest = _NUMBERING.sub("", line).replace(":", "：", 1).partition("：")
            name = name.strip(_ENDS)
            between = next((mark for mark in _BETWEEN if mark in rest), "／")
            parts = [part.strip(_ENDS) for part in rest.split(between)]
            # The last value of a line that was cut off is not whole.
            parts = parts[:-1] if rejected else parts
            if name and _key(name) not in map(_key, (task.label_type, *task.labels)):
                names.setdefault(_key(name), name)
                known = found.setdefault(_key(name), {})
                for part in filter(None, parts):
                    known.setdefault(_key(part), part)
    grid: Grid = {}
    taken: set[frozenset[str]] = set()
    for key, values in found.items():
        if len(values) >= 2 and frozenset(values) not in taken:
            taken.add(frozenset(values))
            grid[names[key]] = tuple(values.values())
    return grid


def _key(text: str) -> str:
    """What two ways of writing the same have in common."""
    return re.sub(r"[\s「」『』（）()・]", "", unicodedata.normalize("NFKC", text)).casefold()
