"""Reads and writes YAML 1.2, and says in one sentence what is wrong with what a user wrote."""

from __future__ import annotations

import math
import re
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node, ScalarNode
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.resolver import VersionedResolver

from japagen.errors import JapagenError

_MOST_NODES = 1_000_000
"""Values that a text may come to with its aliases written out."""


def parse_yaml(text: str, where: str, hint: str = "Correct the file there.") -> Any:
    """Reads YAML that a user wrote.

    Args:
        text: The YAML.
        where: How to name its place in an error.
        hint: What to do about an error.

    Raises:
        JapagenError: If it is not YAML, repeats a key, or means a value that there is not, such
            as 30 February.
    """
    try:
        if "&" in text and _size(_yaml().compose(text), {}) > _MOST_NODES:
            raise ValueError(f"aliases that come to more than {_MOST_NODES:,} values")
        return _yaml().load(text)
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # Not only its own errors: what the constructors of numbers, dates and tags raise comes
        # through as it is.
        if "'\\t'" in str(error):
            hint = "Indent with spaces: YAML takes no tabs."
        raise JapagenError(f"Expected YAML in {where}, found {_what(error)}.", hint) from None


def to_yaml(value: Any, flow: bool = False) -> str:
    """Writes plain data as YAML that readers of YAML 1.1 and 1.2 understand alike.

    Args:
        value: Mappings, lists, texts, numbers, booleans and None.
        flow: Whether innermost lists stand on one line.
    """
    yaml = _yaml()
    # The writer of 1.1 quotes yes, no and 12:30, which are no texts there, and _Texts the rest.
    yaml.version = (1, 1)
    yaml.Representer = _Texts
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.default_flow_style = None if flow else False
    yaml.width = 10_000 if flow else 80
    stream = StringIO()
    yaml.dump(value, stream)
    return stream.getvalue().removeprefix("%YAML 1.1\n---\n")


class _Texts(SafeRepresenter):
    """Quotes the texts that YAML 1.2 takes for numbers, such as 08."""

    def represent_str(self, data: str) -> ScalarNode:
        tag = _RESOLVER.resolve(ScalarNode, data, (True, False))
        style = None if str(tag) == _TEXT else "'"
        node: ScalarNode = self.represent_scalar(_TEXT, data, style=style)
        return node


_TEXT = "tag:yaml.org,2002:str"
_RESOLVER = VersionedResolver()
_Texts.add_representer(str, _Texts.represent_str)


def _yaml() -> YAML:
    return YAML(typ="safe", pure=True)


def _size(node: Node | None, known: dict[int, float]) -> float:
    """Counts the values below a node, its aliases written out; infinite where it holds itself."""
    if node is None or isinstance(node, ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf
        children = [
            child
            for entry in node.value
            for child in (entry if isinstance(entry, tuple) else (entry,))
        ]
        known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]


def _what(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "too many values within values"
    if isinstance(error, (AttributeError, LookupError, TypeError)):
        return f"a value that its tag does not allow ({str(error) or type(error).__name__})"
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    repeated = re.match(r'found duplicate key "(.*?)" with value', problem, re.DOTALL)
    told = f"the key '{repeated[1]}' stands there twice" if repeated else problem
    return place + " ".join(told.split())


def front_matter(card: Path) -> dict[str, str]:
    """The texts of a card's front matter; nothing where there is none that can be read."""
    try:
        _, front, _ = card.read_text(encoding="utf-8").split("---\n", 2)
        found = parse_yaml(front, str(card))
    except (OSError, ValueError, JapagenError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in pairs if isinstance(value, str)}
