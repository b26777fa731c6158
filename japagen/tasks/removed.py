"""Settings that a task file can no longer have: why, and what to use instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A dotted key, or a key with one of its values.
REMOVED = {
    "alignment.method: auto": "alignment.method: auto was removed in 0.2, since most of the "
    "methods that it chose among were; use entropy, the default",
    "alignment.method: dsir_characters": "alignment.method: dsir_characters was removed in 0.2, "
    "since nothing showed that it helps; use dsir",
    "alignment.method: kernel_mean": "alignment.method: kernel_mean was removed in 0.2, since "
    "nothing showed that it helps; use entropy, the default",
    "alignment.method: density_ratio": "alignment.method: density_ratio was removed in 0.2, since "
    "nothing showed that it helps; use entropy, the default",
    "alignment.method: sliced_transport": "alignment.method: sliced_transport was removed in 0.2, "
    "since nothing showed that it helps; use entropy, the default",
    "training.soft_labels": "training.soft_labels was removed in 0.2, since a text now counts for "
    "as much as its label can be relied on; leave it out",
    "mixing.confirm": "mixing.confirm was removed in 0.2, since the share of synthetic text now "
    "follows from the reliability of its labels; leave it out",
    "mixing.confirm_folds": "mixing.confirm_folds was removed in 0.2, since nothing is confirmed "
    "by fine-tuning any more; leave it out",
    "mixing.confirm_minutes": "mixing.confirm_minutes was removed in 0.2, since nothing is "
    "confirmed by fine-tuning any more; leave it out",
    "selection.method": "selection.method was removed in 0.2, since greedy did better than "
    "matching_pursuit; leave it out",
    "selection.diversity": "selection.diversity was removed in 0.2, since nothing showed that it "
    "helps; leave it out",
    "gradient_matching.method": "gradient_matching.method was removed in 0.2, since edits were no "
    "better than the choice of texts; leave it out, or use selection.per_label",
    "gradient_matching.edits": "gradient_matching.edits was removed in 0.2, since edits were no "
    "better than the choice of texts; leave it out, or use selection.per_label",
    "gradient_matching.model": "gradient_matching.model was removed in 0.2, since no figure was "
    "measured with it; leave it out, and the generator's own model is read",
}


def removed_settings(raw: Mapping[str, Any]) -> list[str]:
    """Says of each removed setting in a task that is not validated yet what took its place."""
    return [sentence for setting, sentence in REMOVED.items() if _has(raw, setting)]


def _has(raw: Mapping[str, Any], setting: str) -> bool:
    dotted, _, value = setting.partition(": ")
    *sections, key = dotted.split(".")
    section: Any = raw
    for name in sections:
        section = section.get(name) if isinstance(section, Mapping) else None
    return isinstance(section, Mapping) and key in section and (not value or section[key] == value)
