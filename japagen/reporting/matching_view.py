"""What the report shows of texts that were changed towards gold's gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from japagen.reporting.text import Words


def matching(metrics: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """How many texts were changed, what that came to, and a few of them; None without any."""
    found = metrics.get("gradient_matching")
    if not found:
        return None
    texts, edited = found["texts"], found["edited"]
    generator = metrics.get("generator") or {}
    rows = [
        ("method", words.name("matching.method", found["method"])),
        ("model", found["model"]),
        ("texts", words.count(texts)),
        (
            "edited",
            words("matching.of", n=words.count(edited), share=words.share(edited / max(texts, 1))),
        ),
        ("refused", words.count(found["refused"])),
        ("words", "—" if found["words"] is None else f"{found['words']:.1f}"),
        ("loss", _change(found["loss_before"], found["loss_after"], words)),
        (
            "perplexity",
            "—"
            if found["perplexity"] is None
            else words(
                "matching.times",
                median=f"{found['perplexity']:.2f}",
                most=f"{found['most_perplexity']:g}",
            ),
        ),
    ]
    # The generator's own terms stand in their own section.
    if found["model"] != generator.get("name"):
        rows.append(("terms", f"{found['terms']['summary']} {found['terms']['url']}".strip()))
    return {
        "facts": [(words(f"matching.{name}"), value) for name, value in rows],
        "examples": found["examples"],
    }


def _change(before: float | None, after: float | None, words: Words) -> str:
    return f"{words.number(before)} → {words.number(after)}"
