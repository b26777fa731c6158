from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from japagen.data.dataset import Dataset, Example
from japagen.data.export import (
    REJECT,
    label_studio_config,
    read_annotations,
    to_argilla,
    to_label_studio,
)
from japagen.errors import JapagenError

DATA = Dataset.of(
    [
        Example("荷物が届きません。", "配送", id="a", weight_label=0.9, generator="gemma"),
        Example("返品したいです。", "配送", id="b", weight_label=0.2, label_asked="配送"),
        Example("<b>あ</b>", "返品", id="c"),
    ]
)


def annotated(tasks: list[dict[str, Any]], answers: list[list[str]]) -> list[dict[str, Any]]:
    """Tasks as Label Studio exports them after one person a choice list has worked on them."""
    return [
        {
            "id": 1000 + i,
            "data": task["data"],
            "annotations": [
                {
                    "was_cancelled": False,
                    "result": [{**task["predictions"][0]["result"][0], "value": {"choices": [c]}}],
                }
                for c in given
            ],
        }
        for i, (task, given) in enumerate(zip(tasks, answers, strict=True))
    ]


def test_label_studio_round_trip(tmp_path: Path) -> None:
    tasks = to_label_studio(DATA)
    assert [t["predictions"][0]["score"] for t in tasks] == [0.9, 0.2, 1.0]
    path = tmp_path / "export.json"
    done = annotated(tasks, [["配送"], ["返品", "返品", "配送"], [REJECT]])
    path.write_text(json.dumps(done, ensure_ascii=False), encoding="utf-8")
    assert read_annotations(path) == {"a": "配送", "b": "返品", "c": REJECT}


def test_the_interface_names_what_the_tasks_name() -> None:
    view = ElementTree.fromstring(label_studio_config(["配送", "返品&交換"], pair=True))
    choices = view.find("Choices")
    assert choices is not None
    names = {text.get("name"): text.get("value") for text in view.findall("Text")}
    assert names == {"text": "$text", "text_pair": "$text_pair"}
    assert [c.get("value") for c in choices] == ["配送", "返品&交換", REJECT]
    result = to_label_studio(DATA)[0]["predictions"][0]["result"][0]
    assert (result["from_name"], result["to_name"]) == (choices.get("name"), choices.get("toName"))


def test_argilla_round_trip(tmp_path: Path) -> None:
    records = to_argilla(DATA)
    for record, answer in zip(records, ["配送", "返品", REJECT], strict=True):
        record["responses"] = {"label": [{"value": answer, "user_id": "u"}]}
    path = tmp_path / "records.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    assert read_annotations(path) == {"a": "配送", "b": "返品", "c": REJECT}


def test_argilla_reads_the_records() -> None:
    rg = pytest.importorskip("argilla")
    for example, row in zip(DATA, to_argilla(DATA), strict=True):
        record = rg.Record.from_dict(row)
        assert record.id == example.id
        assert record.fields["text"] == example.text
        assert record.suggestions.label.value == example.label


def test_what_nobody_answered_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    done = annotated(to_label_studio(DATA), [[], ["配送"], []])
    done[1]["annotations"][0]["was_cancelled"] = True
    path.write_text(json.dumps(done), encoding="utf-8")
    assert read_annotations(path) == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("not json", "not JSON"),
        ('{"a": 1}', "found something else"),
        ('[{"text": "a"}]', "found something else"),
        ("tie", "a tie"),
    ],
)
def test_wrong_files_get_a_sentence(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    if content == "tie":
        done = annotated(to_label_studio(DATA), [["配送", "返品"], [], []])
        content = json.dumps(done, ensure_ascii=False)
    path.write_text(content, encoding="utf-8")
    with pytest.raises(JapagenError, match=said):
        read_annotations(path)
    with pytest.raises(JapagenError, match="no file"):
        read_annotations(tmp_path / "absent.json")


def test_every_tie_is_listed_and_a_renamed_question_is_told(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    tasks = to_label_studio(DATA)
    done = annotated(tasks, [["配送", "返品"], ["配送"], [REJECT, "配送"]])
    path.write_text(json.dumps(done, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(JapagenError, match="a tie on 2:") as caught:
        read_annotations(path)
    assert "a: 返品, 配送" in caught.value.message
    assert "c: 使えない, 配送" in caught.value.message
    for task in done:
        for annotation in task["annotations"]:
            annotation["result"][0]["from_name"] = "分類"
    path.write_text(json.dumps(done, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(JapagenError, match="found answers to 分類 alone"):
        read_annotations(path)


@pytest.mark.parametrize(
    "row",
    [
        {"data": {"id": "a"}, "annotations": None},
        {"data": {"id": "a"}, "annotations": ["x", {"result": 5}, {"result": None}]},
        {
            "data": {"id": "a"},
            "annotations": [
                {"result": [{"from_name": "label", "type": "choices", "value": value}]}
                for value in (None, {}, {"choices": []}, {"choices": "配送"})
            ],
        },
        {"id": "a", "fields": {}, "responses": {"label": "配送"}},
        {"id": "a", "fields": {}, "responses": {"label": [{"value": None}, 3]}},
    ],
)
def test_what_is_no_answer_is_none(row: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps([row]), encoding="utf-8")
    assert read_annotations(path) == {}
