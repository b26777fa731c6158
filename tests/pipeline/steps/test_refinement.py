"""Refinement in a run: who can be asked, and that it is asked once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.task import Task
from japagen.llm.backend import Request
from japagen.pipeline.estimate import estimate
from japagen.pipeline.steps.curate import why_not_refined
from tests.pipeline.test_run import Heard
from tests.scripted import ScriptedGenerator, write_text


def _answer(request: Request) -> str:
    if request.template.startswith("criticise"):
        text = "分類が分からない。"
    elif request.template.startswith("refine"):
        about = {"配送": "荷物がまだ届きません", "返品": "商品を返したいです"}[request.label]
        text = f"{about}（{request.seed}番）。早めにお願いします。"
    else:
        text = write_text(request)
    return json.dumps({"text": text}, ensure_ascii=False)


@pytest.fixture
def task(raw_task: dict[str, Any], tiny_encoder: str, tmp_path: Path) -> Task:
    # Enough gold, and plain enough, for a random encoder to tell the labels by.
    rows = [f"荷物の配達が{n}件届きません,配送\n返品と交換を{n}件頼みます,返品" for n in range(30)]
    (tmp_path / "gold.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    raw_task["gold"] = {"path": str(tmp_path / "gold.csv")}
    raw_task["training"] = {"encoder": tiny_encoder}
    raw_task["refinement"] = {"rounds": 1, "doubt": 0.95}
    return Task.parse(raw_task)


def test_a_run_refines_once(task: Task, tmp_path: Path) -> None:
    heard, generator = Heard(), ScriptedGenerator(_answer, kind="chat")
    run = jg.run(task, tmp_path / "run", generator=generator, listener=heard, until="curate")
    assert heard.notes == []
    templates = [r.template.partition(".")[0] for r in generator.asked]
    assert templates.count("criticise") == templates.count("refine") > 0
    dataset = run.after("curate")
    children = [e for e in dataset if e.parent_id and e.id.endswith("-f1")]
    assert len(children) == templates.count("refine")
    kept = {e.id for e in dataset.kept}
    for child in children:
        assert (child.id in kept) != (child.parent_id in kept)
    again = ScriptedGenerator(_answer, kind="chat")
    resumed = jg.run(task, tmp_path / "run", generator=again, until="curate")
    assert again.asked == []
    assert resumed.after("curate").fingerprint == dataset.fingerprint


def test_a_base_model_is_not_asked_and_the_run_says_so(task: Task, tmp_path: Path) -> None:
    heard, generator = Heard(), ScriptedGenerator()
    jg.run(task, tmp_path / "run", generator=generator, listener=heard, until="curate")
    assert any("No text is refined" in note for note in heard.notes)
    assert not any(r.template.startswith("criticise") for r in generator.asked)


def test_why_not_says_what_is_missing(task: Task) -> None:
    chat, base = (ScriptedGenerator(kind=kind).info for kind in ("chat", "document"))
    assert why_not_refined(task, True, chat) == ""
    assert "gold" in why_not_refined(task, False, chat)
    assert "refinement.generator" in why_not_refined(task, True, base)
    tags = task.model_copy(update={"kind": "multi_label"})
    assert "one label" in why_not_refined(tags, True, chat)


def test_a_plan_says_what_is_not_in_its_table(
    raw_task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw_task["refinement"] = {"rounds": 2}
    raw_task["generation"]["attributes"] = {"話題": ["箱", "伝票"], "立場": ["客", "店"]}
    task = Task.parse(raw_task)
    for kind in ("chat", "document"):
        monkeypatch.setattr(
            "japagen.pipeline.estimate.load_generator",
            lambda _, kind=kind: ScriptedGenerator(_answer, kind=kind),
        )
        found = estimate(task, sample=0)
        steps = {step["step"]: step["requests"] for step in found["steps"]}
        told = [note for note in found["notes"] if "told the first alone" in note]
        if kind == "chat":
            assert (steps["refine"], told) == (2 * 2 * steps["generate"], [])
        else:
            assert ("refine" not in steps, len(told)) == (True, 1)
            assert any("No text will be refined" in note for note in found["notes"])
        assert sum(r["kind"] == "attribute" for r in found["knowledge"]) == (
            8 if kind == "chat" else 4
        )
