from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from japagen.data.files import resource_dir
from japagen.errors import JapagenError

ROOT = Path(__file__).parents[2]


def test_an_explicit_directory_comes_first(tmp_path: Path) -> None:
    assert resource_dir("prompts_ja", tmp_path) == tmp_path
    with pytest.raises(JapagenError, match="found nothing at"):
        resource_dir("prompts_ja", tmp_path / "none")


def test_a_checkout_has_them_at_its_top() -> None:
    assert resource_dir("prompts_ja") == ROOT / "prompts_ja"
    assert resource_dir("configs") == ROOT / "configs"


@pytest.mark.slow
def test_an_installed_wheel_brings_them_along(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
    program = (
        "from japagen.data.files import resource_dir as d; from japagen.config.task import Task; "
        "from japagen.llm.prompts import builtin_prompts; "
        "print(Task.load(d('configs') / 'quickstart.yaml').name, d('prompts_ja'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    name, place = done.stdout.split()
    assert name == "quickstart"
    assert Path(place).is_relative_to(site)
