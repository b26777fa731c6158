from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from japagen.config.sources import SourceEntry
from japagen.config.task import Task
from japagen.pipeline import estimate, preview
from tests.conftest import write_jsonl
from tests.scripted import ScriptedGenerator


@pytest.fixture
def task(raw_task: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Task:
    for module in (estimate, preview):
        monkeypatch.setattr(module, "load_generator", lambda settings: ScriptedGenerator())
    raw_task["generation"] |= {"per_label": 20, "rounds": 2}
    raw_task["concepts"] = {"配送": {"再配達": 0.3, "置き配": 0.1}}
    raw_task["rare_cases"] = {"返品": ["届いた箱が空だった"]}
    return Task.parse(raw_task)


def test_a_plan_says_what_requests_name_in_each_round(task: Task) -> None:
    found = estimate.estimate(task)
    assert found["steps"][0]["requests"] == 40
    assert found["rounds"] == [20, 20]
    named = {(r["label"], r["kind"], r["item"]): r["requests"] for r in found["knowledge"]}
    assert named == {
        ("配送", "concept", "再配達"): 6,
        ("配送", "concept", "置き配"): 2,
        ("返品", "rare", "届いた箱が空だった"): 2,
    }
    assert sum(cell["requests"] for cell in found["cells"]) == 40


def test_only_the_generator_of_several_sources_costs(task: Task, tmp_path: Path) -> None:
    rows = [{"text": f"荷物の件です、{n}回目。", "label": "配送"} for n in "一二三"]
    file = SourceEntry(name="theirs", path=write_jsonl(tmp_path / "theirs.jsonl", rows))
    both = task.model_copy(update={"sources": (file, *task.sources)})
    alone, together = estimate.estimate(task), estimate.estimate(both)
    assert together["sources"] == [{"name": "theirs", "file": "theirs.jsonl", "texts": 3}]
    assert alone["sources"] == []
    assert together["cells"] == alone["cells"]
    for before, after in zip(alone["steps"], together["steps"], strict=True):
        assert (after["requests"] > before["requests"]) == (after["step"] == "trust")
    shown = preview.sample(both, 4)
    assert [row["source"] for row in shown] == ["theirs"] * 3 + ["generator"] * 4
    assert [bool(row["prompt"]) for row in shown] == [False] * 3 + [True] * 4


def test_a_preview_shows_every_kind_before_it_repeats_one(task: Task) -> None:
    rows = preview.sample(task, 12)
    named = [row for row in rows if row["knowledge"]]
    kinds = Counter(row["knowledge"][0].split(":")[0] for row in named)
    assert set(kinds) == {"concept", "rare"}
    assert all(row["text"] for row in rows)
    assert named[0]["prompt"].endswith(f"- （{named[0]['knowledge'][0].split(':')[1]}）")
