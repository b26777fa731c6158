from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.config.generation import GeneratorSettings
from japagen.japanese.registers import Register
from japagen.llm.backend import Message, Request, Sampling
from japagen.llm.backends.openai_protocol import option_scores, options_of, read_scores, retry_after
from japagen.llm.backends.openai_server import Endpoint
from tests.fault_server import Call, FaultServer, Reply, asking, chat, completion, error
from tests.llm.backends.test_openai import make as make_of_openai

NAMES = ("配送", "返品", "返品交換")


def item(token: bytes, score: float) -> dict[str, Any]:
    return {"token": token.decode("utf-8", "replace"), "logprob": score, "bytes": list(token)}


def place(written: str | bytes, listed: dict[str | bytes, float]) -> dict[str, Any]:
    def raw(token: str | bytes) -> bytes:
        return token if isinstance(token, bytes) else token.encode()

    tops = [item(raw(token), score) for token, score in listed.items()]
    return {**item(raw(written), listed[written]), "top_logprobs": tops}


def said(*places: dict[str, Any]) -> dict[str, Any]:
    return {"logprobs": {"content": list(places)}}


OPEN = place('{"label":', {'{"label":': -0.1})


def test_a_token_that_holds_the_quote_and_the_name() -> None:
    choice = said(
        OPEN,
        place(' "配', {' "配': math.log(0.7), ' "返': math.log(0.2)}),
        place("送", {"送": 0.0}),
    )
    one, two = option_scores(choice, NAMES[:2], in_json=True)
    assert (math.exp(one), math.exp(two)) == pytest.approx((0.7, 0.2))


def test_names_that_begin_alike_are_told_apart_where_they_part() -> None:
    choice = said(
        place('{"label": "', {'{"label": "': 0.0}),
        place("返品", {"返品": math.log(0.6), "配": math.log(0.3), "他": math.log(0.1)}),
        place('"}', {'"}': math.log(0.75), "交": math.log(0.25)}),
    )
    found = [math.exp(s) for s in option_scores(choice, NAMES, in_json=True)]
    assert found == pytest.approx([0.3, 0.45, 0.15])


def test_what_is_not_followed_is_shared_among_those_it_may_become() -> None:
    choice = said(
        place('{"label": "', {'{"label": "': 0.0}),
        place("配送", {"配送": math.log(0.6), "返": math.log(0.4)}),
        place('"', {'"': 0.0}),
    )
    found = [math.exp(s) for s in option_scores(choice, NAMES, in_json=True)]
    assert found == pytest.approx([0.6, 0.2, 0.2])


def test_a_kanji_cut_in_two_and_a_name_that_is_not_listed() -> None:
    first, rest = "配".encode()[:1], "配送".encode()[1:]
    choice = said(
        place('{"label": "', {'{"label": "': 0.0}),
        place(first, {first: -0.2, "X": -4.0}),
        place(rest, {rest: 0.0}),
    )
    one, two = option_scores(choice, ("配送", "返品"), in_json=True)
    # 返 begins with a byte that is not listed.
    assert (one, two) == pytest.approx((-0.2, -4.0))


def test_a_text_that_ends_is_the_name_that_ends_there() -> None:
    found = option_scores(said(place("返品", {"返品": 0.0})), NAMES, in_json=False)
    assert found[1] == 0.0
    assert found[2] < found[1]


def test_documents_and_the_lists_of_the_completions_api() -> None:
    listed = {" 配": math.log(0.5), " 返": math.log(0.25), "配送": math.log(0.125)}
    tokens = [" 配", "送"]
    columns = {
        "tokens": tokens,
        "token_logprobs": [math.log(0.5), 0.0],
        "top_logprobs": [listed, {"送": 0.0}],
    }
    found = option_scores({"logprobs": columns}, NAMES[:2], in_json=False)
    assert [math.exp(s) for s in found] == pytest.approx([0.625, 0.25])


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"logprobs": None},
        {"logprobs": {"content": None}},
        {"logprobs": {"content": [{"token": "a"}]}},
        said(place('{"text": "', {'{"text": "': 0.0}), place("配送", {"配送": 0.0})),
        said(place('{"label": "', {'{"label": "': 0.0}), place("他", {"他": 0.0})),
        {"logprobs": {"tokens": ["配"], "token_logprobs": [None], "top_logprobs": [None]}},
    ],
)
def test_what_does_not_tell_gives_nothing(choice: dict[str, Any]) -> None:
    assert option_scores(choice, NAMES, in_json=True) == ()


@given(st.data())
def test_however_a_name_is_cut_its_probability_is_that_of_its_tokens(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    raw = f'{{"label": "{name}"}}'.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1))))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    chances = [data.draw(st.floats(0.1, 1.0)) for _ in pieces]
    begin = len(b'{"label": "')
    places, probability, at = [], 1.0, 0
    for piece, chance in zip(pieces, chances, strict=True):
        at += len(piece)
        places.append(place(piece, {piece: math.log(chance)}))
        if at > begin and len([n for n in NAMES if _begins(n, raw[begin : at - len(piece)])]) > 1:
            probability *= chance
    scores = option_scores(said(*places), NAMES, in_json=True)
    assert len(scores) == len(NAMES)
    assert scores[NAMES.index(name)] == pytest.approx(math.log(probability))
    assert all(score <= 1e-9 for score in scores)


def _begins(name: str, with_: bytes) -> bool:
    return f'{name}"'.encode().startswith(with_)


CHOOSE = tuple(replace(make_of_openai(n), options=("配送", "返品")) for n in range(3))


def respond(call: Call) -> Reply:
    body = chat('{"label": "返品"}')
    if call.body.get("logprobs"):
        tops = {"配": math.log(0.25), "返": math.log(0.75)}
        body["choices"][0] |= said(
            place('{"label": "', {'{"label": "': 0.0}),
            place("返", tops),
            place('品"}', {'品"}': 0}),
        )
    return Reply(body)


def test_a_server_is_asked_for_one_of_the_labels_and_how_likely_it_found_each() -> None:
    with FaultServer(respond) as server:
        answers = list(asking("m", base_url=server.url).stream(iter(CHOOSE)))
    assert all(a.scores == pytest.approx((math.log(0.25), math.log(0.75))) for a in answers)
    body = server.calls[0].body
    assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"label": {"type": "string", "enum": ["配送", "返品"]}}
    assert "logprobs" not in _text_request_body()


def _text_request_body() -> dict[str, Any]:
    with FaultServer() as server:
        list(asking("m", base_url=server.url).stream([make_of_openai(0)]))
    return server.calls[0].body


@pytest.mark.parametrize(
    "message", ["top_logprobs must be at most 5", "'logprobs' is not supported with this model"]
)
def test_a_server_that_wants_none_of_it_is_asked_for_its_vote(message: str) -> None:
    def refuse(call: Call) -> Reply:
        return error(400, message) if "logprobs" in call.body else respond(call)

    with FaultServer(refuse) as server:
        generator = asking("m", base_url=server.url, slots=1)
        answers = list(generator.stream(iter(CHOOSE)))
    assert [(json.loads(a.text)["label"], a.scores) for a in answers] == [("返品", ())] * 3
    assert ["logprobs" in c.body for c in server.calls] == [True, False, False, False]
    assert all("response_format" in c.body for c in server.calls)


def test_a_document_is_continued_with_its_label() -> None:
    def tell(call: Call) -> Reply:
        body = completion("返品")
        body["choices"][0] |= said(place("返品", {"返品": -0.5, "配": -1.5}))
        return Reply(body)

    request = replace(make_of_openai(0, "completions"), options=("配送", "返品"))
    with FaultServer(tell) as server:
        generator = asking("m", base_url=server.url, api="completions")
        (answer,) = generator.stream([request])
    assert answer.scores == pytest.approx((-1.5, -0.5))
    assert server.calls[0].body["logprobs"] == 20


def make(prompt: str | tuple[Message, ...]) -> Request:
    return Request("r", prompt, Sampling(), 1, "配送", Register(), "t")


def test_openai_gets_only_options_that_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-himitsu-0123456789")
    endpoint = Endpoint(GeneratorSettings(backend="openai", model="m"))
    options = options_of(make((Message("user", "依頼"),)), endpoint, set())
    assert set(options) == {"seed", "temperature", "max_completion_tokens", "response_format"}
    endpoint = Endpoint(GeneratorSettings(backend="openai", model="m", api="completions"))
    options = options_of(make("依頼"), endpoint, set())
    assert set(options) == {"seed", "temperature", "max_tokens"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 50.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:01 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=10.0) == seconds


def test_the_draft_of_a_label_has_no_vote() -> None:
    tokens = ['<think>{"label": "', "返品", '"}</think>', '{"label": "', "配送", '"}']
    listed: list[dict[str | bytes, float]] = [
        {tokens[0]: 0.0},
        {"返品": -0.1, "配送": -3.0},
        {tokens[2]: 0.0},
        {tokens[3]: 0.0},
        {"配送": -0.2, "返品": -2.0},
        {tokens[5]: 0.0},
    ]
    choice = said(*(place(t, row) for t, row in zip(tokens, listed, strict=True)))
    found = option_scores(choice, ["配送", "返品"], in_json=True)
    assert found == pytest.approx((-0.2, -2.0))
    request = replace(make((Message("user", "x"),)), options=("配送", "返品"))
    reply = {"choices": [choice]}
    assert read_scores(reply, "".join(tokens), request, "chat") == found
    assert read_scores(reply, "".join(tokens[:2]), request, "chat") == ()


@pytest.mark.parametrize("score", [1000, float("-inf"), float("nan"), 10**400, "x", None])
def test_impossible_log_probabilities_end_nothing(score: Any) -> None:
    columns = {"tokens": ["配送"], "token_logprobs": [score], "top_logprobs": [{"返品": -1.0}]}
    options = ["配送", "返品"]
    for found in (
        option_scores({"logprobs": columns}, options, in_json=False),
        option_scores(
            {"logprobs": {**columns, "token_logprobs": [-0.1], "top_logprobs": [{"返品": score}]}},
            options,
            in_json=False,
        ),
        option_scores(
            {"logprobs": {"content": [{"token": "配送", "logprob": score, "top_logprobs": []}]}},
            options,
            in_json=False,
        ),
    ):
        assert all(math.isfinite(value) and value <= 1e-9 for value in found)
    odd = {"token": "配送", "logprob": -0.1, "top_logprobs": [], "bytes": 10**9}
    assert option_scores({"logprobs": {"content": [odd]}}, options, in_json=False)
