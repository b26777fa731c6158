"""How likely a generator finds each of a few continuations: an ability not every backend has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from japagen.errors import JapagenError
from japagen.generators.base import Prompt
from japagen.storage.files import digest


class AmbiguousOptionsError(JapagenError):
    """Two options begin with the same token, so the next token does not tell them apart."""


def choice_key(identity: str, prompt: Prompt, options: Sequence[str]) -> str:
    """What a ledger knows a weighing of options by.

    Args:
        identity: Of the generator.
        prompt: What came before.
        options: What might come next, in order.
    """
    before = prompt if isinstance(prompt, str) else [[t.role, t.content] for t in prompt]
    return digest([identity, before, list(options)])


@runtime_checkable
class Scorer(Protocol):
    """A generator whose answers may say how likely it found each of a request's options."""

    @property
    def scores_options(self) -> bool:
        """Whether a request with options is worth sending for its `Answer.scores`."""


@runtime_checkable
class Chooser(Protocol):
    """A generator that can also weigh given continuations of a document or openings of an answer.

    Ask with ``isinstance(generator, Chooser)``: a backend that only writes has no such method.
    """

    def choose(
        self, prompts: Sequence[Prompt], options: Sequence[str]
    ) -> Iterator[tuple[int, list[float]]]:
        """Weighs the options after every prompt.

        Args:
            prompts: What comes before: documents, or else chat turns. Those that begin alike
                should stand together.
            options: What may come next. No two may begin with the same token.

        Yields:
            A prompt's index and the log-probability of every option's first token, over the
            whole vocabulary; each prompt once, in order of completion.

        Raises:
            AmbiguousOptionsError: If two options begin with the same token.
            JapagenError: If a prompt is too long.
        """
