"""The sources of synthetic text side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from japagen.reporting.text import Words, undirected

Rows = list[tuple[str, ...]]


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
    """Gold texts a label that a source's texts are worth, with the interval where there is one."""
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
