"""The scripts in examples/ run, and the whole path with the real models."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import japagen as jg
from japagen.data.files import resource_dir

EXAMPLES = Path(__file__).parent.parent / "examples"


def _example(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_keigo(tmp_path: Path) -> None:
    done = _example("keigo.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "kenjogo" in done.stdout


def test_without_a_server_the_openai_example_says_so(tmp_path: Path) -> None:
    done = _example(
        "openai_server.py", "--base-url", "http://127.0.0.1:9/v1", "--model", "m", cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_existing_csv(tmp_path: Path) -> None:
    done = _example("existing_csv.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_quickstart_end_to_end_with_the_real_models(tmp_path: Path) -> None:
    small = {"generation.per_label": 12, "gold.per_label": 8}
    task = jg.Task.load(resource_dir("configs") / "quickstart.yaml", small)
    run = jg.run(task, tmp_path / "run")
    # Near-duplicates, unnatural texts and doubtful labels go: of the 48 that the model writes
    # about three of five are left, and it writes other texts each time.
    kept = Counter(run.dataset.kept.column("source"))
    assert kept["embedded"] >= 20
    assert kept["strong_llm"] > 100
    fitted = run.metrics["scores"]["baselines"][:4]
    # Four labels: chance is 0.25. N-grams of eight texts a label say little more.
    assert all(row["macro_f1"] > 0.25 for row in fitted)
    assert run.metrics["cost"]["completion_tokens"] > 400
    # Four labels: chance is 0.25. Eight texts a label and a real encoder are far above it.
    assert run.metrics["scores"]["gold_only"]["macro_f1"] > 0.45
    assert run.metrics["scores"]["with_synthetic"]["macro_f1"] > 0.45
    assert (run.path / "report.html").stat().st_size > 10_000
    before = (run.path / "metrics.json").read_bytes()
    assert jg.run(task, tmp_path / "run").metrics == run.metrics
    assert (run.path / "metrics.json").read_bytes() == before
