"""What holds for a run in shards, whatever the engine; Ray is started in the slow set alone."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from japagen.data import shards
from japagen.data.engines import Engine, Here, open_engine
from japagen.data.shards import ROW, Part, Piece, ShardedRun, Waiting, peak_mb
from japagen.errors import DamagedError, JapagenError
from japagen.listener import Silent
from tests.conftest import ROOT

RAY = pytest.param(
    "ray",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray"),
    ],
)
ENGINES = ["here", "processes", RAY]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with open_engine(request.param, workers=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def processes() -> Iterator[Engine]:
    with open_engine("processes", workers=2) as opened:
        yield opened


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Twenty-three rows."""
    path = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"text": [f"{n}番の荷物" for n in range(23)]}), path)
    return path


def doubled(rows: pa.Table) -> pa.Table:
    texts = [text + text for text in rows.column("text").to_pylist()]
    return pa.table({ROW: rows.column(ROW), "text": pa.array(texts, pa.string())})


@dataclass(frozen=True)
class Deadly:
    """Ends its process at some rows, once or always.

    Attributes:
        rows: The rows.
        marks: Where it remembers what it did; None for always.
    """

    rows: tuple[int, ...]
    marks: Path | None = None

    def __call__(self, rows: pa.Table) -> pa.Table:
        for row in set(self.rows) & set(rows.column(ROW).to_pylist()):
            mark = self.marks and self.marks / str(row)
            if mark is None or not mark.exists():
                if mark:
                    mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return doubled(rows)


def refused(rows: pa.Table) -> pa.Table:
    if 7 in rows.column(ROW).to_pylist():
        raise ArithmeticError("seven is too much")
    return doubled(rows)


def started(
    path: Path, source: Path, engine: Engine, *, part: str | None = None, shard_rows: int = 5
) -> ShardedRun:
    made_of = {"command": "double"}
    opened = Part.parse(part)
    return ShardedRun.open(path, source, made_of, engine, opened, Silent(), shard_rows=shard_rows)


def made(run: ShardedRun, step: str = "twice") -> list[str]:
    files = sorted(run.file(step).glob("*.parquet"))
    return [text for file in files for text in pq.read_table(file).column("text").to_pylist()]


TWICE = [f"{n}番の荷物" * 2 for n in range(23)]


def test_every_engine_makes_the_same_files(engine: Engine, texts: Path, tmp_path: Path) -> None:
    run = started(tmp_path / "run", texts, engine)
    run.step("twice", doubled, run.input())
    here = started(tmp_path / "here", texts, Here())
    here.step("twice", doubled, here.input())
    files = sorted(run.file("twice").iterdir())
    assert [f.read_bytes() for f in files] == [
        f.read_bytes() for f in sorted(here.file("twice").iterdir())
    ]
    assert made(run) == TWICE
    assert run.summary("twice")["twice"]["rows"] == 23


def test_a_kernel_that_raises_is_named_with_its_shard(
    engine: Engine, texts: Path, tmp_path: Path
) -> None:
    run = started(tmp_path / "run", texts, engine)
    with pytest.raises(JapagenError) as told:
        run.step("twice", refused, run.input())
    assert "1 of 5 shards of the step 'twice'" in told.value.message
    assert "00001" in told.value.message
    assert "ArithmeticError: seven is too much (test_shards.py:" in told.value.message
    assert len(list(run.file("done", "twice").iterdir())) == 4  # the others are there
    run.step("twice", doubled, run.input())
    assert made(run) == TWICE


def test_an_empty_shard_is_a_shard(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, values in (("a", ["一"]), ("b", []), ("c", ["二", "三"])):
        pq.write_table(
            pa.table({"text": pa.array(values, pa.string())}), folder / f"{name}.parquet"
        )
    run = started(tmp_path / "run", folder, engine)
    run.step("twice", doubled, run.input())
    assert made(run) == ["一一", "二二", "三三"]
    assert [s.first for s in run.shards] == [0, 1, 1]
    assert not run.file("input").exists()  # they are read where they lie


@pytest.mark.parametrize("kind", ["processes", RAY])
def test_a_worker_that_is_killed_costs_nothing(kind: str, texts: Path, tmp_path: Path) -> None:
    with open_engine(kind, workers=2) as engine:
        run = started(tmp_path / "run", texts, engine)
        marks = tmp_path / "marks"
        marks.mkdir()
        run.step("twice", Deadly((2, 11), marks), run.input())
    assert made(run) == TWICE
    assert not run.file("aside").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["processes", RAY])
def test_rows_that_kill_are_put_aside(kind: str, texts: Path, tmp_path: Path) -> None:
    with open_engine(kind, workers=2) as engine:
        run = started(tmp_path / "run", texts, engine)
        run.step("twice", Deadly((6, 9)), run.input())
    assert made(run) == [text for n, text in enumerate(TWICE) if n not in (6, 9)]
    aside = json.loads(run.file("aside", "twice", "00001.json").read_text())
    assert [(row["row"], row["values"]["text"]) for row in aside] == [
        (6, "6番の荷物"),
        (9, "9番の荷物"),
    ]
    assert all(row["reason"] for row in aside)
    assert run.summary("twice")["twice"]["aside"] == 2


@pytest.mark.slow
def test_what_was_put_aside_is_known_when_the_shard_is_made_again(
    processes: Engine, texts: Path, tmp_path: Path
) -> None:
    run = started(tmp_path / "run", texts, processes)
    run.step("twice", Deadly((6,)), run.input())
    run.file("done", "twice", "00001.json").unlink()
    run.step("twice", Deadly((6,)), run.input())
    assert len(json.loads(run.file("aside", "twice", "00001.json").read_text())) == 1


def test_any_number_of_shards_makes_the_same_rows(texts: Path, tmp_path: Path) -> None:
    for rows in (1, 4, 23, 100):
        run = started(tmp_path / str(rows), texts, Here(), shard_rows=rows)
        run.step("twice", doubled, run.input())
        assert made(run) == TWICE
        assert len(run.shards) == -(-23 // rows)


def test_parts_share_the_work_and_wait_for_each_other(texts: Path, tmp_path: Path) -> None:
    for part in ("1/2", "2/2"):
        run = started(tmp_path / "run", texts, Here(), part=part)
        if part == "1/2":
            with pytest.raises(Waiting) as waits:
                run.step("twice", doubled, run.input())
            assert (waits.value.step, waits.value.left) == ("twice", 2)
            assert len(list(run.file("twice").iterdir())) == 3
        else:
            run.step("twice", doubled, run.input())
    assert made(run) == TWICE


@pytest.mark.parametrize("text", ["0/2", "3/2", "a/b", "2", "1/", "-1/2"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(JapagenError, match="a part such as 2/5"):
        Part.parse(text)


def test_one_part_is_done_by_one_process(texts: Path, tmp_path: Path) -> None:
    run = started(tmp_path / "run", texts, Here())
    with pytest.raises(JapagenError, match="being done by another process"):
        started(tmp_path / "run", texts, Here())
    run.release()
    started(tmp_path / "run", texts, Here()).release()


def claimed(path: Path, **made_of: str) -> Path:
    path.mkdir()
    (path / "sharded.json").write_text(json.dumps(made_of))
    return path


def test_another_runs_directory_is_left_alone(texts: Path, tmp_path: Path) -> None:
    started(tmp_path / "run", texts, Here()).release()
    with pytest.raises(JapagenError, match=r"a run that differs in:\n  - --shard-rows"):
        started(tmp_path / "run", texts, Here(), shard_rows=6)
    with pytest.raises(JapagenError, match="a run of 'japagen data register'"):
        shards.ShardedRun.open(
            claimed(tmp_path / "registers", command="register"),
            texts,
            {"command": "curate"},
            Here(),
            Part(),
            Silent(),
        )
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"text": ["一"]}), other)
    with pytest.raises(JapagenError, match=r"differs in:\n  - the input\n"):
        started(tmp_path / "run", other, Here())
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    with pytest.raises(JapagenError, match="not the directory of a sharded run"):
        started(mine, texts, Here())
    assert [f.name for f in mine.iterdir()] == ["thesis.txt"]


def test_a_shard_that_cannot_be_read_is_named_and_the_others_are_made(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        pq.write_table(pa.table({"text": [name] * 500}), folder / f"{name}.parquet")
    run = started(tmp_path / "run", folder, Here())
    whole = (folder / "b.parquet").read_bytes()
    damaged = bytearray(whole)
    damaged[8:40] = bytes(32)  # what a page holds; the footer can still be read
    (folder / "b.parquet").write_bytes(damaged)
    with pytest.raises(JapagenError) as told:
        run.step("twice", doubled, run.input())
    assert str(folder / "b.parquet") in told.value.message
    assert "Put a whole file in its place" in told.value.hint
    (folder / "b.parquet").write_bytes(whole)
    run.step("twice", doubled, run.input())
    assert len(made(run)) == 1500
    last = (folder / "c.parquet").read_bytes()
    (folder / "c.parquet").write_bytes(b"PAR1")
    run.release()
    for name in ("run", "new"):
        with pytest.raises(DamagedError, match=r"c\.parquet is damaged"):
            started(tmp_path / name, folder, Here())
    assert not (tmp_path / "new").exists()  # so that a whole file may have any size
    (folder / "c.parquet").write_bytes(last)
    for name in ("run", "new"):
        started(tmp_path / name, folder, Here()).release()


def test_a_file_that_ends_too_early_claims_no_directory(texts: Path, tmp_path: Path) -> None:
    table = pa.table({"text": ["荷物"] * 9})
    pq.write_table(table, tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:-9])
    with pytest.raises(DamagedError, match=r"a\.parquet is damaged"):
        started(tmp_path / "run", tmp_path / "a.parquet", Here())
    (tmp_path / "a.parquet").write_bytes(whole)
    started(tmp_path / "run", tmp_path / "a.parquet", Here()).release()


def test_many_failures_end_a_step_early(texts: Path, tmp_path: Path) -> None:
    def broken(rows: pa.Table) -> pa.Table:
        raise JapagenError("There is no column of texts.", "Name it.")

    run = started(tmp_path / "run", texts, Here(), shard_rows=1)
    with pytest.raises(JapagenError, match="10 of 23 shards") as told:
        run.step("twice", broken, run.input())
    assert told.value.message.count("There is no column of texts.") == 3
    assert told.value.hint == "Name it."


def test_a_full_disk_ends_a_step_at_once(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(tmp_path / "run", texts, Here())
    write, written = pq.write_table, []

    def full(table: pa.Table, where: Path, **more: object) -> None:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(where)
        write(table, where, **more)

    monkeypatch.setattr(shards.pq, "write_table", full)
    with pytest.raises(OSError, match="No space left") as told:
        run.step("twice", doubled, run.input())
    assert told.value.errno == errno.ENOSPC
    assert told.value.filename == str(run.file("twice", "00002.parquet"))
    monkeypatch.undo()
    run.step("twice", doubled, run.input())
    assert made(run) == TWICE


KILLED = """
import sys, time
from pathlib import Path
import pyarrow.parquet as pq
from japagen.data.engines import open_engine
from japagen.data.shards import Part, ShardedRun
from japagen.listener import Silent

def slow(rows):
    time.sleep(0.4)
    return rows

if __name__ == "__main__":
    run, source, kind = sys.argv[1:]
    with open_engine(kind, workers=2) as engine:
        opened = ShardedRun.open(
            Path(run), Path(source), {}, engine, Part(), Silent(), shard_rows=2
        )
        print("started", flush=True)
        opened.step("twice", slow, opened.input())
"""


@pytest.mark.parametrize("kind", ["here", "processes", RAY])
def test_a_process_that_is_killed_goes_on(kind: str, texts: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(KILLED)
    command = [sys.executable, str(program), str(tmp_path / "run"), str(texts), kind]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = tmp_path / "run" / "done" / "twice"
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        while not done.is_dir() or len(list(done.glob("*.json"))) < 3:
            assert first.poll() is None
        first.kill()
    before = {f: f.stat().st_mtime_ns for f in done.glob("*.json")}
    assert 3 <= len(before) < 12
    assert subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode == 0
    assert {f: f.stat().st_mtime_ns for f in before} == before
    assert len(list(done.glob("*.json"))) == 12


def test_pieces_are_read_by_range(tmp_path: Path) -> None:
    path = tmp_path / "keys.parquet"
    pq.write_table(pa.table({"key": range(100), ROW: range(100)}), path, row_group_size=7)
    read = Piece(path, between=("key", 20, 33)).read()
    assert read.column("key").to_pylist() == list(range(20, 33))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the parent's memory counts")
def test_the_most_memory_is_that_of_the_process_itself() -> None:
    held = b"x" * (400 << 20)
    script = "from japagen.data.shards import peak_mb; print(peak_mb())"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 20 < int(run.stdout) < 350 < peak_mb()
    assert len(held) > 350 << 20
