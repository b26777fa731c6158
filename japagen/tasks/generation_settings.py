"""How text is asked for and refined: two sections of a task file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from japagen.tasks.generator_settings import GeneratorSettings
from japagen.tasks.settings import Budget, Count, Item, Section, Share, Source

Attributes = dict[Item, tuple[Item, ...]]
TEXTS_PER_REQUEST = 5
"""Of a chat model; one that continues documents writes one text a request."""
Diversity = Literal["low", "medium", "high"]

# What each level sets where the task file does not: section to key to value. The middle one is
# the defaults of the sections themselves.
LEVELS: dict[str, dict[str, dict[str, Any]]] = {
    "low": {
        "generation": {"temperature": 0.6, "shots": 12},
        "curation": {"max_similarity": 0.8},
    },
    "medium": {},
    "high": {
        "generation": {"temperature": 1.0, "shots": 6, "completions_per_shot_set": 4},
        "curation": {"max_similarity": 0.6},
    },
}


class Generation(Section):
    """How much is asked for, and how.

    Attributes:
        per_label: Texts to ask for, per label.
        texts_per_request: Texts that one request asks a chat model for, which are then told not to
            resemble each other; 5 if not set. A model that continues documents writes one text a
            request. So do pairs, and templates of your own that do not use ``number``.
        strategy: ``few_shot`` shows gold examples, ``zero_shot`` only describes the label;
            ``auto`` is few-shot where there is gold. ``gradient_matching`` is few-shot, and
            synthesises texts anew after their labels were checked, so that their gradients come
            nearer to gold's (see `gradient_matching`); it measured no better.
        diversity: How far texts may differ from gold and from each other: sets ``temperature``,
            ``shots``, ``completions_per_shot_set`` and ``curation.max_similarity`` where they are
            not given. ``medium`` leaves their defaults.
        shots: Gold examples in a prompt.
        completions_per_shot_set: Texts that are written from one set of shots (and, a text a
            request, from one prompt prefix); the set is never used again.
        temperature: Of sampling; higher is more varied and less sure to be sense.
        top_k: Tokens that each next one is drawn from; 0 for all. Sent where a server takes it.
        min_p: Least probability of a token, as a share of the likeliest one's.
        max_tokens: Longest text; what is not finished by then is rejected as ``truncated``. Several
            texts a request have as many times that together.
        rounds: Rounds that the requests are spread over. From the second on, requests name what
            the texts so far have too little of; 1 asks for everything at once.
        knowledge: Items of task knowledge (genres, objects, symptoms), or a list for each
            label. Requests that name nothing else name one of these, in turn.
        attributes: What varies from text to text. ``auto`` tells a chat model who writes each text
            and how (mood, length, slips of writing), by the kind of text; ``none`` tells it
            nothing. In place of these, attribute to its values, such as 話題 and 立場, or such a
            grid for each label: texts that name nothing else take one value of each, every
            combination about as often; a base model is told of the first attribute alone.
        corpus: Texts of your own as material. Requests that name nothing else get a passage each,
            found by the words of their examples and of the label's description. Copies of
            passages are rejected.
        paraphrase_share: Share of the requests that name nothing else that have a gold text put in
            other words, in the register asked for; a chat model is needed.
        rare_share: Share of a label's requests that describe one of its ``rare_cases``.
        prompts: Directory of templates to use in place of the built-in ones.
        instruction: A sentence that prompts add to what they ask for.
        budget: What may be used in all.
    """

    per_label: Count = 150
    texts_per_request: Annotated[int, Field(ge=1, le=20)] | None = None
    strategy: Literal["auto", "few_shot", "zero_shot", "gradient_matching"] = "auto"
    diversity: Diversity = "medium"
    shots: Count = 10
    completions_per_shot_set: Annotated[int, Field(ge=1, le=8)] = 8
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.8
    top_k: Annotated[int, Field(ge=0)] = 100
    min_p: Share = 0.05
    max_tokens: Count = 120
    rounds: Annotated[int, Field(ge=1, le=20)] = 1
    knowledge: tuple[Item, ...] | dict[str, tuple[Item, ...]] = ()
    attributes: Literal["auto", "none"] | Attributes | dict[str, Attributes] = "auto"
    corpus: Source | None = None
    paraphrase_share: Share = 0.0
    rare_share: Share = 0.1
    prompts: Path | None = None
    instruction: Annotated[str, Field(pattern=r"^[^\r\n]*$")] = ""
    budget: Budget = Budget()

    def grid(self, label: str) -> Mapping[str, tuple[str, ...]]:
        """Attribute to values of a label's grid in the task file; empty where it has none."""
        given: Mapping[str, Any] = {} if isinstance(self.attributes, str) else self.attributes
        if any(isinstance(values, dict) for values in given.values()):
            given = given.get(label, {})
        return given

    @property
    def grid_labels(self) -> list[str]:
        """The labels that have a grid of their own; none where one serves all."""
        if isinstance(self.attributes, str):
            return []
        return [name for name, values in self.attributes.items() if isinstance(values, dict)]

    @model_validator(mode="after")
    def _grids_are_grids(self) -> Generation:
        grids = [self.grid(name) for name in self.grid_labels] or [self.grid("")]
        for name, values in (item for grid in grids for item in grid.items()):
            if "：" in name:
                raise ValueError(f"attributes: a name without '：' is needed, found '{name}'")
            if len(set(values)) < 2 or len(set(values)) < len(values):
                found = "、".join(values) or "none"
                raise ValueError(f"attributes.{name}: two or more different values, found {found}")
        return self


class Refinement(Section):
    """How doubtful texts are criticised and written anew; this needs a chat model and gold.

    Attributes:
        rounds: At most so many times a text is written anew; 0 leaves all as they are.
        doubt: Texts whose label is less likely than this, as a classifier of gold sees it, are
            in doubt.
        generator: Who criticises and writes; the task's generator when absent.
    """

    rounds: Annotated[int, Field(ge=0, le=5)] = 0
    doubt: Share = 0.7
    generator: GeneratorSettings | None = None


def with_diversity(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A task that is not validated yet, with what its level of diversity sets."""
    found = dict(raw)
    section = found.get("generation")
    level = section.get("diversity") if isinstance(section, dict) else None
    for name, keys in LEVELS.get(level, {}).items() if isinstance(level, str) else ():
        given = found.get(name)
        if given is None or isinstance(given, dict):
            found[name] = {**keys, **(given or {})}
    return found
