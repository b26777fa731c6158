"""The manual's links lead somewhere, its commands exist, its settings and its code are right."""

from __future__ import annotations

import doctest
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

import japagen as jg
from japagen.cli.main import app
from japagen.config.qa import QATask
from japagen.config.sections import validated
from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MANUAL = [
    page
    for page in PAGES
    if page.parent.name in ("howto", "ja") or page.name in ("README.md", "README_ja.md")
] + [ROOT / "docs/tutorial.md"]
EXAMPLES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in (ROOT / "japagen").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
TASK = {"name": "inquiries", "labels": {"配送": "届く日、追跡", "解約": "返品、返金"}}


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _blocks(page: Path, *languages: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [block for language, block in found if language in languages]


def _anchors(page: Path) -> set[str]:
    """What headings are linked by, as GitHub and Sphinx both have it."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            dead.append(link)
    assert not dead


def test_every_page_and_picture_is_linked() -> None:
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page, text in texts.items()
        for link in re.findall(r"\]\(([^)\s]+)\)", text)
    }
    for page, text in texts.items():
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            linked |= {(page.parent / f"{entry}.md").resolve() for entry in tree.split()}
    docs = ROOT / "docs"
    wanted = {*docs.rglob("*.md"), *docs.glob("images/*"), *docs.rglob("*.png")}
    built = docs / "_build"
    assert not {p for p in wanted if not p.is_relative_to(built)} - linked - {docs / "index.md"}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_exist_and_take_their_options(page: Path) -> None:
    for line in "".join(_blocks(page, "sh", "bash")).splitlines():
        words = shlex.split(line.partition(" | ")[0].partition(" > ")[0], comments=True)
        if not words or words[0] != "japagen":
            continue
        command: Any = get_command(app)
        rest = words[1:]
        # Typer brings a click of its own, so that a group is told by what it has.
        while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context("japagen", rest)


def test_settings_of_the_manual_are_accepted() -> None:
    seen = 0
    for page in MANUAL:
        for block in _blocks(page, "yaml"):
            given = YAML(typ="safe").load(block)
            seen += 1
            if given.get("kind") == "qa":
                validated(QATask, given, _name(page))
                continue
            labels = {} if "scale" in given else {"labels": TASK["labels"]}
            jg.Task.parse({"name": TASK["name"], **labels, **given}, _name(page))
    assert seen > 20


def test_code_of_the_manual_says_what_its_comments_say() -> None:
    seen = 0
    for page in MANUAL:
        for line in "".join(_blocks(page, "python")).splitlines():
            if found := re.fullmatch(r"(?:print\((jg\..+)\)|(jg\..+))  # (.+)", line):
                printed, value, said = found.groups()
                assert str(eval(printed or value, {"jg": jg})) == said
                seen += 1
    assert seen >= 6


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_of_the_api_print_what_they_say(module: str) -> None:
    found = doctest.testmod(import_module(module))
    assert found.attempted
    assert not found.failed


def test_most_of_the_public_api_has_examples() -> None:
    shown = [name for name in jg.__all__ if ">>> " in (getattr(jg, name).__doc__ or "")]
    assert len(shown) >= 7, shown
