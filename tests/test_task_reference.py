"""The reference of the task file says every key, on the page where it belongs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from japagen.cli.new_task import write_task
from japagen.config.sections import section_in
from japagen.config.task import Task
from tests.conftest import ROOT
from tests.task_reference import BASIC, PAGES, documented, reference

_CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def _sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [section_in(field.annotation) for field in model.model_fields.values()]
    return [model, *(s for section in inner if section for s in _sections(section))]


def _keys(page: str) -> Iterator[tuple[str, str]]:
    """Section and key of each row of a page, for each section that a table serves."""
    for heading, table in re.findall(r"## (.+?)\n(.*?)(?=\n## |\Z)", page, re.DOTALL):
        sections = [""] if heading == "The whole" else heading.split(", ")
        for key in re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE):
            yield from ((section, key) for section in sections)


def _set_by(raw: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Section and key of everything that a task file sets, below the keys that hold a section."""
    found = set()
    for key, value in raw.items():
        entries = value if isinstance(value, list) else [value]
        if key in BASIC and all(isinstance(entry, dict) for entry in entries):
            found |= {(key, name) for entry in entries for name in entry}
        else:
            found.add(("", key))
    return found


@pytest.mark.parametrize("basic", PAGES)
def test_the_pages_are_what_the_settings_say(basic: bool) -> None:
    page = (ROOT / "docs" / PAGES[basic]).read_text(encoding="utf-8")
    assert page == reference(basic=basic), "python -m tests.task_reference"


def test_the_first_page_has_the_basic_keys_and_the_second_one_all_others() -> None:
    first, second = (set(_keys(reference(basic=basic))) for basic in (True, False))
    basic = {(section, key) for section, keys in BASIC.items() for key in keys}
    holders = {("", section) for section in BASIC if section}
    assert basic | holders <= first
    # `per_label` stands in the table that gold shares with test and unlabelled.
    assert {key for _, key in first - holders} == {key for _, key in basic}
    assert len(re.findall(r"^\| `", reference(basic=True), re.MULTILINE)) - len(holders) == 25
    everything = {(section, key) for section, key in first | second}
    assert {("", name) for name in Task.model_fields} <= everything
    for holder, field in Task.model_fields.items():
        if section := section_in(field.annotation):
            assert {(holder, name) for name in section.model_fields} <= everything, holder


def test_links_between_the_pages_lead_to_headings() -> None:
    pages = {file: reference(basic=basic) for basic, file in PAGES.items()}
    anchors = {
        file: {
            re.sub(r"[.,]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^## (.+)$", page, re.MULTILINE)
        }
        for file, page in pages.items()
    }
    for file, page in pages.items():
        for target, anchor in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", page):
            assert anchor in anchors[target or file]


def test_what_most_shipped_tasks_set_is_basic() -> None:
    counts = Counter(
        place for path in _CONFIGS for place in _set_by(YAML(typ="safe").load(path)) if place[1]
    )
    basic = {(section, key) for section, keys in BASIC.items() for key in keys}
    often = {place for place, number in counts.items() if number >= 4}
    assert len(often) > 12
    assert often <= basic


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_new_task_file_has_basic_keys_alone(tmp_path: Path, language: Any) -> None:
    path, _ = write_task("mine", ["配送", "返品"], tmp_path, language)
    text = re.sub(r"^# (\w+: \{path)", r"\1", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    raw = YAML(typ="safe").load(text)
    assert {"gold", "test", "unlabelled"} <= set(raw)
    assert _set_by(raw) <= {(section, key) for section, keys in BASIC.items() for key in keys}


def test_every_key_is_explained() -> None:
    for section in _sections(Task):
        known = documented(section)
        unexplained = [
            name
            for name, field in section.model_fields.items()
            if name not in known and not section_in(field.annotation)
        ]
        assert unexplained == [], section.__name__
