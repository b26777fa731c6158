"""``kind: code`` from the task file to the report, with recorded answers and real execution."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from japagen.config.code import CodeChecks, CodeGeneration, CodeTask
from japagen.curation.sandbox import check_isolation
from japagen.data.code import CodeSummary, load_programs, read_programs
from japagen.data.files import resource_dir
from japagen.errors import JapagenError
from japagen.llm.backend import Request
from japagen.pipeline import code, kinds
from tests.command_line import japagen, refuses_labels
from tests.conftest import ROOT
from tests.sandbox import needs_sandbox
from tests.scripted import ScriptedGenerator

CONFIG = resource_dir("configs") / "code.yaml"
RECORDED = read_programs(resource_dir("configs") / "code" / "strong_llm.jsonl")


def _answer(request: Request) -> str:
    """What the strong LLM answered on the topic and the difficulty that are asked for."""
    alike = [one for one in RECORDED if one.topic == request.label]
    one = min(alike, key=lambda one: (one.difficulty != request.settings[0], one.id))
    return json.dumps(
        {"instruction": one.instruction, "solution": one.solution, "tests": one.tests},
        ensure_ascii=False,
    )


def _task(**more: Any) -> CodeTask:
    few = {
        "topics": ("数の計算", "リストと辞書の集計", "木とグラフ"),
        "generation": CodeGeneration(programs=5, shots=0),
        "checks": CodeChecks(mutants=2),
    }
    return CodeTask(kind="code", name="few", **{**few, **more})


THREE = CodeGeneration(programs=3, shots=0)


@needs_sandbox
def test_recorded_answers_are_asked_for_run_and_reported(tmp_path: Path) -> None:
    generator = ScriptedGenerator(_answer, "chat")
    path = code.run(_task(), tmp_path / "a", generator=generator)
    programs = load_programs(path)
    summary = CodeSummary.load(path)
    assert len(generator.asked) == len(programs) == 5
    # Asked for twice with the same topic and difficulty, the record has the same answer.
    assert summary.counts.written == 5
    assert 3 <= summary.counts.kept < 5
    assert summary.rejections.keys() == {"near_duplicate"}
    assert set(summary.scores) == {one.id for one in programs}
    assert summary.killed <= summary.mutants
    assert {one.source for one in programs} == {"scripted"}
    page = (path / "report.html").read_text(encoding="utf-8")
    assert next(one.instruction[:20] for one in programs if not one.rejected) in page
    assert "指示文がほかとほぼ同じ" in page


@needs_sandbox
def test_a_replay_asks_nobody_and_comes_out_alike(tmp_path: Path) -> None:
    three = _task(generation=THREE)
    first = code.run(three, tmp_path / "a", generator=ScriptedGenerator(_answer, "chat"))
    replay = _task(generation=THREE, generator={"backend": "replay", "model": str(first)})
    again = code.run(replay, tmp_path / "b")
    assert [(one.id, one.rejected) for one in load_programs(first)] == [
        (one.id, one.rejected) for one in load_programs(again)
    ]


@needs_sandbox
def test_a_run_goes_on_with_what_was_not_judged_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, judged = code.check_program, []

    def interrupted(*given: Any) -> Any:
        judged.append(given[0].id)
        if len(judged) == 2:
            raise KeyboardInterrupt
        return usual(*given)

    monkeypatch.setattr(code, "cpu_count", lambda: 1)
    monkeypatch.setattr(code, "check_program", interrupted)
    generator = ScriptedGenerator(_answer, "chat")
    task = _task(generation=THREE)
    with pytest.raises(KeyboardInterrupt):
        code.run(task, tmp_path / "a", generator=generator)
    code.run(task, tmp_path / "a", generator=generator)
    assert len(generator.asked) == 3
    assert len(judged) == 4
    assert judged.count(judged[1]) == 2
    # Another bound has all of them judged again, and none of them asked for.
    other = task.model_copy(update={"checks": CodeChecks(mutants=1)})
    code.run(other, tmp_path / "a", generator=generator)
    assert len(judged) == 7
    assert len(generator.asked) == 3


@needs_sandbox
def test_a_program_that_wants_out_is_a_row_with_its_reason(tmp_path: Path) -> None:
    good, hostile = RECORDED[2], "import os\nos.kill(os.getppid(), 9)\ndef digit_sum(n): ...\n"
    rows = [
        {"id": "../../x", "instruction": good.instruction, "solution": s, "tests": good.tests}
        for s in (hostile, good.solution)
    ]
    source = tmp_path / "given.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    task = CodeTask(kind="code", name="x", source=source, checks=CodeChecks(modules=("os",)))
    path = code.run(task, tmp_path / "run")
    bad, kept = load_programs(path)
    assert bad.rejected is not None
    assert bad.rejected.filter == "fails"
    assert "PermissionError" in bad.rejected.detail
    assert kept.rejected is None
    assert not (tmp_path.parent / "x.json").exists()


def test_without_isolation_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    check_isolation.cache_clear()
    generator = ScriptedGenerator(_answer, "chat")
    with pytest.raises(JapagenError, match="Expected bubblewrap"):
        code.run(_task(), tmp_path / "a", generator=generator)
    assert not generator.asked
    assert not (tmp_path / "a").exists()
    returned, _, said = japagen("run", CONFIG, "--out", tmp_path / "a")
    assert returned == 2
    assert "apt install bubblewrap" in said


def test_plan_and_preview_ask_as_the_run_would(tmp_path: Path) -> None:
    path = tmp_path / "few.yaml"
    path.write_text(_task(source=None).to_yaml(), encoding="utf-8")
    assert kinds.kind_of(path) is code
    assert json.loads(japagen("plan", CONFIG, "--json")[1])["sources"][0]["texts"] == len(RECORDED)
    rows = json.loads(japagen("preview", CONFIG, "-n", "2", "--json")[1])
    assert [row["label"] for row in rows] == [one.topic for one in RECORDED[:2]]
    assert RECORDED[0].instruction[:20] in japagen("preview", CONFIG, "-n", "1")[1]
    ledger = tmp_path / "ledger.sqlite"
    code.LLMClient(
        _task(), generator := ScriptedGenerator(_answer, "chat"), ledger, code.Logged(bars=False)
    ).ask(code.plan_programs(_task(), [], code.PromptLibrary(), generator.info), "generate")
    recorded = _task(generator={"backend": "replay", "model": str(ledger)})
    found = code.plan(recorded, tmp_path, 0)
    assert (found["requests"], found["answered"], found["texts"]) == (5, 5, 5)
    shown = code.preview(recorded, 2)
    assert [row["label"] for row in shown] == ["数の計算", "リストと辞書の集計"]
    assert "pytest" in shown[0]["prompt"]
    assert RECORDED[2].instruction in shown[0]["text"]
    with sqlite3.connect(ledger) as db:
        assert db.execute("SELECT COUNT(*) FROM requests").fetchone() == (5,)


@needs_sandbox
def test_the_command_line_runs_reports_and_exports(tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    lines = (ROOT / "configs/code/strong_llm.jsonl").read_text(encoding="utf-8").splitlines()
    few.write_text("\n".join([*lines[2:4], lines[2]]) + "\n", encoding="utf-8")
    out = tmp_path / "run"
    options = ("--set", f"source={few}", "--set", "checks.mutants=2", "--out", out)
    returned, said, errors = japagen("run", CONFIG, *options)
    assert returned == 0, errors
    assert "2 of 3 programs kept" in said
    assert "rejected: Instruction near that of another: 1" in said
    assert json.loads(japagen("run", CONFIG, *options, "--json")[1])["counts"]["kept"] == 2
    page = tmp_path / "page.html"
    assert japagen("report", out, "--lang", "en", "-o", page)[0] == 0
    assert "Mutation scores" in page.read_text(encoding="utf-8")
    chat = tmp_path / "chat.jsonl"
    assert japagen("data", "export", out, "-o", chat, "--format", "chat")[0] == 0
    rows = [json.loads(line) for line in chat.read_text(encoding="utf-8").splitlines()]
    assert [m["role"] for m in rows[0]["messages"]] == ["user", "assistant"]
    assert rows[0]["messages"][1]["content"].startswith("```python\n")
    card = (tmp_path / "chat.card.md").read_text(encoding="utf-8")
    assert "3 written, 2 kept" in card
    everything = tmp_path / "all.jsonl"
    assert japagen("data", "export", out, "-o", everything, "--rejected")[0] == 0
    assert len(everything.read_text(encoding="utf-8").splitlines()) == 3
    for wrong in (("-o", tmp_path / "x.csv"), ("-o", chat), ("-o", page, "--format", "squad")):
        assert japagen("data", "export", out, *wrong)[0] == 2
    assert japagen("run", CONFIG, "--until", "train", "--out", out)[0] == 2
    refuses_labels(out, CONFIG, few)
