"""The scripts in examples/ run, and the whole path with the real models."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import japagen as jg
from japagen.data.formats import write_examples

EXAMPLES = Path(__file__).parent.parent / "examples"


def _example(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_keigo(tmp_path: Path) -> None:
    done = _example("keigo.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "kenjogo" in done.stdout


@pytest.mark.slow
def test_from_pandas(tmp_path: Path) -> None:
    done = _example("from_pandas.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counts, *_, first, second = done.stdout.splitlines()
    assert counts == "<Dataset: 8 examples, 配送 4, 返品 4>"
    assert " 配送 " in first
    assert " 返品 " in second


def test_without_a_server_the_openai_example_says_so(tmp_path: Path) -> None:
    done = _example(
        "openai_server.py", "--base-url", "http://127.0.0.1:9/v1", "--model", "m", cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_existing_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = EXAMPLES / "existing_csv.py"
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    example = module_from_spec(spec)
    spec.loader.exec_module(example)
    # A fifth of its gold, on which a classifier is trained in as much less time.
    gold = jg.read_examples(example.GOLD, split="train")
    write_examples(tmp_path / "few.jsonl", gold.take(range(0, len(gold), 5)))
    monkeypatch.setattr(example, "GOLD", tmp_path / "few.jsonl")
    example.main()
    *weighted, label = capsys.readouterr().out.splitlines()
    assert len(weighted) == len(example.WRITTEN)
    assert label in {written for _, written in example.WRITTEN}


@pytest.mark.slow
def test_the_quickstart_end_to_end_with_the_real_models(
    quickstart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(quickstart)
    task, out = jg.Task.load("configs/quickstart.yaml"), Path("runs/quickstart")
    run = jg.Run.open(out)
    # Near-duplicates, unnatural texts and doubtful labels go: of the 48 that the model writes
    # about three of five are left, and it writes other texts each time.
    kept = Counter(run.dataset.kept.column("source"))
    assert kept["embedded"] >= 20
    assert kept["strong_llm"] > 100
    fitted = run.metrics["scores"]["baselines"][:4]
    # Four labels: chance is 0.25. N-grams of eight texts per label say little more.
    assert all(row["macro_f1"] > 0.25 for row in fitted)
    assert run.metrics["cost"]["completion_tokens"] > 400
    # Four labels: chance is 0.25. Eight texts per label and a real encoder are far above it.
    assert run.metrics["scores"]["gold_only"]["macro_f1"] > 0.45
    assert run.metrics["scores"]["with_synthetic"]["macro_f1"] > 0.45
    assert (run.path / "report.html").stat().st_size > 10_000
    before = (run.path / "metrics.json").read_bytes()
    assert jg.run(task, out).metrics == run.metrics
    assert (run.path / "metrics.json").read_bytes() == before
