"""Asks a task's generator through the ledger, so that no answer is paid for twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from japagen.generation import run_requests
from japagen.generators.base import Answer, Generator, GeneratorInfo, Request
from japagen.generators.choosing import Chooser
from japagen.ledger import Ledger, ledger_errors
from japagen.listeners import Listener
from japagen.settings import GeneratorSettings


@dataclass(frozen=True)
class Asked:
    """What came of a list of requests.

    Attributes:
        answers: Request id to accepted answer, of this and earlier runs.
        failures: Request id to the reason why there is none.
        sent: How many had no answer before and were sent.
    """

    answers: Mapping[str, Answer]
    failures: Mapping[str, str]
    sent: int


class Asker:
    """One run's generator and ledger.

    Args:
        settings: The backend to load when first needed.
        generator: A backend to use in place of it.
        path: The ledger.
        listener: Told of the progress.
    """

    def __init__(
        self,
        settings: GeneratorSettings,
        generator: Generator | None,
        path: Path,
        listener: Listener,
    ) -> None:
        self._settings = settings
        self._loaded = generator
        self._path = path
        self._listener = listener

    @property
    def _generator(self) -> Generator:
        if self._loaded is None:
            from japagen.generators.loading import load_generator

            self._loaded = load_generator(self._settings)
        return self._loaded

    @property
    def info(self) -> GeneratorInfo:
        """Who is asked; its model starts with the first request that has no answer yet."""
        return self._generator.info

    @property
    def chooser(self) -> Chooser | None:
        """The same generator where it can weigh given continuations, else None."""
        return self._generator if isinstance(self._generator, Chooser) else None

    def ask(self, requests: Sequence[Request], purpose: str) -> Asked:
        """Sends what has no answer yet and tells of it under the name of its purpose."""
        ids = [r.id for r in requests]
        with ledger_errors(self._path), closing(Ledger(self._path)) as ledger:
            sent = len(ids) - len(ledger.answers(ids))
            if sent:
                again = f"{sent} of {len(ids)} to do" if sent < len(ids) else ""
                self._listener.stage(purpose, "start", again)
            before = ledger.wall_seconds(purpose)
            answers = run_requests(
                requests,
                self._generator,
                ledger,
                lambda stream, total: self._listener.track(stream, total, purpose),
                purpose,
            )
            failures = ledger.failures(ids)
            seconds = ledger.wall_seconds(purpose) - before
        if sent:
            self._listener.stage(purpose, "done", f"{seconds:.1f}")
        if failures:
            reason = next(iter(failures.values()))
            self._listener.note(
                f"{len(failures)} of {len(ids)} requests have no answer ({reason}); "
                "the same command tries them again."
            )
        return Asked(answers, failures, sent)

    def cost(self) -> tuple[Mapping[str, float], float]:
        """Totals over every attempt, and the wall time of generation alone, in seconds."""
        with ledger_errors(self._path), closing(Ledger(self._path)) as ledger:
            return ledger.totals(), round(ledger.wall_seconds("generate"), 3)

    def close(self) -> None:
        """Frees the model; calling it twice is harmless."""
        if self._loaded is not None:
            self._loaded.close()
