from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from japagen.data.files import read_json, write_json
from japagen.errors import JapagenError
from japagen.pipeline.run_directory import RunDirectory


class Counted:
    """Makes a value and counts how often."""

    def __init__(self) -> None:
        self.times = 0
        self.said: list[tuple[str, str]] = []

    def __call__(self) -> dict[str, int]:
        self.times += 1
        return {"made": self.times}

    def stage(self, run: RunDirectory, **fingerprint: Any) -> Any:
        return run.stage(
            "curate",
            fingerprint,
            ["out.json"],
            make=self,
            save=write_json,
            load=read_json,
            say=lambda news, detail: self.said.append((news, detail)),
        )


def test_a_stage_is_kept_while_its_inputs_stay_and_says_what_changed(tmp_path: Path) -> None:
    made = Counted()
    run = RunDirectory(tmp_path / "run", "t")
    assert made.stage(run, gold="g", curation={"min": 1}) == {"made": 1}
    assert made.stage(run, gold="g", curation={"min": 1}) == {"made": 1}
    assert made.stage(run, gold="g", curation={"min": 2}) == {"made": 2}
    assert ("kept", "") in made.said
    assert ("start", "changed: curation") in made.said


def test_a_stage_whose_output_is_gone_runs_again(tmp_path: Path) -> None:
    made = Counted()
    run = RunDirectory(tmp_path / "run", "t")
    made.stage(run)
    run.file("out.json").unlink()
    assert made.stage(run) == {"made": 2}
    assert made.said[-2][1] == "its output is missing"


def test_a_file_beside_an_output_is_no_damage_but_a_cut_one_is(tmp_path: Path) -> None:
    run, made = RunDirectory(tmp_path / "run", "t"), Counted()

    def make() -> int:
        folder = run.file("model")
        folder.mkdir(exist_ok=True)
        (folder / "weights").write_bytes(b"1234")
        made()
        return made.times

    def stage() -> int:
        outputs = ["out.json", "model"]
        return run.stage("train", {}, outputs, make=make, save=write_json, load=read_json)

    assert stage() == 1
    run.file("model", "README.md").write_text("# card")
    assert stage() == 1
    run.file("model", "weights").write_bytes(b"12")
    assert stage() == 2
    run.file("model", "weights").unlink()
    assert stage() == 3


def test_a_stage_that_fails_leaves_no_record(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", "t")
    made = Counted()
    made.stage(run, a=1)

    def fail() -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        run.stage("curate", {"a": 2}, ["out.json"], make=fail, save=write_json, load=read_json)
    assert made.stage(run, a=1) == {"made": 2}


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


def test_a_stage_whose_output_is_damaged_runs_again(tmp_path: Path) -> None:
    made = Counted()
    run = RunDirectory(tmp_path / "run", "t")
    made.stage(run)
    run.file("out.json").write_text('{"made"', encoding="utf-8")
    assert made.stage(run) == {"made": 2}
    assert made.said[-2] == ("start", "its output is damaged")
    run.file("stages", "curate.json").write_text("", encoding="utf-8")
    assert made.stage(run) == {"made": 3}


def test_a_stage_whose_directory_lost_bytes_runs_again(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", "t")
    times = []

    def save(path: Path, value: int) -> None:
        write_json(path, value)
        run.file("model").mkdir(exist_ok=True)
        run.file("model", "weights").write_bytes(b"1234")

    def stage() -> None:
        run.stage("train", {}, ["n.json", "model"], lambda: times.append(1), save, read_json)

    stage()
    stage()
    assert len(times) == 1
    run.file("model", "weights").write_bytes(b"12")
    stage()
    assert len(times) == 2


def test_a_directory_belongs_to_the_stage_that_left_it_last(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", "t")
    made: list[str] = []

    def stage(name: str) -> None:
        def save(path: Path, value: str) -> None:
            write_json(path, value)
            run.file("model").mkdir(exist_ok=True)
            run.file("model", "weights").write_text(name, encoding="utf-8")

        def make() -> str:
            made.append(name)
            return name

        run.stage(name, {}, [f"{name}.json", "model"], make, save, read_json)

    for name in ("train-0", "train-0", "train-1", "train-0"):
        stage(name)
    assert made == ["train-0", "train-1", "train-0"]
    assert run.file("model", "weights").read_text(encoding="utf-8") == "train-0"


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


def test_the_time_of_stages_that_another_run_left_does_not_count(tmp_path: Path) -> None:
    run, made = RunDirectory(tmp_path / "run", "t"), Counted()
    made.stage(run)
    write_json(run.file("stages", "train-7.json"), {"fingerprint": {}, "seconds": 5.0})
    assert set(run.seconds()) == {"curate"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep no peak of a stage")
def test_each_stage_has_the_peak_of_its_own(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", "t")

    def hold(size: int) -> dict[str, int]:
        return {"made": len(bytearray(b"x" * size))}

    for name, size in (("small", 1), ("large", 200 << 20), ("last", 1)):
        run.stage(name, {}, [f"{name}.json"], lambda n=size: hold(n), write_json, read_json)
    peaks = run.peak_bytes()
    assert peaks["large"] - peaks["small"] > 150 << 20
    assert peaks["large"] - peaks["last"] > 150 << 20
    write_json(run.file("stages", "train-7.json"), {"fingerprint": {}, "peak_bytes": 5})
    assert set(run.peak_bytes()) == {"small", "large", "last"}
