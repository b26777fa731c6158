"""What every step of a run works with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from japagen.config.sections import Training
from japagen.config.task import Task
from japagen.config.task_data import TaskData
from japagen.config.yaml_file import read_honorifics
from japagen.curation.filters import check_validators
from japagen.data.dataset import Dataset
from japagen.errors import JapagenError
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.listener import Listener
from japagen.llm.backend import Answer, GeneratorInfo, Request
from japagen.llm.client import LLMClient
from japagen.llm.prompts import PromptLibrary
from japagen.pipeline.cache import Cache, Step

if TYPE_CHECKING:
    from japagen.training.encoder import Encoder
    from japagen.training.trainer import FrozenTraining

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TaskContext:
    """A task and what it is read with: all that requests are planned by.

    Attributes:
        task: The task.
        data: Its texts.
        gold: Training gold with the registers seen in it, or None.
        analyzer: Finds registers and words.
        prompts: The templates.
    """

    task: Task
    data: TaskData
    gold: Dataset | None
    analyzer: RegisterAnalyzer
    prompts: PromptLibrary

    @classmethod
    def open(cls, task: Task, data: TaskData) -> TaskContext:
        """Opens the dictionary, the list of honorifics and the templates that a task names.

        Raises:
            JapagenError: If one of them cannot be read, or a validator cannot run.
        """
        check_validators(task.curation.validators)
        honorifics = task.japanese.honorifics
        if isinstance(honorifics, Path):
            honorifics = read_honorifics(honorifics)
        analyzer = RegisterAnalyzer(task.japanese.user_dictionary, honorifics)
        gold = find_registers(data.gold, analyzer) if data.gold is not None else None
        return cls(task, data, gold, analyzer, PromptLibrary(task.generation.prompts))


@dataclass(frozen=True)
class RunContext(TaskContext):
    """One run.

    Attributes:
        encoder: The encoder, loaded when it is first needed.
        client: Asks the generator.
        cache: What was made already.
        listener: Told of the progress.
    """

    encoder: TextEncoder
    client: LLMClient
    cache: Cache
    listener: Listener


def find_registers(data: Dataset, analyzer: RegisterAnalyzer) -> Dataset:
    """Fills in the register seen in every text."""
    return data.with_registers([*analyzer.registers(data.texts)])


def need_some(run: RunContext, texts: Dataset, step: Step) -> Dataset:
    """The texts, if a step has left any.

    Raises:
        JapagenError: If all are rejected.
    """
    if not texts.kept_mask.any():
        counts = texts.rejection_counts
        raise JapagenError(
            f"Curation rejected all {len(texts)} examples: {counts}.",
            f"Read {run.cache.directory.file(step.files[0])} and loosen curation in the task.",
        )
    return texts


@dataclass(frozen=True, kw_only=True)
class Asking:
    """A generator that is asked for one purpose, and what its answers depend on.

    Attributes:
        task: What prompts say of the task.
        generator: Who is asked.
        templates: Hashes of the prompts' templates.
        client: Asks.
        prompts: The templates.
        listener: Told of the progress.
        stage: The purpose, as progress and the ledger name it.
        unanswered: What got no answer; what comes of the others should not be kept.
    """

    task: Task
    generator: GeneratorInfo
    templates: Sequence[str]
    client: LLMClient = field(compare=False)
    prompts: PromptLibrary = field(compare=False)
    listener: Listener = field(compare=False)
    stage: str = field(compare=False)
    unanswered: list[str] = field(default_factory=list, compare=False)

    @classmethod
    def through(
        cls, client: LLMClient, run: RunContext, stage: str, templates: Sequence[str], **fields: Any
    ) -> Self:
        """Asks through a client with a run's templates of some names."""
        return cls(
            generator=client.info,
            templates=[run.prompts.template_hash(name) for name in templates],
            client=client,
            prompts=run.prompts,
            listener=run.listener,
            stage=stage,
            **fields,
        )

    def ask(self, requests: Sequence[Request]) -> Mapping[str, Answer]:
        """Request id to accepted answer."""
        asked = self.client.ask(requests, self.stage)
        self.unanswered.extend(asked.failures)
        return asked.answers


class TextEncoder:
    """The frozen encoder of a run: loaded once, and every set of texts is read once."""

    def __init__(self, settings: Training) -> None:
        self._settings = settings
        self._read: dict[object, Vectors] = {}
        self._known: dict[tuple[str, str | None], Vectors] = {}
        self._width: int | None = None
        self._frozen: dict[object, FrozenTraining] = {}

    @property
    def name(self) -> str:
        """As in the task: ``embedded``, a directory or a Hub name."""
        return self._settings.encoder

    @cached_property
    def identity(self) -> str:
        """Another one gives other vectors."""
        from japagen.training.encoder import encoder_identity

        trusted = " with its code" if self._settings.trust_remote_code else ""
        return encoder_identity(self._settings.encoder) + trusted

    @cached_property
    def loaded(self) -> Encoder:
        """The encoder itself, not to be changed."""
        from japagen.training.encoder import load_encoder

        return load_encoder(self.name, trust_remote_code=self._settings.trust_remote_code)

    def vectors(self, data: Dataset | None) -> Vectors:
        """Vectors of length 1, shape (rows, width); those of rejected rows are zeros.

        Only texts that were not read before are read.
        """
        rows = data if data is not None else Dataset.of([])
        kept = rows.kept_mask
        texts = rows.where(kept)
        contents = _contents(texts)
        new = [row for row, content in enumerate(contents) if content not in self._known]
        if new or self._width is None:
            self.read(texts.take(new))
        filled = np.zeros((len(rows), self._width or 0), dtype=np.float32)
        if contents:
            filled[kept] = [self._known[content] for content in contents]
        return filled

    def read(self, texts: Dataset) -> Vectors:
        """Vectors of texts that are read in one go, shape (rows, width).

        How texts are put into batches changes the last digits, so what is kept for later runs
        should come from the same texts in one go, whatever was read before.
        """
        key = tuple(_contents(texts))
        if key not in self._read:
            from japagen.training.encoder import text_vectors

            (self._read[key],) = text_vectors([texts], self.loaded)
            self.remember(texts, self._read[key])
        return self._read[key]

    def remember(self, texts: Dataset, vectors: Vectors) -> None:
        """Takes vectors that were made before, shape (rows, width)."""
        self._width = vectors.shape[1]
        self._known.update(zip(_contents(texts), vectors.astype(np.float32), strict=True))

    def frozen(self, labels: Mapping[str, str], max_length: int, is_pair: bool) -> FrozenTraining:
        """Fits heads on the encoder; see `FrozenTraining`."""
        key = tuple(labels.items()), max_length, is_pair
        if key not in self._frozen:
            from japagen.training.trainer import FrozenTraining

            settings = Training(max_length=max_length)
            self._frozen[key] = FrozenTraining(self.loaded, labels, settings, is_pair)
        return self._frozen[key]

    def release(self) -> None:
        """Frees the memory of the copies that heads were fitted on; the encoder itself stays."""
        self._frozen.clear()


def _contents(texts: Dataset) -> list[tuple[str, str | None]]:
    return list(zip(texts.texts, texts.column("text_pair"), strict=True))
