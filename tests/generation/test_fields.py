"""Texts of several fields: asked for, read, completed later, measured, exported, resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import japagen as jg
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.data.export import export_dataset
from japagen.errors import JapagenError
from japagen.llm.answers import read_records, read_texts, why_unreadable
from japagen.llm.backend import Answer, Request, answer_format
from japagen.pipeline import estimate, preview
from japagen.pipeline.context import TaskContext
from japagen.pipeline.steps.generate import plan
from japagen.review.decisions import FILE, Decision, Decisions, text_hash
from tests.command_line import japagen
from tests.scripted import ScriptedGenerator, write_text

FIELDS: dict[str, Any] = {
    "subject": "件名",
    "body": {"description": "本文", "role": "user"},
    "urgency": {"type": "enum", "values": ["低", "高"]},
    "reply": {"in_register": "honorific", "role": "assistant", "request": 2},
}
REPLY = "お問い合わせくださり、ありがとうございます。すぐにお調べいたします。"


@pytest.fixture
def mails(raw_task: dict[str, Any]) -> dict[str, Any]:
    raw_task["generation"] |= {
        "fields": FIELDS,
        "text": "{subject}\n{body}",
        "texts_per_request": 2,
        "per_label": 4,
    }
    return raw_task | {"registers": {"polite": 1.0}}


def _plan(task: Task) -> list[Request]:
    return plan(TaskContext.open(task, load_data(task)), ScriptedGenerator(kind="chat").info)


def _record(request: Request, number: int = 1) -> dict[str, str]:
    text = f"{write_text(request)}{number}通目です。"
    return {
        "subject": f"{request.label}の件",
        "body": f"{text}\n\n\n早めに知りたいです。",
        "urgency": "高",
    }


def _answer(request: Request) -> str:
    if request.options:
        return json.dumps({"label": request.label}, ensure_ascii=False)
    if request.fields is None:
        return json.dumps({"text": write_text(request)}, ensure_ascii=False)
    if "reply" in request.fields.fields:
        return json.dumps({"text": {"reply": REPLY}}, ensure_ascii=False)
    records = [_record(request, n) for n in range(request.texts)]
    return json.dumps({"texts": records}, ensure_ascii=False)


def test_prompts_tell_of_the_fields_and_decoders_are_held_to_them(mails: dict[str, Any]) -> None:
    request = _plan(Task.parse(mails))[0]
    prompt = preview.prompt_text(request)
    assert "- subject：件名\n" in prompt
    assert "（「低」「高」のどれか一つ）" in prompt
    assert '{"texts": [{"subject": "…", "body": "…", "urgency": "…"}, …]}' in prompt
    assert "reply" not in prompt
    schema = answer_format(request)["json_schema"]["schema"]["properties"]["texts"]
    assert schema["items"]["required"] == ["subject", "body", "urgency"]
    assert schema["minItems"] == 2


def test_prompts_without_fields_are_what_they_were(raw_task: dict[str, Any]) -> None:
    for request in _plan(Task.parse(raw_task)):
        assert request.fields is None
        assert preview.prompt_text(request).endswith('{"text": "書いた問い合わせ"}')


@pytest.mark.parametrize(
    ("said", "finish", "texts", "reasons"),
    [
        ('{"texts": [R, S]}', "stop", 2, [None, None]),
        ("[R, S]", "stop", 2, [None, None]),
        ("R\nS", "stop", 2, [None, None]),
        ('{"texts": [{"text": R}, {"text": S}]}', "stop", 2, [None, None]),
        ("たとえば R です。では {'texts': [R, S]}", "stop", 2, [None, None]),
        ('{"texts": [R, {"subject": "件", "bo', "length", 2, [None, "truncated"]),
        ('{"texts": [R, S', "stop", 2, [None, None]),
        ('{"texts": [R, {"subject": "a", "body": "b", "urgency": "中"}]}', "stop", 2,
         [None, "the field urgency is none of 低, 高: '中'"]),
        ('{"texts": ["ただの文"]}', "stop", 1, ["no JSON object with subject, body, urgency"]),
        ("すみません。", "stop", 1, ["no JSON object with subject, body, urgency"]),
    ],
)  # fmt: skip
def test_records_are_read_however_a_model_writes_them(
    mails: dict[str, Any], said: str, finish: Any, texts: int, reasons: list[str | None]
) -> None:
    request = _plan(Task.parse(mails))[0]
    one = {"subject": "件名", "body": "本文は{これ}です。", "urgency": "低"}
    other = one | {"subject": "別の件"}
    said = said.replace("R", json.dumps(one, ensure_ascii=False))
    answer = Answer(request.id, said.replace("S", json.dumps(other, ensure_ascii=False)), finish)
    found = read_records(request, answer)
    assert len(found) == texts
    for (_, rejected), reason in zip(found, reasons, strict=True):
        assert (rejected is None) == (reason is None)
        assert reason is None or reason in (rejected.filter, rejected.detail)  # type: ignore[union-attr]
    if reasons[0] is None:
        assert found[0][0] == one
        assert read_texts(request, answer)[0][0] == "件名\n本文は{これ}です。"
    assert (why_unreadable(request, answer) == "") == (reasons[0] is None)


def test_a_run_fills_in_later_fields_measures_registers_and_resumes(
    mails: dict[str, Any], tmp_path: Path
) -> None:
    generator = ScriptedGenerator(_answer, "chat")
    run = jg.run(Task.parse(mails), tmp_path / "run", generator=generator)
    written = [e for e in run.dataset if e.generator == "scripted" and e.fields]
    assert len(written) == 8
    kept = [e for e in written if e.rejected is None]
    assert kept
    assert all(e.fields and e.fields["reply"] == REPLY for e in kept)
    assert all(e.text == f"{e.fields['subject']}\n" + e.fields["body"].replace("\n\n", "\n")
               for e in kept if e.fields)  # fmt: skip
    asked = [r for r in generator.asked if r.fields and "reply" in r.fields.fields]
    shown = [turn.content for turn in asked[0].prompt if turn.role == "assistant"]  # type: ignore[union-attr]
    assert json.loads(shown[0])["text"].keys() == {"subject", "body", "urgency"}
    by_name = {field.name: field for field in run.summary.text_fields or ()}
    assert by_name["reply"].register_match == 1.0
    assert by_name["urgency"].values == {"低": 0, "高": len(kept)}
    assert "文面の項目" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")

    again = ScriptedGenerator(_answer, "chat")
    resumed = jg.run(Task.parse(mails), tmp_path / "run", generator=again)
    assert again.asked == []
    assert resumed.dataset.fingerprint == run.dataset.fingerprint

    found = jg.read_examples(tmp_path / "run" / "examples.jsonl")
    assert found.fields == run.dataset.fields
    roles = {"body": "user", "reply": "assistant"}
    export_dataset(run.dataset, tmp_path / "c.jsonl", "chat", card="", roles=roles)
    line = json.loads((tmp_path / "c.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert [m["role"] for m in line["messages"]] == ["user", "assistant"]
    assert line["fields"].keys() == {"subject", "urgency"}
    for name in ("t.csv", "t.parquet"):
        export_dataset(run.dataset, tmp_path / name, name[2:], card="")
        assert jg.read_examples(tmp_path / name).fields == run.dataset.kept.fields
    assert run.dataset.weighted_table.column("urgency").to_pylist().count("高") == 8

    # What a person edited keeps its fields; those that the text is made of are as edited.
    read, decisions = kept[0], Decisions(tmp_path / "run" / FILE)
    text = read.text.replace("早めに知りたいです。", "よろしくお願いします。")
    hashed, label = text_hash(read.text), str(read.label)
    decisions.save(Decision(read.id, "accept", hashed, label=label, text=text), 0)
    decisions.close()
    edited = next(
        e
        for e in jg.run(Task.parse(mails), tmp_path / "run", generator=again).dataset
        if e.parent_id
    )
    assert read.fields
    assert edited.text == text != read.text
    body = text.removeprefix(f"{read.fields['subject']}\n")
    assert edited.fields == {**read.fields, "body": body}
    chats = tmp_path / "edited.jsonl"
    code, out, _ = japagen(
        "data", "export", tmp_path / "run", "-o", chats, "--format", "chat", "--rejected"
    )
    assert (code, "for want of fields" in out) == (0, False)
    assert body in chats.read_text(encoding="utf-8").replace("\\n", "\n")


def test_a_text_whose_later_field_did_not_come_is_rejected_and_asked_again(
    mails: dict[str, Any], tmp_path: Path
) -> None:
    failed: list[str] = []

    def answer(request: Request) -> str | Answer:
        if request.fields and "reply" in request.fields.fields and not failed:
            failed.append(request.id)
            return Answer(request.id, "", "error", error="overloaded")
        return _answer(request)

    run = jg.run(Task.parse(mails), tmp_path / "run", generator=ScriptedGenerator(answer, "chat"),
                 until="curate")  # fmt: skip
    details = [e.rejected.detail for e in run.after("curate") if e.rejected]
    assert "reply: overloaded" in details
    again = ScriptedGenerator(_answer, "chat")
    run = jg.run(Task.parse(mails), tmp_path / "run", generator=again, until="curate")
    assert [request.id for request in again.asked] == failed
    assert "reply: overloaded" not in [e.rejected.detail for e in run.after("curate") if e.rejected]


def test_personal_data_is_masked_in_fields_that_are_not_in_the_text(
    mails: dict[str, Any], tmp_path: Path
) -> None:
    def answer(request: Request) -> str:
        if request.fields and "reply" in request.fields.fields:
            return json.dumps({"text": {"reply": "03-1234-5678 にお電話くださいませ。"}})
        return _answer(request)

    mails["curation"]["personal_data"] = "mask"
    run = jg.run(Task.parse(mails), tmp_path / "run", generator=ScriptedGenerator(answer, "chat"),
                 until="curate")  # fmt: skip
    replies = [e.fields["reply"] for e in run.after("curate").kept if e.fields]
    assert replies
    assert not any("1234" in reply for reply in replies)


def test_plan_and_preview_count_and_show_later_requests(
    mails: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = ScriptedGenerator(_answer, "chat")
    for module in (estimate, preview):
        monkeypatch.setattr(module, "load_generator", lambda _: generator)
    found = estimate.estimate(Task.parse(mails), None, 1)
    assert found["texts"] == 8
    (generation,) = [step for step in found["steps"] if step["step"] == "generate"]
    assert generation["requests"] == 4 + 8
    (row,) = preview.sample(Task.parse(mails), 1)
    assert [one["reply"] for one in row["fields"]] == [REPLY, REPLY]


def test_models_and_templates_that_cannot_ask_for_fields_are_refused(
    mails: dict[str, Any], tmp_path: Path
) -> None:
    task = Task.parse(mails)
    context = TaskContext.open(task, load_data(task))
    with pytest.raises(JapagenError, match=r"Expected a chat model for generation\.fields"):
        plan(context, ScriptedGenerator().info)
    (tmp_path / "few_shot.chat.j2").write_text(
        "{% block system %}書き手{% endblock %}{% block user %}{{ number }}{% endblock %}",
        encoding="utf-8",
    )
    registers = Path(jg.__file__).parent.parent / "prompts_ja" / "registers.yaml"
    (tmp_path / "registers.yaml").write_bytes(registers.read_bytes())
    mails["generation"]["prompts"] = str(tmp_path)
    with pytest.raises(JapagenError, match=r"few_shot\.chat\.j2 in .* to tell of"):
        _plan(Task.parse(mails))
