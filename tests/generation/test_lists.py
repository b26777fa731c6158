"""Several texts in one answer of a chat model: what is asked, and what is made of it."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.config.generation import Knowledge
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.data.formats import load_dataset
from japagen.errors import JapagenError
from japagen.generation.coverage import named_in
from japagen.generation.planner import RequestPlanner, first_wants, texts_per_request, to_dataset
from japagen.japanese.registers import Register
from japagen.llm.answers import one_line, read_texts
from japagen.llm.backend import Answer, Message, Request, Sampling, answer_format
from japagen.llm.client import run_requests
from japagen.llm.ledger import Ledger
from japagen.llm.prompts import PromptLibrary, builtin_prompts
from japagen.pipeline.run_directory import Run
from tests.pipeline.test_run import Heard
from tests.scripted import ScriptedGenerator

EVEN = {"polite": 0.25, "plain": 0.25, "casual": 0.25, "honorific": 0.25}


def _task(raw: dict[str, Any], **values: Any) -> Task:
    given = {"per_label": 12, "shots": 3, "texts_per_request": 5, **values}
    return Task.parse({**raw, "generation": given})


def _planner(task: Task, kind: str = "chat") -> tuple[RequestPlanner, list[Request]]:
    gold = load_data(task).gold
    assert gold is not None
    gold = gold.with_registers([Register.of("polite")] * len(gold))
    info = ScriptedGenerator(kind=kind).info  # type: ignore[arg-type]
    planner = RequestPlanner(task, gold, builtin_prompts(), info)
    size = task.generation.per_label
    wants = {label: first_wants(task, label, size) for label in task.labels}
    return planner, planner.round(0, size, dict.fromkeys(task.labels, EVEN), wants)


def _user(request: Request) -> str:
    assert not isinstance(request.prompt, str)
    return request.prompt[1].content


def _list(request: Request, number: int | None = None) -> str:
    count = request.texts if number is None else number
    texts = [f"{request.label}の{request.seed}の{i}番の問い合わせです。" for i in range(count)]
    return json.dumps({"texts": texts}, ensure_ascii=False)


def test_a_chat_model_is_asked_for_five_at_a_time_unless_the_task_says_otherwise(
    raw_task: dict[str, Any],
) -> None:
    default = _task(raw_task, texts_per_request=None, per_label=40)
    _, plan = _planner(default)
    assert {r.texts for r in plan} == {5}
    assert len(plan) == 16
    for label in default.labels:
        assert Counter(r.register.name for r in plan if r.label == label) == dict.fromkeys(EVEN, 2)
    _, one = _planner(_task(raw_task, texts_per_request=1))
    assert len(one) == 24
    assert all(r.each == () and '{"text": ' in _user(r) for r in one)
    _, documents = _planner(_task(raw_task, texts_per_request=8), "document")
    assert len(documents) == 24
    assert all(r.each == () for r in documents)


def test_no_text_is_lost_to_rounding(raw_task: dict[str, Any]) -> None:
    for per_label in (1, 7, 23):
        _, plan = _planner(_task(raw_task, per_label=per_label))
        texts = Counter[str]()
        for request in plan:
            texts[request.label] += request.texts
            assert request.sampling.max_tokens == 120 * request.texts
        assert texts == {"配送": per_label, "返品": per_label}
        assert len({r.id for r in plan}) == len(plan)


def test_a_list_says_how_many_and_that_they_must_differ(raw_task: dict[str, Any]) -> None:
    _, plan = _planner(_task(raw_task, per_label=20))
    text = _user(plan[0])
    assert "5件は、書き手、内容、長さ、書き出しが互いに重ならないようにする。" in text
    assert "実例の文体ではなく、指定の文体で書く。" in text
    assert '{"texts": [' in text
    numbered = [line for line in text.split("\n") if line[:1].isdigit() and line[1:3] == ". "]
    assert [line[0] for line in numbered] == list("12345")
    for line, settings in zip(numbered, plan[0].settings, strict=True):
        for row in settings.split("\n"):
            name, _, value = row.partition("：")
            assert f"{name}は「{value}」" in line


def test_each_text_names_its_own_thing(raw_task: dict[str, Any]) -> None:
    raw_task["concepts"] = {"配送": {"再配達": 0.5}}
    raw_task["rare_cases"] = {"返品": ["届いた箱が空だった"]}
    task = _task(raw_task, per_label=20, attributes="none")
    _, plan = _planner(task)
    named = Counter(k for r in plan for names in r.each for k in names)
    assert named == {"concept:再配達": 10, "rare:届いた箱が空だった": 2}
    for request in plan:
        assert request.knowledge == tuple(k for names in request.each for k in names)
        assert _user(request).count("再配達") == sum("concept:再配達" in n for n in request.each)
    ids = named_in(plan)
    assert len(ids) == 40
    assert sum(Knowledge("concept", "再配達") in known for known in ids.values()) == 10


def test_texts_of_one_answer_share_what_they_descend_from(raw_task: dict[str, Any]) -> None:
    _, plan = _planner(_task(raw_task))
    answers = {r.id: Answer(r.id, _list(r), "stop") for r in plan}
    rows = to_dataset(plan, answers, {}, "m")
    assert len(rows) == 24
    assert len(set(rows.column("id"))) == 24
    assert rows.column("id")[:2] == [f"s-{plan[0].id}.1", f"s-{plan[0].id}.2"]
    by_request = {r.id: r for r in plan}
    for row in rows:
        request = by_request[str(row.request_id)]
        assert row.shot_ids == request.shot_ids
        assert row.shot_ids
        assert row.id in request.text_ids()
        assert row.label == request.label


def test_a_cut_list_gives_what_it_holds() -> None:
    request = _request(4)
    cut = '{"texts": ["届きません。", "いつ\\n届きますか。", "追跡番号が'
    texts = read_texts(request, Answer("r", cut, "length", 1, 40))
    assert [t for t, rejected in texts if rejected is None] == ["届きません。", "いつ 届きますか。"]
    text, rejected = texts[2]
    assert text == "追跡番号が"
    assert rejected is not None
    assert (rejected.filter, rejected.value, rejected.threshold) == ("truncated", 40, 480)
    assert len(texts) == 3


@pytest.mark.parametrize(
    "said",
    [
        '{"texts": ["あ。", "い。"]}',
        'はい、こちらです。\n```json\n{"texts": ["あ。", "い。"]}\n```',
        '["あ。", "い。"]',
        '{"texts": [{"text": "あ。"}, {"text": "い。"}]}',
    ],
)
def test_lists_are_read_as_models_write_them(said: str) -> None:
    assert read_texts(_request(3), Answer("r", said, "stop")) == [("あ。", None), ("い。", None)]


def test_more_than_was_asked_for_is_left_and_nothing_is_unreadable() -> None:
    many = json.dumps({"texts": [f"文{i}。" for i in range(9)]}, ensure_ascii=False)
    assert len(read_texts(_request(4), Answer("r", many, "stop"))) == 4
    (row,) = read_texts(_request(4), Answer("r", "申し訳ありませんが書けません。", "stop"))
    assert row[1] is not None
    assert row[1].filter == "unreadable"


@given(st.lists(st.text(min_size=1), min_size=1, max_size=6), st.integers(0, 200))
def test_no_cut_breaks_reading(texts: list[str], at: int) -> None:
    whole = json.dumps({"texts": texts})
    found = read_texts(_request(6), Answer("r", whole[:at], "length"))
    wanted = [line for text in texts if (line := one_line(text))]
    good = [text for text, rejected in found if rejected is None]
    assert good == wanted[: len(good)]


def test_decoders_are_held_to_a_list_of_that_length() -> None:
    schema = answer_format(_request(4))["json_schema"]["schema"]["properties"]["texts"]
    assert schema == {"type": "array", "items": {"type": "string"}, "minItems": 4, "maxItems": 4}
    loose = answer_format(_request(4), counted=False)["json_schema"]["schema"]["properties"]
    assert loose == {"texts": {"type": "array", "items": {"type": "string"}}}


def _request(number: int) -> Request:
    return Request(
        "r",
        (Message("system", "s"), Message("user", "u")),
        Sampling(max_tokens=120 * number),
        0,
        "配送",
        Register.of("polite"),
        "few_shot.chat@x",
        each=((),) * number,
    )


def test_what_a_list_is_short_of_is_asked_for_as_it_was_to_be(raw_task: dict[str, Any]) -> None:
    planner, plan = _planner(_task(raw_task, per_label=20))
    answers = {r.id: Answer(r.id, _list(r, 3), "stop") for r in plan}
    again = planner.missing(plan, answers)
    assert [r.texts for r in again] == [2] * len(plan)
    for first, second in zip(plan, again, strict=True):
        assert second.settings == first.settings[-2:]
        assert (second.label, second.register, second.shot_ids) == (
            first.label,
            first.register,
            first.shot_ids,
        )
        assert second.id != first.id
    assert planner.missing(plan, {r.id: Answer(r.id, _list(r), "stop") for r in plan}) == []
    assert planner.missing(plan, {}) == []


def _short(request: Request) -> str:
    """A model that never gives more than two texts."""
    return _list(request, min(2, request.texts))


def _run(task: Task, out: Path, generator: ScriptedGenerator, heard: Heard) -> Run:
    import japagen as jg

    return jg.run(task, out, generator=generator, until="generate", listener=heard)


def test_a_run_makes_up_for_short_answers_and_resumes(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    raw_task["registers"] = {"polite": 1.0}
    task = _task(raw_task, per_label=20)
    generator, heard = ScriptedGenerator(_short, "chat"), Heard()
    _run(task, tmp_path / "run", generator, heard)
    rows = load_dataset(tmp_path / "run/generated.parquet")
    # 2 of 5, 2 of the 3 left, and the last one.
    assert Counter(rows.labels) == {"配送": 20, "返品": 20}
    assert Counter(r.texts for r in generator.asked) == {5: 8, 3: 8, 1: 8}
    assert not [note for note in heard.notes if "did not come" in note]
    again = ScriptedGenerator(_short, "chat")
    _run(task, tmp_path / "run", again, Heard())
    assert again.asked == []
    assert load_dataset(tmp_path / "run/generated.parquet").fingerprint == rows.fingerprint


def test_what_does_not_come_after_all_is_reported(raw_task: dict[str, Any], tmp_path: Path) -> None:
    raw_task["registers"] = {"polite": 1.0}
    generator, heard = ScriptedGenerator(lambda r: _list(r, 1), "chat"), Heard()
    _run(_task(raw_task, per_label=20), tmp_path / "run", generator, heard)
    rows = load_dataset(tmp_path / "run/generated.parquet")
    assert len(rows) == 24
    assert [n for n in heard.notes if n.startswith("16 texts did not come")]


def test_a_failed_list_stays_as_as_many_rejected_rows(raw_task: dict[str, Any]) -> None:
    _, plan = _planner(_task(raw_task))
    answers = {r.id: Answer(r.id, _list(r), "stop") for r in plan[1:]}
    rows = to_dataset(plan, answers, {plan[0].id: "HTTP 500"}, "m")
    failed = [e for e in rows if e.rejected]
    assert len(rows) == 24
    assert len(failed) == plan[0].texts
    assert {e.rejected.detail for e in failed if e.rejected} == {"HTTP 500"}


def test_the_ledger_counts_a_list_as_its_texts(raw_task: dict[str, Any], tmp_path: Path) -> None:
    _, plan = _planner(_task(raw_task, per_label=20))
    generator = ScriptedGenerator(
        lambda r: Answer(r.id, _list(r), "stop", 300, 100, 0.01), kind="chat"
    )
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        run_requests(plan, generator, ledger)
        rate = ledger.rate(generator.info.identity)
    assert rate is not None
    assert rate[:2] == (60, 20)


def test_an_own_template_that_asks_for_one_text_is_asked_for_one(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    from japagen.data.files import resource_dir

    own = tmp_path / "prompts"
    own.mkdir()
    for name in ("registers.yaml", "few_shot.chat.j2"):
        text = (resource_dir("prompts_ja") / name).read_text(encoding="utf-8")
        (own / name).write_text(text, encoding="utf-8")
    (own / "few_shot.chat.j2").write_text(
        "{% block system %}書き手です。{% endblock %}"
        "{% block user %}{{ label }}を一つ。{% endblock %}",
        encoding="utf-8",
    )
    prompts, info = PromptLibrary(own), ScriptedGenerator(kind="chat").info
    many = texts_per_request
    assert many(_task(raw_task, texts_per_request=None), prompts, info, "few_shot") == 0
    assert many(_task(raw_task, texts_per_request=None), prompts, info, "zero_shot") == 5
    with pytest.raises(JapagenError, match="texts_per_request is 5, but the template few_shot"):
        many(_task(raw_task), prompts, info, "few_shot")


def test_explaining_a_text_says_what_its_request_said_of_it(
    raw_task: dict[str, Any], tmp_path: Path
) -> None:
    from japagen.pipeline.comparison import explain_example

    raw_task["concepts"] = {"配送": {"再配達": 0.5}}
    generator = ScriptedGenerator(_list, "chat")
    run = _run(_task(raw_task, per_label=20), tmp_path / "run", generator, Heard())
    request = next(r for r in generator.asked if ("concept:再配達",) in r.each)
    at = request.each.index(("concept:再配達",))
    found = explain_example(run, request.text_ids()[at])
    assert found["request"]["of_text"] == {
        "number": at + 1,
        "named": ["concept:再配達"],
        "settings": request.settings[at],
    }
