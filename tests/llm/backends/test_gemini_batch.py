from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.config.generation import GeneratorSettings
from japagen.llm.backend import Message
from japagen.llm.backends.gemini_batch import content_request, openai_row
from japagen.llm.backends.openai_server import Server
from tests.llm.backends.test_batches import CHATS, chat_request


def server(**how: Any) -> Server:
    settings = {"backend": "gemini", "model": "gemini", "batch": True, **how}
    return Server(
        GeneratorSettings(base_url="http://127.0.0.1:1", **settings), "http://127.0.0.1:1"
    )


@given(turns=CHATS)
def test_a_request_keeps_every_turn(turns: tuple[Message, ...]) -> None:
    body = content_request(chat_request(turns), server())
    system = [part["text"] for part in body.get("systemInstruction", {"parts": []})["parts"]]
    assert system == [turn.content for turn in turns if turn.role == "system"]
    names = {"user": "user", "assistant": "model"}
    rest = [(names[turn.role], turn.content) for turn in turns if turn.role != "system"]
    assert [(t["role"], "".join(p["text"] for p in t["parts"])) for t in body["contents"]] == rest


@given(turns=CHATS, options=st.sampled_from([(), ("配送", "返品")]), seed=st.integers(0, 2**31 - 1))
def test_a_request_is_what_the_client_declares(
    turns: tuple[Message, ...], options: tuple[str, ...], seed: int
) -> None:
    pytest.importorskip("google.genai")
    from google.genai import types

    request = chat_request(turns, options=options, stop=("終",), seed=seed)
    body = content_request(request, server())
    # The client's models refuse names that they do not know.
    config = types.GenerationConfig.model_validate(body.pop("generationConfig"))
    for content in (*body.pop("contents"), body.pop("systemInstruction", {})):
        types.Content.model_validate(content)
    assert not body
    assert (config.max_output_tokens, config.temperature) == (50, 0.7)
    assert config.seed == seed
    assert config.stop_sequences == ["終"]
    assert config.response_mime_type == "application/json"
    assert list(config.response_json_schema["properties"]) == (["label"] if options else ["text"])


def test_what_a_task_adds_joins_what_is_sent() -> None:
    extra = {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}
    how = {"extra_body": extra, "omit": ["temperature"]}
    config = content_request(chat_request((Message("user", "x"),)), server(**how))[
        "generationConfig"
    ]
    assert config["thinkingConfig"] == {"thinkingBudget": 0}
    assert config["maxOutputTokens"] == 50
    assert "temperature" not in config


@pytest.mark.parametrize(
    "line",
    [{}, {"key": "a"}, {"key": "a", "error": {"message": "x"}}, {"key": "a", "response": None}],
)
def test_any_row_without_a_response_says_so(line: dict[str, Any]) -> None:
    row = openai_row(line)
    assert row["custom_id"] == line.get("key")
    assert row["response"] is None
