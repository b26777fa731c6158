"""How a request's knowledge is put to a model.

A base model follows no instructions, but it does continue a pattern: every text of the list is
preceded by a cue in brackets (what it is about, how it ends, how long it is), and the line to
write begins with the cue that is wanted. All shots come before it, so requests that share a shot
set share all of the prompt but its last characters.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, cycle
from typing import Any

from japagen.examples import Dataset, Example
from japagen.generation.attributes import as_item, combinations, from_item
from japagen.generation.default_grid import Settings
from japagen.generation.retrieval import Passages
from japagen.generators.base import PromptKind
from japagen.japanese.morphology import Tagger
from japagen.japanese.traits import Cues
from japagen.requesting import one_line
from japagen.tasks.knowledge import Knowledge
from japagen.tasks.tasks import Task


class Phrasing:
    """What templates may say of a request's knowledge.

    Args:
        task: The task.
        gold: Training gold, or None.
        tagger: The morphological analyser.
        prompt_kind: A document's reader is told of the first attribute alone.
        corpus: Texts to take passages from, or None.
    """

    def __init__(
        self,
        task: Task,
        gold: Dataset | None,
        tagger: Tagger,
        prompt_kind: PromptKind,
        corpus: Dataset | None = None,
    ) -> None:
        self._task = task
        self._tagger = tagger
        self._prompt_kind = prompt_kind
        self._passages = Passages(corpus.texts, tagger) if corpus is not None else None
        self._gold = {e.id: e for e in gold or ()}
        self._read: Cues | None = None

    @property
    def _cues(self) -> Cues:
        # Gold is read only where a request names something.
        if self._read is None:
            self._read = Cues([e.text for e in self._gold.values()], self._tagger)
        return self._read

    def items(self, label: str, number: int) -> Iterator[Knowledge | None]:
        """What a label's requests name that are to name nothing else, without end.

        An item of the task's knowledge, a combination of its attributes and a passage of its
        corpus take turns, as far as there are any; a share has a gold text put in other words
        instead. Which passage and which text is settled with the shots.
        """
        named = self._named(label, number)
        share = self._task.generation.paraphrase_share if self._prompt_kind == "chat" else 0.0
        for i in count():
            if int((i + 1) * share) > int(i * share):
                yield Knowledge("paraphrase", "")
            else:
                yield next(named, None)

    def _named(self, label: str, number: int) -> Iterator[Knowledge]:
        sources = [self._listed(label, number), self._combined(label, number)]
        if self._passages is not None:
            sources.append(cycle([Knowledge("passage", "")]))
        while sources:
            for source in list(sources):
                known = next(source, None)
                if known is None:
                    sources.remove(source)
                else:
                    yield known

    def _combined(self, label: str, number: int) -> Iterator[Knowledge]:
        """Combinations of a label's attributes, in an order drawn for each round."""
        grid = dict(self._task.generation.grid(label))
        if self._prompt_kind == "document":
            grid = dict(list(grid.items())[:1])
        drawn = random.Random(f"{self._task.seed}/attributes/{label}/{number}")
        for combination in combinations(grid, drawn.randrange(2**32)):
            yield Knowledge("attribute", as_item(combination))

    def _listed(self, label: str, number: int) -> Iterator[Knowledge]:
        """The task's knowledge for a label, over and over, from a place drawn for each round."""
        given = self._task.generation.knowledge
        listed = given.get(label, ()) if isinstance(given, dict) else given
        if not listed:
            return
        start = random.Random(f"{self._task.seed}/knowledge/{label}/{number}").randrange(
            len(listed)
        )
        for i in count(start):
            yield Knowledge("knowledge", listed[i % len(listed)])

    def told(
        self, known: Knowledge | None, settings: Settings, shots: Sequence[str]
    ) -> dict[str, Any]:
        """What a list of conditions says of one text.

        Args:
            known: What the text is to name, or None.
            settings: How it is to be written.
            shots: The texts that the prompt shows.

        Returns:
            ``settings`` (pairs of name and value, those of the task's own attributes too),
            ``knowledge`` and ``cue`` as in `variables`, and whether there is any (``told``).
        """
        if known is not None and known.kind == "attribute":
            settings, known = tuple(from_item(known.item)), None
        named = self.variables(known, shots)
        return {
            "settings": settings,
            "knowledge": named["knowledge"],
            "cue": named["cue"],
            "told": bool(settings or known),
        }

    def fits(self, known: Knowledge | None, register: str) -> bool:
        """Whether a register can have an ending: one that gold shows with it, if it shows any."""
        if known is None or known.kind != "ending":
            return True
        seen = [e.register_seen for i in known.gold_ids if (e := self._gold.get(i))]
        return register in {r.name for r in seen if r} or not any(seen)

    def settled(
        self,
        known: Knowledge | None,
        place: Sequence[Any],
        label: str = "",
        shots: Sequence[Example] = (),
    ) -> Knowledge | None:
        """Draws what depends on a request's place or shots.

        A text that could be mistaken for another label gets a gold text of that label, and one
        that is to be put in other words a text of its own. A text
        with material gets the passage that shares most with its shots and label, so that it
        descends from no other gold; nothing where none is left.
        """
        if known is not None and known.kind == "passage" and not known.item:
            return self._passage(label, shots)
        if known is None or known.kind not in ("boundary", "paraphrase") or known.gold_ids:
            return known
        wanted = label if known.kind == "paraphrase" else known.item
        ids = [i for i, e in self._gold.items() if e.label == wanted]
        drawn = random.Random(repr(place)).sample(ids, min(1, len(ids)))
        if known.kind == "paraphrase":
            return replace(known, item=drawn[0], gold_ids=tuple(drawn)) if drawn else None
        return replace(known, gold_ids=tuple(drawn))

    def variables(self, known: Knowledge | None, shots: Sequence[str]) -> dict[str, Any]:
        """What a template may name beside the task and the shots.

        Args:
            known: What the request names, or None.
            shots: The texts that the prompt shows.

        Returns:
            ``knowledge`` (a mapping of ``kind``, ``item``, ``description`` and, for attributes,
            ``attributes``, a list of name and value; or None), ``cues``
            (one a shot, empty where there is nothing to say or nothing is named) and ``cue`` (of
            the text to write).
        """
        if known is None:
            return {"knowledge": None, "cues": ["" for _ in shots], "cue": ""}
        named = {
            "kind": known.kind,
            "item": one_line(known.item),
            "description": self._task.labels.get(known.item, "")
            if known.kind == "boundary"
            else "",
            "attributes": from_item(known.item) if known.kind == "attribute" else (),
        }
        return {
            "knowledge": named,
            "cues": [self._cue_of(known, text) for text in shots],
            "cue": self._cue(known),
        }

    def _cue_of(self, known: Knowledge, text: str) -> str:
        if known.kind == "ending":
            ending = self._cues.ending(text)
            return f"〜{ending}" if ending else ""
        return (
            self._cues.length_band(text) if known.kind == "length_band" else self._cues.topic(text)
        )

    def _cue(self, known: Knowledge) -> str:
        if known.kind == "ending":
            return f"〜{known.item}"
        if known.kind == "boundary":
            return self._topic(known)
        if known.kind == "attribute":
            return one_line(from_item(known.item)[0][1])
        if known.kind == "passage" and self._passages is not None:
            return self._passages.topic(known.item)
        return one_line(known.item)

    def _topic(self, known: Knowledge) -> str:
        """What the gold text is about that the request descends from; else the other label."""
        topics = [self._cues.topic(self._gold[i].text) for i in known.gold_ids]
        return next(filter(None, topics), known.item)

    def _passage(self, label: str, shots: Sequence[Example]) -> Knowledge | None:
        if self._passages is None:
            return None
        texts = [label, self._task.describe(label)] if label else [self._task.description]
        query = [*texts, *(text for e in shots for text in (e.text, e.text_pair) if text)]
        found = next(self._passages.best(query), None)
        return Knowledge("passage", found) if found else None

    def original(self, known: Knowledge) -> str:
        """The gold text that a request has put in other words."""
        return one_line(self._gold[known.item].text)
