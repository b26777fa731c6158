"""The record browser: every text with all that is known of it, packed into the report."""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from japagen.data.summary import RunSummary
from japagen.japanese.registers import Register
from japagen.reporting.sections_overview import label_text
from japagen.reporting.text import View, Words

if TYPE_CHECKING:
    from japagen.data.dataset import Dataset

MOST = 20_000
"""Texts that a page carries; of more a random sample."""
# How the browser can sort: a column, and whether the largest come first.
_ORDERS = ("", "-weight", "weight", "confidence", "-confidence", "-length", "length")
_STATES = ("kept", "rejected")
# What is told of a text, in the order of the page's script.
_TITLES = (
    "rejected",
    "detail",
    "label_asked",
    "register",
    "confidence",
    "weight",
    "source",
    "generator",
    "template",
    "seed",
    "round",
    "shots",
    "seed_row",
    "derived",
    "parent",
    "children",
    "overlap",
    "copied",
    "personal",
    "id",
    "prompt",
    "answer",
)


@dataclass(frozen=True)
class Provenance:
    """What a run knows of its texts beside the dataset.

    Attributes:
        requests: Request id to ``prompt``, ``answer``, ``template``, ``seed``, ``generator`` and
            ``shots``, the number of gold texts that the prompt showed.
        audits: Id of an accepted text to ``gold_overlap``, ``copied`` and ``personal_data``.
    """

    requests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    audits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def pack(dataset: Dataset, known: Provenance, seed: int) -> str:
    """Packs texts for the page's script: JSON by column, compressed, in letters that HTML lets be.

    Of more than `MOST` texts a sample by ``seed``.
    """
    if len(dataset) > MOST:
        rows = sorted(random.Random(seed).sample(range(len(dataset)), MOST))
        weights, dataset = dataset.weights[rows], dataset.take(rows)
    else:
        weights = dataset.weights
    ids, asked = dataset.column("id"), dataset.column("request_id")
    shown = dict.fromkeys(key for key in asked if key in known.requests)
    places = {key: place for place, key in enumerate(shown)}
    rejected = [row or {} for row in dataset.column("rejected")]
    audits = [known.audits.get(id_, {}) for id_ in ids]
    columns: dict[str, Sequence[Any]] = {
        "id": ids,
        "text": dataset.texts,
        "pair": dataset.column("text_pair"),
        "label": [label_text(label) for label in dataset.labels],
        "label_asked": [label and label_text(label) for label in dataset.column("label_asked")],
        "source": dataset.column("source"),
        "register": [_register(row) for row in dataset.column("register_seen")],
        "register_asked": [_register(row) for row in dataset.column("register_asked")],
        "reason": [row.get("filter", "") for row in rejected],
        "value": [row.get("value") for row in rejected],
        "threshold": [row.get("threshold") for row in rejected],
        "detail": [row.get("detail", "") for row in rejected],
        "weight": [round(float(weight), 4) for weight in weights],
        "confidence": [round(value, 4) for value in dataset.column("weight_label")],
        "derived": dataset.column("derived"),
        "parent": dataset.column("parent_id"),
        "round": dataset.column("round"),
        "seed_row": dataset.column("seed_row"),
        "overlap": [row.get("gold_overlap") for row in audits],
        "copied": [row.get("copied") for row in audits],
        "personal": [row.get("personal_data") for row in audits],
        "request": [places.get(key, -1) for key in asked],
    }
    packed = {"columns": columns, "requests": [known.requests[key] for key in places]}
    content = json.dumps(packed, ensure_ascii=False, separators=(",", ":"))
    # The time is left out: the same texts give the same page.
    squeezed = gzip.compress(content.encode("utf-8", "surrogatepass"), mtime=0)
    return base64.b64encode(squeezed).decode("ascii")


def browser(summary: RunSummary, dataset: Dataset, words: Words) -> View | None:
    """What the browser can be filtered and sorted by; None without texts.

    Returns:
        ``filters``: column, title and options (value and name); ``orders``; ``titles`` of what is
        told of a text; ``note``.
    """
    if not len(dataset):
        return None
    reasons = [row["filter"] if row else "" for row in dataset.column("rejected")]
    labels = [label_text(label) for label in dataset.labels]
    filters: list[tuple[str, Iterable[str], Callable[[str], str]]] = [
        ("state", _STATES, lambda code: words(f"counts.{code}")),
        ("label", dict.fromkeys([*summary.task.labels, *labels]), str),
        ("source", dict.fromkeys(dataset.column("source")), str),
        (
            "register",
            dict.fromkeys(map(_register, dataset.column("register_seen"))),
            lambda code: words.name("register", code),
        ),
        ("reason", dict.fromkeys(filter(None, reasons)), lambda code: words.name("filter", code)),
    ]
    shown = min(len(dataset), MOST)
    key = "records.sampled" if shown < len(dataset) else "records.note"
    return {
        "filters": [
            (column, words(f"records.{column}"), [(code, name(code)) for code in codes if code])
            for column, codes, name in filters
        ],
        "orders": [(code, words(f"records.order.{code or 'none'}")) for code in _ORDERS],
        "titles": _TITLES,
        "note": words(key, n=words.count(shown), all=words.count(len(dataset))),
    }


def _register(row: Mapping[str, Any] | None) -> str:
    return Register.from_dict(dict(row)).name if row else ""
