"""An HTTP server that answers every chat request after a fixed time, with room for so many.

A GET is told at once how many requests were answered so far.
"""

from __future__ import annotations

import argparse
import asyncio
import json

_BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": '{"text": "荷物が届きません。"}'},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42},
    },
    ensure_ascii=False,
).encode()


def _response(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


class LatencyServer:
    """Answers after ``latency`` seconds; more than ``room`` at a time are told to come again."""

    def __init__(self, latency: float, room: int) -> None:
        self._latency = latency
        self._room = room
        self._active = 0
        self._served = 0

    async def serve(self) -> None:
        """Prints the port that it was given, and serves until it is terminated."""
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0, backlog=512)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(
                    line.lower().split(b": ", 1) for line in head.split(b"\r\n") if b": " in line
                )
                await reader.readexactly(int(fields.get(b"content-length", 0)))
                if head.startswith(b"GET "):
                    writer.write(_response("200 OK", b'{"served": %d}' % self._served))
                else:
                    writer.write(await self._answer())
                await writer.drain()
                if fields.get(b"connection") == b"close":
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self) -> bytes:
        if self._active >= self._room:
            return _response("429 Too Many Requests", b'{"error": {"message": "no room"}}')
        self._active += 1
        try:
            await asyncio.sleep(self._latency)
        finally:
            self._active -= 1
        self._served += 1
        return _response("200 OK", _BODY)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--room", type=int, default=64)
    arguments = parser.parse_args()
    asyncio.run(LatencyServer(arguments.latency, arguments.room).serve())
