"""Answers from the record of an earlier run, without a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from itertools import chain, zip_longest
from pathlib import Path

from japagen.errors import JapagenError
from japagen.llm.backend import (
    TOKENS_PER_CHARACTER,
    AmbiguousOptionsError,
    Answer,
    GeneratorInfo,
    Prompt,
    Request,
    choice_key,
    prompt_texts,
)
from japagen.llm.ledger import read_record, recorded_like


class ReplayGenerator:
    """Gives every request the answer that it has in a ledger, failures included.

    It goes by the recorded generator's name and identity, on which the requests' ids depend: the
    same task, gold and templates ask for the same ids, and so get the same bytes.

    Args:
        model: A run directory, or a ledger file.

    Attributes:
        scores_options: The record may hold answers with scores.

    Raises:
        JapagenError: If there is no record that can be read.
    """

    scores_options = True

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
                raise self._missing(request)
            yield self._answers[request.id]

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Requests that the record has an answer to, and those that failed."""
        failed = sum(bool(answer.error) for answer in self._answers.values())
        return len(self._answers) - failed, failed

    def _missing(self, request: Request) -> JapagenError:
        """Says what of a request is not as it was recorded."""
        name = request.template.partition("@")[0]
        before = recorded_like(self._path, request)
        if before is not None:
            turns = before["prompt"]
            was = [turns] if isinstance(turns, str) else [turn["content"] for turn in turns]
            both = (
                list(chain(*map(str.splitlines, t))) for t in (was, prompt_texts(request.prompt))
            )
            changed = (pair for pair in zip_longest(*both, fillvalue="") if pair[0] != pair[1])
            old, new = next(changed, (str(before["sampling"]), str(asdict(request.sampling))))
            return JapagenError(
                f"The record {self._path} has another request in place of {request.id} (template "
                f"{name}, label '{request.label}', register {request.register.name}): "
                f"'{old}' was recorded, and '{new}' is asked now.",
                "Take the change of the template, task or gold back, replay with the japagen that "
                "recorded it, or have the answers given anew by a generator that writes.",
            )
        if self._path.suffix == ".jsonl":
            return JapagenError(
                f"The record {self._path} has no answer to request {request.id} of the template "
                f"{name} (label '{request.label}', register {request.register.name}).",
                "Its prompt is not one of those that were answered. Take the change of the "
                "template, task or gold back, or add an answer to the prompt of now under this id.",
            )
        return JapagenError(
            f"The record {self._path} has no answer to request {request.id} "
            f"(label '{request.label}', register {request.register.name}).",
            "A replay needs the task, gold, templates and japagen of the recorded run; "
            "to ask for more, name a generator that writes.",
        )

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

    def count_tokens(self, text: str) -> int:
        """Estimates tokens at a rough 0.8 for each character of Japanese."""
        return math.ceil(len(text) * TOKENS_PER_CHARACTER)

    def close(self) -> None:
        """Does nothing: the record is not kept open."""
