"""Sections of the report on texts, rounds and the audit."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from japagen.data.dataset import HELD_BACK
from japagen.i18n import localized
from japagen.japanese.registers import OTHER, PRESETS, Register
from japagen.reporting import charts
from japagen.reporting.text import Words, added, not_used, undirected

if TYPE_CHECKING:
    from markupsafe import Markup

    from japagen.data.dataset import Dataset, Example


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


_MISSING_SHOWN = 20


def loop(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """Rounds, what was missing after each, concepts and cases; None without any."""
    found, coverage = metrics.get("rounds"), metrics.get("coverage")
    if not found and not coverage:
        return None
    rounds = found["rounds"] if found else []
    drawn: ChartRows = [
        (_round(row, words), [row["distances"]["words"]["value"]])
        for row in rounds
        if row["distances"]
    ]
    return {
        "rounds": [_figures(row, words) for row in rounds],
        "chart": bars("rounds", words("loop.chart"), drawn, words.number) if drawn else None,
        "ended": _ended(found, words) if found else "",
        "missing": [(_round(row, words), rows) for row in rounds if (rows := _missing(row, words))],
        "covered": _covered(coverage or {}, words),
    }


def _round(row: Mapping[str, Any], words: Words) -> str:
    return words("loop.round", n=row["round"])


def _figures(row: Mapping[str, Any], words: Words) -> tuple[str, ...]:
    distances = [row["distances"].get(name) for name in ("words", "pos")]
    return (
        _round(row, words),
        *(words.count(row[name]) for name in ("requests", "kept")),
        words.count(sum(row["named"].values())),
        *(
            f"{words.number(d['value'])} ± {words.number(d['error'])}" if d else words("none")
            for d in distances
        ),
    )


def _ended(found: Mapping[str, Any], words: Words) -> str:
    done = len(found["rounds"])
    early = found["stopped"] and done < found["planned"]
    return words("loop.stopped", done=done, planned=found["planned"]) if early else ""


def _missing(row: Mapping[str, Any], words: Words) -> Rows:
    rows = [(label, each) for label, items in row["missing"].items() for each in items]
    rows.sort(key=lambda pair: pair[1]["synthetic"] - pair[1]["target"])
    return [
        (
            label,
            words.name("knowledge", each["kind"]),
            each["item"],
            words.share(each["target"]),
            words.share(each["synthetic"]),
        )
        for label, each in rows[:_MISSING_SHOWN]
    ]


def _covered(coverage: Mapping[str, Any], words: Words) -> Rows:
    return [
        (
            label,
            words.name("knowledge", row["kind"]),
            row["item"],
            words.share(row["wanted"]),
            words.share(row["share"]),
            words.count(row["asked"]),
            words.count(row["answered"]),
            "—" if row["met"] is None else words.count(row["met"]),
        )
        for label, found in coverage.items()
        for row in found["covered"]
    ]


_MEMORY = (
    ("mean_overlap", "share"),
    ("max_overlap", "share"),
    ("median_copied", "count"),
    ("longest_copied", "count"),
)


def privacy(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """Personal data by kind, and how much of gold the accepted texts repeat."""
    found = metrics.get("audit")
    if not found:
        return None
    return {
        "personal": _personal(found.get("personal_data"), words),
        "memory": _memory(found.get("memorization"), words),
    }


def _personal(found: Mapping[str, Any] | None, words: Words) -> dict[str, Any] | None:
    if not found:
        return None
    sides = ("synthetic", "gold")
    kinds = dict.fromkeys(kind for side in sides for kind in found[side])
    return {
        "action": words.name("personal.action", found["action"]),
        "rows": [
            (words("personal.texts"), *(words.count(found["texts"][side]) for side in sides)),
            *(
                (words.name("personal", k), *(words.count(found[s].get(k, 0)) for s in sides))
                for k in kinds
            ),
        ],
    }


def _memory(found: Mapping[str, Any] | None, words: Words) -> dict[str, Any] | None:
    if not found:
        return None
    rows: Rows = [
        (words(f"memory.{name}"), getattr(words, show)(found[name])) for name, show in _MEMORY
    ]
    long = words("memory.long_copies", n=found["long_copy"])
    return {
        "rows": [*rows, (long, words.count(found["long_copies"]))],
        "worst": [{**row, "characters": words.count(len(row["copied"]))} for row in found["worst"]],
    }


def bias(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """The skews worth a look, and how often each group is named."""
    found = (metrics.get("audit") or {}).get("bias")
    if not found:
        return None

    def group(row: Mapping[str, Any]) -> str:
        return words.name("group", f"{row['category']}.{row['group']}")

    def label(row: Mapping[str, Any]) -> str:
        return row["label"] or words("bias.all")

    return {
        "note": words(
            "bias.note",
            tests=words.count(found["tests"]),
            rate=words.share(found["false_discovery_rate"]),
            synthetic=words.count(found["texts"]["synthetic"]),
            gold=words.count(found["texts"]["gold"]),
        ),
        "skews": [
            (
                group(row),
                label(row),
                words(f"bias.{row['kind']}"),
                words.share(row["share"]),
                words.share(row["against"]),
                f"{row['p']:.2g}",
            )
            for row in found["skews"]
        ],
        "rows": [
            (group(row), label(row), words.share(row["synthetic"]), words.share(row["gold"]))
            for row in found["rows"]
        ],
    }


def sources(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """Every source's figures in a column of its own; None where the generator is alone."""
    found = listed(metrics)
    if not any(source["kind"] == "file" for source in found):
        return None
    measures: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "kind": lambda s: words(f"sources.{s['kind']}"),
        "origin": lambda s: undirected(s["origin"]) or words("not_measured"),
        "texts": lambda s: words.count(s["texts"]),
        "kept": lambda s: _kept(s, words),
        "relabelled": lambda s: words.count(s["relabelled"]),
        "label_trust": lambda s: words.share(s["label_trust"]),
        "distinct_2": lambda s: _interval(s["distinct_2"], words),
        "distance": lambda s: words.number(s["distance"]),
        "yen": lambda s: words.count(s["yen"]),
        "tokens": lambda s: words.count(s["tokens"]),
        "seconds": lambda s: words.duration(s["seconds"]),
        "used": lambda s: words("sources.yes" if s["value"]["used"] else "sources.no"),
        "share": lambda s: words.share(s["value"]["share"]),
        "worth": lambda s: worth_text(s["value"], words),
    }
    names = [undirected(source["name"]) for source in found]
    rows: Rows = [
        (words(f"sources.{name}"), *(show(source) for source in found))
        for name, show in measures.items()
    ]
    return {
        "heads": [words("measure"), *names],
        "rows": rows,
        "filter_heads": [words("reason"), *names],
        "filters": _filters(found, words),
        "reasons": [
            (source["name"], reason_text(source["value"]["reason"], words)) for source in found
        ],
    }


def listed(metrics: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The sources that metrics.json has."""
    found: Sequence[Mapping[str, Any]] = metrics.get("sources") or ()
    return found


def files(metrics: Mapping[str, Any]) -> list[str]:
    """The names of the files that texts were read from."""
    return [source["origin"] for source in listed(metrics) if source["kind"] == "file"]


def worth_text(value: Mapping[str, Any], words: Words) -> str:
    """What a source is worth in gold texts per label, with the interval if there is one."""
    if value["texts_worth"] is None:
        return words("not_measured")
    texts = _rounded(value["texts_worth"])
    if value["low"] is None and value["high"] is None:
        return texts
    low, high = (
        words("sources.open") if value[end] is None else _rounded(value[end])
        for end in ("low", "high")
    )
    return f"{texts} [{low}, {high}]"


def reason_text(code: str, words: Words) -> str:
    """Why a source is used, or is not."""
    return words.name("value", code, words.name("mix", code))


def _rounded(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0").replace("-", "−")


def _kept(source: Mapping[str, Any], words: Words) -> str:
    if not source["texts"]:
        return words.count(source["kept"])
    share = words.share(source["kept"] / source["texts"])
    return f"{words.count(source['kept'])} ({share})"


def _filters(found: Sequence[Mapping[str, Any]], words: Words) -> Rows:
    """How many texts of each source every filter turned down, most in all first."""
    names = dict.fromkeys(name for source in found for name in source["rejected"])
    counts = {name: [source["rejected"].get(name, 0) for source in found] for name in names}
    return [
        (words.name("filter", name), *map(words.count, row))
        for name, row in sorted(counts.items(), key=lambda item: -sum(item[1]))
    ]


def _interval(found: Mapping[str, float] | None, words: Words) -> str:
    if found is None:
        return words("not_measured")
    value, low, high = (words.number(found[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
