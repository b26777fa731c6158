from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.data.dataset import Dataset, Example, Rejection
from japagen.errors import JapagenError
from japagen.review.decisions import Decision, Decisions, StaleError, choose, draw_order


def accept(example_id: str, comment: str = "") -> Decision:
    return Decision(example_id, "accept", "h", comment=comment)


def test_the_latest_decision_counts_and_survives(tmp_path: Path) -> None:
    path = tmp_path / "review.sqlite"
    decisions = Decisions(path)
    first = decisions.save(accept("a"), 0)
    decisions.save(Decision("a", "reject", "h"), first.number)
    decisions.save(accept("b"), 0)
    decisions.close()
    again = Decisions(path).latest()
    assert {name: d.verdict for name, d in again.items()} == {"a": "reject", "b": "accept"}


def test_two_tabs_do_not_overwrite_each_other(tmp_path: Path) -> None:
    one, two = (Decisions(tmp_path / "review.sqlite") for _ in range(2))
    saved = one.save(accept("a"), 0)
    with pytest.raises(StaleError) as stale:
        two.save(Decision("a", "reject", "h"), 0)
    assert stale.value.current == saved
    assert two.latest()["a"].verdict == "accept"
    two.save(Decision("a", "reject", "h"), saved.number)
    assert one.latest()["a"].verdict == "reject"


def test_taking_back_leaves_nothing_and_can_be_decided_anew() -> None:
    decisions = Decisions(":memory:")
    first = decisions.save(accept("a"), 0)
    decisions.save(Decision("a", "none", "h"), first.number)
    assert decisions.latest() == {}
    decisions.save(accept("a"), 0)
    assert decisions.latest()["a"].verdict == "accept"


def test_a_review_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "review.sqlite"
    old = Decisions(path)
    first = old.save(accept("a"), 0)
    for name in ("text", "text_pair"):
        old._db.execute(f"ALTER TABLE decisions DROP COLUMN {name}")
    old.close()
    again = Decisions(path)
    assert again.latest()["a"] == first
    saved = again.save(Decision("b", "accept", "h", text="直した文"), 0)
    assert again.latest()["b"] == saved
    assert (saved.edited, first.edited) == (True, False)


def test_of_many_at_once_exactly_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "review.sqlite"
    Decisions(path).close()
    won: list[int] = []

    def decide(at: int) -> None:
        decisions = Decisions(path)
        try:
            decisions.save(accept("a", str(at)), 0)
            won.append(at)
        except StaleError:
            pass
        finally:
            decisions.close()

    threads = [threading.Thread(target=decide, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert Decisions(path).latest()["a"].comment == str(won[0])


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "review.sqlite"
    path.write_text("not a database, but long enough to be read as one" * 40)
    with pytest.raises(JapagenError, match="Cannot use"):
        Decisions(path)


rows = st.lists(
    st.tuples(st.sampled_from(["配送", "返品"]), st.floats(0, 1), st.booleans()),
    min_size=1,
    max_size=60,
)


def dataset(found: list[tuple[str, float, bool]]) -> Dataset:
    return Dataset.of(
        Example(
            f"文{i}",
            label,
            id=f"e{i}",
            weight_label=trust,
            rejected=Rejection("length", 1, 6) if rejected else None,
        )
        for i, (label, trust, rejected) in enumerate(found)
    )


@given(rows)
def test_every_example_has_one_place_and_strata_are_by_trust(
    found: list[tuple[str, float, bool]],
) -> None:
    data = dataset(found)
    places = draw_order(data)
    assert sorted(p.example_id for p in places) == sorted(data.column("id"))
    trust = dict(zip(data.column("id"), data.column("weight_label"), strict=True))
    for label in ("配送", "返品"):
        groups = {
            doubt: [trust[p.example_id] for p in places if p.stratum == (label, doubt)]
            for doubt in ("doubtful", "middling", "sure")
        }
        sizes = [len(group) for group in groups.values()]
        assert max(sizes) - min(sizes) <= 1
        bounds = [v for group in groups.values() if group for v in (min(group), max(group))]
        assert bounds == sorted(bounds)
    for stratum in {p.stratum for p in places}:
        positions = sorted(p.position for p in places if p.stratum == stratum)
        assert positions == list(range(len(positions)))


@given(rows, st.integers(0, 30), st.integers(0, 30), st.randoms())
def test_a_larger_sample_keeps_a_smaller_one_whatever_the_order_of_rows(
    found: list[tuple[str, float, bool]], a: int, b: int, random: object
) -> None:
    data = dataset(found)
    places = draw_order(data)
    shuffled = draw_order(data.take(sorted(range(len(data)), key=lambda i: hash((i, a)))))
    assert set(shuffled) == set(places)
    small, large = sorted((a, b))
    chosen = {p.example_id for p in choose(places, small)}
    assert chosen <= {p.example_id for p in choose(places, large)}
    assert len(chosen) == min(small, len(places))


def test_the_doubtful_come_first_and_weigh_most() -> None:
    data = dataset([("配送", i / 100, i % 5 == 0) for i in range(100)])
    chosen = choose(draw_order(data), 40)
    assert [p.doubt for p in chosen[:16]] == ["doubtful"] * 16
    assert Counter(p.doubt for p in chosen) == {
        "doubtful": 16,
        "middling": 10,
        "sure": 8,
        "rejected": 6,
    }


def test_failed_requests_are_not_shown() -> None:
    data = Dataset.of(
        [
            Example("", "配送", id="a", rejected=Rejection("failed", 1, 0, "timeout")),
            Example("荷物", "配送", id="b"),
        ]
    )
    assert [p.example_id for p in draw_order(data)] == ["b"]
