"""Keys of a task that the command line replaces: ``--set key.path=value``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from japagen.errors import JapagenError


def parse_overrides(
    assignments: Iterable[str], option: str = "--set", example: str = "generation.per_label=20"
) -> dict[str, Any]:
    """Turns ``key.path=value`` strings into a mapping; values are read as YAML.

    Args:
        assignments: The strings.
        option: The option that they came with, for messages.
        example: A right one.

    Raises:
        JapagenError: If an assignment has no ``=`` or its value is not YAML.
    """
    parsed = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise JapagenError(
                f"Expected {option} key=value, found '{assignment}'.",
                f"For example: {option} {example}",
            )
        try:
            parsed[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or error
            raise JapagenError(
                f"{option} {key}: the value '{value}' is not YAML: {problem}.",
                f"For example: {option} {example}",
            ) from None
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
                f"--set {dotted}: '{key}' holds {child!r}, not a section.",
                f"Set it as a whole: --set {key}=VALUE",
            )
        raw = child
    raw[last] = value
