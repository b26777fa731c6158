from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.llm.backends.openai_server import Gate, Line, Pace


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
        line = Line([Gate(1)])
        order: list[str] = []

        async def visit(name: str, until: float | None) -> None:
            async with line.turn(until):
                order.append(name)
                await asyncio.sleep(0.01)

        later = asyncio.get_running_loop().time() + 60
        visits = [("first", None), ("fresh", None), ("again", later)]
        await asyncio.gather(*(visit(name, until) for name, until in visits))
        return order

    assert asyncio.run(play()) == ["first", "again", "fresh"]


def test_a_turn_is_not_waited_for_beyond_its_deadline() -> None:
    async def play() -> None:
        line = Line([Gate(1)])
        clock = asyncio.get_running_loop().time
        async with line.turn(None):
            with pytest.raises(TimeoutError):
                async with line.turn(clock() + 0.05):
                    pass
        async with asyncio.timeout(1), line.turn(None):  # the place was not lost
            pass

    asyncio.run(play())


class _Clock(asyncio.SelectorEventLoop):
    """A loop whose time is the sum of what was slept."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0, 90), st.integers(0, 400)), min_size=1, max_size=60),
    st.one_of(st.none(), st.integers(1, 40)),
    st.one_of(st.none(), st.integers(50, 4000)),
)
def test_no_minute_has_more_than_its_share(
    arrivals: list[tuple[float, int]], requests: int | None, tokens: int | None
) -> None:
    async def play() -> list[tuple[float, int]]:
        pace, sent = Pace(requests, tokens), list[tuple[float, int]]()
        clock = asyncio.get_running_loop().time

        async def send(at: float, cost: int) -> None:
            await asyncio.sleep(at)
            await pace.wait(cost, None)
            sent.append((clock(), cost))

        await asyncio.gather(*(send(*arrival) for arrival in arrivals))
        return sent

    with asyncio.Runner(loop_factory=_Clock) as runner:
        sent = sorted(runner.run(play()))
    assert len(sent) == len(arrivals)
    for start, _ in sent:
        within = [cost for at, cost in sent if start <= at < start + 60 - 1e-6]
        if requests:
            assert len(within) <= requests
        if tokens:
            assert sum(within[:-1]) <= tokens  # the last one may reach into the next minute
    if requests is None and tokens is None:
        assert [at for at, _ in sent] == pytest.approx(sorted(at for at, _ in arrivals), abs=1e-6)


def test_a_retry_does_not_wait_beyond_its_deadline() -> None:
    async def play() -> None:
        pace = Pace(1, None)
        clock = asyncio.get_running_loop().time
        await pace.wait(1, None)
        with pytest.raises(TimeoutError):
            await pace.wait(1, clock() + 1)

    asyncio.run(play())


def test_the_limit_settles_near_what_a_server_bears() -> None:
    """A server that refuses more than 12 at a time is soon given about as many."""

    async def play() -> list[float]:
        gate, active, limits = Gate(64), 0, []
        line, clock = Line([gate]), asyncio.get_running_loop().time

        async def request() -> None:
            nonlocal active
            refused = True
            while refused:
                async with line.turn(None):
                    sent = clock()
                    active += 1
                    refused = active > 12
                    await asyncio.sleep(0.05 if refused else 0.2)
                    active -= 1
                    if refused:
                        gate.slow_down(sent)
                    else:
                        gate.speed_up()
                        limits.append(gate.limit)

        await asyncio.gather(*(request() for _ in range(2000)))
        return limits

    with asyncio.Runner(loop_factory=_Clock) as runner:
        limits = runner.run(play())
        elapsed = runner.get_loop().time()
    settled = limits[200:-64]
    assert max(settled) < 14
    assert sum(settled) / len(settled) > 8
    # 12 at a time would take 2000 / 12 * 0.2 s.
    assert elapsed < 1.6 * 2000 / 12 * 0.2


def test_the_least_loaded_gate_is_taken_and_one_that_rests_is_passed_by() -> None:
    async def play() -> list[int]:
        small, large = Gate(2), Gate(4)
        line = Line([small, large])
        async with AsyncExitStack() as held:
            taken = [await held.enter_async_context(line.turn(None)) for _ in range(6)]
        assert (small.active, large.active) == (0, 0)
        small.rest(60)
        async with line.turn(None) as number:
            taken.append(number)
        return taken

    *taken, last = asyncio.run(play())
    assert taken == [0, 1, 1, 0, 1, 1]
    assert last == 1


def test_what_waits_at_a_gate_that_rests_is_let_in_where_it_opens() -> None:
    async def play() -> list[float]:
        gate, times = Gate(4), list[float]()
        line, clock = Line([gate]), asyncio.get_running_loop().time

        async def visit() -> None:
            async with line.turn(None):
                times.append(clock())
                await asyncio.sleep(1)

        gate.rest(10)
        await asyncio.gather(visit(), visit())
        return times

    with asyncio.Runner(loop_factory=_Clock) as runner:
        assert runner.run(play()) == pytest.approx([10, 11], abs=0.01)
