"""What was submitted to a provider's batch API, noted on disk before anybody waits for it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from japagen.storage.files import read_json, write_json


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
