"""A new task: its file, and the gold it learns from, found or as a template to fill in."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from japagen.cli.terminal import err, say
from japagen.config.task import Task
from japagen.config.task_data import EXAMPLE
from japagen.data.files import parse_yaml, to_yaml, write_text
from japagen.data.formats import read_examples
from japagen.data.records import usual_columns
from japagen.data.tables import guess_encoding, is_known, open_table, write_rows
from japagen.errors import JapagenError
from japagen.i18n import Language, localized
from japagen.reporting.text import rendered

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Rows of each label in the template, and more labels than these are hardly labels.
_ROWS, _MANY = 2, 20


@dataclass(frozen=True)
class Gold:
    """Labelled texts that a new task can learn from.

    Attributes:
        path: The file.
        labels: Those that it has, in its order.
        keys: What the task file says of it beside the path.
        kind: What the task is: ``classification``, or ``multi_label`` where rows have lists.
        is_pair: Whether it holds pairs of texts.
    """

    path: Path
    labels: Sequence[str]
    keys: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "classification"
    is_pair: bool = False

    @classmethod
    def read(cls, path: Path, columns: Mapping[str, str]) -> Gold:
        """Reads the labels of a file, and finds out its columns and its encoding.

        Raises:
            JapagenError: If it cannot be read, or lacks texts or labels.
        """
        encoding = _encoding(path)
        known = {**usual_columns(open_table(path, encoding).names, columns), **columns}
        data = read_examples(
            path, columns=columns, split="train", encoding=encoding, require_label=True
        )
        kind = type(data.labels[0])
        # A CSV does not tell numbers from texts.
        if all(re.fullmatch(r"-?\d+\.\d+", str(label)) for label in data.labels):
            raise JapagenError(
                f"Expected names of labels in {path}, found numbers.",
                "Write the task file by hand: kind: regression with a scale (docs/tasks.md).",
            )
        listed = [[label] if isinstance(label, str) else label for label in data.labels]
        labels = list(dict.fromkeys(str(tag) for tags in listed for tag in tags))
        if len(labels) > max(_MANY, len(data) // 2):
            raise JapagenError(
                f"Expected a column of labels in {path}, found {len(labels)} different ones on "
                f"{len(data)} rows.",
                "Name the right column: --column label=YOUR_COLUMN",
            )
        keys = {"columns": known, **({} if encoding == "utf-8" else {"encoding": encoding})}
        return cls(
            path,
            labels,
            {key: value for key, value in keys.items() if value},
            "multi_label" if kind is list else "classification",
            data.is_pair,
        )


def _encoding(path: Path) -> str:
    raw = path.read_bytes() if path.is_file() else b""
    if path.suffix.lower() not in (".csv", ".tsv"):
        return "utf-8"
    return "utf-16" if raw.startswith(_UTF_16) else guess_encoding(raw) or "utf-8"


def find_gold(name: str, directory: Path) -> Path | None:
    """The file of gold that lies where a task is to be written: ``NAME_gold.*`` or ``gold.*``."""
    for stem in (f"{name}_gold", "gold"):
        for path in sorted(directory.glob(f"{stem}.*")):
            if is_known(path) and not _is_template(path):
                return path
    return None


def _is_template(path: Path) -> bool:
    """Whether nothing but what `write_task` wrote is in a file."""
    if path.stat().st_size == 0:
        return True
    rows = (row for _, row in open_table(path).rows(None))
    return all(
        not any(row.values()) or str(row.get("text") or "").startswith(EXAMPLE) for row in rows
    )


@dataclass(frozen=True)
class Answers:
    """What a task file is better with: what the texts are, and what belongs to each label."""

    description: str = "お客様から届いた文章"
    text_type: str = "文章"
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def asked(cls, labels: Sequence[str]) -> Answers:
        """Asks whoever sits at the terminal; an empty answer leaves things as they are."""
        say("Enter skips a question; all of it can be changed in the task file.")
        given = cls(
            _ask(localized(f"What are the texts? Such as {cls.description}")) or cls.description,
            _ask(localized(f"What is one of them called? Such as {cls.text_type}"))
            or cls.text_type,
        )
        phrases = {
            label: _ask(localized(f"What belongs to '{label}'? Phrases with 、 in between"))
            for label in labels
        }
        found = {label: phrases[label].split("、") if phrases[label] else [] for label in labels}
        return cls(given.description, given.text_type, found)


def _ask(question: str) -> str:
    answer: str = typer.prompt(question, default="", show_default=False)
    return answer.strip()


def write_task(
    name: str,
    labels: Sequence[str],
    directory: Path,
    language: Language = "en",
    *,
    gold: Gold | None = None,
    answers: Answers | None = None,
    excel: bool = False,
) -> list[Path]:
    """Writes ``NAME.yaml``, and without gold a template for it; nothing is overwritten.

    Returns:
        The paths written.

    Raises:
        JapagenError: If a file exists already, or name or labels are not usable.
    """
    answers = answers or Answers()
    described = {label: list(answers.labels.get(label, ())) for label in labels}
    template = directory / f"{name}_gold.{'xlsx' if excel else 'csv'}"
    where = Path(os.path.relpath(gold.path, directory)).as_posix() if gold else ""
    view = {
        "name": name,
        "template": template.name,
        "gold": gold,
        "given": to_yaml({"gold": {"path": where, **gold.keys}}).strip() if gold else "",
        "described": to_yaml(
            {"description": answers.description, "text_type": answers.text_type}
        ).strip(),
        "labels": to_yaml(described, flow=True).strip(),
    }
    text = rendered("cli/new_task.yaml.j2", view, language)
    where = f"the task '{name}'"
    Task.parse(parse_yaml(text, where), where)
    if gold and (unknown := [label for label in gold.labels if label not in labels]):
        raise JapagenError(
            f"Expected the labels of {gold.path} among --labels, found {', '.join(unknown)} "
            "in it only.",
            "Leave --labels out, or name all that are in the file.",
        )
    task = directory / f"{name}.yaml"
    written = [task] if gold else [task, template]
    for path in written:
        if path.exists():
            raise JapagenError(f"{path} exists already.", "Choose another name or --directory.")
    if not gold:
        rows = [
            {"text": f"{EXAMPLE}「{label}」の文章に書き換えてください", "label": label}
            for label in labels
            for _ in range(_ROWS)
        ]
        write_rows(template, rows, ("text", "label"), bom=True)
    write_text(task, text)
    return written


def say_next(paths: Sequence[Path], answers: Answers | None) -> None:
    """Says what to do after `write_task` wrote some paths."""
    task, *template = paths
    say("Next steps:", err)
    if not (answers and any(answers.labels.values())):
        say(f"- describe the labels in {task}", err)
    for path in template:
        say(f"- fill in {path}, then remove the # before gold in {task}", err)
    for command in ("plan", "preview", "run"):
        err.print(f"- japagen {command} {task}")


def warn_of_unused(config: Path, task: Task) -> None:
    """Says that gold was filled in beside a task file which does not name any."""
    path = None if task.gold else find_gold(task.name, config.parent)
    if path:
        say(f"{path} is not used: remove the # before gold in {config} to learn from it.", err)
