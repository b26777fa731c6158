from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.sources import Source, SourceEntry
from japagen.config.task import Task
from japagen.config.task_data import TaskData
from japagen.curation.register_control import Rewritten
from japagen.data.dataset import REWRITTEN, Dataset, Example, Rejection
from japagen.data.summary import SourceValue
from japagen.errors import JapagenError
from japagen.mixing.mix import Mix, SourceMix
from japagen.pipeline.sources import join_sources, only_of, report_sources, value_of
from japagen.pipeline.summary import Parts
from tests.conftest import write_jsonl
from tests.report_sample import small_summary
from tests.scripted import ScriptedGenerator


@pytest.fixture
def parts(task: Task) -> Parts:
    sources = (
        SourceEntry(name="own", generator=True),
        SourceEntry(name="claude", path=Path("claude.csv"), yen=300),
        SourceEntry(name="none", path=Path("none.csv")),
    )
    task = task.model_copy(update={"sources": sources})
    return Parts(
        task,
        TaskData(None, None, None),
        cost={"prompt_tokens": 200, "completion_tokens": 50, "yen": 1.5},
        seconds={"generate": 12.5, "curate": 1.0},
        distances={"own": 0.8, "claude": 0.9},
    )


def _dataset() -> Dataset:
    def row(number: int, source: str, rejected: str = "", **more: object) -> Example:
        known = {"id": f"{number}", "source": source, "label_asked": "配送"}
        found = Rejection(rejected, 1, 0) if rejected else None
        return Example(f"{number}です。", "配送", rejected=found, **{**known, **more})  # type: ignore[arg-type]

    return Dataset.of(
        [
            row(1, "own", weight_distribution=1.0),
            row(2, "own", "failed"),
            row(3, "own", "rewritten"),
            row(4, "own", derived=REWRITTEN, parent_id="3"),
            row(5, "claude", weight_label=0.5),
            row(6, "claude", label_asked="返品", weight_label=0.5),
            row(7, "claude", "too_short"),
            row(8, "none", "duplicate"),
        ]
    )


def test_every_source_has_its_own_texts_and_cost(parts: Parts) -> None:
    own, claude, none = report_sources(_dataset(), parts, small_summary())
    assert (own.texts, own.kept, own.rejected, own.relabelled) == (2, 2, {"rewritten": 1}, 0)
    assert (own.yen, own.tokens, own.seconds) == (1.5, 250, 12.5)
    assert (claude.texts, claude.kept, claude.relabelled) == (3, 2, 1)
    assert (claude.kind, claude.origin) == ("file", "claude.csv")
    assert (claude.yen, claude.tokens, claude.seconds) == (300, None, None)
    assert (own.label_trust, claude.label_trust, none.label_trust) == (1.0, 0.5, None)
    assert (own.distance, claude.distance, none.distance) == (0.8, 0.9, None)
    assert none.value.reason == "nothing_kept"


def test_a_source_has_the_value_that_was_found_for_it(parts: Parts) -> None:
    found = SourceValue(used=True, share=0.5, texts_worth=4.0, low=1.0, reason="reliable")
    own, claude, none = report_sources(
        _dataset(), replace(parts, values={"claude": found}), small_summary()
    )
    assert claude.value == found
    assert own.value == SourceValue(reason="not_measured")
    assert none.value.reason == "nothing_kept"


def test_a_source_carries_what_its_texts_count_for_of_the_loss() -> None:
    sources = {
        "own": SourceMix(10, 0.2, "reliable"),
        "claude": SourceMix(4, 1.0, "reliable"),
        "noise": SourceMix(9, 0.0, "unreliable"),
        "none": SourceMix(0, 0.0, "no_synthetic"),
    }
    mix = Mix(0.6, "reliable", sources)
    worth = {"curves": {"sources": {"claude": {"texts": 4.0, "low": 1.0, "high": None}}}}
    own, claude, noise, none = (value_of(name, mix, worth) for name in sources)
    # 2 gold texts against 4, of 60% of the loss.
    assert own.share == pytest.approx(0.2)
    assert claude.share == pytest.approx(0.4)
    assert (own.used, own.texts_worth, own.reason) == (True, None, "reliable")
    assert (claude.texts_worth, claude.low, claude.high) == (4.0, 1.0, None)
    assert noise == SourceValue(reason="unreliable")
    assert none == SourceValue(texts_worth=0.0, low=0.0, high=0.0, reason="nothing_kept")
    assert value_of("claude", mix, None).texts_worth is None
    alone = Mix(0.0, "given", sources)
    assert not any(value_of(name, alone, None).used for name in sources)


_WORDS = {"配送": "荷物", "返品": "返品"}
_NUMBERS = "一二三四五六七八九十"


def _rows(about: str, numbers: str = _NUMBERS) -> list[dict[str, str]]:
    return [
        {"text": f"{word}の{about}のことで質問があります、{n}回目です。", "label": label}
        for label, word in _WORDS.items()
        for n in numbers
    ]


@pytest.fixture
def small(raw_task: dict[str, Any], tiny_encoder: str) -> dict[str, Any]:
    raw_task["training"] = {
        "encoder": tiny_encoder,
        "min_steps": 2,
        "max_steps": 3,
        "synthetic_share": 0.4,
        "tune": "never",
    }
    raw_task["generation"]["per_label"] = 8
    return raw_task


def test_a_run_of_files_and_the_generator_values_each(
    small: dict[str, Any], tmp_path: Path
) -> None:
    strong = write_jsonl(tmp_path / "strong.jsonl", _rows("手続き"))
    # The first says what the other file says already; the second is no sentence at all.
    weak = write_jsonl(
        tmp_path / "weak.jsonl",
        [_rows("手続き")[0], {"text": "はい", "label": "配送"}, *_rows("期限", "一二三四五六七八")],
    )
    empty = write_jsonl(tmp_path / "empty.jsonl", [{"text": "はい", "label": "返品"}])
    small["sources"] = [
        {"name": "strong", "path": str(strong), "yen": 120},
        {"name": "own", "generator": True},
        {"name": "weak", "path": str(weak)},
        {"name": "empty", "path": str(empty)},
    ]
    generator = ScriptedGenerator()
    run = jg.run(Task.parse(small), tmp_path / "run", generator=generator)
    dataset, metrics = run.dataset, run.metrics
    found = {source["name"]: source for source in metrics["sources"]}
    assert list(found) == ["strong", "own", "weak", "empty"]
    asked = [r for r in generator.asked if r.template.startswith("few_shot")]
    assert len(asked) == 16 == metrics["counts"]["requested"]
    assert [source["texts"] for source in found.values()] == [20, 16, 18, 1]
    assert metrics["counts"]["generated"] == 20 + 16 + 18 + 1
    assert sum(source["kept"] for source in found.values()) == metrics["counts"]["kept"]
    # Of two texts alike the source that the task names first keeps its own.
    assert found["strong"]["kept"] == 20
    assert found["weak"]["kept"] == 16
    assert found["weak"]["rejected"] == {"duplicate": 1, "too_short": 1}
    assert found["empty"]["value"] == {
        **{"used": False, "share": 0.0, "texts_worth": 0.0, "low": 0.0, "high": 0.0},
        "reason": "nothing_kept",
    }
    shares = [source["value"]["share"] for source in found.values()]
    assert sum(shares) == pytest.approx(metrics["mix"]["share"])
    assert (found["strong"]["kind"], found["strong"]["origin"]) == ("file", "strong.jsonl")
    assert (found["own"]["kind"], found["own"]["origin"]) == ("generator", "scripted")
    assert (found["strong"]["yen"], found["weak"]["yen"]) == (120, None)
    assert found["own"]["tokens"] > 0
    assert found["own"]["seconds"] is not None
    assert found["strong"]["tokens"] is None
    assert 0 < found["strong"]["distinct_2"]["value"] < 1
    assert 0.5 < found["strong"]["distance"] <= 1
    assert found["empty"]["distance"] is None
    # Every text says whose it is, those that were rewritten too.
    by_id = {example.id: example for example in dataset}
    children = [example for example in dataset if example.derived == REWRITTEN]
    assert all(by_id[str(e.parent_id)].source == e.source for e in children)
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert "合成テキストの出どころの比較" in html
    for named in ("weak.jsonl", "なし" if not children else "own", "検査を通ったテキストがない"):
        assert named in html
    card = (run.path / "model" / "README.md").read_text(encoding="utf-8")
    files = ("strong.jsonl", "weak.jsonl", "empty.jsonl")
    assert ", ".join(f"an unknown model (file {file})" for file in files) in card
    assert "scripted" in card
    generator = ScriptedGenerator()
    again = jg.run(Task.load(run.path / "task.yaml"), run.path, generator=generator)
    assert generator.asked == []
    assert again.metrics == metrics


def test_a_run_stops_only_when_no_source_has_a_text_left(
    small: dict[str, Any], tmp_path: Path
) -> None:
    paths = [
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": text, "label": "返品"}])
        for name, text in (("a", "はい"), ("b", "うん"))
    ]
    with pytest.raises(JapagenError, match="rejected all 2 examples"):
        jg.run(Task.parse(small), tmp_path / "run", synthetic=paths, until="curate")


def test_files_are_given_in_every_form(small: dict[str, Any], tmp_path: Path) -> None:
    one = write_jsonl(tmp_path / "他社 LLM.jsonl", _rows("手続き", "一二"))
    rows = [{"本文": row["text"], "label": row["label"]} for row in _rows("期限", "一")]
    two = write_jsonl(tmp_path / "two.jsonl", rows)
    task, generator = Task.parse(small), ScriptedGenerator()
    given = [str(one), Source(path=two, columns={"text": "本文"})]
    run = jg.run(task, tmp_path / "run", synthetic=given, until="generate", generator=generator)
    assert run.after("generate").column("source") == [*["他社-LLM"] * 4, *["two"] * 2]
    assert generator.asked == []
    with pytest.raises(JapagenError, match="two sources are called 'two'"):
        jg.run(task, tmp_path / "run", synthetic=[two, two])


def _refused(small: dict[str, Any], out: Path, message: str) -> None:
    generator = ScriptedGenerator()
    with pytest.raises(JapagenError, match=message):
        jg.run(Task.parse(small), out, generator=generator)
    assert generator.asked == []
    assert not out.exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "荷物です。", "label": "配送"}, {"text": "あの", "label": "配達"}], "line 2"),
        ([{"お声": "荷物です。", "label": "配送"}], r"column 'text' .*bad\.jsonl.* line 1"),
        ([{"text": "荷物です。"}], r"column 'label' .*bad\.jsonl.* line 1"),
        ([], "empty file|found none"),
        (
            [
                # As japagen writes it: in other files the column means nothing.
                {
                    **Dataset.of([Example("荷物です。", "配送")]).table.to_pylist()[0],
                    "rejected": {"filter": "too_short", "value": 1, "threshold": 6, "detail": ""},
                }
            ],
            r"texts to use in .*bad\.jsonl, found 1 that are all marked as rejected",
        ),
    ],
)
def test_a_source_that_cannot_be_used_is_refused_before_anything_runs(
    small: dict[str, Any], tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    path = write_jsonl(tmp_path / "bad.jsonl", rows)
    small["sources"] = [{"name": "own", "generator": True}, {"name": "bad", "path": str(path)}]
    _refused(small, tmp_path / "run", message)


def test_a_missing_file_is_refused_before_anything_runs(
    small: dict[str, Any], tmp_path: Path
) -> None:
    small["sources"] = [{"name": "none", "path": str(tmp_path / "none.csv")}]
    _refused(small, tmp_path / "run", r"no file at .*none\.csv")


def test_ids_stay_unique_and_those_of_earlier_sources_stay() -> None:
    def texts(*ids: str) -> Dataset:
        return Dataset.of(Example(f"{i}です。", "配送", id=i, parent_id="a") for i in ids)

    joined = join_sources({"x": texts("a", "b"), "y": texts("a", "c", "y-a")})
    assert joined.column("id") == ["a", "b", "y-y-a", "c", "y-a"]
    assert joined.column("parent_id") == ["a", "a", "y-y-a", "y-y-a", "y-y-a"]
    assert joined.column("source") == ["x", "x", "y", "y", "y"]


def test_a_model_rewrites_its_own_texts_alone() -> None:
    asked: list[str] = []

    def model(wanted: Sequence[tuple[Example, str]]) -> list[Rewritten]:
        asked.extend(example.text for example, _ in wanted)
        return [Rewritten(f"{example.text}です。") for example, _ in wanted]

    rows = [(Example(t, source=s), "polite") for t, s in (("甲", "a"), ("乙", "b"), ("丙", "a"))]
    made = only_of("a", model)(rows)
    assert asked == ["甲", "丙"]
    assert [r.text for r in made] == ["甲です。", "", "丙です。"]
    assert made[1].refused
