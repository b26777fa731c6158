"""Blocks on disk: sparse count matrices in one .npz file with the ids of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from japagen.alignment.blocks import Block, Csr

# Fixed, so that where blocks begin does not depend on how many workers count them.
BLOCK_ROWS, BLOCK_BYTES = 16_384, 8_000_000
_MATRICES = ("words", "pos", "endings")
_KEYS = ("lemmas", "pairs", "ending_keys")
_ENCODING = ("utf-8", "surrogatepass")


def spans(texts: pa.ChunkedArray) -> list[tuple[int, int]]:
    """Cuts texts into blocks of at most 16,384 rows and, beyond one row, 8 MB of UTF-8."""
    sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
    ends = np.cumsum(sizes, dtype=np.int64)
    found = []
    start, read = 0, 0
    while start < len(ends):
        full = int(np.searchsorted(ends, read + BLOCK_BYTES, side="right"))
        stop = min(max(full, start + 1), start + BLOCK_ROWS, len(ends))
        found.append((start, stop))
        start, read = stop, int(ends[stop - 1])
    return found


def save_block(path: Path, block: Block, ids: Sequence[str]) -> None:
    """Writes a block with the ids of its rows, in order."""
    arrays: dict[str, Any] = {"scripts": block.scripts, "lengths": block.lengths}
    for name in _MATRICES:
        for part, values in getattr(block, name)._asdict().items():
            arrays[f"{name}.{part}"] = values
    bases = [base for _, base, _ in block.spellings]
    texts = {"ids": ids, "bases": bases, **{name: getattr(block, name) for name in _KEYS}}
    for name, strings in texts.items():
        arrays[f"{name}.text"] = np.frombuffer("".join(strings).encode(*_ENCODING), dtype=np.uint8)
        arrays[f"{name}.lengths"] = np.array([len(text) for text in strings], dtype=np.int64)
    numbers = [(column, count) for column, _, count in block.spellings]
    arrays["spellings"] = np.array(numbers, dtype=np.int64).reshape(-1, 2)
    np.savez(path, **arrays)


def load_block(path: Path) -> tuple[Block, list[str]]:
    """Returns a block and the ids of its rows."""
    with np.load(path) as arrays:
        texts: dict[str, Any] = {
            name: _unpacked(arrays[f"{name}.text"].tobytes(), arrays[f"{name}.lengths"])
            for name in ("ids", "bases", *_KEYS)
        }
        ids, bases = texts.pop("ids"), texts.pop("bases")
        columns, counts = arrays["spellings"].T.tolist()
        matrices: dict[str, Any] = {
            name: Csr(*(arrays[f"{name}.{part}"] for part in Csr._fields)) for name in _MATRICES
        }
        block = Block(
            scripts=arrays["scripts"],
            lengths=arrays["lengths"],
            spellings=list(zip(columns, bases, counts, strict=True)),
            **matrices,
            **texts,
        )
    return block, ids


def _unpacked(data: bytes, lengths: npt.NDArray[np.int64]) -> list[str]:
    text = data.decode(*_ENCODING)
    ends = np.cumsum(lengths).tolist()
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]
