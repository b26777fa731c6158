from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from japagen.stages import estimating, previewing
from japagen.tasks.tasks import Task
from tests.scripted import ScriptedGenerator


@pytest.fixture
def task(raw_task: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Task:
    for module in (estimating, previewing):
        monkeypatch.setattr(module, "load_generator", lambda settings: ScriptedGenerator())
    raw_task["generation"] |= {"per_label": 20, "rounds": 2}
    raw_task["concepts"] = {"配送": {"再配達": 0.3, "置き配": 0.1}}
    raw_task["rare_cases"] = {"返品": ["届いた箱が空だった"]}
    return Task.parse(raw_task)


def test_a_plan_says_what_requests_name_in_each_round(task: Task) -> None:
    found = estimating.estimate(task)
    assert found["steps"][0]["requests"] == 40
    assert found["rounds"] == [20, 20]
    named = {(r["label"], r["kind"], r["item"]): r["requests"] for r in found["knowledge"]}
    assert named == {
        ("配送", "concept", "再配達"): 6,
        ("配送", "concept", "置き配"): 2,
        ("返品", "rare", "届いた箱が空だった"): 2,
    }
    assert sum(cell["requests"] for cell in found["cells"]) == 40


def test_a_preview_shows_every_kind_before_it_repeats_one(task: Task) -> None:
    rows = previewing.sample(task, 12)
    named = [row for row in rows if row["knowledge"]]
    kinds = Counter(row["knowledge"][0].split(":")[0] for row in named)
    assert set(kinds) == {"concept", "rare"}
    assert all(row["text"] for row in rows)
    assert named[0]["prompt"].endswith(f"- （{named[0]['knowledge'][0].split(':')[1]}）")
