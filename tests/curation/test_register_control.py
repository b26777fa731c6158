from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.config.task import Task
from japagen.curation.register_control import (
    Rewritten,
    control_registers,
    rewrite_by_model,
    rewrite_by_rules,
    why_not,
)
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.japanese.registers import OTHER, PRESETS, Register
from japagen.llm.backend import Answer, Request
from japagen.llm.prompts import builtin_prompts
from tests.scripted import ScriptedGenerator

NAMES = [*PRESETS, OTHER]
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["配送", "返品"]),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
)
ACTIONS = st.sampled_from([(), ("keep",), ("rewrite",), ("keep", "rewrite"), ("rewrite", "keep")])


def _dataset(rows: Sequence[tuple[str, str, str, bool]]) -> Dataset:
    return Dataset.of(
        Example(
            f"{n}番の文です。",
            label,
            id=f"s-{n}",
            label_asked=label,
            source="claude",
            register_asked=Register.of(asked),
            register_seen=Register.of(seen),
            request_id=f"r-{n}",
            rejected=Rejection("too_short", 1, 2) if broken else None,
        )
        for n, (label, asked, seen, broken) in enumerate(rows)
    )


def _rules(wanted: Sequence[tuple[Example, str]]) -> list[Rewritten]:
    """Rewrites every other example into polite or plain."""
    return [
        Rewritten(f"{example.text}（{target}）", Register.of(target))
        if target in ("polite", "plain") and int(example.id[2:]) % 2
        else Rewritten(refused="not sure")
        for example, target in wanted
    ]


def _cells(rows: Any, which: str) -> Counter[tuple[str, str]]:
    return Counter((str(e.label_asked), getattr(e, which).name) for e in rows)


@given(ROWS, ACTIONS)
def test_no_register_gets_more_than_was_asked_and_nothing_vanishes(
    rows: list[tuple[str, str, str, bool]], actions: Any
) -> None:
    dataset = _dataset(rows)
    controlled, children = control_registers(dataset, actions, _rules)
    assert controlled.column("id") == dataset.column("id")
    assert controlled.texts == dataset.texts
    asked = _cells(dataset, "register_asked")
    kept = [*controlled.kept, *(children or ())]
    assert _cells(kept, "register_seen") <= asked
    for before, after in zip(dataset, controlled, strict=True):
        if before.rejected:
            assert after.rejected == before.rejected
        elif before.register_asked and before.register_seen == before.register_asked:
            assert after.rejected is None
    replaced = [e.id for e in controlled if e.rejected and e.rejected.filter == "rewritten"]
    assert replaced == [e.parent_id for e in children or ()]


@given(ROWS, ACTIONS)
def test_what_is_turned_down_had_no_place(
    rows: list[tuple[str, str, str, bool]], actions: Any
) -> None:
    dataset = _dataset(rows)
    controlled, children = control_registers(dataset, actions, _rules)
    room = _cells(dataset, "register_asked")
    room.subtract(_cells([*controlled.kept, *(children or ())], "register_seen"))
    for row in controlled:
        if row.rejected and row.rejected.filter == "register" and row.register_seen:
            if "keep" in actions and actions[0] == "keep":
                assert room[str(row.label_asked), row.register_seen.name] == 0
            assert row.register_seen.name in row.rejected.detail


def test_a_miss_takes_an_open_place_first_and_is_rewritten_next() -> None:
    rows = [
        ("配送", "casual", "plain", False),  # takes the place of the fourth
        ("配送", "polite", "plain", False),  # plain is full now: rewritten
        ("配送", "honorific", "plain", False),  # no rules for it, and nothing else is open
        ("配送", "plain", "casual", False),  # casual is open
    ]
    controlled, children = control_registers(_dataset(rows), ("keep", "rewrite"), _rules)
    found = [e.rejected and e.rejected.filter for e in controlled]
    assert found == [None, "rewritten", "register", None]
    assert children is not None
    (child,) = children
    assert (child.id, child.parent_id, child.derived) == ("s-1-r", "s-1", "rewritten")
    assert child.source == "claude"
    assert child.register_asked == child.register_seen == Register.of("polite")
    assert child.request_id == "r-1"
    assert child.generator == "rules"
    assert controlled[2].rejected is not None
    assert controlled[2].rejected.detail == (
        "honorific asked, plain seen; not rewritten as honorific: not sure"
    )


def test_the_model_gets_what_the_rules_refuse_and_its_request_is_recorded() -> None:
    rows = [("配送", "polite", "plain", False), ("配送", "polite", "plain", False)]
    sent: list[str] = []

    def model(wanted: Sequence[tuple[Example, str]]) -> list[Rewritten]:
        sent.extend(example.id for example, _ in wanted)
        return [
            Rewritten(
                "書き換えました。", Register.of("polite"), "", "gemma", "r-9", "rewrite.chat@0", 5
            )
            for _ in wanted
        ]

    _, children = control_registers(_dataset(rows), ("rewrite",), _rules, model)
    assert sent == ["s-0"]
    assert children is not None
    assert [(c.generator, c.request_id, c.seed) for c in children] == [
        ("gemma", "r-9", 5),
        ("rules", "r-1", None),
    ]


def test_rows_without_a_register_asked_for_are_left_alone() -> None:
    dataset = Dataset.of([Example("荷物です。", "配送", register_seen=Register.of("polite"))])
    controlled, children = control_registers(dataset, (), _rules)
    assert controlled.fingerprint == dataset.fingerprint
    assert children is None


ANALYZER = RegisterAnalyzer()
MISS = Example(
    "荷物がまだ届かない。",
    "配送",
    id="s-1",
    register_asked=Register.of("polite"),
    register_seen=Register.of("plain"),
    shot_ids=("g-1",),
)


def test_rules_rewrite_what_morphology_decides() -> None:
    (made,) = rewrite_by_rules([(MISS, "polite")], ANALYZER)
    assert made.text == "荷物がまだ届きません。"
    assert made.register is not None
    assert made.register.name == "polite"
    assert made.generator == "rules"


@pytest.mark.parametrize(
    ("example", "target", "why"),
    [
        (MISS, "honorific", "no rules"),
        (Example("荷物です。", text_pair="箱です。"), "plain", "pairs are not rewritten"),
        (Example("荷物をお届けいただけますか。"), "plain", ""),
    ],
)
def test_rules_say_why_they_refuse(example: Example, target: str, why: str) -> None:
    (made,) = rewrite_by_rules([(example, target)], ANALYZER)
    assert made.text == ""
    assert made.refused
    assert why in made.refused


@pytest.mark.parametrize(
    ("before", "after", "target", "why"),
    [
        ("荷物がまだ届かない。", "荷物がまだ届きません。", "polite", ""),
        ("荷物の場所を教えてほしい。", "お荷物の場所をお教えいただけますか。", "honorific", ""),
        ("３個頼んだ荷物が届かない。", "3個頼んだ荷物が届きません。", "polite", ""),
        ("荷物がまだ届かない。", "荷物がまだ届かないよ。", "polite", "reads as casual"),
        ("3月1日に頼んだ。", "3月2日に頼みました。", "polite", "numbers changed"),
        ("荷物がまだ届かない。", "請求書がまだ届きません。", "polite", "content changed"),
        ("荷物がない。", "荷物がありません。どこを探しても見当たりません。", "polite", "length"),
    ],
)
def test_a_rewritten_text_has_to_say_the_same(
    before: str, after: str, target: str, why: str
) -> None:
    found = why_not(before, after, target, ANALYZER)
    assert bool(found) == bool(why)
    assert why in found


def _send(answers: Sequence[str], asked: list[Request]) -> object:
    texts = iter(answers)

    def send(requests: Sequence[Request]) -> Mapping[str, Answer]:
        asked.extend(requests)
        return {r.id: Answer(r.id, text, "stop") for r, text in zip(requests, texts, strict=False)}

    return send


@pytest.mark.parametrize("kind", ["document", "chat"])
def test_the_first_attempt_that_stands_the_check_is_taken(task: Task, kind: str) -> None:
    curation = task.curation.model_copy(update={"rewrite_attempts": 3})
    task = task.model_copy(update={"curation": curation})
    lines = ["荷物がまだ届かない。", "荷物がまだ届いていません。", "荷物がまだ届きません。"]
    if kind == "chat":
        lines = [f'{{"text": "{line}"}}' for line in lines]
    asked: list[Request] = []
    info = ScriptedGenerator(kind=kind).info  # type: ignore[arg-type]
    (made,) = rewrite_by_model(
        [(MISS, "polite")],
        task,
        builtin_prompts(),
        info,
        ANALYZER,
        _send(lines, asked),  # type: ignore[arg-type]
    )
    assert made.text == "荷物がまだ届いていません。"
    assert made.request_id == asked[1].id
    assert made.prompt_id == asked[1].template
    assert len({r.id for r in asked}) == 3
    assert asked[0].shot_ids == MISS.shot_ids
    prompt = asked[0].prompt if isinstance(asked[0].prompt, str) else asked[0].prompt[1].content
    assert "昨日店に行ったが、まだ開いていなかった。" in prompt
    assert "昨日お店に行きましたが、まだ開いていませんでした。" in prompt
    assert MISS.text in prompt


def test_unreadable_and_missing_answers_are_refused(task: Task) -> None:
    info = ScriptedGenerator(kind="chat").info
    wanted = [(MISS, "polite"), (MISS, "honorific")]
    made = rewrite_by_model(
        wanted,
        task,
        builtin_prompts(),
        info,
        ANALYZER,
        _send(["JSON ではない"], []),  # type: ignore[arg-type]
    )
    assert [m.refused for m in made] == ["unreadable", "no answer"]
    assert not any(m.text for m in made)
