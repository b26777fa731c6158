"""Fields in a task file: what they may be, and what is said of those that may not."""

from __future__ import annotations

from typing import Any

import pytest

from japagen.config.fields import FieldSet, TextField
from japagen.config.task import Task
from japagen.errors import JapagenError

MAIL: dict[str, Any] = {
    "subject": "件名",
    "body": {"description": "本文", "role": "user"},
    "urgency": {"type": "enum", "values": ["低", "高"]},
    "times": {"type": "integer", "optional": True},
    "reply": {"in_register": "honorific", "role": "assistant", "request": 2},
}


def _task(raw: dict[str, Any], fields: Any, text: str | None = None) -> Task:
    raw["generation"] |= {"fields": fields, "text": text}
    return Task.parse(raw)


def test_a_task_written_and_read_again_has_the_same_fields(raw_task: dict[str, Any]) -> None:
    from japagen.data.files import parse_yaml

    task = _task(raw_task, MAIL, "{subject}\n{body}")
    assert task.generation.fields["subject"] == TextField(description="件名")
    assert Task.parse(parse_yaml(task.to_yaml(), "task")).generation == task.generation


def test_turns_stand_for_a_field_each_and_speakers_take_turns(raw_task: dict[str, Any]) -> None:
    speakers = {"客": {"role": "user"}, "窓口": {"role": "assistant", "in_register": "honorific"}}
    task = _task(raw_task, {"turn": {"turns": 3, "speakers": speakers}}, "{turn_1} {turn_3}")
    fields = task.generation.fields
    assert list(fields) == ["turn_1", "turn_2", "turn_3"]
    assert [field.role for field in fields.values()] == ["user", "assistant", "user"]
    assert [field.in_register for field in fields.values()] == [None, "honorific", None]
    assert "2番目の発言。話すのは窓口" in fields["turn_2"].description


@pytest.mark.parametrize(
    ("fields", "text", "message"),
    [
        ({"text": "本文"}, None, "'text' is a column of every dataset"),
        ({"a-b": "本文"}, None, "expected a name of letters, digits and _, found 'a-b'"),
        ({"a": {"type": "enum"}}, None, "type: enum and values go together"),
        ({"a": {"type": "enum", "values": ["高", "高"]}}, None, "two or more different ones"),
        ({"a": {"type": "integer", "role": "user"}}, None, "only strings have"),
        ({"a": {"in_register": "honorfic"}}, None, "did you mean 'honorific'"),
        ({"a": {"turns": 3}}, None, "turns and speakers go together"),
        ({"a": {"descripton": "x"}}, None, "unknown key 'generation.fields.a.descripton'"),
        (MAIL, "{subjct}", "names the field 'subjct' (did you mean 'subject'?)"),
        (MAIL, "{reply}", "'reply', which is asked for later"),
        (MAIL, "本文", "expected a field in braces, found '本文'"),
        (MAIL, "{body!r}", "expected names of fields in braces"),
        (MAIL, "{body", "generation.text"),
        ({}, "{body}", "expected generation.fields, which it names"),
        ({"a": {"in_register": "plain"}}, None, "has a register of its own"),
        ({"a": {"request": 2}}, None, "which is asked for later"),
    ],
)
def test_what_cannot_be_is_refused_in_one_message(
    raw_task: dict[str, Any], fields: Any, text: str | None, message: str
) -> None:
    with pytest.raises(JapagenError) as error:
        _task(raw_task, fields, text)
    assert message in str(error.value)
    assert "has 1 problem(s)" in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pair": {}, "kind": "classification"}, "expected no pair"),
        ({"refinement": {"rounds": 1}}, "expected no refinement.rounds"),
    ],
)
def test_what_changes_texts_alone_does_not_go_with_fields(
    raw_task: dict[str, Any], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(JapagenError, match=message):
        _task(raw_task | changed, MAIL)


def test_the_schema_holds_a_decoder_to_types_choices_and_null(raw_task: dict[str, Any]) -> None:
    asked = _task(raw_task, MAIL).generation.asked_fields()
    assert asked is not None
    schema = asked.answer_schema
    assert schema["required"] == ["subject", "body", "urgency", "times"]
    assert schema["properties"]["urgency"] == {"type": "string", "enum": ["低", "高"]}
    assert schema["properties"]["times"] == {"type": ["integer", "null"]}


@pytest.mark.parametrize(
    ("record", "values", "wrong"),
    [
        ({"n": "３", "level": "高 "}, {"n": 3, "level": "高"}, ""),
        ({"N": 3.0, "Level": "低"}, {"n": 3, "level": "低"}, ""),
        ({"n": 2.5, "level": "低"}, {"level": "低"}, "the field n is no whole number: 2.5"),
        ({"n": True, "level": "低"}, {"level": "低"}, "the field n is no text: True"),
        ({"n": 1, "level": "中"}, {"n": 1}, "the field level is none of 低, 高: '中'"),
        ({"n": 1}, {"n": 1}, "the field level is empty"),
        ({"n": 1, "level": {"x": 1}}, {"n": 1}, "the field level is no text: {'x': 1}"),
    ],
)
def test_values_are_read_leniently_and_wrong_ones_are_named(
    record: dict[str, Any], values: dict[str, Any], wrong: str
) -> None:
    level = TextField(type="enum", values=("低", "高"))
    asked = FieldSet(fields={"n": TextField(type="integer"), "level": level}, text="{level}")
    assert asked.read(record) == (values, wrong)


def test_the_text_has_no_empty_lines_where_a_field_is_empty() -> None:
    fields = {"a": TextField(optional=True), "b": TextField()}
    assert FieldSet(fields=fields, text="{a}\n{b}").text_of({"a": None, "b": "本文"}) == "本文"


@pytest.mark.parametrize(
    ("template", "edited", "expected"),
    [
        ("{a}\n{b}", "新しい件名\n一行目\n二行目", {"a": "新しい件名", "b": "一行目\n二行目"}),
        ("{a}\n{b}", "件名と本文", {"a": None, "b": None}),
        ("{b}", "別の本文", {"a": "件名", "b": "別の本文"}),
        ("{c}：{b}", "低：本文", {"a": "件名", "b": "本文", "c": "低"}),
        ("{c}：{b}", "中：本文", {"a": "件名", "b": "本文", "c": None}),
        ("{a}、{a}：{b}", "一、一：二", {"a": "一", "b": "二"}),
        ("{a}、{a}：{b}", "一、二：三", {"a": None, "b": None}),
    ],
)
def test_fields_follow_an_edited_text(
    template: str, edited: str, expected: dict[str, str | None]
) -> None:
    values = {"a": "件名", "b": "本文\n\n です", "c": "高", "later": "返信"}
    names = {"a": TextField(), "b": TextField(), "c": TextField(type="enum", values=("低", "高"))}
    asked = FieldSet(fields=names, text=template)
    found = asked.edited(values, asked.text_of(values), edited)
    assert found == {**values, **expected}


def test_fields_of_which_the_text_never_told_the_borders_are_emptied() -> None:
    """A subject of two lines would have its second taken for the body."""
    asked = FieldSet(fields={"a": TextField(), "b": TextField()}, text="{a}\n{b}")
    values = {"a": "一行目\n二行目", "b": "本文"}
    found = asked.edited(values, asked.text_of(values), "一行目\n二行目\n別の本文")
    assert found == {"a": None, "b": None}
