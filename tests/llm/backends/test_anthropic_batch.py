from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from japagen.config.generation import GeneratorSettings
from japagen.llm.backend import Message
from japagen.llm.backends.anthropic_batch import message_of, openai_row
from japagen.llm.backends.openai_server import Server
from tests.llm.backends.test_batches import CHATS, chat_request


def server(**how: Any) -> Server:
    settings = {"backend": "anthropic", "model": "claude", "batch": True, **how}
    return Server(
        GeneratorSettings(base_url="http://127.0.0.1:1", **settings), "http://127.0.0.1:1"
    )


@given(turns=CHATS)
def test_a_message_keeps_every_turn(turns: tuple[Message, ...]) -> None:
    body = message_of(chat_request(turns), server())
    system = [block["text"] for block in body.get("system", [])]
    assert system == [turn.content for turn in turns if turn.role == "system"]
    rest = [(turn.role, turn.content) for turn in turns if turn.role != "system"]
    assert [(turn["role"], turn["content"]) for turn in body["messages"]] == rest


@given(turns=CHATS, options=st.sampled_from([(), ("配送", "返品")]))
def test_a_message_is_what_the_client_declares(
    turns: tuple[Message, ...], options: tuple[str, ...]
) -> None:
    pytest.importorskip("anthropic")
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

    body = message_of(chat_request(turns, options=options, stop=("終",)), server())
    known = MessageCreateParamsNonStreaming.__required_keys__
    assert known <= body.keys() <= known | MessageCreateParamsNonStreaming.__optional_keys__
    TypeAdapter(MessageCreateParamsNonStreaming).validate_python(body)
    assert body["max_tokens"] == 50
    assert body["stop_sequences"] == ["終"]
    schema = body["output_config"]["format"]["schema"]
    assert list(schema["properties"]) == (["label"] if options else ["text"])


def test_what_a_task_adds_joins_what_is_sent() -> None:
    extra = {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}
    body = message_of(chat_request((Message("user", "x"),)), server(extra_body=extra))
    assert body["thinking"] == {"type": "disabled"}
    assert body["output_config"].keys() == {"effort", "format"}
    body = message_of(chat_request((Message("user", "x"),)), server(omit=["response_format"]))
    assert "output_config" not in body


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(line=st.dictionaries(st.sampled_from(["custom_id", "x"]), json_values))
def test_any_row_without_a_result_says_so(line: dict[str, Any]) -> None:
    row = openai_row(line)
    assert row["custom_id"] == line.get("custom_id")
    assert row["response"] is None
