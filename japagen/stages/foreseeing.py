"""What the steps after generation will ask, judged by the texts that are there already."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from japagen.curation.refinement import Rewriter
from japagen.curation.register_quota import Rewritten, control_registers
from japagen.curation.rewriting import Wanted, rewrite_by_model, rewrite_by_rules
from japagen.examples import Dataset, Example
from japagen.generation import generation
from japagen.generation.coverage import passages_in
from japagen.generators.base import Answer, GeneratorInfo, Request
from japagen.japanese.registers import OTHER
from japagen.prompts import PromptLibrary
from japagen.running.data import TaskData
from japagen.stages.curating import filter_texts
from japagen.stages.planning import find_registers, load_analyzer
from japagen.stages.refining import why_not
from japagen.tasks.gradmm_settings import STRATEGY
from japagen.tasks.tasks import Task

# Fewer texts than these say too little of the others.
_LEAST = 20


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of texts.

    Attributes:
        kept: Share that curation and register control keep, rewritten or not.
        rewrites: Requests to a model to rewrite one, for each text.
    """

    kept: float
    rewrites: float


def fate_of(
    task: Task, data: TaskData, requests: Sequence[Request], answers: Mapping[str, Answer]
) -> Fate | None:
    """Finds it out on the texts that were answered; None where there are too few, and of pairs.

    Args:
        task: The task.
        data: Its texts.
        requests: What was planned.
        answers: Request id to answer, of some of them.
    """
    asked = [r for r in requests if r.id in answers]
    if len(asked) < _LEAST or task.pair:
        return None
    analyzer, settings = load_analyzer(task), task.curation
    label_of = task.label_space().label
    rows = find_registers(generation.to_dataset(asked, answers, {}, "", label_of), analyzer)
    # Comparing meanings takes an encoder, which a plan need not wait for.
    quick = task.model_copy(
        update={"curation": settings.model_copy(update={"max_meaning_similarity": None})}
    )
    phrases = PromptLibrary(task.generation.prompts).phrases
    read = (quick, rows, data.gold, phrases, analyzer.tagger)
    kept = filter_texts(*read, passages=passages_in(asked))
    if settings.register_miss == "ignore":
        return Fate(len(kept.kept) / len(rows), 0.0)
    to_model: list[str] = []

    def refuse(wanted: Wanted) -> list[Rewritten]:
        to_model.extend(example.id for example, _ in wanted)
        return [Rewritten(refused="not asked") for _ in wanted]

    held, children = control_registers(
        kept, settings.register_miss, lambda wanted: rewrite_by_rules(wanted, analyzer), refuse
    )
    # Those that a model would be asked for may come out well.
    number = len(held.kept) + (len(children) if children is not None else 0) + len(to_model)
    rewrites = len(to_model) * settings.rewrite_attempts
    return Fate(min(1.0, number / len(rows)), rewrites / len(rows))


def stand_ins(gold: Dataset, number: int) -> Dataset:
    """Texts of the right length, in place of those that are not there yet."""
    return gold.take([i % len(gold) for i in range(number)])


def rewrite_requests(
    task: Task, data: TaskData, info: GeneratorInfo, requests: Sequence[Request], number: int
) -> list[Request]:
    """What would be sent to rewrite ``number`` texts, spread over the registers asked for."""
    prompts = PromptLibrary(task.generation.prompts)
    analyzer = load_analyzer(task)
    texts = list(data.gold.texts) if data.gold is not None else prompts.phrases
    registers = [name for r in requests if (name := r.register.name) != OTHER] or ["polite"]
    step = max(1, len(registers) // number)
    wanted = [
        (Example(texts[i % len(texts)], id=f"s-{i}"), register)
        for i, register in enumerate(registers[::step][:number])
    ]
    asked: list[Request] = []

    def send(rows: Sequence[Request]) -> Mapping[str, Answer]:
        asked.extend(rows)
        return {}

    rewrite_by_model(wanted, task, prompts, info, analyzer, send)
    return asked


def refine_requests(
    task: Task, data: TaskData, info: GeneratorInfo, requests: Sequence[Request], number: int
) -> list[Request]:
    """What would be sent to refine ``number`` texts once: a critique of each, and a new text."""
    prompts = PromptLibrary(task.generation.prompts)
    texts = list(data.gold.texts) if data.gold is not None else prompts.phrases
    chosen = requests[:: max(1, len(requests) // number)][:number]
    rows = [
        Example(texts[i % len(texts)], r.label, id=f"s-{i}", register_asked=r.register)
        for i, r in enumerate(chosen)
    ]
    asked: list[Request] = []

    def send(sent: Sequence[Request]) -> Mapping[str, Answer]:
        asked.extend(sent)
        # A critique about as long as they come.
        said = json.dumps({"text": "指摘" * 40}, ensure_ascii=False)
        return {r.id: Answer(r.id, said, "stop") for r in sent}

    variables = partial(generation.label_variables, task)
    Rewriter(prompts, info, send, variables, task.seed, task.generation.max_tokens).rewrite(rows, 1)
    return asked


def notes_on(task: Task, info: GeneratorInfo, refiner: GeneratorInfo | None = None) -> list[str]:
    """What a table of requests does not show.

    Args:
        task: The task.
        info: Its generator.
        refiner: The second model that refines; None when the generator does.
    """
    notes = []
    if info.prompt_kind == "document" and any(
        len(task.generation.grid(label)) > 1 for label in task.labels
    ):
        notes.append(
            f"{info.name} continues documents: of generation.attributes it is told the first alone."
        )
    if info.prompt_kind == "document" and (task.generation.texts_per_request or 1) > 1:
        notes.append(f"{info.name} continues documents: it writes one text a request.")
    if task.generation.strategy == STRATEGY:
        notes.append(
            "Gradient matching writes texts anew in this process once their labels were checked: "
            "no requests, but time that is not in the table."
        )
    if info.prompt_kind == "document" and task.generation.paraphrase_share:
        notes.append(f"{info.name} continues documents: no gold text will be put in other words.")
    if task.refinement.rounds:
        reason = why_not(task, task.gold is not None, refiner or info)
        notes += [f"No text will be refined: {reason}."] if reason else []
    return notes
