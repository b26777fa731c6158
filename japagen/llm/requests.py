"""One request: its prompt, sampling, seed and id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from japagen.japanese.registers import Register
from japagen.llm.backend import GeneratorInfo, Request, Sampling
from japagen.llm.prompts import PromptLibrary


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
