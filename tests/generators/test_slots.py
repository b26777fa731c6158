from __future__ import annotations

import threading
import time
from collections import Counter
from queue import Queue

from hypothesis import given, settings
from hypothesis import strategies as st

from japagen.generators.base import Message, Request, Sampling
from japagen.generators.slots import SlotQueue
from japagen.japanese.registers import Register


def request(id_: str, prompt: str | tuple[Message, ...]) -> Request:
    return Request(id_, prompt, Sampling(), 0, "label", Register.of("polite"), "template")


def filled(*prompts: str) -> SlotQueue:
    queue = SlotQueue()
    queue.put([request(f"{prompt}{n}", prompt) for n, prompt in enumerate(prompts)])
    return queue


def taken(queue: SlotQueue, slot: int) -> str:
    found = queue.take(slot)
    assert found is not None
    assert isinstance(found.prompt, str)
    return found.prompt


def test_a_slot_stays_with_its_prompt() -> None:
    queue = filled(*"aabbcc")
    order = [taken(queue, slot) for slot in (0, 1, 0, 1, 0, 0)]
    assert order == ["a", "b", "a", "b", "c", "c"]


def test_a_slot_without_work_helps_with_a_long_run() -> None:
    queue = filled(*"aabbbbbb")
    order = [taken(queue, slot) for slot in (0, 1, 2, 2, 0)]
    assert order == ["a", "b", "b", "b", "a"]


def test_a_slot_leaves_a_short_run_to_who_began_it() -> None:
    queue = filled(*"aaaa")
    assert taken(queue, 0) == "a"
    helper: list[Request | None] = []
    waiting = threading.Thread(target=lambda: helper.append(queue.take(1)))
    waiting.start()
    time.sleep(0.05)
    assert [taken(queue, 0) for _ in range(3)] == ["a", "a", "a"]
    assert not helper
    queue.put([request("new", "b")])
    waiting.join(5)
    assert [r.prompt for r in helper if r] == ["b"]


def test_a_slot_takes_next_what_begins_like_its_last_prompt() -> None:
    queue = filled(
        "苦情：甲甲甲甲甲甲", "要望：乙乙乙乙乙乙", "苦情：丙丙丙丙丙丙", "要望：丁丁丁丁丁丁"
    )
    assert taken(queue, 0).startswith("苦情")
    assert taken(queue, 1).startswith("要望")
    assert taken(queue, 1) == "要望：丁丁丁丁丁丁"
    assert taken(queue, 0) == "苦情：丙丙丙丙丙丙"


def test_prompts_with_the_same_first_half_belong_together() -> None:
    queue = filled("共通の前置き" * 3 + "。甲", "共通の前置き" * 3 + "。乙", "まったく別のもの")
    assert taken(queue, 0).endswith("甲")
    assert taken(queue, 1).startswith("まったく")
    assert taken(queue, 0).endswith("乙")


def test_chat_prompts_are_compared_by_their_turns() -> None:
    queue = SlotQueue()
    for id_, system in (("1", "指示" * 9), ("2", "指示" * 9), ("3", "別の話" * 9)):
        queue.put([request(id_, (Message("system", system), Message("user", id_)))])
    order = [queue.take(slot) for slot in (0, 1, 0)]
    assert [r.id for r in order if r] == ["1", "3", "2"]


def test_a_run_that_grows_again_goes_back_to_its_slot() -> None:
    queue = filled("a")
    assert taken(queue, 3) == "a"
    queue.put([request("more", "a"), request("other", "b")])
    assert taken(queue, 1) == "b"
    assert taken(queue, 3) == "a"


def test_close_wakes_whoever_waits() -> None:
    queue = SlotQueue()
    results: list[Request | None] = []
    waiting = threading.Thread(target=lambda: results.append(queue.take(0)))
    waiting.start()
    time.sleep(0.05)
    assert not results
    queue.close()
    waiting.join(5)
    assert results == [None]


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 4), st.integers(1, 30))
def test_every_request_is_handed_out_once(prompts: list[str], slots: int, portion: int) -> None:
    """Whoever waits for a run that another slot began is woken in the end."""
    queue = SlotQueue()
    handed: Queue[str] = Queue()

    def work(slot: int) -> None:
        while (found := queue.take(slot)) is not None:
            handed.put(found.id)

    workers = [threading.Thread(target=work, args=(slot,), daemon=True) for slot in range(slots)]
    for worker in workers:
        worker.start()
    requests = [request(f"{prompt}{n}", prompt) for n, prompt in enumerate(prompts)]
    for start in range(0, len(requests), portion):
        queue.put(requests[start : start + portion])
    found = Counter(handed.get(timeout=5) for _ in requests)
    queue.close()
    for worker in workers:
        worker.join(5)
        assert not worker.is_alive()
    assert found == Counter(r.id for r in requests)
    assert handed.empty()
