"""The order of the steps; the only place that composes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from japagen.config.generation import STRATEGY
from japagen.config.sources import Source, SourceEntry, given_sources
from japagen.config.task import Task
from japagen.config.task_data import load_data, load_sources, with_kept_data
from japagen.curation.filters import keep_code
from japagen.data.dataset import SYNTHESISED, Data, Dataset
from japagen.data.files import read_json, write_text
from japagen.data.formats import write_examples
from japagen.data.summary import RunSummary
from japagen.errors import JapagenError
from japagen.generation import coverage
from japagen.generation.fields import measure_fields
from japagen.listener import Listener, Logged, Silent
from japagen.llm.backend import Generator
from japagen.llm.backends.offline import HERE, Elsewhere
from japagen.llm.client import LLMClient
from japagen.llm.ledger import Ledger, ledger_errors
from japagen.pipeline import deployment, sources, summary
from japagen.pipeline.cache import Cache, Step
from japagen.pipeline.comparison import provenance_of
from japagen.pipeline.context import RunContext, TaskContext, TextEncoder
from japagen.pipeline.run_directory import Run, RunDirectory, record_version, task_of
from japagen.pipeline.steps import align, baselines, curate, generate, labels, synthesis, train
from japagen.reporting.browser import Provenance
from japagen.reporting.cards import model_card
from japagen.reporting.text import Language, Words

# A file or texts in memory; a list of them, or a mapping from the names of their writers.
Given = str | Path | Source | SourceEntry | Data
Until = Literal["generate", "curate", "align", "train", "report"]
STAGES: tuple[Until, ...] = ("generate", "curate", "align", "train", "report")
_SOURCES = Step("sources", 2, ("written.parquet",))
_REPORT = Step("report", 3, ("report.html",))


def run(
    task: Task,
    out: str | Path | None = None,
    *,
    synthetic: Given | Sequence[Given] | Mapping[str, Given] | None = None,
    until: Until = "report",
    generator: Generator | None = None,
    elsewhere: Elsewhere = HERE,
    listener: Listener | None = None,
    progress: bool = True,
) -> Run:
    """Runs a task to the end, or goes on where an earlier run of it stopped.

    Args:
        task: What is asked for.
        out: The run directory; ``runs/NAME`` when None, ``runs/NAME.part2of5`` for a part.
        synthetic: Texts that LLMs wrote, in place of the task's sources: files, one or several; a
            `Dataset`, DataFrame or list of records; or any of them by the name of its writer. A
            file without a name is called as it is.
        until: The last stage to run.
        generator: A backend to use in place of the task's.
        elsewhere: What of its requests is answered elsewhere; nothing by default.
        listener: Told of the progress in place of the log and of bars.
        progress: Whether to show bars.

    Returns:
        The run. Its parts are read when they are asked for.

    Raises:
        AwaitedError: If what comes next is answered elsewhere.
        JapagenError: For everything the user can put right.
    """
    if synthetic is not None:
        task = task.model_copy(update={"sources": given_sources(synthetic)})
    # What can be wrong is found before anything is written or asked for.
    data = load_data(task)
    given = load_sources(task)
    wanted = STAGES[: STAGES.index(until) + 1]
    if "align" in wanted:
        from japagen.training.encoder import check_encoder

        check_encoder(task.training.encoder)
        if task.generation.strategy == STRATEGY:
            from japagen.llm.backends.huggingface import generator_checkpoint

            generator_checkpoint(task.generator)
    directory = RunDirectory(out or elsewhere.directory(task.name), task.name)
    try:
        told = listener or Logged(bars=progress)
        task = with_kept_data(task, directory.file("given"))
        ledger = directory.file("ledger.sqlite")
        with closing(LLMClient(task, generator, ledger, told, elsewhere)) as client:
            run = RunContext(
                **vars(TaskContext.open(task, data)),
                encoder=TextEncoder(task.training),
                client=client,
                cache=Cache(directory, told),
                listener=told,
            )
            _go(run, given, wanted)
    finally:
        directory.release()
    return Run(directory.path)


def merge_parts(runs: Sequence[Path], out: Path) -> int:
    """Joins the answers of runs of one task, so that a run of it goes on with all of them.

    The runs stay as they are, and may be merged again when they have more; the directory is made if
    it does not exist.

    Returns:
        How many requests are answered.

    Raises:
        JapagenError: If one is no run, or one of another task.
    """
    names = [task_of(path) for path in runs]
    ledgers = [path / "ledger.sqlite" for path in runs]
    if missing := [path for path in ledgers if not path.is_file()]:
        raise JapagenError(f"Expected the answers of a run in {missing[0]}, found none.")
    directory = RunDirectory(out, names[0])
    try:
        for path, name in zip(runs, names, strict=True):
            if name != names[0]:
                raise JapagenError(
                    f"{path} belongs to the task '{name}', {runs[0]} to '{names[0]}'.",
                    "Merge runs of one task.",
                )
        target = directory.file("ledger.sqlite")
        with ledger_errors(target), closing(Ledger(target)) as ledger:
            for path in ledgers:
                ledger.take(path)
            return int(ledger.totals()["answers"])
    finally:
        directory.release()


def step_versions() -> dict[str, int]:
    """The version of every step's code, for those who keep what came of them elsewhere."""
    modules = (align, baselines, curate, deployment, generate, labels, synthesis, train)
    found = [_SOURCES, _REPORT, *(v for m in modules for v in vars(m).values())]
    return {step.name: step.version for step in found if isinstance(step, Step)}


def _go(run: RunContext, given: Mapping[str, Dataset], wanted: Sequence[Until]) -> None:
    """Runs the wanted stages, on generated texts and those ``given`` by source."""
    task = run.task
    here = run.cache.directory.path
    keep_code(task.curation.validators, here)
    write_text(here / "task.yaml", task.to_yaml(here))
    for note in run.data.notes:
        run.listener.note(note)
    parts = summary.Parts(task=task, data=run.data, gold=run.gold)
    asks = task.generator_source is not None

    passages, texts = _write(run, parts, given)
    parts.dataset = texts
    text_filter = curate.TextFilter.of(run, passages)
    if "curate" in wanted:
        written = texts
        texts = curate.curate(run, written, text_filter)
        texts = curate.hold_registers(run, texts, text_filter, ask=asks)
        if asks:
            texts = curate.refine_doubtful(run, texts, text_filter)
        texts = curate.judge_texts(run, texts)
        parts.reported["audit"] = curate.run_audit(run, written, texts)
    if "align" in wanted:
        checked = labels.check_labels(run, texts, ask=asks)
        parts.reliability = checked.reliability
        texts, verified = curate.apply_reviews(run, checked.dataset, text_filter)
        align.embed_texts(run, texts)
        texts = align.select_texts(run, texts)
        made = synthesis.replace_texts(run, texts, text_filter, verified)
        texts, parts.reported["gradient_matching"] = made.dataset, made.found
        if made.found:
            # People may have decided on texts that an earlier run wrote.
            texts, _ = curate.apply_reviews(run, texts, text_filter, SYNTHESISED)
        texts, parts.reported["alignment"] = align.align(run, texts)
        parts.reported["diversity"] = align.measure_diversity(run, texts)
        parts.distances = align.measure_distances(run, texts)
    parts.dataset = texts
    if "train" in wanted:
        chosen = _train(run, parts, texts, asks=asks)
        if "report" in wanted:
            _report(run, parts, texts, chosen)


def _write(
    run: RunContext, parts: summary.Parts, given: Mapping[str, Dataset]
) -> tuple[Sequence[str], Dataset]:
    """The passages that prompts showed, and the texts of all sources in the task's order."""
    written = dict(given)
    passages: Sequence[str] = ()
    if own := run.task.generator_source:
        made = generate.generate(run)
        written[own], passages = made.dataset, made.passages
        parts.rounds, parts.named = list(made.rounds), made.named
        parts.reported["until"] = made.until
        parts.generator = run.client.info
    ordered = {source.name: written[source.name] for source in run.task.sources}
    # Joining takes no time, and the texts themselves have been told of.
    texts = run.cache.step(_SOURCES, sources.join_sources, told=Silent(), written=ordered)
    return passages, texts


def _train(run: RunContext, parts: summary.Parts, texts: Dataset, *, asks: bool) -> Dataset | None:
    """Decides what to train on, trains, and returns the synthetic texts that were trained on."""
    from japagen.training.encoder import encoder_identity

    mix = align.mix_sources(run, texts, parts.reliability)
    chosen = mix.of(texts)
    worth = align.find_worth(run, chosen, mix)
    parts.reported["mix"] = {**asdict(mix), **(worth or {})}
    parts.values = {name: sources.value_of(name, mix, worth) for name in mix.sources}
    parts.pseudo = labels.pseudo_label(run, chosen, mix.text_weight, ask=asks)
    asked = [baselines.zero_shot(run)] if asks else []
    # Training needs the memory, and asks nothing.
    run.client.close()
    run.encoder.release()
    parts.reported["encoder"] = encoder_identity(run.encoder.name)
    parts.baselines = [*baselines.fit_baselines(run, texts), *asked]
    trained = train.train_classifiers(run, chosen, mix.share, parts.pseudo.labels)
    parts.with_synthetic, parts.gold_only = trained.with_synthetic, trained.gold_only
    _, on_test = trained.with_synthetic[0]
    deployment.keep_reference(run, trained.shipped, on_test, parts.pseudo.texts)
    parts.latency = align.measure_latency(run, texts, trained.shipped)
    return chosen


def _report(run: RunContext, parts: summary.Parts, texts: Dataset, chosen: Dataset | None) -> None:
    """Leaves the metrics, the examples, the model card and the report."""
    directory, task = run.cache.directory, run.task
    parts.seconds, peaks = run.cache.took("seconds"), run.cache.took("peak_bytes")
    for figures in (parts.seconds, peaks):
        figures.pop(_REPORT.name, None)
    if parts.generator:
        parts.cost, parts.seconds["generate"] = run.client.cost()
    errors = train.errors_of(task, run.data, parts.with_synthetic)
    used = chosen.kept if chosen is not None else None
    version = record_version(directory.file("versions.json"), texts, task)
    parts.reported |= {
        "created": directory.created,
        "peak_bytes": peaks,
        "text_fields": measure_fields(task, texts, run.analyzer),
        "judge": curate.judge_summary(run, texts),
        **align.map_texts(run, texts),
        "errors": align.with_nearest(run, errors, used, parts.pseudo.texts),
        "dataset": {name: version[name] for name in ("hash", "parent")},
    }
    if coverage.wants_coverage(task):
        covered = coverage.measure_coverage(task, texts, parts.named, run.analyzer.tagger)
        parts.reported["coverage"] = covered
    found = summary.collect(parts)
    found.save(directory.file("metrics.json"))
    if found.tests:
        write_text(directory.file("junit.xml"), summary.junit(found.tests, task.name))
    else:
        directory.file("junit.xml").unlink(missing_ok=True)
    write_examples(directory.file("examples.jsonl"), texts)
    card = read_json(directory.file(train.MODEL, "japagen.json"))
    bi_encoder = "pair_head" in card
    language = Words().language
    readme = model_card(
        found, task.training.encoder, card["prefix"], bi_encoder=bi_encoder, language=language
    )
    write_text(directory.file(train.MODEL, "README.md"), readme)
    # What else is known of the texts is found by their ids.
    known = {"known": provenance_of(Run(directory.path))}
    run.cache.step(_REPORT, _rendered, uses=known, metrics=found, texts=texts, language=language)


def _rendered(metrics: RunSummary, texts: Dataset, language: Language, known: Provenance) -> str:
    from japagen.reporting.report import render_report

    return render_report(metrics, texts, language=language, known=known)
