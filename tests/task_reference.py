"""Writes the reference of the task file from the settings themselves.

python -m tests.task_reference > docs/task_file.md
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

from pydantic import BaseModel

from japagen.config.task import Task, _section_in

_HEAD = """\
# The task file

Every key, with its default. This page is written from the settings (`python -m
tests.task_reference > docs/task_file.md`), so that it says what they do. Relative paths are taken
from the task file's directory, `--set section.key=value` reaches any key, and an unknown key is
refused with the nearest known one. `null` means: not set.

A task file needs `name` and `labels`:

```yaml
name: inquiries
labels:
  請求: 請求額、明細、支払い方法
  配送: 届く日、追跡、届け先の変更
gold: {path: gold.csv}
```
"""
_SCALARS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "yes or no"}


def reference() -> str:
    """The page, in Markdown."""
    parts, waiting = [_HEAD], [("", Task)]
    places: dict[type[BaseModel], list[str]] = {}
    order: list[type[BaseModel]] = []
    while waiting:
        path, model = waiting.pop(0)
        if model not in places:
            order.append(model)
            waiting = _inner(path, model) + waiting
        places.setdefault(model, []).append(path)
    return "\n".join(parts + [_table(places[model], places, model) for model in order])


def _inner(path: str, model: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    return [
        (f"{path}.{name}".lstrip("."), section)
        for name, field in model.model_fields.items()
        if (section := _section_in(field.annotation))
    ]


def _table(
    paths: list[str], places: dict[type[BaseModel], list[str]], model: type[BaseModel]
) -> str:
    schema = model.model_json_schema()
    meanings = documented(model)
    rows = []
    for name, given in schema["properties"].items():
        field = model.model_fields[name]
        section = _section_in(field.annotation)
        meaning = meanings.get(name) or (_first_line(section) if section else "")
        if named := _named(given):
            meaning += f" {_markdown(named)}."
        if section:
            meaning += f" Its keys: [below](#{_anchor(places[section])})."
        default = (
            "required"
            if field.is_required()
            else _default(field.get_default(call_default_factory=True))
        )
        rows.append(f"| `{name}` | {_kind(given, schema)} | {default} | {meaning} |")
    title = f"## {', '.join(paths)}" if paths[0] else "## The whole"
    intro = _first_line(model)
    head = "| key | takes | default | meaning |\n|---|---|---|---|"
    return "\n".join([title, "", intro, "", head, *rows, ""])


def _named(given: dict[str, Any]) -> str:
    """The names that a registry lets a key take, with what they mean."""
    either = (_named(one) for one in given.get("anyOf", ()))
    return given.get("description") or next(filter(None, either), "")


def _anchor(paths: list[str]) -> str:
    """What the heading of these places is called in links, as GitHub makes it."""
    return ", ".join(paths).lower().replace(".", "").replace(",", "").replace(" ", "-")


def _first_line(model: type[BaseModel]) -> str:
    return _markdown((inspect.getdoc(model) or "").split("\n")[0])


def documented(model: type[BaseModel]) -> dict[str, str]:
    """What the class's docstring says of its attributes."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        text = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        name = ""
        for line in text.split("\n"):
            start = re.match(r"    (\w+): (.*)", line)
            if start:
                name, found[start[1]] = start[1], start[2]
            elif name and line.strip():
                found[name] += f" {line.strip()}"
    return {name: _markdown(text) for name, text in found.items()}


def _markdown(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|").replace("None ", "`null` ")


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return ""
    if value in ("", (), {}) and not isinstance(value, bool):
        return "empty"
    if isinstance(value, tuple) and all(isinstance(one, BaseModel) for one in value):
        value = [one.model_dump(mode="json", exclude_defaults=True) for one in value]
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return f"`{shown}`".replace('`"', "`").replace('"`', "`")


def _kind(given: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in given:
        target = schema["$defs"][given["$ref"].rpartition("/")[2]]
        return _kind(target, schema) if "enum" in target else "keys"
    if "allOf" in given:
        return _kind(given["allOf"][0], schema)
    if "anyOf" in given:
        kinds = [_kind(one, schema) for one in given["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in given or "const" in given:
        return ", ".join(f"`{value}`" for value in given.get("enum", [given.get("const")]))
    if given.get("type") == "array":
        items = given.get("items") or given.get("prefixItems", [{}])[0]
        return f"list of {_kind(items, schema)}"
    if given.get("type") == "object":
        inside = given.get("additionalProperties")
        return f"keys to {_kind(inside, schema)}" if isinstance(inside, dict) else "keys"
    if given.get("format") == "path":
        return "path"
    return _SCALARS.get(given.get("type", ""), "text") + _bounds(given)


def _bounds(given: dict[str, Any]) -> str:
    low, high = given.get("minimum"), given.get("maximum")
    above, below = given.get("exclusiveMinimum"), given.get("exclusiveMaximum")
    parts = []
    if low is not None:
        parts.append(f"from {low:g}")
    if above is not None:
        parts.append(f"above {above:g}")
    if high is not None:
        parts.append(f"to {high:g}")
    if below is not None:
        parts.append(f"below {below:g}")
    return f" {' '.join(parts)}" if parts else ""


if __name__ == "__main__":
    print(reference(), end="")
