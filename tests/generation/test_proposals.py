"""Attributes that a model proposes for a task, on a scripted generator and over HTTP."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from japagen.config.task import Task
from japagen.data.files import to_yaml
from japagen.errors import JapagenError
from japagen.generation.proposals import propose_attributes, propose_topics
from japagen.llm.backend import Answer, Request
from tests.command_line import japagen
from tests.fault_server import Call, FaultServer, Reply, chat
from tests.scripted import ScriptedGenerator

LINES = {
    "配送": [
        "1. 題材：再配達／追跡番号／置き配",
        "書き手：学生／会社員／ 学生 ",
        "書き手：年配の人",
    ],
    "返品": [
        "題材:サイズ違い、色違い",
        "きっかけ：定期便",
        "分類：返品／配送",
        "話：サイズ違い／色違い",
    ],
}


def _answer(request: Request) -> str:
    return json.dumps({"texts": LINES[request.label]}, ensure_ascii=False)


def test_proposals_are_a_grid_for_each_label_without_repeats(task: Task) -> None:
    generator = ScriptedGenerator(_answer, "chat")
    found = propose_attributes(task, 4, 3, generator)
    assert found.grids == {
        "配送": {
            "題材": ("再配達", "追跡番号", "置き配"),
            "書き手": ("学生", "会社員", "年配の人"),
        },
        "返品": {"題材": ("サイズ違い", "色違い")},
    }
    assert found.refused == {}
    for request in generator.asked:
        assert not isinstance(request.prompt, str)
        text = request.prompt[1].content
        assert "属性を4個、値をそれぞれ3個" in text
        assert task.labels[request.label] in text
        assert request.texts == 4
        assert request.shot_ids == ()


def test_what_is_written_goes_into_a_task_file(task: Task, raw_task: dict[str, Any]) -> None:
    text = propose_attributes(task, generator=ScriptedGenerator(_answer, "chat")).to_yaml()
    assert "題材: [再配達, 追跡番号, 置き配]" in text
    section = YAML(typ="safe").load(text)
    raw_task["generation"] |= section
    assert Task.parse(raw_task).generation.grid("配送")["書き手"] == ("学生", "会社員", "年配の人")


def test_pairs_get_one_grid(raw_task: dict[str, Any]) -> None:
    raw_task.pop("gold")
    task = Task.parse({**raw_task, "pair": {}})
    answer = json.dumps({"texts": ["題材：天気／食事"]}, ensure_ascii=False)
    found = propose_attributes(task, generator=ScriptedGenerator(lambda _: answer, "chat"))
    assert YAML(typ="safe").load(found.to_yaml()) == {"attributes": {"題材": ["天気", "食事"]}}


def test_a_label_without_a_proposal_is_named_and_none_at_all_is_an_error(task: Task) -> None:
    def answer(request: Request) -> str | Answer:
        if request.label == "返品":
            return Answer(request.id, "", "error", error="HTTP 500")
        return _answer(request)

    found = propose_attributes(task, generator=ScriptedGenerator(answer, "chat"))
    assert list(found.grids) == ["配送"]
    assert found.refused == {"返品": "HTTP 500"}
    with pytest.raises(
        JapagenError, match=r"proposed no generation\.attributes for any of 2 labels"
    ):
        propose_attributes(task, generator=ScriptedGenerator(lambda _: "{}", "chat"))


def test_a_cut_answer_gives_its_whole_values(task: Task) -> None:
    def answer(request: Request) -> Answer:
        text = '{"texts": ["題材：再配達／追跡番号／置'
        return Answer(request.id, text, "length", 10, 20)

    found = propose_attributes(task, generator=ScriptedGenerator(answer, "chat"))
    assert found.grids["配送"] == {"題材": ("再配達", "追跡番号")}


def test_a_model_that_continues_documents_is_refused(task: Task) -> None:
    with pytest.raises(JapagenError, match="scripted, which continues documents") as told:
        propose_attributes(task, generator=ScriptedGenerator(_answer))
    assert "chat model" in str(told.value)


def test_descriptions_are_masked_on_their_way_out(raw_task: dict[str, Any]) -> None:
    raw_task["labels"]["配送"] = "届く日の確認は03-1234-5678へ"
    generator = ScriptedGenerator(_answer, "chat")
    generator.info = replace(generator.info, local=False)
    propose_attributes(Task.parse(raw_task), generator=generator)
    sent = [turn.content for r in generator.asked for turn in r.prompt if not isinstance(turn, str)]
    assert len(sent) == 4
    assert not [text for text in sent if "1234" in text]


def _serve(call: Call) -> Reply:
    label = "返品" if call.prompt.startswith("分類：返品") else "配送"
    return Reply(chat(json.dumps({"texts": LINES[label]}, ensure_ascii=False)))


def test_the_command_prints_and_writes(tmp_path: Path, raw_task: dict[str, Any]) -> None:
    with FaultServer(_serve) as server:
        raw_task["generator"] = {"backend": "openai", "model": "m", "base_url": server.url}
        path, out = tmp_path / "t.yaml", tmp_path / "attributes.yaml"
        path.write_text(to_yaml(raw_task), encoding="utf-8")
        code, printed, _ = japagen("data", "attributes", path)
        assert code == 0
        assert YAML(typ="safe").load(printed)["attributes"]["返品"] == {
            "題材": ["サイズ違い", "色違い"]
        }
        code, told, _ = japagen("data", "attributes", path, "-o", out, "--json", "-n", 3)
        assert code == 0
        assert json.loads(told)["attributes"]["配送"]["題材"] == ["再配達", "追跡番号", "置き配"]
        assert YAML(typ="safe").load(out.read_text(encoding="utf-8")) == YAML(typ="safe").load(
            printed
        )
        calls = len(server.calls)
        code, _, said = japagen("data", "attributes", path, "-o", out)
    assert (code, len(server.calls)) == (2, calls)
    assert "exists already" in said


def test_a_proposal_that_cannot_be_read_is_asked_for_once_more(task: Task) -> None:
    seeds: list[int] = []

    def answer(request: Request) -> str:
        seeds.append(request.seed)
        return "書けません。" if len(seeds) == 1 else f"<think>案</think>{_answer(request)}"

    found = propose_attributes(task, generator=ScriptedGenerator(answer, "chat"))
    assert set(found.grids) == set(task.labels)
    assert len(set(seeds)) == len(seeds) == 3


TOPICS = {
    "配送": ["届く日：引っ越しに間に合うか／離島の日数", "受け取り：営業所で受け取る／届け先変更"],
    "返品": ["交換：色違い／届け先の変更", "送料：返品の送料／送料を返して"],
}


def _topics(request: Request) -> str:
    return json.dumps({"texts": TOPICS[request.label]}, ensure_ascii=False)


def test_topics_spelt_alike_are_left_out_in_the_whole_task(task: Task) -> None:
    generator = ScriptedGenerator(_topics, "chat")
    found = propose_topics(task, 2, 2, generator)
    assert found.grids["配送"] == {
        "届く日": ("引っ越しに間に合うか", "離島の日数"),
        "受け取り": ("営業所で受け取る", "届け先変更"),
    }
    assert found.grids["返品"] == {"交換": ("色違い",), "送料": ("返品の送料", "送料を返して")}
    assert found.alike == [("届け先の変更", "届け先変更")]
    assert "大きな話題2個に分け" in generator.asked[0].prompt[1].content  # type: ignore[union-attr]


def test_topics_may_stand_below_the_name_of_the_label(task: Task) -> None:
    def answer(request: Request) -> str:
        topics = {"配送": ["配送：届け先の変更", "配送：遅延"], "返品": ["返品：返金／送料"]}
        return json.dumps({"texts": topics[request.label]}, ensure_ascii=False)

    found = propose_topics(task, 2, 2, ScriptedGenerator(answer, "chat"))
    assert found.grids == {
        "配送": {"配送": ("届け先の変更", "遅延")},
        "返品": {"返品": ("返金", "送料")},
    }


def test_topics_that_mean_the_same_are_left_out_where_an_encoder_tells(task: Task) -> None:
    def same(names: Any) -> Any:
        return np.array([[{"返品の送料", "送料を返して"} == {a, b} for b in names] for a in names])

    found = propose_topics(task, 2, 2, ScriptedGenerator(_topics, "chat"), same)
    assert found.grids["返品"] == {"交換": ("色違い",), "送料": ("返品の送料",)}


def test_a_file_of_topics_goes_into_a_task(
    task: Task, raw_task: dict[str, Any], tmp_path: Path
) -> None:
    found = propose_topics(task, 2, 2, ScriptedGenerator(_topics, "chat"))
    (tmp_path / "topics.yaml").write_text(found.topics_yaml(), encoding="utf-8")
    raw_task["generation"]["knowledge"] = "topics.yaml"
    (tmp_path / "task.yaml").write_text(to_yaml(raw_task), encoding="utf-8")
    assert Task.load(tmp_path / "task.yaml").generation.topics("配送") == (
        "届く日：引っ越しに間に合うか",
        "受け取り：営業所で受け取る",
        "届く日：離島の日数",
        "受け取り：届け先変更",
    )
    # A path on the command line is taken from where it is typed.
    named = {"generation.knowledge": str(tmp_path / "topics.yaml")}
    given = Task.load(tmp_path / "task.yaml", named).generation
    assert given == Task.load(tmp_path / "task.yaml").generation
    raw_task["generation"]["knowledge"] = ["届く日"]
    (tmp_path / "listed.yaml").write_text(to_yaml(raw_task), encoding="utf-8")
    assert Task.load(tmp_path / "listed.yaml", named).generation == given
    (tmp_path / "topics.yaml").unlink()
    with pytest.raises(JapagenError, match="There is no file of topics at"):
        Task.load(tmp_path / "task.yaml")


@pytest.mark.parametrize(
    ("knowledge", "message"),
    [
        (
            {"配送": {"届く日": ["離島", "離島"]}},
            "配送: the topic '届く日：離島' comes",
        ),
        ({"配送": {"届く日": []}}, "the topic '届く日' has nothing below it"),
        ({"配送": {"届く日": {"離島": None}}}, "the topic '届く日：離島' has nothing below it"),
        ({"配送": {}}, "配送: expected topics, found none"),
        ({"配層": {"届く日": ["離島"]}}, "names the label '配層' (did you mean '配送'?)"),
        ({"配送": {"届く日": [["離島"]]}}, "generation.knowledge"),
    ],
)
def test_a_tree_that_cannot_be_is_refused_in_one_message(
    raw_task: dict[str, Any], knowledge: Any, message: str
) -> None:
    raw_task["generation"]["knowledge"] = knowledge
    with pytest.raises(JapagenError) as error:
        Task.parse(raw_task)
    assert message in str(error.value)


def test_requests_spread_over_the_leaves_and_coverage_counts_them(
    raw_task: dict[str, Any],
) -> None:
    from japagen.config.task_data import load_data
    from japagen.generation.coverage import measure_coverage, named_in
    from japagen.generation.planner import to_dataset
    from japagen.pipeline.context import TaskContext
    from japagen.pipeline.steps.generate import plan

    tree = {"届く日": {"急ぎ": ["誕生日", "引っ越し"], "遠方": ["離島"]}, "破損": ["箱", "中身"]}
    raw_task["generation"] |= {"knowledge": {"配送": tree}, "per_label": 10}
    task = Task.parse(raw_task)
    leaves = task.generation.topics("配送")
    assert leaves[:2] == ("届く日：急ぎ：誕生日", "破損：箱")
    context = TaskContext.open(task, load_data(task))
    generator = ScriptedGenerator(kind="chat")
    requests = plan(context, generator.info)
    named = [r.knowledge for r in requests if r.label == "配送"]
    assert sorted(named) == sorted((f"knowledge:{leaf}",) for leaf in leaves for _ in range(2))
    answers = {a.request_id: a for a in generator.stream(requests)}
    rows = to_dataset(requests, {k: replace(a, text=json.dumps({"text": a.text}))
                                 for k, a in answers.items()}, {}, "x")  # fmt: skip
    found = measure_coverage(task, rows, named_in(requests), context.analyzer.tagger)
    counts = {row.item: (row.asked, row.answered) for row in found["配送"].covered}
    assert counts == dict.fromkeys(leaves, (2, 2))
    assert found["返品"].covered == []


def test_pairs_get_no_topics(raw_task: dict[str, Any]) -> None:
    raw_task.pop("gold")
    task = Task.parse(raw_task | {"pair": {}})
    with pytest.raises(JapagenError, match="found pairs"):
        propose_topics(task, generator=ScriptedGenerator(_topics, "chat"))
