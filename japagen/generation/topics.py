"""Topics of requests, and how prompts tell a model of them.

A base model follows no instructions, but it does continue a pattern: every text of the list is
preceded by a cue in brackets (what it is about, how it ends, how long it is), and the line to
write begins with the cue that is wanted. All shots come before it, so requests that share a shot
set share all of the prompt but its last characters.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations as couples
from itertools import count, cycle, repeat
from math import prod
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from japagen.config.generation import KINDS, Knowledge
from japagen.config.task import Task
from japagen.data.dataset import Dataset, Example
from japagen.data.seed_table import SeedRow
from japagen.japanese.morphology import Tagger
from japagen.japanese.normalization import normalize
from japagen.japanese.traits import Cues, traits_of
from japagen.llm.answers import one_line
from japagen.llm.backend import PromptKind
from japagen.llm.prompts import PromptLibrary


class Phrasing:
    """Template variables for the topic of a request.

    Args:
        task: The task.
        gold: Training gold, or None.
        tagger: The morphological analyser.
        prompt_kind: A base model (document) is told of the first attribute only.
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
        """Yields the topics of a label's requests that name nothing else, endlessly.

        An item of the task's knowledge, a combination of its attributes and a passage of its
        corpus take turns, as far as there are any. Which passage is settled with the shots.
        """
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
        yield from repeat(None)

    def _combined(self, label: str, number: int) -> Iterator[Knowledge]:
        """Yields combinations of a label's attributes, in an order drawn for each round."""
        grid = dict(self._task.generation.grid(label))
        if self._prompt_kind == "document":
            grid = dict(list(grid.items())[:1])
        drawn = random.Random(f"{self._task.seed}/attributes/{label}/{number}")
        for combination in combinations(grid, drawn.randrange(2**32)):
            yield Knowledge("attribute", as_item(combination))

    def _listed(self, label: str, number: int) -> Iterator[Knowledge]:
        """Cycles through the task's knowledge for a label, from a place drawn for each round."""
        listed = self._task.generation.topics(label)
        if not listed:
            return
        start = random.Random(f"{self._task.seed}/knowledge/{label}/{number}").randrange(
            len(listed)
        )
        for i in count(start):
            yield Knowledge("knowledge", listed[i % len(listed)])

    def told(
        self,
        known: Knowledge | None,
        settings: Settings,
        shots: Sequence[str],
        row: SeedRow | None = None,
    ) -> dict[str, Any]:
        """Template variables for one text of a list.

        Args:
            known: What the text is to name, or None.
            settings: How it is to be written.
            shots: The texts that the prompt shows.
            row: The row of the seed table that goes with it, or None.

        Returns:
            ``settings`` (pairs of name and value, those of the task's own attributes too),
            ``seed`` (column to value), ``knowledge`` and ``cue`` as in `variables`, and whether
            there is any (``told``).
        """
        if known is not None and known.kind == "attribute":
            settings, known = tuple(from_item(known.item)), None
        named = self.variables(known, shots)
        return {
            "settings": settings,
            "knowledge": named["knowledge"],
            "cue": named["cue"],
            "seed": row.values if row else {},
            "told": bool(settings or known or row),
        }

    def fits(self, known: Knowledge | None, register: str) -> bool:
        """Whether gold shows an ending in a register; endings that gold never shows fit all."""
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
        """Settles what depends on a request's place or shots.

        A text that could be mistaken for another label gets a gold text of that label. A text
        with material gets the passage that shares most with its shots and label, so that its
        lineage has no other gold; nothing where none is left.
        """
        if known is not None and known.kind == "passage" and not known.item:
            return self._passage(label, shots)
        if known is None or known.kind != "boundary" or known.gold_ids:
            return known
        ids = [i for i, e in self._gold.items() if e.label == known.item]
        drawn = random.Random(repr(place)).sample(ids, min(1, len(ids)))
        return replace(known, gold_ids=tuple(drawn))

    def variables(self, known: Knowledge | None, shots: Sequence[str]) -> dict[str, Any]:
        """Template variables in addition to the task and the shots.

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
        """The topic of the gold text in the request's lineage; else the other label."""
        topics = [self._cues.topic(self._gold[i].text) for i in known.gold_ids]
        return next(filter(None, topics), known.item)

    def _passage(self, label: str, shots: Sequence[Example]) -> Knowledge | None:
        if self._passages is None:
            return None
        texts = [label, self._task.describe(label)] if label else [self._task.description]
        query = [*texts, *(text for e in shots for text in (e.text, e.text_pair) if text)]
        found = next(self._passages.best(query), None)
        return Knowledge("passage", found) if found else None


_Name = TypeVar("_Name", bound=Hashable)


def apportion(shares: Mapping[_Name, float], total: int) -> dict[_Name, int]:
    """Splits ``total`` by shares with the largest-remainder method.

    Returns:
        Name to count, adding up to ``total``; ties go to the earlier name.
    """
    mass = sum(shares.values())
    exact = {name: share / mass * total for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def assign_topics(
    wanted: Mapping[Knowledge, float], size: int, others: Iterator[Knowledge | None]
) -> list[Knowledge | None]:
    """Assigns each of ``size`` texts one topic to name, or none.

    Args:
        wanted: The number of texts that should name each topic; scaled down where that is too
            many.
        size: How many texts are asked for.
        others: Topics of the texts left over; they name nothing when it ends.

    Returns:
        One entry per text; equal ones and those of one kind stand together.
    """
    shares: dict[Knowledge | None, float] = {k: n for k, n in wanted.items() if n > 0}
    free = max(0.0, size - sum(shares.values()))
    counts = apportion({**shares, None: free}, size) if shares or free else {}
    left = counts.pop(None, 0)
    named = sorted(counts.items(), key=lambda item: KINDS.index(item[0].kind) if item[0] else 0)
    dealt: list[Knowledge | None] = [known for known, count in named for _ in range(count)]
    return [*dealt, *(next(others, None) for _ in range(left))]


def spread(
    items: Sequence[Knowledge | None], counts: Mapping[str, int]
) -> dict[str, list[Knowledge | None]]:
    """Spreads a label's topics over its registers, each register an even part of every kind."""
    slots = sorted(
        ((i + 0.5) / count, place, register)
        for place, (register, count) in enumerate(counts.items())
        for i in range(count)
    )
    cells: dict[str, list[Knowledge | None]] = {r: [] for r, count in counts.items() if count}
    for (_, _, register), item in zip(slots, items, strict=True):
        cells[register].append(item)
    return cells


def fitted(
    cells: Mapping[str, Sequence[Knowledge | None]], fits: Callable[[Knowledge | None, str], bool]
) -> dict[str, list[Knowledge | None]]:
    """Exchanges topics between registers, so that each fits its register.

    Args:
        cells: Register to what its requests name.
        fits: Whether a request in a register can name something.

    Returns:
        As many entries per register; a topic that fits nowhere is dropped.
    """
    found = {register: list(items) for register, items in cells.items()}
    places = [(register, i) for register, items in found.items() for i in range(len(items))]
    for register, i in places:
        item = found[register][i]
        if fits(item, register):
            continue
        found[register][i] = None
        for other, j in places:
            if fits(item, other) and fits(found[other][j], register) and found[other][j] != item:
                found[register][i], found[other][j] = found[other][j], item
                break
    return found


# Combinations of attributes, drawn so that every value and every pair of values is as frequent.
#
# Attributed prompts (AttrPrompt, Yu et al. 2023, arXiv:2306.15895) draw each attribute by chance.
# Here each combination is the one whose values, and pairs of values, came least often so far: the
# entropy of every attribute, and of every two, is then as high as it can be for any number of
# requests, not only in the limit.

_SEPARATOR = "："
# A larger grid is searched in a part of it, drawn again for every combination.
_CANDIDATES = 1024

Combination: TypeAlias = Sequence[tuple[str, str]]


def combinations(grid: Mapping[str, Sequence[str]], seed: int) -> Iterator[Combination]:
    """Yields combinations of a grid, endlessly.

    Args:
        grid: Attribute to its values, two or more attributes or values.
        seed: Of the order among combinations that are equally good.

    Yields:
        One value of each attribute, in the order of the grid.
    """
    names, sizes = list(grid), [len(values) for values in grid.values()]
    if not names:
        return
    rng = np.random.default_rng(seed)
    places = list(couples(range(len(names)), 2))
    singles = [np.zeros(size) for size in sizes]
    doubles = [np.zeros((sizes[i], sizes[j])) for i, j in places]
    whole = prod(sizes) <= _CANDIDATES
    drawn = _every(sizes) if whole else None
    used: dict[tuple[int, ...], int] = {}
    while True:
        rows = rng.permutation(drawn) if drawn is not None else _some(sizes, rng)
        # Each count over what is expected of it, so that a large attribute weighs no less.
        cost = sum(
            (sizes[i] * counts[rows[:, i]] for i, counts in enumerate(singles)),
            start=np.zeros(len(rows)),
        )
        for (i, j), counts in zip(places, doubles, strict=True):
            cost += counts.size * counts[rows[:, i], rows[:, j]]
        best = [tuple(map(int, row)) for row in rows[np.isclose(cost, cost.min())]]
        chosen = min(best, key=lambda row: used.get(row, 0))
        used[chosen] = used.get(chosen, 0) + 1
        for i, value in enumerate(chosen):
            singles[i][value] += 1
        for (i, j), counts in zip(places, doubles, strict=True):
            counts[chosen[i], chosen[j]] += 1
        yield tuple((name, grid[name][value]) for name, value in zip(names, chosen, strict=True))


def _every(sizes: Sequence[int]) -> npt.NDArray[np.int64]:
    """All combinations, shape (product of the sizes, attributes)."""
    grids = np.meshgrid(*(np.arange(size) for size in sizes), indexing="ij")
    return np.stack([g.ravel() for g in grids], axis=1)


def _some(sizes: Sequence[int], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.stack([rng.integers(size, size=_CANDIDATES) for size in sizes], axis=1)


def as_item(combination: Combination) -> str:
    """A combination as one topic: a line for each attribute."""
    return "\n".join(f"{name}{_SEPARATOR}{value}" for name, value in combination)


def from_item(item: str) -> Combination:
    """Inverse of `as_item`."""
    parted = (line.partition(_SEPARATOR) for line in item.split("\n"))
    return tuple((name, value) for name, _, value in parted)


# How the texts of a task vary where the task file does not say: who writes, and how.
#
# The attributes of each kind of text are data (``attributes.yaml`` next to the templates). They say
# nothing of what a text is about, so they go with every text, whatever else it is to name.

_OTHER = "other"
_WRITER = "書き手"
LENGTH = "長さ"
"""The attribute that gold decides where prompts show it."""
# Places in gold, in order of length, that stand for the others.
_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)

Settings = tuple[tuple[str, str], ...]
"""Name and value of each attribute that says something of one text."""


def kind_of_text(task: Task, kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """The kind of a task's texts.

    It is the first one that has a word in the task's ``text_type``; if none has, in its
    ``domain``; if none has, in its ``description``; else ``other``.

    Args:
        task: The task.
        kinds: Kind to its ``words``, as `PromptLibrary.attributes` has them.
    """
    for said in (task.text_type, task.domain, task.description):
        for name, kind in kinds.items():
            if any(word in said for word in kind["words"]):
                return name
    return _OTHER


def default_grid(
    task: Task, prompts: PromptLibrary, gold: Dataset | None
) -> dict[str, dict[str, int]]:
    """Attributes and their values, each value with its relative frequency.

    Args:
        task: The task.
        prompts: Where the kinds of text are described.
        gold: Gold that prompts show; its lengths replace the usual ones. None if none is shown.
    """
    kinds = prompts.attributes
    given = kinds[kind_of_text(task, kinds)]["attributes"]
    grid = {
        name: dict(values) if isinstance(values, dict) else dict.fromkeys(values, 1)
        for name, values in given.items()
    }
    if gold is not None and len(gold) and LENGTH in grid:
        grid[LENGTH] = dict.fromkeys(_lengths([len(text) for text in gold.texts]), 1)
    if task.generation.seed is not None and task.generation.seed.role == "writer":
        grid.pop(_WRITER, None)
    return {name: values for name, values in grid.items() if values}


def _lengths(found: Sequence[int]) -> list[str]:
    """Lengths that occur equally often in gold, in round figures."""
    ordered = sorted(found)
    exact = [ordered[round(share * (len(ordered) - 1))] for share in _QUANTILES]
    rounded = [max(5, 5 * round(n / 5)) if n < 60 else 10 * round(n / 10) for n in exact]
    return [f"{n}字ほど" for n in dict.fromkeys(rounded)]


def drawn_settings(grid: Mapping[str, Mapping[str, int]], seed: int) -> Iterator[Settings]:
    """Yields the settings of one text after the other, endlessly; empty without attributes.

    Over any number of texts each value is drawn about as often as its number says, and each pair
    of values likewise.

    Args:
        grid: Attribute to its values and how often each is drawn.
        seed: Of the order.
    """
    if not grid:
        yield from repeat(())
    places = {
        name: [value for value, number in values.items() for _ in range(number)]
        for name, values in grid.items()
    }
    for combination in combinations(places, seed):
        yield tuple((name, value) for name, value in combination if value)


# A passage is material for one text, not a document: about three sentences.
_LONGEST = 200
_SHORTEST = 10
_SENTENCE = re.compile(r"[^。！？!?\n]+[。！？!?]*")
_CONTENT = ("名詞", "動詞", "形容詞", "形状詞", "副詞")


def passages_of(texts: Iterable[str]) -> list[str]:
    """Splits texts at ends of sentences into distinct passages of about 200 characters."""
    found: dict[str, None] = {}
    for text in texts:
        current = ""
        for sentence in _SENTENCE.findall(text):
            if current and len(current) + len(sentence) > _LONGEST:
                found[one_line(current)] = None
                current = ""
            current += sentence
        found[one_line(current)] = None
    return [passage[:_LONGEST] for passage in found if len(passage) >= _SHORTEST]


class Passages:
    """Retrieves passages of a corpus, the best for a query first, each once.

    Args:
        texts: The corpus.
        tagger: The morphological analyser.
    """

    def __init__(self, texts: Iterable[str], tagger: Tagger) -> None:
        import bm25s

        self._tagger = tagger
        self._passages = passages_of(texts)
        words = [self._words(passage) for passage in self._passages]
        self._index = bm25s.BM25()
        self._known = {word for row in words for word in row}
        if self._known:
            self._index.index(words, show_progress=False)
        self._given: set[int] = set()

    def _words(self, text: str) -> list[str]:
        return [m.lemma for m in self._tagger.tokenize(normalize(text)) if m.pos1 in _CONTENT]

    def best(self, query: Sequence[str]) -> Iterator[str]:
        """Yields passages that share words with a query, the best first; none that was used before.

        Args:
            query: Texts to search with.
        """
        words = [w for text in query for w in self._words(text) if w in self._known]
        if not words:
            return
        scores = self._index.get_scores(words)
        for index in np.argsort(-scores, kind="stable"):
            if scores[index] <= 0:
                return
            if int(index) not in self._given:
                self._given.add(int(index))
                yield self._passages[index]

    def topic(self, passage: str) -> str:
        """The most frequent noun of a passage, the longer of equals; empty without a noun."""
        text = normalize(passage)
        nouns = [n for n in traits_of(text, self._tagger).nouns if len(n) > 1]
        counts = Counter({noun: text.count(noun) for noun in nouns})
        return max(nouns, key=lambda noun: (counts[noun], len(noun)), default="")
