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

from japagen.data.formats import load_dataset
from tests.command_line import japagen
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


# A shell reads both as 130. CPython ends itself by the signal where Ctrl-C fell into code made from
# a string, such as the methods of a dataclass that is being imported.
ENDED_BY_CTRL_C = (130, -signal.SIGINT)
# Late stages are over in a second. Pressed from outside, a starved process would come too late.
PRESSES_ITSELF = """
import os, signal, sys, threading
from japagen.__main__ import main
from japagen.cli.terminal import Terminal
news, name, delay = sys.argv.pop(1).split()
usual = Terminal.stage
def stage(self, *said):
    usual(self, *said)
    if said[:2] == (name, news):
        threading.Timer(float(delay), os.kill, (os.getpid(), signal.SIGINT)).start()
Terminal.stage = stage
main()
"""


def on_terminal(
    arguments: list[str], press_after: str | None = None, delay: float = 0.0
) -> tuple[int, str]:
    """Runs Python on a terminal of its own; presses Ctrl-C after what is said matches."""
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
        os.execve(sys.executable, [sys.executable, *arguments], environment)
    said, waits = b"", press_after is not None
    while True:
        try:
            said += os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
        if waits and re.search(press_after or "", said.decode("utf-8", "replace")):
            time.sleep(delay)
            os.write(terminal, b"\x03")
            waits = False
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
    ],
)
def test_the_same_command_goes_on_after_ctrl_c(
    task_file: Path,
    tmp_path: Path,
    when: str,
    delay: float,
) -> None:
    arguments = run_arguments(task_file)
    pressed = on_terminal(["-m", "japagen", *arguments, str(tmp_path / "run")], when, delay)
    goes_on(pressed, arguments, tmp_path)


@pytest.mark.parametrize(
    "when", ["done registers 0.1", "start train-synthetic-0 0.1", "done train-gold-0 0.1"]
)
def test_it_goes_on_after_ctrl_c_in_a_late_stage(
    task_file: Path,
    tmp_path: Path,
    when: str,
) -> None:
    arguments = run_arguments(task_file)
    pressed = on_terminal(["-c", PRESSES_ITSELF, when, *arguments, str(tmp_path / "run")])
    goes_on(pressed, arguments, tmp_path)


def run_arguments(task: Path) -> list[str]:
    pytest.importorskip("xllamacpp")
    # What checks the labels is not pressed at, and with the model takes half of a run's time.
    smaller = ("generation.per_label=4", "alignment.label_trust=encoder")
    return ["run", str(task), *(word for s in smaller for word in ("--set", s)), "--out"]


def goes_on(pressed: tuple[int, str], arguments: list[str], folder: Path) -> None:
    """Holds that the run ended by Ctrl-C, and that the same command ends as if it had not."""
    code, said = pressed
    assert code in ENDED_BY_CTRL_C, said
    assert said.rstrip().endswith("Interrupted. The same command goes on from here.")
    assert "Traceback" not in said
    code, _, err = japagen(*arguments, folder / "run")
    assert code == 0, err

    (folder / "again").mkdir()
    for name in ("run.json", "ledger.sqlite"):
        shutil.copy(folder / "run" / name, folder / "again")
    code, _, err = japagen(*arguments, folder / "again")
    assert code == 0, err
    found, undisturbed = (
        load_dataset(folder / name / "aligned.parquet") for name in ("run", "again")
    )
    assert found.fingerprint == undisturbed.fingerprint


def test_ctrl_c_while_modules_load_ends_quietly() -> None:
    program = (
        "import signal, sys\n"
        "class Press:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'japagen.cli.main':\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Press())\n"
        "from japagen.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "Interrupted. Nothing was begun.\n"
