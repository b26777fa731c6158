"""Tries a generator out: what its server knows and does, before a run depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from japagen.config.sections import GeneratorSettings
from japagen.errors import JapagenError
from japagen.japanese.registers import Register
from japagen.llm.answers import read_answer, read_label
from japagen.llm.backend import Answer, Generator, Message, Prompt, Request, Sampling
from japagen.llm.backends.openai import OpenAIGenerator
from japagen.llm.registry import load_generator

_LABELS = ("配送", "返品")
_TEXT = "商品の配送についての問い合わせを1件、日本語の1文で書いてください。"
_FORM = '次の形の JSON だけを返してください: {"text": "…"}'
_QUESTION = "「荷物がまだ届きません。」は配送と返品のどちらについての文ですか。"
_NAMED = '次の形の JSON だけを返してください: {"label": "…"}'
_DOCUMENT = "問い合わせの例\n- サイズを交換できますか。\n- 再配達を頼みたいです。\n- "


def probe(settings: GeneratorSettings) -> list[dict[str, str]]:
    """Asks a generator for a text and a label, and its server what models it has.

    Args:
        settings: Whom to ask; a model in this process is loaded.

    Returns:
        What was tried, its state (``ok``, ``refused``, ``unknown`` or ``failed``) and details.

    Raises:
        JapagenError: If the settings do not go together or an extra is missing.
    """
    with closing(load_generator(settings)) as generator:
        return [
            {"what": what, "state": state, "detail": detail}
            for what, state, detail in _tried(generator, settings)
        ]


def _tried(generator: Generator, settings: GeneratorSettings) -> Iterator[tuple[str, str, str]]:
    chat = generator.info.prompt_kind == "chat"
    server = generator if isinstance(generator, OpenAIGenerator) else None
    try:
        if server:
            yield "models", *_models(server, settings.model)
        writing = _turns(_TEXT, _FORM) if chat else _DOCUMENT
        request, answer = _asked(generator, writing)
    except JapagenError as error:
        yield "answers", "failed", str(error).replace("\n", " ")
        return
    tokens = f"{answer.prompt_tokens} + {answer.completion_tokens} tokens"
    yield "answers", "failed" if answer.error else "ok", answer.error or tokens
    if answer.error:
        return
    yield "seconds for a text", "ok", f"{answer.seconds:.1f}"
    text, rejected = read_answer(request, answer)
    yield "text", "failed" if rejected else "ok", f"{rejected.detail}: {text}" if rejected else text
    if server and chat:
        refused = "response_format" in server.refused
        yield "JSON schema", "refused" if refused else "ok", ""
        _, named = _asked(generator, _turns(_QUESTION, _NAMED), _LABELS)
        label = named.error or read_label(named.text, _LABELS) or named.text
        yield "label", "ok" if label in _LABELS else "failed", label
        state = "ok" if named.scores else "unknown"
        yield "log-probabilities", "refused" if "logprobs" in server.refused else state, ""
    if server and server.refused:
        yield "options left out", "refused", ", ".join(sorted(server.refused))


def _models(server: OpenAIGenerator, model: str) -> tuple[str, str]:
    names = server.models()
    if not names:
        return "unknown", ""
    shown = ", ".join(names[:5]) + (f" (of {len(names)})" if len(names) > 5 else "")
    return ("ok", model) if model in names else ("unknown", f"{model}: {shown}")


def _turns(question: str, form: str) -> tuple[Message, ...]:
    return (Message("user", f"{question}\n{form}"),)


def _asked(
    generator: Generator, prompt: Prompt, options: tuple[str, ...] = ()
) -> tuple[Request, Answer]:
    how: dict[str, Any] = {"label": "", "register": Register(), "template": "probe"}
    # Enough for a model that thinks first.
    sampling = Sampling(max_tokens=1000, stop=("\n",) if isinstance(prompt, str) else ())
    request = Request("probe", prompt, sampling, 0, options=options, **how)
    return request, next(iter(generator.stream([request])))
