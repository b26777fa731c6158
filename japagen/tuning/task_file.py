"""Writes a task file with some keys changed, comments and order kept."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from japagen.errors import JapagenError
from japagen.storage.files import write_text
from japagen.tasks.task_paths import moved


def check_target(path: Path, config: Path, *, overwrite: bool) -> None:
    """Refuses to replace what is there, before anything is spent on what would be written.

    Raises:
        JapagenError: If the file exists and is not to be replaced, or is the task itself.
    """
    if path.exists() and path.samefile(config):
        raise JapagenError(
            f"Expected another file than the task's own to write, found {path}.",
            "Give --write another path.",
        )
    if path.exists() and not overwrite:
        raise JapagenError(
            f"{path} exists; nothing was tried.", "Give --write another path, or --overwrite."
        )


def write_changed(
    config: Path, path: Path, changes: Mapping[str, Any], heading: Sequence[str]
) -> None:
    """Writes the task file again with some keys changed.

    Args:
        config: The task file.
        path: Where to write; relative paths in it are put right if that is another directory.
        changes: Dotted keys to values.
        heading: Lines of the comment that it begins with.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    raw = yaml.load(config.read_text(encoding="utf-8-sig"))
    for key, value in changes.items():
        section, _, name = key.partition(".")
        raw.setdefault(section, {})[name] = value
    if path.parent.resolve() != config.parent.resolve():
        moved(raw, config.parent.resolve(), path.parent.resolve())
    text = io.StringIO()
    yaml.dump(raw, text)
    write_text(path, "".join(f"# {line}\n" for line in heading) + text.getvalue())
