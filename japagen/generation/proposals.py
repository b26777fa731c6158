"""Has a task's generator propose what its texts could vary in or be about, label by label.

This is the first step of attributed prompts (AttrPrompt, Yu et al. 2023, arXiv:2306.15895): a model
names attributes and values, and people look them over before texts are asked for by them. The model
sees the labels' descriptions and no gold, so that texts asked for by its proposals descend from
none. A topic tree is proposed in the same way: topics, each with what is below it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from textwrap import indent
from typing import Any

import numpy as np
import numpy.typing as npt

from japagen.config.task import Task
from japagen.data.files import to_yaml
from japagen.errors import JapagenError
from japagen.llm.answers import read_texts, why_unreadable
from japagen.llm.backend import Answer, Generator, GeneratorInfo, Request, Sampling, load_generator
from japagen.llm.client import ask_unrecorded
from japagen.llm.prompts import PromptLibrary
from japagen.llm.requests import label_variables, make_request

_TEMPLATE = "attributes"
_TOPICS = "topics"
# What is to be found should depend on the label more than on chance, and still be varied.
_TEMPERATURE = 0.7
_TOKENS_A_VALUE = 24
_NUMBERING = re.compile(r"^[\s\-・*•]*(?:\d{1,2}[.)．、]|[①-⑳])?\s*")
# What a model may put between values; the first that is there does.
_BETWEEN = ("／", "/", "、", "，", ",")
_ENDS = " 　「」『』\"'。…・"
# Topics of which more pairs of characters, の left out, are the same than not.
_SAME_SPELLING = 0.5

Grid = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Proposal:
    """What a model proposes.

    Attributes:
        generator: Name of the model.
        grids: Label to attribute to its values; of pairs, the empty label alone. Or label to
            topic to those below it.
        refused: Label to the reason why there is nothing for it.
        alike: Topics that were left out, each with the one that it is too like.
    """

    generator: str
    grids: Mapping[str, Grid]
    refused: Mapping[str, str]
    alike: Sequence[tuple[str, str]] = ()

    def topics_yaml(self) -> str:
        """A file of topics, as ``generation.knowledge`` may name it."""
        return f"# generation: {{knowledge: THIS_FILE}}\n{to_yaml(self._lists, flow=True)}"

    def to_yaml(self) -> str:
        """The section ``attributes`` of a task file's ``generation``."""
        section: Any = {"attributes": self._lists.get("", self._lists)}
        return f"# generation:\n{indent(to_yaml(section, flow=True), '  ')}"

    @property
    def _lists(self) -> dict[str, dict[str, list[str]]]:
        return {
            label: {name: list(values) for name, values in grid.items()}
            for label, grid in self.grids.items()
        }


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
    labels = [""] if task.pair else list(task.labels)
    return _proposed(task, _TEMPLATE, labels, number, values, generator)


Similarity = Callable[[Sequence[str]], npt.NDArray[np.bool_]]
"""Which of some names mean the same, shape (names, names)."""


def propose_topics(
    task: Task,
    number: int = 6,
    below: int = 6,
    generator: Generator | None = None,
    same: Similarity | None = None,
) -> Proposal:
    """Asks a task's generator for a tree of topics of each label; nothing is kept.

    Topics that are spelt almost alike, or mean the same, are left out but for the first, in the
    whole task: a topic of two labels says nothing about which it is.

    Args:
        task: The task.
        number: Topics of each label to ask for.
        below: What to ask for below each.
        generator: A backend to use in place of the task's; it stays open.
        same: Finds those that mean the same; None compares their spelling alone.

    Raises:
        JapagenError: If the task has pairs, the generator continues documents, or nothing usable
            came for any label.
    """
    if task.pair:
        raise JapagenError(
            "Expected texts with a label each to propose topics for, found pairs.",
            "Write generation.knowledge yourself: a list for all labels.",
        )
    found = _proposed(task, _TOPICS, list(task.labels), number, below, generator)
    return without_alike(found, same)


def without_alike(found: Proposal, same: Similarity | None = None) -> Proposal:
    """Leaves out topics that are too like an earlier one, and topics with nothing below them."""
    places = [
        (label, name, leaf)
        for label, tree in found.grids.items()
        for name, leaves in tree.items()
        for leaf in leaves
    ]
    leaves = [leaf for _, _, leaf in places]
    keys = [_key(leaf).replace("の", "") for leaf in leaves]
    pairs = [{key[i : i + 2] for i in range(max(1, len(key) - 1))} for key in keys]
    meant = same(leaves) if same and leaves else np.zeros((len(leaves),) * 2, dtype=bool)
    kept: list[int] = []
    alike = []
    for i, own in enumerate(pairs):
        like = (
            j
            for j in kept
            if meant[i, j] or len(own & pairs[j]) > _SAME_SPELLING * len(own | pairs[j])
        )
        first = next(like, None)
        if first is None:
            kept.append(i)
        else:
            alike.append((leaves[i], leaves[first]))
    trees: dict[str, dict[str, tuple[str, ...]]] = {}
    for label, name, leaf in (places[i] for i in kept):
        tree = trees.setdefault(label, {})
        tree[name] = (*tree.get(name, ()), leaf)
    return replace(found, grids=trees, alike=alike)


def _proposed(
    task: Task,
    template: str,
    labels: Sequence[str],
    number: int,
    values: int,
    generator: Generator | None,
) -> Proposal:
    if generator is None:
        with closing(load_generator(task.generator)) as loaded:
            return _proposed(task, template, labels, number, values, loaded)
    info = generator.info
    key = "attributes" if template == _TEMPLATE else "knowledge"
    info.need_chat(f"to propose generation.{key}")
    requests = [_request(task, template, label, number, values, info) for label in labels]
    sent, answers, failures = ask_unrecorded(task, requests, generator)
    again = [
        replace(request, seed=request.seed ^ 1)
        for request in sent
        if request.id in answers and why_unreadable(request, answers[request.id])
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
            why = answer.error if answer else failures.get(request.id)
            refused[request.label] = why or "none with two or more values"
    if not grids:
        raise JapagenError(
            f"{info.name} proposed no generation.{key} for any of {len(labels)} labels.",
            f"The first reason: {next(iter(refused.values()))}",
        )
    return Proposal(info.name, grids, refused)


def _request(
    task: Task, template: str, label: str, number: int, values: int, info: GeneratorInfo
) -> Request:
    prompts = PromptLibrary(task.generation.prompts)
    said = label_variables(task, label)
    if not label:  # first texts of pairs have none yet
        said |= {"label_type": "種類", "label": task.text_type, "other_labels": []}
    return make_request(
        template,
        {**said, "number": number, "values": values},
        [task.seed, template, label],
        prompts,
        info,
        Sampling(_TEMPERATURE, max_tokens=number * (values + 1) * _TOKENS_A_VALUE),
        label=label,
        each=[()] * number,
    )


def read_grid(request: Request, answer: Answer, task: Task) -> Grid:
    """The attributes that an answer names, each once, with two or more different values.

    What is left out: lines of another form, a repeated value, an attribute that says which label
    it is, and one that repeats the values of another. Topics may stand below the label's own name,
    where weak models put them.
    """
    labels = [] if request.template.startswith(_TOPICS) else [task.label_type, *task.labels]
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
            if name and _key(name) not in map(_key, labels):
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
