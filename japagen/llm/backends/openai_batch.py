"""Sends requests by a provider's batch API: cheaper, and answered within a day.

A stream puts all of its requests in one batch (more where there are too many for one), waits, and
yields what came of them. What was submitted is on disk before anybody waits: a stream that is
stopped leaves its batches to run on, and the next one that is asked for the same requests takes
them up. A batch that was submitted just before the process died, its id not yet noted, is found
again by the key that stands in its metadata.

A row that failed, or that a batch had not come to when it expired, is a failed answer with its
reason. Importing this module imports ``openai``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import openai

from japagen.data.files import parse_json, read_json, write_json
from japagen.errors import JapagenError
from japagen.llm.backend import Answer, Request
from japagen.llm.backends.openai_protocol import (
    batch_line,
    failed_answer,
    read_batch_row,
    read_failure,
)
from japagen.llm.backends.openai_server import Server
from japagen.llm.backends.openai_session import sync_client

T = TypeVar("T")
# OpenAI takes 50,000 requests and 200 MB a file.
_MOST_REQUESTS = 50_000
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 5.0, 60.0, 1.5
_DONE = ("completed", "failed", "expired", "cancelled")
_RETRIES = 5
_KEPT = "Run the same command again: what was submitted is noted, and taken up."
# A clock that is off must not hide a batch from whoever looks for it.
_CLOCKS_APART = 3600.0


class GoneError(JapagenError):
    """The provider does not know a batch, or a file of it, any more."""


class BatchStream:
    """One stream of requests through the batch API.

    Args:
        server: Whom to ask; what is known of it is added to.
        directory: Where what was submitted is noted.
        note: Told what the user should know while waiting.
        on_send: As of `Announcer`.
    """

    def __init__(
        self,
        server: Server,
        directory: Path,
        note: Callable[[str], None],
        on_send: Callable[[Request, bool], None],
    ) -> None:
        self._server, self._endpoint = server, server.endpoint
        self._directory = directory
        self._note = note
        self._on_send = on_send
        self._client = sync_client(server.endpoint, timeout=openai.NOT_GIVEN, max_retries=_RETRIES)

    def answers(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answers every request exactly once, failures included, a batch at a time.

        Closing the iterator, or an interrupt, leaves the batches to run on at the provider.

        Raises:
            JapagenError: If the provider cannot be reached, or refuses the key, the model or the
                account. What was submitted before is taken up by the next stream.
        """
        waiting = {r.id: r for r in requests}
        with self._client:
            while waiting:
                waiting = yield from self._pass(waiting)

    def _pass(self, waiting: Mapping[str, Request]) -> Generator[Answer, None, dict[str, Request]]:
        """One answer for each request but those to ask again without an option, returned."""
        begun = [r for r in open_records(self._directory) if waiting.keys() & set(r.requests)]
        records = [record for record in begun if self._has_arrived(record)]
        known = {key for record in records for key in record.requests}
        if records:
            count = len(waiting.keys() & known)
            self._note(f"Taking up {_named(records)} with {count} requests.")
        fresh = [r for key, r in waiting.items() if key not in known]
        submitted = [
            self._submit(fresh[start : start + _MOST_REQUESTS])
            for start in range(0, len(fresh), _MOST_REQUESTS)
        ]
        if submitted:
            self._note(
                f"{len(fresh)} requests are in {_named(submitted)}, which may take a day. Ctrl-C "
                "is safe: the same command takes it up again."
            )
        again: dict[str, Request] = {}
        for record in [*records, *submitted]:
            batch, found, reason = self._outcome(record, waiting)
            for request in (waiting[key] for key in record.requests if key in waiting):
                answer = found.get(request.id, failed_answer(request, reason))
                if answer is None:
                    again[request.id] = request
                else:
                    yield answer
            # Whoever took the last answer has it on disk by now.
            record.closed = True
            record.save()
            self._delete_files(batch)
        return again

    def _has_arrived(self, record: BatchRecord) -> bool:
        """Whether the provider has a batch, looked for by its key where its id is not known."""
        if not (record.batch or self._call(lambda: self._found(record))):
            record.path.unlink(missing_ok=True)
            return False
        return True

    def _found(self, record: BatchRecord) -> bool:
        for batch in self._client.batches.list(limit=100):
            if (batch.metadata or {}).get("japagen") == record.key:
                record.batch = batch.id
                record.save()
                return True
            if (batch.created_at or 0) < record.begun_at - _CLOCKS_APART:
                return False
        return False

    def _submit(self, requests: Sequence[Request]) -> BatchRecord:
        """Uploads requests and starts a batch of them, noted before."""
        for request in requests:
            self._on_send(request, True)
        record = BatchRecord.begin(self._directory, [r.id for r in requests])
        files, batches = self._client.files, self._client.batches
        lines = "\n".join(batch_line(request, self._server) for request in requests)
        file = (f"japagen-{record.key}.jsonl", lines.encode())
        uploaded = self._call(lambda: files.create(file=file, purpose="batch"))
        batch = self._call(
            lambda: batches.create(
                input_file_id=uploaded.id,
                endpoint=self._endpoint.batch_url,  # type: ignore[arg-type]
                completion_window="24h",
                metadata={"japagen": record.key},
            )
        )
        record.batch = batch.id
        record.save()
        return record

    def _outcome(
        self, record: BatchRecord, asked: Mapping[str, Request]
    ) -> tuple[Any, dict[str, Answer | None], str]:
        """Waits for a batch, and reads what came of it.

        Returns:
            The batch, None if the provider does not know it any more; request id to answer, None
            where it is to be asked again; and why another row has none.
        """
        found: dict[str, Answer | None] = {}
        # By now the provider takes requests: what it refuses is named.
        self._server.answered = True
        try:
            batch = self._finished(record.batch)
            before = set(self._server.refused)
            for row in self._rows(batch):
                request = asked.get(str(row.get("custom_id")))
                if request is not None and request.id not in found:
                    found[request.id] = read_batch_row(row, request, self._server, before)
        except GoneError as gone:
            return None, {}, gone.message
        errors = (batch.errors and batch.errors.data) or []
        said = "; ".join(filter(None, (e.message for e in errors[:3])))
        reason = f"batch {batch.id} {batch.status}" + (f": {said}" if said else "")
        if batch.status == "completed":
            reason += " without a row for it"
        return batch, found, self._endpoint.clean(reason)

    def _finished(self, batch_id: str) -> Any:
        """Asks after a batch until it is at its end."""
        pause, batches = _FIRST_PAUSE, self._client.batches
        while True:
            batch = self._call(lambda: batches.retrieve(batch_id), f"batch {batch_id}")
            if batch.status in _DONE:
                return batch
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * _GROWTH)

    def _rows(self, batch: Any) -> Iterator[dict[str, Any]]:
        """The rows of a batch's output and error files; what is no JSON object is skipped."""
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            what = f"file {file} of batch {batch.id}"
            found = self._call(partial(self._client.files.content, file), what)
            for line in found.content.splitlines():
                try:
                    row = parse_json(line.decode())
                except ValueError:
                    continue
                if isinstance(row, dict):
                    yield row

    def _delete_files(self, batch: Any) -> None:
        """Deletes a batch's prompts and texts at the provider, now that the answers are here.

        Nothing is raised: what came of the batch is in hand, and must not be lost because its
        copy elsewhere stays.
        """
        if batch is None:
            return
        left = []
        for file in filter(None, (batch.input_file_id, batch.output_file_id, batch.error_file_id)):
            try:
                self._call(partial(self._client.files.delete, file))
            except JapagenError:
                left.append(file)
        if left:
            self._note(f"The provider has not deleted {', '.join(left)} of batch {batch.id}.")

    def _call(self, call: Callable[[], T], what: str = "") -> T:
        """Makes a call; ``what`` names the thing that may be gone."""
        try:
            return call()
        except (openai.APIError, UnicodeEncodeError) as caught:
            error = caught
        # Outside the handler, or a traceback would show what the server said, key and all.
        endpoint = self._endpoint
        if isinstance(error, openai.APIStatusError):
            if what and error.status_code in (404, 410):
                raise GoneError(f"{endpoint.url} does not know {what} any more.")
            said = error.response.text
            failure = read_failure(error.status_code, error.response.headers, said, endpoint)
            raise JapagenError(
                f"{endpoint.url} does not take the batch ({endpoint.clean(failure.reason)}).",
                f"If it has no batch API, set generator.batch: false. {_KEPT}",
            )
        reason = endpoint.clean(str(error.__cause__ or error))
        raise JapagenError(f"Cannot reach {endpoint.url} ({reason}).", _KEPT)


def _named(records: Sequence[BatchRecord]) -> str:
    names = ", ".join(record.batch for record in records[:3])
    return f"batch {names}" if len(records) == 1 else f"{len(records)} batches ({names}…)"


@dataclass(slots=True)
class BatchRecord:
    """One batch.

    Attributes:
        path: The file that holds the record.
        key: Names it before the provider does; it stands in the batch's metadata.
        requests: Ids of its requests, in order.
        begun_at: Unix time before anything was sent.
        batch: The provider's id; empty until it is known.
        closed: Whether its answers were taken.
    """

    path: Path = field(repr=False)
    key: str
    requests: list[str]
    begun_at: float
    batch: str = ""
    closed: bool = False

    @classmethod
    def begin(cls, directory: Path, requests: Sequence[str]) -> BatchRecord:
        """Notes that requests are about to be submitted."""
        key = secrets.token_hex(8)
        directory.mkdir(parents=True, exist_ok=True)
        record = cls(directory / f"{key}.json", key, list(requests), time.time())
        record.save()
        return record

    def save(self) -> None:
        """Writes what is known of the batch."""
        write_json(self.path, {k: v for k, v in asdict(self).items() if k != "path"})


def open_records(directory: Path) -> list[BatchRecord]:
    """Batches whose answers were not taken yet, the oldest first."""
    found = [BatchRecord(path, **read_json(path)) for path in directory.glob("*.json")]
    return sorted((r for r in found if not r.closed), key=lambda r: r.begun_at)
