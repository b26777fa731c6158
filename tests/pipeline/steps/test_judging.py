"""The rubric judge in a run, a plan and a preview, and what people edited."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.task import Task
from japagen.data.dataset import EDITED, Rejection
from japagen.data.formats import read_examples, write_examples
from japagen.llm.backend import Request
from japagen.pipeline.estimate import estimate
from japagen.pipeline.preview import sample
from japagen.pipeline.review import open_review
from japagen.reporting.report import render_report
from japagen.review.decisions import FILE, Decision, Decisions, text_hash
from tests.command_line import japagen
from tests.pipeline.test_run import Heard
from tests.scripted import ScriptedGenerator, write_text

CRITERIA = ("naturalness", "label", "register", "harmlessness")


def _answer(request: Request) -> str:
    """Texts, and scores that are low for every text in a hurry."""
    if request.options:
        return json.dumps({"label": request.options[0]}, ensure_ascii=False)
    if not request.criteria:
        return json.dumps({"text": write_text(request)}, ensure_ascii=False)
    assert not isinstance(request.prompt, str)
    hurried = "急ぎ" in request.prompt[-1].content
    return json.dumps({**dict.fromkeys(CRITERIA, 5), "naturalness": 2 if hurried else 4})


@pytest.fixture
def task(raw_task: dict[str, Any], tiny_encoder: str) -> Task:
    raw_task["training"] = {"encoder": tiny_encoder}
    raw_task["alignment"] = {"label_trust": "none"}
    raw_task["curation"]["judge"] = {"least": {"naturalness": 3}}
    return Task.parse(raw_task)


def test_a_run_scores_what_it_keeps_once(task: Task, tmp_path: Path) -> None:
    generator = ScriptedGenerator(_answer, kind="chat")
    run = jg.run(task, tmp_path / "run", generator=generator, until="curate")
    scored = [r for r in generator.asked if r.criteria]
    dataset = run.after("curate")
    judged = [e for e in dataset if e.scores]
    assert len(scored) == len(judged) > 0
    for example in judged:
        score = 2.0 if "急ぎ" in example.text else 4.0
        assert example.scores == {**dict.fromkeys(CRITERIA, 5.0), "naturalness": score}
        low = Rejection("judge", 2.0, 3.0, "naturalness")
        assert example.rejected == (low if score == 2.0 else None)
    assert {e.rejected is None for e in judged} == {True, False}
    assert all(e.rejected for e in dataset if not e.scores)

    again = ScriptedGenerator(_answer, kind="chat")
    assert (
        jg.run(task, tmp_path / "run", generator=again, until="curate").after("curate").fingerprint
        == dataset.fingerprint
    )
    assert again.asked == []
    # A looser bound asks nobody again: the answers are in the ledger.
    curation = task.curation.model_copy(
        update={
            "judge": task.curation.judge and task.curation.judge.model_copy(update={"least": {}})
        }
    )
    loose = task.model_copy(update={"curation": curation})
    kept = jg.run(loose, tmp_path / "run", generator=again, until="curate").after("curate").kept
    assert (again.asked, len(kept)) == ([], len(judged))

    exported = tmp_path / "texts.jsonl"
    write_examples(exported, kept)
    assert [e.scores for e in read_examples(exported)] == [e.scores for e in kept]


def test_who_continues_documents_scores_nothing(task: Task, tmp_path: Path) -> None:
    heard = Heard()
    generator = ScriptedGenerator()
    run = jg.run(task, tmp_path / "run", generator=generator, listener=heard, until="curate")
    assert any("curation.judge.generator" in note for note in heard.notes)
    assert [e.scores for e in run.after("curate").kept if e.scores] == []


def test_plans_and_previews_tell_of_the_scores(
    task: Task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in ("estimate", "preview"):
        monkeypatch.setattr(
            f"japagen.pipeline.{module}.load_generator",
            lambda _: ScriptedGenerator(_answer, kind="chat"),
        )
    found = estimate(task, tmp_path / "none", sample=0)
    steps = {step["step"]: step for step in found["steps"]}
    assert steps["rubric"]["requests"] == steps["generate"]["requests"]
    assert 0 < steps["rubric"]["completion_tokens"] <= steps["rubric"]["max_completion_tokens"]
    rows = sample(task, 2)
    assert [len(row["scores"]) for row in rows] == [1, 1]
    assert set(rows[0]["scores"][0]) == set(CRITERIA)

    texts = tmp_path / "texts.csv"
    texts.write_text("text,label\n荷物がまだ届いていません,配送\n返品したいです,返品\n", "utf-8")
    raw = task.model_dump(mode="json", exclude_unset=True)
    raw |= {"sources": [{"name": "own", "path": str(texts)}]}
    raw["curation"]["judge"]["generator"] = {"backend": "openai", "model": "m"}
    found = estimate(Task.parse(raw), tmp_path / "none", sample=0)
    assert [(s["step"], s["requests"]) for s in found["steps"]] == [("rubric", 2)]


def test_least_names_criteria(raw_task: dict[str, Any]) -> None:
    raw_task["curation"]["judge"] = {"least": {"naturalnes": 3}}
    with pytest.raises(jg.JapagenError, match="naturalnes"):
        Task.parse(raw_task)


def test_decisions_and_edits_go_into_the_next_run(task: Task, tmp_path: Path) -> None:
    generator, path = ScriptedGenerator(_answer, kind="chat"), tmp_path / "run"
    kept = list(jg.run(task, path, generator=generator, until="align").after("curate").kept)
    good, short, agreed = kept[:3]
    decisions = Decisions(path / FILE)
    for example, text in (
        (good, "荷物が届くのは明日の午前でしょうか。"),
        (short, "はい"),
        (agreed, None),
    ):
        hashed = text_hash(example.text)
        label = str(example.label)
        decisions.save(Decision(example.id, "accept", hashed, label=label, text=text), 0)
    decisions.close()
    run = jg.run(task, path, generator=generator)
    found = {e.id: e for e in run.dataset}
    for example in (good, short):
        replaced = found[example.id].rejected
        assert replaced is not None
        assert replaced.filter == EDITED
    scored = [e for e in run.dataset if e.scores]
    edited = {e.parent_id: e for e in run.dataset if e.derived == EDITED}
    assert set(edited) == {good.id, short.id}
    assert edited[good.id].rejected is None
    assert edited[good.id].register_seen is not None
    assert edited[good.id].register_seen.name == "polite"
    refused = edited[short.id].rejected
    assert refused is not None
    assert refused.filter == "too_short"
    assert found[agreed.id].weight_label == 1.0

    with open_review(path) as session:
        shown = session.state()["examples"]
        assert {e["id"] for e in shown} == {e.id for e in run.dataset if e.derived != EDITED}
        assert next(e for e in shown if e["id"] == good.id)["decision"]["text"]
        agreement = session.judge_agreement()
    assert agreement is not None
    assert (agreement["texts"], agreement["passed"]) == (3, (3, 1))

    measured = run.summary.judge
    assert measured is not None
    assert (measured.texts, set(measured.criteria)) == (len(scored), set(CRITERIA))
    given = [e.scores["naturalness"] for e in scored if e.scores]
    naturalness = measured.criteria["naturalness"]
    assert naturalness.mean == pytest.approx(sum(given) / len(given))
    assert naturalness.counts == {"2": given.count(2.0), "4": given.count(4.0)}
    assert naturalness.rejected == given.count(2.0)
    assert measured.agreement is not None
    assert measured.agreement.texts == 3
    assert "Label faithfulness" in render_report(run.summary, run.dataset, language="en")
    code, out, _ = japagen("data", "review", path, "--summary")
    assert (code, "agreement with the judge on 3 texts: 33.3%" in out) == (0, True)
    code, out, _ = japagen("data", "review", path, "--summary", "--lang", "ja")
    assert code == 0
    assert re.findall("[a-z]{3,}", out) == []
    page = render_report(run.summary, run.dataset, language="ja")
    assert not re.search(">(naturalness|label|harmlessness)</td>", page)
