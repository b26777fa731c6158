"""Keeps personal data out of prompts that leave this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from japagen.config.sections import Privacy
from japagen.errors import JapagenError
from japagen.llm.backend import GeneratorInfo, Request

if TYPE_CHECKING:
    from japagen.japanese.morphology import Tagger


@dataclass(frozen=True)
class Outgoing:
    """Requests as they may be sent.

    Attributes:
        requests: In the given order, with the given ids: a prompt's mask does not change whose
            answer it gets.
        masked: Request id to how many pieces of which kind of personal data were masked.
    """

    requests: Sequence[Request]
    masked: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def prepare(
    requests: Sequence[Request],
    generator: GeneratorInfo,
    privacy: Privacy,
    user_dictionary: Path | None = None,
) -> Outgoing:
    """Masks personal data in whole prompts: shots, knowledge, descriptions and all.

    Prompts to a generator on this machine stay as they are.

    Args:
        requests: What is to be asked.
        generator: Whom.
        privacy: What to do with personal data.
        user_dictionary: The task's own, which knows its names.

    Raises:
        JapagenError: If there is personal data and it is to be refused.
    """
    if generator.local or privacy.prompts == "allow":
        return Outgoing(requests)
    # Morphology starts slowly: only those who send elsewhere pay for it.
    from japagen.japanese.morphology import Tagger

    tagger = Tagger(user_dictionary)
    seen: dict[str, tuple[str, Counter[str]]] = {}
    sent, masked = [], {}
    for request in requests:
        texts, counts = _mask(_texts(request), seen, tagger)
        if counts:
            masked[request.id] = dict(counts)
        sent.append(_with_texts(request, texts))
    if masked and privacy.prompts == "refuse":
        found: Counter[str] = sum((Counter(counts) for counts in masked.values()), Counter())
        shown = ", ".join(f"{kind} {count}" for kind, count in found.most_common())
        raise JapagenError(
            f"{len(masked)} of {len(requests)} prompts to {generator.name} hold personal data "
            f"({shown}), and privacy.prompts is refuse; nothing was sent.",
            "Take it out of the gold texts, set privacy.prompts: mask, or use a generator on "
            "this machine.",
        )
    return Outgoing(sent, masked)


def _texts(request: Request) -> list[str]:
    prompt = request.prompt
    return [prompt] if isinstance(prompt, str) else [turn.content for turn in prompt]


def _with_texts(request: Request, texts: Sequence[str]) -> Request:
    if isinstance(request.prompt, str):
        return replace(request, prompt=texts[0])
    turns = zip(request.prompt, texts, strict=True)
    return replace(request, prompt=tuple(replace(t, content=text) for t, text in turns))


def _mask(
    texts: Iterable[str], seen: dict[str, tuple[str, Counter[str]]], tagger: Tagger
) -> tuple[list[str], Counter[str]]:
    from japagen.japanese.pii.detector import find_personal_data, mask_personal_data

    masked, counts = [], Counter[str]()
    for text in texts:
        if text not in seen:
            found = Counter(data.kind for data in find_personal_data(text, tagger))
            seen[text] = (mask_personal_data(text, tagger) if found else text, found)
        masked.append(seen[text][0])
        counts += seen[text][1]
    return masked, counts
