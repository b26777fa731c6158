"""Files in YAML: tasks, read, resolved, overridden and written, and lists of honorifics."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from japagen.data.files import parse_yaml
from japagen.errors import JapagenError
from japagen.japanese.register.keigo import check_honorifics
from japagen.japanese.registers import Keigo

_START = "Write one with: japagen init NAME --labels a,b,c"


def read_mapping(path: Path) -> dict[str, Any]:
    """Reads a task file.

    Raises:
        JapagenError: If it is missing, not UTF-8, not YAML, or holds no keys.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise JapagenError(f"There is no task file at {path}.", _START) from None
    except IsADirectoryError:
        raise JapagenError(
            f"Expected a task file, found the directory {path}.", "Give the YAML file in it."
        ) from None
    except PermissionError as error:
        raise JapagenError(
            f"Cannot read {path}: {error.strerror}.", "Check its permissions."
        ) from None
    except UnicodeDecodeError:
        raise JapagenError(
            f"Expected {path} to be UTF-8 text, found bytes that are not.", "Save it as UTF-8."
        ) from None
    raw = parse_yaml(text, str(path))
    if not isinstance(raw, dict):
        found = {type(None): "nothing", list: "a list"}.get(type(raw), f"'{str(raw)[:40]}'")
        raise JapagenError(
            f"Expected {path} to hold keys such as name and labels, found {found}.", _START
        )
    return raw


def read_honorifics(path: Path) -> dict[str, Keigo]:
    """Reads a YAML file of words and classes.

    Raises:
        JapagenError: If it cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise JapagenError(
            f"Expected a YAML list of honorifics in UTF-8 at '{path}', found: {error}.",
            "Check the path; one word per line, for example  玉章: sonkeigo",
        ) from None
    raw = parse_yaml(text, f"'{path}'", "Write one word per line, for example  玉章: sonkeigo")
    return check_honorifics(raw if raw is not None else {}, f"'{path}'")


# Keys that name nothing but files; others may be the name of a model.
_ALWAYS_PATHS = (
    "path",
    "documents",
    "examples",
    "source",
    "prompts",
    "user_dictionary",
    "honorifics",
)
_SOURCES = (
    ("gold",),
    ("test",),
    ("unlabelled",),
    ("generation", "corpus"),
    ("generation", "seed"),
)
_KEYS = (
    ("documents",),
    ("generation", "prompts"),
    ("generator", "model"),
    ("refinement", "generator", "model"),
    ("training", "encoder"),
    ("examples",),
    ("source",),
    ("japanese", "user_dictionary"),
    ("japanese", "honorifics"),
)


def from_directory(raw: dict[str, Any], directory: Path) -> None:
    """Takes a task's paths from its directory; a source may be its path alone.

    Topics in a file of their own are read here.

    Functions are looked for there alone, wherever the file says.
    """
    for validator in _section(raw, ["curation", "validators"]).values():
        if isinstance(validator, dict) and "function" in validator:
            validator["folder"] = str(directory.absolute())
    read_topics(raw, directory)
    for *parents, last in _SOURCES:
        section = _section(raw, parents)
        if isinstance(section.get(last), str):
            section[last] = {"path": section[last]}
    for section, key in _named(raw):
        if key in _ALWAYS_PATHS or (directory / section[key]).exists():
            section[key] = str(directory / section[key])


def _named(raw: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The sections of a task that name files, or what may be one, with the keys that do."""
    listed = raw.get("sources")
    found = [(_section(raw, [*source]), "path") for source in _SOURCES]
    found += [(_section(raw, [*parents]), key) for *parents, key in _KEYS]
    found += [(entry, "path") for entry in (listed if isinstance(listed, list | tuple) else ())]
    for section, key in found:
        if isinstance(section, dict) and isinstance(section.get(key), str):
            yield section, key


def read_topics(raw: dict[str, Any], directory: Path) -> None:
    """Reads the topics that a task has in a file of their own.

    Raises:
        JapagenError: If there is no such file, or it is no mapping.
    """
    generation = _section(raw, ["generation"])
    if isinstance(generation.get("knowledge"), str):
        topics = directory / generation["knowledge"]
        if not topics.is_file():
            raise JapagenError(
                f"There is no file of topics at {topics} (generation.knowledge).",
                "Write one with: japagen data topics CONFIG -o FILE",
            )
        generation["knowledge"] = read_mapping(topics)


def placed(raw: dict[str, Any], directory: Path | None = None) -> dict[str, Any]:
    """Writes a task's paths so that they lead to the same files; returns the task.

    Args:
        raw: The task; its paths are taken from the current directory.
        directory: Where the task will lie. What shares a folder with it, other than the user's
            home and those above, is named from there, so that both can be moved together. All
            paths are absolute when None.
    """
    for section, key in _named(raw):
        # A name of a model stays one unless it is a file or directory here.
        if key in _ALWAYS_PATHS or Path(section[key]).exists():
            section[key] = _from(directory, Path(section[key]))
    return raw


def _from(directory: Path | None, path: Path) -> str:
    if directory is None:
        return str(path.absolute())
    # Where a directory is a link, .. leads out of what it leads to.
    here, there = directory.resolve(), path.absolute().parent.resolve() / path.name
    home = Path(os.path.expanduser("~"))
    try:
        shared = Path(os.path.commonpath((here, there)))
    except ValueError:  # on another drive
        return str(there)
    if shared in (home, *home.parents):
        return str(path.absolute())
    return Path(os.path.relpath(there, here)).as_posix()


def _section(raw: dict[str, Any], parents: list[str]) -> dict[str, Any]:
    """A part of a task; an empty one where there is none."""
    found: Any = raw
    for name in parents:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def parse_overrides(
    assignments: Iterable[str], example: str = "generation.per_label=20"
) -> dict[str, Any]:
    """Turns the ``key.path=value`` strings of ``--set`` into a mapping; values are read as YAML.

    Args:
        assignments: The strings.
        example: A right one, for messages.

    Raises:
        JapagenError: If an assignment has no ``=`` or its value is not YAML.
    """
    parsed, hint = {}, f"For example: --set {example}"
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise JapagenError(f"Expected --set key=value, found '{assignment}'.", hint)
        parsed[key.strip()] = parse_yaml(value, f"the value of --set {key}", hint)
    return parsed


def set_key(raw: dict[str, Any], dotted: str, value: Any) -> None:
    """Sets a key of a task that is not validated yet.

    Raises:
        JapagenError: If the key stands below a value.
    """
    *parents, last = dotted.split(".")
    for key in parents:
        child = raw.setdefault(key, {})
        if isinstance(child, str) and key in ("gold", "test", "unlabelled"):
            child = raw[key] = {"path": child}
        if not isinstance(child, dict):
            raise JapagenError(
                f"--set {dotted}: '{key}' holds {reprlib.repr(child)}, not a section.",
                f"Set it as a whole: --set {key}=VALUE",
            )
        raw = child
    raw[last] = value
