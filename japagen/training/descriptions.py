"""What labels mean, as texts that an encoder can read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_BETWEEN_PHRASES = re.compile(r"[、。，,;；\n]+")


def label_phrases(
    labels: Sequence[str], descriptions: Mapping[str, str]
) -> tuple[list[str], list[int]]:
    """Cuts each label's description into phrases; a label without one gives its name.

    A list of what a label covers is several short texts that belong to it. One vector of the
    whole list stands between them, and near none of the texts.

    Args:
        labels: Every label.
        descriptions: Label to what it covers, as ``請求額、明細、支払い方法``.

    Returns:
        The phrases, and the index of each one's label.
    """
    phrases, indices = [], []
    for index, label in enumerate(labels):
        parts = [p.strip() for p in _BETWEEN_PHRASES.split(descriptions.get(label, ""))]
        found = list(dict.fromkeys(p for p in parts if p)) or [label]
        phrases += found
        indices += [index] * len(found)
    return phrases, indices
