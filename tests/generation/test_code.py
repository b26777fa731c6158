from __future__ import annotations

import json
from collections import Counter

import pytest

from japagen.config.code import CodeTask
from japagen.data.code import Program
from japagen.errors import JapagenError
from japagen.generation.code import plan_programs, spread, to_programs, unfenced
from japagen.llm.backend import Answer, GeneratorInfo, answer_format
from japagen.llm.prompts import PromptLibrary

TASK = CodeTask(kind="code", name="c", description="課題")
INFO = GeneratorInfo("m", "m:1", "chat", True)
EXAMPLES = [Program(f"指示{n}<&'", f"def f{n}(): ...", f"tests{n}", id=f"e{n}") for n in range(4)]
PROMPTS = PromptLibrary()
ANSWER = {
    "instruction": " 指示 ",
    "solution": "```python\ndef f():\n    return 1\n```",
    "tests": "t\n",
}


def test_topics_and_difficulties_are_spread() -> None:
    requests = plan_programs(TASK, [], PROMPTS, INFO)
    assert Counter(r.label for r in requests) == dict.fromkeys(TASK.topics, 5)
    assert sorted(Counter(r.settings[0] for r in requests).values()) == [12, 24, 24]
    assert len({r.id for r in requests}) == len(requests)
    by_topic = {t: {r.settings[0] for r in requests if r.label == t} for t in TASK.topics}
    assert sum(len(found) > 1 for found in by_topic.values()) > 6
    assert requests == plan_programs(TASK, [], PROMPTS, INFO)


def test_shares_are_kept_whatever_the_number() -> None:
    for number in range(1, 40):
        counts = Counter(spread({"a": 0.5, "b": 0.3, "c": 0.2}, number))
        assert abs(counts["a"] - 0.5 * number) < 1
        assert abs(counts["c"] - 0.2 * number) < 1


def test_prompts_show_examples_that_change() -> None:
    requests = plan_programs(TASK, EXAMPLES, PROMPTS, INFO)
    assert {len(r.shot_ids) for r in requests} == {2}
    assert len({r.shot_ids for r in requests}) > 6
    request = requests[0]
    text = request.prompt[1].content  # type: ignore[union-attr]
    shown = EXAMPLES[int(request.shot_ids[0][1])].instruction
    assert f'"instruction": "{shown}"' in text
    assert request.label in text
    assert request.settings[0] in text


def test_the_decoder_is_held_to_three_texts() -> None:
    (request,) = plan_programs(TASK, [], PROMPTS, INFO)[:1]
    schema = answer_format(request)["json_schema"]["schema"]
    assert schema["required"] == ["instruction", "solution", "tests"]
    assert {one["type"] for one in schema["properties"].values()} == {"string"}


def test_models_that_follow_no_instructions_are_refused() -> None:
    with pytest.raises(JapagenError, match="Expected a chat model to write programs, found m"):
        plan_programs(TASK, [], PROMPTS, GeneratorInfo("m", "m:1", "document", True))


def test_answers_become_programs_and_failures_rejected_ones() -> None:
    requests = plan_programs(TASK, [], PROMPTS, INFO)[:4]
    said = [json.dumps(ANSWER), '{"instruction": "指示", "solution": "x = 1', "今日はできません。"]
    finishes = ("stop", "length", "stop")
    answers = {
        r.id: Answer(r.id, text, finish)  # type: ignore[arg-type]
        for r, text, finish in zip(requests, said, finishes, strict=False)
    }
    found = to_programs(requests, answers, {requests[3].id: "HTTP 500"}, "m")
    assert [one.rejected and one.rejected.filter for one in found] == [
        None,
        "truncated",
        "unreadable",
        "failed",
    ]
    assert found[0].instruction == "指示"
    assert found[0].solution == "def f():\n    return 1\n"
    assert (found[0].topic, found[0].request_id) == (requests[0].label, requests[0].id)
    assert found[3].rejected is not None
    assert found[3].rejected.detail == "HTTP 500"


def test_indentation_and_empty_lines_of_code_stay() -> None:
    code = "def f():\n    if 1:\n\n        return '  a  b'\n"
    assert unfenced(code) == code
    assert unfenced(f"\n```py\n{code}```\n") == code
