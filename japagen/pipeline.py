"""The order of the stages; the only place that composes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import yaml

from japagen import generation, metrics
from japagen.curation.filters import curate
from japagen.data import TaskData, load_data, load_synthetic
from japagen.errors import JapagenError
from japagen.examples import Dataset
from japagen.files import atomic, digest, read_json, write_json, write_text
from japagen.formats import load_dataset, write_examples
from japagen.generators.base import Generator, GeneratorInfo, Request
from japagen.japanese.own_honorifics import read_honorifics
from japagen.japanese.register_detection import RegisterAnalyzer
from japagen.ledger import Ledger
from japagen.listeners import Listener, Silent
from japagen.prompts import PromptLibrary
from japagen.results import Run
from japagen.runs import RunDirectory
from japagen.tasks import Source, Task

Until = Literal["generate", "curate", "align", "train", "report"]
STAGES: tuple[Until, ...] = ("generate", "curate", "align", "train", "report")
# Raised when a stage's code changes what it makes from the same inputs.
_VERSIONS = {"generate": 1, "curate": 1, "align": 1, "train": 1, "report": 1}


def run(
    task: Task,
    out: str | Path | None = None,
    *,
    synthetic: str | Path | Source | None = None,
    until: Until = "report",
    generator: Generator | None = None,
    listener: Listener | None = None,
) -> Run:
    """Runs a task to the end, or goes on where an earlier run of it stopped.

    Args:
        task: What is asked for.
        out: The run directory; ``runs/NAME`` when None.
        synthetic: A file of texts that any LLM wrote, in place of generation.
        until: The last stage to run.
        generator: A backend to use in place of the task's.
        listener: Told of the progress.

    Returns:
        The run. Its parts are read when they are asked for.

    Raises:
        JapagenError: For everything the user can put right.
    """
    directory = RunDirectory(out or Path("runs") / task.name, task.name)
    try:
        pipeline = _Pipeline(task, directory, listener or Silent(), generator)
        if isinstance(synthetic, str | Path):
            synthetic = Source(path=Path(synthetic))
        pipeline.go(synthetic, until)
    finally:
        directory.release()
    return Run(directory.path)


def plan(
    task: Task, data: TaskData, info: GeneratorInfo, gold: Dataset | None = None
) -> list[Request]:
    """The requests a task would send, in order.

    Args:
        task: The task.
        data: Its texts.
        info: Who would answer.
        gold: Gold with registers already found; found here when None.
    """
    analyzer = load_analyzer(task)
    if gold is None and data.gold is not None:
        gold = find_registers(data.gold, analyzer)
    unlabelled = data.unlabelled
    if task.registers == "from_gold" and unlabelled is not None:
        unlabelled = find_registers(unlabelled, analyzer)
    shares = generation.register_shares(task, gold, unlabelled)
    prompts = PromptLibrary(task.generation.prompts)
    return generation.plan_requests(task, gold, shares, prompts, info)


def load_analyzer(task: Task) -> RegisterAnalyzer:
    """Opens the dictionary and the list of honorifics that a task names.

    Raises:
        JapagenError: If one of them cannot be read.
    """
    honorifics = task.japanese.honorifics
    if isinstance(honorifics, Path):
        honorifics = read_honorifics(honorifics)
    return RegisterAnalyzer(task.japanese.user_dictionary, honorifics)


def find_registers(data: Dataset, analyzer: RegisterAnalyzer) -> Dataset:
    """Fills in the register seen in every text."""
    return data.with_registers([r.register for r in analyzer.analyze_all(data.texts)])


class _Pipeline:
    """One run: the task, its directory, and the stages in order."""

    def __init__(
        self,
        task: Task,
        directory: RunDirectory,
        listener: Listener,
        generator: Generator | None,
    ) -> None:
        self.task = task
        self.directory = directory
        self.listener = listener
        self.generator = generator
        self.data = load_data(task)
        self.analyzer = load_analyzer(task)
        gold = self.data.gold
        self.gold = find_registers(gold, self.analyzer) if gold is not None else None

    def go(self, synthetic: Source | None, until: Until) -> None:
        self._write_task()
        parts = metrics.Parts(task=self.task, data=self.data, gold=self.gold)
        wanted = STAGES[: STAGES.index(until) + 1]
        if synthetic is None:
            parts.dataset, parts.generator, parts.cost = self.generate()
        else:
            parts.dataset = load_synthetic(self.task, synthetic)
            parts.synthetic_file = Path(synthetic.path).name
        if "curate" in wanted:
            parts.dataset = self.curate(parts.dataset)
        if "align" in wanted:
            parts.dataset, parts.alignment = self.align(parts.dataset)
        if "train" in wanted:
            self.fit(parts)
        if "report" in wanted:
            self.report(parts)

    def _write_task(self) -> None:
        text = yaml.safe_dump(
            self.task.model_dump(mode="json"), allow_unicode=True, sort_keys=False
        )
        write_text(self.directory.file("task.yaml"), text)

    def _stage(
        self,
        name: str,
        outputs: Sequence[str],
        fingerprint: Mapping[str, Any],
        listener: Listener | None = None,
        **how: Any,
    ) -> Any:
        listener = listener or self.listener
        version = _VERSIONS[name.split("-")[0]]
        return self.directory.stage(
            name,
            {"version": version, **fingerprint},
            outputs,
            say=lambda news, detail: listener.stage(name, news, detail),
            **how,
        )

    def _dataset_stage(
        self,
        name: str,
        output: str,
        fingerprint: Mapping[str, Any],
        make: Callable[[], Dataset],
        listener: Listener | None = None,
    ) -> Dataset:
        made: Dataset = self._stage(
            name,
            [output],
            fingerprint,
            listener,
            make=make,
            save=write_examples,
            load=load_dataset,
        )
        return made

    def generate(self) -> tuple[Dataset, GeneratorInfo, Mapping[str, float]]:
        from japagen.generators.loading import load_generator

        generator = self.generator or load_generator(self.task.generator)
        info = generator.info
        requests = plan(self.task, self.data, info, self.gold)
        with closing(Ledger(self.directory.file("ledger.sqlite"))) as ledger, closing(generator):
            ids = [r.id for r in requests]
            missing = len(requests) - len(ledger.answers(ids))
            if missing:
                again = f"{missing} of {len(requests)} to do" if missing < len(requests) else ""
                self.listener.stage("generate", "start", again)
            answers = generation.run_requests(requests, generator, ledger, self._track_answers)
            failures = ledger.failures(ids)
            cost = ledger.totals()
        if missing:
            self.listener.stage("generate", "done", f"{cost['wall_seconds']:.1f}")
        if failures:
            reason = next(iter(failures.values()))
            self.listener.note(
                f"{len(failures)} of {len(requests)} requests have no answer ({reason}); "
                "the same command tries them again."
            )
        if not answers:
            raise JapagenError(
                f"None of {len(requests)} requests was answered.",
                f"The first reason: {next(iter(failures.values()), 'unknown')}",
            )
        fingerprint = {
            "requests": digest(ids),
            "answers": digest({key: answers[key].text for key in sorted(answers)}),
        }
        dataset = self._dataset_stage(
            "generate",
            "generated.parquet",
            fingerprint,
            lambda: generation.to_dataset(requests, answers, failures, info.name),
            # What was just answered has been told; the file it goes to is no news.
            listener=Silent() if missing else self.listener,
        )
        return dataset, info, cost

    def _track_answers(self, answers: Any, total: int) -> Any:
        return self.listener.track(answers, total, "generate")

    def curate(self, dataset: Dataset) -> Dataset:
        prompts = PromptLibrary(self.task.generation.prompts)
        phrases = [
            phrase
            for register in prompts.registers.values()
            for phrase in [register["description"], *register["examples"]]
        ]
        fingerprint = {
            "examples": dataset.fingerprint,
            "curation": self.task.curation.model_dump(mode="json"),
            "gold": self._print(self.gold),
            "prompts": digest(phrases),
            "japanese": self.analyzer.identity,
        }

        def make() -> Dataset:
            rows = self.listener.track(dataset.texts, len(dataset), "curate")
            reports = self.analyzer.analyze_all(rows)
            seen = dataset.with_registers([r.register for r in reports])
            return curate(seen, self.task.curation, self.gold, phrases)

        curated = self._dataset_stage("curate", "curated.parquet", fingerprint, make)
        if not curated.kept_mask.any():
            counts = metrics.rejection_counts(curated)
            raise JapagenError(
                f"Curation rejected all {len(curated)} examples: {counts}.",
                f"Read {self.directory.file('curated.parquet')} and loosen curation in the task.",
            )
        return curated

    @staticmethod
    def _print(data: Dataset | None) -> str | None:
        return data.fingerprint if data is not None else None

    def align(self, dataset: Dataset) -> tuple[Dataset, dict[str, Any]]:
        from japagen.alignment.alignment import align_datasets

        fingerprint = {
            "examples": dataset.fingerprint,
            "gold": self._print(self.gold),
            "unlabelled": self._print(self.data.unlabelled),
            "label_prior": self.task.label_prior,
            "alignment": self.task.alignment.model_dump(mode="json"),
            "dictionary": self.analyzer.tagger.identity,
            "seed": self.task.seed,
        }

        def make() -> tuple[Dataset, dict[str, Any]]:
            alignment = align_datasets(
                dataset,
                self.gold,
                self.data.unlabelled,
                label_prior=self.task.label_prior,
                method=self.task.alignment.method,
                floor=self.task.alignment.floor,
                seed=self.task.seed,
                tagger=self.analyzer.tagger,
            )
            aligned = dataset.with_columns(weight_distribution=alignment.weights)
            return aligned, alignment.to_dict()

        def save(path: Path, made: tuple[Dataset, dict[str, Any]]) -> None:
            write_json(self.directory.file("alignment.json"), made[1])
            write_examples(path, made[0])

        def load(path: Path) -> tuple[Dataset, dict[str, Any]]:
            return load_dataset(path), read_json(self.directory.file("alignment.json"))

        made: tuple[Dataset, dict[str, Any]] = self._stage(
            "align",
            ["aligned.parquet", "alignment.json"],
            fingerprint,
            make=make,
            save=save,
            load=load,
        )
        return made

    def fit(self, parts: metrics.Parts) -> None:
        """Trains with and without synthetic text, for every seed, and scores both."""
        from japagen.training.encoders import encoder_identity

        parts.encoder = encoder_identity(self.task.training.encoder)
        for offset in range(self.task.training.seeds):
            seed = self.task.seed + offset
            with_synthetic = self._fit_one(parts.dataset, seed, f"train-synthetic-{seed}")
            parts.with_synthetic.append((seed, with_synthetic))
            if self.data.gold is not None and self.data.test is not None:
                gold_only = self._fit_one(None, seed, f"train-gold-{seed}")
                parts.gold_only.append((seed, gold_only))

    def _fit_one(self, dataset: Dataset | None, seed: int, name: str) -> npt.NDArray[np.float64]:
        """Trains one classifier and returns its probabilities on the test texts."""
        from japagen.training.encoders import encoder_identity

        settings = self.task.training
        test = self.data.test
        fingerprint = {
            "examples": self._print(dataset),
            "gold": self._print(self.data.gold),
            "test": self._print(test),
            "training": settings.model_dump(mode="json", exclude={"seeds"}),
            "encoder": encoder_identity(settings.encoder),
            "labels": list(self.task.labels),
        }
        saves_model = dataset is not None and seed == self.task.seed

        def make() -> npt.NDArray[np.float64]:
            from japagen.training.fitting import train

            classifier = train(
                dataset,
                self.data.gold,
                encoder=settings.encoder,
                labels=list(self.task.labels),
                settings=settings,
                seed=seed,
                progress=lambda steps, total: self.listener.track(steps, total, name),
            )
            if saves_model:
                classifier.save(self.directory.file("model"))
            if test is None:
                return np.zeros((0, len(self.task.labels)))
            return classifier.probabilities(test.texts, test.column("text_pair"))

        made: npt.NDArray[np.float64] = self._stage(
            name,
            [f"predictions/{name}.npy", *(["model"] if saves_model else [])],
            fingerprint,
            make=make,
            save=_save_array,
            load=lambda path: np.load(path, allow_pickle=False),
        )
        return made

    def report(self, parts: metrics.Parts) -> None:
        seconds = self.directory.seconds()
        seconds.pop("report", None)
        if parts.cost:
            seconds["generate"] = parts.cost["wall_seconds"]
        parts.seconds = seconds
        found = {"created": self.directory.created, **metrics.collect(parts)}
        write_json(self.directory.file("metrics.json"), found)
        assert parts.dataset is not None
        write_examples(self.directory.file("examples.jsonl"), parts.dataset)
        fingerprint = {"metrics": found, "examples": parts.dataset.fingerprint}

        def make() -> str:
            from japagen.reporting.report import render_report

            return render_report(found, dataset, language="ja")

        dataset = parts.dataset
        self._stage(
            "report",
            ["report.html"],
            fingerprint,
            make=make,
            save=write_text,
            load=lambda path: path.read_text(encoding="utf-8"),
        )


def _save_array(path: Path, array: npt.NDArray[np.float64]) -> None:
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
