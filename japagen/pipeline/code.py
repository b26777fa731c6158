"""Runs of ``kind: code``: programs with instructions and tests, asked for, judged and reported.

The order: ask (or read what was written already), judge each program by itself in the sandbox,
reject those that are alike, report. What is judged is kept program by program, so that a run that
was stopped goes on with the next one.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from joblib import cpu_count

import japagen
from japagen.config.code import CodeChecks, CodeTask
from japagen.curation.code import check_program, count_rejections, reject_alike
from japagen.curation.sandbox import check_isolation as check_isolation
from japagen.data.code import (
    EXAMPLES,
    CodeSummary,
    Program,
    ProgramCounts,
    load_programs,
    read_programs,
)
from japagen.data.export import export_rows, write_lines
from japagen.data.files import digest, write_json, write_text
from japagen.data.registry import CODE_EXPORTS
from japagen.generation.code import plan_programs, to_programs
from japagen.listener import Listener, Logged, Silent
from japagen.llm.backend import Generator, load_generator
from japagen.llm.backends.offline import HERE, Elsewhere
from japagen.llm.client import LLMClient, ask_unrecorded
from japagen.llm.prompts import PromptLibrary
from japagen.pipeline.cache import Cache, Step
from japagen.pipeline.costs import NOTHING_ASKED, estimate_requests
from japagen.pipeline.preview import preview_row, prompt_text
from japagen.pipeline.run_directory import RunDirectory, task_of

_CHECK = Step("check", 1, ("checks/1.json",))
load = CodeTask.load


def run(
    task: CodeTask,
    out: Path | None = None,
    *,
    listener: Listener | None = None,
    generator: Generator | None = None,
    elsewhere: Elsewhere = HERE,
) -> Path:
    """Makes programs, or goes on where an earlier run of the task stopped.

    Arguments are those of `japagen.pipeline.run.run`.

    Returns:
        The run directory: ``examples.jsonl``, ``code.json``, ``report.html``.

    Raises:
        JapagenError: For everything the user can put right; if programs cannot be isolated here,
            before anything is asked for.
    """
    examples = _examples(task)
    check_isolation()
    directory = RunDirectory(out or elsewhere.directory(task.name), task.name)
    told = listener or Logged()
    cache = Cache(directory, told)
    try:
        ledger = directory.file("ledger.sqlite")
        with closing(LLMClient(task, generator, ledger, told, elsewhere)) as client:
            write_text(directory.file("task.yaml"), task.to_yaml())
            programs = _written(task, examples, client)
            # Judging needs the processors, and asks nothing.
            client.close()
            programs = _judged(task, programs, cache, told)
            programs = reject_alike(programs, task.checks, examples)
            write_lines(directory.file(EXAMPLES), programs)
            summary = _summary(task, programs, client, directory)
        write_json(directory.file(CodeSummary.FILE), summary.model_dump(mode="json"))
        write_text(directory.file("report.html"), report(directory.path, "ja"))
    finally:
        directory.release()
    return directory.path


def _examples(task: CodeTask) -> list[Program]:
    return read_programs(task.examples) if task.examples else []


def _written(task: CodeTask, examples: Sequence[Program], client: LLMClient) -> list[Program]:
    """The programs as they were written; failed requests are rejected rows."""
    if task.source:
        return read_programs(task.source)
    requests = plan_programs(task, examples, PromptLibrary(task.generation.prompts), client.info)
    asked = client.ask(requests, "generate")
    asked.check(requests)
    return to_programs(requests, asked.answers, asked.failures, client.info.name)


def _judged(
    task: CodeTask, programs: Sequence[Program], cache: Cache, told: Listener
) -> list[Program]:
    """Every program judged by itself, several at a time."""

    def judge(program: Program) -> Program:
        # Not by its id, which a file may give.
        name = digest(asdict(program))
        step = _CHECK.named(f"check-{name}", f"checks/{name}.json")
        row = cache.step(
            step,
            _check,
            told=Silent(),
            program=program,
            checks=task.checks,
            seed=task.seed,
            python=platform.python_version(),
        )
        return Program.read(**row)

    told.stage("check", "start", "")
    waiting = [index for index, one in enumerate(programs) if one.rejected is None]
    with ThreadPoolExecutor(cpu_count()) as pool:
        futures = {pool.submit(judge, programs[index]): index for index in waiting}
        try:
            done = told.track(as_completed(futures), len(futures), "check")
            judged = {futures[future]: future.result() for future in done}
        except BaseException:
            # What is under way is waited for, and kept.
            pool.shutdown(cancel_futures=True)
            raise
    seconds = sum(one.seconds for one in judged.values())
    told.stage("check", "done", f"{seconds:.1f}")
    return [judged.get(index, one) for index, one in enumerate(programs)]


def _check(program: Program, checks: CodeChecks, seed: int, python: str) -> dict[str, Any]:
    return asdict(check_program(program, checks, seed))


def _summary(
    task: CodeTask, programs: Sequence[Program], client: LLMClient, directory: RunDirectory
) -> CodeSummary:
    asked = task.source is None
    writers = [client.info.name] if asked else dict.fromkeys(one.source for one in programs)
    return CodeSummary(
        japagen=japagen.__version__,
        created=directory.created,
        task=task.name,
        description=task.description,
        generator="、".join(writers),
        terms=client.info.terms.summary if asked else _UNKNOWN_TERMS,
        counts=_count(programs),
        rejections=count_rejections(programs),
        per_topic=_per(programs, "topic"),
        per_difficulty=_per(programs, "difficulty"),
        mutation_score=task.checks.mutation_score,
        scores={one.id: round(one.score, 4) for one in programs if one.score is not None},
        mutants=sum(one.mutants or 0 for one in programs),
        killed=sum(one.killed or 0 for one in programs),
        sandbox_seconds=round(sum(one.seconds for one in programs), 1),
        python=platform.python_version(),
        cost=dict(client.cost()[0]) if asked else {},
    )


_UNKNOWN_TERMS = "The programs came from a file: check the terms of the model that wrote them."


def _count(programs: Sequence[Program]) -> ProgramCounts:
    return ProgramCounts(written=len(programs), kept=sum(one.rejected is None for one in programs))


def _per(programs: Sequence[Program], name: str) -> dict[str, ProgramCounts]:
    values = dict.fromkeys(getattr(one, name) for one in programs)
    return {
        value: _count([one for one in programs if getattr(one, name) == value]) for value in values
    }


def plan(task: CodeTask, out: Path | None, number: int | None) -> dict[str, Any]:
    """What a run would ask; see `estimate_requests`."""
    examples = _examples(task)
    if task.source:
        texts = len(read_programs(task.source))
        source = {"name": task.source.stem, "file": task.source.name, "texts": texts}
        return {**NOTHING_ASKED, "sources": [source]}
    with closing(load_generator(task.generator)) as generator:
        prompts = PromptLibrary(task.generation.prompts)
        requests = plan_programs(task, examples, prompts, generator.info)
        return estimate_requests(task, requests, generator, out or Path("runs") / task.name, number)


def preview(task: CodeTask, number: int) -> list[dict[str, Any]]:
    """The first prompts with what they are answered, or the first programs of a file."""
    examples = _examples(task)
    if task.source:
        programs = read_programs(task.source)[:number]
        return [_row(program, task.source.stem, "", "") for program in programs]
    with closing(load_generator(task.generator)) as generator:
        prompts = PromptLibrary(task.generation.prompts)
        requests = plan_programs(task, examples, prompts, generator.info)[:number]
        sent, answers, failures = ask_unrecorded(task, requests, generator)
        programs = to_programs(sent, answers, failures, generator.info.name)
    return [
        _row(program, "generator", prompt_text(request), request.template)
        for program, request in zip(programs, sent, strict=True)
    ]


def _row(program: Program, source: str, prompt: str, template: str) -> dict[str, Any]:
    parts = [program.instruction, program.solution, program.tests]
    return preview_row(
        source=source,
        label=program.topic,
        register=program.difficulty,
        template=template,
        prompt=prompt,
        texts=parts,
        text="" if program.rejected else "\n\n".join(parts),
        error=program.rejected.detail if program.rejected else "",
    )


def summary(path: Path) -> CodeSummary:
    """What a finished run came to."""
    task_of(path)
    return CodeSummary.load(path)


def report(path: Path, language: Literal["ja", "en"]) -> str:
    """The HTML report of a finished run."""
    from japagen.reporting.code import render_report

    task_of(path)
    return render_report(CodeSummary.load(path), load_programs(path), language=language)


def export(
    path: Path, output: Path, form: str | None, *, rejected: bool, overwrite: bool
) -> list[Path]:
    """Writes the programs of a run with their card."""
    from japagen.reporting.code import program_card

    task_of(path)
    return export_rows(
        CODE_EXPORTS,
        form or "jsonl",
        output,
        load_programs(path),
        card=program_card(CodeSummary.load(path)),
        rejected=rejected,
        overwrite=overwrite,
    )
