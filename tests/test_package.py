"""What is published: the archives as `build` makes them, and the wheel installed without torch."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import GOLD, ROOT, write_gold, write_jsonl
from tests.test_structure import NEEDS_NO_TORCH

pytestmark = pytest.mark.slow

ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
    "JAPAGEN_LANG": "en",
}


class Archives(NamedTuple):
    """The source archive, the wheel that was made of it, and that of the checkout."""

    source: Path
    wheel: Path
    direct: Path


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    published, direct = tmp_path_factory.mktemp("published"), tmp_path_factory.mktemp("direct")
    build = [sys.executable, "-m", "build", "--quiet", str(ROOT), "--outdir"]
    making = [
        subprocess.Popen([*build, published]),
        subprocess.Popen([*build, direct, "--wheel"]),
    ]
    assert [process.wait() for process in making] == [0, 0]
    return Archives(
        *published.glob("*.tar.gz"),
        *published.glob("*.whl"),
        *direct.glob("*.whl"),
    )


@pytest.fixture(scope="module")
def installed(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and what it depends on, no extra."""
    path = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", path], check=True)
    pip = [sys.executable, "-m", "pip", "--python", path / "bin/python", "install", "--quiet"]
    constraints = ["--no-compile", "-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, *constraints, archives.wheel], check=True, env=ENVIRONMENT)
    return path


def _run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True
    )


def _contents(wheel: Path) -> dict[str, int]:
    """Each file's checksum."""
    with zipfile.ZipFile(wheel) as archive:
        return {file.filename: file.CRC for file in archive.infolist()}


def _files(folder: str, place: str) -> set[str]:
    return {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }


def test_the_wheel_of_the_source_archive_is_that_of_the_checkout(archives: Archives) -> None:
    assert archives.wheel.name == archives.direct.name
    assert _contents(archives.wheel) == _contents(archives.direct)


def test_the_wheel_has_what_the_package_reads_and_nothing_else(archives: Archives) -> None:
    found = set(_contents(archives.wheel))
    about = {name for name in found if ".dist-info/" in name}
    assert found - about == {
        *_files("japagen", "japagen"),
        *_files("prompts_ja", "japagen/_resources/prompts_ja"),
        *_files("configs", "japagen/_resources/configs"),
    }
    assert {"japagen/py.typed", "japagen/locale/ja/LC_MESSAGES/japagen.po"} <= found
    named = {name.partition(".dist-info/")[2] for name in about}
    assert {"licenses/LICENSE", "licenses/NOTICE", "entry_points.txt"} <= named


def test_the_source_archive_can_be_tested(archives: Archives) -> None:
    with tarfile.open(archives.source) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "NOTICE", "Makefile", "constraints.txt", "tests/conftest.py"} <= found
    assert _files("examples", "examples") | _files("benchmarks", "benchmarks") <= found


def test_the_installed_package_knows_its_version_and_its_resources(
    archives: Archives, installed: Path, tmp_path: Path
) -> None:
    done = _run(installed / "bin/japagen", "--version", cwd=tmp_path)
    assert done.stdout.strip() == archives.wheel.name.split("-")[1], done.stderr
    program = (
        "from importlib.util import find_spec\n"
        "from japagen.config.task import Task\n"
        "from japagen.data.files import resource_dir\n"
        "from japagen.llm.prompts import builtin_prompts\n"
        "builtin_prompts()\n"
        "print(Task.load(resource_dir('configs') / 'quickstart.yaml').name)\n"
        "print(resource_dir('prompts_ja'))\n"
        "print(find_spec('torch'), find_spec('transformers'))\n"
    )
    done = _run(installed / "bin/python", "-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    name, place, without = done.stdout.splitlines()
    assert name == "quickstart"
    assert Path(place).is_relative_to(installed)
    assert without == "None None"


def test_what_needs_no_torch_works_where_there_is_none(installed: Path, tmp_path: Path) -> None:
    done = _run(installed / "bin/python", "-c", NEEDS_NO_TORCH, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Install it with: pip install 'japagen[train]'"] * 2


def test_commands_work_without_torch_or_name_the_extra(installed: Path, tmp_path: Path) -> None:
    japagen = installed / "bin/japagen"
    done = _run(japagen, "init", "small", "--labels", ",".join(GOLD), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    write_gold(tmp_path / "gold.jsonl")
    rows = [
        {"text": f"{word}のことを伺います、{n}度目です。", "label": label}
        for label, word in (("配送", "荷物"), ("返品", "返品"))
        for n in "一二三四五六"
    ]
    write_jsonl(tmp_path / "theirs.jsonl", rows)
    given = ["small.yaml", "--set", "gold.path=gold.jsonl", "--synthetic", "theirs.jsonl"]
    run = [japagen, "run", *given, "--out", "run", "--until"]
    done = _run(*run, "curate", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/registers.parquet").is_file()
    for until in ("align", "report"):
        done = _run(*run, until, cwd=tmp_path)
        assert done.returncode == 2
        assert "pip install 'japagen[train]'" in done.stderr
        assert done.stderr.count("Error:") == 1
        assert "Traceback" not in done.stderr
