"""Attributes and passages in a run: counted, and copies turned down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.sections import Privacy
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.generation.coverage import due, measure_coverage, named_in, passages_in, wants_coverage
from japagen.generation.planner import to_dataset
from japagen.japanese.morphology import default_tagger
from japagen.llm.backend import Answer, Request
from japagen.llm.requests import prepare
from japagen.pipeline.context import TaskContext
from japagen.pipeline.steps.generate import plan
from tests.scripted import ScriptedGenerator, write_text

FAQ = "荷物の再配達は、電話かウェブで、{n}日前の夜まで受け付けています。返品の送料は店が払います。"


@pytest.fixture
def faq(tmp_path: Path) -> Path:
    path = tmp_path / "faq.csv"
    rows = [*(FAQ.format(n=n) for n in range(1, 7)), "苦情は 03-1234-5678 へ。荷物の話。"]
    path.write_text("\n".join(["本文", *rows]), encoding="utf-8")
    return path


def _copies_passages(request: Request) -> str:
    found = [k.removeprefix("passage:") for k in request.knowledge if k.startswith("passage:")]
    return json.dumps({"text": found[0] if found else write_text(request)}, ensure_ascii=False)


def test_a_run_turns_down_copies_of_its_passages(
    raw_task: dict[str, Any], faq: Path, tmp_path: Path
) -> None:
    raw_task["generation"]["corpus"] = {"path": str(faq), "columns": {"text": "本文"}}
    generator = ScriptedGenerator(_copies_passages, kind="chat")
    task = Task.parse(raw_task)
    run = jg.run(task, tmp_path / "run", generator=generator, until="curate")
    copies = [e for e in run.after("curate") if e.rejected and e.rejected.filter == "passage_copy"]
    assert len(copies) == len(passages_in(generator.asked)) > 0
    assert any(e.rejected is None for e in run.after("curate"))


def test_passages_are_masked_on_their_way_out(raw_task: dict[str, Any], faq: Path) -> None:
    raw_task["generation"]["corpus"] = {"path": str(faq), "columns": {"text": "本文"}}
    task = Task.parse(raw_task)
    info = ScriptedGenerator(kind="chat").info
    requests = plan(TaskContext.open(task, load_data(task)), info)
    assert any("03-1234-5678" in passage for passage in passages_in(requests))
    from dataclasses import replace

    sent = prepare(requests, replace(info, local=False), Privacy()).requests
    assert not any("03-1234-5678" in turn.content for r in sent for turn in r.prompt)  # type: ignore[union-attr]


def test_values_are_counted_among_the_texts_kept(raw_task: dict[str, Any]) -> None:
    raw_task["generation"]["attributes"] = {"話題": ["箱", "伝票", "時間"], "立場": ["客", "店"]}
    task = Task.parse(raw_task)
    assert wants_coverage(task)
    requests = plan(TaskContext.open(task, load_data(task)), ScriptedGenerator(kind="chat").info)
    answers = {
        r.id: Answer(r.id, json.dumps({"text": write_text(r)}, ensure_ascii=False), "stop")
        for r in requests[:-1]
    }
    rows = to_dataset(requests, answers, {}, "scripted")
    covered = measure_coverage(task, rows, named_in(requests), default_tagger())
    for found in covered.values():
        by_item = {c.item: c for c in found.covered}
        assert set(by_item) == {"話題：箱", "話題：伝票", "話題：時間", "立場：客", "立場：店"}
        assert {c.kind for c in found.covered} == {"attribute"}
        assert [by_item[f"話題：{v}"].asked for v in ("箱", "伝票", "時間")] == [4, 4, 4]
        assert sum(by_item[f"立場：{v}"].found for v in ("客", "店")) == found.kept
        assert by_item["立場：客"].wanted == pytest.approx(0.5)
        assert due(found, 10) == {}
