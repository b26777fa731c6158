from __future__ import annotations

import itertools
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.examples import Dataset
from japagen.generation import generation
from japagen.generation.ledger import Ledger
from japagen.generation.sending import run_requests
from japagen.generators.base import Answer, Request
from japagen.japanese.registers import Register
from japagen.prompts import builtin_prompts
from japagen.running.data import load_data
from japagen.tasks.tasks import Task
from tests.scripted import ScriptedGenerator

EVEN = {"polite": 0.25, "plain": 0.25, "casual": 0.25, "honorific": 0.25}


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 1), min_size=1),
    st.integers(0, 500),
)
def test_apportioning_adds_up_and_is_within_one_of_exact(
    shares: dict[str, float], total: int
) -> None:
    counts = generation.apportion(shares, total)
    mass = sum(shares.values())
    assert sum(counts.values()) == total
    for name, count in counts.items():
        assert abs(count - shares[name] / mass * total) < 1


def _plan(task: Task, kind: str = "document") -> list[Request]:
    gold = load_data(task).gold
    assert gold is not None
    gold = gold.with_registers([Register.of("polite")] * len(gold))
    generator = ScriptedGenerator(kind=kind)  # type: ignore[arg-type]
    return generation.plan_requests(
        task, gold, dict.fromkeys(task.labels, EVEN), builtin_prompts(), generator.info
    )


def _with_generation(task: Task, **values: int) -> Task:
    return task.model_copy(update={"generation": task.generation.model_copy(update=values)})


def test_every_label_and_register_gets_its_requests(task: Task) -> None:
    cells = Counter((r.label, r.register.name) for r in _plan(task))
    assert cells == {(label, name): 3 for label in task.labels for name in EVEN}


def test_a_plan_repeats_and_its_ids_are_unique(task: Task) -> None:
    plan = _plan(task)
    assert [r.id for r in plan] == [r.id for r in _plan(task)]
    assert len({r.id for r in plan}) == len(plan)


def test_asking_for_more_keeps_what_was_asked(task: Task) -> None:
    few = {r.id for r in _plan(task)}
    more = {r.id for r in _plan(_with_generation(task, per_label=90))}
    assert few < more


def test_a_shot_set_serves_at_most_its_completions_and_stands_together(task: Task) -> None:
    plan = _plan(_with_generation(task, per_label=40, completions_per_shot_set=4))
    prompts = [r.prompt for r in plan]
    assert max(Counter(prompts).values()) <= 4
    changes = sum(a != b for a, b in itertools.pairwise(prompts))
    assert changes == len(set(prompts)) - 1


def test_shots_come_from_training_gold_of_the_same_label(task: Task) -> None:
    data = load_data(task)
    assert data.gold is not None
    assert data.test is not None
    label_of = dict(zip(data.gold.column("id"), data.gold.labels, strict=True))
    held_out = set(data.test.column("id"))
    for request in _plan(task):
        assert request.shot_ids
        assert {label_of[i] for i in request.shot_ids} == {request.label}
        assert not held_out & set(request.shot_ids)


def test_chat_prompts_have_a_system_and_a_user_turn(task: Task) -> None:
    prompt = _plan(task, "chat")[0].prompt
    assert not isinstance(prompt, str)
    assert [m.role for m in prompt] == ["system", "user"]


def test_only_what_has_no_answer_is_sent(task: Task, tmp_path: Path) -> None:
    plan = _plan(task)
    first, second = ScriptedGenerator(), ScriptedGenerator()
    with closing(Ledger(tmp_path / "l.sqlite")) as ledger:
        run_requests(plan[:10], first, ledger)
        answers = run_requests(plan, second, ledger)
    assert [r.id for r in second.asked] == [r.id for r in plan[10:]]
    assert set(answers) == {r.id for r in plan}


def test_an_interrupted_run_ends_as_an_undisturbed_one(task: Task, tmp_path: Path) -> None:
    plan = _plan(task)

    def dataset(path: Path, stops: list[int]) -> Dataset:
        for stop in stops:
            with closing(Ledger(path)) as ledger:
                sent = 0

                def interrupted(request: Request, limit: int = stop) -> str:
                    nonlocal sent
                    sent += 1
                    if sent > limit:
                        raise KeyboardInterrupt
                    return f"{request.label}の話です、{request.seed}番。"

                try:
                    run_requests(plan, ScriptedGenerator(interrupted), ledger)
                except KeyboardInterrupt:
                    continue
        with closing(Ledger(path)) as ledger:
            answers = run_requests(plan, ScriptedGenerator(), ledger)
            assert len(answers) == len(plan)
            assert ledger.totals()["answers"] == len(plan)
        return generation.to_dataset(plan, answers, {}, "scripted")

    whole = dataset(tmp_path / "a.sqlite", [1000])
    pieces = dataset(tmp_path / "b.sqlite", [3, 0, 7, 1000])
    assert pieces.fingerprint == whole.fingerprint


def test_failures_stay_as_rows_with_their_reason(task: Task, tmp_path: Path) -> None:
    plan = _plan(task)[:2]

    def answer(request: Request) -> Answer | str:
        if request.id == plan[0].id:
            return Answer(request.id, "", "error", error="refused")
        return Answer(request.id, "- 途中で切れた", "length", 5, 120, 0.1)

    with closing(Ledger(tmp_path / "l.sqlite")) as ledger:
        answers = run_requests(plan, ScriptedGenerator(answer), ledger)
        dataset = generation.to_dataset(plan, answers, ledger.failures([plan[0].id]), "scripted")
    failed, cut = dataset
    assert failed.rejected is not None
    assert (failed.rejected.filter, failed.rejected.detail) == ("failed", "refused")
    assert cut.text == "途中で切れた"
    assert cut.rejected is not None
    assert cut.rejected.filter == "truncated"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (" 荷物が届きません。", "荷物が届きません。"),
        ("- 荷物が届きません。\n- 次", "荷物が届きません。"),
        ("「荷物が届きません。」", "荷物が届きません。"),
        ("「荷物」が「届かない」", "「荷物」が「届かない」"),
        ("① 荷物", "荷物"),
        ("3. 荷物", "荷物"),
        ("3日経っても届きません。", "3日経っても届きません。"),
        ("", ""),
    ],
)
def test_one_line_is_taken_out_of_a_document(task: Task, raw: str, text: str) -> None:
    request = _plan(task)[0]
    answers = {request.id: Answer(request.id, raw, "stop")}
    assert generation.to_dataset([request], answers, {}, "scripted").texts == [text]


@pytest.mark.parametrize(
    ("raw", "text", "filter_name"),
    [
        ('{"text": "荷物が\\n届きません。"}', "荷物が 届きません。", None),
        ('```json\n{"text": "荷物"}\n```', "荷物", None),
        ("荷物です", "荷物です", "unreadable"),
        ('{"text": "荷物', '{"text": "荷物', "unreadable"),
        ('{"text": ""}', '{"text": ""}', "unreadable"),
    ],
)
def test_chat_answers_are_read_as_json(
    task: Task, raw: str, text: str, filter_name: str | None
) -> None:
    request = _plan(task, "chat")[0]
    answers = {request.id: Answer(request.id, raw, "stop")}
    example = generation.to_dataset([request], answers, {}, "scripted")[0]
    assert example.text == text
    assert (example.rejected and example.rejected.filter) == filter_name
