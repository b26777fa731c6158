"""The batch API of a provider, on the fault server: files, batches, and all that goes wrong."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from tests.fault_server import Call, Reply, echo, error

Row = dict[str, Any]


def answered(row: Row) -> Row:
    """A row of an output file: the request's own prompt, sent back."""
    call = Call(row["url"], {}, row["body"], 1)
    return replied(row, echo(call).body)


def replied(row: Row, body: Any, status: int = 200) -> Row:
    """A row with a response."""
    response = {"status_code": status, "request_id": "x", "body": body}
    return {"id": "x", "custom_id": row["custom_id"], "response": response, "error": None}


def unanswered(row: Row, code: str, message: str) -> Row:
    """A row of an error file."""
    said = {"code": code, "message": message}
    return {"id": "x", "custom_id": row["custom_id"], "response": None, "error": said}


class BatchProvider:
    """Responds to the calls of the batch API; everything else is not found.

    Args:
        answer: A request's row to that of the output (None leaves it out of the files).
        status: How batches end.
        polls: How often a batch is asked after before it is at its end.
        fault: Asked before anything is done: a reply to send instead, or None.

    Attributes:
        batches: Every batch, by id.
        uploads: The requests of every file, by its id.
        deleted: Ids of the files that were deleted.
    """

    def __init__(
        self,
        answer: Callable[[Row], Row | None] = answered,
        *,
        status: str = "completed",
        polls: int = 1,
        fault: Callable[[Call], Reply | None] = lambda call: None,
    ) -> None:
        self.batches: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, list[Row]] = {}
        self.status = status
        self.polls = polls
        self._answer = answer
        self._fault = fault
        self.deleted: list[str] = []
        self._files: dict[str, bytes] = {}

    def __call__(self, call: Call) -> Reply:
        failed = self._fault(call)
        if failed is not None:
            return failed
        path = urlsplit(call.path).path
        if path == "/v1/files" and call.method == "POST":
            return self._upload(call)
        if path == "/v1/batches":
            return self._create(call) if call.method == "POST" else self._list()
        if found := re.fullmatch(r"/v1/batches/(\w+)", path):
            return self._retrieve(found[1])
        if (found := re.fullmatch(r"/v1/files/(\w+)/content", path)) and found[1] in self._files:
            return Reply(self._files[found[1]], headers={"content-type": "application/jsonl"})
        if (found := re.fullmatch(r"/v1/files/(\w+)", path)) and call.method == "DELETE":
            return self._delete(found[1])
        return error(404, f"no such path: {path}")

    def _delete(self, name: str) -> Reply:
        if name not in {*self.uploads, *self._files} - {*self.deleted}:
            return error(404, f"no file {name}")
        self._files.pop(name, None)
        self.deleted.append(name)
        return Reply({"id": name, "object": "file", "deleted": True})

    def _upload(self, call: Call) -> Reply:
        boundary = call.headers["content-type"].partition("boundary=")[2].encode()
        parts = [p.partition(b"\r\n\r\n") for p in call.raw.split(b"--" + boundary)]
        content = next(body for head, _, body in parts if b"filename=" in head)
        name = f"file{len(self.uploads)}"
        self.uploads[name] = [json.loads(line) for line in content.strip().splitlines()]
        return Reply({"id": name, "object": "file", "purpose": "batch", "filename": "x"})

    def _create(self, call: Call) -> Reply:
        name = f"batch{len(self.batches)}"
        batch = {
            "id": name,
            "object": "batch",
            "status": "validating",
            "created_at": int(time.time()),
            "errors": None,
            "asked": 0,
            **call.body,
        }
        self.batches[name] = batch
        return Reply(batch)

    def _list(self) -> Reply:
        return Reply({"object": "list", "data": list(self.batches.values()), "has_more": False})

    def _retrieve(self, name: str) -> Reply:
        if name not in self.batches:
            return error(404, f"no batch {name}")
        batch = self.batches[name]
        batch["asked"] += 1
        batch["status"] = "in_progress"
        if batch["asked"] > self.polls:
            self._end(batch)
        return Reply(batch)

    def _end(self, batch: dict[str, Any]) -> None:
        batch["status"] = self.status
        if self.status == "failed":
            batch["errors"] = {"data": [{"code": "x", "message": "the file is no good"}]}
            return
        rows = [r for r in map(self._answer, self.uploads[batch["input_file_id"]]) if r]
        for kind, own in (
            ("output", [r for r in rows if (r["response"] or {}).get("status_code") == 200]),
            ("error", [r for r in rows if (r["response"] or {}).get("status_code") != 200]),
        ):
            if own:
                name = f"{batch['id']}{kind}"
                lines = "\n".join(json.dumps(r, ensure_ascii=False) for r in own)
                self._files[name] = lines.encode()
                batch[f"{kind}_file_id"] = name
