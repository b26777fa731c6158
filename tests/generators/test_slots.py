from __future__ import annotations

import threading
import time
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from japagen.generators.base import Message, Request, Sampling
from japagen.generators.slots import SlotQueue
from japagen.japanese.registers import Register


def request(id_: str, prompt: str | tuple[Message, ...]) -> Request:
    return Request(id_, prompt, Sampling(), 0, "label", Register.of("polite"), "template")


def filled(*prompts: str) -> SlotQueue:
    queue = SlotQueue()
    for n, prompt in enumerate(prompts):
        queue.put(request(f"{prompt}{n}", prompt))
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


def test_a_slot_without_work_helps_with_the_longest_run() -> None:
    queue = filled(*"aabbbbb")
    assert [taken(queue, slot) for slot in (0, 1, 2, 2)] == ["a", "b", "b", "b"]


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
        queue.put(request(id_, (Message("system", system), Message("user", id_))))
    order = [queue.take(slot) for slot in (0, 1, 0)]
    assert [r.id for r in order if r] == ["1", "3", "2"]


def test_a_run_that_grows_again_goes_back_to_its_slot() -> None:
    queue = filled("a")
    assert taken(queue, 3) == "a"
    queue.put(request("more", "a"))
    queue.put(request("other", "b"))
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


@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.integers(0, 3), min_size=30))
def test_every_request_is_handed_out_once(prompts: list[str], slots: list[int]) -> None:
    queue = filled(*prompts)
    handed = Counter(r.id for slot in slots[: len(prompts)] if (r := queue.take(slot)))
    assert handed == Counter(f"{prompt}{n}" for n, prompt in enumerate(prompts))
    queue.close()
    assert queue.take(0) is None
