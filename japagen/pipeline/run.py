"""The order of the stages; the only place that composes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from japagen.config.sections import STRATEGY, Source, SourceEntry, Sources
from japagen.config.task import Task, sources_from_files
from japagen.config.task_data import TaskData, load_data, load_sources
from japagen.curation.filters import filter_inputs, filter_texts
from japagen.curation.register_control import (
    Rewritten,
    Wanted,
    control_registers,
    rewrite_by_model,
    rewrite_by_rules,
)
from japagen.data.dataset import SYNTHESISED, Dataset
from japagen.data.files import digest, read_json, write_text
from japagen.data.formats import write_examples
from japagen.data.summary import RunSummary
from japagen.errors import JapagenError
from japagen.generation import coverage, planner
from japagen.listener import Listener, Silent
from japagen.llm.backend import Answer, Generator, Request
from japagen.llm.client import Asker
from japagen.llm.prompts import PromptLibrary
from japagen.mixing.mix import Mix
from japagen.pipeline import summary
from japagen.pipeline.cache import StageRunner, fingerprint_of
from japagen.pipeline.deployment import keep_reference
from japagen.pipeline.refining import refine_doubtful
from japagen.pipeline.run_directory import Run, RunDirectory, record_version
from japagen.pipeline.sources import join_sources, only_of, value_of
from japagen.pipeline.steps.align import Measuring, Vectors, Weighting, select_texts
from japagen.pipeline.steps.baselines import Baselines, zero_shot
from japagen.pipeline.steps.curate import apply_reviews, run_audit
from japagen.pipeline.steps.generate import (
    Rounds,
    find_registers,
    generate_pairs,
    load_analyzer,
    plan,
)
from japagen.pipeline.steps.labels import LabelChecker, pseudo_label, without_learnt
from japagen.pipeline.steps.synthesis import replace_texts
from japagen.pipeline.steps.train import MODEL, Arms, errors_of
from japagen.reporting.cards import model_card

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier

Given = str | Path | Source | SourceEntry
Until = Literal["generate", "curate", "align", "train", "report"]
STAGES: tuple[Until, ...] = ("generate", "curate", "align", "train", "report")
# Keys of `Curation` that no filter reads.
_LABEL_KEYS = {"label_miss", "label_confidence"}
_REGISTER_KEYS = {"register_miss", "rewrite_attempts", *_LABEL_KEYS}


def run(
    task: Task,
    out: str | Path | None = None,
    *,
    synthetic: Given | Sequence[Given] | None = None,
    until: Until = "report",
    generator: Generator | None = None,
    listener: Listener | None = None,
) -> Run:
    """Runs a task to the end, or goes on where an earlier run of it stopped.

    Args:
        task: What is asked for.
        out: The run directory; ``runs/NAME`` when None.
        synthetic: Files of texts that LLMs wrote, one or several, in place of the task's sources.
            One without a name is called as its file is.
        until: The last stage to run.
        generator: A backend to use in place of the task's.
        listener: Told of the progress.

    Returns:
        The run. Its parts are read when they are asked for.

    Raises:
        JapagenError: For everything the user can put right.
    """
    if synthetic is not None:
        task = task.model_copy(update={"sources": _given(synthetic)})
    # What can be wrong is found before anything is written or asked for.
    data = load_data(task)
    given = load_sources(task)
    if STAGES.index(until) >= STAGES.index("align"):
        from japagen.training.encoder import check_encoder

        check_encoder(task.training.encoder)
        if task.generation.strategy == STRATEGY:
            from japagen.llm.backends.huggingface import generator_checkpoint

            generator_checkpoint(task.generator)
    directory = RunDirectory(out or Path("runs") / task.name, task.name)
    try:
        pipeline = _Pipeline(task, data, directory, listener or Silent(), generator)
        with closing(pipeline.asker):
            pipeline.go(given, until)
    finally:
        directory.release()
    return Run(directory.path)


def _given(synthetic: Given | Sequence[Given]) -> Sources:
    listed = [synthetic] if isinstance(synthetic, str | Path | Source | SourceEntry) else synthetic
    return sources_from_files(
        Source(path=Path(one)) if isinstance(one, str | Path) else one for one in listed
    )


class _Pipeline:
    """One run: the task, its directory, and the stages in order."""

    def __init__(
        self,
        task: Task,
        data: TaskData,
        directory: RunDirectory,
        listener: Listener,
        generator: Generator | None,
    ) -> None:
        self.task = task
        self.directory = directory
        self.listener = listener
        path = directory.file("ledger.sqlite")
        self.asker = Asker(task, generator, path, listener)
        self.stages = StageRunner(directory, listener)
        self.data = data
        self.arms = Arms(task, data, self.stages)
        self.baselines = Baselines(task, data, self.stages)
        self.analyzer = load_analyzer(task)
        self.passages: list[str] = []
        gold = self.data.gold
        self.gold = find_registers(gold, self.analyzer) if gold is not None else None
        self.measuring = Measuring(task, data, self.gold, self.stages)
        self.weighting = Weighting(task, data, self.gold, self.analyzer, self.stages)
        self.vouched: set[str] = set()
        self.vectors: Vectors = []
        self.chosen: Dataset | None = None

    def go(self, given: Mapping[str, Dataset], until: Until) -> None:
        """Runs the stages as far as ``until``, on generated texts and those ``given`` by source."""
        write_text(self.directory.file("task.yaml"), self.task.to_yaml())
        parts = summary.Parts(task=self.task, data=self.data, gold=self.gold)
        wanted = STAGES[: STAGES.index(until) + 1]
        asks = self.task.generator_source is not None
        parts.dataset = self.write(parts, given)
        if "curate" in wanted:
            written = parts.dataset
            parts.dataset = self.curate(written)
            parts.dataset = self.hold_registers(parts.dataset, ask=asks)
            if asks:
                parts.dataset = self.refine(parts.dataset)
            parts.audit = run_audit(
                self.stages, self.task, written, parts.dataset, self.gold, self.analyzer.tagger
            )
        if "align" in wanted:
            checker = LabelChecker(self.task, self.data, self.asker, self.stages)
            checked = checker.check(parts.dataset, ask=asks)
            parts.dataset, parts.reliability = checked.dataset, checked.reliability
            self._need_some(parts.dataset, "trusted.parquet")
        if "align" in wanted:
            parts.dataset = self.reviewed(parts.dataset)
            vectors = self.measuring.vectors(parts.dataset)
            parts.dataset = select_texts(self.task, parts.dataset, self.gold, vectors, self.stages)
            vectors = self.vectors = self.synthesise(parts, vectors)
            parts.dataset, parts.alignment = self.weighting.align(parts.dataset, vectors)
            tagger = self.analyzer.tagger
            parts.diversity = self.measuring.diversity(parts.dataset, vectors, tagger)
            parts.distances = self.measuring.distances(parts.dataset, tagger)
        if "train" in wanted:
            mix = self.weigh_sources(parts, asks=asks)
            asked = [zero_shot(self.task, self.data, self.asker, self.stages)] if asks else []
            # Training needs the memory, and asks nothing.
            self.asker.close()
            parts.baselines = [*self.baselines.fit(parts.dataset, self.arms.seeds), *asked]
            self.fit(parts, mix.share)
            self._keep_reference(parts)
            parts.latency = self.measuring.latency(parts.dataset, self._classifier)
        if "report" in wanted:
            self.report(parts)

    def write(self, parts: summary.Parts, given: Mapping[str, Dataset]) -> Dataset:
        """The texts of all sources, in the task's order."""
        written = dict(given)
        if own := self.task.generator_source:
            written[own] = self.generate(parts)
            parts.generator = self.asker.info
        ordered = {source.name: written[source.name] for source in self.task.sources}
        return self.stages.dataset(
            "sources",
            "written.parquet",
            {"sources": [[name, texts.fingerprint] for name, texts in ordered.items()]},
            lambda: join_sources(ordered),
            # Joining takes no time, and the texts themselves have been told of.
            Silent(),
        )

    def generate(self, parts: summary.Parts) -> Dataset:
        info = self.asker.info
        if self.task.pair:
            requests = plan(self.task, self.data, info, self.gold)
            self.passages = coverage.passages_in(requests)
            return generate_pairs(self.task, self.gold, requests, self.asker, self.stages)
        rounds = Rounds(
            self.task,
            self.data,
            self.gold,
            self.analyzer,
            self.asker,
            self.stages,
            self.listener,
        )
        made = rounds.generate()
        requests, answers, failures = made.requests, made.answers, made.failures
        parts.rounds, parts.named = made.rounds, coverage.named_in(requests)
        self.passages = coverage.passages_in(requests)
        fingerprint = {
            "requests": digest([r.id for r in requests]),
            "answers": digest({key: answers[key].text for key in sorted(answers)}),
        }
        return self.stages.dataset(
            "generate",
            "generated.parquet",
            fingerprint,
            lambda: planner.to_dataset(
                requests, answers, failures, info.name, self.task.label_space().label
            ),
            # What was just answered has been told; the file it goes to is no news.
            listener=Silent() if made.sent else self.listener,
        )

    def curate(self, dataset: Dataset) -> Dataset:
        phrases = PromptLibrary(self.task.generation.prompts).phrases
        fingerprint = {
            "examples": dataset.fingerprint,
            "curation": self.task.curation.model_dump(mode="json", exclude=_REGISTER_KEYS),
            "gold": fingerprint_of(self.gold),
            "prompts": digest(phrases),
            "japanese": self.analyzer.identity,
            **filter_inputs(self.task, self.passages),
        }

        def make() -> Dataset:
            rows = self.listener.track(dataset.texts, len(dataset), "curate")
            reports = self.analyzer.analyze_all(rows)
            seen = dataset.with_registers([r.register for r in reports])
            return self._filtered(seen, phrases)

        curated = self.stages.dataset("curate", "curated.parquet", fingerprint, make)
        self._need_some(curated, "curated.parquet")
        return curated

    def _filtered(
        self, dataset: Dataset, phrases: Sequence[str], *, again: bool = False
    ) -> Dataset:
        settings = (self.task, dataset, self.gold, phrases, self.analyzer.tagger)
        return filter_texts(*settings, passages=self.passages, again=again)

    def _need_some(self, dataset: Dataset, name: str) -> None:
        if not dataset.kept_mask.any():
            counts = summary.rejection_counts(dataset)
            raise JapagenError(
                f"Curation rejected all {len(dataset)} examples: {counts}.",
                f"Read {self.directory.file(name)} and loosen curation in the task.",
            )

    def hold_registers(self, dataset: Dataset, *, ask: bool) -> Dataset:
        """Keeps, rewrites or rejects what is not in the register asked for.

        Args:
            dataset: Curated examples.
            ask: Whether the generator may be asked to rewrite what it wrote.
        """
        settings, prompts = self.task.curation, PromptLibrary(self.task.generation.prompts)
        phrases = prompts.phrases
        info = self.asker.info if ask and settings.rewrite_attempts else None
        unanswered: list[str] = []

        def send(requests: Sequence[Request]) -> Mapping[str, Answer]:
            asked = self.asker.ask(requests, "rewrite")
            unanswered.extend(asked.failures)
            return asked.answers

        def by_model(wanted: Wanted) -> Sequence[Rewritten]:
            assert info is not None
            return rewrite_by_model(wanted, self.task, prompts, info, self.analyzer, send)

        def make() -> Dataset:
            if settings.register_miss == "ignore":
                return dataset
            controlled, children = control_registers(
                dataset,
                settings.register_miss,
                lambda wanted: rewrite_by_rules(wanted, self.analyzer),
                only_of(self.task.generator_source, by_model) if info else None,
            )
            if children is None:
                return controlled
            both = Dataset.concat([controlled, children])
            return self._filtered(both, phrases, again=True)

        fingerprint = {
            "examples": dataset.fingerprint,
            "curation": settings.model_dump(mode="json", exclude=_LABEL_KEYS),
            "generator": info and info.identity,
            "template": info and prompts.template_hash(f"rewrite.{info.prompt_kind}"),
            "gold": fingerprint_of(self.gold),
            "prompts": digest(phrases),
            "japanese": self.analyzer.identity,
            **filter_inputs(self.task, self.passages),
        }
        held = self.stages.dataset("registers", "registers.parquet", fingerprint, make)
        if unanswered:
            self.directory.forget("registers")
        self._need_some(held, "registers.parquet")
        return held

    def refine(self, dataset: Dataset) -> Dataset:
        """Has doubtful texts criticised and written anew, if the task wants that."""
        refined = refine_doubtful(
            self.task,
            self.gold,
            dataset,
            self.asker,
            self.stages,
            self.analyzer,
            *self._filters_again(),
        )
        self._need_some(refined, "refined.parquet")
        return refined

    def _filters_again(self) -> tuple[Callable[[Dataset], Dataset], dict[str, Any]]:
        """The filters, for texts made of others, and what they depend on."""
        phrases = PromptLibrary(self.task.generation.prompts).phrases
        inputs = {"japanese": self.analyzer.identity, "prompts": digest(phrases)}
        return (
            lambda rows: self._filtered(rows, phrases, again=True),
            {**inputs, **filter_inputs(self.task, self.passages)},
        )

    def synthesise(self, parts: summary.Parts, vectors: Vectors) -> Vectors:
        """Writes texts anew towards gold's gradients, if the task wants that; returns vectors."""
        assert parts.dataset is not None
        made, vectors, parts.matching = replace_texts(
            self.task,
            parts.dataset,
            self.gold,
            vectors,
            self.stages,
            self.analyzer,
            *self._filters_again(),
            self.vouched,
        )
        # People may have decided on texts that an earlier run wrote.
        parts.dataset = self.reviewed(made, SYNTHESISED) if parts.matching else made
        return vectors

    def reviewed(self, dataset: Dataset, source: str | None = None) -> Dataset:
        """Carries in what people decided, on all texts or those of one source, if they did."""
        reviewed, vouched = apply_reviews(dataset, self.stages, source)
        self.vouched |= vouched
        self._need_some(reviewed, "reviewed.parquet")
        return reviewed

    def weigh_sources(self, parts: summary.Parts, *, asks: bool) -> Mix:
        """Decides how much each source weighs, and labels unlabelled texts with what is known."""
        assert parts.dataset is not None
        mix = self.weighting.mix(parts.dataset, parts.reliability)
        chosen = self.chosen = mix.of(parts.dataset)
        worth = self.weighting.worth(chosen, mix)
        parts.mix = {**mix.to_dict(), **(worth or {})}
        parts.values = {name: value_of(name, mix, worth) for name in mix.sources}
        parts.pseudo = pseudo_label(
            self.task,
            self.data,
            self.asker,
            self.stages,
            ask=asks,
            learnt=chosen,
            text_weight=mix.text_weight,
        )
        return mix

    def fit(self, parts: summary.Parts, share: float) -> None:
        """Trains with and without synthetic text, for every seed, and scores both.

        Args:
            parts: What the stages handed over.
            share: Synthetic share of the loss.
        """
        from japagen.training.encoder import encoder_identity

        parts.encoder = encoder_identity(self.task.training.encoder)
        for seed in self.arms.seeds:
            made = self.arms.with_synthetic(self.chosen, seed, share, parts.pseudo.labels)
            parts.with_synthetic.append((seed, made))
            if self.data.gold is not None and self.data.test is not None:
                parts.gold_only.append((seed, self.arms.gold_only(seed)))

    def _keep_reference(self, parts: summary.Parts) -> None:
        assert parts.dataset is not None
        inputs = {
            "examples": parts.dataset.fingerprint,
            "chosen": fingerprint_of(self.chosen),
            "share": parts.mix and parts.mix["share"],
            **({"pseudo": fingerprint_of(texts)} if (texts := parts.pseudo.texts) else {}),
            "seed": self.task.seed,
            **self.arms.inputs(),
        }
        left = without_learnt(self.data, parts.pseudo)
        keep_reference(left, self.stages, inputs, self._classifier)

    def _classifier(self) -> Classifier:
        return Run(self.directory.path).classifier

    def _model_card(self, found: RunSummary) -> str:
        card = read_json(self.directory.file(MODEL, "japagen.json"))
        apart = "pair_head" in card
        return model_card(found, self.task.training.encoder, card["prefix"], apart=apart)

    def report(self, parts: summary.Parts) -> None:
        seconds = self.directory.seconds()
        seconds.pop("report", None)
        if parts.generator:
            parts.cost, seconds["generate"] = self.asker.cost()
        parts.seconds = seconds
        assert parts.dataset is not None
        if coverage.wants_coverage(self.task):
            parts.coverage = coverage.measure_coverage(
                self.task, parts.dataset, parts.named, self.analyzer.tagger
            )
        errors = self.measuring.with_nearest(
            errors_of(self.task, self.data, parts.with_synthetic),
            parts.dataset,
            self.chosen.kept if self.chosen is not None else None,
            parts.pseudo.texts,
            self.vectors,
        )
        found = summary.collect(
            parts,
            errors,
            created=self.directory.created,
            version=record_version(self.directory.file("versions.json"), parts.dataset, self.task),
        )
        found.save(self.directory.file("metrics.json"))
        write_examples(self.directory.file("examples.jsonl"), parts.dataset)
        write_text(self.directory.file(MODEL, "README.md"), self._model_card(found))
        fingerprint = {"metrics": found.to_dict(), "examples": parts.dataset.fingerprint}

        def make() -> str:
            from japagen.reporting.report import render_report

            return render_report(found, dataset, language="ja")

        dataset = parts.dataset
        self.stages.run(
            "report",
            ["report.html"],
            fingerprint,
            make,
            write_text,
            lambda path: path.read_text(encoding="utf-8"),
        )
