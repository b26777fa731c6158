from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest

from japagen import __version__
from japagen.cli.main import exit_codes
from japagen.errors import JapagenError
from tests.command_line import japagen
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (JapagenError("Wrong.", "Do this."), 2, "Do this."),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 2, "Cannot write /x: No space"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "Cannot use /x: Permission"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/x"), 2, "Cannot use /x: Is a"),
        (KeyboardInterrupt(), 130, "The same command goes on"),
        (SystemExit(130), 130, "The same command goes on"),
    ],
)
def test_each_error_has_its_code_and_one_message(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left, exit_codes():
        raise error
    assert left.value.code == code
    assert said in capsys.readouterr().err


def test_a_bug_of_ours_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), exit_codes():
        raise ZeroDivisionError
    with pytest.raises(ConnectionError), exit_codes():
        raise ConnectionError


def test_ctrl_c_that_python_ignores_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    class Held:
        pass

    def pressed(_: object) -> None:
        raise KeyboardInterrupt

    def work() -> None:
        held = Held()
        callback = weakref.ref(held, pressed)
        del held
        assert callback() is None
        for _ in range(500):  # a sleep is not cut short by what another thread raises here
            time.sleep(0.01)

    with pytest.raises(SystemExit) as left, exit_codes():
        work()
    assert left.value.code == 130
    assert "The same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["data register", "data register --json", "doctor --json"])
def test_who_reads_no_further_ends_it_without_a_word(command: str, tmp_path: Path) -> None:
    """As of other programs, a shell is told 141 (128 + SIGPIPE)."""
    texts = tmp_path / "texts.txt"
    texts.write_text("行きます。\n" * 20_000, encoding="utf-8")
    file = texts if "register" in command else ""
    line = (
        f"{sys.executable} -m japagen {command} {file} 2>err | head -c 5; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=120,
    )
    status = done.stdout.split()[-1]
    # What fits into the pipe may be written before its reader is gone.
    assert status.endswith(b"141") or (status.endswith(b"0") and "doctor" in command)
    assert (tmp_path / "err").read_text() == ""


def test_the_version_is_the_newest_of_the_changelog() -> None:
    code, said, errors = japagen("--version")
    newest = re.search(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert newest is not None
    assert (code, said, errors) == (0, f"{newest[1]}\n", "")


_TO_THE_END = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["japagen", "--version"]

def tell(sleep=time.sleep, write=os.write):
    write(2, b"closing\\n")
    sleep(SECONDS)

WHERE
from japagen.__main__ import main
main()
"""
# Where the interpreter waits for threads, and later where it takes modules apart.
_WAITING = "threading.Thread(target=lambda: (time.sleep(0.5), tell())).start()"
_TAKEN_APART = "sys.held = type('Held', (), {'__del__': lambda self: tell()})()"


@pytest.mark.parametrize(
    ("where", "seconds", "code"),
    [(_WAITING, 60, 130), (_TAKEN_APART, 1, 0)],
    ids=["threads", "end"],
)
def test_ctrl_c_while_python_ends_is_no_death_by_signal(
    where: str, seconds: int, code: int
) -> None:
    program = _TO_THE_END.replace("WHERE", where).replace("SECONDS", str(seconds))
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().strip() == __version__.encode()
    assert process.stderr.readline() == b"closing\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == code
    assert process.stderr.read() == b""
