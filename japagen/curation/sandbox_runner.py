"""Runs tests on solutions inside the sandbox; see `japagen.curation.sandbox`, which starts it.

It is a program of its own: inside there is no japagen, only Python and pytest. It reads a job from
standard input and forks for every solution. The child gives up what it may do, runs pytest and
reports through a pipe; this process never imports a solution. Where a child may create no
processes, limits of one process are limits of the whole.

What a solution could do about its report is limited, not impossible: the tests run in the
solution's own process. It has to find the number that the report begins with; what ends the
process before the tests are through leaves no report. A solution that patches pytest as it is
imported does so for the stub, too, which keeps everything but the functions tested, and is then
rejected because the stub passes; one that does it inside a function has mutants that survive.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import resource
import secrets
import select
import signal
import struct
import sys
import time
from typing import Any

_MOST_REPORT = 64_000
_MOST_DETAIL = 300
_MEGABYTE = 2**20
# Of x86_64 and aarch64; None where the machine has no such call.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "socket": (41, 198),
    # Memory that no limit of a process counts.
    "memfd_create": (319, 279),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "io_uring_setup": (425, 425),
    # What widens the kernel's surface.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "bpf": (321, 280),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
}
MACHINES = ("x86_64", "aarch64")
_ARCHITECTURE = (0xC000003E, 0xC00000B7)
_CLONE, _TGKILL, _CLONE3 = (56, 220), (234, 131), 435
_CLONE_THREAD = 0x10000
_X32 = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_FROM, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE, _ABSENT, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
_NUMBER, _CALLED_ON, _FIRST_ARGUMENT = 0, 4, 16  # places in struct seccomp_data


def syscall_filter(machine: str, process: int) -> bytes:
    """The program by which the kernel refuses a process what it needs to get out or to others.

    Threads may be made, and signals sent to them; other processes may not.

    Args:
        machine: As `platform.machine` has it.
        process: The number of the process.
    """
    which = MACHINES.index(machine)

    def line(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("<HBBI", code, yes, no, value)

    refuse, allow = line(_RETURN, _REFUSE), line(_RETURN, _ALLOW)
    program = [
        line(_LOAD, _CALLED_ON),
        line(_JUMP_EQUAL, _ARCHITECTURE[which], 1),
        line(_RETURN, _KILL),
        line(_LOAD, _NUMBER),
        line(_JUMP_FROM, _X32, 0, 1),
        refuse,
        # Its flags lie in memory, where no filter looks; libraries then take clone.
        line(_JUMP_EQUAL, _CLONE3, 0, 1),
        line(_RETURN, _ABSENT),
    ]
    for call in _DENIED.values():
        if (number := call[which]) is not None:
            program += [line(_JUMP_EQUAL, number, 0, 1), refuse]
    program += [
        line(_JUMP_EQUAL, _CLONE[which], 0, 4),
        line(_LOAD, _FIRST_ARGUMENT),
        line(_JUMP_SET, _CLONE_THREAD, 1),
        refuse,
        allow,
        line(_JUMP_EQUAL, _TGKILL[which], 0, 4),
        line(_LOAD, _FIRST_ARGUMENT),
        line(_JUMP_EQUAL, process, 1),
        refuse,
        allow,
        allow,
    ]
    return b"".join(program)


def _give_up(limits: dict[str, float]) -> None:
    """Takes from this process what a solution does not need; none of it can be taken back."""
    seconds, memory = int(limits["seconds"]), int(limits["memory_mb"]) * _MEGABYTE
    size = int(limits["output_mb"] * _MEGABYTE)
    for what, bound in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, size),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(what, (bound, bound + (what == resource.RLIMIT_CPU)))
    program = syscall_filter(platform.machine(), os.getpid())
    lines = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(lines))
    )
    library = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, by_filter = 38, 22, 2
    if library.prctl(no_new_privileges, 1, 0, 0, 0) or library.prctl(
        set_seccomp, by_filter, ctypes.c_void_p(ctypes.addressof(header)), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "seccomp")


class _Outcomes:
    """A plugin of pytest that keeps which tests passed, and why others did not."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failed: list[list[str]] = []

    def _failed(self, report: Any) -> None:
        crash = getattr(report.longrepr, "reprcrash", None)
        why = str(crash.message if crash else report.longrepr).strip()
        lines = [line for line in why.splitlines() if line.strip()] or [""]
        line = next((row for row in lines if row.startswith("E ")), lines[0])
        # A module that cannot be imported is told of at length; what was raised comes last.
        told = line if crash else [row for row in lines if row.startswith("E ")][-1:] or lines[-1:]
        shown = told if isinstance(told, str) else told[0]
        self.failed.append([report.nodeid[-100:], shown.removeprefix("E ").strip()[:_MOST_DETAIL]])

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._failed(report)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self._failed(report)
        elif report.when == "call" and report.passed:
            self.passed.append(report.nodeid.partition("::")[2][:200])


def _test(folder: str, limits: dict[str, float], reply: int, number: str) -> None:
    """Runs the tests of a folder in this process, which ends here."""
    import pytest

    os.chdir(folder)
    output = os.open("output", os.O_WRONLY | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.path.insert(0, folder)
    outcomes = _Outcomes()
    options = ("-s", "-c", os.devnull, "--rootdir", folder, "test_solution.py")
    without = [f"-pno:{plugin}" for plugin in ("terminal", "cacheprovider", "faulthandler")]
    _give_up(limits)
    code = pytest.main([*options, *without], plugins=[outcomes])
    found = {"code": int(code), "passed": outcomes.passed, "failed": outcomes.failed[:3]}
    os.write(reply, (number + json.dumps(found)).encode())
    os._exit(0)


def _read(reply: int, deadline: float) -> bytes | None:
    """What comes through a pipe until it is closed; None where the time is up before."""
    found = b""
    while len(found) < _MOST_REPORT:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reply], [], [], left)[0]:
            return None
        part = os.read(reply, _MOST_REPORT)
        if not part:
            break
        found += part
    return found


def _run(index: int, solution: str, tests: str, limits: dict[str, float]) -> dict[str, Any]:
    """Tests one solution in a process of its own; returns what `TestRun` is made of."""
    folder = f"{os.getcwd()}/{index}"
    began = time.monotonic()
    try:
        os.mkdir(folder)
        for name, text in (("solution.py", solution), ("test_solution.py", tests)):
            with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        return {"problem": "disk", "detail": str(error), "seconds": 0.0}
    number, (ours, theirs) = secrets.token_hex(16), os.pipe()
    child = os.fork()
    if not child:
        # Whatever is raised here must not go on as the process that started it.
        with contextlib.suppress(BaseException):
            os.close(ours)
            _test(folder, limits, theirs, number)
        os._exit(70)
    os.close(theirs)
    said = _read(ours, began + limits["wall_seconds"])
    os.close(ours)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    found: dict[str, Any] = {"seconds": round(time.monotonic() - began, 3)}
    ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if said is None or ended == signal.SIGXCPU:
        return {**found, "problem": "time", "detail": f"{limits['seconds']:g} s"}
    if said[: len(number)] == number.encode():
        with contextlib.suppress(ValueError):
            report = json.loads(said[len(number) :])
            return {**found, **report}
    how = signal.Signals(ended).name if ended not in (0, signal.SIGKILL) else "no report"
    return {**found, "problem": "crash", "detail": how}


def main() -> None:
    """Runs a job: the solutions in turn, until one of the first does not end as expected."""
    job = json.loads(sys.stdin.buffer.read())
    sys.path.insert(0, job["packages"])
    import pytest  # noqa: F401 - once, before every fork

    limits = dict(job["limits"])
    for index, solution in enumerate(job["solutions"]):
        found = _run(index, solution, job["tests"], limits)
        os.write(1, (json.dumps(found) + "\n").encode())
        passed = not found.get("problem") and not found.get("code")
        if index < len(job["expected"]) and passed != job["expected"][index]:
            return
        if not index:
            # A mutant that never ends is noticed soon.
            quick = max(1.0, 5 * found["seconds"])
            limits["wall_seconds"] = min(limits["wall_seconds"], quick)


if __name__ == "__main__":
    main()
