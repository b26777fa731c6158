"""Compares two runs, and explains where an example came from."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from japagen.config.yaml_file import read_mapping
from japagen.data.dataset import Dataset, Example
from japagen.data.formats import read_table
from japagen.data.registry import FILTERS
from japagen.errors import DamagedError, JapagenError, nearest
from japagen.japanese.registers import OTHER, Register
from japagen.pipeline.run_directory import Run, content_hash, versions

# Relative; smaller changes of weight come from the others' rejection alone.
_LEAST_REWEIGHTED = 0.05
_CLEAR = 0.01


def compare_runs(before: Run, after: Run) -> dict[str, Any]:
    """Says which examples, labels, weights, settings and distributions changed, and why.

    Examples are matched by id, which holds as long as the request does; a text that was asked
    for anew counts as one removed and one added.

    Args:
        before: A run, finished as far as generation.
        after: Another run of the same task or of another.

    Returns:
        JSON-ready: ``versions``, ``settings`` (key to the two values), ``tools`` (what else
        differs), ``examples`` (lists of changes by kind) and ``distributions``.

    Raises:
        JapagenError: If a run has no examples yet.
    """
    one, other = before.latest, after.latest
    settings = _different(_settings(before), _settings(after))
    return {
        "versions": {"before": _version(before, one), "after": _version(after, other)},
        "settings": settings,
        "tools": _different(_tools(before), _tools(after)),
        "examples": _examples(one, other, settings),
        "distributions": _distributions(one, other),
    }


def _version(run: Run, dataset: Dataset) -> dict[str, Any]:
    known = versions(run.path / "versions.json")
    current = content_hash(dataset)
    parent = next((v["parent"] for v in known if v["hash"] == current), None)
    kept = int(dataset.kept_mask.sum())
    return {"hash": current, "parent": parent, "examples": len(dataset), "kept": kept}


def _settings(run: Run) -> dict[str, Any]:
    path = run.path / "task.yaml"
    return _flat(read_mapping(path)) if path.is_file() else {}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def _tools(run: Run) -> dict[str, Any]:
    if not (run.path / "metrics.json").is_file():
        return {}
    found = run.metrics
    generator = found.get("generator") or {}
    names = ("japagen", "dictionary", "encoder")
    plain = {name: found.get(name) for name in names} | {"generator": generator.get("identity")}
    plain["sources"] = [source["origin"] for source in found.get("sources") or ()]
    return plain | {f"versions.{k}": v for k, v in (found.get("versions") or {}).items()}


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Any]]:
    keys = dict.fromkeys([*one, *other])
    return {k: [one.get(k), other.get(k)] for k in keys if one.get(k) != other.get(k)}


def _examples(
    one: Dataset, other: Dataset, settings: Mapping[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    before, after = _by_id(one), _by_id(other)
    found: dict[str, list[dict[str, Any]]] = {
        "added": [
            _shown(row) | {"why": _arrival(row)} for i, row in after.items() if i not in before
        ],
        "removed": [_shown(row) for i, row in before.items() if i not in after],
        **{k: [] for k in ("rejected", "restored", "reworded", "relabelled", "reweighted")},
    }
    for name, old in before.items():
        new = after.get(name)
        if new is not None:
            for kind, change in _changes(old, new, settings):
                found[kind].append(change)
    found["reweighted"].sort(key=lambda c: (-abs(c["after"] - c["before"]), c["id"]))
    return found


def _by_id(dataset: Dataset) -> dict[str, dict[str, Any]]:
    names = (
        "id",
        "text",
        "text_pair",
        "label",
        "rejected",
        "parent_id",
        "round",
        "weight_distribution",
        "weight_label",
    )
    columns = [dataset.column(name) for name in names]
    rows = (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
    return {
        row["id"]: row | {"weight": weight}
        for row, weight in zip(rows, dataset.weights.tolist(), strict=True)
    }


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "text": row["text"],
        "label": row["label"],
        "kept": row["rejected"] is None,
        "filter": row["rejected"] and row["rejected"]["filter"],
    }


def _arrival(row: Mapping[str, Any]) -> str:
    if row["parent_id"]:
        return f"rewritten from {row['parent_id']}"
    return f"round {row['round']}" if row["round"] else "a request that the other run did not make"


def _changes(
    old: Mapping[str, Any], new: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """What became of one example, most important first."""
    found: list[tuple[str, dict[str, Any]]] = []
    shown = {"id": new["id"], "text": new["text"], "label": new["label"]}
    was, now = old["rejected"], new["rejected"]
    if (was is None) != (now is None):
        verdict = now or was
        why = _why(verdict["filter"], settings, old["text"] != new["text"])
        found.append(("rejected" if now else "restored", shown | verdict | {"why": why}))
    if (old["text"], old["text_pair"]) != (new["text"], new["text_pair"]):
        found.append(("reworded", shown | {"before": old["text"], "after": new["text"]}))
    if old["label"] != new["label"]:
        found.append(("relabelled", shown | {"before": old["label"], "after": new["label"]}))
    if was is None and now is None:
        size = max(abs(old["weight"]), abs(new["weight"]), 1e-9)
        if abs(new["weight"] - old["weight"]) > _LEAST_REWEIGHTED * size:
            parts = {
                part: [old[f"weight_{part}"], new[f"weight_{part}"]]
                for part in ("distribution", "label")
            }
            weights = {"before": old["weight"], "after": new["weight"]}
            found.append(("reweighted", shown | weights | parts))
    return found


def _why(name: str, settings: Mapping[str, Any], reworded: bool) -> str:
    """The settings that the filter reads and that differ, or what else it may be."""
    own = FILTERS.own.get(name)
    read = own.keys if own else (f"curation.filters.{name}",)
    changed = [
        f"{key}: {before} → {after}"
        for key, (before, after) in settings.items()
        if any(f"{key}.".startswith(f"{setting}.") for setting in read)
    ]
    if changed:
        return ", ".join(changed)
    if reworded:
        return "its text changed"
    return "its settings are the same: another text, gold or version decided"


def _distributions(one: Dataset, other: Dataset) -> list[dict[str, Any]]:
    """Shares before and after, with their total variation and whether chance explains it."""
    from scipy.stats import chi2_contingency

    found = []
    for name, read in (("label", _labels), ("register", _registers), ("length", _lengths)):
        counts = [Counter(read(side.kept)) for side in (one, other)]
        keys = sorted({*counts[0], *counts[1]})
        totals = [max(sum(c.values()), 1) for c in counts]
        shares = {k: [c[k] / t for c, t in zip(counts, totals, strict=True)] for k in keys}
        clear = None
        if len(keys) > 1 and all(counts):
            table = np.array([[c[k] for k in keys] for c in counts])
            clear = float(chi2_contingency(table).pvalue)
        found.append(_distribution(name, shares, clear))
    weighted = [_weighted_labels(side) for side in (one, other)]
    labels = sorted({*weighted[0], *weighted[1]})
    shares = {k: [w.get(k, 0.0) for w in weighted] for k in labels}
    found.append(_distribution("label by weight", shares, None))
    return [*found, _rejection_counts(one, other)]


def _distribution(name: str, shares: dict[str, list[float]], p: float | None) -> dict[str, Any]:
    distance = sum(abs(a - b) for a, b in shares.values()) / 2
    changed = distance > _LEAST_REWEIGHTED if p is None else p < _CLEAR
    return {"name": name, "shares": shares, "distance": distance, "p": p, "changed": changed}


def _rejection_counts(one: Dataset, other: Dataset) -> dict[str, Any]:
    counts = [
        Counter(r["filter"] if r else "kept" for r in side.column("rejected"))
        for side in (one, other)
    ]
    sizes = [max(len(one), 1), max(len(other), 1)]
    keys = sorted({*counts[0], *counts[1]})
    shares = {k: [c[k] / n for c, n in zip(counts, sizes, strict=True)] for k in keys}
    return _distribution("filter", shares, None)


def _labels(dataset: Dataset) -> list[str]:
    labels: list[str] = []
    for label in dataset.labels:
        labels += [str(one) for one in (label if isinstance(label, list) else [label])]
    return labels


def _registers(dataset: Dataset) -> list[str]:
    rows = dataset.column("register_seen")
    return [Register.from_dict(row).name if row else OTHER for row in rows]


def _lengths(dataset: Dataset) -> list[str]:
    edges: Sequence[tuple[int, str]] = ((20, "1-20"), (40, "21-40"), (80, "41-80"), (10**9, "81-"))
    return [next(n for most, n in edges if len(text) <= most) for text in dataset.texts]


def _weighted_labels(dataset: Dataset) -> dict[str, float]:
    found: Counter[str] = Counter()
    for label, weight in zip(dataset.labels, dataset.weights.tolist(), strict=True):
        for one in label if isinstance(label, list) else [label]:
            found[str(one)] += weight
    total = sum(found.values()) or 1.0
    return {label: weight / total for label, weight in found.items()}


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
