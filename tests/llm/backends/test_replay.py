from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.errors import JapagenError
from japagen.llm.backend import Answer, Request
from japagen.llm.backends.replay import ReplayGenerator
from japagen.pipeline.context import TaskContext
from japagen.pipeline.steps.generate import plan
from tests.scripted import ScriptedGenerator, write_text


def _flaky(request: Request) -> str | Answer:
    if request.seed % 7 == 0:
        return Answer(request.id, "", "error", 5, 0, 0.2, "refused by the content filter")
    return write_text(request)


@pytest.fixture
def recorded(task: Task, tmp_path: Path) -> Path:
    jg.run(task, tmp_path / "recorded", until="curate", generator=ScriptedGenerator(_flaky))
    return tmp_path / "recorded"


def _replaying(raw: dict[str, Any], run: Path, **generation: float) -> Task:
    generator = {"backend": "replay", "model": str(run)}
    return Task.parse(
        {**raw, "generator": generator, "generation": {**raw["generation"], **generation}}
    )


def test_a_recorded_run_replays_byte_for_byte(
    raw_task: dict[str, Any], recorded: Path, tmp_path: Path
) -> None:
    again = jg.run(_replaying(raw_task, recorded), tmp_path / "again", until="curate")
    for name in ("generated.parquet", "curated.parquet", "registers.parquet"):
        assert (again.path / name).read_bytes() == (recorded / name).read_bytes(), name
    # A replay is a record too.
    third = jg.run(_replaying(raw_task, again.path), tmp_path / "third", until="curate")
    assert (third.path / "registers.parquet").read_bytes() == (
        recorded / "registers.parquet"
    ).read_bytes()


def test_what_was_not_recorded_is_an_error(
    raw_task: dict[str, Any], recorded: Path, tmp_path: Path
) -> None:
    with pytest.raises(JapagenError, match=r"has no answer to request \w+ \(label") as caught:
        jg.run(_replaying(raw_task, recorded, per_label=40), tmp_path / "more")
    assert "templates" in caught.value.hint


def test_it_is_said_what_of_a_prompt_has_changed(
    raw_task: dict[str, Any], recorded: Path, tmp_path: Path
) -> None:
    renamed = {**raw_task, "text_type": "お便り"}
    with pytest.raises(JapagenError, match="has another request in place of") as caught:
        jg.run(_replaying(renamed, recorded), tmp_path / "renamed")
    message = caught.value.message
    assert re.search(r"\(template \w+\.document, label '配送', register polite\)", message)
    was, now = re.findall(r"'([^']*)'", message)[-2:]
    assert now == was.replace(raw_task["text_type"], "お便り") != was
    assert "Take the change of the template, task or gold back" in caught.value.hint
    hotter = _replaying(raw_task, recorded, temperature=0.25)
    with pytest.raises(JapagenError, match=r"'\{.*'temperature': 0\.25.*' is asked now"):
        jg.run(hotter, tmp_path / "hotter")


def test_reading_a_record_leaves_it_as_it_is(recorded: Path) -> None:
    before = {p: p.read_bytes() for p in recorded.iterdir() if p.is_file()}
    generator = ReplayGenerator(recorded)
    assert generator.info.identity == "scripted:1"
    assert generator.info.terms.may_train is True
    assert {p: p.read_bytes() for p in recorded.iterdir() if p.is_file()} == before


def test_records_that_cannot_be_read(tmp_path: Path, raw_task: dict[str, Any]) -> None:
    with pytest.raises(JapagenError, match="Expected the record of a run at"):
        ReplayGenerator(tmp_path)
    (tmp_path / "ledger.sqlite").write_bytes(b"garbage" * 1000)
    with pytest.raises(JapagenError, match="damaged"):
        ReplayGenerator(tmp_path)
    (tmp_path / "ledger.sqlite").write_bytes(b"")
    with pytest.raises(JapagenError, match="does not say which generator"):
        ReplayGenerator(tmp_path)
    with pytest.raises(JapagenError, match="replay needs a run directory"):
        jg.run(Task.parse({**raw_task, "generator": {"backend": "replay"}}), tmp_path / "run")


def test_answers_in_lines_of_json_are_a_record_too(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    who = {"name": "someone", "identity": "recorded:1", "terms": {"summary": "Free to use."}}
    rows = [{"generator": who}, {"id": "a", "text": "届きません。"}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    generator = ReplayGenerator(path)
    assert generator.info.name == "someone"
    assert generator.info.prompt_kind == "chat"
    request = replace(_request(raw_task), id="a")
    assert [a.text for a in generator.stream([request])] == ["届きません。"]
    with pytest.raises(JapagenError, match=r"no answer to request b of the template \w+\.chat \("):
        list(generator.stream([replace(request, id="b")]))


@pytest.mark.parametrize("lines", ["", "[]", '{"generator": {"name": "x"}}', "\n{}"])
def test_other_lines_are_refused(tmp_path: Path, lines: str) -> None:
    (tmp_path / "answers.jsonl").write_text(lines, encoding="utf-8")
    with pytest.raises(JapagenError, match="Expected recorded answers in"):
        ReplayGenerator(tmp_path / "answers.jsonl")


def _request(raw: dict[str, Any]) -> Request:
    task = Task.parse(raw)
    return plan(TaskContext.open(task, load_data(task)), ScriptedGenerator(kind="chat").info)[0]
