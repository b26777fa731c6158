from __future__ import annotations

from pathlib import Path

import pytest

from japagen.config.qa import QATask
from japagen.config.task import Task
from japagen.errors import JapagenError
from japagen.pipeline.kinds import load_task
from tests.conftest import ROOT


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_kind_says_which_task_a_file_is(tmp_path: Path) -> None:
    path = _written(tmp_path / "t.yaml", "kind: qa\nname: t\ndocuments: docs\n")
    task = load_task(path, {"generation.per_passage": 2})
    assert isinstance(task, QATask)
    assert task.documents == tmp_path / "docs"
    assert task.generation.per_passage == 2
    assert isinstance(load_task(ROOT / "configs" / "quickstart.yaml"), Task)


def test_a_task_means_the_same_wherever_it_lies(tmp_path: Path) -> None:
    task = load_task(ROOT / "configs" / "qa.yaml")
    again = load_task(_written(tmp_path / "again.yaml", task.to_yaml()))
    assert isinstance(again, QATask)
    assert again.documents == ROOT / "configs" / "qa" / "documents"
    assert again.generator.model == str(ROOT / "configs" / "qa")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dokuments: x", "unknown key 'dokuments' (did you mean 'documents'?)"),
        ("generation: {per_pasage: 2}", "unknown key 'generation.per_pasage' (did you mean "),
        ("labels: [a, b]", "unknown key 'labels'"),
        ("passages: {characters: 100, overlap: 60}", "expected at most half of characters (100)"),
        ("generation: {options: 2}", "generation.options: "),
        ("curation: {least_round_trip: 2}", "curation.least_round_trip: "),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = _written(tmp_path / "t.yaml", f"kind: qa\nname: t\ndocuments: docs\n{line}\n")
    with pytest.raises(JapagenError) as error:
        load_task(path)
    assert message in error.value.message


def test_documents_are_needed(tmp_path: Path) -> None:
    with pytest.raises(JapagenError, match="the key 'documents' is missing"):
        load_task(_written(tmp_path / "t.yaml", "kind: qa\nname: t\n"))


def test_the_manual_names_every_key() -> None:
    text = (ROOT / "docs" / "qa.md").read_text("utf-8")
    keys = [
        (name, key)
        for name, field in QATask.model_fields.items()
        if name in ("passages", "generation", "curation", "retrieval")
        for key in field.annotation.model_fields  # type: ignore[union-attr]
    ]
    assert len(keys) > 15
    assert [key for key in keys if f"`{key[1]}`" not in text and f".{key[1]}`" not in text] == []
