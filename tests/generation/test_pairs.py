from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.data.dataset import Dataset
from japagen.llm.backend import Answer, Request
from japagen.pipeline.context import TaskContext
from japagen.pipeline.preview import all_requests
from japagen.pipeline.run import run
from japagen.pipeline.run_directory import Run
from japagen.pipeline.steps.generate import plan
from tests.conftest import write_jsonl
from tests.scripted import ScriptedGenerator

PLACES = ["公園", "駅前", "台所", "川辺", "店先", "広場", "庭", "浜辺"]
SECONDS = {"含意": "{}に何かがある", "矛盾": "{}には何もない", "中立": "{}で子どもが遊んでいる"}


def pair_rows(labels: Any = SECONDS) -> list[dict[str, Any]]:
    return [
        {
            "text": f"{place}に白い犬が{n}匹います。",
            "text_pair": SECONDS[label].format(place) + f"ようです{n}。",
            "label": label,
        }
        for n, place in enumerate(PLACES)
        for label in labels
    ]


def pair_task(tmp_path: Path, tiny_encoder: str, **more: Any) -> Task:
    raw = {
        "name": "pairs",
        "text_type": "説明文",
        "pair": {"first": "前提", "second": "仮説"},
        "labels": {"含意": "必ず正しい", "矛盾": "両立しない", "中立": "分からない"},
        "gold": {"path": str(write_jsonl(tmp_path / "gold.jsonl", pair_rows()))},
        "generation": {"per_label": 10, "shots": 3, "completions_per_shot_set": 4},
        "curation": {"register_miss": "ignore"},
        "training": {"encoder": tiny_encoder, "min_steps": 2, "max_steps": 2, "max_length": 64},
        "alignment": {"method": "labels"},
        "evaluation": {"bootstrap": 100},
        **more,
    }
    if "scale" in more:
        del raw["labels"]
    return Task.parse(raw)


def write_pair(request: Request) -> str:
    """A first text, or a second one that depends on the label and the first text."""
    rng = random.Random(request.seed)
    if not request.label:
        return f"{rng.choice(PLACES)}に赤い車が{rng.randint(1, 999)}台止まっています。"
    return f"{request.label}の文、{rng.randint(1, 9999)}番の車です。"


def _firsts(generator: ScriptedGenerator) -> list[Request]:
    return [r for r in generator.asked if not r.label]


def _seconds(generator: ScriptedGenerator) -> list[Request]:
    return [r for r in generator.asked if r.label]


def _made(task: Task, tmp_path: Path, generator: ScriptedGenerator) -> Dataset:
    return run(task, tmp_path / "run", until="generate", generator=generator).after("generate")


def test_every_first_text_serves_every_label(tmp_path: Path, tiny_encoder: str) -> None:
    task, generator = pair_task(tmp_path, tiny_encoder), ScriptedGenerator(write_pair)
    made = _made(task, tmp_path, generator)
    assert len(_firsts(generator)) == 10
    assert len(_seconds(generator)) == 30
    assert Counter(made.labels) == dict.fromkeys(task.labels, 10)
    by_parent = Counter(made.column("parent_id"))
    assert set(by_parent.values()) == {3}
    firsts = {f"s-{r.id}" for r in _firsts(generator)}
    assert set(by_parent) == firsts
    for row in made:
        assert row.text.startswith(tuple(PLACES))
        assert str(row.text_pair).startswith(str(row.label))


def test_a_document_shows_pairs_of_the_label_and_ends_with_the_own_first_text(
    tmp_path: Path, tiny_encoder: str
) -> None:
    task, generator = pair_task(tmp_path, tiny_encoder), ScriptedGenerator(write_pair)
    made = _made(task, tmp_path, generator)
    gold = {row["text_pair"]: row["label"] for row in pair_rows()}
    by_request = {row.request_id: row for row in made}
    for request in _seconds(generator):
        prompt, row = str(request.prompt), by_request[request.id]
        assert prompt.endswith(f"\n前提：{row.text}\n仮説：")
        shown = [line[3:] for line in prompt.splitlines() if line.startswith("仮説：")][:-1]
        assert len(shown) == 3
        assert {gold[text] for text in shown} == {request.label}
        assert request.sampling.stop == ("\n",)


def test_requests_of_one_shot_set_stand_together_and_share_their_beginning(
    tmp_path: Path, tiny_encoder: str
) -> None:
    task, generator = pair_task(tmp_path, tiny_encoder), ScriptedGenerator(write_pair)
    _made(task, tmp_path, generator)
    beginnings = [str(r.prompt).rpartition("前提：")[0] for r in _seconds(generator)]
    changes = sum(a != b for a, b in itertools.pairwise(beginnings))
    assert changes == len(set(beginnings)) - 1
    assert max(Counter(beginnings).values()) <= 4


def test_a_pair_descends_from_the_shots_of_both_turns(tmp_path: Path, tiny_encoder: str) -> None:
    task, generator = pair_task(tmp_path, tiny_encoder), ScriptedGenerator(write_pair)
    made = _made(task, tmp_path, generator)
    shots = {f"s-{r.id}": set(r.shot_ids) for r in _firsts(generator)}
    for row in made:
        assert row.parent_id is not None
        assert shots[row.parent_id] <= set(row.shot_ids)
        assert len(set(row.shot_ids) - shots[row.parent_id]) > 0 or len(row.shot_ids) >= 3


def test_chat_keeps_the_first_text_as_the_assistants_turn(
    tmp_path: Path, tiny_encoder: str
) -> None:
    def answer(request: Request) -> str:
        return '{"text": "' + write_pair(request) + '"}'

    task, generator = pair_task(tmp_path, tiny_encoder), ScriptedGenerator(answer, "chat")
    made = _made(task, tmp_path, generator)
    by_request = {row.request_id: row for row in made}
    for request in _seconds(generator):
        assert not isinstance(request.prompt, str)
        assert [m.role for m in request.prompt] == ["system", "user", "assistant", "user"]
        first = by_request[request.id].text
        assert request.prompt[2].content == '{"text": "' + first + '"}'
        assert first not in request.prompt[1].content
        assert "仮説" in request.prompt[3].content


def test_a_failed_first_text_drops_its_pairs_with_the_reason(
    tmp_path: Path, tiny_encoder: str
) -> None:
    def answer(request: Request) -> str | Answer:
        if not request.label and request.seed % 3 == 0:
            return Answer(request.id, "", "error", error="no room")
        if not request.label and request.seed % 3 == 1:
            return "犬"
        return write_pair(request)

    task, generator = pair_task(tmp_path, tiny_encoder), ScriptedGenerator(answer)
    made = _made(task, tmp_path, generator)
    failed = [r for r in _firsts(generator) if r.seed % 3 == 0]
    short = [r for r in _firsts(generator) if r.seed % 3 == 1]
    assert min(len(failed), len(short)) > 0
    reasons = Counter((e.rejected.filter, e.rejected.detail) for e in made if e.rejected)
    assert reasons["failed", "first text failed: no room"] == 3 * len(failed)
    assert reasons["first_text", "first text too_short"] == 3 * len(short)
    assert len(_seconds(generator)) == 3 * (10 - len(failed) - len(short))

    again = ScriptedGenerator(write_pair)
    whole = _made(task, tmp_path, again)
    assert {r.id for r in _firsts(again)} == {r.id for r in failed}
    assert len(_seconds(again)) == 3 * len(failed)
    before = {e.request_id: e.text_pair for e in made if e.rejected is None}
    after = {e.request_id: e.text_pair for e in whole}
    assert before.items() <= after.items()


def test_a_second_run_asks_nothing(tmp_path: Path, tiny_encoder: str) -> None:
    task = pair_task(tmp_path, tiny_encoder)
    first = _made(task, tmp_path, ScriptedGenerator(write_pair))
    again = ScriptedGenerator(write_pair)
    assert _made(task, tmp_path, again).fingerprint == first.fingerprint
    assert again.asked == []


def test_personal_data_of_a_first_text_is_masked_before_its_second_is_asked_for(
    tmp_path: Path, tiny_encoder: str
) -> None:
    curation = {"register_miss": "ignore", "personal_data": "mask"}
    task = pair_task(tmp_path, tiny_encoder, curation=curation)

    def with_number(request: Request) -> str:
        number = "" if request.label else f"電話は090-1234-{request.seed % 9000 + 1000}です。"
        return write_pair(request) + number

    generator = ScriptedGenerator(with_number)
    made = _made(task, tmp_path, generator)
    assert _seconds(generator)
    assert not [r for r in _seconds(generator) if "090-1234-" in str(r.prompt)]
    assert not [text for text in made.texts if "090-1234-" in text]


def test_pairs_need_no_gold(tmp_path: Path, tiny_encoder: str) -> None:
    task = pair_task(tmp_path, tiny_encoder, gold=None)
    generator = ScriptedGenerator(write_pair)
    made = _made(task, tmp_path, generator)
    assert len(made) == 30
    assert {row.shot_ids for row in made} == {()}
    assert all("必ず正しい" in str(r.prompt) for r in generator.asked if r.label == "含意")


def test_what_would_be_asked_counts_both_turns(tmp_path: Path, tiny_encoder: str) -> None:
    task, generator = pair_task(tmp_path, tiny_encoder), ScriptedGenerator(write_pair)
    context = TaskContext.open(task, load_data(task))
    assert len(plan(context, generator.info)) == 10
    counts = Counter(r.label for r in all_requests(context, generator.info))
    assert counts == {"": 10, **dict.fromkeys(task.labels, 10)}
    assert context.gold is not None
    assert context.gold.is_pair


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_pairs_run_to_the_report(tmp_path: Path, tiny_encoder: str, kind: str) -> None:
    more: dict[str, Any] = {}
    if kind == "regression":
        scale = {"含意": 5.0, "中立": 2.4, "矛盾": 0.3}
        rows = [{**row, "label": scale[row["label"]]} for row in pair_rows()]
        more = {
            "scale": {0: "違う", 2: "少し似ている", 5: "同じ"},
            "gold": {"path": str(write_jsonl(tmp_path / "numbers.jsonl", rows))},
        }
    task = pair_task(tmp_path, tiny_encoder, **more)
    result = run(task, tmp_path / "run", generator=ScriptedGenerator(write_pair))
    scores = result.metrics["scores"]
    assert scores["metric"] == ("spearman" if kind == "regression" else "macro_f1")
    assert scores["with_synthetic"]["intervals"].keys() == set(scores["metrics"])
    assert Run.open(result.path).classifier.is_pair
    found = result.classifier.predict(["犬がいます。"], ["猫がいます。"])[0]
    if kind == "regression":
        assert isinstance(found.label, float)
        assert 0 <= found.label <= 5
        assert result.metrics["per_label"]["2"]["generated"] == 10
    assert "説明文" in (result.path / "report.html").read_text(encoding="utf-8")
