from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from japagen.curation.register_quota import Rewritten, control_registers
from japagen.examples import Dataset, Example, Rejection
from japagen.japanese.registers import OTHER, PRESETS, Register

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
