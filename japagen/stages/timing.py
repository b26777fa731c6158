"""How long a generator takes for a text, found out by asking it for a few."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from japagen.errors import JapagenError
from japagen.generators.base import Generator, Request
from japagen.stages.previewing import spread

# Requests sent to find out how fast a generator on this machine is.
_SAMPLE = 4


@dataclass(frozen=True)
class Rate:
    """What one text takes on average; of a list, its part.

    Attributes:
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        seconds: Elapsed time; less than an answer takes where several are written at a time.
        source: Where the figures are from.
    """

    prompt_tokens: float
    completion_tokens: float
    seconds: float
    source: Literal["ledger", "sample"]


def measured(waiting: Sequence[Request], generator: Generator, sample: int | None) -> Rate | None:
    """What a text takes in a sample sent now; None if there is none or nobody answers.

    Args:
        waiting: What the sample is taken from.
        generator: Whom to ask.
        sample: How many; when None, 4 of a generator on this machine and none of another.
    """
    count = (_SAMPLE if generator.info.local else 0) if sample is None else sample
    chosen = spread(waiting, count)
    if not chosen:
        return None
    began = time.perf_counter()
    try:
        answers = [a for a in generator.stream(iter(chosen)) if not a.error]
    except JapagenError:
        if sample is not None:
            raise
        return None  # a plan is wanted even while the server is down
    seconds = time.perf_counter() - began
    if not answers:
        return None
    texts = {r.id: r.texts for r in chosen}
    count = sum(texts[a.request_id] for a in answers)
    prompt, completion = (
        sum(getattr(a, name) for a in answers) / count
        for name in ("prompt_tokens", "completion_tokens")
    )
    return Rate(prompt, completion, seconds / count, "sample")
