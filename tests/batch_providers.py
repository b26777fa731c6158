"""The batch APIs of Anthropic and of Gemini, on the fault server, in their own wire forms."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from tests.fault_server import Call, Reply

Row = dict[str, Any]
MODEL = "model-1"
# What becomes of a request, by its id; what is not named here is answered.
Outcomes = Mapping[str, str]


class ScriptedProvider:
    """What both providers have in common; whatever else is asked for is not found.

    Args:
        outcomes: What becomes of requests.
        key: The key that is taken.
        polls: How often a batch is asked after before it is at its end.
        state: How batches end, in the provider's words.
        fault: Asked before anything is done: a reply to send instead, or None.

    Attributes:
        batches: Every batch with its requests, by id.
        deleted: What was deleted.
    """

    ended: str
    key_header: str

    def __init__(
        self,
        outcomes: Outcomes | None = None,
        *,
        key: str,
        polls: int = 1,
        state: str = "",
        fault: Callable[[Call], Reply | None] = lambda call: None,
    ) -> None:
        self.outcomes = outcomes or {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []
        self.state = state or self.ended
        self._key, self._polls, self._fault = key, polls, fault

    def __call__(self, call: Call) -> Reply:
        if (failed := self._fault(call)) is not None:
            return failed
        path = urlsplit(call.path).path
        sent = call.headers.get(self.key_header, "").removeprefix("Bearer ")
        # The address that an upload is sent to is a secret itself.
        if self._key != sent and not path.startswith("/upload/to/"):
            return self.wrong_key(sent)
        for method, pattern, name in self.paths:
            if call.method == method and (found := re.fullmatch(pattern, path)):
                reply: Reply = getattr(self, name)(call, *found.groups())
                return reply
        return self.not_found(f"no such path: {path}")

    paths: tuple[tuple[str, str, str], ...]

    def wrong_key(self, sent: str) -> Reply:
        raise NotImplementedError

    def not_found(self, message: str) -> Reply:
        raise NotImplementedError

    def begin(self, batch_id: str, rows: list[Row], **known: Any) -> dict[str, Any]:
        batch = {"id": batch_id, "rows": rows, "asked": 0, "at": datetime.now(UTC), **known}
        self.batches[batch_id] = batch
        return batch

    def is_over(self, batch: dict[str, Any]) -> bool:
        batch["asked"] += 1
        return bool(batch["asked"] > self._polls)


def _said(text: str) -> str:
    return json.dumps({"text": f"返事:{text}"}, ensure_ascii=False)


class AnthropicProvider(ScriptedProvider):
    ended = "ended"
    key_header = "authorization"
    paths = (
        ("POST", "/v1/messages/batches", "create"),
        ("GET", "/v1/messages/batches", "list"),
        ("GET", r"/v1/messages/batches/(\w+)", "retrieve"),
        ("GET", r"/v1/messages/batches/(\w+)/results", "results"),
        ("DELETE", r"/v1/messages/batches/(\w+)", "delete"),
        ("GET", "/v1/models", "models"),
    )

    def wrong_key(self, sent: str) -> Reply:
        return self.error(401, "authentication_error", f"invalid x-api-key {sent}")

    def not_found(self, message: str) -> Reply:
        return self.error(404, "not_found_error", message)

    def error(self, status: int, kind: str, message: str) -> Reply:
        said = {"type": "error", "error": {"type": kind, "message": message}}
        return Reply(said, status)

    def create(self, call: Call) -> Reply:
        rows = call.body["requests"]
        for row in rows:
            if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", row["custom_id"]):
                return self.error(400, "invalid_request_error", "requests.0.custom_id: pattern")
        assert call.headers["anthropic-version"]
        return Reply(self._shown(self.begin(f"msgbatch_{len(self.batches)}", rows), over=False))

    def _shown(self, batch: dict[str, Any], *, over: bool) -> dict[str, Any]:
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        counts["succeeded" if over else "processing"] = len(batch["rows"])
        at = batch["at"].isoformat()
        url = f"/v1/messages/batches/{batch['id']}/results" if over else None
        return {
            "id": batch["id"],
            "type": "message_batch",
            "processing_status": self.state if over else "in_progress",
            "request_counts": counts,
            "created_at": at,
            "expires_at": at,
            "ended_at": at if over else None,
            "results_url": url,
        }

    def list(self, call: Call) -> Reply:
        shown = [self._shown(b, over=False) for b in reversed(self.batches.values())]
        return Reply({"data": shown, "has_more": False, "first_id": None, "last_id": None})

    def retrieve(self, call: Call, name: str) -> Reply:
        if name not in self.batches:
            return self.not_found(f"no batch {name}")
        batch = self.batches[name]
        return Reply(self._shown(batch, over=self.is_over(batch)))

    def results(self, call: Call, name: str) -> Reply:
        found = [(row["custom_id"], self._result(row)) for row in self.batches[name]["rows"]]
        rows = [{"custom_id": key, "result": result} for key, result in found if result]
        # In no particular order, as documented.
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in reversed(rows))
        return Reply(lines.encode(), headers={"content-type": "application/binary"})

    def _result(self, row: Row) -> Row | None:
        params = row["params"]
        outcome = self.outcomes.get(row["custom_id"], "answered")
        if params["model"] != MODEL:
            return self._errored("not_found_error", f"model: {params['model']}")
        if outcome == "missing":
            return None
        if outcome == "damaged":
            return {"type": "succeeded", "message": "x"}
        if outcome == "no schema" and "output_config" in params:
            said = "output_config.format.schema: For 'array' type, 'items' is not supported"
            return self._errored("invalid_request_error", said)
        if outcome == "expired":
            return {"type": "expired"}
        if outcome == "overloaded":
            return self._errored("overloaded_error", "Overloaded")
        reasons = {"filtered": "refusal", "cut": "max_tokens"}
        content = [
            {"type": "thinking", "thinking": "考える", "signature": "x"},
            {"type": "text", "text": _said(params["messages"][-1]["content"])},
        ]
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": params["model"],
            "content": content,
            "stop_reason": reasons.get(outcome, "end_turn"),
            "stop_sequence": None,
            "usage": {"input_tokens": 8, "cache_read_input_tokens": 3, "output_tokens": 7},
        }
        return {"type": "succeeded", "message": message}

    def _errored(self, kind: str, message: str) -> Row:
        said = {"type": "error", "error": {"type": kind, "message": message}}
        return {"type": "errored", "error": said}

    def delete(self, call: Call, name: str) -> Reply:
        self.deleted.append(name)
        return Reply({"id": name, "type": "message_batch_deleted"})

    def models(self, call: Call) -> Reply:
        model = {
            "id": MODEL,
            "type": "model",
            "display_name": "M",
            "created_at": "2026-01-01T00:00:00Z",
        }
        return Reply({"data": [model], "has_more": False, "first_id": MODEL, "last_id": MODEL})


class GeminiProvider(ScriptedProvider):
    ended = "BATCH_STATE_SUCCEEDED"
    key_header = "x-goog-api-key"
    paths = (
        ("POST", "/upload/v1beta/files", "start"),
        ("POST", r"/upload/to/([\w/-]+)", "upload"),
        ("POST", r"/v1beta/models/([\w.-]+):batchGenerateContent", "create"),
        ("GET", "/v1beta/batches", "list"),
        ("GET", r"/v1beta/(batches/\w+)", "retrieve"),
        ("GET", r"/v1beta/(files/[\w-]+):download", "download"),
        ("DELETE", r"/v1beta/((?:files|batches)/[\w-]+)", "delete"),
        ("GET", "/v1beta/models", "models"),
    )

    def __init__(self, outcomes: Outcomes | None = None, **how: Any) -> None:
        super().__init__(outcomes, **how)
        self.files: dict[str, list[Row]] = {}

    def wrong_key(self, sent: str) -> Reply:
        return self.error(400, "INVALID_ARGUMENT", f"API key not valid. ({sent})")

    def not_found(self, message: str) -> Reply:
        return self.error(404, "NOT_FOUND", message)

    def error(self, status: int, kind: str, message: str) -> Reply:
        return Reply({"error": {"code": status, "message": message, "status": kind}}, status)

    def start(self, call: Call) -> Reply:
        assert call.headers["x-goog-upload-command"] == "start"
        name = call.body["file"]["name"]
        if not re.fullmatch(r"files/[a-z0-9-]{1,40}", name):
            return self.error(400, "INVALID_ARGUMENT", "File ID cannot be more than 40 characters.")
        url = f"http://{call.headers['host']}/upload/to/{name}"
        return Reply({}, headers={"x-goog-upload-url": url})

    def upload(self, call: Call, name: str) -> Reply:
        assert call.headers["x-goog-upload-command"] == "upload, finalize"
        self.files[name] = [json.loads(line) for line in call.raw.splitlines()]
        file = {"file": {"name": name, "uri": f"https://elsewhere/{name}"}}
        return Reply(file, headers={"x-goog-upload-status": "final"})

    def create(self, call: Call, model: str) -> Reply:
        if model != MODEL:
            return self.not_found(f"models/{model} is not found for API version v1beta")
        asked = call.body["batch"]
        rows = self.files[asked["inputConfig"]["fileName"]]
        # As long as the provider's own are.
        batch = self.begin(f"batches/{len(self.batches):036}", rows, named=asked["displayName"])
        return Reply(self._shown(batch, over=False))

    def _shown(self, batch: dict[str, Any], *, over: bool) -> dict[str, Any]:
        metadata = {
            "displayName": batch["named"],
            "model": f"models/{MODEL}",
            "createTime": batch["at"].isoformat(),
            "state": self.state if over else "BATCH_STATE_RUNNING",
        }
        if over and self.state != "BATCH_STATE_FAILED":
            metadata["output"] = {"responsesFile": batch["id"].replace("batches/", "files/batch-")}
        return {"name": batch["id"], "metadata": metadata, "done": over}

    def list(self, call: Call) -> Reply:
        return Reply({"operations": [self._shown(b, over=False) for b in self.batches.values()]})

    def retrieve(self, call: Call, name: str) -> Reply:
        if name not in self.batches:
            return self.not_found(f"no batch {name}")
        batch = self.batches[name]
        return Reply(self._shown(batch, over=self.is_over(batch)))

    def download(self, call: Call, name: str) -> Reply:
        rows = self.batches[name.replace("files/batch-", "batches/")]["rows"]
        found = [{"key": row["key"], **result} for row in rows if (result := self._result(row))]
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in found)
        return Reply(lines.encode(), headers={"content-type": "application/octet-stream"})

    def _result(self, row: Row) -> Row | None:
        request, outcome = row["request"], self.outcomes.get(row["key"], "answered")
        if outcome == "missing":
            return None
        if outcome == "damaged":
            return {"response": {"candidates": "x"}}
        if outcome == "no schema" and "responseJsonSchema" in request["generationConfig"]:
            return {"error": {"code": 3, "message": "response_json_schema: too many states"}}
        if outcome == "expired":
            return {"error": {"code": 4, "message": "The batch expired."}}
        if outcome == "overloaded":
            return {"error": {"code": 14, "message": "Overloaded"}}
        usage = {"promptTokenCount": 11, "candidatesTokenCount": 5, "thoughtsTokenCount": 2}
        if outcome == "filtered":
            blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
            return {"response": {**blocked, "usageMetadata": usage}}
        text = _said(request["contents"][-1]["parts"][0]["text"])
        parts = [{"text": "考える", "thought": True}, {"text": text}]
        candidate = {
            "content": {"role": "model", "parts": parts},
            "finishReason": "MAX_TOKENS" if outcome == "cut" else "STOP",
        }
        return {"response": {"candidates": [candidate], "usageMetadata": usage}}

    def delete(self, call: Call, name: str) -> Reply:
        # The provider's own files have names that it does not delete by.
        if len(name.removeprefix("files/")) > 40 and name.startswith("files/"):
            return self.error(400, "INVALID_ARGUMENT", "File ID cannot be more than 40 characters.")
        self.deleted.append(name)
        return Reply({})

    def models(self, call: Call) -> Reply:
        return Reply({"models": [{"name": f"models/{MODEL}"}]})
