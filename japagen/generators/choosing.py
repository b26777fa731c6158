"""How likely a generator finds each of a few continuations: an ability not every backend has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from japagen.errors import JapagenError
from japagen.storage.files import digest


class AmbiguousOptionsError(JapagenError):
    """Two options begin with the same token, so the next token does not tell them apart."""


def choice_key(identity: str, document: str, options: Sequence[str]) -> str:
    """What a ledger knows a weighing of options by.

    Args:
        identity: Of the generator.
        document: What came before.
        options: What might come next, in order.
    """
    return digest([identity, document, list(options)])


@runtime_checkable
class Scorer(Protocol):
    """A generator whose answers may say how likely it found each of a request's options."""

    @property
    def scores_options(self) -> bool:
        """Whether a request with options is worth sending for its `Answer.scores`."""


@runtime_checkable
class Chooser(Protocol):
    """A generator that can also weigh given continuations of a document.

    Ask with ``isinstance(generator, Chooser)``: a backend that only writes has no such method.
    """

    def choose(
        self, documents: Sequence[str], options: Sequence[str]
    ) -> Iterator[tuple[int, list[float]]]:
        """Weighs the options after every document.

        Args:
            documents: What comes before. Those that begin alike should stand together.
            options: What may come next. No two may begin with the same token.

        Yields:
            A document's index and the log-probability of every option's first token, over the
            whole vocabulary; each document once, in order of completion.

        Raises:
            AmbiguousOptionsError: If two options begin with the same token.
            JapagenError: If a document is too long.
        """
