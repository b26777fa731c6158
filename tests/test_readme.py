"""The README's commands exist and its code runs. Links are looked at in `test_docs`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from typer.main import get_command

import japagen
from japagen.cli.main import app
from tests.conftest import ROOT

READMES = ["README.md", "README_ja.md"]


def _blocks(name: str, language: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("name", READMES)
def test_shell_commands_parse(name: str) -> None:
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    command = get_command(app)
    seen = 0
    for line in "".join(_blocks(name, "sh")).splitlines():
        words = line.split()
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", targets, re.MULTILINE)
        else:
            assert words[0] == "japagen"
            sub = command.commands[words[1]]  # type: ignore[attr-defined]
            sub.make_context(words[1], words[2:], resilient_parsing=False)
        seen += 1
    assert seen >= 4


@pytest.mark.parametrize("name", READMES)
def test_python_uses_only_what_is_public(name: str) -> None:
    for block in _blocks(name, "python"):
        for node in ast.walk(ast.parse(block)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "jg"
            ):
                assert node.attr in japagen.__all__


@pytest.mark.slow
def test_the_api_block_of_the_readme_runs(
    quickstart: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = _blocks("README.md", "python")
    monkeypatch.chdir(quickstart)
    before = Path("runs/quickstart/metrics.json").read_bytes()
    exec(compile(block, "README.md", "exec"), {})
    # After the gain, which is another with less gold, what the comments say.
    said = re.findall(r"^print\(.+\)  # (.+)$", block, re.MULTILINE)
    assert len(said) == 5
    assert capsys.readouterr().out.splitlines()[1:] == said[1:]
    assert Path("kept.jsonl").is_file()
    assert Path("runs/quickstart/report.html").is_file()
    # It goes on from the run that is there.
    assert Path("runs/quickstart/metrics.json").read_bytes() == before
