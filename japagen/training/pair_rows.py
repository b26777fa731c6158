"""Pairs of texts as rows for an encoder that reads the two one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

_SECOND = "second_"
_LEAST = 4


def encode_apart(
    tokenizer: Any, firsts: Sequence[str], seconds: Sequence[str], max_length: int
) -> list[dict[str, list[int]]]:
    """Tokenises both texts of each pair, each cut at ``max_length``, without padding."""
    sides = [
        tokenizer(list(texts), truncation=True, max_length=max_length)
        for texts in (firsts, seconds)
    ]
    return [
        {
            prefix + k: side[k][i]
            for prefix, side in zip(("", _SECOND), sides, strict=True)
            for k in side
        }
        for i in range(len(firsts))
    ]


def collate_apart(
    tokenizer: Any, rows: Sequence[dict[str, list[int]]], tensors: Literal["pt", "np"] = "pt"
) -> dict[str, Any]:
    """Pads rows of `encode_apart` alike: all first texts, then all second ones.

    Args:
        tokenizer: What they were encoded with.
        rows: At least one.
        tensors: Of torch or of numpy.
    """
    names = [name for name in rows[0] if not name.startswith(_SECOND)]
    texts = [{k: row[prefix + k] for k in names} for prefix in ("", _SECOND) for row in rows]
    # Even where every text is empty, there are as many tokens as a comparison looks for.
    return dict(tokenizer.pad(texts, return_tensors=tensors, pad_to_multiple_of=_LEAST))
