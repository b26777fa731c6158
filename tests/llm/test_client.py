from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.config.generation import Budget, Price
from japagen.errors import JapagenError
from japagen.japanese.registers import Register
from japagen.llm.backend import MOST_REPLIES, Answer, Request, Sampling, Waiting
from japagen.llm.client import BudgetTracker, run_requests, yen
from japagen.llm.ledger import Ledger
from tests.conftest import Heard
from tests.scripted import ScriptedGenerator

PRICE = Price(input_per_million=1_000_000, output_per_million=2_000_000)


def requests(count: int, max_tokens: int = 20) -> list[Request]:
    sampling = Sampling(max_tokens=max_tokens)
    polite = Register.of("polite")
    return [Request(f"r{n}", f"依頼{n}", sampling, n, "配送", polite, "t") for n in range(count)]


class _Parallel(ScriptedGenerator):
    """Reads several requests ahead of their answers, as real backends do."""

    slots = 5

    def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
        taken: list[Request] = []
        for request in requests:
            taken.append(request)
            if len(taken) == self.slots:
                yield from super().stream([taken.pop(0)])
        yield from super().stream(taken)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20), st.integers(1, 3)), max_size=30),
    st.integers(1, 2500),
    st.booleans(),
)
def test_a_budget_is_never_passed_and_used_where_it_can_be(
    costs: list[tuple[int, int, int]], bound: int, in_yen: bool
) -> None:
    def answer(request: Request) -> Answer:
        prompt, completion, replies = costs[request.seed]
        # Prompts are longer than was estimated, and replies without text are paid for too.
        used = (min(prompt, 12) * replies, completion * replies)
        return Answer(request.id, "はい", "stop", *used, 0.1)

    budget = Budget(yen=bound) if in_yen else Budget(tokens=bound)
    tracker = BudgetTracker(budget, PRICE)
    generator = _Parallel(answer)
    asked = requests(len(costs))
    with closing(Ledger(":memory:")) as ledger:
        answers = run_requests(asked, generator, ledger, tracker=tracker)
        totals = ledger.totals()
    spent = yen(PRICE, totals["prompt_tokens"], totals["completion_tokens"])
    tokens = totals["prompt_tokens"] + totals["completion_tokens"]
    assert (spent if in_yen else tokens) <= bound
    most = MOST_REPLIES * (2 * (3 + 8) + 2 * 20)  # of one request, in yen and estimated at first
    if bound >= len(costs) * most * 4:
        assert len(answers) == len(costs)


def test_what_does_not_fit_is_sent_once_the_budget_is_raised() -> None:
    asked = requests(10)
    with closing(Ledger(":memory:")) as ledger:
        first = run_requests(
            asked, ScriptedGenerator(), ledger, tracker=BudgetTracker(Budget(tokens=200))
        )
        assert 0 < len(first) < 10
        tracker = BudgetTracker(Budget(tokens=100), None, ledger.totals())
        assert len(run_requests(asked, ScriptedGenerator(), ledger, tracker=tracker)) == len(first)
        generator = ScriptedGenerator()
        assert len(run_requests(asked, generator, ledger)) == 10
    assert len(generator.asked) == 10 - len(first)


def test_a_server_that_counts_no_tokens_is_charged_the_most() -> None:
    generator = ScriptedGenerator(lambda r: Answer(r.id, "はい", "stop"))
    with closing(Ledger(":memory:")) as ledger:
        answers = run_requests(
            requests(100), generator, ledger, tracker=BudgetTracker(Budget(tokens=500))
        )
    assert 0 < len(answers) < 25


def test_a_budget_in_yen_needs_a_price() -> None:
    with pytest.raises(JapagenError, match=r"no generator\.price"):
        BudgetTracker(Budget(yen=100))


def test_what_was_in_flight_when_a_process_ended_is_counted(tmp_path: Path) -> None:
    def dies(request: Request) -> str:
        if request.seed == 4:
            raise MemoryError
        return "はい"

    asked = requests(12)
    with closing(Ledger(tmp_path / "l")) as ledger, pytest.raises(MemoryError):
        run_requests(asked, _Parallel(dies), ledger)
    with closing(Ledger(tmp_path / "l")) as ledger:
        assert len(run_requests(asked, _Parallel(), ledger)) == 12
        totals = ledger.totals()
    # Five were read ahead of the answer that never came.
    assert totals["lost_attempts"] == 5
    assert totals["lost_completion_tokens"] == 5 * 20
    assert totals["lost_prompt_tokens"] > 0
    assert totals["answers"] == totals["attempts"] == 12
    with pytest.raises(JapagenError):
        BudgetTracker(Budget(yen=1), None, totals)
    assert not BudgetTracker(Budget(tokens=400), None, totals).reserve(asked[0], 10)


class _Announcing(_Parallel):
    """Takes requests ahead, as real servers' backends do, and says when one goes out."""

    def __init__(self, answer: Callable[[Request], str | Answer], reached: bool = True) -> None:
        super().__init__(self._sent)
        self.on_send: Callable[[Request, bool], None] = lambda request, sent: None
        self._then = answer
        self._reached = reached

    def load(self) -> dict[str, tuple[int, int]]:
        return {}

    def _sent(self, request: Request) -> str | Answer:
        self.on_send(request, True)
        if not self._reached:
            self.on_send(request, False)
        return self._then(request)


@pytest.mark.parametrize(("reached", "lost"), [(True, 1), (False, 0)])
def test_a_request_counts_from_when_it_is_sent(tmp_path: Path, reached: bool, lost: int) -> None:
    def dies(request: Request) -> str:
        raise MemoryError

    asked = requests(12)
    for number in range(1, 4):
        with closing(Ledger(tmp_path / "l")) as ledger, pytest.raises(MemoryError):
            run_requests(asked, _Announcing(dies, reached), ledger)
        with closing(Ledger(tmp_path / "l")) as ledger:
            ledger.plan([], "m")
            assert ledger.totals().get("lost_attempts", 0) == lost * number


def test_a_request_can_be_marked_from_another_thread() -> None:
    asked = requests(200)
    with closing(Ledger(":memory:")) as ledger:
        ledger.plan(asked, "m")
        thread = threading.Thread(target=lambda: [ledger.mark_sent(r, 5) for r in asked])
        thread.start()
        for request in asked[:100]:
            ledger.record(Answer(request.id, "はい", "stop"))
        thread.join()
        assert ledger.totals()["answers"] == 100
        for request in asked:
            ledger.unmark(request)
        ledger.plan([], "m")
        assert "lost_attempts" not in ledger.totals()


class _Elsewhere(_Parallel):
    """Presses Ctrl-C at its third answer."""

    presses = 1

    def __init__(self) -> None:
        super().__init__(self._press)
        self.info = replace(self.info, local=False)

    def _press(self, request: Request) -> str:
        if request.seed == 2:
            for _ in range(self.presses):
                os.kill(os.getpid(), signal.SIGINT)
        return "はい"


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_the_first_ctrl_c_waits_for_what_is_in_flight() -> None:
    generator, heard = _Elsewhere(), Heard()
    with closing(Ledger(":memory:")) as ledger:
        with pytest.raises(KeyboardInterrupt):
            run_requests(requests(100), generator, ledger, listener=heard)
        assert len(ledger.answers(f"r{n}" for n in range(100))) == len(generator.asked) == 7
        assert heard.notes == ["Waiting for what is in flight; Ctrl-C again stops at once."]
        assert len(run_requests(requests(9), ScriptedGenerator(), ledger)) == 9
        assert "lost_attempts" not in ledger.totals()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
@pytest.mark.parametrize(("presses", "local"), [(2, False), (1, True)])
def test_ctrl_c_stops_at_once(presses: int, local: bool) -> None:
    generator = _Elsewhere()
    generator.presses = presses
    generator.info = replace(generator.info, local=local)
    with closing(Ledger(":memory:")) as ledger:
        with pytest.raises(KeyboardInterrupt):
            run_requests(requests(100), generator, ledger)
        assert len(ledger.answers(f"r{n}" for n in range(100))) == 2


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    answers: dict[str, Answer] = {}

    def work() -> None:
        generator = ScriptedGenerator()
        generator.info = replace(generator.info, local=False)
        with closing(Ledger(":memory:")) as ledger:
            answers.update(run_requests(requests(3), generator, ledger))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(answers) == 3


class _Watching(Heard):
    """Asks at every answer what is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Waiting] = []

    def watch(self, what: str, tell: Callable[[], Waiting]) -> None:
        self._tell = tell

    def track(self, items: Any, total: int | None, what: str) -> Any:
        for answer in items:
            self.seen.append(self._tell())
            yield answer


def test_what_is_waited_for_is_told_while_it_is(tmp_path: Path) -> None:
    tracker, watching = BudgetTracker(Budget(tokens=100_000)), _Watching()
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        answers = run_requests(
            requests(20), _Parallel(), ledger, tracker=tracker, listener=watching
        )
    seen = watching.seen
    # The scripted model is asked as soon as it has read five.
    assert [w.in_flight for w in seen] == [4] * 16 + [3, 2, 1, 0]
    assert [w.unsent for w in seen] == [*range(15, -1, -1), 0, 0, 0, 0]
    costs = [a.prompt_tokens + a.completion_tokens for a in answers.values()]
    left = [w.tokens_left for w in seen if w.tokens_left is not None]
    assert left[-1] == 100_000 - sum(costs)
    assert left[0] < 100_000 - max(costs)  # something is set aside for the other four
