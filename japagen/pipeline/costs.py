"""What requests cost: tokens, time and yen, measured on earlier answers or on a few sent now."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from japagen.config.generation import GeneratorSettings
from japagen.config.sections import TEXT_WEIGHT
from japagen.config.task import Task
from japagen.config.task_data import TaskData
from japagen.data.files import read_json
from japagen.errors import JapagenError
from japagen.evaluation.baselines import BATCH
from japagen.llm.backend import (
    Answer,
    Generator,
    Request,
)
from japagen.llm.client import AskingTask, BudgetTracker, yen
from japagen.llm.ledger import Ledger, ledger_errors
from japagen.llm.requests import prepare
from japagen.pipeline.preview import prompt_text, spread

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


# Of the steps whose requests the texts decide.
_TEMPLATES = ("rewrite", "criticise", "refine", "judge", "rubric")


@dataclass(frozen=True)
class StepCost:
    """One thing that a run asks for.

    Attributes:
        name: ``generate``, ``rewrite``, ``refine``, ``rubric``, ``trust`` or ``zero_shot``, as in
            the ledger.
        requests: At most.
        expected: How many there will be; None where that is not known yet.
        answered: How many the ledger has answers to.
        prompt_tokens: Of all requests at most.
        waiting_tokens: Of those without an answer, as far as a budget counts them.
        max_tokens: That one answer may have, on average.
        completion: Tokens of one answer; None where nothing was measured.
        seconds: For one answer; None likewise.
        extra_seconds: Beside the answers.
        asked: Whom; the task's own generator when None.
    """

    name: str
    requests: int
    expected: int | None
    answered: int = 0
    prompt_tokens: float = 0.0
    waiting_tokens: float = 0.0
    max_tokens: float = 0.0
    completion: float | None = None
    seconds: float | None = None
    extra_seconds: float = 0.0
    asked: GeneratorSettings | None = None

    def to_dict(self, task: AskingTask, *, paid: bool = True) -> dict[str, Any]:
        """The step as `estimate` returns it."""
        price = (self.asked or task.generator).price_now if paid else None
        waiting = max(0, self.requests - self.answered)
        coming = None if self.expected is None else max(0, self.expected - self.answered)
        share = (coming or 0) / max(waiting, 1)
        known = coming is not None and self.completion is not None
        written = round(coming * self.completion) if known else None  # type: ignore[operator]
        timed = coming is not None and self.seconds is not None
        seconds = coming * self.seconds + self.extra_seconds if timed else None  # type: ignore
        most = round(waiting * self.max_tokens)
        read = self.waiting_tokens
        return {
            "step": self.name,
            "requests": self.requests,
            "expected_requests": self.expected,
            "answered": self.answered,
            "prompt_tokens": round(self.prompt_tokens),
            "max_completion_tokens": round(self.requests * self.max_tokens),
            "max_tokens_left": round(read) + most,
            "completion_tokens": written,
            "seconds": None if seconds is None else round(seconds, 1),
            "yen": yen(price, read * share, written) if price and written is not None else None,
            "max_yen": yen(price, read, most) if price else None,
        }


_NOT_ASKED = "All texts are read from files: no generator is asked, and nothing is paid for."
NOTHING_ASKED: dict[str, Any] = {
    "notes": [_NOT_ASKED],
    "generator": None,
    "steps": [],
    **dict.fromkeys(("requests", "answered", "prompt_tokens", "max_completion_tokens"), 0),
    "texts": 0,
    **dict.fromkeys(("max_tokens_left", "completion_tokens", "shared_prompt_tokens", "masked"), 0),
    **dict.fromkeys(("seconds", "yen", "max_yen"), 0.0),
    **{name: [] for name in ("unknown", "cells", "rounds", "knowledge")},
    **dict.fromkeys(("measured_on", "batch", "seed_rows", "until"), None),
    "budget": {},
}
"""What `estimate` returns where all texts are read from files."""


def sums(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the steps of a plan come to, of what is known."""
    always = ("requests", "answered", "prompt_tokens", "max_completion_tokens", "max_tokens_left")
    found: dict[str, Any] = {key: sum(row[key] for row in rows) for key in always}
    for key in ("completion_tokens", "seconds", "yen", "max_yen"):
        known = [row[key] for row in rows if row[key] is not None]
        # A second model may have a price where the task's own has none.
        whole = rows[0][key] is not None or key == "max_yen"
        found[key] = sum(known) if known and whole else None
    found["unknown"] = [row["step"] for row in rows if row["expected_requests"] is None]
    return found


def totals(
    task: AskingTask, generator: Generator, rows: Sequence[dict[str, Any]], rate: Rate | None
) -> dict[str, Any]:
    """What every plan tells of its steps, of whom it asks, and of the budget."""
    price = task.generator.price
    return {
        "generator": generator.info.name,
        "steps": rows,
        **sums(rows),
        "measured_on": rate and rate.source,
        "batch": price.batch if price and task.generator.batch else None,
        "budget": task.generation.budget.model_dump(exclude_none=True),
    }


def estimate_requests(
    task: AskingTask,
    requests: Sequence[Request],
    generator: Generator,
    run: Path,
    sample: int | None = None,
) -> dict[str, Any]:
    """Says what requests of a task of another kind would take; see `estimate`.

    Returns:
        ``steps`` with one for all requests, the sums, and what else `estimate` tells of
        generation, as far as it is there.
    """
    BudgetTracker(task.generation.budget, task.generator.price)
    dictionary = task.japanese.user_dictionary
    outgoing = prepare(requests, generator.info, task.privacy, dictionary)
    past = recorded(requests, (), generator, run)
    waiting = [r for r in outgoing.requests if r.id not in past.answers]
    rate = past.rate or measured(waiting, generator, sample)
    tokens = {t: generator.count_tokens(t) for t in {prompt_text(r) for r in outgoing.requests}}
    step = StepCost(
        "generate",
        requests=len(requests),
        expected=len(requests),
        answered=len(requests) - len(waiting),
        prompt_tokens=sum(tokens[prompt_text(r)] for r in outgoing.requests),
        waiting_tokens=sum(tokens[prompt_text(r)] for r in waiting),
        max_tokens=sum(r.sampling.max_tokens for r in requests) / max(1, len(requests)),
        completion=rate.completion_tokens if rate else None,
        seconds=rate.seconds if rate else None,
    )
    return {
        **NOTHING_ASKED,
        "sources": [],
        "notes": [],
        **totals(task, generator, [step.to_dict(task)], rate),
        "texts": len(requests),
        "cells": [
            {"label": label, "register": "", "requests": n, "texts": n}
            for label, n in Counter(r.label for r in requests).items()
        ],
        "shared_prompt_tokens": sum(tokens.values()),
        "masked": sum(sum(found.values()) for found in outgoing.masked.values()),
    }


@dataclass(frozen=True)
class Past:
    """What a run has in its ledger.

    Attributes:
        answers: Request id to answer.
        rate: What a text took.
        counts: Template to answers.
        judging: Seconds for one label.
    """

    answers: Mapping[str, Answer]
    rate: Rate | None
    counts: Mapping[str, int]
    judging: float | None = None


def recorded(
    requests: Sequence[Request], alone: Sequence[Request], generator: Generator, run: Path
) -> Past:
    """What a run directory, which need not exist, has in its ledger.

    ``alone`` are requests that label test texts.
    """
    path = run / "ledger.sqlite"
    if not path.is_file():
        return Past({}, None, {})
    with ledger_errors(path), closing(Ledger(path)) as ledger:
        answers = ledger.answers(r.id for r in requests)
        found = ledger.rate(generator.info.identity)
        counts = {name: ledger.answered(name) for name in _TEMPLATES}
        # The same template labels test texts; those are counted by themselves.
        counts["zero_shot"] = len(ledger.answers(r.id for r in alone))
        counts["judge"] -= counts["zero_shot"]
        counts["generate"] = sum(map(ledger.answered, {r.template.split(".")[0] for r in requests}))
        judging = ledger.wall_seconds("trust") + ledger.wall_seconds("pseudo")
        judged = judging / counts["judge"] if counts["judge"] else None
    return Past(answers, found and Rate(*found, "ledger"), counts, judged)


# What a process was seen to hold: after the first texts; with all that curation and alignment
# import; and what torch, transformers and its buffers add (docs/generators.md).
_PLAIN, _CURATING, _TORCH = 210e6, 300e6, 450e6
# Of a model in this process beside its file and a copy: what it has read, for all slots.
_CONTEXTS = {"gemma3-270m": 370e6, "qwen": 800e6}
_FILES = {"gemma3-270m": 102e6, "qwen": 1117e6}
_EMBEDDED = {"bytes": 151e6, "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12}
_BYTES_OF_A_TEXT = 5000
_TOKENS_OF_A_CHARACTER = 0.7
# The encoder as it is kept, and its copy that is tuned, with gradients, both moments of Adam and
# what an optimiser step needs for a moment.
_COPIES, _COPIES_TUNED = 2, 7


def foretell_memory(
    task: Task, data: TaskData, written: int
) -> tuple[dict[str, int | None], int | None]:
    """About the most memory that the process will hold in each stage.

    A batch that is trained on takes batch · tokens · (68 · width + 10 · heads · tokens) bytes in
    each layer (Korthikanti et al. 2022, for 32 bits).

    Args:
        task: The task.
        data: Its texts; the longest of gold stands for all.
        written: Synthetic texts, before curation.

    Returns:
        Stage to bytes, None where a model's size is only known when it is there; and where it
        depends on the texts that are kept whether the encoder is tuned, what training takes if
        it is not.
    """
    generator, settings, writer = task.generator, task.training, 0.0
    if task.generator_source is not None and generator.backend == "embedded":
        file = _FILES.get(generator.model) or _file_bytes(Path(generator.model), "*.gguf")
        writer = 2 * (file or math.nan) + _CONTEXTS.get(generator.model, _CONTEXTS["qwen"])
    elif task.generator_source is not None and generator.backend == "hf":
        writer = math.nan
    weights, width, layers, heads = _encoder(settings.encoder)
    texts = written + sum(len(part or ()) for part in (data.gold, data.test, data.unlabelled))
    curate = _CURATING + texts * _BYTES_OF_A_TEXT
    align = curate + _TORCH + _COPIES * weights
    longest = max(map(len, data.gold.joined_texts), default=0) if data.gold else 0
    tokens = min(longest * _TOKENS_OF_A_CHARACTER or math.inf, settings.max_length)
    text = layers * tokens * (68 * width + 10 * heads * tokens)
    least, train = (
        align + ((_COPIES_TUNED - _COPIES) * weights + batch * text if batch else 0)
        for batch in _tuned_batches(task, data, written)
    )
    # A generator is freed when nobody is asked any more, which is before training.
    asking = {"generate": _PLAIN + writer, "curate": curate + writer, "align": align + writer}
    found = {**asking, "train": train}
    stages = {stage: None if math.isnan(n) else round(n) for stage, n in found.items()}
    return stages, round(least) if least < train else None


def _tuned_batches(task: Task, data: TaskData, written: int) -> tuple[int, int]:
    """Texts of the largest batch that the encoder is tuned on: at least, and at most.

    0 where only a head is fitted. Texts count for as much as `japagen.mixing` lets them at most.
    """
    settings, gold = task.training, len(data.gold or ())
    share, most = settings.synthetic_share, TEXT_WEIGHT * written
    if gold:
        most = gold + written if share == "auto" or not written else gold / (1 - share)
    if gold and settings.pseudo_labels != "never" and task.kind == "classification":
        most += min(settings.pseudo_label_texts, len(data.unlabelled or ()))
    # Plain fine-tuning is a baseline wherever it can be scored.
    scored = data.gold is not None and data.test is not None
    plain = task.evaluation.baselines and scored and task.kind != "regression"
    least, largest = (
        settings.batch_size if settings.tunes(counted, len(task.labels), bool(task.pair)) else 0
        for counted in (gold, most)
    )
    always = BATCH if plain else 0
    return max(always, least), max(always, largest)


def _encoder(name: str) -> Sequence[float]:
    """Bytes of its weights, width, layers and heads; NaN of one that is not on this machine."""
    found: Mapping[str, Any] = _EMBEDDED
    if name != "embedded":
        config = Path(name) / "config.json"
        found = read_json(config) if config.is_file() else {}
        found = {**found, "bytes": _file_bytes(Path(name), "*.safetensors")}
    return [found.get(key) or math.nan for key in _EMBEDDED]


def _file_bytes(path: Path, pattern: str) -> float | None:
    files = [path] if path.is_file() else path.glob(pattern)
    return float(sum(file.stat().st_size for file in files)) or None
