from __future__ import annotations

import numpy as np
import pytest

from japagen.data.dataset import Dataset, Example, Rejection
from japagen.review.decisions import Decision, Verdict, choose, draw_order, text_hash
from japagen.review.feedback import apply_decisions, human_verified, summarize, to_gold


def decided(example: Example, verdict: Verdict, **more: str) -> Decision:
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


def test_gold_is_what_people_found_good() -> None:
    gold = to_gold(DATA, DECISIONS)
    assert [(e.text, e.label, e.split) for e in gold] == [
        ("荷物が届きません。", "配送", "train"),
        ("返品したいです。", "返品", "train"),
        ("短い", "返品", "train"),
    ]


def test_counts_and_agreement() -> None:
    found = summarize(draw_order(DATA), DECISIONS)
    assert found.verdicts == {"accept": 2, "relabel": 1, "reject": 1}
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
