"""What a run would ask, before it asks it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from japagen.config.generation import Knowledge
from japagen.config.task import Task
from japagen.config.task_data import load_data, load_sources
from japagen.curation.llm_judge import rubric_requests
from japagen.data.dataset import Dataset, Example
from japagen.generation import pairs, planner
from japagen.generation.fields import later_requests, plan_later, with_later
from japagen.japanese.registers import OTHER, Register
from japagen.llm.answers import read_scores
from japagen.llm.backend import Generator, GeneratorInfo, Prompt, Request, load_generator
from japagen.llm.client import ask_unrecorded
from japagen.llm.prompts import PromptLibrary
from japagen.pipeline.context import TaskContext
from japagen.pipeline.steps.curate import why_not_judged
from japagen.pipeline.steps.generate import plan, shots_of


def prompt_text(request: Request) -> str:
    """A request's prompt as people read it."""
    return shown(request.prompt)


def shown(prompt: Prompt) -> str:
    """A prompt as people read it."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"[{m.role}]\n{m.content}" for m in prompt)


def sample(task: Task, number: int) -> list[dict[str, Any]]:
    """Shows ``number`` requests or texts of each source; keeps nothing.

    The generator is sent requests, each for one text or several, spread over labels, registers and
    what they name; of a file the first texts of every label are read, then the second ones.

    Returns:
        For each: source, label, register, what it names and how it is to be written (``settings``,
        one entry per text), the row of the seed table of each text (``seed_rows``: ``row``, its
        id, and ``values``), template, the prompt as sent, its ``fields`` (name to value, one
        mapping per text, later ones too), and the text or the error. A request for
        several texts has them in ``texts``, and in ``text`` a line for each. Of a file's texts the
        register, template and prompt are empty. ``scores`` are those of ``curation.judge``, one
        mapping per text; none without it.
    """
    given = load_sources(task)
    rows = [
        row
        for source in task.sources
        for row in (
            _generated(task, number)
            if source.generator
            else _read(task, source.name, given[source.name], number)
        )
    ]
    return [
        {**row, "scores": scores} for row, scores in zip(rows, _scores(task, rows), strict=True)
    ]


def _scores(task: Task, rows: Sequence[Mapping[str, Any]]) -> list[list[dict[str, float]]]:
    """What the task's judge, if it can be asked, gives the texts of each row."""
    judge = task.curation.judge
    if judge is None or not (judge.generator or task.generator_source):
        return [[] for _ in rows]
    label = task.label_space().label
    texts = [
        [
            Example(
                text,
                label(row["label"]),
                id=f"s-{i}-{j}",
                register_asked=Register.of(row["register"] or OTHER),
            )
            for j, text in enumerate(row["texts"])
        ]
        for i, row in enumerate(rows)
    ]
    with closing(load_generator(judge.generator or task.generator)) as generator:
        if why_not_judged(generator.info):
            return [[] for _ in rows]
        prompts = PromptLibrary(task.generation.prompts)
        listed = [example for row in texts for example in row]
        asked = rubric_requests(listed, task, judge.criteria, prompts, generator.info)
        answers = ask_unrecorded(task, asked, generator)[1]
    scores = {key: read_scores(a.text, list(judge.criteria)) for key, a in answers.items()}
    found = iter([scores.get(request.id, {}) for request in asked])
    return [[next(found) for _ in row] for row in texts]


def _read(task: Task, source: str, texts: Dataset, number: int) -> list[dict[str, Any]]:
    space, seen = task.label_space(), Counter[str]()
    ranked = []
    for index, example in enumerate(texts.kept):
        label = space.name(example.label or "")
        ranked.append((seen[label], index, label, example))
        seen[label] += 1
    rows = []
    for _, _, label, example in sorted(ranked, key=lambda row: row[:2])[:number]:
        text = "\n".join(example.texts)
        rows.append(preview_row(source=source, label=label, texts=[text], text=text))
    return rows


def preview_row(**known: Any) -> dict[str, Any]:
    """A row as `sample` has it, where only some of it is known."""
    lists = ("knowledge", "settings", "seed_rows", "fields", "scores", "texts")
    texts = ("source", "label", "register", "template", "prompt", "text", "error")
    return {**{name: [] for name in lists}, **dict.fromkeys(texts, ""), **known}


def _generated(task: Task, number: int) -> list[dict[str, Any]]:
    with closing(load_generator(task.generator)) as generator:
        context = TaskContext.open(task, load_data(task))
        requests = plan(context, generator.info)
        if task.pair:
            firsts = _send(task, requests[: -(-number // len(task.labels))], generator)[1]
            requests = _seconds(context, firsts, generator.info)
        chosen, made = _send(task, spread(requests, number), generator)
        for later in later_requests(task):
            if planned := plan_later(task, made, later, context.prompts, generator.info):
                _, answers, failures = ask_unrecorded(task, list(planned.values()), generator)
                made = with_later(made, planned, answers, failures)
    rows: dict[str, list[Example]] = {request.id: [] for request in chosen}
    for example in made:
        rows[str(example.request_id)].append(example)
    table = context.data.seed
    values = {row.id: row.values for row in table.rows} if table else {}
    return [
        {
            "source": task.generator_source,
            **_row(request, rows[request.id]),
            "seed_rows": [{"row": id_, "values": values[id_]} for id_ in request.seed_rows],
        }
        for request in chosen
    ]


def _row(request: Request, made: Sequence[Example]) -> dict[str, Any]:
    errors = [e.rejected.detail for e in made if e.rejected]
    return {
        "label": request.label,
        "register": request.register.name,
        "knowledge": list(request.knowledge),
        "settings": list(request.settings),
        "template": request.template,
        "prompt": prompt_text(request),
        "texts": [e.text for e in made],
        "fields": [dict(e.fields) for e in made if e.fields is not None],
        "text": "\n".join(e.text for e in made),
        "error": errors[0] if errors else "",
    }


def _send(
    task: Task, requests: Sequence[Request], generator: Generator
) -> tuple[Sequence[Request], Dataset]:
    """The requests as they leave, and what came of them."""
    sent, answers, failures = ask_unrecorded(task, requests, generator)
    return sent, planner.to_dataset(sent, answers, failures, generator.info.name)


def _seconds(context: TaskContext, firsts: Dataset, info: GeneratorInfo) -> list[Request]:
    shots = shots_of(context)
    return pairs.plan_seconds(context.task, shots, firsts, context.prompts, info)


def all_requests(context: TaskContext, info: GeneratorInfo) -> list[Request]:
    """Every request; of pairs, those for second texts with a stand-in for the first."""
    requests = plan(context, info)
    if context.task.generation.fields:
        return [*requests, *_later(context, requests, info)]
    if not context.task.pair:
        return requests
    phrases = context.prompts.registers["polite"]["examples"]
    stand_ins = Dataset.of(
        Example(phrases[i % len(phrases)], id=f"s-{r.id}", register_asked=r.register)
        for i, r in enumerate(requests)
    )
    return [*requests, *_seconds(context, stand_ins, info)]


def _later(context: TaskContext, requests: Sequence[Request], info: GeneratorInfo) -> list[Request]:
    """Requests for fields that are asked for later, if every text is worth it."""
    task, phrases = context.task, context.prompts.registers["polite"]["examples"]
    texts = Dataset.of(
        Example(
            phrases[i % len(phrases)],
            id=id_,
            label_asked=task.label_space().label(request.label),
            register_asked=request.register,
            fields=dict.fromkeys(task.generation.fields, phrases[i % len(phrases)]),
        )
        for i, (request, id_) in enumerate((r, id_) for r in requests for id_ in r.text_ids())
    )
    return [
        request
        for number in later_requests(task)
        for request in plan_later(task, texts, number, context.prompts, info).values()
    ]


def spread(requests: Sequence[Request], number: int) -> list[Request]:
    """The first request of every label, register and kind of knowledge, then the second ones."""
    seen: Counter[tuple[str, ...]] = Counter()
    ranked = []
    for index, request in enumerate(requests):
        kinds = [Knowledge.parse(k).kind for k in request.knowledge]
        cell = (request.label, request.register.name, *kinds)
        ranked.append((seen[cell], index, request))
        seen[cell] += 1
    return [request for _, _, request in sorted(ranked, key=lambda r: r[:2])[:number]]
