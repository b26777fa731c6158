from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from japagen.errors import JapagenError
from japagen.japanese.registers import Register
from japagen.llm.backend import Answer, Request, Sampling
from japagen.llm.ledger import Ledger, ledger_errors


def _request(number: int) -> Request:
    return Request(f"r{number}", "- ", Sampling(), number, "配送", Register.of("polite"), "t")


def test_answers_outlive_the_process_that_wrote_them(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(Ledger(path)) as ledger:
        ledger.plan([_request(1), _request(2)], "g")
        ledger.record(Answer("r1", "届きません。", "stop", 10, 5, 0.5))
        ledger.record(Answer("r2", "", "error", 3, 0, 0.1, error="timed out"))
    with closing(Ledger(path)) as ledger:
        assert ledger.answers(["r1", "r2"]) == {
            "r1": Answer("r1", "届きません。", "stop", 10, 5, 0.5)
        }
        assert ledger.failures(["r1", "r2"]) == {"r2": "timed out"}


def test_a_second_answer_costs_but_is_not_accepted(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        ledger.plan([_request(1)], "g")
        ledger.record(Answer("r1", "一つ目", "stop", 10, 5, 0.5))
        ledger.record(Answer("r1", "二つ目", "stop", 10, 7, 0.5))
        assert ledger.answers(["r1"])["r1"].text == "一つ目"
        totals = ledger.totals()
        assert totals["attempts"] == 2
        assert totals["answers"] == 1
        assert totals["completion_tokens"] == 12


def test_an_answer_after_a_failure_is_accepted_and_both_cost(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        ledger.plan([_request(1)], "g")
        ledger.record(Answer("r1", "", "error", 4, 0, 0.1, error="500"))
        ledger.plan([_request(1)], "g")
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
