"""Sends requests by a provider's batch API: cheaper, and answered within a day.

A stream puts all of its requests in one batch (more where there are too many for one), waits, and
yields what came of them. What was submitted is on disk before anybody waits: a stream that is
stopped leaves its batches to run on, and the next one that is asked for the same requests takes
them up. A batch that was submitted just before the process died, its id not yet noted, is found
again by the key that stands in its metadata.

A row that failed, or that a batch had not come to when it expired, is a failed answer with its
reason. Importing this module does not import ``openai``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from japagen.errors import JapagenError
from japagen.generators.base import Answer, GeneratorInfo, Request
from japagen.generators.batch_records import BatchRecord, open_records
from japagen.generators.openai_api import OpenAIGenerator
from japagen.generators.openai_batch_client import BatchClient, GoneError
from japagen.generators.openai_wire import (
    Failure,
    Usage,
    options_of,
    prompt_of,
    read_failure,
    read_reply,
    read_scores,
    refused_option,
)

# OpenAI takes 50,000 requests and 200 MB a file.
_MOST_REQUESTS = 50_000
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 5.0, 60.0, 1.5
_DONE = ("completed", "failed", "expired", "cancelled")
_PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of one row: an answer, or an option to leave out and ask again."""

    answer: Answer
    refused: str | None = None


class OpenAIBatchGenerator(OpenAIGenerator):
    """Answers requests through the batch API of an OpenAI-compatible provider.

    Args:
        model: The provider's name for the model.
        directory: Where what was submitted is noted.
        note: Told what the user should know while waiting.
        how: Address, API and key, as of `OpenAIGenerator`.
    """

    def __init__(
        self,
        model: str,
        directory: Path,
        note: Callable[[str], None] = lambda _: None,
        **how: Any,
    ) -> None:
        super().__init__(model, **how)
        self._directory = directory
        self.note = note

    @property
    def info(self) -> GeneratorInfo:
        """As of the same model asked directly: what that has answered need not be asked again."""
        return replace(super().info, resumable=True)

    def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answers every request exactly once, failures included, a batch at a time.

        Closing the iterator, or an interrupt, leaves the batches to run on at the provider.

        Raises:
            JapagenError: If the provider cannot be reached, or refuses the key, the model or the
                account. What was submitted before is taken up by the next stream.
        """
        waiting = {r.id: r for r in requests}
        client = BatchClient(self._endpoint)
        try:
            while waiting:
                again = yield from self._pass(waiting, client)
                waiting = {r.id: r for r in again}
        finally:
            client.close()

    def _pass(
        self, waiting: dict[str, Request], client: BatchClient
    ) -> Generator[Answer, None, list[Request]]:
        """One answer for each request but those to ask again without an option, returned."""
        records = []
        for record in open_records(self._directory):
            if waiting.keys() & set(record.requests):
                found = client.resumed(record)
                if found is None:  # it never arrived
                    record.discard()
                else:
                    records.append(found)
        if records:
            count = sum(len(waiting.keys() & set(r.requests)) for r in records)
            self.note(f"Taking up {_named(records)} with {count} requests.")
        known = {key for record in records for key in record.requests}
        fresh = [r for key, r in waiting.items() if key not in known]
        submitted = [
            self._submit(fresh[start : start + _MOST_REQUESTS], client)
            for start in range(0, len(fresh), _MOST_REQUESTS)
        ]
        if submitted:
            self.note(
                f"{len(fresh)} requests are in {_named(submitted)}, which may take a day. Ctrl-C "
                "is safe: the same command takes it up again."
            )
        again: list[Request] = []
        for record in [*records, *submitted]:
            rows = [waiting[key] for key in record.requests if key in waiting]
            batch, refused = yield from self._collect(record, rows, client)
            again += refused
            # Whoever took the last answer has it on disk by now.
            record.close()
            if batch is not None:
                self._delete(batch, client)
        return again

    def _delete(self, batch: Any, client: BatchClient) -> None:
        """Prompts and texts need not stay at the provider once the answers are here."""
        if left := client.delete_files(batch):
            self.note(f"The provider has not deleted {', '.join(left)} of batch {batch.id}.")

    def _submit(self, rows: Sequence[Request], client: BatchClient) -> BatchRecord:
        record = BatchRecord.begin(self._directory, [r.id for r in rows])
        lines = (json.dumps(self._row(r), ensure_ascii=False) for r in rows)
        return client.submit(record, "\n".join(lines).encode(), _PATHS[self._endpoint.api])

    def _row(self, request: Request) -> dict[str, Any]:
        endpoint = self._endpoint
        options = options_of(request, endpoint, self._knowledge.refused)
        body = {"model": endpoint.model, **prompt_of(request, endpoint.api), **options}
        url = _PATHS[endpoint.api]
        return {"custom_id": request.id, "method": "POST", "url": url, "body": body}

    def _collect(
        self, record: BatchRecord, rows: Sequence[Request], client: BatchClient
    ) -> Generator[Answer, None, tuple[Any, list[Request]]]:
        """Waits for a batch and yields its answers.

        Returns:
            The batch, None if the provider does not know it any more, and what is to be asked
            again.
        """
        try:
            batch = _wait(record, client)
            outcomes = self._outcomes(batch, rows, client)
        except GoneError as gone:
            batch, outcomes = None, {}
            reason = gone.message
        else:
            reason = _why(batch, self._endpoint.clean)
        again = []
        for request in rows:
            outcome = outcomes.get(request.id) or _Outcome(_failed(request, reason))
            if outcome.refused is None:
                yield outcome.answer
            else:
                again.append(request)
        return batch, again

    def _outcomes(
        self, batch: Any, rows: Sequence[Request], client: BatchClient
    ) -> dict[str, _Outcome]:
        """Request id to what came of it; of a row that stands there twice, the first."""
        asked = {r.id: r for r in rows}
        refused_before = set(self._knowledge.refused)
        found: dict[str, _Outcome] = {}
        for row in client.rows(batch):
            request = asked.get(str(row.get("custom_id")))
            if request is not None and request.id not in found:
                found[request.id] = self._read(row, request, refused_before)
        return found

    def _read(self, row: dict[str, Any], request: Request, refused: set[str]) -> _Outcome:
        """What one row of an output or error file says."""
        response = row.get("response") or {}
        status, body = response.get("status_code"), response.get("body")
        usage = Usage()
        try:
            if status == 200:
                self._knowledge.count(request, usage.add(body))
                text, finish = read_reply(body, self._endpoint.api)
                scores = read_scores(body, request, self._endpoint.api)
                used = (usage.prompt, usage.completion)
                return _Outcome(Answer(request.id, text, finish, *used, scores=scores))
            if not status:
                raise Failure(_said(row.get("error")) or "the row has no response")
            said = json.dumps(body, ensure_ascii=False)
            if status in (400, 422) and (name := self._not_taken(said, request, refused)):
                return _Outcome(_failed(request, said), name)
            raise read_failure(status, {}, said, self._endpoint)
        except (Failure, JapagenError) as failure:
            reason = failure.reason if isinstance(failure, Failure) else failure.message
        return _Outcome(_failed(request, self._endpoint.clean(reason), usage))

    def _not_taken(self, said: str, request: Request, refused: set[str]) -> str | None:
        """An option that this batch had and that the provider refuses; it is left out from now."""
        sent = options_of(request, self._endpoint, refused)
        name = refused_option(said, sent, answered=True)
        if name is not None:
            self._knowledge.refused.add(name)
        return name


def _failed(request: Request, reason: str, usage: Usage | None = None) -> Answer:
    used = usage or Usage()
    return Answer(request.id, "", "error", used.prompt, used.completion, error=reason)


def _wait(record: BatchRecord, client: BatchClient) -> Any:
    """Asks after a batch until it is at its end."""
    pause = _FIRST_PAUSE
    while (batch := client.batch(record)).status not in _DONE:
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE, pause * _GROWTH)
    return batch


def _why(batch: Any, clean: Callable[[str], str]) -> str:
    """Why a row of a batch has no answer."""
    errors = (batch.errors and batch.errors.data) or []
    said = "; ".join(filter(None, (e.message for e in errors[:3])))
    reason = f"batch {batch.id} {batch.status}" + (f": {said}" if said else "")
    return clean(reason if batch.status != "completed" else f"{reason} without a row for it")


def _said(error: Any) -> str:
    if not isinstance(error, dict):
        return ""
    return ": ".join(str(error[name]) for name in ("code", "message") if error.get(name))


def _named(records: Sequence[BatchRecord]) -> str:
    names = ", ".join(record.batch for record in records[:3])
    return f"batch {names}" if len(records) == 1 else f"{len(records)} batches ({names}…)"
