from __future__ import annotations

import json
from pathlib import Path

import pytest

from japagen.config.code import CodeTask
from japagen.data.code import EXAMPLES, Program, load_programs, read_programs
from japagen.data.export import write_lines
from japagen.errors import DamagedError, JapagenError

ROW = {"instruction": "指示", "solution": "x = 1\n", "tests": "t"}


def _file(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "programs.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_programs_come_back_as_they_were(tmp_path: Path) -> None:
    program = Program("指示", "x = 1\n", "t", id="a", mutants=3, killed=2, survivors=("1: a → b",))
    programs = [program, program.reject("fails", 1, 0, "why")]
    write_lines(tmp_path / EXAMPLES, programs)
    assert load_programs(tmp_path) == programs
    assert program.score == pytest.approx(2 / 3)


def test_given_programs_get_an_id_and_the_name_of_their_file(tmp_path: Path) -> None:
    first, second = read_programs(_file(tmp_path, json.dumps(ROW), "", json.dumps(ROW)))
    assert first == second
    assert first.id.startswith("p-")
    assert first.source == "programs.jsonl"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{", "no JSON object"),
        ("[1]", "no JSON object"),
        (json.dumps({"instruction": "a", "tests": "b"}), "no text as solution"),
        (json.dumps({**ROW, "tests": 3}), "no text as tests"),
        (json.dumps({**ROW, "topic": 3}), "no text as topic"),
        (json.dumps({**ROW, "dificulty": "x"}), "did you mean 'difficulty'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, found: str) -> None:
    with pytest.raises(JapagenError) as caught:
        read_programs(_file(tmp_path, json.dumps(ROW), line))
    assert "line 2" in caught.value.message
    assert found in caught.value.message


def test_files_that_hold_no_programs(tmp_path: Path) -> None:
    with pytest.raises(JapagenError, match="found none"):
        read_programs(_file(tmp_path, ""))
    with pytest.raises(JapagenError, match="Expected programs as JSON Lines"):
        read_programs(tmp_path / "absent.jsonl")
    (tmp_path / "sjis.jsonl").write_bytes("指示".encode("cp932"))
    with pytest.raises(JapagenError, match="UTF-8"):
        read_programs(tmp_path / "sjis.jsonl")
    (tmp_path / EXAMPLES).write_text("{", "utf-8")
    with pytest.raises(DamagedError):
        load_programs(tmp_path)
    with pytest.raises(JapagenError, match="Finish the run first"):
        load_programs(tmp_path / "absent")


def _refused(**more: object) -> str:
    with pytest.raises(JapagenError) as caught:
        CodeTask.parse({"kind": "code", "name": "c", **more})
    return caught.value.message


def test_wrong_settings_are_named() -> None:
    assert "did you mean 'topics'" in _refused(topic=["a"])
    assert "did you mean 'mutants'" in _refused(checks={"mutant": 3})
    assert "add up to 1, found 0.7" in _refused(difficulties={"易": 0.3, "難": 0.4})
    assert "expected different ones, found '数' twice" in _refused(topics=["数", "数"])
    task = CodeTask.parse({"kind": "code", "name": "c", "difficulties": ["易", "難"]})
    assert task.difficulties == {"易": 0.5, "難": 0.5}
