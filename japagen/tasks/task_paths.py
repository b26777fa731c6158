"""Paths in a task that is not validated yet: relative to its file, and absolute in a run's copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Keys that name nothing but files; others may be the name of a model.
_ALWAYS_PATHS = ("path", "prompts", "user_dictionary", "honorifics")
_SOURCES = (("gold",), ("test",), ("unlabelled",), ("generation", "corpus"))
_KEYS = (
    ("generation", "prompts"),
    ("generator", "model"),
    ("refinement", "generator", "model"),
    ("training", "encoder"),
    ("japanese", "user_dictionary"),
    ("japanese", "honorifics"),
)


def from_directory(raw: dict[str, Any], directory: Path) -> None:
    """Takes a task's paths from its directory; a source may be its path alone."""
    for *parents, last in _SOURCES:
        section = _section(raw, parents)
        if isinstance(section.get(last), str):
            section[last] = {"path": section[last]}
        source = section.get(last)
        if isinstance(source, dict) and isinstance(source.get("path"), str):
            source["path"] = directory / source["path"]
    for entry in _entries(raw):
        if isinstance(entry.get("path"), str):
            entry["path"] = directory / entry["path"]
    for *parents, key in _KEYS:
        section = _section(raw, parents)
        value = section.get(key)
        if isinstance(value, str) and (key in _ALWAYS_PATHS or (directory / value).exists()):
            section[key] = str(directory / value)


def made_absolute(raw: dict[str, Any]) -> dict[str, Any]:
    """Writes a task's paths so that they mean the same wherever it lies; returns the task."""
    places = [*((*source, "path") for source in _SOURCES), *_KEYS]
    for *parents, key in places:
        section = _section(raw, parents)
        value = section.get(key)
        # A name of a model stays one unless it is a file or directory here.
        if isinstance(value, str) and (key in _ALWAYS_PATHS or Path(value).exists()):
            section[key] = str(Path(value).absolute())
    for entry in _entries(raw):
        if isinstance(entry.get("path"), str):
            entry["path"] = str(Path(entry["path"]).absolute())
    return raw


def _entries(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """The sources of synthetic text that a task lists."""
    listed = raw.get("sources")
    found = listed if isinstance(listed, list | tuple) else ()
    return [entry for entry in found if isinstance(entry, dict)]


def _section(raw: dict[str, Any], parents: list[str]) -> dict[str, Any]:
    """A part of a task; an empty one where there is none."""
    found: Any = raw
    for name in parents:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
