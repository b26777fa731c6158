from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.errors import JapagenError
from japagen.japanese.registers import Register
from japagen.llm.backend import Answer, Request, Sampling
from japagen.llm.ledger import Ledger, ReplayGenerator, ledger_errors
from japagen.pipeline.context import TaskContext
from japagen.pipeline.steps.generate import plan
from tests.scripted import ScriptedGenerator, write_text


def _document(number: int) -> Request:
    return Request(f"r{number}", "- ", Sampling(), number, "配送", Register.of("polite"), "t")


def test_answers_outlive_the_process_that_wrote_them(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(Ledger(path)) as ledger:
        ledger.plan([_document(1), _document(2)], "g")
        ledger.record(Answer("r1", "届きません。", "stop", 10, 5, 0.5))
        ledger.record(Answer("r2", "", "error", 3, 0, 0.1, error="timed out"))
    with closing(Ledger(path)) as ledger:
        assert ledger.answers(["r1", "r2"]) == {
            "r1": Answer("r1", "届きません。", "stop", 10, 5, 0.5)
        }
        assert ledger.failures(["r1", "r2"]) == {"r2": "timed out"}


def test_a_second_answer_costs_but_is_not_accepted(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        ledger.plan([_document(1)], "g")
        ledger.record(Answer("r1", "一つ目", "stop", 10, 5, 0.5))
        ledger.record(Answer("r1", "二つ目", "stop", 10, 7, 0.5))
        assert ledger.answers(["r1"])["r1"].text == "一つ目"
        totals = ledger.totals()
        assert totals["attempts"] == 2
        assert totals["answers"] == 1
        assert totals["completion_tokens"] == 12


def test_an_answer_after_a_failure_is_accepted_and_both_cost(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        ledger.plan([_document(1)], "g")
        ledger.record(Answer("r1", "", "error", 4, 0, 0.1, error="500"))
        ledger.plan([_document(1)], "g")
        ledger.record(Answer("r1", "届いた", "stop", 4, 2, 0.1))
        assert ledger.answers(["r1"])["r1"].text == "届いた"
        assert ledger.failures(["r1"]) == {}
        assert ledger.totals()["prompt_tokens"] == 8


def test_a_damaged_ledger_is_told_from_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(JapagenError, match="damaged"), ledger_errors(path):
        Ledger(path)
    assert path.read_bytes() == b"garbage" * 1000
    with pytest.raises(JapagenError, match=r"Cannot write .*full"), ledger_errors(path):
        raise sqlite3.OperationalError("database or disk is full")
    with pytest.raises(sqlite3.OperationalError), ledger_errors(path):
        raise sqlite3.OperationalError("no such table: answers")


def _flaky(request: Request) -> str | Answer:
    if request.seed % 7 == 0:
        return Answer(request.id, "", "error", 5, 0, 0.2, "refused by the content filter")
    return write_text(request)


@pytest.fixture
def recorded(task: Task, tmp_path: Path) -> Path:
    jg.run(task, tmp_path / "recorded", until="curate", generator=ScriptedGenerator(_flaky))
    return tmp_path / "recorded"


def _replaying(raw: dict[str, Any], run: Path, **generation: int) -> Task:
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
    with pytest.raises(JapagenError, match="has no answer to request b"):
        list(generator.stream([replace(request, id="b")]))


@pytest.mark.parametrize("lines", ["", "[]", '{"generator": {"name": "x"}}', "\n{}"])
def test_other_lines_are_refused(tmp_path: Path, lines: str) -> None:
    (tmp_path / "answers.jsonl").write_text(lines, encoding="utf-8")
    with pytest.raises(JapagenError, match="Expected recorded answers in"):
        ReplayGenerator(tmp_path / "answers.jsonl")


def _request(raw: dict[str, Any]) -> Request:
    task = Task.parse(raw)
    return plan(TaskContext.open(task, load_data(task)), ScriptedGenerator(kind="chat").info)[0]
