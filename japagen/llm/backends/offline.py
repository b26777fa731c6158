"""Requests that are answered elsewhere: on other machines, or by an engine that reads files.

A run may be given a part of its requests to ask, a file to write requests to in place of sending
them, and a file with answers to such requests. Both files are those of OpenAI's batch API, which
offline engines (``vllm run-batch``) read and write, too: a line per request with its id.

Nothing else about the run changes: requests have the same ids, and answers go through the same
ledger. Where a step needs answers that are not there, the run ends with `AwaitedError`, and goes on
from there when they are.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from japagen.data.files import atomic, parse_json
from japagen.data.shards import Part
from japagen.errors import AwaitedError, JapagenError
from japagen.llm.backend import Answer, Request
from japagen.llm.backends.openai_protocol import batch_line, read_batch_row
from japagen.llm.backends.openai_server import Server
from japagen.llm.ledger import Ledger


@dataclass(frozen=True)
class Elsewhere:
    """What of a run's requests is answered elsewhere, and how.

    Attributes:
        part: The part that is asked here, by the requests' ids; all when None.
        requests: Where requests are written in place of being sent; None to send them.
        answers: Answers to requests that were written; None where there are none.
    """

    part: Part | None = None
    requests: Path | None = None
    answers: Path | None = None

    def holds(self, request: Request) -> bool:
        """Whether a request is one of the part that is asked here."""
        return self.part is None or self.part.has(int(request.id, 16))

    def directory(self, task_name: str) -> Path:
        """Where a run is kept if nobody says where."""
        part = self.part
        return Path("runs") / (f"{task_name}.part{part.number}of{part.of}" if part else task_name)

    def files(self, backend: str, ledger: Path, note: Callable[[str], None]) -> Files | None:
        """The files that a generator reads and writes; None without any.

        Raises:
            JapagenError: If it is not one that speaks OpenAI's API, or a file cannot be used.
        """
        if not (self.requests or self.answers):
            return None
        if backend != "openai":
            raise JapagenError(
                "Files of requests and answers go with generator.backend openai, found another.",
                "Set generator: {backend: openai, model: NAME, base_url: ADDRESS}.",
            )
        return Files(self, ledger, note)


HERE = Elsewhere()
"""Nothing is answered elsewhere."""


class Files:
    """Answers requests from a file, and writes those to a file that are not answered there.

    Args:
        how: The files.
        ledger: Of the run.
        note: Told what came of the answers.

    Attributes:
        requests: Where requests are written in place of being sent; None to send them.

    Raises:
        JapagenError: If a file cannot be read or written.
    """

    def __init__(self, how: Elsewhere, ledger: Path, note: Callable[[str], None]) -> None:
        self.requests, self._answers, self._note = how.requests, how.answers, note
        if how.requests and (how.requests.suffix != ".jsonl" or how.requests == how.answers):
            raise JapagenError(
                f"Expected a new .jsonl file to write requests to, found {how.requests}.",
                "Choose another name.",
            )
        self._lines, self._doubled = _read_lines(how.answers) if how.answers else ({}, 0)
        self._found = len(self._lines) + self._doubled
        with closing(Ledger(ledger)) as opened:
            self._planned = opened.planned(self._lines)
            self._before = len(opened.answers(self._lines))

    def answered(
        self, requests: Iterable[Request], server: Server
    ) -> Generator[Answer, None, list[Request]]:
        """Answers what the file answers, and returns the rest, to be sent.

        Args:
            requests: What is asked.
            server: Says what a request looks like.

        Raises:
            AwaitedError: If the rest was written.
            JapagenError: If the file has answers, and none is to a request of this run.
        """
        rest, taken = list[Request](), 0
        for request in requests:
            if (line := self._lines.pop(request.id, None)) is None:
                rest.append(request)
                continue
            taken += 1
            # Whoever answered takes requests: what is refused is named.
            server.answered = True
            refused = set(server.refused)
            if answer := read_batch_row(parse_json(line), request, server, refused):
                yield answer
            else:
                rest.append(request)
        self._tell(taken)
        if rest and self.requests:
            with atomic(self.requests) as path, path.open("w", encoding="utf-8") as file:
                file.writelines(batch_line(request, server) + "\n" for request in rest)
            raise AwaitedError(
                f"{len(rest)} requests are in {self.requests}, none was sent.",
                "Have them answered, for example by: vllm run-batch -i "
                f"{self.requests} -o answers.jsonl --model {server.endpoint.model}\n"
                "Then run the same command with --answers answers.jsonl too.",
            )
        return rest

    def _tell(self, taken: int) -> None:
        """Says once what came of the file."""
        path, self._answers = self._answers, None
        if path is None:
            return
        if not (taken or self._planned):
            raise JapagenError(
                f"None of {self._found} answers in {path} is to a request of this run.",
                "Take the answers to the file that this task wrote; its gold, templates and "
                "generator.model must be the same still.",
            )
        unknown = len(self._lines.keys() - self._planned)
        self._note(
            f"{path}: {taken} answers taken, {self._before} were here before, {unknown} to "
            f"no request of this run, {self._doubled} lines doubled or damaged."
        )


def _read_lines(path: Path) -> tuple[dict[str, str], int]:
    """Request id to its line, of doubled ones the first that has an answer; and all other lines."""
    found: dict[str, str] = {}
    answered: set[str] = set()
    others = 0
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in filter(str.strip, file):
                key, good = _key(line)
                others += key is None or key in found
                if key is not None and (key not in found or (good and key not in answered)):
                    found[key] = line
                    answered |= {key} if good else set()
    except OSError as error:
        raise JapagenError(f"Cannot read {path}: {error.strerror}.") from None
    return found, others


def _key(line: str) -> tuple[str | None, bool]:
    """The id of a line, if it has one, and whether there is an answer in it."""
    try:
        row: Any = parse_json(line)
    except ValueError:
        return None, False
    if not isinstance(row, dict) or not isinstance(row.get("custom_id"), str):
        return None, False
    response = row.get("response")
    return row["custom_id"], isinstance(response, dict) and response.get("status_code") == 200
