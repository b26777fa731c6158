"""Reads a YAML file of keys, and says in one sentence what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from japagen.errors import JapagenError

_START = "Write one with: japagen init NAME --labels a,b,c"


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping; YAML itself would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = (key_node.tag, key_node.value) if isinstance(key_node.value, str) else None
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key '{key_node.value}' stands there twice",
                    key_node.start_mark,
                )
            if key is not None:
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path) -> dict[str, Any]:
    """Reads a task file.

    Raises:
        JapagenError: If it is missing, not UTF-8, not YAML, or holds no keys.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8-sig"), _UniqueKeys)
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
    except yaml.YAMLError as error:
        raise JapagenError(f"{path} is not YAML: {_what(error)}.", _repair(error)) from None
    if not isinstance(raw, dict):
        found = {type(None): "nothing", list: "a list"}.get(type(raw), f"'{str(raw)[:40]}'")
        raise JapagenError(
            f"Expected {path} to hold keys such as name and labels, found {found}.", _START
        )
    return raw


def _what(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}{problem}"


def _repair(error: yaml.YAMLError) -> str:
    if "'\\t'" in str(error):
        return "Indent with spaces: YAML takes no tabs."
    return "Correct the file there."
