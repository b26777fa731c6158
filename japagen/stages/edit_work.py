"""The texts of a run that are to be changed, and their change piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from japagen.curation.label_check import label_indices
from japagen.examples import Dataset
from japagen.gradients.subsets import Subset, deal_texts, gold_subsets
from japagen.gradients.target import Ints
from japagen.japanese.morphology import Tagger
from japagen.listeners import Listener
from japagen.stages.local_reader import LocalReader
from japagen.stages.measuring import Vectors
from japagen.storage.files import digest, read_json, write_json
from japagen.tasks.tasks import Task

if TYPE_CHECKING:
    from japagen.gradients.changing import Changed

# What an interruption loses, and what is in memory at a time.
_PIECE = 32


class EditWork:
    """The texts to change, with the targets that they are dealt to.

    Args:
        task: The task.
        dataset: All rows.
        gold: Training gold.
        vectors: Of gold and of all rows.
        rows: Which are to be changed.
        models: Who changes them.
        tagger: Cuts texts into words.
    """

    def __init__(
        self,
        task: Task,
        dataset: Dataset,
        gold: Dataset,
        vectors: Vectors,
        rows: Ints,
        models: LocalReader,
        tagger: Tagger,
    ) -> None:
        self._tagger = tagger
        self.task = task
        self.dataset = dataset
        self.gold = gold
        self.rows = rows
        self.models = models
        self.texts = dataset.take(rows)
        names = list(task.labels)
        self.labels = label_indices(self.texts, names)
        self.gold_labels = label_indices(gold, names)
        self.gold_vectors = vectors[0].astype(np.float64)
        self.vectors = vectors[1][rows].astype(np.float64)
        self.subsets: list[Subset] = []
        self.dealt: Ints = np.zeros(0, dtype=np.int64)
        if len(rows):
            self.subsets = gold_subsets(
                *(gold, self.gold_vectors, self.gold_labels, self.vectors, self.labels),
                len(names),
                seed=task.seed,
            )
            ids, shots = self.texts.column("id"), self.texts.column("shot_ids")
            self.dealt = deal_texts(ids, self.labels, shots, self.subsets, task.seed)

    @cached_property
    def _gold_texts(self) -> dict[str, str]:
        return dict(zip(self.gold.column("id"), self.gold.texts, strict=True))

    def groups(self) -> Iterator[tuple[int, int, Ints]]:
        """Each target and label with its texts."""
        for number, label in np.ndindex(len(self.subsets), len(self.task.labels)):
            rows = np.flatnonzero((self.dealt == number) & (self.labels == label))
            if len(rows) and self.subsets[number].ids[label]:
                yield number, label, rows

    def change(self, kept: Path, inputs: str, listener: Listener) -> list[Changed]:
        """Changes the texts piece by piece.

        Args:
            kept: A directory; what it has of an interrupted run is not made again.
            inputs: Digest of all that the texts, labels and settings come from.
            listener: Told of the progress.
        """
        from japagen.gradients.changing import Changed

        done = [Changed(text) for text in self.texts.texts]
        pieces = [
            (number, label, piece)
            for number, label, rows in self.groups()
            for piece in np.array_split(rows, -(-len(rows) // _PIECE))
        ]
        for number, label, rows in listener.track(pieces, len(pieces), "edit"):
            texts = [done[row].text for row in rows]
            name = digest([inputs, number, label, rows.tolist()])
            file = kept / f"{name[:16]}.json"
            if not file.is_file():
                made = self._change_piece(texts, number, label)
                write_json(file, [asdict(each) for each in made])
            for row, found in zip(rows, read_json(file), strict=True):
                pairs = tuple((old, new) for old, new in found["changes"])
                done[row] = Changed(found["text"], pairs, found["ratio"])
        return done

    def _change_piece(self, texts: Sequence[str], number: int, label: int) -> list[Changed]:
        from japagen.gradients.changing import change
        from japagen.gradients.synthesis import Lexicon
        from japagen.gradients.words import WholeWords

        subset, settings = self.subsets[number], self.task.gradient_matching
        matcher, reader = self.models.matcher(subset.target), self.models.reader
        # Words that only gold has would tell which gold a text has seen.
        seen = [self._gold_texts[id_] for id_ in subset.ids[label]]
        words = WholeWords(self._tagger, seen)

        def lexicon() -> Lexicon:
            return Lexicon.of([*self.texts.texts, *seen], matcher, reader, words)

        return change(
            *(texts, label, matcher, reader, words),
            method=settings.method,
            edits=settings.edits,
            perplexity=settings.perplexity,
            lexicon=lexicon,
            seed=self.task.seed,
        )
