"""The durable record of every request sent and every answer received (SQLite)."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from japagen.errors import DamagedError, JapagenError
from japagen.generators.base import Answer, Request

_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY,
    generator TEXT NOT NULL,
    seed INTEGER NOT NULL,
    body TEXT NOT NULL,
    planned_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS attempts (
    id INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL REFERENCES requests(id),
    finish TEXT NOT NULL,
    text TEXT NOT NULL,
    error TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    answered_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS sessions (
    started_at REAL NOT NULL,
    last_answer_at REAL NOT NULL,
    purpose TEXT NOT NULL DEFAULT 'generate'
);
CREATE UNIQUE INDEX IF NOT EXISTS one_accepted ON attempts(request_id) WHERE finish != 'error';
"""


@contextmanager
def ledger_errors(path: Path) -> Iterator[None]:
    """Turns what SQLite says about the disk or the file into something the user can act on."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if not any(word in str(error) for word in ("full", "readonly", "disk I/O", "unable")):
            raise
        raise JapagenError(
            f"Cannot write {path}: {error}.",
            "Free some room or choose another --out; the same command goes on from here.",
        ) from error
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        raise DamagedError(
            path,
            "The texts that the model wrote are in it: restore it from a copy, or choose another "
            "--out to ask for all of them again.",
        ) from error


class Ledger:
    """Requests and answers, committed before they are used.

    A request has a row before it is sent; an answer is committed before anything reads it; the
    database itself allows one accepted answer a request. Killed at any moment, what is
    unanswered is what has no accepted attempt.

    Args:
        path: The database file, or ``:memory:``.
    """

    def __init__(self, path: str | Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        # WAL with NORMAL loses nothing when the process dies; FULL also survives a power cut.
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)
        columns = {row[1] for row in self._db.execute("PRAGMA table_info(sessions)")}
        if "purpose" not in columns:  # a run that was begun before texts were rewritten
            self._db.execute(
                "ALTER TABLE sessions ADD COLUMN purpose TEXT NOT NULL DEFAULT 'generate'"
            )

    def plan(self, requests: Iterable[Request], generator: str, purpose: str = "generate") -> None:
        """Opens a session and records the requests to be sent; known ones stay as they are."""
        now = time.time()
        rows = [(r.id, generator, r.seed, _body(r), now) for r in requests]
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT OR IGNORE INTO requests VALUES (?, ?, ?, ?, ?)", rows)
        self._db.execute("INSERT INTO sessions VALUES (?, ?, ?)", [now, now, purpose])
        self._db.execute("COMMIT")

    def record(self, answer: Answer) -> None:
        """Commits one attempt; a second accepted answer to a request is kept as a duplicate.

        The cost of every attempt counts, so a duplicate is stored as an error of that name.
        """
        a = answer
        values = [a.prompt_tokens, a.completion_tokens, a.seconds, time.time()]
        insert = (
            "INSERT INTO attempts (request_id, finish, text, error, prompt_tokens, "
            "completion_tokens, seconds, answered_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        )
        try:
            self._db.execute(insert, [a.request_id, a.finish, a.text, a.error, *values])
        except sqlite3.IntegrityError:
            self._db.execute(insert, [a.request_id, "error", a.text, "duplicate answer", *values])
        self._db.execute(
            "UPDATE sessions SET last_answer_at = ? "
            "WHERE rowid = (SELECT MAX(rowid) FROM sessions)",
            [time.time()],
        )

    def answers(self, request_ids: Iterable[str]) -> dict[str, Answer]:
        """Returns the accepted answers among ``request_ids``."""
        wanted = set(request_ids)
        rows = self._db.execute(
            "SELECT request_id, text, finish, prompt_tokens, completion_tokens, seconds "
            "FROM attempts WHERE finish != 'error'"
        )
        return {row[0]: Answer(*row) for row in rows if row[0] in wanted}

    def failures(self, request_ids: Iterable[str]) -> dict[str, str]:
        """Returns the last error of each request among ``request_ids`` that has no answer."""
        wanted = set(request_ids) - set(self.answers(request_ids))
        rows = self._db.execute(
            "SELECT request_id, error FROM attempts WHERE finish = 'error' ORDER BY id"
        )
        return {request_id: error for request_id, error in rows if request_id in wanted}

    def wall_seconds(self, purpose: str) -> float:
        """Time from the first request to the last answer, over the sessions of one purpose."""
        return float(
            self._db.execute(
                "SELECT COALESCE(SUM(last_answer_at - started_at), 0) FROM sessions "
                "WHERE purpose = ?",
                [purpose],
            ).fetchone()[0]
        )

    def totals(self) -> Mapping[str, float]:
        """Counts, tokens and seconds over every attempt ever made, failures included."""
        row = self._db.execute(
            "SELECT COUNT(*), COALESCE(SUM(finish != 'error'), 0), "
            "COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0), "
            "COALESCE(SUM(seconds), 0) FROM attempts"
        ).fetchone()
        wall = self._db.execute(
            "SELECT COALESCE(SUM(last_answer_at - started_at), 0) FROM sessions"
        ).fetchone()
        names = ("attempts", "answers", "prompt_tokens", "completion_tokens", "request_seconds")
        return {**dict(zip(names, row, strict=True)), "wall_seconds": round(wall[0], 3)}

    def close(self) -> None:
        """Closes the database; calling it twice is harmless."""
        self._db.close()


def _body(request: Request) -> str:
    body: dict[str, Any] = {
        **asdict(request),
        "register": request.register.to_dict(),
    }
    return json.dumps(body, ensure_ascii=False, sort_keys=True)
