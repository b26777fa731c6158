"""What each part of the report shows, from metrics and examples to words and figures."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from japagen.examples import HELD_BACK
from japagen.japanese.registers import OTHER, PRESETS, Register
from japagen.messages import localized
from japagen.reporting import charts
from japagen.reporting.learnt import added, not_used
from japagen.reporting.source_view import files
from japagen.reporting.text import Words, undirected

if TYPE_CHECKING:
    from markupsafe import Markup

    from japagen.examples import Dataset, Example

_SAMPLES_A_LABEL = 5
_EXAMPLES_A_REASON = 3
_STEPS = ("requested", "failed", "generated", "rewritten", "synthesised", "rejected", "kept")
Rows = list[tuple[str, ...]]
ChartRows = list[tuple[str, list[float | None]]]


def safe(svg: str) -> Markup:
    """Marks our own drawing, whose texts are escaped already, as HTML."""
    from markupsafe import Markup

    return Markup(svg)


def bars(name: str, title: str, rows: ChartRows, show: Any) -> Markup:
    """Draws named rows; names lose direction marks, which SVG text cannot isolate."""
    return safe(charts.bars(name, title, [(undirected(n), v) for n, v in rows], show))


def tiles(metrics: Mapping[str, Any], words: Words) -> list[dict[str, Any]]:
    """The figures at the top: name, value, a note, and whether the value is missing."""
    scores, counts = metrics.get("scores") or {}, metrics["counts"]
    led, other = led_by(scores)[:2] if scores else ("macro_f1", "accuracy")
    arm, gold = scores.get("with_synthetic") or {}, scores.get("gold_only") or {}
    registers = metrics.get("registers") or {}
    leakage = metrics.get("leakage") or {}

    def against(name: str) -> str:
        if unused:
            return words("tile.trained_on_gold")
        return words("tile.gold_only", value=words.number(gold[name])) if gold else ""

    unused = not_used(metrics)
    if unused:
        gold = {}
    left_out = unused or added(metrics) == "unlabelled"
    seconds = sum((metrics.get("seconds") or {}).values()) or None
    kept, made = counts["kept"], counts["generated"]
    share = words.share(kept / max(made, 1))
    of_made = words("tile.of_generated", n=words.count(made), share=share) if made else ""
    of_made = words("tile.unused", n=words.count(made)) if left_out else of_made
    found = [
        (led, arm.get(led), words.number, against(led)),
        (other, arm.get(other), words.number, against(other)),
        ("kept", kept, words.count, of_made),
        ("match", registers.get("match"), words.share, words("tile.match_note")),
        ("leakage", leakage.get("max_overlap"), words.share, words("tile.leakage_note")),
        ("time", seconds, words.duration, _charged(metrics, words)),
    ]
    arm_name = "tile.of_model" if unused else "tile.metric"
    return [
        {
            "name": words(arm_name, metric=words(name), added=words(f"added.{added(metrics)}"))
            if name in (led, other)
            else words("tile.passed" if left_out and name == "kept" else f"tile.{name}"),
            "value": show(v),
            "note": note,
            "missing": v is None,
        }
        for name, v, show, note in found
    ]


def _charged(metrics: Mapping[str, Any], words: Words) -> str:
    """What the generator cost, beside the time."""
    yen = ((metrics.get("economics") or {}).get("run") or {}).get("generator_yen")
    return words("tile.no_price") if yen is None else words("tile.charged", yen=words.count(yen))


def led_by(scores: Mapping[str, Any]) -> list[str]:
    """The metrics, the one that the verdict goes by first."""
    lead: str = scores["metric"]
    return [lead, *(name for name in scores["metrics"] if name != lead)]


def flow(counts: Mapping[str, int], words: Words) -> dict[str, Any]:
    """How many texts each step left."""
    steps = [s for s in _STEPS if counts["requested"] or s not in ("requested", "failed")]
    steps = [s for s in steps if s != "synthesised" or counts.get("synthesised")]
    rows: ChartRows = [(words(f"counts.{step}"), [counts[step]]) for step in steps]
    # A run of an earlier version relabelled nothing.
    relabelled = ("relabelled",) if "relabelled" in counts else ()
    names = (*steps, *relabelled, "gold", "unlabelled", "test")
    return {
        "chart": bars("flow", words("counts"), rows, words.count),
        "rows": [(words(f"counts.{name}"), words.count(counts[name])) for name in names],
    }


def per_label(metrics: Mapping[str, Any], words: Words) -> Rows:
    """Counts, mean trust in the label and share of weight of each label."""
    return [
        (
            label,
            *(words.count(row[name]) for name in ("gold", "generated", "kept")),
            words.share(row.get("label_trust")),
            words.share(row["weight_share"]),
        )
        for label, row in metrics["per_label"].items()
    ]


def rejections(metrics: Mapping[str, Any], dataset: Dataset, words: Words) -> list[dict[str, Any]]:
    """Each reason with its count and a few examples drawn at random."""
    by_filter: dict[str, list[int]] = {}
    for index, row in enumerate(dataset.column("rejected")):
        if row:
            by_filter.setdefault(row["filter"], []).append(index)
    return [
        {
            "row": (words.name("filter", name), words.count(count)),
            "examples": [
                _rejected(example, words)
                for example in _drawn(
                    dataset, by_filter.get(name, []), _EXAMPLES_A_REASON, metrics["task"]["seed"]
                )
            ],
        }
        for name, count in metrics["rejections"].items()
    ]


def _rejected(example: Example, words: Words) -> dict[str, str]:
    found = example.rejected
    assert found is not None
    texts = [example.text] if example.text_pair is None else [example.text, example.text_pair]
    return {
        "text": "\n".join(texts),
        "value": words.general(found.value),
        "threshold": words.general(found.threshold),
        "detail": _why(example, words),
    }


def _why(example: Example, words: Words) -> str:
    """The detail of a rejection; of one for its register, in the reader's language."""
    assert example.rejected is not None
    if example.rejected.filter in ("truncated", "failed"):
        # Said by japagen itself, not by the text.
        return localized(example.rejected.detail, words.language)
    if example.rejected.filter not in HELD_BACK:
        return example.rejected.detail
    asked, seen = example.register_asked, example.register_seen
    return words("rejections.register", asked=_register(asked, words), seen=_register(seen, words))


def _drawn(dataset: Dataset, indices: Sequence[int], most: int, seed: int) -> list[Example]:
    """A random sample, in the dataset's order."""
    chosen = random.Random(seed).sample(indices, min(most, len(indices)))
    return list(dataset.take(sorted(chosen))) if chosen else []


def samples(
    metrics: Mapping[str, Any], dataset: Dataset, words: Words
) -> list[tuple[str, list[dict[str, str | None]]]]:
    """Kept examples of each label, drawn at random, labels in the task's order."""
    task = metrics["task"]
    by_label: dict[str, list[int]] = {label: [] for label in task["labels"]}
    labels = dataset.labels
    for index in np.flatnonzero(dataset.kept_mask).tolist():
        by_label.setdefault(label_name(labels[index], task["labels"]), []).append(index)
    weights = dict(zip(dataset.column("id"), dataset.weights, strict=True))
    return [
        (
            label,
            [
                {
                    "text": example.text,
                    "text_pair": example.text_pair,
                    "weight": words.number(weights[example.id]),
                    "asked": _register(example.register_asked, words),
                    "seen": _register(example.register_seen, words),
                }
                for example in _drawn(dataset, indices, _SAMPLES_A_LABEL, task["seed"])
            ],
        )
        for label, indices in by_label.items()
        if indices
    ]


def label_text(label: Any) -> str:
    """A class, a number or a list of classes as text."""
    if isinstance(label, float):
        return f"{label:.2f}".rstrip("0").rstrip(".")
    return "、".join(label) if isinstance(label, list) else "—" if label is None else str(label)


def label_name(label: Any, names: Mapping[str, str]) -> str:
    """What an example is listed under: of a number the nearest anchor."""
    if isinstance(label, float):
        return min(names, key=lambda name: abs(float(name) - label))
    return label_text(label)


def _register(register: Register | None, words: Words) -> str:
    return "—" if register is None else words.name("register", register.name)


def registers(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """Shares of each register in gold, as asked for, and as seen before and after control."""
    found = metrics.get("registers")
    if not found:
        return None
    sides = [side for side in ("gold", "asked", "before", "seen") if found.get(side)]
    names = [n for n in (*PRESETS, OTHER) if n != OTHER or any(n in found[s] for s in sides)]
    rows: ChartRows = [
        (words.name("register", n), [found[s].get(n, 0.0) for s in sides]) for n in names
    ]
    return {
        "series": [words(f"registers.{side}") for side in sides],
        "chart": bars("registers", words("registers.chart"), rows, words.share),
        "rows": [(name, *map(words.share, values)) for name, values in rows],
        "held": _held(found, words),
        "per_label": [
            (label, _label_registers(side, names, words))
            for label, side in (found.get("per_label") or {}).items()
        ],
        "names": [words.name("register", name) for name in names],
    }


def _held(found: Mapping[str, Any], words: Words) -> Rows:
    """How far the registers were from what was asked, before and after they were held to it."""
    return [
        (words(f"registers.{name}"), show(found.get(f"{name}_before")), show(found.get(name)))
        for name, show in (("match", words.share), ("distance", words.number))
    ]


def _label_registers(found: Mapping[str, Any], names: Sequence[str], words: Words) -> Rows:
    return [
        (words(f"registers.{side}"), *(words.share(found[side].get(n, 0.0)) for n in names))
        for side in ("asked", "before", "seen")
    ]


def leakage(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """Overlap of kept texts with test texts, and the closest pair."""
    found = metrics.get("leakage")
    if not found:
        return None
    worst = found.get("worst") or {}
    return {
        "rows": [
            (words(f"leakage.{name}"), words.share(found[f"{name}_overlap"]))
            for name in ("mean", "max")
        ],
        "worst": worst
        and [
            (words("leakage.synthetic"), worst["text"]),
            (words("leakage.test"), worst["test_text"] or words("none")),
        ],
    }


def cost(metrics: Mapping[str, Any], words: Words) -> Rows:
    """What generation used."""
    found = metrics.get("cost") or {}
    return [
        (
            words.name("cost", name),
            _amount(name, value) or words.count(value),
        )
        for name, value in found.items()
    ]


def _amount(name: str, value: float) -> str:
    """What is not counted but measured, to the places that matter; else an empty string."""
    if name.startswith("yen"):
        return f"{value:,.2f}"
    return f"{value:,.1f}" if name.endswith(("_seconds", "_per_kept")) else ""


def seconds(metrics: Mapping[str, Any], words: Words) -> Rows:
    """Time of each stage and in all."""
    found = metrics.get("seconds") or {}
    rows: Rows = [(words.stage(stage), f"{value:,.1f}") for stage, value in found.items()]
    return [*rows, (words("time.total"), f"{sum(found.values()):,.1f}")] if rows else []


def reproduce(metrics: Mapping[str, Any], words: Words) -> Rows:
    """What a second run needs to be like the first."""
    task, generator = metrics["task"], metrics.get("generator")
    rows: list[tuple[str, str | None]] = [
        (words("text_type"), task.get("text_type") or words("none")),
        (words("seed"), str(task["seed"])),
        (words("encoder"), metrics.get("encoder")),
        (words("dictionary"), metrics.get("dictionary")),
    ]
    if metrics.get("dataset"):
        version = metrics["dataset"]
        rows.append((words("dataset.hash"), version["hash"]))
        rows.append((words("dataset.parent"), version["parent"] or words("none")))
    rows += [(label, text or words("no_description")) for label, text in task["labels"].items()]
    if generator:
        rows.append((words("generator"), generator["name"]))
        rows.append((words("generator.identity"), generator["identity"]))
    rows += [(words("synthetic_file"), name) for name in files(metrics)]
    return [(name, value or words("not_measured")) for name, value in rows]


def terms(metrics: Mapping[str, Any], words: Words) -> Rows:
    """What may be done with the generator's text; nothing when a file brought it."""
    generator = metrics.get("generator")
    if not generator:
        return []
    found = generator["terms"]
    return [
        (words("generator"), generator["name"]),
        (words("terms.summary"), found["summary"]),
        (words("terms.url"), found.get("url") or words("none")),
        (words("terms.may_train"), words.yes_no(found.get("may_train"))),
        (words("terms.may_publish"), words.yes_no(found.get("may_publish"))),
    ]
