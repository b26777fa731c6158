"""Texts or pairs to classify: a file of examples, any other file's lines, or a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from japagen.errors import JapagenError
from japagen.storage.formats import is_known, stream_examples, wrong_encoding


def read_texts(file: Path | None, stream: Iterable[str]) -> Iterator[str]:
    """Yields the texts of a CSV, TSV, JSONL or Parquet file, or the lines of any other file.

    Whatever the file, it is read a few rows at a time.

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
        yield from (example.text for example in stream_examples(file))
        return
    if not file.is_file():
        raise JapagenError(f"There is no file at {file}.", "Check the path.")
    try:
        with file.open(encoding="utf-8-sig") as lines:
            yield from (line.rstrip("\n") for line in lines)
    except UnicodeDecodeError:
        raise wrong_encoding(file, file.read_bytes(), "utf-8", setting=False) from None


def read_pairs(file: Path | None, stream: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yields pairs: a file's columns text and text_pair, or lines with a tab in between.

    Args:
        file: As of `read_texts`.
        stream: As of `read_texts`.

    Raises:
        JapagenError: As `read_texts`; if a row or line holds one text alone.
    """
    if file is not None and is_known(file):
        for number, example in enumerate(stream_examples(file), start=1):
            if not example.text_pair:
                raise JapagenError(
                    f"Expected a pair of texts on row {number} of {file}, found one text.",
                    "Name the second texts' column text_pair.",
                )
            yield example.text, example.text_pair
        return
    for number, line in enumerate(read_texts(file, stream), start=1):
        first, tab, second = line.partition("\t")
        if not tab:
            raise JapagenError(
                f"Expected two texts with a tab between them on line {number}, found "
                f"'{line[:30]}'.",
                "This classifier was trained on pairs.",
            )
        yield first, second
