"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from japagen.errors import DamagedError, JapagenError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path that replaces ``path`` when the block ends without an error."""
    if path.is_dir():
        raise JapagenError(
            f"Expected a file to write, found the directory {path}.", "Give the path of a file."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        # A failed write names no file, and the temporary one is none of the user's.
        if error.filename in (None, name):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yields a temporary directory that replaces ``path`` when the block ends without an error."""
    if path.is_file():
        raise JapagenError(
            f"Expected a directory to write, found the file {path}.", "Give another path."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except Exception as error:
        # The writers of weights and tokenizers, in Rust, say it in words alone.
        if isinstance(error, OSError) or "No space left" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Reads what `write_json` wrote.

    Raises:
        DamagedError: If the file is not whole.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(path) from error


def write_array(path: Path, array: npt.NDArray[np.float64]) -> None:
    """Writes an array as .npy, atomically."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_array(path: Path) -> npt.NDArray[np.float64]:
    """Reads what `write_array` wrote.

    Raises:
        DamagedError: If the file is not whole.
    """
    try:
        array: npt.NDArray[np.float64] = np.load(path, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise DamagedError(path) from error
    return array


def digest(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of a JSON-ready value."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
