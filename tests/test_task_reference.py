"""The reference of the task file says every key."""

from __future__ import annotations

from pydantic import BaseModel

from japagen.config.task import Task, _section_in
from tests.conftest import ROOT
from tests.task_reference import documented, reference


def _sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [_section_in(field.annotation) for field in model.model_fields.values()]
    return [model, *(s for section in inner if section for s in _sections(section))]


def test_the_page_is_what_the_settings_say() -> None:
    page = (ROOT / "docs/task_file.md").read_text(encoding="utf-8")
    assert page == reference(), "python -m tests.task_reference > docs/task_file.md"


def test_every_key_is_explained() -> None:
    for section in _sections(Task):
        known = documented(section)
        unexplained = [
            name
            for name, field in section.model_fields.items()
            if name not in known and not _section_in(field.annotation)
        ]
        assert unexplained == [], section.__name__
