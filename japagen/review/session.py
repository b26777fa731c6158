"""One review of one run: the sample, what people decide on it, and its page on this machine alone.

Whoever has the address may decide, so it holds a random token; requests under another host name
are refused (a page elsewhere could otherwise reach a loopback server by DNS rebinding).
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from japagen.data.dataset import Dataset, Example, Label, hash_rank
from japagen.data.export import REJECT
from japagen.data.files import digest, encodable
from japagen.data.labels import SEPARATOR, LabelSpace
from japagen.errors import JapagenError, MissingExtraError
from japagen.i18n import Language as Language
from japagen.i18n import page_texts
from japagen.japanese.registers import OTHER, PRESETS
from japagen.review.decisions import (
    GOOD,
    MAX_COMMENT,
    MAX_TEXT,
    VERDICTS,
    Decision,
    Decisions,
    Place,
    StaleError,
    Verdict,
    choose,
    draw_order,
    text_hash,
)
from japagen.review.feedback import (
    LEAST_DECISIONS,
    Summary,
    judge_agreement,
    summarize,
)

if TYPE_CHECKING:
    from starlette.applications import Starlette


class Session:
    """What the page shows and saves.

    Args:
        dataset: A run's examples, rejected ones included.
        labels: Label to its description.
        decisions: Where decisions are kept.
        number: How many examples to show.
        seed: Of the sample.
        reviewer: Who decides.
        language: Language of the page.
        name_of: What a label is called; see `LabelSpace.name`.
        bounds: Criterion to the score from which a text passes with the task's judge.
        gold: Labelled texts, of which the page shows some beside each label's description.
    """

    least = LEAST_DECISIONS

    def __init__(
        self,
        dataset: Dataset,
        labels: dict[str, str],
        decisions: Decisions,
        *,
        number: int = 100,
        seed: int = 0,
        reviewer: str = "",
        language: Language = "ja",
        name_of: Callable[[Label], str] = str,
        gold: Dataset | None = None,
        bounds: Mapping[str, float] | None = None,
    ) -> None:
        self._labels = labels
        self._space = LabelSpace.of(dataset, list(labels))
        self._bounds = bounds or {}
        self._gold = _shown_gold(gold, seed, name_of) if gold is not None else {}
        self._decisions = decisions
        self._reviewer = reviewer
        self._language = language
        self.places = order_of_review(dataset, decisions, seed, name_of)
        chosen = choose(self.places, number)
        self._dataset = dataset
        wanted = {place.example_id for place in chosen}
        self._rows = {e.id: e for e in dataset if e.id in wanted}
        self._sample = [p for p in chosen if p.example_id in self._rows]
        # A tab of another sample must not mix with this one.
        self._version = digest([p.example_id for p in self._sample])

    def state(self) -> dict[str, Any]:
        """Everything the page needs, JSON-ready."""
        latest = self._decisions.latest()
        return {
            "language": self._language,
            "words": words(self._language),
            "version": self._version,
            "labels": [
                {"name": n, "description": d, "gold": self._gold.get(n, [])}
                for n, d in self._labels.items()
            ],
            "separator": SEPARATOR if self._space.kind == "multi_label" else None,
            "least": self.least,
            "registers": [*PRESETS, OTHER],
            "examples": [
                _shown(self._rows[p.example_id], p, latest.get(p.example_id)) for p in self._sample
            ],
            "summary": asdict(self.summary()),
        }

    def summary(self) -> Summary:
        """What the decisions so far say of the whole dataset."""
        return summarize(self.places, self._decisions.latest())

    def judge_agreement(self) -> dict[str, Any] | None:
        """How far the task's judge and the reviewers agree, JSON-ready; None without scores."""
        found = judge_agreement(self._dataset, self._decisions.latest(), self._bounds)
        return asdict(found) if found else None

    def decide(self, body: Any) -> dict[str, Any]:
        """Saves one decision that the page sent.

        Args:
            body: ``example_id``, ``verdict``, ``seen``, and where given ``label``, ``register``,
                ``comment``, and ``text`` and ``text_pair`` as the reviewer has edited them.

        Returns:
            The saved decision and the new summary, JSON-ready.

        Raises:
            JapagenError: If the page sent something that cannot be.
            StaleError: If another tab has decided in between.
        """
        saved = self._decisions.save(*self._checked(body))
        return {"decision": asdict(saved), "summary": asdict(self.summary())}

    def take_all(self, answers: Mapping[str, Any]) -> dict[str, int]:
        """Makes decisions of answers given elsewhere; they overrule earlier decisions.

        Args:
            answers: Example id to a label of the task, or to `japagen.data.export.REJECT`.

        Returns:
            How many answers were ``taken``, and how many were ``unknown`` to this run.

        Raises:
            JapagenError: If any answer is neither, naming all of them; nothing is taken then.
        """
        known = {id_: answer for id_, answer in answers.items() if id_ in self._by_id}
        wrong = [
            f"{answer!r} ('{id_}')"
            for id_, answer in known.items()
            if answer != REJECT and answer not in self._labels
        ]
        if wrong:
            raise JapagenError(
                f"Expected labels among {', '.join(self._labels)} or '{REJECT}', found "
                f"{', '.join(wrong)}.",
                "Nothing was taken in. Correct them in the tool and export again.",
            )
        latest = self._decisions.latest()
        for id_, answer in known.items():
            current = latest.get(id_)
            self._decisions.save(self._decision(id_, answer), current.number if current else 0)
        return {"taken": len(known), "unknown": len(answers) - len(known)}

    def _decision(self, example_id: str, answer: Any) -> Decision:
        example = self._by_id[example_id]
        verdict: Verdict = "reject" if answer == REJECT else "accept"
        if answer not in (REJECT, self._shown_labels.get(example_id)):
            verdict = "relabel"
        return Decision(
            example_id,
            verdict,
            text_hash(example.text, example.text_pair),
            label=None if verdict == "reject" else answer,
            reviewer=self._reviewer,
        )

    def _with_tag(self, example_id: str, tag: str) -> tuple[Verdict, str]:
        """A tag that fits as well joins those that the text has, or was decided to have."""
        shown = self._shown_labels[example_id]
        current = self._decisions.latest().get(example_id)
        had = current.label if current and current.verdict == "relabel" else None
        together = self._space.name([*self._space.tags(had or shown), tag])
        return ("accept" if together == shown else "relabel"), together

    @cached_property
    def _shown_labels(self) -> dict[str, str]:
        return {place.example_id: place.label for place in self.places}

    @cached_property
    def _by_id(self) -> dict[str, Example]:
        return {e.id: e for e in self._dataset}

    def _checked(self, body: Any) -> tuple[Decision, int]:
        def need(condition: bool, expected: str) -> None:
            if not condition:
                raise JapagenError(f"Expected {expected}.", "Reload the page.")

        need(isinstance(body, dict), "an object")
        example = self._rows.get(str(body.get("example_id")))
        verdict, label, seen = body.get("verdict"), body.get("label"), body.get("seen", 0)
        register, comment = body.get("register"), body.get("comment", "")
        need(example is not None, "an example of this sample")
        need(verdict in VERDICTS, f"a verdict among {', '.join(VERDICTS)}")
        need(isinstance(seen, int), "the number of the decision seen")
        need(isinstance(comment, str) and len(comment) <= MAX_COMMENT, "a comment of some length")
        need(register is None or register in (*PRESETS, OTHER), "a known register")
        named = verdict in ("relabel", "both")
        need(named == (label is not None), "a label with 'relabel' or 'both' alone")
        need(label is None or label in self._labels, "a label of the task")
        assert example is not None
        need(
            verdict != "both" or label != self._shown_labels[example.id], "another label that fits"
        )
        edited: dict[str, str | None] = {"text": None, "text_pair": None}
        for name, written in (("text", example.text), ("text_pair", example.text_pair)):
            text = body.get(name)
            need(text is None or (isinstance(text, str) and written is not None), "a text")
            new = encodable(text).strip() if text is not None else written
            if new is not None and new != written:
                need(verdict in GOOD, "an edited text with 'accept' or 'relabel' alone")
                need(0 < len(new) <= MAX_TEXT, "a text of some length")
                edited[name] = new
        if verdict == "both" and self._space.kind == "multi_label":
            verdict, label = self._with_tag(example.id, label)
        if verdict == "accept":
            # The label that was shown, should another stage change it later.
            label = self._shown_labels[example.id]
        decision = Decision(
            example.id,
            cast(Verdict, verdict),
            text_hash(example.text, example.text_pair),
            label=label,
            register=register,
            comment=comment.strip(),
            reviewer=self._reviewer,
            text=edited["text"],
            text_pair=edited["text_pair"],
        )
        return decision, seen


def order_of_review(
    dataset: Dataset,
    decisions: Decisions,
    seed: int = 0,
    name_of: Callable[[Label], str] = str,
) -> list[Place]:
    """The order drawn at the first review, or a new one where the examples are others now.

    Decisions change what is kept and what labels are; the order must not change with them.
    """
    places = decisions.places()
    now = draw_order(dataset, seed, name_of)
    if {p.example_id for p in places} != {p.example_id for p in now}:
        decisions.keep_places(now)
        return now
    return places


_SHOWN_GOLD = 2
_GOLD_CHARACTERS = 80


def _shown_gold(gold: Dataset, seed: int, name_of: Callable[[Label], str]) -> dict[str, list[str]]:
    """Label to some gold texts of it, long ones cut."""
    found: dict[str, list[str]] = {}
    for example in sorted(gold.distinct, key=lambda e: hash_rank(f"{seed}/{e.id}")):
        texts = found.setdefault(name_of(example.label or ""), [])
        if len(texts) < _SHOWN_GOLD:
            text = " ／ ".join(example.texts)
            cut = "…" if len(text) > _GOLD_CHARACTERS else ""
            texts.append(text[:_GOLD_CHARACTERS] + cut)
    return found


def _shown(example: Example, place: Place, decision: Decision | None) -> dict[str, Any]:
    hashed = text_hash(example.text, example.text_pair)
    current = decision if decision is not None and decision.text_hash == hashed else None
    return {
        "id": example.id,
        "text": example.text,
        "text_pair": example.text_pair,
        "label": place.label,
        "doubt": place.doubt,
        "register": example.register_seen.name if example.register_seen else OTHER,
        "register_asked": example.register_asked.name if example.register_asked else None,
        "rejected": example.rejected.filter if example.rejected else None,
        "detail": example.rejected.detail if example.rejected else "",
        "trust": round(example.weight_label, 3),
        "scores": example.scores,
        "fields": example.fields,
        "decision": current and asdict(current),
        "seen": decision.number if decision else 0,
    }


def words(language: Language) -> dict[str, str]:
    """Every sentence of the page in one language."""
    return dict(page_texts(Path(__file__).with_name("page.yaml"), language))


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
    """The page and its two calls, below ``/TOKEN/``."""
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
            return JSONResponse({"current": asdict(error.current)}, 409, headers=_HEADERS)
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

    ``ready`` is called with the page's address once it can be opened.

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
