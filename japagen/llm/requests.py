"""Requests as they go out: rendered, identified, and without personal data."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from japagen.config.fields import FieldSet
from japagen.config.sections import Privacy
from japagen.errors import JapagenError
from japagen.japanese.registers import Register
from japagen.llm.backend import GeneratorInfo, Request, Sampling, prompt_texts
from japagen.llm.prompts import PromptLibrary

if TYPE_CHECKING:
    from japagen.config.task import Task
    from japagen.japanese.morphology import Tagger


def label_variables(task: Task, label: str = "") -> dict[str, Any]:
    """Template variables of the task, and of the label asked for, if there is one."""
    own = task.label_space().tags(label) if label else []
    others = [name for name in task.labels if name not in own]
    return {
        "text_type": task.text_type,
        "description": task.description,
        "domain": task.domain,
        "instruction": task.generation.instruction,
        "label_type": task.label_type,
        "label": label,
        "label_description": task.describe(label) if label else "",
        "other_labels": [] if task.kind == "regression" else others,
    }


def make_request(
    template: str,
    variables: Mapping[str, Any],
    place: Sequence[Any],
    prompts: PromptLibrary,
    generator: GeneratorInfo,
    sampling: Sampling,
    *,
    label: str = "",
    register: Register | None = None,
    shot_ids: Sequence[str] = (),
    knowledge: Sequence[str] = (),
    round: int = 0,
    options: Sequence[str] = (),
    each: Sequence[Sequence[str]] = (),
    settings: Sequence[str] = (),
    seed_rows: Sequence[str] = (),
    fields: FieldSet | None = None,
    criteria: Sequence[str] = (),
) -> Request:
    """Renders a prompt for a generator, with a seed and an id that no other request changes.

    Args:
        template: Name of the template without its kind.
        variables: What the template may name.
        place: What tells this request from the others of its task; JSON-ready.
        prompts: Where templates come from.
        generator: Which kind of prompt is wanted. A document ends at its first line break.
        sampling: How the answer is drawn.
        label: The label asked for.
        register: The register asked for; unknown when None.
        shot_ids: Gold examples that the prompt descends from.
        knowledge: What the prompt names, as ``KIND:ITEM``.
        round: Round of the closed loop.
        options: Labels to choose one of, where that is asked.
        each: What each text names, where a list of them is wanted.
        settings: How each text is to be written.
        seed_rows: Ids of the rows that the prompt tells of, one per text.
        fields: What each text consists of, where it is more than a text.
        criteria: What a text is to be scored by.
    """
    kind = generator.prompt_kind
    name = f"{template}.{kind}"
    prompt = prompts.render(template, kind, variables)
    sampling = replace(sampling, stop=("\n",) if kind == "document" else ())
    seed = int.from_bytes(hashlib.sha256(json.dumps(place).encode()).digest()[:4]) >> 1
    said = prompt if isinstance(prompt, str) else [[turn.role, turn.content] for turn in prompt]
    key = json.dumps([generator.identity, said, asdict(sampling), seed])
    return Request(
        id=hashlib.sha256(key.encode()).hexdigest()[:16],
        prompt=prompt,
        sampling=sampling,
        seed=seed,
        label=label,
        register=register or Register(),
        template=f"{name}@{prompts.template_hash(name)}",
        shot_ids=tuple(shot_ids),
        knowledge=tuple(knowledge),
        round=round,
        options=tuple(options),
        each=tuple(map(tuple, each)),
        settings=tuple(settings),
        seed_rows=tuple(seed_rows),
        fields=fields,
        criteria=tuple(criteria),
    )


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
        texts, counts = _mask(prompt_texts(request.prompt), seen, tagger)
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
