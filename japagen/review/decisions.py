"""What people decided, kept in the run's directory at once (SQLite)."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from japagen.errors import JapagenError
from japagen.reviewing.sampling import Place

FILE = "review.sqlite"
Verdict = Literal["accept", "reject", "relabel", "none"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
MAX_COMMENT = 2000

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
    decided_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_example ON decisions(example_id, number);
"""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided on one example; the latest one counts.

    Attributes:
        example_id: The example.
        verdict: "accept" (text and label are right), "relabel" (the text is good, its label
            another), "reject" (the text is no good), or "none" (taken back).
        text_hash: Hash of the text that was read, so that a changed text is not judged by it.
        label: The right label; with "accept" the one that was shown.
        register: The right register's name, or None where it was not corrected.
        comment: Free text.
        reviewer: Who decided.
        number: Counts decisions of the whole run, from 1; 0 before it is saved.
        decided_at: ISO 8601; empty before it is saved.
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
        except sqlite3.DatabaseError as error:
            raise JapagenError(
                f"Cannot use {path}: {error}.",
                "Restore it from a copy, or move it away to begin the review anew.",
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
                "SELECT example_id, verdict, text_hash, label, register, comment, reviewer, "
                "number, decided_at FROM decisions WHERE number IN "
                "(SELECT MAX(number) FROM decisions GROUP BY example_id)"
            ).fetchall()
        found = [Decision(*row) for row in rows]
        return {d.example_id: d for d in found if d.verdict != "none"}

    def save(self, decision: Decision, seen: int) -> Decision:
        """Commits a decision.

        Args:
            decision: What was decided.
            seen: The number of the example's decision that was shown; 0 where there was none.

        Returns:
            The decision with its number and time.

        Raises:
            StaleError: If another decision came in between; nothing is saved.
        """
        at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                current = self._current(decision.example_id)
                # A decision taken back is as good as none to a page that was loaded since.
                stale = current is not None and current.number != seen
                if current is not None and stale and (current.verdict != "none" or seen):
                    raise StaleError(current)
                d = decision
                cursor = self._db.execute(
                    "INSERT INTO decisions (example_id, text_hash, verdict, label, register, "
                    "comment, reviewer, decided_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        *(d.example_id, d.text_hash, d.verdict, d.label, d.register),
                        *(d.comment, d.reviewer, at),
                    ],
                )
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
        return replace(decision, number=int(cursor.lastrowid or 0), decided_at=at)

    def _current(self, example_id: str) -> Decision | None:
        row = self._db.execute(
            "SELECT example_id, verdict, text_hash, label, register, comment, reviewer, "
            "number, decided_at FROM decisions WHERE example_id = ? "
            "ORDER BY number DESC LIMIT 1",
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


def to_json(decision: Decision) -> dict[str, Any]:
    """A decision for the page."""
    return asdict(decision)
