"""What one request is to name, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "concept",
    "rare",
    "boundary",
    "balance",
    "word",
    "ending",
    "length_band",
    "knowledge",
    "attribute",
    "passage",
    "paraphrase",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Found missing by comparison with gold, where the others are named in the task file.
MISSING: tuple[Kind, ...] = ("word", "ending", "length_band")


@dataclass(frozen=True, slots=True)
class Knowledge:
    """One thing for one request to name.

    Attributes:
        kind: Why it is named. ``concept``, ``rare`` (a situation), ``boundary`` (the label it
            could be mistaken for), ``balance`` (a word of an attribute's value), ``knowledge`` (an
            item of the task's knowledge), ``attribute`` (values of attributes), ``passage`` (of the
            user's corpus) and ``paraphrase`` (of a gold text, by its id) are the user's; ``word``,
            ``ending`` and ``length_band`` are what the texts so far have too little of.
        item: What to name, as people write it; of several attributes a line for each.
        gold_ids: Gold examples that it was found in. A fold that holds one of them out must drop
            what descends from it, just as if the prompt had shown it.
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
