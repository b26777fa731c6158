"""Programs with their instructions and tests: their files, and what a run of them came to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from japagen.data.dataset import Rejection
from japagen.data.files import digest, parse_json, read_json, refuse_existing, write_text
from japagen.errors import DamagedError, JapagenError, nearest

PARTS = ("instruction", "solution", "tests")
"""What a program is written as."""
FORMS = ("jsonl", "chat")
SUMMARY = "code.json"
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
    def from_row(cls, row: Mapping[str, Any]) -> Program:
        """Inverse of `dataclasses.asdict`."""
        rejected = row.get("rejected")
        survivors = tuple(row.get("survivors", ()))
        return cls(
            **{**row, "survivors": survivors, "rejected": rejected and Rejection(**rejected)}
        )


_NAMES = tuple(field.name for field in fields(Program))


def write_programs(path: Path, programs: Iterable[Program]) -> None:
    """Writes JSON Lines, atomically."""
    lines = (json.dumps(asdict(program), ensure_ascii=False) for program in programs)
    write_text(path, "".join(f"{line}\n" for line in lines))


def load_programs(path: Path) -> list[Program]:
    """Reads what `write_programs` wrote in a run.

    Raises:
        JapagenError: If it is not there yet.
        DamagedError: If it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [Program.from_row(parse_json(line)) for line in lines]
    except FileNotFoundError:
        raise _unfinished(path) from None
    except (ValueError, TypeError) as error:
        raise DamagedError(path) from error


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


class CodeSummary(BaseModel):
    """What a run of programs came to.

    Attributes:
        japagen: The version.
        created: When the run began, ISO 8601.
        task: Its name.
        description: What the programs are.
        generator: Who wrote them.
        terms: What may be done with what it writes.
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
        cost: Totals over every attempt; empty where nobody was asked.
    """

    japagen: str
    created: str
    task: str
    description: str
    generator: str
    terms: str
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
    cost: dict[str, float]

    @classmethod
    def load(cls, run: Path) -> CodeSummary:
        """Reads the one of a run.

        Raises:
            JapagenError: If the run is not finished.
            DamagedError: If it cannot be read.
        """
        path = run / SUMMARY
        try:
            return cls.model_validate(read_json(path))
        except FileNotFoundError:
            raise _unfinished(path) from None
        except ValidationError as error:
            raise DamagedError(path) from error


def _unfinished(path: Path) -> JapagenError:
    return JapagenError(
        f"{path.parent} has no {path.name} yet.", "Finish the run first: japagen run CONFIG"
    )


def export_programs(
    programs: Sequence[Program],
    path: Path,
    form: str,
    *,
    card: str,
    include_rejected: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Writes programs as JSON Lines, and their card beside it.

    Args:
        programs: The programs.
        path: Where to.
        form: ``jsonl`` writes all that is known of each, ``chat`` an instruction and its solution
            as messages.
        card: Markdown.
        include_rejected: Write rejected ones too, which ``jsonl`` alone can tell.
        overwrite: Replace what is there.

    Raises:
        JapagenError: If the form is unknown, there is nothing to write, or something is there.
    """
    if form not in FORMS:
        raise JapagenError(
            f"Unknown export format of programs '{form}'{nearest(form, FORMS)}.",
            f"Use one of: {', '.join(FORMS)}.",
        )
    if path.suffix.lower() != ".jsonl":
        raise JapagenError(
            f"Expected a path that ends in .jsonl, found '{path.name}'.",
            f"Name it {path.stem}.jsonl.",
        )
    if include_rejected and form == "chat":
        raise JapagenError(
            "Expected --rejected with the format jsonl, found chat.",
            "Messages do not say what was rejected.",
        )
    chosen = [one for one in programs if include_rejected or one.rejected is None]
    if not chosen:
        raise JapagenError(
            "Expected programs to export, found none that the checks kept.",
            "Loosen checks in the task file, or include rejected programs.",
        )
    card_path = path.with_name(f"{path.stem}.card.md")
    for target in (path, card_path):
        refuse_existing(target, overwrite)
    if form == "jsonl":
        write_programs(path, chosen)
    else:
        rows = (json.dumps(_messages(one), ensure_ascii=False) for one in chosen)
        write_text(path, "".join(f"{row}\n" for row in rows))
    write_text(card_path, card)
    return [path, card_path]


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
