from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from japagen.config.generation import GeneratorSettings
from japagen.config.qa import QATask
from japagen.data.qa import (
    NO_ANSWER,
    QASummary,
    Question,
    kept,
    read_passages,
    read_questions,
)
from japagen.errors import JapagenError
from japagen.llm.backend import Answer, Request
from japagen.pipeline.qa import plan, preview, read_material, run
from japagen.reporting.qa import render_report
from tests.pipeline.test_run import Heard
from tests.recorded_qa import Recorded, load


class Heedful(Recorded):
    """The recorded answers, but for what a test has said in their place."""

    def __init__(self, said: Callable[[Request], str | Answer | None] = lambda _: None) -> None:
        super().__init__()
        self._other = said
        self.asked: list[Request] = []

    def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
        for request in requests:
            self.asked.append(request)
            other = self._other(request)
            if isinstance(other, str):
                other = Answer(request.id, other, "stop", 10, 10)
            yield other or next(super().stream([request]))


def _run(task: QATask, out: Path, generator: Recorded | None = None) -> tuple[Path, Heard]:
    heard = Heard()
    return run(task, out, generator=generator or Heedful(), listener=heard), heard


def _all(path: Path) -> list[Question]:
    return read_questions(path / "questions.jsonl")


def _changed(task: QATask, section: str, **values: Any) -> QATask:
    part = getattr(task, section).model_copy(update=values)
    return task.model_copy(update={section: part})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run(load(), tmp_path_factory.mktemp("qa") / "run")[0]


def test_what_is_kept_has_passed_everything(finished: Path) -> None:
    passages = {p.id: p.text for p in read_passages(finished).values()}
    questions = _all(finished)
    chosen = kept(questions)
    assert len(chosen) >= 50
    for q in chosen:
        context = passages[q.passage_id]
        if q.kind == "unanswerable":
            assert (q.answer, q.start, q.round_trip) == ("", -1, NO_ANSWER)
            continue
        assert context[q.start : q.start + len(q.answer)] == q.answer
        if q.kind == "multiple_choice":
            assert len(set(q.options)) == 4
            assert q.answer in q.options
    by_id = {q.id: q for q in questions}
    assert len(by_id) == len(questions)
    assert all(by_id[str(q.parent_id)].rejected is None for q in questions if q.parent_id)
    assert all(q.rejected.detail for q in questions if q.rejected)


def test_the_summary_counts_what_the_rows_hold(finished: Path) -> None:
    summary, questions = QASummary.load(finished), _all(finished)
    for kind in summary.made:
        rows = [q for q in questions if q.kind == kind]
        assert summary.made[kind] == len(rows)
        assert summary.kept[kind] == sum(q.rejected is None for q in rows)
        assert sum(summary.rejections[kind].values()) == len(rows) - summary.kept[kind]
    assert {"closed_book", "round_trip", "not_alone", "no_span", "gives_away"} <= set(
        summary.rejections["extractive"]
    )
    (words,) = summary.retrieval
    assert words.n == summary.kept["extractive"]
    assert 0.5 < words.recall[1] <= words.recall[3] <= 1
    assert {rate.name for rate in summary.artefacts} == {
        "longest",
        "shortest",
        "place",
        "without_passage",
    }
    assert summary.cost["answers"] > 100


def test_right_options_stand_everywhere(finished: Path) -> None:
    chosen = kept(_all(finished), "multiple_choice")
    assert len({q.options.index(q.answer) for q in chosen}) == 4


@pytest.mark.parametrize("language", ["ja", "en"])
def test_the_report_is_one_page_without_scripts(finished: Path, language: Any) -> None:
    summary = QASummary.load(finished)
    passages = read_passages(finished)
    first = kept(_all(finished))[0]
    evil = replace(first, question="<script>alert(1)</script>")
    page = render_report(summary, [evil, *_all(finished)], passages, language=language)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert first.answer in page
    assert page.count("<section") == 7


def test_the_recorded_run_is_replayed_to_the_same_questions(finished: Path, tmp_path: Path) -> None:
    task = load()
    again = run(task, tmp_path / "run", listener=Heard())
    assert task.generator.backend == "replay"
    assert (again / "questions.jsonl").read_bytes() == (finished / "questions.jsonl").read_bytes()


def test_a_second_run_asks_nothing_and_a_threshold_asks_only_what_is_new(tmp_path: Path) -> None:
    path, _ = _run(load(), tmp_path / "run")
    before = (path / "questions.jsonl").read_bytes()
    generator = Heedful()
    _, heard = _run(load(), path, generator)
    assert generator.asked == []
    assert {"questions", "answers", "variants", "options", "retrieval"} <= heard.kept()
    assert (path / "questions.jsonl").read_bytes() == before
    generator = Heedful()
    strict = _changed(load(), "curation", least_round_trip=1.0)
    strict = _changed(strict, "generation", multiple_choice=0.0, unanswerable=0.0)
    path, heard = _run(strict, path, generator)
    assert generator.asked == []
    assert "answers" in heard.ran()
    rejected = [q for q in _all(path) if q.rejected and q.rejected.filter == "round_trip"]
    assert {q.rejected.threshold for q in rejected if q.rejected} == {1.0}
    assert len(rejected) > 2


def test_interrupted_anywhere_a_run_ends_as_an_undisturbed_one(
    finished: Path, tmp_path: Path
) -> None:
    asked = 0
    for limit in (3, 30, 70, 90, 100, 60):
        left = limit

        def interrupted(_: Request) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt

        generator = Heedful(interrupted)
        try:
            _run(load(), tmp_path / "run", generator)
        except KeyboardInterrupt:
            asked += limit
        else:
            asked += len(generator.asked)
    path, _ = _run(load(), tmp_path / "run", last := Heedful())
    whole = QASummary.load(finished).cost["answers"]
    assert asked + len(last.asked) == whole
    assert (path / "questions.jsonl").read_bytes() == (finished / "questions.jsonl").read_bytes()


@pytest.mark.parametrize("template", ["qa_write", "qa_answer", "qa_distract", "qa_choose"])
def test_what_gets_no_answer_is_named_and_tried_again(template: str, tmp_path: Path) -> None:
    failed: list[str] = []

    def flaky(request: Request) -> Answer | None:
        if request.template.startswith(template) and len(failed) < 2:
            failed.append(request.id)
            return Answer(request.id, "", "error", error="HTTP 500")
        return None

    path, _ = _run(load(), tmp_path / "run", Heedful(flaky))
    assert QASummary.load(path).failures == {"HTTP 500": 2}
    lost = [q for q in _all(path) if q.rejected and q.rejected.filter == "failed"]
    assert len(lost) == 2
    again = Heedful()
    _run(load(), path, again)
    assert {request.id for request in again.asked} >= set(failed)
    assert not [q for q in _all(path) if q.rejected and q.rejected.filter == "failed"]


def test_unreadable_answers_are_rejected_rows_and_not_the_end(tmp_path: Path) -> None:
    def mumbled(request: Request) -> str | None:
        return "ええと。" if request.seed % 2 and "qa_write" in request.template else None

    path, heard = _run(load(), tmp_path / "run", Heedful(mumbled))
    filters = {q.rejected.filter for q in _all(path) if q.rejected}
    assert "unreadable" not in filters  # each was asked for once more, with another seed
    all_bad = Heedful(lambda r: "ええと。" if "qa_answer" in r.template else None)
    path, heard = _run(load(), tmp_path / "bad", all_bad)
    assert kept(_all(path)) == []
    assert {q.rejected.filter for q in _all(path) if q.rejected} >= {"failed", "no_span"}
    assert QASummary.load(path).retrieval == []
    assert "cannot be used" in "".join(heard.notes)
    _run(load(), path)
    assert len(kept(_all(path))) >= 50


def test_a_generator_that_answers_nothing_is_one_message(tmp_path: Path) -> None:
    down = Heedful(lambda r: Answer(r.id, "", "error", error="connection refused"))
    with pytest.raises(JapagenError, match="None of 27 requests was answered"):
        _run(load(), tmp_path / "run", down)


def test_a_budget_is_never_passed(tmp_path: Path) -> None:
    from japagen.config.generation import Budget

    task = _changed(load(), "generation", budget=Budget(tokens=40_000))
    path, heard = _run(task, tmp_path / "run")
    summary = QASummary.load(path)
    assert summary.cost["prompt_tokens"] + summary.cost["completion_tokens"] <= 40_000
    assert any("generation.budget does not hold" in note for note in heard.notes)
    assert "not sent: generation.budget is used up" in summary.failures


def test_documents_that_cannot_be_read_are_named_and_the_others_used(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    source = load().documents
    for name in ("factory_tour.md", "work_rules.md"):
        (folder / name).write_bytes((source / name).read_bytes())
    (folder / "empty.txt").write_bytes(b"")
    (folder / "scan.bin").write_bytes(b"\0")
    task = load().model_copy(update={"documents": folder})
    path, heard = _run(task, tmp_path / "run")
    summary = QASummary.load(path)
    assert summary.documents == ["factory_tour.md", "work_rules.md"]
    assert summary.skipped["empty.txt"] == "empty.txt is empty."
    assert "Left out: empty.txt is empty." in heard.notes
    assert summary.kept["extractive"] > 10
    page = (path / "report.html").read_text("utf-8")
    assert "empty.txt は空です。" in page


def test_no_passage_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("短い。", "utf-8")
    task = load().model_copy(update={"documents": tmp_path})
    with pytest.raises(JapagenError, match="Expected passages of 40 characters or more"):
        _run(task, tmp_path / "run")


def test_passages_to_ask_on_are_spread(tmp_path: Path) -> None:
    material = read_material(_changed(load(), "generation", most_passages=4))
    assert len(material.asked) == 4
    assert len({p.document for p in material.asked}) == 4


def test_a_plan_says_what_a_run_asks_at_most(finished: Path, tmp_path: Path) -> None:
    found = plan(load(), tmp_path / "none", 0)
    steps = {step["step"]: step["requests"] for step in found["steps"]}
    assert found["documents"] == [p.name for p in sorted(load().documents.iterdir())]
    assert (found["passages"], found["asked"], found["questions"]) == (27, 27, 54)
    assert steps["generate"] == 27
    assert steps["round_trip"] == steps["closed_book"] == 54
    cost = QASummary.load(finished).cost
    assert found["requests"] >= cost["answers"]
    assert found["prompt_tokens"] >= cost["prompt_tokens"]
    generating = next(s for s in found["steps"] if s["step"] == "generate")
    after = plan(load(), finished, 0)
    assert after["answered"] == 27
    assert after["measured_on"] == "ledger"
    assert generating["answered"] == 0


@pytest.mark.parametrize(("address", "masked"), [("http://[::1]:9", 0), ("http://192.0.2.1", 2)])
def test_a_plan_counts_what_is_masked_where_anything_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, masked: int
) -> None:
    """Nothing is on the way to a model on this machine, and a plan does not ask."""
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    text = "解約のお申し込みは、専用窓口（電話 03-1234-5678）で毎日午前九時から承っております。"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    (tmp_path / "b.txt").write_text(text.replace("解約", "返品"), encoding="utf-8")
    task = load().model_copy(update={"documents": tmp_path})
    away = GeneratorSettings(backend="openai", model="m", base_url=address)
    found = plan(task.model_copy(update={"generator": away}), None, 0)
    assert found.get("masked", 0) == masked
    assert ("masked" in found) == bool(masked)


def test_a_preview_shows_prompts_questions_and_what_filters_say() -> None:
    rows = preview(load(), 3)
    assert len(rows) == 3
    assert all(row["prompt"].startswith("[system]") for row in rows)
    assert all(len(row["questions"]) == 2 for row in rows)
    everything = [q for row in preview(load(), 27) for q in row["questions"]]
    assert "not_alone (この)" in {q["rejected"] for q in everything}


def test_a_kept_question_may_be_damaged_on_disk_and_is_made_again(
    finished: Path, tmp_path: Path
) -> None:
    path, _ = _run(load(), tmp_path / "run")
    (path / "answered.jsonl").write_text(json.dumps({"id": 1}), "utf-8")
    _, heard = _run(load(), path)
    assert "answers" in heard.ran()
    assert (path / "questions.jsonl").read_bytes() == (finished / "questions.jsonl").read_bytes()
