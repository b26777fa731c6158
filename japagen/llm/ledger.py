"""The durable record of every request sent and every answer received (SQLite)."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from japagen.data.files import encodable
from japagen.errors import DamagedError, JapagenError
from japagen.llm.answers import UNREADABLE
from japagen.llm.backend import Answer, GeneratorInfo, OutputTerms, Request

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
CREATE TABLE IF NOT EXISTS generators (
    identity TEXT PRIMARY KEY,
    info TEXT NOT NULL,
    used_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS in_flight (
    request_id TEXT PRIMARY KEY REFERENCES requests(id),
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    sent_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS lost (
    request_id TEXT NOT NULL REFERENCES requests(id),
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    sent_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS masked (
    request_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (request_id, kind)
);
CREATE TABLE IF NOT EXISTS choices (
    id TEXT PRIMARY KEY,
    scores TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS one_accepted ON attempts(request_id) WHERE finish != 'error';
"""
_LAST_GENERATOR = "SELECT info FROM generators ORDER BY used_at DESC, rowid DESC LIMIT 1"
_ANSWERS = (
    "SELECT request_id, text, finish, prompt_tokens, completion_tokens, seconds, error "
    "FROM attempts WHERE finish != 'error'"
)
_ACCEPTED = "FROM attempts JOIN requests ON requests.id = request_id WHERE finish != 'error'"
_ERRORS = (
    "SELECT request_id, text, finish, prompt_tokens, completion_tokens, seconds, error "
    "FROM attempts WHERE finish = 'error' AND error != 'duplicate answer' ORDER BY id"
)
_ATTEMPT = "text, prompt_tokens, completion_tokens, seconds, answered_at"
_SECOND = (
    "(a.finish != 'error' AND EXISTS (SELECT 1 FROM main.attempts m "
    "WHERE m.request_id = a.request_id AND m.finish != 'error'))"
)
# A second accepted answer becomes a failure of that name, as it does in `Ledger.record`.
_TAKE = (
    "CREATE INDEX by_request ON attempts(request_id)",
    "INSERT OR IGNORE INTO main.requests SELECT * FROM other.requests",
    f"INSERT INTO main.attempts (request_id, finish, error, {_ATTEMPT}) SELECT request_id, "
    f"CASE WHEN {_SECOND} THEN 'error' ELSE finish END, "
    f"CASE WHEN {_SECOND} THEN 'duplicate answer' ELSE error END, {_ATTEMPT} "
    "FROM other.attempts a WHERE NOT EXISTS (SELECT 1 FROM main.attempts m WHERE "
    "m.request_id = a.request_id AND m.answered_at = a.answered_at AND m.text = a.text) "
    "ORDER BY id",
    "DROP INDEX main.by_request",
    "INSERT INTO main.sessions SELECT * FROM other.sessions EXCEPT SELECT * FROM main.sessions",
    "INSERT INTO main.lost SELECT * FROM other.lost EXCEPT SELECT * FROM main.lost",
    "INSERT OR IGNORE INTO main.in_flight SELECT * FROM other.in_flight",
    "DELETE FROM main.in_flight WHERE request_id IN "
    "(SELECT request_id FROM main.attempts WHERE finish != 'error')",
    *(
        f"INSERT OR IGNORE INTO main.{table} SELECT * FROM other.{table}"
        for table in ("generators", "masked", "choices")
    ),
)
_WALL = "SELECT COALESCE(SUM(last_answer_at - started_at), 0) FROM sessions"
_SYNC_SECONDS = 0.5


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

    A request has a row before it is sent, and a mark while it is in flight; an answer is
    committed before anything reads it; the database itself allows one accepted answer a request.
    Killed at any moment, what is unanswered is what has no accepted attempt, and the marks that
    are left say which attempts were lost.

    A commit outlives the process at once, and a power cut after half a second: to wait for the
    disk with every answer takes longer than many a server does.

    Args:
        path: The database file, or ``:memory:``.
    """

    def __init__(self, path: str | Path) -> None:
        # A request is marked by the thread that sends it; what is written takes turns.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._writing = threading.Lock()
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(_SCHEMA)
        self._synced_at = 0.0

    @contextmanager
    def _commit(self, *, now: bool = False) -> Iterator[None]:
        """Commits what is done inside together, on disk ``now`` or within half a second."""
        clock = time.monotonic()
        on_disk = now or clock - self._synced_at > _SYNC_SECONDS
        with self._writing:
            # In WAL mode, FULL waits for the disk (with all commits before), NORMAL does not.
            self._db.execute(f"PRAGMA synchronous={'FULL' if on_disk else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            if on_disk:
                self._synced_at = clock

    def name(self, generator: GeneratorInfo) -> None:
        """Records who is asked from now on."""
        values = [generator.identity, json.dumps(asdict(generator), ensure_ascii=False)]
        with self._commit():
            self._db.execute(
                "INSERT OR REPLACE INTO generators VALUES (?, ?, ?)", [*values, time.time()]
            )

    def plan(
        self,
        requests: Iterable[Request],
        generator: str,
        purpose: str = "generate",
        *,
        lost: bool = True,
    ) -> None:
        """Opens a session and records the requests to be sent; known ones stay as they are.

        Args:
            requests: What is to be sent.
            generator: To whom.
            purpose: What the session's time is counted under.
            lost: Whether what an earlier session left in flight is counted as lost from here on.
        """
        now = time.time()
        rows = [(r.id, generator, r.seed, _body(r), now) for r in requests]
        with self._commit(now=True):
            self._db.executemany("INSERT OR IGNORE INTO requests VALUES (?, ?, ?, ?, ?)", rows)
            if lost:
                self._db.execute("INSERT INTO lost SELECT * FROM in_flight")
                self._db.execute("DELETE FROM in_flight")
            self._db.execute("INSERT INTO sessions VALUES (?, ?, ?)", [now, now, purpose])

    def planned(self, request_ids: Iterable[str]) -> set[str]:
        """Those of some requests that were ever to be sent."""
        known = {row[0] for row in self._db.execute("SELECT id FROM requests")}
        return known & set(request_ids)

    def take(self, path: Path) -> None:
        """Takes over all that another ledger of the same task holds; what both hold counts once.

        Raises:
            JapagenError: If its requests are those of another task.
        """
        Ledger(path).close()  # makes what an older japagen did not
        self._db.execute("ATTACH DATABASE ? AS other", [str(path)])
        try:
            sizes = "(SELECT COUNT(*) FROM main.requests), (SELECT COUNT(*) FROM other.requests)"
            shared = "(SELECT COUNT(*) FROM main.requests JOIN other.requests USING (id))"
            here, there, both = self._db.execute(f"SELECT {sizes}, {shared}").fetchone()
            # Each part of a run plans all requests of a step, its own or not.
            if both < min(here, there):
                raise JapagenError(
                    f"Expected {path} to hold requests of the same task, found {there - both} of "
                    f"{there} that the others do not have.",
                    "Task, gold, templates and generator.model must be the same in all parts.",
                )
            with self._commit(now=True):
                for statement in _TAKE:
                    self._db.execute(statement)
        finally:
            self._db.execute("DETACH DATABASE other")

    def note_masked(self, masked: Mapping[str, Mapping[str, int]]) -> None:
        """Records how many pieces of personal data were masked in which requests' prompts."""
        rows = [(key, kind, n) for key, found in masked.items() for kind, n in found.items()]
        with self._commit():
            self._db.executemany("INSERT OR REPLACE INTO masked VALUES (?, ?, ?)", rows)

    def masked(self) -> int:
        """Pieces of personal data masked in prompts."""
        return int(self._db.execute("SELECT TOTAL(count) FROM masked").fetchone()[0])

    def rate(self, generator: str) -> tuple[float, float, float] | None:
        """Mean prompt tokens, answer tokens and elapsed seconds for a text of a generator.

        A list counts as so many texts as were asked for. Answers that choose a label are short,
        and not among them.
        """
        texts = f"{_ACCEPTED} AND COALESCE(json_array_length(body, '$.options'), 0) = 0"
        asked = "SUM(MAX(1, COALESCE(json_array_length(body, '$.each'), 0)))"
        count, prompt, completion = self._db.execute(
            f"SELECT {asked}, 1.0 * SUM(prompt_tokens) / {asked}, "
            f"1.0 * SUM(completion_tokens) / {asked} {texts} AND generator = ?",
            [generator],
        ).fetchone()
        answers, wall = self._db.execute(
            f"SELECT (SELECT {asked} {texts}), ({_WALL} WHERE purpose != 'trust')"
        ).fetchone()
        return (prompt, completion, wall / answers) if count else None

    def answered(self, template: str) -> int:
        """Accepted answers to requests of a template, named without its kind."""
        query = f"SELECT COUNT(*) {_ACCEPTED} AND json_extract(body, '$.template') LIKE ?"
        return int(self._db.execute(query, [f"{template}.%"]).fetchone()[0])

    def mark_sent(self, request: Request, prompt_tokens: int) -> None:
        """Records that a request goes out, with the tokens that it may cost at most."""
        values = [request.id, prompt_tokens, request.sampling.max_tokens, time.time()]
        with self._commit():
            self._db.execute("INSERT OR REPLACE INTO in_flight VALUES (?, ?, ?, ?)", values)

    def unmark(self, request: Request) -> None:
        """Takes back that a request went out."""
        with self._commit():
            self._db.execute("DELETE FROM in_flight WHERE request_id = ?", [request.id])

    def choices(self, keys: Iterable[str]) -> dict[str, list[float]]:
        """Returns what is recorded of how options were weighed, among ``keys``.

        Keys are those of `choice_key`, and the ids of requests whose answers have scores.
        """
        wanted = set(keys)
        rows = self._db.execute("SELECT id, scores FROM choices")
        return {key: json.loads(scores) for key, scores in rows if key in wanted}

    def record_choice(self, key: str, scores: Sequence[float]) -> None:
        """Commits how the options after one document were weighed."""
        with self._commit():
            row = [key, json.dumps(list(scores))]
            self._db.execute("INSERT OR IGNORE INTO choices VALUES (?, ?)", row)

    def record(self, answer: Answer) -> None:
        """Commits one attempt; a second accepted answer to a request is kept as a duplicate.

        The cost of every attempt counts, so a duplicate is stored as an error of that name.
        """
        a, now = answer, time.time()
        text, error = encodable(a.text), encodable(a.error)
        values = [a.prompt_tokens, a.completion_tokens, a.seconds, now]
        insert = (
            "INSERT INTO attempts (request_id, finish, text, error, prompt_tokens, "
            "completion_tokens, seconds, answered_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        )
        with self._commit():
            try:
                self._db.execute(insert, [a.request_id, a.finish, text, error, *values])
            except sqlite3.IntegrityError:
                duplicate = [a.request_id, "error", text, "duplicate answer"]
                self._db.execute(insert, [*duplicate, *values])
            if a.scores:
                scored = [a.request_id, json.dumps(a.scores)]
                self._db.execute("INSERT OR IGNORE INTO choices VALUES (?, ?)", scored)
            self._db.execute("DELETE FROM in_flight WHERE request_id = ?", [a.request_id])
            self._db.execute(
                "UPDATE sessions SET last_answer_at = ? "
                "WHERE rowid = (SELECT MAX(rowid) FROM sessions)",
                [now],
            )

    def answers(self, request_ids: Iterable[str]) -> dict[str, Answer]:
        """Returns the accepted answers among ``request_ids``."""
        wanted = set(request_ids)
        rows = self._db.execute(_ANSWERS)
        found = {row[0]: Answer(*row) for row in rows if row[0] in wanted}
        return _with_scores(found, self.choices(found))

    def unreadable(self, request_ids: Iterable[str]) -> dict[str, Answer]:
        """Returns, among ``request_ids``, the last answers of those that nobody could read."""
        wanted = set(request_ids)
        rows = self._db.execute(_ERRORS)
        last = {row[0]: Answer(*row) for row in rows if row[0] in wanted}
        return {
            key: replace(answer, finish="stop", error="")
            for key, answer in last.items()
            if answer.error == UNREADABLE
        }

    def disown(self, request_ids: Iterable[str]) -> None:
        """Makes failures of accepted answers that cannot be read; they keep their text and cost."""
        with self._commit():
            self._db.executemany(
                "UPDATE attempts SET finish = 'error', error = ? "
                "WHERE request_id = ? AND finish != 'error'",
                [(UNREADABLE, key) for key in request_ids],
            )

    def failures(self, request_ids: Iterable[str]) -> dict[str, str]:
        """Returns the last error of each request among ``request_ids`` that has no answer."""
        wanted = set(request_ids) - set(self.answers(request_ids))
        return {row[0]: row[-1] for row in self._db.execute(_ERRORS) if row[0] in wanted}

    def wall_seconds(self, purpose: str) -> float:
        """Time from the first request to the last answer, over the sessions of one purpose."""
        return float(self._db.execute(f"{_WALL} WHERE purpose = ?", [purpose]).fetchone()[0])

    def totals(self) -> Mapping[str, float]:
        """Counts, tokens and seconds over every attempt ever made, failures included.

        ``lost_attempts`` were in flight when a process ended, and nobody knows what they cost:
        ``lost_prompt_tokens`` and ``lost_completion_tokens`` at most.
        """
        row = self._db.execute(
            "SELECT COUNT(*), COALESCE(SUM(finish != 'error'), 0), "
            "COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0), "
            "COALESCE(SUM(seconds), 0) FROM attempts"
        ).fetchone()
        wall = self._db.execute(_WALL).fetchone()
        names = ("attempts", "answers", "prompt_tokens", "completion_tokens", "request_seconds")
        found = {**dict(zip(names, row, strict=True)), "wall_seconds": round(wall[0], 3)}
        lost = self._db.execute(
            "SELECT COUNT(*), COALESCE(SUM(prompt_tokens), 0), "
            "COALESCE(SUM(completion_tokens), 0) FROM lost"
        ).fetchone()
        if lost[0]:
            kinds = ("lost_attempts", "lost_prompt_tokens", "lost_completion_tokens")
            found |= dict(zip(kinds, lost, strict=True))
        return found

    def generator(self) -> GeneratorInfo | None:
        """Who was asked last; None when nobody was."""
        row = self._db.execute(_LAST_GENERATOR).fetchone()
        return None if row is None else _info(row[0])

    def close(self) -> None:
        """Closes the database; calling it twice is harmless."""
        self._db.close()


def read_record(
    path: Path,
) -> tuple[GeneratorInfo, dict[str, Answer], dict[str, list[float]]]:
    """Reads a finished ledger without touching it, or answers in a file of JSON lines.

    The first line of such a file says who answered (``generator``: its ``name``, ``identity`` and
    ``terms``), each of the others has the ``id`` of a request and the ``text`` of its answer.

    Returns:
        Who was asked last; the answer to every request: the accepted one, else the last
        failure; and how options were weighed.

    Raises:
        JapagenError: If there is no ledger, or none that says who was asked.
        DamagedError: If it cannot be read.
    """
    if path.suffix == ".jsonl":
        return _read_lines(path)
    if not path.is_file():
        raise JapagenError(
            f"Expected the record of a run at {path}, found none.",
            "Set generator.model to the directory that `japagen run` wrote.",
        )
    try:
        with closing(_to_read(path)) as db:
            row = db.execute(_LAST_GENERATOR).fetchone()
            answers = {row[0]: Answer(*row) for row in db.execute(_ERRORS)}
            answers |= {row[0]: Answer(*row) for row in db.execute(_ANSWERS)}
            rows = db.execute("SELECT id, scores FROM choices")
            choices = {key: json.loads(scores) for key, scores in rows}
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise DamagedError(path, "Restore it from a copy, or record the run again.") from error
        row = None
    except sqlite3.DatabaseError as error:
        raise DamagedError(path, "Restore it from a copy, or record the run again.") from error
    if row is None:
        raise JapagenError(
            f"{path} does not say which generator was asked: an older japagen wrote it.",
            "Run its task into the same directory once; no answer is asked for again.",
        )
    return _info(row[0]), _with_scores(answers, choices), choices


def _to_read(path: Path) -> sqlite3.Connection:
    # Without a log there is nothing to wait for, and a directory that cannot be written to is
    # no hindrance.
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)


def recorded_like(path: Path, request: Request) -> dict[str, Any] | None:
    """The request that a ledger has in the place of one of the same task that it does not have.

    A request's seed follows from its place in the task alone, its id from the prompt too.

    Returns:
        Its ``template``, ``prompt`` and ``sampling``; None where there is none, and of answers in
        JSON lines, which stand without their prompts.
    """
    if path.suffix == ".jsonl":
        return None
    name = request.template.partition("@")[0]
    with closing(_to_read(path)) as db:
        rows = db.execute("SELECT body FROM requests WHERE seed = ?", [request.seed])
        found = (json.loads(body) for (body,) in rows)
        return next((f for f in found if f.get("template", "").partition("@")[0] == name), None)


def _read_lines(
    path: Path,
) -> tuple[GeneratorInfo, dict[str, Answer], dict[str, list[float]]]:
    try:
        first, *rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        who = first["generator"]
        terms = OutputTerms(**who["terms"])
        info = GeneratorInfo(who["name"], who["identity"], "chat", True, terms)
        return info, {row["id"]: Answer(row["id"], row["text"], "stop") for row in rows}, {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JapagenError(
            f"Expected recorded answers in {path}, found something else: {error}.",
            "The first line has the generator, each of the others id and text of an answer.",
        ) from None


def _with_scores(
    answers: Mapping[str, Answer], choices: Mapping[str, Sequence[float]]
) -> dict[str, Answer]:
    """Answers with how likely each of their requests' options was, where that is recorded."""
    return {
        key: replace(answer, scores=tuple(choices[key])) if key in choices else answer
        for key, answer in answers.items()
    }


def _info(text: str) -> GeneratorInfo:
    found = json.loads(text)
    return GeneratorInfo(**{**found, "terms": OutputTerms(**found["terms"])})


def _body(request: Request) -> str:
    body: dict[str, Any] = {
        **asdict(replace(request, fields=None)),
        "register": request.register.to_dict(),
        "fields": request.fields and list(request.fields.fields),
    }
    return encodable(json.dumps(body, ensure_ascii=False, sort_keys=True))
