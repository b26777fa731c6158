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
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from japagen.data.files import parse_json, read_json, write_json
from japagen.errors import JapagenError
from japagen.llm.backend import Answer, GeneratorInfo, Request
from japagen.llm.backends.openai import OpenAIGenerator
from japagen.llm.backends.openai_protocol import (
    Endpoint,
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
        batches: Directory where what was submitted is noted.
        note: Told what the user should know while waiting.
        base_url: As of `OpenAIGenerator`, like the others.
        api: ``chat`` or ``completions``.
        api_key_env: The environment variable that holds the key.
        headers: Header to the environment variable that holds its value.
        extra_body: What else is part of each request.
        omit: Options that are not sent.
    """

    def __init__(
        self,
        model: str,
        batches: Path,
        note: Callable[[str], None] = lambda _: None,
        *,
        base_url: str | None = None,
        api: Literal["chat", "completions"] = "chat",
        api_key_env: str = "OPENAI_API_KEY",
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        omit: Iterable[str] = (),
    ) -> None:
        how: Any = {"headers": headers, "extra_body": extra_body, "omit": omit}
        super().__init__(model, base_url=base_url, api=api, api_key_env=api_key_env, **how)
        self._directory = batches
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
        for request in rows:
            self.on_send(request, True)
        record = BatchRecord.begin(self._directory, [r.id for r in rows])
        lines = (json.dumps(self._row(r), ensure_ascii=False) for r in rows)
        return client.submit(record, "\n".join(lines).encode(), _PATHS[self._endpoint.api])

    def _row(self, request: Request) -> dict[str, Any]:
        endpoint = self._endpoint
        options = options_of(request, endpoint, self._capabilities.refused)
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
        refused_before = set(self._capabilities.refused)
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
                self._capabilities.count(request, usage.add(body))
                text, finish = read_reply(body, self._endpoint.api)
                scores = read_scores(body, text, request, self._endpoint.api)
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
            self._capabilities.refused.add(name)
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


# The calls of the batch API, by the official client, with errors that the user can act on.
#
# Importing this module does not import ``openai``; making a `BatchClient` does.

T = TypeVar("T")
_RETRIES = 5
_KEPT = "Run the same command again: what was submitted is noted, and taken up."
# A clock that is off must not hide a batch from whoever looks for it.
_CLOCKS_APART = 3600.0


class GoneError(JapagenError):
    """The provider does not know a batch, or a file of it, any more."""


class BatchClient:
    """Submits batches and fetches what came of them.

    Args:
        endpoint: Whom to ask.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        import openai

        from japagen.llm.backends.openai_session import client_options

        self._openai = openai
        self._endpoint = endpoint
        how = {**client_options(endpoint), "timeout": openai.NOT_GIVEN, "max_retries": _RETRIES}
        # A proxy from the environment is of no use for a server on this machine.
        http_client = openai.DefaultHttpxClient(trust_env=False) if endpoint.local else None
        self._client = openai.OpenAI(http_client=http_client, **how)

    def submit(self, record: BatchRecord, lines: bytes, path: str) -> BatchRecord:
        """Uploads requests and starts a batch of them.

        Args:
            record: Noted before; its key goes into the metadata.
            lines: The requests, one JSON object a line.
            path: Of the API that they are for.
        """
        client = self._client
        name = f"japagen-{record.key}.jsonl"
        uploaded = self._call(lambda: client.files.create(file=(name, lines), purpose="batch"))
        batch = self._call(
            lambda: client.batches.create(
                input_file_id=uploaded.id,
                endpoint=path,  # type: ignore[arg-type]
                completion_window="24h",
                metadata={"japagen": record.key},
            )
        )
        return record.submitted(batch.id)

    def resumed(self, record: BatchRecord) -> BatchRecord | None:
        """A record with the provider's id, looked for by its key; None if it never arrived."""
        if record.batch:
            return record
        return self._call(lambda: self._found(record))

    def _found(self, record: BatchRecord) -> BatchRecord | None:
        for batch in self._client.batches.list(limit=100):
            if (batch.metadata or {}).get("japagen") == record.key:
                return record.submitted(batch.id)
            if (batch.created_at or 0) < record.begun_at - _CLOCKS_APART:
                return None
        return None

    def batch(self, record: BatchRecord) -> Any:
        """The batch as it stands.

        Raises:
            GoneError: If the provider does not know it.
        """
        what = f"batch {record.batch}"
        return self._call(lambda: self._client.batches.retrieve(record.batch), what)

    def rows(self, batch: Any) -> Iterator[dict[str, Any]]:
        """The rows of a batch's output and error files; what is no JSON object is skipped.

        Raises:
            GoneError: If the provider has deleted one of them.
        """
        for file in (batch.output_file_id, batch.error_file_id):
            if not file:
                continue
            what = f"file {file} of batch {batch.id}"
            for line in self._content(file, what).splitlines():
                try:
                    row = parse_json(line.decode())
                except ValueError:
                    continue
                if isinstance(row, dict):
                    yield row

    def delete_files(self, batch: Any) -> list[str]:
        """Deletes a batch's files at the provider, and returns those that it has not deleted.

        Nothing is raised: what came of the batch is in hand, and must not be lost because its
        copy elsewhere stays.
        """
        left = []
        for file in (batch.input_file_id, batch.output_file_id, batch.error_file_id):
            if not file:
                continue
            try:
                self._call(partial(self._client.files.delete, file))
            except JapagenError:
                left.append(file)
        return left

    def _content(self, file: str, what: str) -> bytes:
        return self._call(lambda: self._client.files.content(file).read(), what)

    def _call(self, call: Callable[[], T], what: str = "") -> T:
        """Makes a call; ``what`` names the thing that may be gone."""
        try:
            return call()
        except (self._openai.APIError, UnicodeEncodeError) as caught:
            error = caught
        # Outside the handler, or a traceback would show what the server said, key and all.
        if isinstance(error, self._openai.APIStatusError):
            if what and error.status_code in (404, 410):
                raise GoneError(f"{self._endpoint.url} does not know {what} any more.")
            said = error.response.text
            failure = read_failure(error.status_code, error.response.headers, said, self._endpoint)
            raise JapagenError(
                f"{self._endpoint.url} does not take the batch "
                f"({self._endpoint.clean(failure.reason)}).",
                f"If it has no batch API, set generator.batch: false. {_KEPT}",
            )
        reason = self._endpoint.clean(str(error.__cause__ or error))
        raise JapagenError(f"Cannot reach {self._endpoint.url} ({reason}).", _KEPT)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


@dataclass(frozen=True, slots=True)
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
    requests: tuple[str, ...]
    begun_at: float
    batch: str = ""
    closed: bool = False

    @classmethod
    def begin(cls, directory: Path, requests: Sequence[str]) -> BatchRecord:
        """Notes that requests are about to be submitted."""
        key = secrets.token_hex(8)
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{key}.json"
        return cls(path, key, tuple(requests), time.time())._saved()

    def submitted(self, batch: str) -> BatchRecord:
        """Notes the provider's id."""
        return replace(self, batch=batch)._saved()

    def close(self) -> None:
        """Notes that the answers were taken."""
        replace(self, closed=True)._saved()

    def discard(self) -> None:
        """Forgets a batch that the provider has never had."""
        self.path.unlink(missing_ok=True)

    def _saved(self) -> BatchRecord:
        write_json(self.path, {k: v for k, v in asdict(self).items() if k != "path"})
        return self


def open_records(directory: Path) -> list[BatchRecord]:
    """Batches whose answers were not taken yet, the oldest first."""
    found = []
    for path in directory.glob("*.json"):
        raw = read_json(path)
        found.append(BatchRecord(path, **{**raw, "requests": tuple(raw["requests"])}))
    return sorted((r for r in found if not r.closed), key=lambda r: r.begun_at)
