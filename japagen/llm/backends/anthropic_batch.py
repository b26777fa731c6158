"""Asks Claude by Anthropic's Message Batches API, through the official client.

A request becomes a request to the Messages API. System turns go to ``system``, the JSON schema to
``output_config``; temperature, ``top_k``, ``min_p``, the seed and log-probabilities are left out,
since the API has none of them (version 2026-10-21, which the client speaks from 2.0 on).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from japagen.llm.backend import OutputTerms, Request
from japagen.llm.backends.batches import Batch, BatchGenerator, completion, with_extra
from japagen.llm.backends.openai_protocol import prompt_of
from japagen.llm.backends.openai_server import Server

# Reasons to stop and kinds of errors as OpenAI has them; HTTP codes as Anthropic documents them.
_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
}


def message_of(request: Request, server: Server) -> dict[str, Any]:
    """A request as the Messages API takes it."""
    endpoint, options = server.endpoint, server.options(request)
    turns = prompt_of(request, endpoint.api)["messages"]
    body: dict[str, Any] = {
        "model": endpoint.model,
        "max_tokens": request.sampling.max_tokens,
        "messages": [turn for turn in turns if turn["role"] != "system"],
    }
    system = [{"type": "text", "text": t["content"]} for t in turns if t["role"] == "system"]
    if system:
        body["system"] = system
    if "stop" in options:
        body["stop_sequences"] = options["stop"]
    if "response_format" in options:
        schema = options["response_format"]["json_schema"]["schema"]
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    return with_extra(body, endpoint.extra_body)


def openai_row(line: dict[str, Any]) -> dict[str, Any]:
    """A row of a batch's results in OpenAI's form."""
    result = line.get("result") or {}
    kind, status, body = result.get("type"), 200, None
    if kind == "succeeded":
        body = _completion(result.get("message") or {})
    elif kind == "errored":
        body = result.get("error") or {}
        status = _STATUS.get(str((body.get("error") or {}).get("type")), 500)
    return {
        "custom_id": line.get("custom_id"),
        "response": body and {"status_code": status, "body": body},
        "error": {"code": f"batch_{kind}", "message": "the batch ended before it was answered"},
    }


def _completion(message: dict[str, Any]) -> dict[str, Any]:
    stopped, usage = message.get("stop_reason"), message.get("usage") or {}
    read = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    tokens = sum(usage.get(name) or 0 for name in read)
    finish = _FINISH.get(str(stopped), stopped)
    return completion(message.get("content"), finish, tokens, usage.get("output_tokens"))


class AnthropicBatches:
    """Anthropic's batches, as of `BatchApi`; they carry no key.

    Args:
        server: Whom to ask.
        retries: How often a call is tried again.
    """

    row = staticmethod(openai_row)

    def __init__(self, server: Server, retries: int) -> None:
        import anthropic

        endpoint = server.endpoint
        self.errors: tuple[type[Exception], ...] = (anthropic.AnthropicError,)
        self._server = server
        self._client: Any = anthropic.Anthropic(
            api_key=endpoint.key,
            base_url=endpoint.url.removesuffix("/v1"),
            max_retries=retries,
            http_client=anthropic.DefaultHttpxClient(trust_env=not endpoint.local),
        )
        self._batches: Any = self._client.messages.batches

    def submit(self, key: str, requests: Sequence[Request]) -> str:
        """Starts a batch."""
        rows = [{"custom_id": r.id, "params": message_of(r, self._server)} for r in requests]
        return str(self._batches.create(requests=rows).id)

    def since(self, moment: float) -> Iterator[Batch]:
        """The batches begun since, the newest first."""
        for found in self._batches.list(limit=100):
            if found.created_at.timestamp() < moment:
                return
            yield _batch(found)

    def look(self, batch_id: str) -> Batch:
        """A batch as it is now."""
        return _batch(self._batches.retrieve(batch_id))

    def download(self, name: str) -> bytes:
        """The rows of a batch."""
        content: bytes = self._batches.results(name).http_response.read()
        return content

    def delete(self, name: str) -> None:
        """Deletes a batch, with its requests and rows."""
        self._batches.delete(name)

    def models(self) -> list[str]:
        """Names of the models that there are for this key."""
        return [model.id for model in self._client.models.list(limit=1000)]

    def close(self) -> None:
        """Ends the connections."""
        self._client.close()


class AnthropicGenerator(BatchGenerator):
    """Answers requests by Anthropic's batches."""

    package, title, opened = "anthropic", "Anthropic's batch API", AnthropicBatches
    terms = OutputTerms(
        "Anthropic's terms restrict using output to develop models that compete with Anthropic: "
        "check that they allow what you train with this text.",
        "https://www.anthropic.com/legal/commercial-terms",
    )


def _batch(found: Any) -> Batch:
    return Batch(
        id=found.id,
        state=found.processing_status,
        ended=found.processing_status == "ended",
        whole=found.processing_status == "ended",
        # Without an address of its rows it was archived, which takes 29 days.
        results=(found.id,) if found.results_url else (),
        kept=(found.id,),
        size=sum(count for _, count in found.request_counts),
    )
