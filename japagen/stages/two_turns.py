"""Asks for pairs in two turns, each through the ledger, and keeps what came of them."""

from __future__ import annotations

from japagen.curation.filters import curate
from japagen.errors import JapagenError
from japagen.examples import Dataset
from japagen.generation import generation
from japagen.generation.coverage import passages_in
from japagen.generators.base import Request
from japagen.japanese.morphology import Tagger
from japagen.listeners import Silent
from japagen.prompts import PromptLibrary
from japagen.running.stage_runner import StageRunner, fingerprint_of
from japagen.stages import pairs
from japagen.stages.asking import Asked, Asker
from japagen.stages.planning import shots_of
from japagen.storage.files import digest
from japagen.tasks.tasks import Task


def generate_pairs(
    task: Task, gold: Dataset | None, firsts: list[Request], asker: Asker, stages: StageRunner
) -> Dataset:
    """Asks for first texts, turns down what curation would, and asks for their second texts.

    Args:
        task: A task of pairs.
        gold: Training gold with ``register_seen`` filled in, or None.
        firsts: The requests of the first turn.
        asker: Whom to ask.
        stages: Where both turns' texts are kept.

    Returns:
        A row for each first text and label; those that miss a text are rejected.

    Raises:
        JapagenError: If no request of a turn was answered.
    """
    prompts, info = PromptLibrary(task.generation.prompts), asker.info
    asked = asker.ask(firsts, "generate")
    _need_answers(asked, firsts)
    tagger = Tagger(task.japanese.user_dictionary)
    fingerprint = {
        **_asked(asked, firsts),
        "curation": task.curation.model_dump(mode="json"),
        "gold": fingerprint_of(gold),
        "phrases": digest(prompts.phrases),
        "dictionary": tagger.identity,
    }

    def make() -> Dataset:
        rows = generation.to_dataset(
            firsts, asked.answers, asked.failures, info.name, lambda _: None
        )
        shown = gold.with_columns(text_pair=[None] * len(gold)) if gold is not None else None
        return curate(rows, task.curation, shown, prompts.phrases, passages_in(firsts), tagger)

    texts = stages.dataset("generate-firsts", "firsts.parquet", fingerprint, make, Silent())
    shots = shots_of(task, gold)
    requests = pairs.plan_seconds(task, shots, texts, prompts, info)
    if not requests:
        counts = _reasons(texts)
        raise JapagenError(
            f"None of {len(texts)} first texts can be used: {counts}.",
            "Read firsts.parquet in the run and loosen curation in the task.",
        )
    seconds = asker.ask(requests, "generate")
    _need_answers(seconds, requests)
    return stages.dataset(
        "generate",
        "generated.parquet",
        {"firsts": texts.fingerprint, **_asked(seconds, requests)},
        lambda: pairs.to_pairs(
            task, shots, texts, requests, seconds.answers, seconds.failures, info.name
        ),
        listener=Silent() if asked.sent + seconds.sent else stages.listener,
    )


def _reasons(texts: Dataset) -> str:
    """Why texts were rejected, for a message."""
    reasons = [row["filter"] for row in texts.column("rejected") if row]
    return ", ".join(f"{name}: {reasons.count(name)}" for name in dict.fromkeys(reasons))


def _need_answers(asked: Asked, requests: list[Request]) -> None:
    if not asked.answers:
        raise JapagenError(
            f"None of {len(requests)} requests was answered.",
            f"The first reason: {next(iter(asked.failures.values()), 'unknown')}",
        )


def _asked(asked: Asked, requests: list[Request]) -> dict[str, str]:
    answers = asked.answers
    return {
        "requests": digest([r.id for r in requests]),
        "answers": digest({key: answers[key].text for key in sorted(answers)}),
        "failures": digest(dict(sorted(asked.failures.items()))),
    }
