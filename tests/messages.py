"""Extracts every text that japagen shows. ``python -m tests.messages`` takes new ones up.

Babel reads and writes the catalogue. Its own extraction sees no text inside an f-string, so what
the code says is found here, as templates whose values are numbered: ``There is no file at {0}.``
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from io import BytesIO
from itertools import count, product
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po
from ruamel.yaml import YAML

import japagen
from japagen.i18n import CATALOGUE

PACKAGE = Path(japagen.__file__).parent
PAGES = (PACKAGE / "reporting" / "report.yaml", PACKAGE / "review" / "page.yaml")
REGISTRY = PACKAGE / "data" / "registry.yaml"
# Marks a message that is joined from parts, or comes from Python or pydantic: no literal of the
# package has it as a whole.
COMPOSED = "composed"
# What prints, what notes, and errors that are told to users; `ValueError` where pydantic tells it.
_SAYING = {"say", "note", "_note", "__init__", "ValueError", "localized"}
_IN_TABLES = {"print_table", "cell", "heads"}
_VALUE_ERRORS = {PACKAGE / "data" / "labels.py", *(PACKAGE / "config").glob("*.py")}
_NOT_TOLD = re.compile(
    r"(Refused|Stale|Attribute|Type|Key|OS|Runtime|NotImplemented|Validation)Error"
)
_HEADER = """\
# The Japanese of japagen. `make messages` adds new texts and drops those that are gone; a text
# that it adds has an empty msgstr, and the tests fail until somebody translates it.
msgid ""
msgstr ""
"Language: ja\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""
_SENTENCE = r"[A-Za-z].* |[A-Za-z]{2,}\.$"
Parts = tuple[str | None, ...]


def _texts(node: ast.expr, module: ast.Module) -> Iterator[Parts]:
    """What an expression may come to: its literal parts, None for what is put in."""
    match node:
        case ast.Constant(value=str(text)):
            yield (text,)
        case ast.JoinedStr(values=values):
            yield tuple(v.value if isinstance(v, ast.Constant) else None for v in values)  # type: ignore[misc]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            for one, other in product(_texts(left, module), _texts(right, module)):
                yield (*one, *other)
        case ast.IfExp(body=body, orelse=orelse):
            yield from _texts(body, module)
            yield from _texts(orelse, module)
        case ast.BoolOp(values=values):
            for value in values:
                yield from _texts(value, module)
        case ast.Name(id=name):
            assigned = [
                n.value
                for n in ast.walk(module)
                if isinstance(n, ast.Assign)
                and any(isinstance(t, ast.Name) and t.id == name for t in n.targets)
                and not isinstance(n.value, ast.Name)
            ]
            for value in assigned:
                yield from _texts(value, module)
            if not assigned:
                yield (None,)
        case _:
            yield (None,)


def _template(parts: Parts) -> str:
    found, number = "", 0
    for part in parts:
        if part is None:
            found += f"{{{number}}}"
            number += 1
        else:
            found += part.replace("{", "{{").replace("}", "}}")
    return found


def _modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def _told(call: ast.Call, path: Path) -> list[ast.expr]:
    """The arguments of a call that a user is told."""
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    helps = [k.value for k in call.keywords if k.arg == "help" and path.parent.name == "cli"]
    if not (name in _SAYING or name.endswith("Error")) or _NOT_TOLD.fullmatch(name):
        return helps
    if name == "__init__" and path.name != "errors.py":
        return helps
    if name == "ValueError" and path not in _VALUE_ERRORS:
        return helps
    given = call.args[:2] if name.endswith(("Error", "__init__")) else call.args[:1]
    return [*given, *(k.value for k in call.keywords if k.arg == "hint"), *helps]


def _templates() -> Iterator[list[str]]:
    """The templates of texts, as far as they go through a filter that says them."""
    for path in sorted((*PACKAGE.glob("reporting/*.md.j2"), *PACKAGE.glob("cli/*.j2"))):
        text = path.read_text(encoding="utf-8")
        for name, found in re.findall(r"{% filter (\w+) %}(.*?){% endfilter %}", text, re.DOTALL):
            yield [found.strip()] if name == "whole" else found.split("\n")
        if path.name == "terms.md.j2":
            yield text.split("\n")


def _lines_of_templates() -> Iterator[str]:
    for text in _templates():
        for line in (re.sub(r"{%.*?%}", "", line) for line in text):
            numbers = count()
            yield re.sub("{{.*?}}", lambda _, n=numbers: f"{{{next(n)}}}", line.removeprefix("- "))  # type: ignore[misc]


def _command_help(path: Path, module: ast.Module) -> Iterator[str]:
    for function in ast.walk(module):
        if isinstance(function, ast.FunctionDef) and path.parent.name == "cli":
            called = [ast.unparse(decorator) for decorator in function.decorator_list]
            if any(".command(" in decorator for decorator in called):
                yield inspect.cleandoc(ast.get_docstring(function) or "")


def said() -> dict[str, str]:
    """Every message of the source, by its template, with where it is said."""
    found: dict[str, str] = {}
    for path, module in _modules():
        for call in ast.walk(module):
            if not isinstance(call, ast.Call):
                continue
            whole = getattr(call.func, "id", "") == "localized"
            for argument in _told(call, path):
                for parts in _texts(argument, module):
                    template = _template(parts)
                    for line in [template] if whole else template.split("\n"):
                        if re.search(_SENTENCE, re.sub(r"\{\d\}", "", line)):
                            found[line] = f"{path.name}:{call.lineno}"
        for text in _command_help(path, module):
            found[_template((text,))] = f"{path.name}: help"
    for line in _lines_of_templates():
        if re.search(_SENTENCE, re.sub(r"\{\d\}", "", line)):
            found[line] = "a template"
    return found


def in_tables() -> Iterator[tuple[str, str]]:
    """Titles, names of columns and cells that are given as they are, each with its context."""
    for _, module in _modules():
        for call in ast.walk(module):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            if name not in _IN_TABLES:
                continue
            for argument in call.args if name == "heads" else call.args[:2]:
                listed = argument.elts if isinstance(argument, ast.List) else [argument]
                for given in listed:
                    if isinstance(given, ast.Constant) and re.search("[a-z]", str(given.value)):
                        yield ("table", str(given.value))
    for text in _templates():
        for heads in re.findall(r'w\.(?:heads|cell)\(((?:"[^"]*"(?:, )?)+)\)', "\n".join(text)):
            yield from (("table", head) for head in re.findall('"([^"]*[a-z][^"]*)"', heads))


def literals() -> set[str]:
    """The templates of all literals in the source, and their lines."""
    found: set[str] = set()
    for _, module in _modules():
        for node in ast.walk(module):
            if isinstance(node, ast.Constant | ast.JoinedStr):
                for parts in _texts(node, module):
                    template = _template(parts)
                    found |= {template, *template.split("\n")}
    return found


def named() -> Iterator[tuple[str, str]]:
    """The texts of pages and of the registry, each with its context."""
    yaml = YAML(typ="safe", pure=True)
    for page in PAGES:
        yield from ((page.stem, text) for text in yaml.load(page).values())
    for entries in yaml.load(REGISTRY).values():
        yield from ((REGISTRY.stem, entry["en"]) for entry in entries.values())


def covers(message: Message, template: str) -> bool:
    """Whether a composed message is what a template of the source comes to."""
    pattern = "(.*)".join(map(re.escape, re.split(r"\{\d\}", template)))
    return COMPOSED in message.auto_comments and bool(re.fullmatch(pattern, str(message.id)))


def read() -> Catalog:
    """The catalogue as it is."""
    with CATALOGUE.open("rb") as file:
        return read_po(file, locale="ja")


def updated(catalogue: Catalog) -> Catalog:
    """The catalogue with the texts of the source: new ones empty, none that is gone."""
    found = Catalog(locale="ja")
    known = {(m.context or "", str(m.id)): m for m in catalogue if m.id}
    templates, places = said(), {*named(), *in_tables()}
    composed = [m for m in known.values() if COMPOSED in m.auto_comments]
    kept = literals() | set(templates) | {str(m.id) for m in composed}
    # Some cells are looked up by a name.
    wanted = places | {key for key in known if key[0] in ("", "table") and key[1] in kept}
    # A message of several lines has each of them; what is joined comes in whole.
    lines = {line for _, text in wanted for line in text.split("\n")}
    wanted |= {
        ("", template)
        for template in templates
        if template not in lines and not any(covers(m, template) for m in composed)
    }
    for context, text in wanted:
        old = known.get((context, text))
        string, comments = (old.string, old.auto_comments) if old else ("", [])
        found.add(text, string, context=context or None, auto_comments=comments)
    for message in found:
        message.flags.clear()
    return found


def written(catalogue: Catalog) -> str:
    """The text of a catalogue, in an order that does not depend on that of the source."""
    file = BytesIO()
    write_po(file, catalogue, width=0, omit_header=True, sort_output=True)
    return _HEADER + file.getvalue().decode("utf-8").strip() + "\n"


if __name__ == "__main__":
    CATALOGUE.write_text(written(updated(read())), encoding="utf-8")
