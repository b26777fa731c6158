"""Ctrl-C on a real terminal, at whatever a run is doing."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from japagen.storage.formats import load_dataset
from tests.test_cli import ROOT, japagen, task_file  # noqa: F401

pytestmark = pytest.mark.slow


def interrupted(arguments: list[str], when: str, delay: float) -> tuple[int, str]:
    """Runs the command line on a terminal of its own and presses Ctrl-C after ``when`` shows."""
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
        os.execve(sys.executable, [sys.executable, "-m", "japagen", *arguments], environment)
    said, pressed = b"", False
    while True:
        try:
            said += os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
        if not pressed and re.search(when, said.decode("utf-8", "replace")):
            time.sleep(delay)
            os.write(terminal, b"\x03")
            pressed = True
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(terminal)
    return code, said.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("when", "delay"),
    [
        ("reading", 0.0),
        ("generate", 0.0),  # while the model is loaded
        ("generate", 0.3),
        ("generate .*[1-9]/8", 0.0),
        ("✓ generate", 0.0),
        ("✓ registers", 0.1),
        ("train-synthetic-0", 0.3),
        (r"✓ train-gold-0", 0.1),
    ],
)
def test_the_same_command_goes_on_after_ctrl_c(
    task_file: Path,  # noqa: F811
    tmp_path: Path,
    when: str,
    delay: float,
) -> None:
    pytest.importorskip("xllamacpp")
    arguments = [*("run", str(task_file), "--set", "generation.per_label=4", "--out")]
    code, said = interrupted([*arguments, str(tmp_path / "run")], when, delay)
    assert code == 130, said
    assert said.rstrip().endswith("Interrupted. The same command goes on from here.")
    assert "Traceback" not in said
    code, _, err = japagen(*arguments, tmp_path / "run")
    assert code == 0, err

    (tmp_path / "again").mkdir()
    for name in ("run.json", "ledger.sqlite"):
        shutil.copy(tmp_path / "run" / name, tmp_path / "again")
    code, _, err = japagen(*arguments, tmp_path / "again")
    assert code == 0, err
    found, undisturbed = (
        load_dataset(tmp_path / name / "aligned.parquet") for name in ("run", "again")
    )
    assert found.fingerprint == undisturbed.fingerprint


def test_ctrl_c_while_modules_load_ends_quietly() -> None:
    program = (
        "import signal, sys\n"
        "class Press:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'japagen.cli':\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Press())\n"
        "from japagen.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "Interrupted. Nothing was begun.\n"
