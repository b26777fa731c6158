"""Compares two runs, and explains where an example came from."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
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
from japagen.reporting.browser import Provenance

# Relative; smaller changes of weight come from the others' rejection alone.
_LEAST_REWEIGHTED = 0.05
_CLEAR = 0.01


def compare_runs(before: Run, after: Run) -> dict[str, Any]:
    """Says which examples, labels, weights, settings and distributions changed, and why.

    Examples are matched by id, which holds as long as the request does; a text that was asked
    for again counts as one removed and one added.

    Both are finished as far as generation.

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
    found = run.summary
    return {
        "japagen": found.japagen,
        "dictionary": found.dictionary,
        "encoder": found.encoder,
        "generator": found.generator and found.generator.identity,
        "sources": [source.origin for source in found.sources],
        **{f"versions.{package}": version for package, version in found.versions.items()},
    }


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Any]]:
    keys = dict.fromkeys([*one, *other])
    return {k: [one.get(k), other.get(k)] for k in keys if one.get(k) != other.get(k)}


def _examples(
    one: Dataset, other: Dataset, settings: Mapping[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    before, after = _by_id(one), _by_id(other)
    found: dict[str, list[dict[str, Any]]] = {
        "added": [
            _shown(example) | {"why": _arrival(example)}
            for name, (example, _) in after.items()
            if name not in before
        ],
        "removed": [_shown(example) for name, (example, _) in before.items() if name not in after],
        **{k: [] for k in ("rejected", "restored", "reworded", "relabelled", "reweighted")},
    }
    for name in before:
        if name not in after:
            continue
        for kind, change in _changes(before[name], after[name], settings):
            found[kind].append(change)
    found["reweighted"].sort(key=lambda c: (-abs(c["after"] - c["before"]), c["id"]))
    return found


_Weighted = tuple[Example, float]


def _by_id(dataset: Dataset) -> dict[str, _Weighted]:
    weighted = zip(dataset, dataset.weights.tolist(), strict=True)
    return {example.id: (example, weight) for example, weight in weighted}


def _shown(example: Example) -> dict[str, Any]:
    return {
        "id": example.id,
        "text": example.text,
        "label": example.label,
        "kept": example.rejected is None,
        "filter": example.rejected and example.rejected.filter,
    }


def _arrival(example: Example) -> str:
    if example.parent_id:
        return f"rewritten from {example.parent_id}"
    if example.round:
        return f"round {example.round}"
    return "a request that the other run did not make"


def _changes(
    before: _Weighted, after: _Weighted, settings: Mapping[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """What became of one example, most important first."""
    (old, was), (new, now) = before, after
    found: list[tuple[str, dict[str, Any]]] = []
    shown = {"id": new.id, "text": new.text, "label": new.label}
    verdict = new.rejected or old.rejected
    if verdict and not (old.rejected and new.rejected):
        why = _why(verdict.filter, settings, old.text != new.text)
        kind = "rejected" if new.rejected else "restored"
        found.append((kind, shown | asdict(verdict) | {"why": why}))
    if (old.text, old.text_pair) != (new.text, new.text_pair):
        found.append(("reworded", shown | {"before": old.text, "after": new.text}))
    if old.label != new.label:
        found.append(("relabelled", shown | {"before": old.label, "after": new.label}))
    if verdict is None and abs(now - was) > _LEAST_REWEIGHTED * max(was, now, 1e-9):
        parts = {
            "distribution": [old.weight_distribution, new.weight_distribution],
            "label": [old.weight_label, new.weight_label],
        }
        found.append(("reweighted", shown | {"before": was, "after": now} | parts))
    return found


def _why(name: str, settings: Mapping[str, Any], reworded: bool) -> str:
    """The settings that the filter reads and that differ, or what else it may be."""
    own = FILTERS.own.get(name)
    read = own.keys if own else (f"curation.filters.{name}", f"curation.validators.{name}")
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

    def compare(
        name: str, read: Callable[[Dataset], Mapping[str, float]], *, tested: bool = True
    ) -> dict[str, Any]:
        return _distribution(name, read(one), read(other), tested=tested)

    return [
        compare("label", lambda side: _label_amounts(side.kept, [1.0] * len(side.kept))),
        compare(
            "register", lambda side: Counter(map(_register, side.kept.column("register_seen")))
        ),
        compare("length", lambda side: Counter(map(_length, side.kept.texts))),
        compare("label by weight", lambda s: _label_amounts(s, s.weights.tolist()), tested=False),
        compare("filter", lambda s: {"kept": len(s.kept), **s.rejection_counts}, tested=False),
    ]


def _distribution(
    name: str, one: Mapping[str, float], other: Mapping[str, float], *, tested: bool
) -> dict[str, Any]:
    from scipy.stats import chi2_contingency

    keys = sorted({*one, *other})
    rows = np.array([[side.get(key, 0.0) for key in keys] for side in (one, other)])
    totals = rows.sum(axis=1, keepdims=True)
    shares = rows / np.where(totals > 0, totals, 1.0)
    p = None
    if tested and len(keys) > 1 and totals.all():
        p = float(chi2_contingency(rows).pvalue)
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    return {
        "name": name,
        "shares": dict(zip(keys, shares.T.tolist(), strict=True)),
        "distance": distance,
        "p": p,
        "changed": distance > _LEAST_REWEIGHTED if p is None else p < _CLEAR,
    }


def _label_amounts(dataset: Dataset, amounts: Sequence[float]) -> dict[str, float]:
    """The sum of the amounts by label or tag."""
    found: dict[str, float] = defaultdict(float)
    for label, amount in zip(dataset.labels, amounts, strict=True):
        for one in label if isinstance(label, list) else [label]:
            found[str(one)] += amount
    return found


def _register(row: Mapping[str, Any] | None) -> str:
    return Register.from_dict(dict(row)).name if row else OTHER


def _length(text: str) -> str:
    edges = {20: "1-20", 40: "21-40", 80: "41-80"}
    return next((name for most, name in edges.items() if len(text) <= most), "81-")


def explain_example(run: Run, example_id: str) -> dict[str, Any]:
    """Collects all that a run knows of one example.

    The beginning of an id will do.

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
        "audit": _audits(run.path / "audit.parquet").get(example.id),
        "parent": example.parent_id,
        "children": [i for i, parent in zip(ids, parents, strict=True) if parent == example.id],
        "dataset": content_hash(dataset),
    }


def provenance_of(run: Run) -> Provenance:
    """Collects the same of all texts, in so far as a page can show it."""
    return Provenance(_requests(run.path / "ledger.sqlite"), _audits(run.path / "audit.parquet"))


def _requests(ledger: Path) -> dict[str, dict[str, Any]]:
    """Every request by id, with its accepted answer."""
    if not ledger.is_file():
        return {}
    with _ledger(ledger) as db:
        rows = db.execute("SELECT id, generator, seed, body FROM requests").fetchall()
        answers = dict(
            db.execute("SELECT request_id, text FROM attempts WHERE finish != 'error'").fetchall()
        )
    found = {}
    for id_, generator, seed, text in rows:
        body = json.loads(text)
        found[id_] = {
            "prompt": prompt_text(body["prompt"]),
            "answer": answers.get(id_, ""),
            "template": body.get("template", ""),
            "seed": seed,
            "generator": generator,
            "shots": len(body.get("shot_ids", ())),
        }
    return found


def prompt_text(prompt: str | Sequence[Mapping[str, str]]) -> str:
    """A prompt as one text: a document as it is, of a chat each turn after who speaks."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"[{turn['role']}]\n{turn['content']}" for turn in prompt)


def _audits(path: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_table(path).to_pylist()} if path.is_file() else {}


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
    with _ledger(ledger) as db:
        row = db.execute(
            "SELECT generator, seed, body FROM requests WHERE id = ?", [request_id]
        ).fetchone()
        attempts = db.execute(
            "SELECT finish, error, prompt_tokens, completion_tokens, seconds, text "
            "FROM attempts WHERE request_id = ? ORDER BY id",
            [request_id],
        ).fetchall()
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


@contextmanager
def _ledger(path: Path) -> Iterator[sqlite3.Connection]:
    """A ledger that is only read, also while another process goes on with its run."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            yield db
    except sqlite3.DatabaseError as error:
        raise DamagedError(path, f"It is the record of all requests: {error}.") from error


def _of_text(request: dict[str, Any] | None, example: Example) -> dict[str, Any] | None:
    """The request, with what it said of one of its texts, or of the text that this one is from."""
    each = request.get("each") if request else None
    if not request or not each:
        return request
    origin = "-".join((example.parent_id or example.id).split("-")[:2])
    number = int(origin.rpartition(".")[2])
    settings = request["settings"][number - 1] if request["settings"] else ""
    said = {"number": number, "named": each[number - 1], "settings": settings}
    # What an earlier version wrote has none.
    if rows := request.get("seed_rows"):
        said["seed_row"] = rows[number - 1]
    return {**request, "of_text": said}
