from __future__ import annotations

from pathlib import Path

import pytest

from japagen.errors import JapagenError
from japagen.pipeline.run_directory import RunDirectory


def test_the_directory_of_another_task_is_refused_and_untouched(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "run", "one").release()
    before = sorted(p.name for p in (tmp_path / "run").iterdir())
    with pytest.raises(JapagenError, match="belongs to the task 'one', not to 'two'"):
        RunDirectory(tmp_path / "run", "two")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == before


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(JapagenError, match="not a run directory; nothing was written"):
        RunDirectory(tmp_path, "t")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_processes_do_not_share_a_directory(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", "t")
    with pytest.raises(JapagenError, match="in use"):
        RunDirectory(tmp_path / "run", "t")
    run.release()
    RunDirectory(tmp_path / "run", "t").release()


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", "t")
    run.release()
    (tmp_path / "run" / ".aligned.parquet.ab12cd_9.japagen-part").write_bytes(b"PAR")
    (tmp_path / "run" / ".model.ab12cd_9.japagen-part").mkdir()
    (tmp_path / "run" / ".model.ab12cd_9.japagen-part" / "w").write_bytes(b"w")
    RunDirectory(tmp_path / "run", "t")
    assert {p.name for p in (tmp_path / "run").iterdir()} == {".lock", "run.json"}


def test_a_directory_that_was_killed_at_its_first_step_is_no_foreign_one(tmp_path: Path) -> None:
    (tmp_path / ".run.json.ab12cd_9.japagen-part").write_bytes(b"{")
    RunDirectory(tmp_path, "t")
    assert (tmp_path / "run.json").is_file()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JapagenError, match="Cannot make the run directory"):
        RunDirectory(tmp_path / "file" / "run", "t")
