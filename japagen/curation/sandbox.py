"""Runs programs that nobody has read, isolated by bubblewrap.

Nothing of a program runs outside: bubblewrap gives it name spaces of its own (no network, no other
processes, another user), an empty environment and a file system of ``/usr``, the interpreter and
pytest, all read-only, and a small one in memory to write to. What a process may do and use is
limited inside; see `japagen.curation.sandbox_runner`. Where that cannot be had, nothing is run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from japagen.config.code import CodeChecks
from japagen.curation import sandbox_runner
from japagen.errors import JapagenError, MissingExtraError

_WORK, _PACKAGES, _RUNNER = "/box", "/packages", "/runner.py"
# What pytest imports; pygments colours what nobody looks at.
_NEEDED = ("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments")
_START_SECONDS = 30.0
_WALL = 4
"""Elapsed time that a program gets, in terms of processor time: machines have more to do."""
_PROBE = "def answer():\n    return 42\n"
_PROBE_TESTS = "from solution import answer\n\n\ndef test_answer():\n    assert answer() == 42\n"
_HINT = (
    "Install it (Debian, Ubuntu: apt install bubblewrap, 0.7 or later) and let it make user name "
    "spaces: sysctl kernel.unprivileged_userns_clone=1 or, on Ubuntu, "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container, start that with "
    "--security-opt seccomp=unconfined."
)


@dataclass(frozen=True)
class TestRun:
    """What came of the tests on one solution.

    Attributes:
        passed: Tests that passed, as pytest calls them within their file.
        failed: Where a test did not pass, and why; the first few.
        problem: ``time``, ``disk`` or ``crash`` where the tests were not run to their end.
        detail: What is known of that.
        seconds: Elapsed time.
    """

    __test__ = False  # for pytest, which takes the name for that of tests

    passed: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    problem: str = ""
    detail: str = ""
    seconds: float = 0.0

    def all_passed(self, tests: Sequence[str]) -> bool:
        """Whether the tests of some functions passed, each at least once, and none failed."""
        functions = {name.partition("[")[0] for name in self.passed}
        return not self.problem and not self.failed and bool(tests) and {*tests} <= functions

    @property
    def why(self) -> str:
        """Why not all passed, in one line."""
        return self.failed[0][1] if self.failed else self.detail


def run_tests(
    solutions: Sequence[str], tests: str, limits: CodeChecks, expected: Sequence[bool] = ()
) -> list[TestRun]:
    """Runs the same tests on several solutions, each in a process of its own.

    Args:
        solutions: Programs that the tests import as ``solution``.
        tests: A module of tests for pytest.
        limits: Says what each may use.
        expected: Whether the first solutions pass. With the first that does otherwise it ends.

    Returns:
        What came of each solution that was run; the others are absent.

    Raises:
        JapagenError: If there is no isolation.
        MissingExtraError: If pytest is not installed.
    """
    bounds = {
        "seconds": limits.seconds,
        "wall_seconds": _WALL * limits.seconds,
        "memory_mb": limits.memory_mb,
        "output_mb": limits.output_mb,
    }
    job = {
        "solutions": list(solutions),
        "tests": tests,
        "limits": bounds,
        "expected": list(expected),
        "packages": _PACKAGES,
    }
    most = _START_SECONDS + len(solutions) * (bounds["wall_seconds"] + 1)
    process = subprocess.Popen(
        _command(limits),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
        # Ctrl-C is for us to handle: what it would end here would count as a program's own fault.
        start_new_session=True,
    )
    try:
        said, errors = process.communicate(json.dumps(job).encode(), timeout=most)
    except subprocess.TimeoutExpired:
        process.kill()
        said, errors = process.communicate()
    finally:
        process.kill()
        process.wait()
    lines = [line for line in said.splitlines(keepends=True) if line.endswith(b"\n")]
    if not lines and process.returncode:
        why = errors.decode(errors="replace").strip().splitlines() or [f"code {process.returncode}"]
        raise JapagenError(f"Expected bubblewrap to run a program, found: {why[-1]}", _HINT)
    runs = [_test_run(json.loads(line)) for line in lines]
    if not runs or (len(runs) < len(solutions) and process.returncode):
        runs.append(TestRun(problem="crash", detail="the sandbox ended"))
    return runs


def _test_run(found: dict[str, Any]) -> TestRun:
    failed = tuple((str(name), str(why)) for name, why in found.get("failed", ()))
    problem = found.get("problem", "")
    if not problem and not failed and found.get("code"):
        problem, found["detail"] = "crash", f"pytest ended with code {found['code']}"
    passed = tuple(map(str, found.get("passed", ())))
    return TestRun(passed, failed, problem, found.get("detail", ""), found["seconds"])


@cache
def check_isolation() -> str:
    """Runs a program of ours as others will be run.

    Returns:
        The version of bubblewrap.

    Raises:
        JapagenError: If that cannot be done here; says how to get what is missing.
        MissingExtraError: If pytest is not installed.
    """
    (found,) = run_tests([_PROBE], _PROBE_TESTS, CodeChecks())
    if not found.all_passed(["test_answer"]):
        raise JapagenError(
            f"Expected a program to pass its test in the sandbox, found {found.why}.", _HINT
        )
    said = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=True)
    return said.stdout.split()[-1]


def _command(limits: CodeChecks) -> list[str]:
    """The command line that starts the runner inside."""
    found = shutil.which("bwrap")
    if found is None or platform.machine() not in sandbox_runner.MACHINES:
        what = f"a machine of type {platform.machine()}" if found else "no bwrap"
        raise JapagenError(
            f"Expected bubblewrap on Linux, to isolate programs that nobody has read, found {what}."
            " No program was run.",
            _HINT,
        )
    python = os.path.realpath(sys.executable)
    shown = [("/usr", "/usr"), (str(Path(sandbox_runner.__file__).resolve()), _RUNNER)]
    for prefix in {os.path.realpath(p) for p in (sys.base_prefix, sys.base_exec_prefix)}:
        if not prefix.startswith("/usr"):
            shown.append((prefix, prefix))
    shown += [(str(path), f"{_PACKAGES}/{path.name}") for path in _packages()]
    options = ["--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534"]
    options += ["--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv"]
    environment = {"TMPDIR": _WORK, "PYTHONHASHSEED": "0", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for name, value in environment.items():
        options += ["--setenv", name, value]
    for source, target in shown:
        options += ["--ro-bind", source, target]
    for name in ("/bin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            options += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            options += ["--ro-bind", name, name]
    options += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    options += ["--dev-bind", "/dev/null", "/dev/null"]
    options += ["--size", str(limits.disk_mb * 2**20), "--tmpfs", _WORK, "--chdir", _WORK]
    return [found, *options, "--remount-ro", "/", "--", python, "-I", "-S", "-B", _RUNNER]


@cache
def _packages() -> tuple[Path, ...]:
    """Where pytest and what it needs are installed."""
    found = []
    for name in _NEEDED:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise MissingExtraError("pytest", "code", "Running tests")
        path = Path(spec.origin).resolve()
        found.append(path.parent if path.stem == "__init__" else path)
    return tuple(found)
