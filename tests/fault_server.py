"""A real HTTP server on loopback that speaks OpenAI's API and fails on demand."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from japagen.config.generation import GeneratorSettings
from japagen.llm.backends.openai import OpenAIGenerator


def asking(model: str = "m", **how: Any) -> OpenAIGenerator:
    """The generator of a task with these settings, among them what is no setting of a task."""
    other = {n: how.pop(n) for n in ("deadline", "batches", "files", "note") if n in how}
    return OpenAIGenerator(GeneratorSettings(backend="openai", model=model, **how), **other)


@dataclass(frozen=True)
class Call:
    """One request as it arrived.

    Attributes:
        attempt: How often this prompt and seed have arrived, from 1.
        raw: The body as it arrived; ``body`` is empty where it is no JSON.
        method: GET or POST.
    """

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    attempt: int
    raw: bytes = b""
    method: str = "POST"

    @property
    def prompt(self) -> str:
        if "prompt" in self.body:
            return str(self.body["prompt"])
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True)
class Reply:
    """What to send back.

    Attributes:
        body: Sent as it is when bytes, as JSON otherwise.
        delay: Seconds before the first byte.
        drop: Close the connection without a word.
        cut: Announce the whole body, send half of it and close.
        trickle: Seconds between any two bytes of the body.
        copies: Write the whole response this many times.
    """

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False
    cut: bool = False
    trickle: float = 0.0
    copies: int = 1


def chat(text: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}}
    return _completion("chat.completion", {**choice, "finish_reason": finish})


def completion(text: str, finish: str = "stop") -> dict[str, Any]:
    """The body of a text completion."""
    return _completion("text_completion", {"index": 0, "text": text, "finish_reason": finish})


def _completion(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    return {"id": "x", "object": kind, "model": "m", "choices": [choice], "usage": usage}


def error(
    status: int, message: str, *, headers: dict[str, str] | None = None, **more: Any
) -> Reply:
    """An error response as OpenAI words them; `more` are fields such as code and param."""
    return Reply({"error": {"message": message, **more}}, status, headers or {})


def echo(call: Call) -> Reply:
    """Answers with the prompt, so that a test sees which request an answer belongs to."""
    if "prompt" in call.body:
        return Reply(completion(f"返事:{call.prompt}"))
    return Reply(chat(json.dumps({"text": f"返事:{call.prompt}"}, ensure_ascii=False)))


class FaultServer:
    """Serves until the `with` block ends.

    Args:
        respond: Says what each call gets.

    Attributes:
        calls: Every call, in order of arrival.
        most_at_once: Most calls that were being answered at the same time.
    """

    def __init__(self, respond: Callable[[Call], Reply] = echo) -> None:
        self.calls: list[Call] = []
        self.most_at_once = 0
        self._respond = respond
        self._at_once = 0
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._http = _Server(("127.0.0.1", 0), _handler_for(self))
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> FaultServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def answer(self, method: str, path: str, headers: dict[str, str], raw: bytes) -> Reply:
        """Records a call and waits out its delay."""
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            body = {}
        key = json.dumps([body.get("prompt"), body.get("messages"), body.get("seed")])
        with self._lock:
            self._seen[key] += 1
            call = Call(path, headers, body, self._seen[key], raw, method)
            self.calls.append(call)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reply = self._respond(call)
            self.pause(reply.delay)
        finally:
            with self._lock:
                self._at_once -= 1
        return reply

    def pause(self, seconds: float) -> None:
        """Sleeps, or until the server closes."""
        self._closing.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    # Clients that hang up are what these tests are about.
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def _handler_for(server: FaultServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.do_POST()

        def do_DELETE(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = server.answer(self.command, self.path, headers, raw)
            if reply.drop:
                self._hang_up()
                return
            body = reply.body
            if not isinstance(body, bytes):
                body = json.dumps(body, ensure_ascii=False).encode()
            head = [
                f"HTTP/1.1 {reply.status} Fault",
                f"content-length: {len(body)}",
                *(f"{name}: {value}" for name, value in reply.headers.items()),
            ]
            if not any(name.lower() == "content-type" for name in reply.headers):
                head.append("content-type: application/json")
            start = ("\r\n".join(head) + "\r\n\r\n").encode()
            if reply.cut:
                self.wfile.write(start + body[: len(body) // 2])
                self._hang_up()
            elif reply.trickle:
                self._trickle(start + body, reply.trickle)
            else:
                self.wfile.write((start + body) * reply.copies)

        def _trickle(self, response: bytes, seconds: float) -> None:
            for byte in response:
                self.wfile.write(bytes([byte]))
                server.pause(seconds)

        def _hang_up(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
