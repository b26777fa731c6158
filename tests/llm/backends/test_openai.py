from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from japagen.errors import JapagenError, MissingExtraError
from japagen.japanese.registers import Register
from japagen.llm.backend import Answer, Message, Request, Sampling
from japagen.llm.backends import openai_server, openai_session
from japagen.llm.backends.openai_server import Patience
from tests.fault_server import Call, FaultServer, Reply, asking, chat, completion, echo, error

KEY = "sk-himitsu-0123456789"
Respond = Callable[[Call], Reply]


@pytest.fixture(autouse=True)
def _quick_and_without_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_session, "_FIRST_PAUSE", 0.02)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def make(number: int, api: str = "chat", **sampling: Any) -> Request:
    prompt = f"依頼{number}"
    return Request(
        id=f"r{number}",
        prompt=prompt if api == "completions" else (Message("user", prompt),),
        sampling=Sampling(**sampling),
        seed=number,
        label="配送",
        register=Register.of("polite"),
        template="t",
    )


def ask(server: FaultServer, count: int = 1, **how: Any) -> list[Answer]:
    generator = asking("m", base_url=server.url, **how)
    return list(generator.stream(make(n) for n in range(count)))


def once(fault: Reply) -> Respond:
    """Every request fails the first time."""
    return lambda call: fault if call.attempt == 1 else echo(call)


def always(reply: Reply) -> Respond:
    return lambda call: reply


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "japagen-openai"]


def test_every_request_gets_its_own_answer_once() -> None:
    with FaultServer() as server:
        answers = ask(server, 70)
    assert sorted(a.request_id for a in answers) == sorted(f"r{n}" for n in range(70))
    for answer in answers:
        assert json.loads(answer.text) == {"text": f"返事:依頼{answer.request_id[1:]}"}
        assert (answer.finish, answer.error) == ("stop", "")
        assert (answer.prompt_tokens, answer.completion_tokens) == (11, 7)
    assert len(server.calls) == 70
    assert not threads()


def test_a_response_written_twice_does_not_answer_the_next_request() -> None:
    with FaultServer(lambda call: Reply(echo(call).body, copies=2)) as server:
        answers = ask(server, 6, slots=1)
    assert [json.loads(a.text)["text"] for a in answers] == [f"返事:依頼{n}" for n in range(6)]


def test_fast_answers_overtake_slow_ones() -> None:
    with FaultServer(
        lambda call: Reply(echo(call).body, delay=0.5 if call.prompt == "依頼0" else 0)
    ) as server:
        answers = ask(server, 4)
    assert [a.request_id for a in answers][-1] == "r0"
    assert answers[-1].seconds >= 0.5 > answers[0].seconds


def test_slots_bound_what_is_sent_and_read_ahead() -> None:
    taken = 0

    def requests() -> Iterator[Request]:
        nonlocal taken
        for taken in range(1, 41):
            yield make(taken)

    with FaultServer(lambda call: Reply(echo(call).body, delay=0.05)) as server:
        generator = asking("m", base_url=server.url, slots=6)
        for received, _ in enumerate(generator.stream(requests()), 1):
            assert taken <= received + 6
    assert received == 40
    assert 4 < server.most_at_once <= 6


def test_waiting_for_a_turn_is_not_counted_against_the_deadline() -> None:
    with FaultServer(lambda call: Reply(echo(call).body, delay=0.2)) as server:
        answers = ask(server, 5, slots=1, deadline=0.7)
    assert all(a.finish == "stop" for a in answers)


def test_chat_body() -> None:
    with FaultServer() as server:
        generator = asking("なまえ", base_url=server.url + "/")
        list(generator.stream([make(3, temperature=0.7, max_tokens=50, stop=("\n",))]))
    (call,) = server.calls
    response_format = call.body.pop("response_format")
    assert call.path == "/v1/chat/completions"
    assert call.body == {
        "model": "なまえ",
        "messages": [{"role": "user", "content": "依頼3"}],
        "seed": 3,
        "temperature": 0.7,
        "max_tokens": 50,
        "stop": ["\n"],
        "top_k": 100,
        "min_p": 0.02,
    }
    schema = response_format["json_schema"]["schema"]
    assert schema["properties"] == {"text": {"type": "string"}}
    assert generator.info.prompt_kind == "chat"


def test_completions_body() -> None:
    with FaultServer() as server:
        generator = asking("m", base_url=server.url, api="completions")
        (answer,) = generator.stream([make(3, "completions")])
    assert answer.text == "返事:依頼3"
    (call,) = server.calls
    assert call.path == "/v1/completions"
    assert call.body["prompt"] == "依頼3"
    assert not {"messages", "response_format", "stop"} & set(call.body)
    assert generator.info.prompt_kind == "document"


def test_prompts_of_the_other_kind_are_refused() -> None:
    with FaultServer() as server:
        generator = asking("m", base_url=server.url)
        with pytest.raises(JapagenError, match="Expected chat turns"):
            list(generator.stream([make(1, "completions")]))
    assert not server.calls


FAULTS = {
    "429": error(429, "slow down"),
    "500": error(500, "oops"),
    "503 in HTML": Reply(b"<html>busy</html>", 503, {"Content-Type": "text/html"}),
    "dropped": Reply(drop=True),
    "cut": Reply(chat("半分"), cut=True),
    "time-out": Reply(chat("遅い"), delay=20),
    "trickle": Reply(chat("ぽたぽた"), trickle=0.05),
    "half JSON": Reply(b'{"choices": [{"message": {"content": "'),
    "not UTF-8": Reply('{"choices": "宛先"}'.encode("euc-jp")),
    "deep JSON": Reply(b"[" * 100_000),
    "HTML": Reply(b"<html>hello</html>", headers={"Content-Type": "text/html"}),
    "a number": Reply(b"3"),
    "no choices": Reply({"choices": []}),
    "null choices": Reply({"choices": None, "usage": None}),
    "wrong shape": Reply({"choices": ["x"], "usage": {"prompt_tokens": "many"}}),
    "null message": Reply({"choices": [{"message": None}]}),
    "null content": Reply(chat(None)),
    "blank content": Reply(chat(" \n")),
    "error with 200": Reply({"error": {"message": "upstream is busy"}}),
}


def test_a_passing_fault_is_tried_again() -> None:
    faults = list(FAULTS.values())

    def respond(call: Call) -> Reply:
        return faults[call.body["seed"]] if call.attempt == 1 else echo(call)

    with FaultServer(respond) as server:
        answers = {a.request_id: a for a in ask(server, len(faults), timeout=1.0)}
    for number, name in enumerate(FAULTS):
        answer = answers.pop(f"r{number}")
        assert answer.text == json.dumps({"text": f"返事:依頼{number}"}, ensure_ascii=False), name
    assert not answers
    assert len(server.calls) >= 2 * len(faults)


def test_mixed_faults_leave_every_request_with_one_answer() -> None:
    kinds = [f for name, f in FAULTS.items() if name not in ("time-out", "trickle")]

    def respond(call: Call) -> Reply:
        turn = call.body["seed"] * 7 + call.attempt
        return kinds[turn % len(kinds)] if turn % 3 and call.attempt < 3 else echo(call)

    with FaultServer(respond) as server:
        answers = ask(server, 40)
    assert sorted(a.request_id for a in answers) == sorted(f"r{n}" for n in range(40))
    assert all(a.finish == "stop" for a in answers)


def test_a_lasting_fault_ends_as_an_error_answer() -> None:
    reasons = {
        "500": "HTTP 500: oops",
        "429": "HTTP 429: slow down",
        "503 in HTML": "HTTP 503: <html>busy</html>",
        "time-out": "no answer within",
        "dropped": "Error",
    }
    faults = [FAULTS[name] for name in reasons]
    with FaultServer(lambda call: faults[call.body["seed"]]) as server:
        answers = {a.request_id: a for a in ask(server, len(faults), timeout=0.3, deadline=3.0)}
    for number, reason in enumerate(reasons.values()):
        answer = answers.pop(f"r{number}")
        assert (answer.finish, answer.text) == ("error", "")
        assert reason in answer.error
        assert "given up after" in answer.error
    assert not answers
    assert len(server.calls) > 2 * len(faults)


def test_an_empty_reply_is_asked_for_three_times() -> None:
    reasons = {
        "half JSON": "not JSON: {",
        "no choices": "no choices",
        "null content": "no text",
        "error with 200": "upstream is busy",
    }
    faults = [FAULTS[name] for name in reasons]
    with FaultServer(lambda call: faults[call.body["seed"]]) as server:
        answers = {a.request_id: a for a in ask(server, len(faults))}
    for number, reason in enumerate(reasons.values()):
        assert reason in answers[f"r{number}"].error
    assert len(answers) == len(faults)
    assert len(server.calls) == 3 * len(faults)
    # Three replies without text were counted and are paid for.
    assert (answers["r2"].prompt_tokens, answers["r2"].completion_tokens) == (33, 21)


VERDICTS = [
    (Reply(chat("", "content_filter")), "refused by the content filter"),
    (Reply(chat("途中まで", "content_filter")), "refused by the content filter"),
    (error(400, "filtered", code="content_filter"), "refused by the content filter"),
    (error(403, "your input was flagged"), "refused by the content filter"),
    (Reply(chat(None, refusal="できません")), "refused by the model: できません"),
    (Reply(chat("", "length")), "larger generation.max_tokens"),
    (error(400, "context length exceeded", param="messages"), "context length exceeded"),
    (error(413, "too large"), "HTTP 413: too large"),
    (Reply({"detail": [{"loc": ["body"]}]}, 422), '[{"loc": ["body"]}]'),
]


def test_a_verdict_is_not_asked_for_again() -> None:
    replies = [echo, *(always(reply) for reply, _ in VERDICTS)]
    with FaultServer(lambda call: replies[call.body["seed"]](call)) as server:
        first, *others = ask(server, len(replies), slots=1)
    assert first.finish == "stop"
    assert len(others) == len(VERDICTS)
    for answer, (_, reason) in zip(others, VERDICTS, strict=True):
        assert (answer.finish, answer.text) == ("error", "")
        assert reason in answer.error
    assert len(server.calls) == len(replies)


def test_retry_after_is_honoured_by_all_requests() -> None:
    calls: list[float] = []

    def respond(call: Call) -> Reply:
        calls.append(time.monotonic())
        return error(429, "wait", headers={"Retry-After": "0.7"}) if len(calls) == 1 else echo(call)

    with FaultServer(respond) as server:
        answers = ask(server, 5, slots=1)
    assert all(a.finish == "stop" for a in answers)
    assert calls[1] - calls[0] >= 0.7


def test_a_retry_after_beyond_the_deadline_is_given_up_at_once() -> None:
    reply = error(429, "tomorrow", headers={"Retry-After": "86400"})
    began = time.monotonic()
    with FaultServer(always(reply)) as server:
        answers = ask(server, 3, deadline=5)
    assert time.monotonic() - began < 3
    assert [a.error for a in answers] == ["HTTP 429: tomorrow"] * 3


HOPELESS = {
    "wrong model": (error(404, "no such model"), "does not know the model 'm'"),
    "bad key": (error(401, f"Incorrect API key provided: {KEY}"), "refuses the key in MY_KEY"),
    "forbidden": (error(403, "country not supported"), "refuses the key in MY_KEY"),
    "no credit": (error(402, "pay"), "nothing left to spend"),
    "quota": (error(429, "quota", code="insufficient_quota"), "nothing left to spend"),
}


@pytest.mark.parametrize(("reply", "message"), HOPELESS.values(), ids=HOPELESS)
def test_what_cannot_work_stops_everything(
    reply: Reply, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with (
        FaultServer(always(reply)) as server,
        pytest.raises(JapagenError, match=message) as caught,
    ):
        ask(server, 200, api_key_env="MY_KEY")
    assert caught.value.hint
    assert len(server.calls) <= 4
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert not threads()


def test_answers_in_hand_come_before_the_error_that_stops() -> None:
    def respond(call: Call) -> Reply:
        return error(401, "revoked") if call.prompt == "依頼2" else echo(call)

    with FaultServer(respond) as server:
        stream = asking("m", base_url=server.url, slots=3).stream(map(make, range(3)))
        received = [next(stream)]
        time.sleep(0.5)  # meanwhile the other two are finished
        with pytest.raises(JapagenError):
            received.extend(stream)
    assert sorted(a.request_id for a in received) == ["r0", "r1"]


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        generator = asking("m", base_url=url)
        with pytest.raises(JapagenError, match=f"Cannot reach {url}") as caught:
            list(generator.stream(map(make, range(50))))
    assert "running" in caught.value.hint


def test_a_server_that_stops_answering_ends_the_run() -> None:
    def respond(call: Call) -> Reply:
        return echo(call) if call.prompt == "依頼0" else Reply(drop=True)

    with (
        FaultServer(respond) as server,
        pytest.raises(JapagenError, match="has answered nothing for"),
    ):
        ask(server, 1000, slots=2, deadline=0.3)
    assert len(server.calls) < 1000


@pytest.mark.parametrize(
    "refusal",
    [
        error(400, "'response_format.type' must be 'text'"),
        error(400, "This grammar cannot be parsed"),
        error(422, "no", param="response_format", code="unsupported_parameter"),
        Reply(b"Bad Request", 400, {"Content-Type": "text/plain"}),
    ],
)
def test_a_refused_response_format_is_left_out_from_then_on(
    refusal: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    def respond(call: Call) -> Reply:
        return refusal if "response_format" in call.body else echo(call)

    with FaultServer(respond) as server:
        generator = asking("m", base_url=server.url)
        for _ in range(2):
            answers = list(generator.stream(map(make, range(8))))
            assert [a.finish for a in answers] == ["stop"] * 8
    refused = [c for c in server.calls if "response_format" in c.body]
    assert 1 <= len(refused) <= 4
    assert len(server.calls) == 16 + len(refused)
    assert sum("refuses 'response_format'" in m for m in caplog.messages) == 1


def test_every_option_that_a_server_does_not_know_is_left_out() -> None:
    unknown = ["temperature", "top_k", "min_p", "seed", "max_tokens"]
    words = [
        ("Unsupported value: 'temperature' does not support 0.9.", {"param": "temperature"}),
        ("Unrecognized request argument supplied: top_k", {}),
        ('{"type": "extra_forbidden", "loc": ["body", "min_p"]}', {}),
        ("unknown field `seed`", {}),
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", {}),
    ]

    def respond(call: Call) -> Reply:
        for name, (message, more) in zip(unknown, words, strict=True):
            if name in call.body:
                return error(400, message, **more)
        return echo(call)

    with FaultServer(respond) as server:
        answers = ask(server, 10)
    assert [a.finish for a in answers] == ["stop"] * 10
    assert set(server.calls[-1].body) == {
        "model",
        "messages",
        "response_format",
        "max_completion_tokens",
    }


def test_a_value_out_of_range_is_the_users_to_correct() -> None:
    def respond(call: Call) -> Reply:
        if call.body["temperature"] > 2:
            return error(400, "Invalid 'temperature': above maximum 2", param="temperature")
        return echo(call)

    with FaultServer(respond) as server:
        generator = asking("m", base_url=server.url, slots=1)
        answers = list(generator.stream([make(0), make(1, temperature=3.0), make(2)]))
    assert [a.finish for a in answers] == ["stop", "error", "stop"]
    assert "above maximum 2" in answers[1].error
    assert all("temperature" in call.body for call in server.calls)


def test_the_key_is_sent_and_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", KEY + "\n")

    def respond(call: Call) -> Reply:
        said = f"you sent {call.headers['authorization']}"
        kinds = [
            error(500, said),
            error(400, said),
            Reply(said.encode(), 503),
            Reply({"error": said}),
            Reply(chat(None, refusal=said)),
        ]
        return kinds[call.body["seed"] % len(kinds)]

    with FaultServer(respond) as server:
        generator = asking("m", base_url=server.url, api_key_env="MY_KEY", deadline=0.2)
        answers = list(generator.stream(map(make, range(10))))
    assert {call.headers["authorization"] for call in server.calls} == {f"Bearer {KEY}"}
    assert [a.finish for a in answers] == ["error"] * 10
    assert any("you sent Bearer ***" in a.error for a in answers)
    shown = [repr(answers), repr(generator), repr(generator.info), repr(vars(generator))]
    assert KEY not in "".join([*shown, caplog.text, *capfd.readouterr()])


def test_keys_and_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer() as server:
        ask(server)
        assert server.calls[0].headers["authorization"] == "Bearer no-key"
    with pytest.raises(JapagenError, match="environment variable MY_KEY, found none"):
        asking("m", api_key_env="MY_KEY")
    with pytest.raises(JapagenError, match=r"http://192\.168\.1\.5/v1 in the environment"):
        asking("m", base_url="http://192.168.1.5/v1")
    for url in (
        "127.0.0.1:8080",
        "ftp://x/v1",
        "file:///etc",
        "http://",
        "http://[::1",
        "http://x:y",
        "http://a b/v1",
    ):
        with pytest.raises(JapagenError, match="http\\(s\\) address"):
            asking("m", base_url=url)
    for url in ("ftp://me:himitsu@localhost/v1", "http://localhost/v1?key=himitsu"):
        with pytest.raises(JapagenError, match="without user name") as caught:
            asking("m", base_url=url)
        assert "himitsu" not in str(caught.value)
    for key in ("秘密", "a\x01b"):
        monkeypatch.setenv("MY_KEY", key)
        with pytest.raises(JapagenError, match="a key in ASCII") as caught:
            asking("m", api_key_env="MY_KEY")
        assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8080/v1", True),
        ("http://localhost:8080/v1", True),
        ("http://[::1]:8080/v1", True),
        ("http://192.168.1.5/v1", False),
        ("http://localhost.example.com/v1", False),
        ("https://api.openai.com/v1", False),
    ],
)
def test_info_says_where_prompts_go(url: str, local: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    info = asking("m", base_url=url).info
    assert info.local is local
    assert info.identity == f"openai:{url}:chat:m"
    assert ("compete with OpenAI" in info.terms.summary) is ("openai" in url)
    assert info.terms.may_train is None


def test_a_proxy_in_the_environment_does_not_hide_a_local_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with FaultServer() as server:
        assert ask(server)[0].finish == "stop"


def test_finish_tokens_and_estimates() -> None:
    replies = [
        Reply(chat("長い文", "length")),
        Reply({"choices": [{"message": {"content": "数えない"}}]}),
        Reply(json.dumps(chat("半分\ud83d")).encode()),
    ]
    with FaultServer(lambda call: replies[call.body["seed"]]) as server:
        generator = asking("m", base_url=server.url, slots=1)
        assert generator.count_tokens("あ" * 10) == 8
        cut, uncounted, broken = generator.stream(map(make, range(3)))
        # 11 tokens for the 3 characters of 依頼0.
        assert generator.count_tokens("あ" * 10) == 37
    assert (cut.text, cut.finish) == ("長い文", "length")
    assert (uncounted.finish, uncounted.prompt_tokens, uncounted.completion_tokens) == (
        "stop",
        0,
        0,
    )
    assert broken.text == "半分\ufffd"


def test_a_prompt_that_cannot_be_encoded_fails_alone() -> None:
    requests = [
        Request("bad", (Message("user", "\ud800"),), Sampling(), 1, "配送", Register(), "t")
    ]
    with FaultServer() as server:
        generator = asking("m", base_url=server.url)
        answers = {a.request_id: a for a in generator.stream([*requests, make(1)])}
    assert "UTF-8" in answers["bad"].error
    assert answers["r1"].finish == "stop"


def test_an_overloaded_server_is_given_less() -> None:
    lock, active, refused = threading.Lock(), 0, 0

    def respond(call: Call) -> Reply:
        nonlocal active, refused
        with lock:
            if active >= 3:
                refused += 1
                return error(429, "at most 3 at once")
            active += 1
        time.sleep(0.02)
        with lock:
            active -= 1
        return echo(call)

    with FaultServer(respond) as server:
        answers = ask(server, 50)
    assert [a.finish for a in answers] == ["stop"] * 50
    assert refused < 100


def test_attempts_are_paced() -> None:
    calls: list[float] = []

    def respond(call: Call) -> Reply:
        calls.append(time.monotonic())
        return error(500, "oops") if call.attempt == 1 else echo(call)

    with FaultServer(respond) as server:
        answers = ask(server, 4, requests_per_minute=600)
        assert [a.finish for a in answers] == ["stop"] * 4
        assert len(calls) == 8
        assert calls[-1] - calls[0] >= 0.65
        calls.clear()
        # A prompt of three characters and 120 tokens of answer: 123 tokens, 0.1 s each.
        ask(server, 3, tokens_per_minute=73_800)
    assert len(calls) == 3
    assert calls[-1] - calls[0] >= 0.18


def test_closing_the_iterator_stops_the_work() -> None:
    def respond(call: Call) -> Reply:
        return echo(call) if call.prompt == "依頼0" else Reply(chat("遅い"), delay=60)

    with FaultServer(respond) as server:
        generator = asking("m", base_url=server.url)
        stream = generator.stream(map(make, range(500)))
        assert next(stream).request_id == "r0"
        began = time.monotonic()
        stream.close()
        assert time.monotonic() - began < 2
        assert not threads()
        time.sleep(0.3)
        assert len(server.calls) <= 8
        generator.close()
        generator.close()


def test_closing_the_generator_ends_its_streams() -> None:
    def respond(call: Call) -> Reply:
        if call.prompt == "依頼2":
            threading.Thread(target=generator.close).start()
        return Reply(chat("遅い"), delay=60)

    with FaultServer(respond) as server:
        generator = asking("m", base_url=server.url)
        began = time.monotonic()
        assert list(generator.stream(map(make, range(9)))) == []
        assert time.monotonic() - began < 5
        generator.close()


INTERRUPTED = """
import sys
from japagen.config.generation import GeneratorSettings
from japagen.llm.backend import Message, Request, Sampling
from japagen.llm.backends.openai import OpenAIGenerator
from japagen.japanese.registers import Register

assert "openai" not in sys.modules
prompt = (Message("user", "x"),)
request = Request("r", prompt, Sampling(), 1, "a", Register(), "t")
try:
    settings = GeneratorSettings(backend="openai", model="m", base_url=sys.argv[1])
    list(OpenAIGenerator(settings).stream([request]))
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_stops_promptly() -> None:
    with FaultServer(always(Reply(chat("遅い"), delay=60))) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, server.url], stdout=subprocess.PIPE, text=True
        )
        for _ in range(600):
            if server.calls or process.poll() is not None:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=5)[0] == "interrupted\n"
        assert process.returncode == 0


def test_works_where_an_event_loop_is_running() -> None:
    async def notebook(server: FaultServer) -> list[Answer]:
        return ask(server, 3)

    with FaultServer() as server:
        assert len(asyncio.run(notebook(server))) == 3


def test_no_requests_no_answers() -> None:
    with FaultServer() as server:
        assert ask(server, 0) == []


def test_the_client_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"japagen\[openai\]"):
        asking("m", base_url="http://localhost/v1")


def test_completion_without_text_field() -> None:
    with FaultServer(once(Reply({"choices": [{"message": {"content": "x"}}]}))) as server:
        generator = asking("m", base_url=server.url, api="completions")
        (answer,) = generator.stream([make(1, "completions")])
    assert answer.text == completion("返事:依頼1")["choices"][0]["text"]


def test_what_a_task_adds_and_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_API_KEY", KEY)
    how = {
        "headers": {"X-Gate": "GATE_API_KEY"},
        "extra_body": {"chat_template_kwargs": {"enable_thinking": False}, "temperature": 1},
        "omit": ("top_k", "min_p"),
    }
    with FaultServer() as server:
        generator = asking("m", base_url=f"{server.url}?api-version=2024-10-21", **how)
        list(generator.stream([make(1)]))
        plain = asking("m", base_url=server.url)
    (call,) = server.calls
    assert call.path == "/v1/chat/completions?api-version=2024-10-21"
    assert call.headers["x-gate"] == KEY
    assert "authorization" not in call.headers
    assert call.body["chat_template_kwargs"] == {"enable_thinking": False}
    assert call.body["temperature"] == 1
    assert not {"top_k", "min_p"} & set(call.body)
    # What is added changes what comes back, and where it was asked does not.
    assert generator.info.identity.startswith(f"{plain.info.identity}:")
    assert KEY not in repr(vars(generator)) + repr(generator.info)
    with pytest.raises(JapagenError, match="environment variable NO_SUCH_KEY, found none"):
        asking("m", base_url=server.url, headers={"X-Gate": "NO_SUCH_KEY"})


def test_a_header_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_API_KEY", KEY)
    with FaultServer(lambda call: error(400, f"odd: {call.headers['x-gate']}")) as server:
        (answer,) = ask(server, headers={"X-Gate": "GATE_API_KEY"}, omit=("response_format",))
    assert answer.error == "HTTP 400: odd: ***"


SHAPES = {
    "Gemini's list": ([{"error": {"code": 400, "message": "Bad schema."}}], "Bad schema."),
    "a sentence": ({"error": "nothing doing"}, "nothing doing"),
    "a list of words": (["first", "second"], '["first", "second"]'),
    "FastAPI": (
        {"detail": [{"loc": ["body", "n"], "msg": "too many"}]},
        '{"detail": [{"loc": ["body", "n"], "msg": "too many"}]}',
    ),
    "problem details": ({"title": "No", "status": 400, "detail": "out of range"}, "out of range"),
    "an empty message": (
        {"error": {"message": "", "code": "busy"}},
        '{"error": {"message": "", "code": "busy"}}',
    ),
    "a gateway": (
        {"error": {"message": "Provider error", "metadata": {"raw": "model is asleep"}}},
        '{"error": {"message": "Provider error", "metadata": {"raw": "model is asleep"}}}',
    ),
    "a number": (7, "7"),
}


@pytest.mark.parametrize(("body", "sentence"), SHAPES.values(), ids=SHAPES)
def test_what_a_server_says_is_quoted_whatever_its_shape(body: Any, sentence: str) -> None:
    with FaultServer(always(Reply(body, 400))) as server:
        (answer,) = ask(server, omit=("response_format",))
    assert answer.error == f"HTTP 400: {sentence}"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "パラメータ「{}」はサポートされていません"),
        (400, "不支持的参数:{}"),
        (400, "parameter {} not implemented"),
        (422, "`{}` cannot be set for this model"),
        (400, "`temperature` and `{}` cannot both be specified"),
        (400, "{} must be at most 0"),
        (501, "{} is not supported"),
        (500, "cannot handle '{}': unsupported"),
    ],
)
def test_an_option_that_is_sent_unasked_is_left_out_whatever_a_server_has_against_it(
    status: int, words: str
) -> None:
    def respond(call: Call) -> Reply:
        named = next((name for name in ("top_k", "min_p", "seed") if name in call.body), None)
        return error(status, words.format(named)) if named else echo(call)

    with FaultServer(respond) as server:
        (answer,) = ask(server)
    assert answer.finish == "stop"
    assert "temperature" in server.calls[-1].body
    assert "response_format" in server.calls[-1].body
    assert len(server.calls) == 4


@pytest.mark.parametrize(
    "message", ["Model Not Exist", "m is not a valid model ID", "The model `a-4.1` does not exist"]
)
def test_an_unknown_model_stops_everything_whatever_the_status(message: str) -> None:
    with (
        FaultServer(always(error(400, message))) as server,
        pytest.raises(JapagenError, match=f"does not know the model 'm'.*{message}"),
    ):
        ask(server, 20)
    assert len(server.calls) <= 4


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"message": "Incorrect API key provided"}, "refuses the key"),
        ({"message": "no such user", "code": 401}, "refuses the key"),
        ({"message": "Insufficient credits", "code": 402}, "nothing left to spend"),
    ],
)
def test_what_cannot_work_may_come_with_200(found: Any, sentence: str) -> None:
    for body in ({"error": found}, [{"error": found}]):
        with (
            FaultServer(always(Reply(body))) as server,
            pytest.raises(JapagenError, match=sentence),
        ):
            ask(server, 20)
        assert len(server.calls) <= 4


def test_a_provider_that_fails_in_the_middle_has_not_answered() -> None:
    broken = chat('{"text": "荷物', "error")
    broken["choices"][0]["error"] = {"message": "upstream died", "code": 502}
    with FaultServer(once(Reply(broken))) as server:
        (answer,) = ask(server)
    assert json.loads(answer.text) == {"text": "返事:依頼0"}
    with FaultServer(always(Reply(broken))) as server:
        (answer,) = ask(server)
    assert "upstream died" in answer.error


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("MAX_TOKENS", "token limit"),
        ("model_length", "token limit"),
        ("SAFETY", "content filter"),
        ("content_filter: PROHIBITED_CONTENT", "content filter"),
    ],
)
def test_an_end_by_another_name_is_not_asked_for_again(finish: str, reason: str) -> None:
    with FaultServer(always(Reply(chat("", finish)))) as server:
        (answer,) = ask(server)
    assert reason in answer.error
    assert len(server.calls) == 1


def test_a_redirect_that_loses_the_request_is_a_wrong_address() -> None:
    def respond(call: Call) -> Reply:
        if call.method == "POST" and call.path.startswith("/v1"):
            return Reply(b"", 301, {"Location": "/v2/chat/completions"})
        return echo(call) if call.method == "POST" else Reply(b"Not Found", 404)

    with FaultServer(respond) as server, pytest.raises(JapagenError, match="HTTP 301, HTTP 404"):
        ask(server, 8)
    assert len(server.calls) <= 8


@pytest.mark.parametrize("behind", ["/", "/chat/completions", "/chat/completions/"])
def test_the_address_of_a_request_is_that_of_its_server(behind: str) -> None:
    with FaultServer() as server:
        generator = asking("m", base_url=server.url + behind)
        (answer,) = generator.stream([make(0)])
    assert answer.finish == "stop"
    assert server.calls[0].path == "/v1/chat/completions"


def test_what_a_server_says_cannot_write_to_the_terminal() -> None:
    with FaultServer(always(error(400, "no\x1b[31m way\x00"))) as server:
        (answer,) = ask(server)
    assert answer.error.startswith("HTTP 400: no[31m way")


def test_options_that_are_refused_together_are_left_out_one_by_one() -> None:
    def respond(call: Call) -> Reply:
        bad = [name for name in ("top_k", "min_p", "seed") if name in call.body]
        said = "\n".join(
            f'Invalid JSON payload. Unknown name "{n}": Cannot find field.' for n in bad
        )
        return Reply([{"error": {"code": 400, "message": said}}], 400) if bad else echo(call)

    with FaultServer(respond) as server:
        answers = ask(server, 3, slots=1)
    assert [a.finish for a in answers] == ["stop"] * 3
    assert len(server.calls) == 6
    assert "response_format" in server.calls[-1].body


def test_the_names_that_a_server_does_take_are_kept() -> None:
    said = "unknown field `top_k`, expected one of `seed`, `temperature`, `max_tokens`"

    def respond(call: Call) -> Reply:
        return error(400, said) if "top_k" in call.body else echo(call)

    with FaultServer(respond) as server:
        ask(server)
    assert {"seed", "temperature", "max_tokens"} <= set(server.calls[-1].body)


def test_a_wrong_key_may_come_as_any_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}]
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with (
        FaultServer(always(Reply(said, 400))) as server,
        pytest.raises(JapagenError, match="refuses the key in OPENAI_API_KEY"),
    ):
        ask(server)
    assert len(server.calls) == 1


def test_a_message_in_parts_is_its_texts() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "考え"}]},
        {"type": "text", "text": '{"text": "案"}', "thought": True},
        {"type": "text", "text": '{"text": '},
        {"type": "reference", "reference_ids": [1]},
        {"type": "text", "text": '"荷物"}'},
    ]
    with FaultServer(always(Reply(chat(parts)))) as server:  # type: ignore[arg-type]
        (answer,) = ask(server)
    assert answer.text == '{"text": "荷物"}'


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "reasoning_details"])
def test_a_text_that_went_elsewhere_is_asked_for_once(name: str) -> None:
    with FaultServer(always(Reply(chat(None, **{name: '{"text": "荷物"}'})))) as server:
        (answer,) = ask(server)
    assert f"all of it went to {name}" in answer.error
    assert len(server.calls) == 1


ASTRAY = {
    "a web page": Reply(b"<!doctype html><p>UI", headers={"Content-Type": "text/html"}),
    "another path": Reply({"error": "Unexpected endpoint or method. (POST /chat/completions)"}),
    "no POST": Reply(b"Method Not Allowed", 405),
    "not found": Reply({"detail": "Not Found"}, 404),
}


@pytest.mark.parametrize("reply", ASTRAY.values(), ids=ASTRAY)
def test_a_wrong_address_is_found_at_the_first_request(reply: Reply) -> None:
    with FaultServer(always(reply)) as server:
        generator = asking("m", base_url=server.url.removesuffix("/v1"), slots=1)
        with pytest.raises(JapagenError) as caught:
            list(generator.stream(map(make, range(20))))
    assert "/v1" in caught.value.hint
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    "usage",
    [
        [1],
        1.5,
        "x",
        {"prompt_tokens": 10**30, "completion_tokens": -3},
        {"prompt_tokens": "9"},
        {"prompt_tokens": float("inf"), "completion_tokens": float("nan")},
    ],
)
def test_an_odd_count_of_tokens_costs_no_answer(usage: Any) -> None:
    body = {**chat('{"text": "荷物"}'), "usage": usage}
    with FaultServer(always(Reply(body))) as server:
        (answer,) = ask(server)
    assert answer.finish == "stop"
    assert 0 <= answer.prompt_tokens <= 10**9 >= answer.completion_tokens >= 0


def test_time_outs_follow_what_answers_take() -> None:
    patience = Patience(None, None)
    assert (patience.timeout, patience.deadline) == (60, 300)
    for sent in (0.0, 1.0):  # sent together: one sign of slowness
        patience.timed_out(sent, 60.0)
    assert patience.timeout == 120
    patience.timed_out(61.0, 181.0)
    assert (patience.timeout, patience.deadline) == (240, 720)
    patience.answered(200.0)
    assert patience.timeout == 600
    assert Patience(5.0, None).timeout == 5


def test_a_slow_server_is_given_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_server, "_FIRST_TIMEOUT", 0.3)
    with FaultServer(lambda call: Reply(echo(call).body, delay=0.5)) as server:
        answers = ask(server, 3)
    assert [a.finish for a in answers] == ["stop"] * 3


def test_a_request_counts_as_sent_when_it_is() -> None:
    sent: list[tuple[str, bool]] = []
    with FaultServer(lambda call: Reply(echo(call).body, delay=0.3)) as server:
        generator = asking("m", base_url=server.url, requests_per_minute=120)
        generator.on_send = lambda request, out: sent.append((request.id, out))
        stream = generator.stream(map(make, range(60)))
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    assert len(sent) == len(server.calls) < 5
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        generator = asking("m", base_url=url)
        out: dict[str, bool] = {}
        generator.on_send = lambda request, is_out: out.update({request.id: is_out})
        with pytest.raises(JapagenError):
            list(generator.stream([make(0)]))
    assert out == {"r0": False}


def test_models_are_listed_in_either_form() -> None:
    bodies = [{"data": [{"id": "m"}, {"id": "n"}]}, {"models": [{"name": "m"}, 3]}, {"x": 1}, []]
    for body, names in zip(bodies, (["m", "n"], ["m"], [], []), strict=True):
        with FaultServer(always(Reply(body))) as server:
            assert asking("m", base_url=server.url).models() == names
            assert server.calls[0].path == "/v1/models"
