"""Decisions of reviewers, and the sample that they are shown."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from japagen.data.dataset import EDITED, Dataset, Label
from japagen.errors import JapagenError

FILE = "review.sqlite"
Verdict = Literal["accept", "relabel", "both", "neither", "reject", "none"]
GOOD: tuple[Verdict, ...] = ("accept", "relabel")
"""Those that keep the text."""
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
MAX_COMMENT = 2000
MAX_TEXT = 4000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS places (
    example_id TEXT PRIMARY KEY,
    label TEXT NOT NULL,
    doubt TEXT NOT NULL,
    position INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    example_id TEXT NOT NULL,
    text_hash TEXT NOT NULL,
    verdict TEXT NOT NULL,
    label TEXT,
    register TEXT,
    comment TEXT NOT NULL,
    reviewer TEXT NOT NULL,
    decided_at TEXT NOT NULL,
    text TEXT,
    text_pair TEXT
);
CREATE INDEX IF NOT EXISTS by_example ON decisions(example_id, number);
"""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided on one example; the latest one counts.

    Attributes:
        example_id: The example.
        verdict: "accept" (text and label are right), "relabel" (the text is good, its label
            another), "both" (another label fits as well), "neither" (no label fits), "reject"
            (the text is no good), or "none" (taken back).
        text_hash: Hash of the text that was read, so that a changed text is not judged by it.
        label: The right label; with "accept" the one that was shown, with "both" the other one.
        register: The right register's name, or None where it was not corrected.
        comment: Free text.
        reviewer: Who decided.
        number: Counts decisions of the whole run, from 1; 0 before it is saved.
        decided_at: ISO 8601; empty before it is saved.
        text: What the reviewer made of the text; None where it stays as it is.
        text_pair: The same of the second text of a pair.
    """

    example_id: str
    verdict: Verdict
    text_hash: str
    label: str | None = None
    register: str | None = None
    comment: str = ""
    reviewer: str = ""
    number: int = 0
    decided_at: str = ""
    text: str | None = None
    text_pair: str | None = None

    @property
    def edited(self) -> bool:
        """Whether another text goes on in place of the one that was read."""
        return self.text is not None or self.text_pair is not None


_COLUMNS = ", ".join(field.name for field in fields(Decision))


class StaleError(Exception):
    """Another tab or person has decided on the example since it was shown.

    Attributes:
        current: Their decision.
    """

    def __init__(self, current: Decision) -> None:
        super().__init__(current.example_id)
        self.current = current


class Decisions:
    """The decisions of one run; every one is committed before its call returns.

    Nothing is overwritten: a change of mind is a new row.

    Args:
        path: The database; made if it does not exist.

    Raises:
        JapagenError: If it is not a database of decisions.
    """

    def __init__(self, path: str | Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
            known = {row[1] for row in self._db.execute("PRAGMA table_info(decisions)")}
            for name in {"text", "text_pair"} - known:  # a review of an earlier version
                self._db.execute(f"ALTER TABLE decisions ADD COLUMN {name} TEXT")
        except sqlite3.DatabaseError as error:
            raise JapagenError(
                f"Cannot use {path}: {error}.",
                "Restore it from a copy, or move it away to start the review over.",
            ) from error

    def places(self) -> list[Place]:
        """The order of review as it was drawn first; empty before that."""
        with self._lock:
            rows = self._db.execute("SELECT example_id, label, doubt, position FROM places")
            return [Place(*row) for row in rows]

    def keep_places(self, places: Iterable[Place]) -> None:
        """Replaces the order of review."""
        rows = [(p.example_id, p.label, p.doubt, p.position) for p in places]
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM places")
            self._db.executemany("INSERT INTO places VALUES (?, ?, ?, ?)", rows)
            self._db.execute("COMMIT")

    def latest(self) -> dict[str, Decision]:
        """Example id to the decision that counts; those taken back are left out."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM decisions WHERE number IN "
                "(SELECT MAX(number) FROM decisions GROUP BY example_id)"
            ).fetchall()
        found = [Decision(*row) for row in rows]
        return {d.example_id: d for d in found if d.verdict != "none"}

    def save(self, decision: Decision, seen: int) -> Decision:
        """Commits a decision.

        ``seen`` is the number of the decision that was shown, 0 where there was none.

        Returns:
            The decision with its number and time.

        Raises:
            StaleError: If another decision came in between; nothing is saved.
        """
        saved = replace(decision, decided_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"))
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                current = self._current(decision.example_id)
                # A decision taken back is as good as none to a page that was loaded since.
                stale = current is not None and current.number != seen
                if current is not None and stale and (current.verdict != "none" or seen):
                    raise StaleError(current)
                cursor = self._db.execute(
                    f"INSERT INTO decisions ({_COLUMNS}) VALUES (:example_id, :verdict, "
                    ":text_hash, :label, :register, :comment, :reviewer, NULL, :decided_at, "
                    ":text, :text_pair)",
                    asdict(saved),
                )
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
        return replace(saved, number=int(cursor.lastrowid or 0))

    def _current(self, example_id: str) -> Decision | None:
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM decisions WHERE example_id = ? ORDER BY number DESC LIMIT 1",
            [example_id],
        ).fetchone()
        return Decision(*row) if row else None

    def close(self) -> None:
        """Closes the database; calling it twice is harmless."""
        self._db.close()


def text_hash(text: str, pair: str | None = None) -> str:
    """Hash by which a decision knows the text, or the pair, that was read."""
    read = f"{text}\0{pair or ''}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(read).hexdigest()[:16]


Doubt = Literal["doubtful", "rejected", "middling", "sure"]
# The order in which people see them: where a look changes most comes first.
ORDER: tuple[Doubt, ...] = ("doubtful", "rejected", "middling", "sure")
# Share of the sample; the doubtful get more than their third, since they vary most.
_SHARES: Mapping[Doubt, float] = {"doubtful": 0.4, "rejected": 0.15, "middling": 0.25, "sure": 0.2}
# A request without an answer and an empty text have nothing to read.
_NOTHING_TO_READ = ("failed", "first_text")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one example stands in the order of review.

    Attributes:
        example_id: The example.
        label: Its label when the order was drawn.
        doubt: Rejected by curation, or the third of its label by trust in the label.
        position: Its place in the seeded order of its label and doubt, from 0.
    """

    example_id: str
    label: str
    doubt: Doubt
    position: int

    @property
    def stratum(self) -> tuple[str, Doubt]:
        """Label and doubt: within it, any first few are a random sample."""
        return self.label, self.doubt


def draw_order(
    dataset: Dataset, seed: int = 0, name_of: Callable[[Label], str] = str
) -> list[Place]:
    """Puts every readable example into its stratum, in random order within it.

    Strata are the label, crossed with three equal parts of its kept examples by `weight_label`
    and its rejected ones. The order depends on the examples' ids and the seed alone.
    """
    groups: dict[tuple[str, Doubt], list[str]] = defaultdict(list)
    for label, rows in _by_label(dataset, name_of).items():
        kept = [row for row in rows if not row[2]]
        third = np.array_split(np.arange(len(kept)), 3)
        for doubt, part in zip(("doubtful", "middling", "sure"), third, strict=True):
            groups[label, doubt] = [kept[i][1] for i in part]  # type: ignore[index]
        groups[label, "rejected"] = [row[1] for row in rows if row[2]]
    places = []
    for (label, doubt), ids in groups.items():
        shuffled = sorted(ids)
        random.Random(f"{seed}/{label}/{doubt}").shuffle(shuffled)
        places += [Place(name, label, doubt, at) for at, name in enumerate(shuffled)]
    return places


def _by_label(
    dataset: Dataset, name_of: Callable[[Label], str]
) -> dict[str, list[tuple[float, str, bool]]]:
    """Label to (trust, id, rejected), the least trusted first."""
    rows: dict[str, list[tuple[float, str, bool]]] = defaultdict(list)
    names = ("label", "weight_label", "id", "rejected", "text", "derived")
    for label, trust, name, rejected, text, derived in zip(
        *map(dataset.column, names), strict=True
    ):
        if rejected and rejected["filter"] in _NOTHING_TO_READ:
            continue
        # What a reviewer wrote has been read.
        if text.strip() and derived != EDITED:
            rows[name_of(label)].append((trust, name, rejected is not None))
    return {label: sorted(found) for label, found in sorted(rows.items())}


def choose(places: Sequence[Place], number: int) -> list[Place]:
    """Picks the sample to show, in the order in which to show it.

    A larger number keeps every example of a smaller one. Labels take turns.
    """
    strata: dict[tuple[str, Doubt], list[Place]] = defaultdict(list)
    for place in sorted(places, key=lambda p: p.position):
        strata[place.stratum].append(place)
    queue: list[tuple[float, int, Place]] = []
    labels = sorted({label for label, _ in strata})
    for (label, doubt), members in strata.items():
        # The n-th of a stratum comes when the stratum's share of the sample reaches it.
        share = _SHARES[doubt] / len(labels)
        queue += [((p.position + 0.5) / share, labels.index(label), p) for p in members]
    queue.sort(key=lambda entry: entry[:2])
    chosen = [place for _, _, place in queue[:number]]
    return sorted(chosen, key=lambda p: (ORDER.index(p.doubt), p.position, labels.index(p.label)))
