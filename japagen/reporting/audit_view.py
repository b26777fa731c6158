"""What the report shows of privacy, memory of gold and bias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from japagen.reporting.text import Words
from japagen.reporting.views import Rows

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
