from __future__ import annotations

import pytest

from japagen.generators.base import Message, Request, Sampling
from japagen.generators.openai_endpoint import Endpoint
from japagen.generators.openai_wire import options_of, retry_after
from japagen.japanese.registers import Register

KEY = {"K": "sk-himitsu-0123456789"}


def make(prompt: str | tuple[Message, ...]) -> Request:
    return Request("r", prompt, Sampling(), 1, "配送", Register(), "t")


def test_openai_gets_only_options_that_it_knows() -> None:
    endpoint = Endpoint.of("m", None, "chat", "K", KEY)
    options = options_of(make((Message("user", "依頼"),)), endpoint, set())
    assert set(options) == {"seed", "temperature", "max_completion_tokens", "response_format"}
    endpoint = Endpoint.of("m", None, "completions", "K", KEY)
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
