"""Serves the review page to this machine alone.

Whoever has the address may decide, so it holds a random token; requests under another host name
are refused (a page elsewhere could otherwise reach a loopback server by DNS rebinding).
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from japagen.errors import JapagenError, MissingExtraError
from japagen.review.decisions import StaleError, to_json
from japagen.review.session import Session

if TYPE_CHECKING:
    from starlette.applications import Starlette

HOST = "127.0.0.1"
_FILES = {"": "page.html", "page.js": "page.js", "page.css": "page.css"}
_MAX_BODY = 64 * 1024
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def application(session: Session, token: str, port: int) -> Starlette:
    """The page and its two calls, below ``/TOKEN/``.

    Args:
        session: What is shown and saved.
        token: Part of every path.
        port: The port that requests must have been sent to.
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import FileResponse, JSONResponse, Response
    from starlette.routing import Route

    hosts = {f"{HOST}:{port}", f"localhost:{port}"}

    def allowed(request: Request) -> bool:
        given = str(request.path_params["token"])
        return secrets.compare_digest(given.encode(), token.encode())

    async def static(request: Request) -> Response:
        name = _FILES.get(request.path_params.get("name", ""))
        if not allowed(request) or name is None:
            return Response(status_code=404)
        return FileResponse(Path(__file__).with_name(name), headers=_HEADERS)

    async def state(request: Request) -> Response:
        if not allowed(request):
            return Response(status_code=404)
        return JSONResponse(await run_in_threadpool(session.state), headers=_HEADERS)

    async def decide(request: Request) -> Response:
        if not allowed(request):
            return Response(status_code=404)
        # Only a page of this origin can send this type without asking first.
        if request.headers.get("content-type") != "application/json":
            return Response(status_code=415)
        if int(request.headers.get("content-length") or 0) > _MAX_BODY:
            return Response(status_code=413)
        try:
            body = await request.json()
            saved = await run_in_threadpool(session.decide, body)
        except (ValueError, JapagenError) as error:
            return JSONResponse({"error": str(error)}, 400, headers=_HEADERS)
        except StaleError as error:
            return JSONResponse({"current": to_json(error.current)}, 409, headers=_HEADERS)
        return JSONResponse(saved, headers=_HEADERS)

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            if host not in hosts:
                await Response("Wrong host.", status_code=421)(scope, receive, send)
                return
        await routes(scope, receive, send)

    routes = Starlette(
        routes=[
            Route("/{token}/state", state),
            Route("/{token}/decisions", decide, methods=["POST"]),
            Route("/{token}/{name}", static),
            Route("/{token}/", static),
        ]
    )
    return guarded  # type: ignore[return-value]


def serve(session: Session, port: int, ready: Callable[[str], None]) -> None:
    """Serves until Ctrl-C.

    Args:
        session: What is shown and saved.
        port: Where to listen on this machine; 0 for any free port.
        ready: Called with the page's address once it can be opened.

    Raises:
        JapagenError: If the port is taken or the extra is missing.
    """
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise MissingExtraError("uvicorn", "review", "The review page") from None
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        raise JapagenError(
            f"Cannot listen on {HOST}:{port}: {error.strerror}.",
            "Choose another --port, or leave it out for any free one.",
        ) from None
    bound = listener.getsockname()[1]
    token = secrets.token_urlsafe(16)
    config = uvicorn.Config(
        application(session, token, bound),
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    # The kernel takes connections from here on, so the address works before the loop runs.
    listener.listen(64)
    ready(f"http://{HOST}:{bound}/{token}/")
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        # The way to end a review; everything is saved.
        pass
    finally:
        listener.close()
