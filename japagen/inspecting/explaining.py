"""Where one example came from, and what made it what it is."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from japagen.errors import DamagedError, JapagenError, nearest
from japagen.examples import Dataset, Example
from japagen.running.results import Run
from japagen.running.versions import content_hash
from japagen.storage.formats import read_table


def explain_example(run: Run, example_id: str) -> dict[str, Any]:
    """Collects all that a run knows of one example.

    Args:
        run: A run, finished as far as generation.
        example_id: The example's id, or the beginning of one.

    Returns:
        JSON-ready: ``example`` (text, label, register, weights, rejection), ``request``
        (prompt, sampling, seed, shots, model, attempts, and where it asked for several texts
        ``of_text``: what it said of this one; None for texts from a file), ``audit``
        (nearest gold, longest copy, personal data; None if it was rejected), ``parent`` and
        ``children`` (ids), and the ``dataset`` version.

    Raises:
        JapagenError: If there is no such example, or several.
    """
    dataset = run.latest
    example = _find(dataset, example_id)
    ids, parents = dataset.column("id"), dataset.column("parent_id")
    weight = float(dataset.weights[ids.index(example.id)])
    return {
        "example": example.to_row() | {"weight": weight},
        "request": _of_text(_request(run.path / "ledger.sqlite", example.request_id), example),
        "audit": _audit(run.path / "audit.parquet", example.id),
        "parent": example.parent_id,
        "children": [i for i, parent in zip(ids, parents, strict=True) if parent == example.id],
        "dataset": content_hash(dataset),
    }


def _find(dataset: Dataset, example_id: str) -> Example:
    ids = dataset.column("id")
    if example_id in ids:
        return dataset[ids.index(example_id)]
    like = [i for i in ids if i.startswith(example_id)] if example_id else []
    if len(like) == 1:
        return dataset[ids.index(like[0])]
    if like:
        raise JapagenError(
            f"{len(like)} examples have an id that begins with '{example_id}'.",
            f"Write more of it, for example {like[0]}.",
        )
    raise JapagenError(
        f"There is no example '{example_id}' in the run{nearest(example_id, ids)}.",
        "Ids stand in the run's examples.jsonl.",
    )


def _request(ledger: Path, request_id: str | None) -> dict[str, Any] | None:
    if request_id is None or not ledger.is_file():
        return None
    try:
        # A finished run is only read, also while another process goes on with it.
        with closing(sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True)) as db:
            row = db.execute(
                "SELECT generator, seed, body FROM requests WHERE id = ?", [request_id]
            ).fetchone()
            attempts = db.execute(
                "SELECT finish, error, prompt_tokens, completion_tokens, seconds, text "
                "FROM attempts WHERE request_id = ? ORDER BY id",
                [request_id],
            ).fetchall()
    except sqlite3.DatabaseError as error:
        raise DamagedError(ledger, f"It is the record of all requests: {error}.") from error
    if row is None:
        return None
    names = ("finish", "error", "prompt_tokens", "completion_tokens", "seconds", "text")
    body = json.loads(row[2])
    return {
        **body,
        "generator": row[0],
        "seed": row[1],
        "attempts": [dict(zip(names, attempt, strict=True)) for attempt in attempts],
    }


def _of_text(request: dict[str, Any] | None, example: Example) -> dict[str, Any] | None:
    """The request, with what it said of one of its texts, or of the text that this one is from."""
    each = request.get("each") if request else None
    if not request or not each:
        return request
    origin = "-".join((example.parent_id or example.id).split("-")[:2])
    number = int(origin.rpartition(".")[2])
    settings = request["settings"][number - 1] if request["settings"] else ""
    said = {"number": number, "named": each[number - 1], "settings": settings}
    return {**request, "of_text": said}


def _audit(path: Path, example_id: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    table = read_table(path)
    ids = table.column("id").to_pylist()
    if example_id not in ids:
        return None
    row: dict[str, Any] = table.slice(ids.index(example_id), 1).to_pylist()[0]
    return row
