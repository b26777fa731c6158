from __future__ import annotations

import numpy as np
import pytest

from japagen.data.dataset import EDITED, Dataset, Example, Rejection
from japagen.review.decisions import Decision, Verdict, choose, draw_order, text_hash
from japagen.review.feedback import (
    apply_decisions,
    human_verified,
    judge_agreement,
    summarize,
    to_gold,
)


def decided(example: Example, verdict: Verdict, **more: str | int) -> Decision:
    hashed = text_hash(example.text, example.text_pair)
    return Decision(example.id, verdict, hashed, **more)  # type: ignore[arg-type]


DATA = Dataset.of(
    [
        Example("荷物が届きません。", "配送", id="a", weight_label=0.2),
        Example("返品したいです。", "配送", id="b", weight_label=0.1),
        Example("あああ", "返品", id="c", weight_label=0.7),
        Example("短い", "返品", id="d", rejected=Rejection("length", 2, 6)),
    ]
)
DECISIONS = {
    "a": decided(DATA[0], "accept", register="polite"),
    "b": decided(DATA[1], "relabel", label="返品"),
    "c": decided(DATA[2], "reject", comment="意味がない"),
    "d": decided(DATA[3], "accept"),
}


def test_people_overrule_labels_filters_and_registers() -> None:
    a, b, c, d = apply_decisions(DATA, DECISIONS)
    assert (a.weight_label, a.register_seen and a.register_seen.name) == (1.0, "polite")
    assert (b.label, b.weight_label, b.label_asked) == ("返品", 1.0, None)
    assert c.rejected == Rejection("review", 1, 0, "意味がない")
    assert d.rejected is None


def test_a_decision_on_a_text_that_has_changed_is_left_out() -> None:
    changed = Dataset.of([Example("別の文です。", "配送", id="a", weight_label=0.2)])
    assert list(apply_decisions(changed, DECISIONS)) == list(changed)
    assert len(to_gold(changed, DECISIONS)) == 0
    assert human_verified(changed, DECISIONS) == set()
    assert human_verified(DATA, DECISIONS) == {"a", "b", "d"}


EDITS = {
    "a": decided(DATA[0], "accept", text="荷物が届いていません。", number=3),
    "b": decided(DATA[1], "relabel", label="返品", text="返品したいのですが。", number=4),
    "c": decided(DATA[2], "both", label="配送"),
    "d": decided(DATA[3], "neither", comment="短い"),
}


def test_an_edited_text_goes_on_as_a_child_of_what_was_read() -> None:
    scored = DATA.with_scores([{"label": 5.0}] * 4)
    a, b, c, d, *edited = apply_decisions(scored, EDITS)
    assert (a.scores, edited[0].scores) == ({"label": 5.0}, None)
    assert [(e.text, e.rejected and e.rejected.filter) for e in (a, b)] == [
        ("荷物が届きません。", EDITED),
        ("返品したいです。", EDITED),
    ]
    assert (b.label, b.weight_label) == ("配送", 0.1)
    assert [(e.id, e.text, e.label, e.parent_id, e.derived) for e in edited] == [
        ("a-e3", "荷物が届いていません。", "配送", "a", EDITED),
        ("b-e4", "返品したいのですが。", "返品", "b", EDITED),
    ]
    assert [(e.weight_label, e.rejected, e.register_seen) for e in edited] == [
        (1.0, None, None)
    ] * 2
    assert c.rejected == Rejection("review", 1, 0, "配送 fits as well")
    assert d.rejected == Rejection("review", 1, 0, "no label fits: 短い")


def test_what_was_edited_is_verified_and_gold_and_not_read_again() -> None:
    reviewed = apply_decisions(DATA, EDITS)
    assert human_verified(reviewed, EDITS) == {"a-e3", "b-e4"}
    assert human_verified(DATA, EDITS) == set()
    for dataset in (DATA, reviewed):
        gold = to_gold(dataset, EDITS)
        assert [(e.text, e.label) for e in gold] == [
            ("荷物が届いていません。", "配送"),
            ("返品したいのですが。", "返品"),
        ]
    assert {p.example_id for p in draw_order(reviewed)} == {"a", "b", "c", "d"}


def test_an_edited_text_was_not_usable_as_it_was_but_its_label_was_right() -> None:
    found = summarize(draw_order(DATA), {"a": EDITS["a"]})
    assert found.edited == 1
    assert found.accuracy is not None
    assert found.accuracy.value == 0
    assert found.label_accuracy is not None
    assert found.label_accuracy.value == 1
    counted = summarize(draw_order(DATA), EDITS).verdicts
    assert counted == {"accept": 1, "relabel": 1, "both": 1, "neither": 1, "reject": 0}


def test_a_judge_agrees_with_people_by_cohens_kappa() -> None:
    scores = [(5, 5), (2, 5), (4, 2), (3, 3), (5, 1), (5, 4)]
    data = Dataset.of(
        Example(f"文{i}", "配送", id=f"{i}", scores={"naturalness": n, "label": label})
        for i, (n, label) in enumerate(scores)
    )
    verdicts: list[Verdict] = ["accept", "reject", "accept", "accept", "relabel"]
    decisions = {
        f"{i}": decided(data[i], verdict, **({"label": "返品"} if verdict == "relabel" else {}))
        for i, verdict in enumerate(verdicts)
    }
    found = judge_agreement(data, decisions, {"naturalness": 3, "label": 3})
    assert found is not None
    # The judge passes 0 and 3, people 0, 2 and 3: they agree on four of five, by chance on .48.
    assert (found.texts, found.passed, found.agreement) == (5, (2, 3), 0.8)
    assert found.kappa == pytest.approx((0.8 - 0.48) / (1 - 0.48))
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.kappa <= found.high
    corrected = {"0": decided(data[0], "accept", register="casual")}
    alone = judge_agreement(data, corrected, {})
    assert alone is not None
    assert (alone.passed, alone.agreement, alone.kappa) == ((1, 0), 0.0, None)
    assert judge_agreement(DATA, DECISIONS, {}) is None


def test_gold_is_what_people_found_good() -> None:
    gold = to_gold(DATA, DECISIONS)
    assert [(e.text, e.label, e.split) for e in gold] == [
        ("荷物が届きません。", "配送", "train"),
        ("返品したいです。", "返品", "train"),
        ("短い", "返品", "train"),
    ]


def test_counts_and_agreement() -> None:
    found = summarize(draw_order(DATA), DECISIONS)
    assert found.verdicts == {"accept": 2, "relabel": 1, "both": 0, "neither": 0, "reject": 1}
    assert (found.kept_but_rejected, found.rejected_but_good) == (1, 1)
    assert found.agreement == 0.5
    assert found.kappa == pytest.approx(-1 / 3)
    assert found.registers_corrected == 1
    assert summarize(draw_order(DATA), {}).accuracy is None


def test_the_estimate_is_unbiased_though_the_doubtful_are_read_more() -> None:
    """Texts of low trust are wrong half of the time, the others never: 1/6 of all are wrong."""
    n = 600
    data = Dataset.of(Example(f"文{i}", "配送", id=f"{i:03}", weight_label=i / n) for i in range(n))
    wrong = {f"{i:03}" for i in range(0, n // 3, 2)}
    estimates, covered = [], 0
    for seed in range(40):
        places = draw_order(data, seed)
        decisions = {
            p.example_id: decided(
                data[int(p.example_id)], "reject" if p.example_id in wrong else "accept"
            )
            for p in choose(places, 60)
        }
        found = summarize(places, decisions).accuracy
        assert found is not None
        assert found.covers == 1.0
        estimates.append(found.value)
        covered += found.low <= 5 / 6 <= found.high
    assert np.mean(estimates) == pytest.approx(5 / 6, abs=0.015)
    assert covered >= 36


def test_what_was_not_read_is_not_spoken_for() -> None:
    data = Dataset.of(
        Example(f"文{i}", "配送", id=f"{i:02}", weight_label=i / 30) for i in range(30)
    )
    places = draw_order(data)
    first = choose(places, 3)[0]
    found = summarize(places, {first.example_id: decided(data[int(first.example_id)], "accept")})
    assert found.accuracy is not None
    assert found.accuracy.covers == pytest.approx(1 / 3)
    assert found.accuracy.low < 0.5 < found.accuracy.high
