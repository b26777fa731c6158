"""Answers from the record of an earlier run, without a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from japagen.errors import JapagenError
from japagen.llm.backend import (
    AmbiguousOptionsError,
    Answer,
    GeneratorInfo,
    Prompt,
    Request,
    choice_key,
)
from japagen.llm.ledger import read_record

_TOKENS_PER_CHARACTER = 0.8


class ReplayGenerator:
    """Gives every request the answer that it has in a ledger, failures included.

    It goes by the recorded generator's name and identity, on which the requests' ids depend: the
    same task, gold and templates ask for the same ids, and so get the same bytes.

    Args:
        model: A run directory, or a ledger file.

    Raises:
        JapagenError: If there is no record that can be read.
    """

    def __init__(self, model: str | Path) -> None:
        path = Path(model)
        self._path = path / "ledger.sqlite" if path.is_dir() else path
        self._recorded, self._answers, self._choices = read_record(self._path)

    @cached_property
    def info(self) -> GeneratorInfo:
        """The recorded generator; nothing leaves this machine."""
        return replace(self._recorded, local=True, resumable=False)

    def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answers every request once, in the order asked.

        Raises:
            JapagenError: At a request that is not in the record.
        """
        for request in requests:
            if request.id not in self._answers:
                raise JapagenError(
                    f"The record {self._path} has no answer to request {request.id} "
                    f"(label '{request.label}', register {request.register.name}).",
                    "A replay needs the task, gold, templates and japagen of the recorded run; "
                    "to ask for more, name a generator that writes.",
                )
            yield self._answers[request.id]

    def choose(
        self, prompts: Sequence[Prompt], options: Sequence[str]
    ) -> Iterator[tuple[int, list[float]]]:
        """Weighs options as recorded; see `japagen.llm.backend.OptionScorer`.

        Raises:
            AmbiguousOptionsError: If these were not weighed, as where they began alike.
        """
        keys = [choice_key(self._recorded.identity, prompt, options) for prompt in prompts]
        if any(key not in self._choices for key in keys):
            raise AmbiguousOptionsError(
                f"The record {self._path} does not say how {', '.join(options)} were weighed.",
                "Replay the task, gold, templates and japagen of the recorded run.",
            )
        yield from ((i, self._choices[key]) for i, key in enumerate(keys))

    @property
    def scores_options(self) -> bool:
        """The record may hold answers with scores."""
        return True

    def count_tokens(self, text: str) -> int:
        """Estimates tokens at a rough 0.8 for each character of Japanese."""
        return math.ceil(len(text) * _TOKENS_PER_CHARACTER)

    def close(self) -> None:
        """Does nothing: the record is not kept open."""
