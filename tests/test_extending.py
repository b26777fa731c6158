"""The code of docs/extending.md runs: as packages with entry points, and as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import japagen as jg
from japagen.cli.data_commands import diagnose
from japagen.config.task import Task
from japagen.curation.filters import curate
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.files import to_yaml
from japagen.data.registry import BACKENDS, EXPORTS, FILTERS, METHODS, METRICS
from japagen.errors import JapagenError
from japagen.llm.backend import load_generator
from japagen.reporting.text import Words

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
LOUD = Dataset.of([Example("助かりました!!！本当に。"), Example("荷物はまだでしょうか。")])


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def _module(name: str) -> str:
    return next(code for code in _blocks("python") if code.startswith(f"# {name}.py\n"))


def install(
    directory: Path, project: str, code: str, *, version: str = "0.1.0", entry: str | None = None
) -> None:
    """What pip leaves of a package of the page: its module and its dist-info.

    Args:
        directory: Where to.
        project: Its name in its pyproject.toml.
        code: Its module.
        version: Its version.
        entry: Where the entry is, in place of what pyproject.toml says.
    """
    tables = [tomllib.loads(block)["project"] for block in _blocks("toml")]
    table = next(table for table in tables if table["name"] == project)
    ((group, points),) = table["entry-points"].items()
    ((name, home),) = points.items()
    info = directory / f"{project.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    points = f"[{group}]\n{name} = {entry or home}\n"
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    (directory / f"{home.partition(':')[0]}.py").write_text(code, encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on the path whose packages are not known yet, and forgotten afterwards."""
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(directory)

    def forget() -> None:
        for registry in (FILTERS, BACKENDS):
            registry.__dict__.pop("_points", None)
            registry._added.clear()
        for name in ("shouting", "lines"):
            sys.modules.pop(name, None)

    forget()
    yield directory
    forget()


def _with_filter(raw: dict[str, Any], **parameters: Any) -> Task:
    return Task.parse({**raw, "curation": {"filters": {"shouting": parameters}}})


def test_a_filter_of_a_package(site: Path, raw_task: dict[str, Any]) -> None:
    install(site, "japagen-shouting", _module("shouting"))
    (given,) = (block for block in _blocks("yaml") if "shouting" in block)
    task = Task.parse({**raw_task, **YAML(typ="safe").load(given)})
    loud, calm = curate(LOUD, task.curation)
    assert loud.rejected == Rejection("shouting", 3, 2)
    assert calm.rejected is None
    loose = _with_filter(raw_task, most=3).curation
    assert all(example.rejected is None for example in curate(LOUD, loose))
    assert Words("ja").name("filter", "shouting") == "感嘆符が多い"
    assert Words("en").name("filter", "shouting") == "Too many exclamation marks"


def test_results_of_another_version_are_not_reused(site: Path, raw_task: dict[str, Any]) -> None:
    install(site, "japagen-shouting", _module("shouting"), version="0.3.1")
    task = _with_filter(raw_task, most=2)
    dumped = task.curation.model_dump(mode="json")["filters"]
    assert dumped == {"shouting": {"most": 2, "version": "japagen-shouting 0.3.1 1"}}
    # The task file that a run keeps is read under whatever version is there.
    again = Task.parse({**raw_task, "curation": {"filters": {"shouting": {"version": "0"}}}})
    assert again.curation.filters["shouting"]["version"] == "japagen-shouting 0.3.1 1"


def test_wrong_parameters_are_refused(site: Path, raw_task: dict[str, Any]) -> None:
    install(site, "japagen-shouting", _module("shouting"))
    with pytest.raises(JapagenError) as error:
        _with_filter(raw_task, mots=2)
    assert "'shouting' has no parameter 'mots' (did you mean 'most'?)" in str(error.value)
    with pytest.raises(JapagenError) as error:
        Task.parse({**raw_task, "curation": {"filters": {"shoting": {}}}})
    assert "expected one of shouting, found 'shoting' (did you mean 'shouting'?)" in str(
        error.value
    )
    task = _with_filter(raw_task, most="viele")
    with pytest.raises(JapagenError, match="The plug-in 'shouting' failed: TypeError") as error:
        curate(LOUD, task.curation)
    assert "japagen-shouting 0.1.0" in error.value.hint


def test_a_broken_plug_in_is_named_where_it_is_used_alone(
    site: Path, raw_task: dict[str, Any]
) -> None:
    install(site, "japagen-shouting", "import no_such_module\n")
    with pytest.raises(JapagenError) as error:
        _with_filter(raw_task)
    assert "The plug-in 'shouting' failed: ModuleNotFoundError" in str(error.value)
    assert "no_such_module" in str(error.value)
    assert "japagen-shouting 0.1.0" in error.value.hint
    assert Task.parse(raw_task).curation.filters == {}
    assert Words("ja").name("filter", "shouting") == "shouting"
    (row,) = [row for row in diagnose(Words("en")) if row["what"] == "filter shouting"]
    assert row["state"] == "broken"
    assert "no_such_module" in row["detail"]


def test_a_plug_in_must_be_an_entry(site: Path, raw_task: dict[str, Any]) -> None:
    code = _module("shouting")
    install(site, "japagen-shouting", code, entry="shouting:shouting")
    with pytest.raises(JapagenError, match="expected an Entry, found function"):
        _with_filter(raw_task)


def _lines(site: Path) -> dict[str, Any]:
    install(site, "japagen-lines", _module("lines"))
    (given,) = (block for block in _blocks("yaml") if "backend: lines" in block)
    path = site / "lines.txt"
    path.write_text("荷物が届きません。\n返品したいです。\n", encoding="utf-8")
    section: dict[str, Any] = YAML(typ="safe").load(given)["generator"]
    assert section["model"] == path.name
    return {**section, "model": str(path)}


def test_a_backend_of_a_package(site: Path, raw_task: dict[str, Any]) -> None:
    raw_task["generator"] = _lines(site)
    generator = load_generator(Task.parse(raw_task).generator)
    assert generator.info.identity.startswith("lines:")
    assert [row["state"] for row in diagnose(Words("en")) if row["what"] == "backend lines"] == [
        "ok"
    ]
    raw_task["generator"]["model"] = "none.txt"
    with pytest.raises(JapagenError, match="plug-in 'lines' failed: FileNotFoundError"):
        load_generator(Task.parse(raw_task).generator)
    raw_task["generator"] = {"backend": "lines"}
    with pytest.raises(JapagenError, match="backend lines needs a text file"):
        load_generator(Task.parse(raw_task).generator)


def test_both_in_a_run(site: Path, raw_task: dict[str, Any], tmp_path: Path) -> None:
    install(site, "japagen-shouting", _module("shouting").replace('"!！"', '"届"'))
    raw_task |= {"generator": _lines(site), "generation": {"per_label": 4}}
    raw_task["curation"] |= {"filters": {"shouting": {"most": 0}}, "max_gold_overlap": 1.0}
    raw_task["curation"]["register_miss"] = "ignore"
    run = jg.run(Task.parse(raw_task), tmp_path / "run", until="curate")
    texts = run.after("curate")
    reasons = {
        text: rejected["filter"] if rejected else ""
        for text, rejected in zip(texts.texts, texts.column("rejected"), strict=True)
        if not rejected or rejected["filter"] != "duplicate"
    }
    assert reasons == {"荷物が届きません。": "shouting", "返品したいです。": ""}


def test_the_command_line_names_a_broken_plug_in(site: Path, raw_task: dict[str, Any]) -> None:
    install(site, "japagen-shouting", "raise RuntimeError('昨日から動きません')\n")
    raw_task["curation"]["filters"] = {"shouting": {}}
    (site / "task.yaml").write_text(to_yaml(raw_task), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}

    def japagen(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = "from japagen.cli.main import main; main()"
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=site)

    refused = japagen("plan", "task.yaml")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "RuntimeError: 昨日から動きません" in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr
    healthy = japagen("doctor", "--json")
    assert healthy.returncode == 0, healthy.stderr
    assert "filter shouting" in {row["what"] for row in json.loads(healthy.stdout)}


@pytest.mark.parametrize("code", [code for code in _blocks("python") if code[0] != "#"])
def test_the_other_examples_run(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registries = (METHODS, METRICS, EXPORTS)
    try:
        exec(code, {})
        assert sum(len(registry._added) for registry in registries) == 1
    finally:
        for registry in registries:
            registry._added.clear()


def test_the_line_of_the_registry_is_an_entry() -> None:
    (given,) = (block for block in _blocks("yaml") if "home:" in block)
    ((name, row),) = YAML(typ="safe").load(given).items()
    assert (name, set(row)) == ("length", {"en", "home"})
    assert row["home"] == "alignment.length:length"
