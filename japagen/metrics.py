"""Collects what a run measured into one JSON-ready mapping, metrics.json."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt

import japagen
from japagen.data import TaskData
from japagen.evaluation import (
    Interval,
    bootstrap_difference,
    bootstrap_score,
    expected_calibration_error,
    score,
)
from japagen.examples import HELD_BACK, REWRITTEN, Dataset
from japagen.generators.base import GeneratorInfo
from japagen.japanese.overlap import OverlapIndex
from japagen.japanese.registers import OTHER, PRESETS, Register
from japagen.kinds import METRICS_OF, LabelSpace
from japagen.knowledge import Knowledge
from japagen.tasks import Task

Seeded = tuple[int, npt.NDArray[np.float64]]
_PACKAGES = ("torch", "transformers", "fugashi", "unidic-lite", "scipy", "xllamacpp")
_ERRORS_SHOWN = 30


@dataclass
class Parts:
    """What the stages hand over.

    Attributes:
        task: The task.
        data: Its texts.
        gold: Training gold with registers.
        dataset: Synthetic examples as far as the stages have come.
        generator: Who wrote them; None when they came from a file.
        synthetic_file: Name of that file.
        cost: Totals of the ledger.
        alignment: What alignment reports.
        with_synthetic: Seed and what the classifier gave for the test texts, shape
            (n, `LabelSpace.outputs`), a training.
        gold_only: The same for training on gold alone.
        seconds: Stage to seconds.
        encoder: Identity of the encoder.
        rounds: What was found after each round of the closed loop; empty with one round.
        named: Request id to what the request named.
        coverage: Label to what its texts cover of what the task wants; None without wants.
    """

    task: Task
    data: TaskData
    gold: Dataset | None = None
    dataset: Dataset | None = None
    generator: GeneratorInfo | None = None
    synthetic_file: str | None = None
    cost: Mapping[str, float] | None = None
    alignment: dict[str, Any] | None = None
    with_synthetic: list[Seeded] = field(default_factory=list)
    gold_only: list[Seeded] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    encoder: str | None = None
    rounds: list[dict[str, Any]] = field(default_factory=list)
    named: Mapping[str, tuple[Knowledge, ...]] = field(default_factory=dict)
    coverage: dict[str, Any] | None = None


def collect(parts: Parts) -> dict[str, Any]:
    """Returns everything a report shows; what was not measured is None."""
    task, dataset = parts.task, parts.dataset
    assert dataset is not None
    return {
        "japagen": japagen.__version__,
        "task": {
            "name": task.name,
            "description": task.description,
            "text_type": task.text_type,
            "labels": task.labels,
            "kind": task.kind,
            "pair": task.pair and task.pair.model_dump(),
            "seed": task.seed,
        },
        "generator": _generator(parts.generator),
        "synthetic_file": parts.synthetic_file,
        "counts": _counts(parts, dataset),
        "per_label": _per_label(parts, dataset),
        "rejections": rejection_counts(dataset),
        "registers": _registers(parts, dataset),
        "rounds": _rounds(parts),
        "coverage": parts.coverage,
        "alignment": parts.alignment,
        "scores": _scores(parts),
        "leakage": _leakage(parts, dataset),
        "errors": _errors(parts),
        "cost": dict(parts.cost) if parts.cost else None,
        "seconds": parts.seconds,
        "versions": _versions(),
        "dictionary": (parts.alignment or {}).get("dictionary"),
        "encoder": parts.encoder,
    }


def rejection_counts(dataset: Dataset) -> dict[str, int]:
    """Counts rejected examples by filter, most frequent first."""
    counts = Counter(r["filter"] for r in dataset.column("rejected") if r)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _generator(info: GeneratorInfo | None) -> dict[str, Any] | None:
    if info is None:
        return None
    return {"name": info.name, "identity": info.identity, "terms": asdict(info.terms)}


def _size(data: Dataset | None) -> int:
    return len(data) if data is not None else 0


def _counts(parts: Parts, dataset: Dataset) -> dict[str, int]:
    kept = int(dataset.kept_mask.sum())
    failed = rejection_counts(dataset).get("failed", 0)
    rewritten = sum(source == REWRITTEN for source in dataset.column("source"))
    first = len(dataset) - rewritten
    return {
        "gold": _size(parts.data.gold),
        "test": _size(parts.data.test),
        "unlabelled": _size(parts.data.unlabelled),
        "requested": first if parts.generator else 0,
        "failed": failed,
        "generated": first - failed,
        "rewritten": rewritten,
        "rejected": len(dataset) - kept - failed,
        "kept": kept,
    }


def _per_label(parts: Parts, dataset: Dataset) -> dict[str, dict[str, float | None]]:
    space = parts.task.label_space()

    def names(data: Dataset) -> list[list[str]]:
        return [space.tags(space.name(label)) for label in data.labels]

    def count(data: Dataset) -> Counter[str]:
        return Counter(name for row in names(data) for name in row)

    gold = count(parts.data.gold) if parts.data.gold is not None else Counter[str]()
    first = np.flatnonzero([source != REWRITTEN for source in dataset.column("source")])
    made, kept = count(dataset.take(first)), count(dataset.kept)
    trust: dict[str, list[float]] = {label: [] for label in parts.task.labels}
    kept_names = names(dataset.kept)
    for row, trusted in zip(kept_names, dataset.kept.column("weight_label"), strict=True):
        for label in row:
            trust[label].append(trusted)
    weight: dict[str, float] = dict.fromkeys(parts.task.labels, 0.0)
    for row, w in zip(names(dataset), dataset.weights, strict=True):
        for label in row:
            weight[label] += float(w)
    total = sum(weight.values()) or 1.0
    return {
        label: {
            "gold": gold.get(label, 0),
            "generated": made.get(label, 0),
            "kept": kept.get(label, 0),
            "label_trust": float(np.mean(trust[label])) if trust[label] else None,
            "weight_share": weight[label] / total,
        }
        for label in parts.task.labels
    }


def _rounds(parts: Parts) -> dict[str, Any] | None:
    """Each round's distances, what it named and what was missing after it."""
    if not parts.rounds:
        return None
    return {
        "planned": parts.task.generation.rounds,
        "stopped": parts.rounds[-1]["stopped"],
        "rounds": [
            {key: row[key] for key in ("round", "requests", "kept", "named", "distances")}
            | {"missing": {label: _items(rows) for label, rows in row["missing"].items()}}
            for row in parts.rounds
        ],
    }


def _items(missing: list[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = ("kind", "item", "target", "synthetic", "chance")
    return [{key: row[key] for key in keys} for row in missing]


def _name(row: Mapping[str, Any] | None) -> str:
    return Register.from_dict(row).name if row else OTHER


def _shares(names: Iterable[str]) -> dict[str, float]:
    counts = Counter(names)
    total = max(sum(counts.values()), 1)
    return {
        name: counts[name] / total for name in (*PRESETS, OTHER) if name != OTHER or counts[name]
    }


def _registers(parts: Parts, dataset: Dataset) -> dict[str, Any] | None:
    """Registers in gold, as asked for, and as seen before and after they were held to that."""
    names = ("label_asked", "register_asked", "register_seen", "source", "rejected")
    space = parts.task.label_space()
    rows = [
        {
            "tags": [] if label is None else space.tags(space.name(label)),
            "asked": asked and _name(asked),
            "seen": _name(seen),
            "child": source == REWRITTEN,
            "kept": not rejected,
            "usable": not rejected or rejected["filter"] in HELD_BACK,
        }
        for label, asked, seen, source, rejected in zip(*map(dataset.column, names), strict=True)
    ]
    kept = [r for r in rows if r["kept"]]
    if not any(row for row in dataset.kept.column("register_seen")):
        return None
    gold = parts.gold
    found = {
        "gold": _shares(map(_name, gold.column("register_seen"))) if gold else {},
        **_asked_and_seen(rows, kept),
        "rewritten": sum(bool(r["child"]) for r in kept),
    }
    found["per_label"] = {
        label: _asked_and_seen(
            [r for r in rows if label in r["tags"]], [r for r in kept if label in r["tags"]]
        )
        for label in parts.task.labels
        if found["asked"]
    }
    return found


def _asked_and_seen(rows: list[dict[str, Any]], kept: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares as asked, seen before and seen after, and how far each is from what was asked."""
    first = [r for r in rows if r["asked"] and not r["child"]]
    usable = [r for r in first if r["usable"]]
    asked = _shares(r["asked"] for r in first) if first else {}
    before, after = (_shares(r["seen"] for r in side) for side in (usable, kept))

    def match(side: list[dict[str, Any]]) -> float | None:
        both = [r["asked"] == r["seen"] for r in side if r["asked"]]
        return sum(both) / len(both) if both else None

    def distance(seen: Mapping[str, float]) -> float | None:
        """Total variation from what was asked."""
        if not asked:
            return None
        return sum(abs(asked.get(n, 0) - seen.get(n, 0)) for n in {*asked, *seen}) / 2

    return {
        "asked": asked,
        "before": before if first else {},
        "seen": after,
        "match_before": match(usable),
        "match": match(kept),
        "distance_before": distance(before),
        "distance": distance(after),
    }


def _scores(parts: Parts) -> dict[str, Any] | None:
    """Both arms' scores; the leading metric's gain of one over the other, and the verdict."""
    task, test = parts.task, parts.data.test
    if test is None or not parts.with_synthetic:
        return None
    space = task.label_space(parts.data.gold)
    gain = None
    if parts.gold_only:
        gain = bootstrap_difference(
            space.codes(test.labels),
            [space.decide(p) for _, p in parts.with_synthetic],
            [space.decide(p) for _, p in parts.gold_only],
            task.metric,
            resamples=task.evaluation.bootstrap,
            seed=task.seed,
        )
    return {
        "n": len(test),
        "metric": task.metric,
        "metrics": list(METRICS_OF[task.kind]),
        "gold_only": _arm(parts, parts.gold_only, space) if parts.gold_only else None,
        "with_synthetic": _arm(parts, parts.with_synthetic, space),
        "gain": asdict(gain) if gain else None,
        "verdict": _verdict(gain),
    }


def _verdict(gain: Interval | None) -> str:
    if gain is None:
        return "not_measured"
    if gain.low > 0:
        return "better"
    return "worse" if gain.high < 0 else "no_clear_difference"


def _arm(parts: Parts, runs: list[Seeded], space: LabelSpace) -> dict[str, Any]:
    """Scores of one arm: means over training seeds with intervals, details of the first."""
    assert parts.data.test is not None
    task, true = parts.task, parts.data.test.labels
    decided = [space.decide(outputs) for _, outputs in runs]
    scored = [score(true, codes, space) for codes in decided]
    metrics = METRICS_OF[space.kind]
    lead = [s[task.metric] for s in scored]
    intervals = {
        name: bootstrap_score(
            space.codes(true),
            decided,
            name,
            resamples=task.evaluation.bootstrap,
            seed=task.seed,
        )
        for name in metrics
    }
    means = {name: float(np.mean([s[name] for s in scored])) for name in metrics}
    return {
        **scored[0],
        **means,
        f"{task.metric}_sd": float(np.std(lead, ddof=1)) if len(lead) > 1 else None,
        "intervals": {name: asdict(found) for name, found in intervals.items()},
        "seeds": [
            {"seed": seed, **{name: s[name] for name in metrics}}
            for (seed, _), s in zip(runs, scored, strict=True)
        ],
        "ece": expected_calibration_error(runs[0][1], true, list(space.names))
        if space.kind == "classification"
        else None,
    }


def _leakage(parts: Parts, dataset: Dataset) -> dict[str, Any] | None:
    """How much of the synthetic text stands in the test texts, which nothing may learn from."""
    test, kept = parts.data.test, dataset.kept
    if test is None or not len(kept):
        return None
    index = OverlapIndex(_all_texts(test))
    found = [(*index.nearest(text), text) for text in _all_texts(kept)]
    share, test_text, text = max(found)
    return {
        "mean_overlap": float(np.mean([f[0] for f in found])),
        "max_overlap": share,
        "worst": {"text": text, "test_text": test_text},
    }


def _all_texts(data: Dataset) -> list[str]:
    """Every text, both sides of pairs."""
    return [*data.texts, *(text for text in data.column("text_pair") if text)]


def _errors(parts: Parts) -> list[dict[str, Any]]:
    """Test texts that were got wrong, the surest first; of numbers those furthest off."""
    test = parts.data.test
    if test is None or not parts.with_synthetic:
        return []
    space = parts.task.label_space(parts.data.gold)
    outputs = parts.with_synthetic[0][1]
    codes, truth = space.decide(outputs), space.codes(test.labels)
    if space.kind == "regression":
        wrong, order = np.abs(codes - truth).max(axis=1) > 0, np.abs(codes - truth)[:, 0]
    else:
        wrong = (codes != truth).any(axis=1)
        order = np.where(codes > 0, outputs, 1 - outputs).min(axis=1)
        if space.kind == "classification":
            order = outputs.max(axis=1)
    predicted = space.labels(codes)
    rows = [i for i in np.argsort(-order, kind="stable") if wrong[i]][:_ERRORS_SHOWN]
    return [
        {
            "text": example.text,
            "text_pair": example.text_pair,
            "true": example.label,
            "predicted": predicted[i],
            "probability": None if space.kind == "regression" else round(float(order[i]), 4),
        }
        for i, example in zip(rows, test.take(rows), strict=True)
    ]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
