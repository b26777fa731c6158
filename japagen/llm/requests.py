"""One request: its prompt, sampling, seed and id, and the text that its answer holds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from japagen.data.dataset import Rejection
from japagen.japanese.registers import Register
from japagen.llm.backend import Answer, GeneratorInfo, Request, Sampling
from japagen.llm.prompts import PromptLibrary

_BULLET = re.compile(r"^(?:[-*・•●]|\d{1,3}[.)．、]|[①-⑳])\s*")
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)
_LIST = re.compile(r'(?:"texts"\s*:\s*|^\s*(?:```(?:json)?\s*)?)\[')
# Where the next value of a list begins.
_ITEM = re.compile(r"[\s,]*(?=[\"{])")


def draft_request(
    template: str,
    variables: Mapping[str, Any],
    prompts: PromptLibrary,
    generator: GeneratorInfo,
    sampling: Sampling,
    *,
    label: str,
    register: Register,
    shot_ids: Sequence[str] = (),
    knowledge: Sequence[str] = (),
    round: int = 0,
    each: Sequence[Sequence[str]] = (),
    settings: Sequence[str] = (),
) -> Request:
    """Renders a prompt for a generator; the request still lacks its seed and id.

    Args:
        template: Name of the template without its kind.
        variables: What the template may name.
        prompts: Where templates come from.
        generator: Which kind of prompt is wanted. A document ends at its first line break.
        sampling: How the answer is drawn.
        label: The label asked for.
        register: The register asked for.
        shot_ids: Gold examples that the prompt descends from.
        knowledge: What the prompt names, as ``KIND:ITEM``.
        round: Round of the closed loop.
        each: What each text names, where a list of them is wanted.
        settings: How each text is to be written.
    """
    kind = generator.prompt_kind
    name = f"{template}.{kind}"
    return Request(
        id="",
        prompt=prompts.render(template, kind, variables),
        sampling=replace(sampling, stop=("\n",) if kind == "document" else ()),
        seed=0,
        label=label,
        register=register,
        template=f"{name}@{prompts.template_hash(name)}",
        shot_ids=tuple(shot_ids),
        knowledge=tuple(knowledge),
        round=round,
        each=tuple(map(tuple, each)),
        settings=tuple(settings),
    )


def identified(request: Request, place: Sequence[Any], generator: GeneratorInfo) -> Request:
    """Gives a request its seed and its id, both stable across runs and unrelated requests.

    Args:
        request: A draft.
        place: What tells this request from the others of its task; JSON-ready.
        generator: Who is asked.
    """
    seed = int.from_bytes(hashlib.sha256(json.dumps(place).encode()).digest()[:4]) >> 1
    prompt = (
        request.prompt
        if isinstance(request.prompt, str)
        else [[m.role, m.content] for m in request.prompt]
    )
    key = json.dumps([generator.identity, prompt, asdict(request.sampling), seed])
    return replace(request, seed=seed, id=hashlib.sha256(key.encode()).hexdigest()[:16])


def read_answer(request: Request, answer: Answer) -> tuple[str, Rejection | None]:
    """Takes the text out of an answer: one line of a document, or a JSON object's ``text``.

    Returns:
        The text on one line, and why it cannot be used as it is (None when it can).
    """
    if isinstance(request.prompt, str):
        text, found = _clean_line(answer.text), True
    else:
        inner = _json_text(answer.text)
        text, found = one_line(answer.text if inner is None else inner), inner is not None
    if not found:
        return text, Rejection("unreadable", 1, 0, "no JSON object with a text")
    return text, _cut(request, answer) if answer.finish == "length" else None


def read_texts(request: Request, answer: Answer) -> list[tuple[str, Rejection | None]]:
    """Takes all texts out of an answer; no more than were asked for.

    A list that was cut off gives the texts before the cut, and what there is of the next one as
    a rejected text. What a list is short of is not in it.

    Returns:
        One or more texts, each on one line, with why it cannot be used as it is.
    """
    if not request.each:
        return [read_answer(request, answer)]
    texts, rest = _json_texts(answer.text)
    found: list[tuple[str, Rejection | None]] = [
        (line, None) for text in texts if (line := one_line(text))
    ]
    if rest and answer.finish == "length":
        found.append((one_line(rest), _cut(request, answer)))
    if not found:
        unreadable = Rejection("unreadable", 1, 0, "no JSON object with texts")
        return [(one_line(answer.text), unreadable)]
    return found[: request.texts]


def _cut(request: Request, answer: Answer) -> Rejection:
    limit = request.sampling.max_tokens
    return Rejection("truncated", answer.completion_tokens, limit, "cut off at the token limit")


def one_line(text: str) -> str:
    """Returns ``text`` with every run of white space as one space."""
    return " ".join(text.split())


def _clean_line(text: str) -> str:
    """Takes one list item out of a continued document."""
    line = _BULLET.sub("", text.strip().split("\n", 1)[0].strip())
    if len(line) > 1 and line[0] == "「" and line[-1] == "」" and "「" not in line[1:]:
        line = line[1:-1]
    return one_line(line)


def _json_text(text: str) -> str | None:
    found = _OBJECT.search(text)
    if not found:
        return None
    try:
        value = json.loads(found.group())
    except json.JSONDecodeError:
        return None
    inner = value.get("text") if isinstance(value, dict) else None
    return inner if isinstance(inner, str) and inner.strip() else None


def _json_texts(text: str) -> tuple[list[str], str]:
    """The strings of a JSON object's ``texts``, and the beginning of one that does not end.

    A model that is not held to a schema may give objects with a ``text``, or the list alone.
    """
    opening = _LIST.search(text)
    if not opening:
        alone = _json_text(text)
        return ([alone] if alone else []), ""
    found: list[str] = []
    decoder, at = json.JSONDecoder(), opening.end()
    while item := _ITEM.match(text, at):
        at = item.end()
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            return found, text[at:].removeprefix('"') if text[at : at + 1] == '"' else ""
        value = value.get("text") if isinstance(value, dict) else value
        if isinstance(value, str):
            found.append(value)
    return found, ""
