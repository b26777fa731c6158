"""The calls of the batch API, by the official client, with errors that the user can act on.

Importing this module does not import ``openai``; making a `BatchClient` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from japagen.errors import JapagenError
from japagen.generators.batch_records import BatchRecord
from japagen.generators.openai_endpoint import Endpoint
from japagen.generators.openai_wire import read_failure

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

        self._openai = openai
        self._endpoint = endpoint
        # A proxy from the environment is of no use for a server on this machine.
        http_client = openai.DefaultHttpxClient(trust_env=False) if endpoint.local else None
        self._client = openai.OpenAI(
            api_key=endpoint.key,
            base_url=endpoint.url,
            max_retries=_RETRIES,
            http_client=http_client,
        )

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
                    row = json.loads(line)
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
