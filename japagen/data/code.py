"""Programs with their instructions and tests: their files, and what a run of them came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from japagen.data.dataset import Rejection
from japagen.data.export import RowSummary, read_lines, rejection_of, write_lines
from japagen.data.files import digest, parse_json
from japagen.errors import JapagenError, nearest

PARTS = ("instruction", "solution", "tests")
"""What a program is written as."""
EXAMPLES = "examples.jsonl"


@dataclass(frozen=True, slots=True)
class Program:
    """An instruction, a program that follows it, and tests that show so.

    Attributes:
        instruction: What is asked for, in Japanese.
        solution: A module of Python.
        tests: Tests for pytest, which import it as ``solution``.
        id: Stable identifier.
        topic: The topic asked for.
        difficulty: The difficulty asked for.
        source: Who wrote it: a generator's name, or a file's.
        request_id: The request that it comes from.
        prompt_id: Its template.
        mutants: Changed solutions that the tests were run on; None where it did not come to that.
        killed: Those that they do not pass.
        survivors: What was changed in the others.
        seconds: Time that its tests took, in the sandbox, over all solutions.
        rejected: Set when a check rejected it.
    """

    instruction: str
    solution: str
    tests: str
    id: str = ""
    topic: str = ""
    difficulty: str = ""
    source: str = ""
    request_id: str | None = None
    prompt_id: str | None = None
    mutants: int | None = None
    killed: int | None = None
    survivors: tuple[str, ...] = ()
    seconds: float = 0.0
    rejected: Rejection | None = None

    @property
    def score(self) -> float | None:
        """The share of the mutants that were killed; None where there are none."""
        return self.killed / self.mutants if self.mutants and self.killed is not None else None

    def reject(self, name: str, value: float, threshold: float, detail: str = "") -> Program:
        """The program, rejected by a check."""
        return replace(self, rejected=Rejection(name, round(value, 3), threshold, detail[:400]))

    @classmethod
    def read(cls, survivors: Sequence[str] = (), rejected: Any = None, **row: Any) -> Program:
        """Inverse of `dataclasses.asdict`."""
        return cls(**row, survivors=tuple(survivors), rejected=rejection_of(rejected))


_NAMES = tuple(field.name for field in fields(Program))


def load_programs(run: Path) -> list[Program]:
    """Reads the programs of a run; see `read_lines`."""
    return read_lines(run / EXAMPLES, Program.read)


def read_programs(path: Path) -> list[Program]:
    """Reads programs that were written already: a JSON object a line.

    Raises:
        JapagenError: If the file cannot be read, or a line lacks a part or has an unknown key.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise JapagenError(
            f"Expected programs as JSON Lines in UTF-8 at {path}, found: {error}.",
            "Check the path; each line has instruction, solution and tests.",
        ) from None
    found: list[Program] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError:
            row = None
        wrong = _wrong(row)
        if wrong:
            raise JapagenError(
                f"Expected {', '.join(PARTS)} as texts in line {number} of {path}, found {wrong}.",
                "Optional beside them: id, topic, difficulty, source.",
            )
        kept = {name: row[name] for name in ("id", "topic", "difficulty", "source") if name in row}
        parts = {name: row[name] for name in PARTS}
        program = Program(**{"source": path.name, **kept, **parts})
        found.append(replace(program, id=program.id or program_id(program)))
    if not found:
        raise JapagenError(f"Expected programs in {path}, found none.", "Give another file.")
    return found


def _wrong(row: Any) -> str:
    """What is wrong with a line; empty where nothing is."""
    if not isinstance(row, dict):
        return "no JSON object"
    for name in row:
        if name not in _NAMES:
            return f"the key '{name}'{nearest(name, _NAMES)}"
    known = ("id", "topic", "difficulty", "source")
    lacking = [name for name in PARTS if not isinstance(row.get(name), str)]
    lacking += [name for name in known if not isinstance(row.get(name, ""), str)]
    return f"no text as {lacking[0]}" if lacking else ""


def program_id(program: Program) -> str:
    """An id that follows from what a program says."""
    return f"p-{digest([getattr(program, name) for name in PARTS])}"


class ProgramCounts(BaseModel):
    """How many programs there were, and how many were kept."""

    written: int
    kept: int


class CodeSummary(RowSummary):
    """What a run of programs came to.

    Attributes:
        counts: Of all programs.
        rejections: Check to programs rejected, in the order of the checks.
        per_topic: Of each topic.
        per_difficulty: Of each difficulty.
        mutation_score: The least score that a program is kept with.
        scores: The score of every program that came to be mutated, by its id.
        mutants: Mutants of all of them.
        killed: Those that were killed.
        sandbox_seconds: Time in the sandbox, over all programs.
        python: Version of the Python that ran them.
    """

    FILE: ClassVar[str] = "code.json"
    counts: ProgramCounts
    rejections: dict[str, int]
    per_topic: dict[str, ProgramCounts]
    per_difficulty: dict[str, ProgramCounts]
    mutation_score: float
    scores: dict[str, float]
    mutants: int
    killed: int
    sandbox_seconds: float
    python: str


def write_chat(path: Path, programs: Sequence[Program]) -> None:
    """Writes chat messages, an instruction and its solution a line."""
    write_lines(path, map(_messages, programs))


def _messages(program: Program) -> dict[str, Any]:
    said = (
        ("user", program.instruction),
        ("assistant", f"```python\n{program.solution.strip()}\n```"),
    )
    return {
        "id": program.id,
        "messages": [{"role": role, "content": content} for role, content in said],
        "tests": program.tests,
    }
