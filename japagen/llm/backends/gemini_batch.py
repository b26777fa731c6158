"""Asks Gemini by the batch API of Google's Gemini API, through the official client.

A request becomes a line of a file, a GenerateContentRequest with its key. System turns go to
``systemInstruction``, the JSON schema to ``responseJsonSchema``; ``top_k``, ``min_p`` and
log-probabilities are left out, since what models take differs.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from japagen.llm.backend import OutputTerms, Request
from japagen.llm.backends.batches import Batch, BatchGenerator, completion, with_extra
from japagen.llm.backends.openai_protocol import prompt_of
from japagen.llm.backends.openai_server import Server

_MINUTES = 10 * 60 * 1000  # a call may take, in milliseconds, as the other clients have it
_ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED")
# A row's error has a code of gRPC (google.rpc.Code); these are what HTTP makes of it.
_STATUS = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 16: 401}
_NAMES = {
    "max_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "stop": "stopSequences",
    "seed": "seed",
}
_ROLES = {"user": "user", "assistant": "model"}


def content_request(request: Request, server: Server) -> dict[str, Any]:
    """A request as the Gemini API takes it."""
    endpoint, options = server.endpoint, server.options(request)
    turns = prompt_of(request, endpoint.api)["messages"]
    config = {name: options[own] for own, name in _NAMES.items() if own in options}
    if "response_format" in options:
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = options["response_format"]["json_schema"]["schema"]
    body: dict[str, Any] = {
        "contents": [
            {"role": _ROLES[turn["role"]], "parts": [{"text": turn["content"]}]}
            for turn in turns
            if turn["role"] in _ROLES
        ],
        "generationConfig": config,
    }
    system = [{"text": turn["content"]} for turn in turns if turn["role"] == "system"]
    if system:
        body["systemInstruction"] = {"parts": system}
    return with_extra(body, endpoint.extra_body)


def openai_row(line: dict[str, Any]) -> dict[str, Any]:
    """A row of a batch's results in OpenAI's form."""
    reply, error = line.get("response"), line.get("error")
    response = None
    if isinstance(reply, dict):
        response = {"status_code": 200, "body": _completion(reply)}
    elif isinstance(error, dict) and isinstance(error.get("code"), int):
        response = {"status_code": _STATUS.get(error["code"], 500), "body": {"error": error}}
    return {"custom_id": line.get("key"), "response": response, "error": error}


def _completion(reply: dict[str, Any]) -> dict[str, Any]:
    candidate: Any = next(iter(reply.get("candidates") or ()), {})
    blocked = (reply.get("promptFeedback") or {}).get("blockReason")
    usage = reply.get("usageMetadata") or {}
    written = sum(usage.get(n) or 0 for n in ("candidatesTokenCount", "thoughtsTokenCount"))
    parts = (candidate.get("content") or {}).get("parts")
    finish = "content_filter" if blocked else candidate.get("finishReason")
    return completion(parts, finish, usage.get("promptTokenCount"), written)


class GeminiBatches:
    """Gemini's batches, as of `BatchApi`: a file of requests, and one of rows.

    Args:
        server: Whom to ask.
        retries: How often a call is tried again.
    """

    row = staticmethod(openai_row)

    def __init__(self, server: Server, retries: int) -> None:
        import httpx2
        from google import genai

        endpoint = server.endpoint
        # What the client raises of its own where an upload goes astray, and its HTTP library's.
        self.errors: tuple[type[Exception], ...] = (
            genai.errors.APIError,
            httpx2.HTTPError,
            KeyError,
            ValueError,
        )
        self._server = server
        self._http = httpx2.Client(trust_env=not endpoint.local, follow_redirects=True)
        # All said here, so that no variable of the environment has other servers asked.
        options: Any = {
            "base_url": endpoint.url,
            # Where the batch API is documented, and where there are models that v1 lacks.
            "api_version": "v1beta",
            "timeout": _MINUTES,
            "retry_options": {"attempts": retries + 1},
            "httpx_client": self._http,
        }
        key = endpoint.key
        self._client: Any = genai.Client(api_key=key, vertexai=False, http_options=options)

    def submit(self, key: str, requests: Sequence[Request]) -> str:
        """Uploads requests and starts a batch of them; both are named by the key."""
        name = f"japagen-{key}"
        rows = ({"key": r.id, "request": content_request(r, self._server)} for r in requests)
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        config = {"name": name, "display_name": name, "mime_type": "application/jsonl"}
        file = self._client.files.upload(file=io.BytesIO(lines.encode()), config=config)
        model, how = self._server.endpoint.model, {"display_name": name}
        return str(self._client.batches.create(model=model, src=file.name, config=how).name)

    def since(self, moment: float) -> Iterator[Batch]:
        """The batches begun since; in which order they are listed is not documented."""
        for found in self._client.batches.list(config={"page_size": 100}):
            if found.create_time is None or found.create_time.timestamp() >= moment:
                yield _batch(found)

    def look(self, batch_id: str) -> Batch:
        """A batch as it is now."""
        return _batch(self._client.batches.get(name=batch_id))

    def download(self, name: str) -> bytes:
        """A file of rows."""
        content: bytes = self._client.files.download(file=name)
        return content

    def delete(self, name: str) -> None:
        """Deletes a file or a batch."""
        kept = self._client.files if name.startswith("files/") else self._client.batches
        kept.delete(name=name)

    def models(self) -> list[str]:
        """Names of the models that there are for this key."""
        return [model.name.removeprefix("models/") for model in self._client.models.list()]

    def close(self) -> None:
        """Ends the connections."""
        self._client.close()
        self._http.close()


class GeminiGenerator(BatchGenerator):
    """Answers requests by Gemini's batches."""

    package, title, opened = "google.genai", "Gemini's batch API", GeminiBatches
    terms = OutputTerms(
        "Google's terms restrict using output to develop models that compete with the Gemini API: "
        "check that they allow what you train with this text.",
        "https://ai.google.dev/gemini-api/terms",
    )


def _batch(found: Any) -> Batch:
    state = getattr(found.state, "value", found.state) or ""
    name = found.display_name or ""
    results = (found.dest.file_name,) if found.dest and found.dest.file_name else ()
    # The file of requests is named as the batch is; where it was begun elsewhere, it is not ours.
    ours = name.startswith("japagen-")
    return Batch(
        id=found.name,
        state=state,
        ended=state.removeprefix("JOB_STATE_") in _ENDED,
        whole=state == "JOB_STATE_SUCCEEDED",
        said=(found.error and found.error.message) or "",
        results=results,
        kept=(f"files/{name}", *results, found.name) if ours else (),
        key=name.removeprefix("japagen-") if ours else "",
    )
