"""Asks a task's generator through the ledger, so that no answer is paid for twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from japagen.generation.ledger import Ledger, ledger_errors
from japagen.generation.outgoing import prepare
from japagen.generation.sending import run_requests
from japagen.generation.spending import Purse, yen
from japagen.generators.base import Answer, Generator, GeneratorInfo, Prompt, Request
from japagen.generators.choosing import Chooser, Scorer, choice_key
from japagen.listeners import Listener
from japagen.tasks.generator_settings import GeneratorSettings
from japagen.tasks.tasks import Task


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
        task: Says whom to ask and what may be spent.
        generator: A backend to use in place of it.
        path: The ledger.
        listener: Told of the progress.
    """

    def __init__(
        self,
        task: Task,
        generator: Generator | None,
        path: Path,
        listener: Listener,
    ) -> None:
        self._task = task
        self._loaded = generator
        self._path = path
        self._listener = listener

    @property
    def _generator(self) -> Generator:
        if self._loaded is None:
            from japagen.generators.loading import load_generator

            batches = self._path.with_name("batches")
            self._loaded = load_generator(self._task.generator, batches, self._listener.note)
        return self._loaded

    @property
    def info(self) -> GeneratorInfo:
        """Who is asked; its model starts with the first request that has no answer yet."""
        return self._generator.info

    @property
    def can_choose(self) -> bool:
        """Whether the generator can weigh what may come after a prompt."""
        return isinstance(self._generator, Chooser)

    def other(self, settings: GeneratorSettings) -> Asker:
        """Asks another generator through the same ledger and budget."""
        task = self._task.model_copy(update={"generator": settings})
        return Asker(task, None, self._path, self._listener)

    @property
    def can_score(self) -> bool:
        """Whether its answers may say how likely it finds each of a request's options."""
        generator = self._generator
        return isinstance(generator, Scorer) and generator.scores_options

    def choose(
        self, prompts: Sequence[Prompt], options: Sequence[str]
    ) -> Iterator[tuple[int, list[float]]]:
        """Weighs options after prompts, through the ledger; see `Chooser.choose`.

        What a model weighs differs in the last digits from run to run: what is recorded is not
        asked for again, so that a run resumed or replayed ends as the first one did.
        """
        generator = self._generator
        assert isinstance(generator, Chooser)
        identity = self.info.identity
        keys = [choice_key(identity, prompt, options) for prompt in prompts]
        with ledger_errors(self._path), closing(Ledger(self._path)) as ledger:
            known = ledger.choices(keys)
            yield from ((i, known[key]) for i, key in enumerate(keys) if key in known)
            waiting = [i for i, key in enumerate(keys) if key not in known]
            if not waiting:
                return
            for at, scores in generator.choose([prompts[i] for i in waiting], options):
                ledger.record_choice(keys[waiting[at]], scores)
                yield waiting[at], scores

    def ask(self, requests: Sequence[Request], purpose: str) -> Asked:
        """Sends what has no answer yet and tells of it under the name of its purpose."""
        ids = [r.id for r in requests]
        budget, price = self._task.generation.budget, self._task.generator.price_now
        dictionary = self._task.japanese.user_dictionary
        outgoing = prepare(requests, self.info, self._task.privacy, dictionary)
        with ledger_errors(self._path), closing(Ledger(self._path)) as ledger:
            purse = Purse(budget, price, ledger.totals())
            sent = len(ids) - len(ledger.answers(ids))
            if sent:
                again = f"{sent} of {len(ids)} to do" if sent < len(ids) else ""
                self._listener.stage(purpose, "start", again)
            before = ledger.wall_seconds(purpose)
            ledger.note_masked(outgoing.masked)
            answers = run_requests(
                outgoing.requests,
                self._generator,
                ledger,
                lambda stream, total: self._listener.track(stream, total, purpose),
                purpose,
                purse,
                self._listener.note,
            )
            failures = ledger.failures(ids)
            seconds = ledger.wall_seconds(purpose) - before
        if sent and outgoing.masked:
            pieces = sum(sum(found.values()) for found in outgoing.masked.values())
            self._listener.note(
                f"{pieces} pieces of personal data were masked in {len(outgoing.masked)} prompts "
                f"to {self.info.name} (privacy.prompts: mask)."
            )
        if sent:
            self._listener.stage(purpose, "done", f"{seconds:.1f}")
        self._tell_of(failures, len(ids))
        unsent = [key for key in ids if key not in answers and key not in failures]
        if unsent:
            self._listener.note(
                f"{len(unsent)} of {len(ids)} requests were not sent: generation.budget does not "
                "hold what they may cost. Raise it and run the same command again."
            )
        beyond = dict.fromkeys(unsent, "not sent: generation.budget is used up")
        return Asked(answers, {**failures, **beyond}, sent)

    def _tell_of(self, failures: Mapping[str, str], asked: int) -> None:
        if failures:
            reason = next(iter(failures.values()))
            self._listener.note(
                f"{len(failures)} of {asked} requests have no answer ({reason}); "
                "the same command tries them again."
            )

    def cost(self) -> tuple[Mapping[str, float], float]:
        """Totals over every attempt, and the wall time of generation alone, in seconds.

        Where the task has a price, ``yen`` is what all attempts have cost; for a generator
        elsewhere, ``masked_personal_data`` counts what was masked in prompts to it.
        """
        with ledger_errors(self._path), closing(Ledger(self._path)) as ledger:
            totals = dict(ledger.totals())
            masked = sum(ledger.masked().values())
            seconds = round(ledger.wall_seconds("generate"), 3)
        if price := self._task.generator.price_now:
            spent = yen(price, totals["prompt_tokens"], totals["completion_tokens"])
            totals["yen"] = round(spent, 4)
        if not self.info.local:
            totals["masked_personal_data"] = masked
        return totals, seconds

    def close(self) -> None:
        """Frees the model; calling it twice is harmless."""
        if self._loaded is not None:
            self._loaded.close()
