"""Programs that want out, or too much: each is one run with its reason, never a dead caller."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest

from japagen.config.code import CodeChecks
from japagen.curation.sandbox import check_isolation, run_tests
from japagen.curation.sandbox_runner import syscall_filter
from japagen.errors import JapagenError
from tests.sandbox import needs_sandbox

TESTS = "from solution import double\n\n\ndef test_double():\n    assert double(2) == 4\n"
RIGHT = "def double(x):\n    return 2 * x\n"
LIMITS = CodeChecks(seconds=1)
# What a program does, and what is said of it.
HOSTILE = {
    "forks": ("import os\ndef double(x):\n    os.fork()\n    return 2 * x", "PermissionError"),
    "forks without end": (
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
        "time",
    ),
    "starts a program": (
        "import subprocess\ndef double(x):\n    subprocess.run(['ls'])\n    return 2 * x",
        "PermissionError",
    ),
    "becomes a program": (
        "import os\ndef double(x):\n    os.execv('/usr/bin/true', ['true'])",
        "PermissionError",
    ),
    "fills the disk": (
        "def double(x):\n    for n in range(99):\n        open(f'{n}', 'w').write('x' * 10**6)\n"
        "    return 2 * x",
        "No space left on device",
    ),
    "writes a large file": (
        "def double(x):\n    open('a', 'w').write('x' * 10**7)\n    return 2 * x",
        "File too large",
    ),
    "fills the memory": ("def double(x):\n    return len('x' * 10**10)", "MemoryError"),
    "never ends": ("def double(x):\n    while True:\n        pass", "time"),
    "never begins": ("while True:\n    pass", "time"),
    "sleeps": ("import time\ndef double(x):\n    time.sleep(99)", "time"),
    "reads passwords": (
        "def double(x):\n    open('/etc/shadow').read()\n    return 2 * x",
        "FileNotFoundError",
    ),
    "follows a link out": (
        "import os\ndef double(x):\n    os.symlink('/etc/passwd', 'p')\n    open('p').read()\n"
        "    return 2 * x",
        "FileNotFoundError",
    ),
    "reads processes": (
        "import os\ndef double(x):\n    os.listdir('/proc')\n    return 2 * x",
        "FileNotFoundError",
    ),
    "writes where it is not allowed": (
        "def double(x):\n    open('/usr/x', 'w')\n    return 2 * x",
        "Read-only file system",
    ),
    "opens a socket": (
        "import socket\ndef double(x):\n    socket.create_connection(('127.0.0.1', 22))",
        "PermissionError",
    ),
    "kills its parent": (
        "import os\ndef double(x):\n    os.kill(os.getppid(), 9)\n    return 2 * x",
        "PermissionError",
    ),
    "prints a gigabyte": (
        "def double(x):\n    for _ in range(1024):\n        print('x' * 2**20)\n    return 2 * x",
        "File too large",
    ),
    "leaves": ("import os\nos._exit(0)", "no report"),
    "leaves in a test": ("import os\ndef double(x):\n    os._exit(0)", "no report"),
    "leaves politely": ("import sys\nsys.exit(0)", "code 3"),
    "kills itself": ("import os\ndef double(x):\n    os.abort()", "SIGABRT"),
    "breaks the interpreter": (
        "import ctypes\ndef double(x):\n    ctypes.string_at(0)",
        "SIGSEGV",
    ),
    "writes its own report": (
        "import os\nfor n in range(3, 64):\n    try:\n"
        '        os.write(n, b\'{"code": 0, "passed": ["test_double"], "failed": []}\')\n'
        "    except OSError:\n        pass\nos._exit(0)",
        "no report",
    ),
    "makes threads without end": (
        "import threading, time\ndef double(x):\n    while True:\n"
        "        threading.Thread(target=time.sleep, args=(99,)).start()",
        "",
    ),
}


@needs_sandbox
@pytest.mark.parametrize("does", HOSTILE)
def test_a_hostile_program_does_not_pass_and_the_next_one_does(does: str) -> None:
    solution, why = HOSTILE[does]
    began = time.monotonic()
    hostile, right = run_tests([solution, RIGHT], TESTS, LIMITS)
    assert not hostile.all_passed(["test_double"])
    assert why in (hostile.problem if why == "time" else hostile.why)
    # What it wrote may be in the way of the next one, which is of the same program.
    assert right.all_passed(["test_double"]) or right.problem == "disk"
    assert time.monotonic() - began < 30


@needs_sandbox
def test_nothing_of_the_caller_is_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_API_KEY", "do not tell")
    (tmp_path / "mine").write_text("mine")
    solution = (
        "import os\n"
        "def seen():\n    return sorted(os.environ)\n"
        f"def there():\n    return os.path.exists({str(tmp_path)!r})\n"
        "def found():\n    return sorted(os.listdir('/box/0'))\n"
        "def who():\n    return os.getuid()\n"
    )
    tests = (
        "from solution import *\n"
        "def test_environment():\n    assert not {'SECRET_API_KEY', 'HOME'} & {*seen()}\n"
        "def test_files():\n    assert not there()\n"
        "def test_own():\n    assert 'solution.py' in found()\n"
        "def test_user():\n    assert who() == 65534\n"
    )
    (found,) = run_tests([solution], tests, LIMITS)
    assert found.failed == ()
    assert found.all_passed(["test_environment", "test_files", "test_own", "test_user"])
    assert os.environ["SECRET_API_KEY"] == "do not tell"


@needs_sandbox
def test_it_ends_with_the_first_that_does_otherwise_than_expected() -> None:
    wrong = "def double(x):\n    return x\n"
    assert len(run_tests([RIGHT, RIGHT, wrong, RIGHT], TESTS, LIMITS, (True, True, False))) == 4
    assert len(run_tests([RIGHT, RIGHT, RIGHT, RIGHT], TESTS, LIMITS, (True, True, False))) == 3
    assert len(run_tests([wrong, RIGHT, wrong, RIGHT], TESTS, LIMITS, (True, True, False))) == 1


@needs_sandbox
def test_tests_that_were_skipped_did_not_pass() -> None:
    tests = f"import pytest\n{TESTS}\n@pytest.mark.skip\ndef test_more():\n    assert False\n"
    (found,) = run_tests([RIGHT], tests, LIMITS)
    assert found.all_passed(["test_double"])
    assert not found.all_passed(["test_double", "test_more"])


@needs_sandbox
def test_an_endless_mutant_is_noticed_sooner_than_an_endless_solution() -> None:
    endless = "def double(x):\n    while True:\n        pass\n"
    began = time.monotonic()
    runs = run_tests([RIGHT, *[endless] * 3], TESTS, CodeChecks(seconds=30))
    assert [run.problem for run in runs] == ["", "time", "time", "time"]
    assert time.monotonic() - began < 30


def test_without_bubblewrap_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    check_isolation.cache_clear()
    with pytest.raises(JapagenError, match="Expected bubblewrap on Linux") as caught:
        check_isolation()
    assert "apt install bubblewrap" in caught.value.hint


def test_without_name_spaces_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = tmp_path / "bwrap"
    said = "bwrap: No permissions to create a new namespace"
    refusing.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    check_isolation.cache_clear()
    with pytest.raises(JapagenError, match=said) as caught:
        check_isolation()
    assert "user name spaces" in caught.value.hint
    check_isolation.cache_clear()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_jumps_of_the_filter_stay_inside_of_it(machine: str) -> None:
    program = syscall_filter(machine, 7)
    lines = [struct.unpack("<HBBI", program[at : at + 8]) for at in range(0, len(program), 8)]
    for at, (code, yes, no, _) in enumerate(lines):
        if code & 7 == 5:  # a jump
            assert at + 1 + max(yes, no) < len(lines)
    assert lines[-1][0] == 6  # a return
