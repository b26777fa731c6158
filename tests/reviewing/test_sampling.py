from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from japagen.examples import Dataset, Example, Rejection
from japagen.reviewing.sampling import choose, draw_order

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
