from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from japagen.cli.main import app
from japagen.errors import JapagenError
from tests.command_line import refuses_labels
from tests.conftest import ROOT

CONFIG = str(ROOT / "configs" / "qa.yaml")
QUICK = ["--set", "retrieval.encoder=null"]


def _said(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_same_commands_take_a_task_of_questions(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    said = _said("run", CONFIG, "--out", out, *QUICK)
    assert "Multiple choice: 15 of 16 kept" in said
    assert "Answered without the passage" in said
    again = json.loads(_said("run", CONFIG, "--out", out, *QUICK, "--json"))
    assert again["kept"]["extractive"] == 40
    page = tmp_path / "page.html"
    _said("report", out, "--lang", "en", "-o", str(page))
    assert "Can options be guessed?" in page.read_text("utf-8")
    for form, name in (("squad", "a.json"), ("beir", "b"), ("chat", "c.jsonl")):
        path = tmp_path / name
        assert f"wrote {path}" in _said("data", "export", out, "-o", str(path), "--format", form)
    card = (tmp_path / "a.card.md").read_text("utf-8")
    assert card.startswith("---\nlanguage:\n- ja\n")
    assert "question-answering" in card
    assert "67 Japanese questions on 4 documents" in card


def test_commands_for_texts_with_labels_say_so_of_other_runs(tmp_path: Path) -> None:
    out, texts = tmp_path / "run", tmp_path / "texts.txt"
    _said("run", CONFIG, "--out", str(out), *QUICK)
    texts.write_text("こんにちは。\n", encoding="utf-8")
    refuses_labels(out, Path(CONFIG), texts)


def test_plan_and_preview_show_what_would_be_asked() -> None:
    plan = _said("plan", CONFIG, *QUICK, "--sample", "0")
    assert "4 documents, 27 passages: 54 questions on 27 of them" in plan
    assert "questions asked again" in plan
    shown = _said("preview", CONFIG, "-n", "2", *QUICK)
    assert "この文章から、質問と答えを2組作ってください。" in shown
    assert "→ " in shown
    assert json.loads(_said("plan", CONFIG, *QUICK, "--sample", "0", "--json"))["questions"] == 54
    assert len(json.loads(_said("preview", CONFIG, "-n", "2", *QUICK, "--json"))) == 2


@pytest.mark.parametrize("option", [["--until", "curate"], ["--synthetic", "a.csv"]])
def test_options_of_other_tasks_are_refused(option: list[str]) -> None:
    with pytest.raises(JapagenError, match="goes with tasks that train a classifier"):
        CliRunner().invoke(app, ["run", CONFIG, *QUICK, *option], catch_exceptions=False)


def test_a_missing_folder_is_one_message() -> None:
    with pytest.raises(JapagenError, match="Expected a folder of documents, found nothing at"):
        CliRunner().invoke(
            app, ["run", CONFIG, "--set", "documents=/no/such/folder"], catch_exceptions=False
        )
