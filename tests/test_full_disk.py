"""A disk that is really full: a small file system of its own, mounted for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import write_jsonl
from tests.test_cli import japagen, task_file  # noqa: F401

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


@pytest.mark.parametrize("room", ["24k", "60k", "120k", "160k", "200k"])
def test_a_run_on_a_full_disk_goes_on_when_there_is_room(
    small_disk: Path,
    task_file: Path,  # noqa: F811
    tmp_path: Path,
    room: str,
) -> None:
    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(small_disk)], check=True)

    rows = [
        {"text": f"{word}のことを伺います、{n}度目です。", "label": label}
        for label, word in (("配送", "荷物"), ("返品", "返品"))
        for n in "一二三四五六"
    ]
    theirs = write_jsonl(tmp_path / "theirs.jsonl", rows)
    command = ["run", task_file, "--synthetic", theirs, "--out"]
    code, _, err = japagen(*command, tmp_path / "undisturbed")
    assert code == 0, err

    resize(room)
    code, out, err = japagen(*command, small_disk / "run")
    assert code == 2, err
    assert err.count("Error:") == 1
    assert "Cannot write" in err
    assert "Traceback" not in err
    assert out == ""
    resize("20m")
    code, _, err = japagen(*command, small_disk / "run")
    assert code == 0, err
    found = (small_disk / "run" / "examples.jsonl").read_bytes()
    assert found == (tmp_path / "undisturbed" / "examples.jsonl").read_bytes()
