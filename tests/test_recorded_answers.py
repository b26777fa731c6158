"""benchmarks/texts: the recorded answers of a strong LLM fit the requests that they answer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from japagen.config.generation import Knowledge
from japagen.config.task import Task
from japagen.data.files import resource_dir
from japagen.japanese.registers import Register

TEXTS = Path(__file__).parent.parent / "benchmarks" / "texts"
QUICKSTART = Task.load(resource_dir("configs") / "quickstart_local.yaml")


def _rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (TEXTS / name).read_text(encoding="utf-8").splitlines()]


def test_both_second_rounds_ask_for_as_many_texts_per_label() -> None:
    rows = _rows("quickstart_rounds.jsonl")
    wanted = [(arm, label) for arm in ("ordinary", "feedback") for label in QUICKSTART.labels]
    assert Counter((row["asked"], row["label"]) for row in rows) == dict.fromkeys(wanted, 20)
    named = [Knowledge.parse(row["named"]) for row in rows if "named" in row]
    assert {known.kind for known in named} == {"word", "ending", "length_band"}
    assert len({(row["asked"], row["text"]) for row in rows}) == len(rows)


def test_every_critique_has_a_rewrite_that_differs_from_the_text() -> None:
    rows = _rows("quickstart_refined.jsonl")
    assert {row["label"] for row in rows} == set(QUICKSTART.labels)
    assert all(Register.of(row["register"]).name == row["register"] for row in rows)
    criticised = [row for row in rows if "critique" in row]
    assert len(criticised) == 29
    assert all(row["rewrite"] not in ("", row["text"]) for row in criticised)
    assert all("rewrite" not in row for row in rows if "critique" not in row)


def test_each_text_of_the_quickstart_pool_was_labelled_once() -> None:
    pool = (resource_dir("configs") / "quickstart" / "pool.jsonl").read_text(encoding="utf-8")
    labelled = [row for row in _rows("judged.jsonl") if row["task"] == "quickstart"]
    assert sorted(int(row["row"]) for row in labelled) == list(range(len(pool.splitlines())))
    assert {row["label"] for row in labelled} == set(QUICKSTART.labels)
