"""A disk that is really full: a small file system of its own, mounted for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import japagen, japagen_process
from tests.conftest import write_gold, write_jsonl, write_task

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 200 KiB; only root can mount one."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a file system takes root")
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(path)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine mounts nothing")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: str) -> list[object]:
    folder = tmp_path_factory.mktemp("task")
    rows = [
        {"text": f"{word}のことを伺います、{n}度目です。", "label": label}
        for label, word in (("配送", "荷物"), ("返品", "返品"))
        for n in "一二三四五六"
    ]
    theirs = write_jsonl(folder / "theirs.jsonl", rows)
    task = write_task(write_gold(folder / "gold.jsonl"), tiny_encoder)
    return ["run", task, "--synthetic", theirs, "--out"]


@pytest.fixture(scope="module")
def undisturbed(command: list[object], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The examples that the command leaves where there is room."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    code, _, err = japagen(*command, run)
    assert code == 0, err
    return (run / "examples.jsonl").read_bytes()


@pytest.mark.parametrize("room", ["24k", "60k", "120k", "160k", "200k"])
def test_a_run_on_a_full_disk_goes_on_when_there_is_room(
    small_disk: Path, command: list[object], undisturbed: bytes, room: str
) -> None:
    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(small_disk)], check=True)

    resize(room)
    code, out, err = japagen_process(*command, small_disk / "run")
    assert code == 2, err
    assert err.count("Error:") == 1
    assert "Cannot write" in err
    assert "Traceback" not in err
    assert out == ""
    resize("20m")
    code, _, err = japagen(*command, small_disk / "run")
    assert code == 0, err
    assert (small_disk / "run" / "examples.jsonl").read_bytes() == undisturbed
