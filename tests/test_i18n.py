"""What japagen says in Japanese: that it says everything, and says it right."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

import japagen
from japagen.cli import terminal
from japagen.config.task import Task
from japagen.errors import JapagenError
from japagen.i18n import localized, user_language

PACKAGE = Path(japagen.__file__).parent
ROWS = YAML(typ="safe").load(PACKAGE / "messages_ja.yaml")
# Where two values touch, only what they are tells where one ends.
_APART = [row for row in ROWS if "}{" not in row["en"]]
# What prints, what notes, and errors that are told to users; `ValueError` where pydantic tells it.
_SAYING = {"say", "note", "__init__", "ValueError"}
_VALUE_ERRORS = {"sections.py", "task.py", "labels.py"}
_NOT_TOLD = re.compile(
    r"(Refused|Stale|Attribute|Type|Key|OS|Runtime|NotImplemented|Validation)Error"
)


def _texts(node: ast.expr, module: ast.Module) -> Iterator[tuple[str | None, ...]]:
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


def _template(parts: tuple[str | None, ...]) -> str:
    found, number = "", 0
    for part in parts:
        if part is None:
            found += f"{{{number}}}"
            number += 1
        else:
            found += part.replace("{", "{{").replace("}", "}}")
    return found


def _said() -> dict[str, str]:
    """Every sentence in the source, by its template, with where it is said."""
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        for call in ast.walk(module):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            if not (name in _SAYING or name.endswith("Error")) or _NOT_TOLD.fullmatch(name):
                continue
            if name == "__init__" and path.name != "errors.py":
                continue
            if name == "ValueError" and path.name not in _VALUE_ERRORS:
                continue
            given = call.args[:2] if name.endswith(("Error", "__init__")) else call.args[:1]
            for argument in (*given, *(k.value for k in call.keywords if k.arg == "hint")):
                for parts in _texts(argument, module):
                    for line in _template(parts).split("\n"):
                        if re.search(r"[A-Za-z].* ", re.sub(r"\{\d\}", "", line)):
                            found[line] = f"{path.name}:{call.lineno}"
    return found


def test_hardly_a_sentence_has_no_japanese() -> None:
    """English is what is shown for a new one, so a few may wait for somebody to translate them."""
    known = {line for row in ROWS for line in row["en"].split("\n")}
    said = _said()
    missing = {
        template: where
        for template, where in said.items()
        if template not in known and template.strip() not in known
    }
    assert len(said) > 300
    assert len(missing) <= len(said) // 20, "\n".join(f"{w}: {t}" for t, w in missing.items())


def test_both_languages_take_the_same_values() -> None:
    def names(template: str) -> list[str]:
        return [name for _, name, *_ in Formatter().parse(template) if name is not None]

    assert len({row["en"] for row in ROWS}) == len(ROWS)
    for row in ROWS:
        english = names(row["en"])
        assert english == [str(n) for n in range(len(english))], row
        assert sorted(set(names(row["ja"]))) == english, row


@pytest.mark.parametrize("row", _APART, ids=lambda row: row["en"])
def test_every_message_is_found(row: dict[str, str]) -> None:
    values = "猫犬鳥魚虫貝"
    assert localized(row["en"].format(*values), "ja") == row["ja"].format(*values)


@given(
    st.sampled_from(_APART),
    st.lists(st.text(st.characters(categories=["Lo", "Nd"]), min_size=1), min_size=6),
)
def test_what_was_put_in_is_put_in_again(row: dict[str, str], values: list[str]) -> None:
    assert localized(row["en"].format(*values), "ja") == row["ja"].format(*values)


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "ja_JP.UTF-8"}, "ja"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "ja_JP", "LANG": "en_US"}, "ja"),
        ({"LANG": "ja_JP.UTF-8", "JAPAGEN_LANG": "en"}, "en"),
        ({"LANG": "de_DE"}, "en"),
        ({}, "en"),
    ],
)
def test_the_locale_decides(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], language: str
) -> None:
    for name in ("JAPAGEN_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert user_language() == language


def test_the_problems_of_a_task_file_are_told_in_japanese(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAPAGEN_LANG", "ja")
    raw = {"name": "t", "lables": ["a", "b"], "seed": "x", "generation": {"per_label": 0}}
    with pytest.raises(JapagenError) as caught:
        Task.parse(raw, "t.yaml")
    terminal.print_error(caught.value)
    assert capsys.readouterr().err.splitlines() == [
        "エラー: t.yaml に 4 件の問題があります:",
        "  - キー「labels」がありません",
        "  - generation.per_label: 1 以上の値が必要ですが、0 です",
        "  - seed: 整数が必要ですが、'x' です",
        "  - 「lables」というキーはありません（「labels」のことですか）",
        "上のキーを直してください。",
    ]


def test_what_the_user_wrote_is_not_translated() -> None:
    said = "Unknown register 'line 3' (did you mean 'a list'?)."
    assert localized(said, "ja") == "「line 3」という文体はありません（「a list」のことですか）。"
    assert localized("何かの文。", "ja") == "何かの文。"
    assert localized(said, "en") == said
