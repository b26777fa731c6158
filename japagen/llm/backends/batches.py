"""Sends requests by a provider's batch API: cheaper, and answered within a day.

A stream puts all of its requests in one batch (more where there are too many for one), waits, and
yields what came of them. What was submitted is on disk before anybody waits: a stream that is
stopped leaves its batches to run on, and the next one that is asked for the same requests takes
them up. A batch that was submitted just before the process died, its id not yet noted, is found
again by the key that it carries, or else by its rows.

A row that failed, or that a batch had not come to when it expired, is a failed answer with its
reason. What differs between providers is behind `BatchApi`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from japagen.config.generation import GeneratorSettings, one_by_one
from japagen.data.files import parse_json, read_json, write_json
from japagen.errors import JapagenError, MissingExtraError
from japagen.llm.backend import Answer, GeneratorInfo, OutputTerms, Request
from japagen.llm.backends.openai_protocol import failed_answer, read_batch_row, read_failure
from japagen.llm.backends.openai_server import Endpoint, Server

T = TypeVar("T")
# OpenAI takes 50,000 requests and 200 MB a batch, Anthropic 100,000 and 256 MB, Gemini 2 GB.
_MOST_REQUESTS = 50_000
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 5.0, 60.0, 1.5
_RETRIES = 5
_KEPT = "Run the same command again: what was submitted is noted, and taken up."
# A clock that is off must not hide a batch from whoever looks for it.
_CLOCKS_APART = 3600.0


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as its provider has it.

    Attributes:
        id: The provider's.
        state: How it goes, in the provider's words.
        ended: Whether nothing more comes of it.
        whole: Whether it is to have a row for each request by then.
        said: Why it failed, where that is told.
        results: What its rows are downloaded by.
        kept: What the provider keeps of it, to be deleted.
        key: Of its record, where it carries one; None where the provider has no place for it.
        size: How many requests are in it, where it carries no key.
    """

    id: str
    state: str
    ended: bool
    whole: bool
    said: str = ""
    results: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    key: str | None = None
    size: int = 0


class BatchApi(Protocol):
    """The batches of a provider.

    Attributes:
        errors: What its calls raise; an HTTP error has the ``response``.
    """

    errors: tuple[type[Exception], ...]

    def submit(self, key: str, requests: Sequence[Request]) -> str:
        """Starts a batch, which carries the key where it can, and returns its id."""

    def since(self, moment: float) -> Iterator[Batch]:
        """The batches that were begun after a Unix time."""

    def look(self, batch_id: str) -> Batch:
        """A batch as it is now."""

    def download(self, name: str) -> bytes:
        """Rows of a batch, a line of JSON each, by one of its `Batch.results`."""

    def row(self, line: Any) -> Any:
        """A row in OpenAI's form, as `read_batch_row` takes it."""

    def delete(self, name: str) -> None:
        """Deletes one of `Batch.kept`."""

    def close(self) -> None:
        """Ends its connections."""


OpenBatches = Callable[[Server, int], BatchApi]


class GoneError(JapagenError):
    """The provider does not know a batch, or a file of it, any more."""


class BatchStream:
    """One stream of requests through the batch API.

    Args:
        server: Whom to ask; what is known of it is added to.
        opened: How its batches are reached, given the server and how often to try again.
        directory: Where what was submitted is noted.
        note: Told what the user should know while waiting.
        on_send: As of `Announcer`.
    """

    def __init__(
        self,
        server: Server,
        opened: OpenBatches,
        directory: Path,
        note: Callable[[str], None],
        on_send: Callable[[Request, bool], None],
    ) -> None:
        self._server, self._endpoint = server, server.endpoint
        self._directory = directory
        self._note = note
        self._on_send = on_send
        self._api = opened(server, _RETRIES)
        self._call = partial(_called, self._api, self._endpoint)

    def answers(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answers every request exactly once, failures included, a batch at a time.

        Closing the iterator, or an interrupt, leaves the batches to run on at the provider.

        Raises:
            JapagenError: If the provider cannot be reached, or refuses the key, the model or the
                account. What was submitted before is taken up by the next stream.
        """
        waiting = {r.id: r for r in requests}
        with closing(self._api):
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
            self._delete(batch)
        return again

    def _has_arrived(self, record: BatchRecord) -> bool:
        """Whether the provider has a batch, which is looked for where its id is not known."""
        if not (record.batch or self._call(lambda: self._found(record))):
            record.path.unlink(missing_ok=True)
            return False
        return True

    def _found(self, record: BatchRecord) -> bool:
        known = {other.batch for other in _records(self._directory)}
        for batch in self._api.since(record.begun_at - _CLOCKS_APART):
            if batch.key == record.key or (batch.id not in known and self._holds(batch, record)):
                record.batch = batch.id
                record.save()
                return True
        return False

    def _holds(self, batch: Batch, record: BatchRecord) -> bool:
        """Whether a batch without a key has a record's rows, for which its end is waited for."""
        if batch.key is not None or batch.size != len(record.requests):
            return False
        self._note(f"Batch {batch.id} may be of this run, which shows when it has ended.")
        row = next(self._rows(self._finished(batch.id)), {})
        return row.get("custom_id") in record.requests

    def _submit(self, requests: Sequence[Request]) -> BatchRecord:
        """Uploads requests and starts a batch of them, noted before."""
        for request in requests:
            self._on_send(request, True)
        record = BatchRecord.begin(self._directory, [r.id for r in requests])
        record.batch = self._call(lambda: self._api.submit(record.key, requests))
        record.save()
        return record

    def _outcome(
        self, record: BatchRecord, asked: Mapping[str, Request]
    ) -> tuple[Batch | None, dict[str, Answer | None], str]:
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
        reason = f"batch {batch.id} {batch.state}" + (f": {batch.said}" if batch.said else "")
        if batch.whole:
            reason += " without a row for it"
        return batch, found, self._endpoint.clean(reason)

    def _finished(self, batch_id: str) -> Batch:
        """Asks after a batch until it is at its end."""
        pause = _FIRST_PAUSE
        while True:
            batch = self._call(lambda: self._api.look(batch_id), f"batch {batch_id}")
            if batch.ended:
                return batch
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * _GROWTH)

    def _rows(self, batch: Batch) -> Iterator[dict[str, Any]]:
        """The rows of a batch in OpenAI's form; what is not of the provider's is skipped."""
        for name in batch.results:
            what = f"file {name} of batch {batch.id}"
            for line in self._call(partial(self._api.download, name), what).splitlines():
                try:
                    row = self._api.row(parse_json(line.decode()))
                except (ValueError, AttributeError, TypeError):
                    continue
                if isinstance(row, dict):
                    yield row

    def _delete(self, batch: Batch | None) -> None:
        """Deletes a batch's prompts and texts at the provider, now that the answers are here.

        Nothing is raised: what came of the batch is in hand, and must not be lost because its
        copy elsewhere stays.
        """
        if batch is None:
            return
        left = []
        for name in batch.kept:
            try:
                self._call(partial(self._api.delete, name))
            except JapagenError:
                left.append(name)
        if left:
            self._note(f"The provider has not deleted {', '.join(left)} of batch {batch.id}.")


def _called(api: BatchApi, endpoint: Endpoint, call: Callable[[], T], what: str = "") -> T:
    """Makes a call; ``what`` names the thing that may be gone."""
    raised: tuple[type[Exception], ...] = (*api.errors, UnicodeEncodeError)
    try:
        return call()
    except raised as caught:
        error = caught
    # Outside the handler, or a traceback would show what the server said, key and all.
    response = getattr(error, "response", None)
    if response is not None:
        status, said = response.status_code, response.text
        if what and status in (404, 410):
            raise GoneError(f"{endpoint.url} does not know {what} any more.")
        failure = read_failure(status, response.headers, said, endpoint)
        reason = endpoint.clean(failure.reason)
        raise JapagenError(
            f"{endpoint.url} does not take the batch ({reason}).",
            f"If it has no batch API, set generator.batch: false. {_KEPT}"
            if endpoint.backend == "openai"
            else _KEPT,
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


def _records(directory: Path) -> list[BatchRecord]:
    return [BatchRecord(path, **read_json(path)) for path in directory.glob("*.json")]


def open_records(directory: Path) -> list[BatchRecord]:
    """Batches whose answers were not taken yet, the oldest first."""
    return sorted((r for r in _records(directory) if not r.closed), key=lambda r: r.begun_at)


def with_extra(body: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """A request with what a task adds to it, also within its own objects."""
    objects = {k: v for k, v in extra.items() if isinstance(v, dict)}
    return {**body, **extra, **{k: {**(body.get(k) or {}), **v} for k, v in objects.items()}}


def completion(content: Any, finish: Any, read: Any, written: Any) -> dict[str, Any]:
    """A reply in OpenAI's form: its text or parts, why it ended, and its tokens."""
    choice = {"message": {"content": content}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": read, "completion_tokens": written}}


class BatchGenerator:
    """Answers requests by the batch API of a provider, and no others.

    Args:
        settings: Of a backend that is asked by batches alone; see `GeneratorSettings`.
        batches: Where what was submitted is noted; without it nothing can be asked.
        note: Told what the user should know while waiting.

    Attributes:
        package: The import name of the provider's client.
        title: What it is needed for.
        terms: Of what the provider's models write.
        on_send: As of `Announcer`.

    Raises:
        JapagenError: If there is no key.
        MissingExtraError: If the client is not installed.
    """

    package: ClassVar[str]
    title: ClassVar[str]
    terms: ClassVar[OutputTerms]
    opened: ClassVar[Any]

    def __init__(
        self,
        settings: GeneratorSettings,
        *,
        batches: Path | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        # Of a package that is not there, no submodule can be looked for.
        if not all(map(find_spec, accumulate(self.package.split("."), "{}.{}".format))):
            raise MissingExtraError(self.package, settings.backend, self.title)
        url = settings.base_url
        self._server = Server(settings, url if isinstance(url, str) else None)
        self._batches, self._note = batches, note
        self._settings = settings
        self.on_send: Callable[[Request, bool], None] = lambda request, sent: None

    @property
    def info(self) -> GeneratorInfo:
        """Who this generator is."""
        endpoint = self._server.endpoint
        return GeneratorInfo(
            name=endpoint.model,
            identity=endpoint.identity,
            prompt_kind="chat",
            local=endpoint.local,
            terms=self.terms,
            resumable=self._batches is not None,
        )

    def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answers every request exactly once, failures included, a batch at a time.

        Closing the iterator leaves the batches to run on, and the next stream that is asked for
        the same requests takes them up.

        Raises:
            JapagenError: If requests are to be asked one by one, or as of `BatchStream.answers`.
        """
        if self._batches is None:
            raise JapagenError(
                f"The backend {self._settings.backend} is asked by batches, and this command asks "
                "one by one.",
                f"For this command, use the generator {one_by_one(self._settings)}.",
            )
        how = (self._batches, self._note, self.on_send)
        yield from BatchStream(self._server, self.opened, *how).answers(requests)

    def models(self) -> list[str]:
        """Names of the models that the provider has for this key; costs nothing.

        Raises:
            JapagenError: If the provider cannot be reached, or refuses the key.
        """
        with closing(self.opened(self._server, _RETRIES)) as api:
            names: list[str] = _called(api, self._server.endpoint, api.models)
            return names

    def count_tokens(self, text: str) -> int:
        """Estimates tokens, as `OpenAIGenerator.count_tokens` does."""
        return self._server.estimate(len(text))

    def load(self) -> dict[str, tuple[int, int]]:
        """As of `Announcer`; empty, since nothing is asked one by one."""
        return {}

    def close(self) -> None:
        """Does nothing: batches run on."""
