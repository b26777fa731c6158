from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.generators.throttling import Gate


@settings(max_examples=30)
@given(st.lists(st.booleans(), max_size=60), st.integers(1, 70))
def test_the_limit_stays_within_bounds(successes: list[bool], most: int) -> None:
    async def play() -> None:
        gate = Gate(most)
        sent = asyncio.get_running_loop().time()
        for success in successes:
            before = gate.limit
            if success:
                gate.speed_up()
                assert gate.limit >= before
            else:
                gate.slow_down(sent + 1e6)
                assert gate.limit == max(1.0, before / 2)
            assert 1 <= gate.limit <= most

    asyncio.run(play())


def test_failures_under_way_together_halve_the_limit_once() -> None:
    async def play() -> float:
        gate = Gate(64)
        for _ in range(28):
            gate.speed_up()
        sent = asyncio.get_running_loop().time()
        for _ in range(10):
            gate.slow_down(sent)
        return gate.limit

    assert asyncio.run(play()) == 16


def test_who_comes_back_goes_first() -> None:
    async def play() -> list[str]:
        gate = Gate(1)
        order: list[str] = []

        async def visit(name: str, until: float | None) -> None:
            async with gate.turn(until):
                order.append(name)
                await asyncio.sleep(0.01)

        later = asyncio.get_running_loop().time() + 60
        visits = [("first", None), ("fresh", None), ("again", later)]
        await asyncio.gather(*(visit(name, until) for name, until in visits))
        return order

    assert asyncio.run(play()) == ["first", "again", "fresh"]


def test_a_turn_is_not_waited_for_beyond_its_deadline() -> None:
    async def play() -> None:
        gate = Gate(1)
        clock = asyncio.get_running_loop().time
        async with gate.turn(None):
            with pytest.raises(TimeoutError):
                async with gate.turn(clock() + 0.05):
                    pass
        async with asyncio.timeout(1), gate.turn(None):  # the place was not lost
            pass

    asyncio.run(play())
