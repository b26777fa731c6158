"""Writes the reference of the task file from the settings themselves, on two pages.

python -m tests.task_reference
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from japagen.config.sections import section_in
from japagen.config.task import Task

# Keys of the first page. All others are on the second one.
BASIC = {
    "": ("name", "description", "text_type", "label_type", "domain", "labels", "registers", "seed"),
    "gold": ("path", "columns", "per_label"),
    "test": ("path", "columns"),
    "unlabelled": ("path", "columns"),
    "sources": ("name", "path", "generator"),
    "generator": ("backend", "model", "base_url"),
    "generation": ("per_label", "shots", "knowledge", "max_tokens"),
    "curation": ("min_characters", "max_characters"),
    "training": ("encoder",),
    "evaluation": ("metric",),
}
PAGES = {True: "task_file.md", False: "task_file_advanced.md"}
_HEADS = {
    True: """\
# The task file

The keys that most tasks need, with their defaults. [All other keys](task_file_advanced.md) can stay
as they are. Relative paths are taken from the task file's directory, `--set section.key=value`
reaches any key, and an unknown key is refused with the nearest known one. `null` means: not set.
`python -m tests.task_reference` writes both pages from the settings.

A task file needs `name` and `labels`:

```yaml
name: inquiries
labels:
  請求: 請求額、明細、支払い方法
  配送: 届く日、追跡、届け先の変更
gold: {path: gold.csv}
```
""",
    False: """\
# The task file: advanced keys

Every key that is not among the [basic ones](task_file.md), with its default. `null` means: not set.
""",
}
Section = type[BaseModel]
_SCALARS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "yes or no"}


def reference(*, basic: bool) -> str:
    """One of the two pages, in Markdown."""
    tables = [_table(section, paths, basic=basic) for section, paths in _places().items()]
    return "\n".join([_HEADS[basic], *filter(None, tables)])


def _places() -> dict[Section, list[str]]:
    """Sections, in the order of their keys, with the dotted keys that hold one of the kind."""
    places: dict[Section, list[str]] = {}
    waiting: list[tuple[str, Section]] = [("", Task)]
    while waiting:
        path, model = waiting.pop(0)
        if model not in places:
            waiting = [*_inner(path, model), *waiting]
        places.setdefault(model, []).append(path)
    return places


def _inner(path: str, model: Section) -> Iterator[tuple[str, Section]]:
    for name, field in model.model_fields.items():
        if section := section_in(field.annotation):
            yield f"{path}.{name}".lstrip("."), section


def _on_page(section: Section, path: str, *, basic: bool) -> list[str]:
    """The keys of a section that a page has a row for."""
    chosen = {key for place in _places()[section] for key in BASIC.get(place, ())}
    # The keys of the task that hold sections with basic keys.
    chosen |= set() if path else set(BASIC)
    return [name for name in section.model_fields if (name in chosen) == basic]


def _table(section: Section, paths: list[str], *, basic: bool) -> str:
    """The rows that a page has of a section; empty where it has none."""
    names = _on_page(section, paths[0], basic=basic)
    if not names:
        return ""
    schema, meanings = section.model_json_schema(), documented(section)
    rows = []
    for name in names:
        field, given = section.model_fields[name], schema["properties"][name]
        inner = section_in(field.annotation)
        meaning = meanings.get(name) or (_first_line(inner) if inner else "")
        if named := _named(given):
            meaning += f" {named}."
        if inner:
            page = basic if _on_page(inner, name, basic=basic) else not basic
            meaning += f" Its keys: {_link('below', inner, on=basic, basic=page)}."
        default = (
            "required"
            if field.is_required()
            else _default(field.get_default(call_default_factory=True))
        )
        kind = _kind(given, schema)
        rows.append(f"| `{name}` | {kind} | {default} | {meaning} |")
    intro = _first_line(section)
    if paths[0] and _on_page(section, paths[0], basic=not basic):
        word = "Advanced" if basic else "Basic"
        intro += f" {_link(f'{word} keys', section, on=basic, basic=not basic)}."
    head = "| key | takes | default | meaning |\n|---|---|---|---|"
    return "\n".join([f"## {_title(paths, basic=basic)}", "", intro, "", head, *rows, ""])


def _named(given: dict[str, Any]) -> str:
    """The names that a registry lets a key take, with what they mean."""
    either = (_named(one) for one in given.get("anyOf", ()))
    return given.get("description") or next(filter(None, either), "")


def _title(paths: list[str], *, basic: bool) -> str:
    shown = [path for path in paths if path in BASIC] if basic else paths
    return ", ".join(shown) or "The whole"


def _link(text: str, section: Section, *, on: bool, basic: bool) -> str:
    """A link from one page to the table of a section on this page or the other one."""
    anchor = re.sub(r"[.,]", "", _title(_places()[section], basic=basic).lower())
    return f"[{text}]({'' if on == basic else PAGES[basic]}#{anchor.replace(' ', '-')})"


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
    for first, page in PAGES.items():
        Path("docs", page).write_text(reference(basic=first), encoding="utf-8")
