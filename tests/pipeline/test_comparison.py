from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from japagen.config.task import Task
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.files import write_text
from japagen.data.formats import write_examples
from japagen.errors import JapagenError
from japagen.llm.ledger import Ledger
from japagen.pipeline.comparison import compare_runs, explain_example, prompt_text, provenance_of
from japagen.pipeline.run_directory import Run, RunDirectory, content_hash, record_version, versions
from tests.scripted import ScriptedGenerator

Make = Callable[..., Run]


@pytest.fixture
def make(tmp_path: Path, raw_task: dict[str, Any]) -> Make:
    """Writes a run of given examples without running anything."""

    def run(name: str, examples: list[Example], **curation: Any) -> Run:
        task = Task.parse(raw_task | {"curation": curation})
        directory = RunDirectory(tmp_path / name, "small")
        write_text(directory.file("task.yaml"), task.to_yaml())
        dataset = Dataset.of(examples)
        write_examples(directory.file("aligned.parquet"), dataset)
        record_version(directory.file("versions.json"), dataset, task)
        directory.release()
        return Run.open(directory.path)

    return run


def _rows(**changes: Example) -> list[Example]:
    rows = {
        "a": Example("荷物はいつ届きますか。", "配送", id="a"),
        "b": Example("返品したいです。", "返品", id="b"),
        "c": Example("再配達を頼みたい。", "配送", id="c"),
        "d": Example("交換できますか。", "返品", id="d", weight_label=0.5),
    }
    return list({**rows, **changes}.values())


def test_equal_runs_differ_in_nothing(make: Make) -> None:
    found = compare_runs(make("one", _rows()), make("two", _rows()))
    assert found["versions"]["before"]["hash"] == found["versions"]["after"]["hash"]
    assert found["settings"] == found["tools"] == {}
    assert not any(found["examples"].values())
    assert all(d["distance"] == 0 and not d["changed"] for d in found["distributions"])


def test_each_change_is_named_with_its_reason(make: Make) -> None:
    one = make("one", _rows(), min_characters=6)
    short = Rejection("too_short", 8, 10)
    two = make(
        "two",
        _rows(
            a=Example("荷物はいつ届きますか。", "返品", id="a"),
            b=Example("返品したいです。", "返品", id="b", rejected=short),
            c=Example("〔氏名〕さんに頼みたい。", "配送", id="c"),
            d=Example("交換できますか。", "返品", id="d", weight_label=0.1),
            e=Example("届かないよ。", "配送", id="e", parent_id="a"),
        ),
        min_characters=10,
    )
    found = compare_runs(one, two)
    changes = found["examples"]
    assert found["settings"] == {"curation.min_characters": [6, 10]}
    assert [c["id"] for c in changes["relabelled"]] == ["a"]
    assert (changes["relabelled"][0]["before"], changes["relabelled"][0]["after"]) == (
        "配送",
        "返品",
    )
    assert [c["id"] for c in changes["rejected"]] == ["b"]
    assert changes["rejected"][0]["why"] == "curation.min_characters: 6 → 10"
    assert (changes["rejected"][0]["value"], changes["rejected"][0]["threshold"]) == (8, 10)
    assert [c["id"] for c in changes["reworded"]] == ["c"]
    assert changes["added"][0]["why"] == "rewritten from a"
    assert "d" in {c["id"] for c in changes["reweighted"]}
    assert next(c for c in changes["reweighted"] if c["id"] == "d")["label"] == [0.5, 0.1]
    back = compare_runs(two, one)["examples"]
    assert [c["id"] for c in back["restored"]] == ["b"]
    assert back["restored"][0]["filter"] == "too_short"
    assert [c["id"] for c in back["removed"]] == ["e"]


def test_a_rejection_under_the_same_settings_says_so(make: Make) -> None:
    one = make("one", _rows())
    near = Rejection("near_duplicate", 0.8, 0.7, "a")
    two = make("two", _rows(c=Example("再配達を頼みたい。", "配送", id="c", rejected=near)))
    why = compare_runs(one, two)["examples"]["rejected"][0]["why"]
    assert why.startswith("its settings are the same")


def test_a_clear_change_of_labels_is_told_from_chance(make: Make) -> None:
    def rows(share: float) -> list[Example]:
        cut = int(200 * share)
        return [Example(f"{i}件", "配送" if i < cut else "返品", id=str(i)) for i in range(200)]

    def label(one: float, other: float) -> bool:
        pair = make(f"{one}-{other}-a", rows(one)), make(f"{one}-{other}-b", rows(other))
        return next(
            d["changed"] for d in compare_runs(*pair)["distributions"] if d["name"] == "label"
        )

    assert label(0.5, 0.8)
    assert not label(0.5, 0.53)


def test_a_version_has_the_one_before_it_as_its_parent(
    tmp_path: Path, raw_task: dict[str, Any]
) -> None:
    task, path = Task.parse(raw_task), tmp_path / "versions.json"
    first = record_version(path, Dataset.of(_rows()), task)
    assert first["parent"] is None
    assert record_version(path, Dataset.of(_rows()), task) == first
    second = record_version(path, Dataset.of(_rows()[:3]), task)
    assert second["parent"] == first["hash"] != second["hash"]
    assert [v["hash"] for v in versions(path)] == [first["hash"], second["hash"]]


def test_the_hash_sees_content_and_not_the_order() -> None:
    rows = _rows()
    assert content_hash(Dataset.of(rows)) == content_hash(Dataset.of(rows[::-1]))
    changed = [*rows[:3], Example("交換できますか。", "返品", id="d", weight_label=0.4)]
    assert content_hash(Dataset.of(rows)) != content_hash(Dataset.of(changed))


def test_an_example_is_traced_to_its_request(tmp_path: Path, raw_task: dict[str, Any]) -> None:
    import japagen as jg

    generator = ScriptedGenerator()
    run = jg.run(Task.parse(raw_task), tmp_path / "run", until="curate", generator=generator)
    row = run.latest.kept[0]
    found = explain_example(run, row.id)
    request = next(r for r in generator.asked if r.id == row.request_id)
    assert found["request"]["prompt"] == request.prompt
    assert found["request"]["seed"] == request.seed
    assert found["request"]["generator"] == "scripted:1"
    assert found["request"]["attempts"][-1]["text"]
    assert found["audit"]["id"] == row.id
    assert set(found["example"]["shot_ids"]) == set(request.shot_ids)
    assert explain_example(run, row.id[:-2])["example"]["id"] == row.id
    known = provenance_of(run)
    told = known.requests[request.id]
    assert told["prompt"] == prompt_text(request.prompt)
    assert told["answer"] == found["request"]["attempts"][-1]["text"]
    assert told["shots"] == len(request.shot_ids)
    assert known.audits[row.id] == found["audit"]
    with pytest.raises(JapagenError, match="There is no example 'nobody'"):
        explain_example(run, "nobody")
    with pytest.raises(JapagenError, match="examples have an id that begins with 's-'"):
        explain_example(run, "s-")


def test_an_example_from_a_file_has_no_request(make: Make) -> None:
    found = explain_example(make("one", _rows()), "a")
    assert found["request"] is None
    assert found["audit"] is None
    assert found["example"]["label"] == "配送"


def test_a_ledger_is_only_read(tmp_path: Path, make: Make) -> None:
    run = make("one", [Example("荷物です。", "配送", id="a", request_id="r")])
    Ledger(run.path / "ledger.sqlite").close()
    before = (run.path / "ledger.sqlite").read_bytes()
    assert explain_example(run, "a")["request"] is None
    assert (run.path / "ledger.sqlite").read_bytes() == before


def test_a_chat_prompt_is_read_turn_by_turn() -> None:
    turns = [{"role": "system", "content": "一"}, {"role": "user", "content": "二"}]
    assert prompt_text(turns) == "[system]\n一\n\n[user]\n二"
    assert prompt_text("続き") == "続き"
