"""What classifiers scored, where they err, and what that saves, as metrics.json has it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict

from japagen.data.dataset import Label

Number = int | float


class Part(BaseModel):
    """A part of the tree.

    It declares what japagen reads; what else a stage reports is kept and written as it came. What
    the file of an earlier version lacks has its default.
    """

    model_config = ConfigDict(frozen=True, extra="allow")


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95% interval."""

    value: float
    low: float
    high: float


Measured = Interval | float | None
"""A figure, with its interval where it has one; None where it was not measured."""


class CoveragePoint(Part):
    """Accuracy on the surest ``share`` of the texts, whose least confidence is ``confidence``."""

    share: float
    accuracy: float
    confidence: float


class CalibrationBin(Part):
    """Mean confidence in texts of about the same, and how many of their labels are right."""

    confidence: float
    accuracy: float
    texts: int


class ModelScores(Part):
    """Scores of one classifier: means over its trainings, details of the first.

    Each metric stands beside these under its own name; see `score`.

    Attributes:
        coverage: Accuracy by the share of texts that are answered, the surest first.
        calibration: Accuracy by confidence.
    """

    intervals: dict[str, Interval] = {}
    seeds: list[dict[str, Number]] = []
    labels: list[str] = []
    per_label: dict[str, dict[str, Number | None]] = {}
    confusion: list[list[int]] | None = None
    mean_absolute_error: float | None = None
    ece: float | None = None
    coverage: list[CoveragePoint] = []
    calibration: list[CalibrationBin] = []

    def answered(self, accuracy: float) -> CoveragePoint | None:
        """The most texts, the surest, that are right this often; None where none are."""
        return next((p for p in reversed(self.coverage) if p.accuracy >= accuracy), None)

    def score(self, name: str) -> float | None:
        """The value of a metric; None where it was not measured."""
        value: float | None = getattr(self, name, None)
        return value

    def measured(self, name: str) -> Measured:
        """The same with its interval."""
        value, interval = self.score(name), self.intervals.get(name)
        return value if value is None or interval is None else replace(interval, value=value)


class BaselineScores(ModelScores):
    """Scores of a baseline, and the gain of the run's classifier over it on the same texts.

    Attributes:
        name: ``tfidf``, ``plain`` or ``zero_shot``.
        learnt: What it was fitted to.
        reason: Why it was left out, as a code; None where it was measured.
        n: Test texts that it was asked about.
        gain: None where it was left out.
    """

    name: str
    learnt: str
    reason: str | None = None
    n: int = 0
    gain: Interval | None = None


class ScoreSummary(Part):
    """Both classifiers beside the baselines, the gain of one over the other, and the verdict."""

    n: int
    few: bool = False
    metric: str
    metrics: list[str]
    baselines: list[BaselineScores] = []
    gold_only: ModelScores | None = None
    with_synthetic: ModelScores
    gain: Interval | None = None
    verdict: str

    @property
    def ordered(self) -> list[str]:
        """The metrics, the one that the verdict goes by first."""
        return [self.metric, *(name for name in self.metrics if name != self.metric)]


class TestResult(Part):
    """A test that the task holds the run to.

    Attributes:
        name: As in the task's ``tests``.
        kind: Whether the bound is the ``least`` or the ``most`` that passes.
        bound: What the task asks for.
        found: What was measured; None fails.
    """

    name: str
    kind: str
    bound: float
    found: float | None = None
    passed: bool


class Leakage(Part):
    """How much of the synthetic text stands in the test texts; the worst with that test text."""

    mean_overlap: float
    max_overlap: float
    worst: dict[str, str] | None = None


class NearText(Part):
    """A text that was trained on: gold, synthetic or unlabelled."""

    text: str
    text_pair: str | None = None
    label: Label | None = None
    source: str


class ErrorCase(Part):
    """A test text that was got wrong, with the training texts nearest to it."""

    text: str
    text_pair: str | None = None
    true: Label
    predicted: Label
    probability: float | None = None
    nearest: list[NearText] = []


class DoubtfulText(Part):
    """A gold text most of whose nearest gold texts have one other label."""

    text: str
    text_pair: str | None = None
    label: str
    nearest_label: str
    agreeing: int
    of: int


class Bounds(Part):
    """A figure with its interval; None is beyond the curve, and then more than ``limit``."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None

    def times(self, factor: float) -> Bounds:
        """All of it multiplied."""
        return Bounds(**{k: None if v is None else v * factor for k, v in dict(self).items()})


class Labelling(Part):
    """Labelling that the synthetic set stands for, in states ``worth`` and ``beyond``."""

    state: str
    labels: int = 0
    per_label: Bounds = Bounds()
    texts: Bounds = Bounds()
    hours: Bounds = Bounds()
    yen: Bounds = Bounds()


class RunCosts(Part):
    """What the run took; None where that is unknown."""

    seconds: float
    generator_yen: float | None
    machine_yen: float | None
    yen: float | None


class QueryCosts(Part):
    """What an answer to one query takes; None where that is unknown.

    Attributes:
        price: Whether the yen are ``given`` in the task or ``measured``.
    """

    tokens: float | None = None
    seconds: float | None
    yen: float | None
    price: str | None = None


class BreakEven(Part):
    """How many queries until the run has cost less than asking a model for each."""

    state: Literal["not_measured", "never", "reached"]
    queries: int = 0
    months: float = 0.0


class EconomicsSummary(Part):
    """What the run saves and costs, and what was assumed."""

    assumptions: dict[str, Number | None]
    labelling: Labelling
    run: RunCosts
    query: dict[Literal["llm", "classifier"], QueryCosts]
    break_even: BreakEven
