"""Sections of a task file on generation: whom to ask, for what, and what it may cost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from unicodedata import normalize

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from japagen.config.fields import Fields, FieldSet
from japagen.config.sections import Count, Item, Section, Share, Texts
from japagen.config.sources import GivenSource, SeedSource
from japagen.data.registry import BACKENDS
from japagen.errors import JapagenError


class Budget(Section):
    """Upper bounds on what a run may use, over all of its sessions; they are never exceeded.

    Attributes:
        tokens: Tokens read and written.
        yen: Their price, by ``generator.price``.
    """

    tokens: Count | None = None
    yen: Annotated[float, Field(gt=0)] | None = None


class BoundaryCase(Section):
    """Texts of one label that could be mistaken for another.

    Attributes:
        labels: The label that the texts have, and the one they could be mistaken for.
        share: Share of the first label's requests.
    """

    labels: tuple[str, str]
    share: Share = 0.05


class Price(Section):
    """Prices of tokens, from the provider's price list.

    Attributes:
        input_per_million: For a million tokens read.
        output_per_million: For a million tokens written.
        currency: Of the two prices.
        yen_per_unit: Exchange rate to yen; needed for any currency but JPY.
        batch: Share of these prices that requests in a batch cost (see `GeneratorSettings.batch`).
    """

    input_per_million: Annotated[float, Field(ge=0)]
    output_per_million: Annotated[float, Field(ge=0)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "JPY"
    yen_per_unit: Annotated[float, Field(gt=0)] = 1.0
    batch: Share = 0.5

    @model_validator(mode="after")
    def _convertible(self) -> Price:
        if self.currency != "JPY" and "yen_per_unit" not in self.model_fields_set:
            raise ValueError(f"yen_per_unit is needed to convert {self.currency}")
        return self


ALLOWED_VARIABLES = "JAPAGEN_ALLOW_ENV"
"""Names, with commas between, of the environment variables that a task may send to a server."""
# Parts of a request that make it the one that was recorded.
_OWNED = frozenset({"model", "messages", "prompt", "stream", "n"})


# Backends that are asked by batches alone: the variable of the key, and the address at which the
# provider takes requests one by one, as OpenAI does.
_BY_BATCHES = {
    "anthropic": ("ANTHROPIC_API_KEY", "https://api.anthropic.com/v1"),
    "gemini": ("GEMINI_API_KEY", "https://generativelanguage.googleapis.com/v1beta/openai"),
}


class GeneratorSettings(Section):
    """Which model writes the text.

    Attributes:
        backend: What runs the model.
        model: ``gemma3-270m``, ``qwen`` (a chat model, of the extra local-chat) or a GGUF path for
            embedded; the server's model name for openai, anthropic and gemini; a directory, GGUF
            path or Hub name for hf; a run directory for replay.
        base_url: The server's address, for openai; or a list of the addresses of several that run
            the same model and share the requests, each with its own slots and limits.
        api_key_env: The environment variable that holds the key, for openai; for anthropic and
            gemini ANTHROPIC_API_KEY and GEMINI_API_KEY, if not set. Its name ends in ``_API_KEY``,
            unless ``japagen --allow-env NAME`` allows another.
        api: ``chat`` or ``completions``, for openai.
        slots: Requests at a time; chosen by the backend when absent.
        requests_per_minute: Most requests sent in a minute, retries included, for openai.
        tokens_per_minute: Most tokens in a minute, prompts and ``max_tokens``, for openai.
        batch: Send requests by the provider's batch API, for openai, anthropic and gemini (which
            must have it): cheaper, answered within a day, and a run that is stopped meanwhile
            takes up its batches where it left them.
        timeout: Seconds after which an attempt is given up, for openai; when absent, 60 at first
            and more where answers are seen to take longer.
        headers: Header to the environment variable that holds its value, for openai, named as
            that of the key.
        extra_body: What else to send with each request, for openai, such as
            ``{reasoning_effort: low}`` or ``{chat_template_kwargs: {enable_thinking: false}}``; for
            anthropic and gemini in their own words, such as ``{thinking: {type: disabled}}``.
        omit: Options not to send, such as ``top_k``, for those three. A server that refuses one by
            name is asked without it anyway.
        price: What tokens cost; for plans, budgets and reports.
    """

    backend: Annotated[str, BACKENDS] = "embedded"
    model: str = "gemma3-270m"
    base_url: str | tuple[str, ...] | None = None
    api_key_env: str = "OPENAI_API_KEY"
    api: Literal["chat", "completions"] = "chat"
    slots: Count | None = None
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    batch: bool = False
    timeout: Annotated[float, Field(gt=0)] | None = None
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")], str] = {}
    extra_body: dict[str, Any] = {}
    omit: tuple[str, ...] = ()
    price: Price | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_key(cls, given: Any) -> Any:
        backend = given.get("backend") if isinstance(given, dict) else None
        alone = _BY_BATCHES.get(backend) if isinstance(backend, str) else None
        return {"api_key_env": alone[0], **given} if alone else given

    @model_validator(mode="after")
    def _goes_together(self) -> GeneratorSettings:
        alone = self.backend in _BY_BATCHES
        for name in ("batch", "timeout", "headers", "extra_body", "omit"):
            taken = ["openai"] if name in ("timeout", "headers") else ["openai", *_BY_BATCHES]
            if getattr(self, name) and self.backend not in taken:
                listed = ", ".join(taken)
                raise ValueError(f"{name} goes with the backend {listed}, found {self.backend}")
        if alone and not self.batch:
            raise ValueError(
                f"the backend {self.backend} is asked by batches alone: set batch: true, or ask "
                f"one by one with {one_by_one(self)}"
            )
        if alone and self.api != "chat":
            raise ValueError(f"api: the backend {self.backend} has chat models alone")
        if isinstance(self.base_url, tuple):
            if not self.base_url or len(set(self.base_url)) < len(self.base_url):
                raise ValueError("base_url: expected at least one address, and none twice")
            if self.batch:
                raise ValueError("batch goes with one base_url, found a list")
        if owned := sorted(_OWNED & self.extra_body.keys()):
            raise ValueError(f"extra_body: {owned[0]} is japagen's own to send")
        return self

    def check_variables(self) -> None:
        """Holds back what a task file is not to send to a server: it may come from anywhere.

        Raises:
            JapagenError: If a variable is not one of keys, and the user has not allowed it.
        """
        allowed = os.environ.get(ALLOWED_VARIABLES, "").split(",")
        where = ", ".join(self.base_url) if isinstance(self.base_url, tuple) else self.base_url
        where = where or (self.backend if self.backend in _BY_BATCHES else "OpenAI")
        for name in (self.api_key_env, *self.headers.values()):
            if not name.endswith("_API_KEY") and name not in allowed:
                raise JapagenError(
                    "Expected the task to name environment variables that end in _API_KEY, found "
                    f"'{name}', whose value would go to {where}.",
                    f"If you want that, use japagen --allow-env {name} COMMAND …",
                )

    @property
    def price_now(self) -> Price | None:
        """The price of the requests as they are sent: of a batch, where they go in one."""
        if self.price is None or not self.batch:
            return self.price
        share = self.price.batch
        read, written = self.price.input_per_million, self.price.output_per_million
        changed = {"input_per_million": read * share, "output_per_million": written * share}
        return self.price.model_copy(update=changed)


def one_by_one(settings: GeneratorSettings) -> str:
    """How a task has requests answered one by one where its backend is asked by batches alone."""
    key, url = _BY_BATCHES[settings.backend]
    return f"{{backend: openai, base_url: {url}, api_key_env: {key}, model: {settings.model}}}"


class UntilKept(Section):
    """Asking again until enough texts of each label are kept (docs/closed_loop.md).

    Attributes:
        kept: Texts of each label that filters and register control are to keep.
        rounds: Most times that a label is asked for; no time for more than ``kept`` texts.
        least_yield: A label of whose last texts a smaller share was kept is not asked for again.
    """

    kept: Texts
    rounds: Annotated[int, Field(ge=1, le=20)] = 5
    least_yield: Annotated[float, Field(gt=0, le=1)] = 0.1


def _kept_alone(value: Any) -> Any:
    return {"kept": value} if isinstance(value, int | str) else value


Attributes = dict[Item, tuple[Item, ...]]
_BELOW = "："
"""Between a topic and what is below it in a tree."""


def _leaves(tree: Any, path: str = "") -> list[Any]:
    """The leaves of a topic tree, each with the topics above it; branches take turns."""
    if not isinstance(tree, Mapping):
        leaves = tree if isinstance(tree, list | tuple) else [] if tree is None else [tree]
        found = [path + leaf if isinstance(leaf, str) else leaf for leaf in leaves]
    else:
        branches = [_leaves(below, f"{path}{name}{_BELOW}") for name, below in tree.items()]
        turns = zip_longest(*branches)
        found = [leaf for turn in turns for leaf in turn if leaf is not None]
    if not found and path:
        raise ValueError(f"the topic '{path.removesuffix(_BELOW)}' has nothing below it")
    return found


def _by_label(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {label: _leaves(tree) for label, tree in value.items()}


Topics = tuple[Item, ...] | dict[str, tuple[Item, ...]]


def _topics_differ(given: Topics) -> Topics:
    lists = given if isinstance(given, dict) else {"": given}
    for label, leaves in lists.items():
        keys = [normalize("NFKC", leaf).casefold() for leaf in leaves]
        twice = [leaf for leaf, key in zip(leaves, keys, strict=True) if keys.count(key) > 1]
        where = ".".join(filter(None, ["generation.knowledge", label]))
        if twice:
            raise ValueError(f"{where}: the topic '{twice[0]}' comes more than once")
        if label and not leaves:
            raise ValueError(f"{where}: expected topics, found none")
    return given


TEXTS_PER_REQUEST = 5
"""Of a chat model; one that continues documents writes one text per request."""
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
    """How many texts to ask for, and how.

    Attributes:
        per_label: Texts to ask for, per label; not read beside ``until``.
        until: In place of asking once, ask again until so many texts of each label are kept: a
            number, or ``kept`` beside ``rounds`` and ``least_yield``.
        texts_per_request: Texts that one request asks a chat model for, which are then told not to
            resemble each other; 5 if not set. A model that continues documents writes one text a
            request. So do pairs, and templates of your own that do not use ``number``.
        strategy: ``few_shot`` shows gold examples, ``zero_shot`` only describes the label;
            ``auto`` is few-shot where there is gold. ``gradient_matching`` is few-shot, and
            resynthesises texts after the label check, so that their gradients come closer to
            gold's (see `gradient_matching`); it measured no better.
        diversity: How far texts may differ from gold and from each other: sets ``temperature``,
            ``shots``, ``completions_per_shot_set`` and ``curation.max_similarity`` where they are
            not given. ``medium`` leaves their defaults.
        shots: Gold examples in a prompt.
        completions_per_shot_set: Texts that are written from one set of shots (and, a text a
            request, from one prompt prefix); the set is never used again.
        temperature: Of sampling; higher is more varied and less coherent.
        top_k: Sample from this many likeliest tokens; 0 for all. Sent where a server takes it.
        min_p: Least probability of a token, as a fraction of the likeliest one's.
        max_tokens: Longest text; one that is longer is rejected as ``truncated``. A request for
            several texts has that many times as much.
        rounds: Rounds of iterative generation. From the second on, requests name what the texts
            so far have too little of; 1 asks for everything at once.
        knowledge: Items of task knowledge (genres, objects, symptoms), or for each label a list
            or a tree of topics, whose leaves are the items; also the path of a YAML file with
            these (docs/topics.md). Requests that name nothing else name one of them, in turn.
        attributes: What varies from text to text. ``auto`` tells a chat model who writes each text
            and how (mood, length, slips of writing), by the kind of text; ``none`` tells it
            nothing. In place of these, attribute to its values, such as 話題 and 立場, or such a
            grid for each label: texts that name nothing else take one value of each, every
            combination about as often; a base model is told of the first attribute alone.
        corpus: Texts of your own as material. Requests that name nothing else get a passage each,
            found by the words of their examples and of the label's description. Copies of
            passages are rejected.
        seed: A table whose columns prompts may name, such as personas: every text is asked for
            with a row of its own (docs/seed.md).
        fields: What each text consists of, name to field (docs/fields.md); for chat models.
        text: What of the fields the classifier reads, such as ``"{subject} {body}"``; the first
            field if not set.
        rare_share: Share of a label's requests that describe one of its ``rare_cases``.
        prompts: Directory of templates to use in place of the built-in ones.
        instruction: A sentence that prompts add to what they ask for.
        budget: Upper bounds on tokens and yen.
    """

    per_label: Texts = 150
    until: Annotated[UntilKept, BeforeValidator(_kept_alone)] | None = None
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
    knowledge: Annotated[Topics, BeforeValidator(_by_label), AfterValidator(_topics_differ)] = ()
    attributes: Literal["auto", "none"] | Attributes | dict[str, Attributes] = "auto"
    corpus: GivenSource = None
    seed: SeedSource | None = None
    fields: Fields = {}
    text: str | None = None
    rare_share: Share = 0.1
    prompts: Path | None = None
    instruction: Annotated[str, Field(pattern=r"^[^\r\n]*$")] = ""
    budget: Budget = Budget()

    def topics(self, label: str) -> tuple[str, ...]:
        """The task's knowledge for a label."""
        return self.knowledge.get(label, ()) if isinstance(self.knowledge, dict) else self.knowledge

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
    def _one_loop(self) -> Generation:
        if self.until and self.rounds > 1:
            raise ValueError(
                f"until: expected one kind of rounds, found rounds: {self.rounds} besides; "
                "leave one of the two out"
            )
        return self

    def asked_fields(self, request: int = 1) -> FieldSet | None:
        """The fields that a request asks for, the first with the text; None without any."""
        return FieldSet.of(self.fields, self.text, request)

    @property
    def first_texts(self) -> int:
        """Texts per label that are asked for whatever becomes of them."""
        return self.until.kept if self.until else self.per_label

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


def with_diversity(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Fills in the keys that the level of diversity sets, in a task that is not validated yet."""
    found = dict(raw)
    section = found.get("generation")
    level = section.get("diversity") if isinstance(section, dict) else None
    for name, keys in LEVELS.get(level, {}).items() if isinstance(level, str) else ():
        given = found.get(name)
        if given is None or isinstance(given, dict):
            found[name] = {**keys, **(given or {})}
    return found


STRATEGY = "gradient_matching"


class GradientMatching(Section):
    """How ``generation.strategy: gradient_matching`` resynthesises texts.

    Attributes:
        perplexity: Largest ratio of a text's perplexity to that of the text it came from.
    """

    perplexity: Annotated[float, Field(ge=1)] = 1.5


Kind = Literal[
    "concept",
    "rare",
    "boundary",
    "word",
    "ending",
    "length_band",
    "knowledge",
    "attribute",
    "passage",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Found missing by comparison with gold, where the others are named in the task file.
MISSING: tuple[Kind, ...] = ("word", "ending", "length_band")


@dataclass(frozen=True, slots=True)
class Knowledge:
    """One topic that a request names.

    Attributes:
        kind: Where it comes from. ``concept``, ``rare`` (a situation), ``boundary`` (the label it
            could be mistaken for), ``knowledge`` (an item of the task's knowledge), ``attribute``
            (values of attributes) and ``passage`` (of the user's corpus) are the user's; ``word``,
            ``ending`` and ``length_band`` are what the texts so far have too little of.
        item: What to name, as people write it; of several attributes a line for each.
        gold_ids: Gold examples that it was found in. A fold that holds one of them out must drop
            the texts generated from it, just as if the prompt had shown it.
    """

    kind: Kind
    item: str
    gold_ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}:{self.item}"

    @property
    def named(self) -> tuple[str, ...]:
        """What a request records, as ``KIND:ITEM``: each attribute by itself."""
        items = self.item.split("\n") if self.kind == "attribute" else [self.item]
        return tuple(f"{self.kind}:{item}" for item in items)

    @classmethod
    def parse(cls, text: str) -> Knowledge:
        """Inverse of ``str``; the gold ids are not in it."""
        kind, _, item = text.partition(":")
        return cls(next(k for k in KINDS if k == kind), item)
