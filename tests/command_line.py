"""The command line, in this process or as a user meets it: in a process of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from japagen.cli.main import main
from tests.conftest import ROOT

_COLUMNS = "200"


def japagen(*arguments: object, stdin: str = "", cwd: Path | None = None) -> tuple[int, str, str]:
    """Runs a command here, which spares seconds of imports: its exit code, output and errors.

    What is no exit, such as a bug of ours, is raised.
    """
    # As where the terminal has no UTF-8, which must not break Japanese.
    streams = [io.TextIOWrapper(io.BytesIO(text), "ascii") for text in (stdin.encode(), b"", b"")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["japagen", *map(str, arguments)])
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            patch.setattr(sys, name, stream)
        patch.setattr(sys, "excepthook", sys.excepthook)  # typer sets its own
        patch.setenv("COLUMNS", _COLUMNS)
        patch.setenv("JAPAGEN_LANG", os.environ["JAPAGEN_LANG"])  # as it is before --lang
        if cwd:
            patch.chdir(cwd)
        with pytest.raises(SystemExit) as left:
            main()
    said = []
    for stream in streams[1:]:
        stream.flush()
        said.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    return int(left.value.code or 0), said[0], said[1]


def japagen_process(
    *arguments: object, stdin: str = "", cwd: Path | None = None
) -> tuple[int, str, str]:
    """Runs a command in a process of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from japagen.cli.main import main; main()",
            *map(str, arguments),
        ],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        # A terminal without UTF-8 must not break Japanese.
        env={**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C", "COLUMNS": _COLUMNS},
    )
    return done.returncode, done.stdout, done.stderr


def refuses_labels(run: Path, task: Path, texts: Path) -> None:
    """Asserts that what needs texts with labels says in one message that a run has none."""
    for words in (
        ("data", "diff", run, run),
        ("data", "explain", run, "x"),
        ("data", "review", run, "--summary"),
        ("data", "review", run, "--gold", texts.with_suffix(".csv")),
        ("data", "attributes", task),
        ("data", "topics", task),
        ("model", "predict", run, texts),
        ("model", "monitor", run, texts),
        ("model", "onnx", run),
    ):
        code, said, errors = japagen(*words)
        assert (code, said) == (2, ""), words
        assert "Expected a task whose texts have labels, found kind: " in errors, words
