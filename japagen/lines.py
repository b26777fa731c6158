"""Texts to look at or to classify: a file of examples, any other file's lines, or a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from japagen.errors import JapagenError
from japagen.formats import is_known, read_examples, wrong_encoding


def read_texts(file: Path | None, stream: Iterable[str]) -> Iterator[str]:
    """Yields the texts of a CSV, TSV, JSONL or Parquet file, or the lines of any other file.

    Args:
        file: The file; ``-`` or None for the stream.
        stream: Read line by line, so that answers can come before it ends.

    Raises:
        JapagenError: If the file is missing, is a directory, or is not UTF-8.
    """
    if file is None or str(file) == "-":
        yield from (line.rstrip("\r\n") for line in stream)
        return
    if is_known(file):
        yield from read_examples(file).texts
        return
    if not file.is_file():
        raise JapagenError(f"There is no file at {file}.", "Check the path.")
    try:
        with file.open(encoding="utf-8-sig") as lines:
            yield from (line.rstrip("\n") for line in lines)
    except UnicodeDecodeError:
        raise wrong_encoding(file, file.read_bytes(), "utf-8", setting=False) from None
