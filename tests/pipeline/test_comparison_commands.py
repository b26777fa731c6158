"""`japagen data diff` and `japagen data explain` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from japagen.config.task import Task
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.files import write_text
from japagen.data.formats import write_examples
from japagen.pipeline.run_directory import RunDirectory
from tests.command_line import japagen


def write_run(path: Path, raw: dict[str, Any], *examples: Example, **curation: Any) -> Path:
    directory = RunDirectory(path, "small")
    write_text(directory.file("task.yaml"), Task.parse(raw | {"curation": curation}).to_yaml())
    write_examples(directory.file("aligned.parquet"), Dataset.of(examples))
    directory.release()
    return path


def test_two_runs_are_compared(tmp_path: Path, raw_task: dict[str, Any]) -> None:
    kept = Example("返品したい[red]です。", "返品", id="a")
    short = Example(kept.text, "返品", id="a", rejected=Rejection("too_short", 8, 20))
    other = Example("荷物はいつ届きますか。", "配送", id="b")
    one = write_run(tmp_path / "one", raw_task, kept, other, min_characters=6)
    two = write_run(tmp_path / "two", raw_task, short, other, min_characters=20)
    code, out, err = japagen("data", "diff", one, two)
    assert code == 0, err
    assert "curation.min_characters: 6 → 20" in out
    assert "返品したい[red]です。" in out
    code, out, err = japagen("data", "diff", one, two, "--json")
    assert code == 0, err
    assert json.loads(out)["examples"]["rejected"][0]["filter"] == "too_short"


def test_an_example_is_explained(tmp_path: Path, raw_task: dict[str, Any]) -> None:
    run = write_run(tmp_path / "one", raw_task, Example("返品したい[red]です。", "返品", id="a"))
    code, out, err = japagen("data", "explain", run, "a")
    assert code == 0, err
    assert "返品したい[red]です。" in out
    code, out, err = japagen("data", "explain", run, "a", "--json")
    assert json.loads(out)["example"]["label"] == "返品"
    code, out, err = japagen("data", "explain", run, "z")
    assert code == 2
    assert "There is no example 'z'" in err
    assert "Traceback" not in err
    code, _, err = japagen("data", "diff", run, tmp_path / "nothing")
    assert code == 2
    assert "Expected a run directory" in err
