"""What a run measured: the tree of metrics.json, with its one reader and its one writer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError

from japagen.data.dataset import Label
from japagen.data.files import read_json, write_json
from japagen.data.scores import (
    DoubtfulText,
    EconomicsSummary,
    ErrorCase,
    Interval,
    Leakage,
    Measured,
    Number,
    Part,
    ScoreSummary,
    TestResult,
)
from japagen.errors import DamagedError


class TaskSummary(Part):
    """What the run was asked for."""

    name: str
    labels: dict[str, str]
    seed: int
    description: str | None = None
    text_type: str | None = None
    kind: str = "classification"
    pair: Any = None


class TermsSummary(Part):
    """What the terms of a model allow with its output; None: they must be read."""

    summary: str
    url: str = ""
    may_train: bool | None = None
    may_publish: bool | None = None


class GeneratorSummary(Part):
    """Who wrote the texts."""

    name: str
    identity: str
    terms: TermsSummary


class SeedSummary(Part):
    """The table whose rows texts were asked for with, and how many of them."""

    file: str
    order: str
    rows: int
    used: int


class FieldSummary(Part):
    """What the kept texts have in one field.

    Attributes:
        texts: Kept texts with fields.
        filled: Those that have this one.
        characters: Mean length of a string.
        values: Value to number of texts, of an enum or where there are few integers.
        asked_register: The register of its own; None where it is the text's.
        register_match: Share of it that is in that register; None where none is asked for.
    """

    name: str
    type: str
    role: str | None = None
    texts: int
    filled: int
    characters: float | None = None
    values: dict[str, int] = {}
    asked_register: str | None = None
    register_match: float | None = None


class SynthesisSummary(Part):
    """What gradient matching rewrote, and with which model."""

    synthesised: int
    model: str
    terms: TermsSummary


@dataclass(frozen=True, kw_only=True)
class SourceValue:
    """What a source's texts are worth to the classifier.

    Attributes:
        used: Whether any of them were trained on.
        share: Share of the loss mass that they carried in training, 0 to 1.
        texts_worth: Gold texts per label that they are worth; None where that was not measured.
        low: Lower end of its 95% interval; None likewise.
        high: Upper end; None likewise, or beyond what could be measured.
        reason: Code of the reason, which `value.CODE` or `mix.CODE` of the report's strings says.
    """

    used: bool = False
    share: float = 0.0
    texts_worth: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str


class SourceReport(Part):
    """What a source wrote, and what became of it.

    Attributes:
        name: Its name in the task.
        kind: ``file`` or ``generator``.
        origin: Name of the file or of the model.
        texts: Texts that it wrote, those derived from them and failed requests apart.
        kept: Texts that passed every check, those derived from its texts among them.
        rejected: Filter to the number of texts that it rejected, most first.
        relabelled: Kept texts whose label is another than the one asked for.
        distinct_2: Share of different word bigrams among all, measured on equally many words of
            each source of 16 texts or more; None for smaller ones.
        label_trust: Mean confidence in the labels of the kept texts; None where none were checked.
        distance: AUC of telling the kept texts from gold, 0.5 where they cannot be told apart;
            None without gold or with fewer than five texts.
        yen: What the texts have cost; None where that is not known.
        tokens: Tokens read and written for them, rewriting and the label check included; None for
            files.
        seconds: Time that writing them took; None for files.
        value: What they are worth.
    """

    name: str
    kind: Literal["file", "generator"]
    origin: str
    texts: int
    kept: int
    rejected: dict[str, int]
    relabelled: int
    distinct_2: Interval | None
    label_trust: float | None
    distance: float | None
    yen: float | None
    tokens: int | None
    seconds: float | None
    value: SourceValue


class StepCounts(Part):
    """How many texts there were at each step; None where an earlier version did not count."""

    gold: int
    test: int
    kept: int
    generated: int
    unlabelled: int = 0
    requested: int = 0
    failed: int = 0
    rejected: int = 0
    rewritten: int | None = None
    synthesised: int | None = None
    relabelled: int | None = None

    def at(self, step: str) -> int | None:
        """The number of one step."""
        number: int | None = getattr(self, step)
        return number


class LabelCounts(Part):
    """The texts of one label, the mean trust in it and its share of the weight."""

    gold: int = 0
    generated: int = 0
    kept: int
    label_trust: float | None = None
    weight_share: float


class RegisterShares(Part):
    """Shares of registers as asked for, and as seen before and after they were held to that.

    The distances are total variations from what was asked for.
    """

    asked: dict[str, float] = {}
    before: dict[str, float] = {}
    seen: dict[str, float] = {}
    match_before: float | None = None
    match: float | None = None
    distance_before: float | None = None
    distance: float | None = None

    def side(self, name: str) -> dict[str, float]:
        """The shares of ``gold``, ``asked``, ``before`` or ``seen``; empty where unknown."""
        shares: dict[str, float] = getattr(self, name, {})
        return shares


class RegisterSummary(RegisterShares):
    """The registers of all texts, of gold and of each label."""

    gold: dict[str, float] = {}
    per_label: dict[str, RegisterShares] = {}


class PersonalDataCounts(Part):
    """Kinds of personal data and the texts that hold any, in synthetic text and in gold."""

    action: str
    synthetic: dict[str, int]
    gold: dict[str, int]
    texts: dict[str, int]


class Memorization(Part):
    """How much of gold the accepted texts repeat; the worst with what they copied."""

    mean_overlap: float
    max_overlap: float
    median_copied: float
    longest_copied: int
    long_copies: int
    long_copy: int
    worst: list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Skew:
    """A group that one side mentions more than the other.

    Attributes:
        kind: ``gold`` (synthetic against gold) or ``label`` (this label against the other
            labels, in synthetic text).
        category: gender, age, region or profession.
        group: One of its groups.
        label: The label; empty for all labels together.
        share: Share of the synthetic texts (of the label) that name the group.
        against: Share of the texts it is compared with.
        p: Of Fisher's exact test, two-sided.
    """

    kind: str
    category: str
    group: str
    label: str
    share: float
    against: float
    p: float


class GroupShares(Part):
    """How often a group is named with a label, or with any."""

    category: str
    group: str
    label: str
    synthetic: float | None
    gold: float | None


class Bias(Part):
    """The skews worth a look, and how often each group is named."""

    texts: dict[str, int]
    tests: int
    false_discovery_rate: float
    rows: list[GroupShares]
    skews: list[Skew]


class AuditSummary(Part):
    """Personal data, memory of gold and skews in the accepted texts."""

    personal_data: PersonalDataCounts | None = None
    memorization: Memorization | None = None
    bias: Bias | None = None


class RoundDistance(Part):
    """A distance from the target with its standard error."""

    value: float
    error: float


class MissingItem(Part):
    """What a label's texts name less often than the target's do."""

    model_config = ConfigDict(extra="ignore")  # the record of the round has the rest

    kind: str
    item: str
    target: float
    synthetic: float
    chance: float


class RoundSummary(Part):
    """What was found after one round."""

    model_config = ConfigDict(extra="ignore")

    round: int
    requests: int
    kept: int
    named: dict[str, int]
    distances: dict[str, RoundDistance]
    missing: dict[str, list[MissingItem]]


class LoopSummary(Part):
    """The rounds of generation, and whether they ended early."""

    planned: int
    stopped: bool
    rounds: list[RoundSummary]


UntilReason = Literal["enough", "rounds", "yield", "budget", "unanswered"]
"""Why a label was not asked for again; `until.CODE` of the report's strings says it."""


class LabelUntil(Part):
    """The texts of one label that were asked for and kept, and why no more were asked for."""

    asked: int
    kept: int
    reason: UntilReason


class UntilSummary(Part):
    """What came of asking until ``wanted`` texts of each label were kept, over so many rounds."""

    wanted: int
    rounds: int
    labels: dict[str, LabelUntil]


@dataclass(frozen=True, slots=True)
class Covered:
    """How often a label's texts do what the user wants of them.

    Attributes:
        kind: ``concept``, ``rare``, ``boundary``, ``attribute`` or ``knowledge`` (a topic).
        item: What is wanted; of an attribute its name and one value.
        wanted: Share of the label's texts that should do it; of attributes and topics an equal
            part, for each value, of the requests that named any.
        asked: Texts that were asked to.
        answered: Kept texts among them.
        met: Texts among those in which it is found; None for what cannot be looked for (cases).
        found: Kept texts of the label in which it is found or, for cases and attributes, that
            were asked for it.
        share: The same as a share of the label's kept texts.
    """

    kind: str
    item: str
    wanted: float
    asked: int
    answered: int
    met: int | None
    found: int
    share: float


class LabelCoverage(Part):
    """What the kept texts of one label cover.

    Attributes:
        kept: How many there are.
        covered: Concepts and cases, in the task's order.
    """

    kept: int
    covered: list[Covered]


@dataclass(frozen=True)
class WordShift:
    """A word that synthetic text uses too often or too seldom.

    Attributes:
        word: Base form as writers spell it.
        target_per_1000: Occurrences in 1,000 words of the target.
        synthetic_per_1000: The same in synthetic text before weighting.
        log_ratio_before: log₂ of synthetic's rate over the target's, smoothed by half an
            occurrence; above 0 for overused words.
        log_ratio_after: The same under the weights.
    """

    word: str
    target_per_1000: float
    synthetic_per_1000: float
    log_ratio_before: float
    log_ratio_after: float


@dataclass(frozen=True)
class Change:
    """A figure before and after weighting; None where it cannot be computed."""

    before: Measured
    after: Measured


@dataclass(frozen=True)
class EffectiveSize:
    """How many equally weighted rows the weights are worth, (Σw)²/Σw².

    Attributes:
        rows: Effective number of rows.
        share: The same as a share of the kept rows, 0 to 1.
        per_label: The share within each label.
    """

    rows: float
    share: float
    per_label: dict[str, float]


@dataclass(frozen=True)
class Diagnostics:
    """What weighting changed.

    Attributes:
        effective_sample_size: How much of the data the weights leave.
        label_distance: Total variation between synthetic label shares and the prior, 0 to 1; for
            lists of labels the mean gap of their rates. None without a prior.
        two_sample_auc: Cross-validated AUC of telling synthetic from target; 0.5 is perfect.
        word_divergence: Jensen-Shannon divergence of word distributions in bits (0 to 1), None
            without a target.
        pos_divergence: The same for POS bigrams.
        mean_discrepancy: Squared maximum mean discrepancy of encoder vectors, 0 where alike; None
            without vectors.
        overused: Words that add most to the divergence by being too frequent before weighting.
        underused: Words that add most by being too rare, never-used ones included.
        tolerance: λ that was reached, 1 being as exact as the target allows; None for no λ.
        tempered: Strata whose tilt was tempered to keep the floor, with the factor.
        notes: What else the reader must know.
    """

    effective_sample_size: EffectiveSize
    label_distance: Change
    two_sample_auc: Change
    word_divergence: Change | None = None
    pos_divergence: Change | None = None
    mean_discrepancy: Change | None = None
    overused: tuple[WordShift, ...] = ()
    underused: tuple[WordShift, ...] = ()
    tolerance: float | None = None
    tempered: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelPrior:
    """How often each label occurs in the target.

    Attributes:
        probabilities: Share of each label, or None to leave the synthetic shares as they are.
            Shares sum to 1, except for lists of labels, where each is a rate.
        how: "given", "uniform", "gold" or "unchanged"; "estimate" in runs before 0.2.
        why: The grounds, in a sentence.
    """

    probabilities: dict[str, float] | None
    how: str
    why: str


class AlignmentSummary(Part):
    """What alignment reports."""

    method: str
    prior: LabelPrior
    diagnostics: Diagnostics
    dictionary: str | None = None
    normalization: str | None = None


@dataclass(frozen=True)
class DiversityGroup:
    """One of the sets compared.

    Attributes:
        texts: How many there are in all.
        measures: Each of `MEASURES` that could be measured.
        curve: Different tokens at each of the comparison's numbers of tokens.
    """

    texts: int
    measures: dict[str, Interval]
    curve: list[float]


@dataclass(frozen=True)
class DiversityComparison:
    """Several sets measured at one size.

    Attributes:
        size: Texts in each part that is drawn.
        tokens: The numbers of tokens at which vocabularies are read, the last one being the
            size of a part for measures of tokens.
        topics: k, the number of clusters fitted on all sets together; None without vectors.
        groups: The sets by name: "synthetic" and "gold", the numbers of the rounds, or the names
            of the sources.
    """

    size: int
    tokens: list[float]
    topics: int | None
    groups: dict[str, DiversityGroup]


@dataclass(frozen=True)
class Alarm:
    """A measure by which a set is less diverse than the one it is compared with.

    Attributes:
        kind: "round" for a round against the first, "gold" for synthetic against gold.
        group: The round, or "synthetic".
        measure: One of `MEASURES`.
        change: What is missing, as a share of the other's diversity, below 0.
        low: Lower end of its interval.
        high: Upper end.
    """

    kind: Literal["round", "gold"]
    group: str
    measure: str
    change: float
    low: float
    high: float


@dataclass(frozen=True)
class Diversity:
    """The diversity of a synthetic set.

    Attributes:
        against_gold: Synthetic and, where there is any, gold.
        rounds: The rounds of generation; None where there is only one of at least 16 texts.
        sources: Those who wrote the texts, whose measures are at one size; None likewise.
        alarms: Where diversity has narrowed; empty if nowhere.
    """

    against_gold: DiversityComparison
    rounds: DiversityComparison | None = None
    sources: DiversityComparison | None = None
    alarms: tuple[Alarm, ...] = ()


class PseudoSummary(Part):
    """How many unlabelled texts were learnt from, and why.

    Attributes:
        reason: A code, which `pseudo.CODE` of the report's strings says.
        texts: How many.
        right: Share of held-out gold that the labelers get right; None where it was not measured.
    """

    reason: str
    texts: int = 0
    right: float | None = None


class ReliabilitySummary(Part):
    """How reliable a source's labels are, and the counts it was estimated from."""

    mean: float
    low: float
    high: float
    evidence: dict[str, int] | None = None

    @property
    def interval(self) -> Interval:
        """The mean with its 90% interval."""
        return Interval(self.mean, self.low, self.high)


class SourceMixSummary(Part):
    """What one source gives to training: texts, and the gold texts that each counts for."""

    texts: int
    text_weight: float
    reliability: ReliabilitySummary | None = None


@dataclass(frozen=True)
class Point:
    """A point of a learning curve.

    Attributes:
        per_label: Texts per label, mean over the folds.
        loss: Cross-validated log-loss, nats.
        low: Lower end of its 95% bootstrap interval over gold texts and repeats.
        high: Upper end.
        macro_f1: Cross-validated macro-F1.
    """

    per_label: float
    loss: float
    low: float
    high: float
    macro_f1: float


@dataclass(frozen=True)
class Worth:
    """The value of the synthetic set in additional gold texts per label.

    Attributes:
        texts: The estimate; None beyond the curve, which then is more than `limit`.
        low: Lower end of its 95% bootstrap interval; None beyond the curve.
        high: Upper end; None beyond the curve.
        base: Gold texts per label in the folds, to which these would be added.
        limit: Largest value read off the curve: one doubling past what was measured.
        extrapolated: Whether the estimate lies past what was measured.
    """

    texts: float | None
    low: float | None
    high: float | None
    base: float
    limit: float
    extrapolated: bool


@dataclass(frozen=True)
class Curves:
    """Both learning curves, and the label-equivalent value that follows.

    Attributes:
        gold: Gold only, by gold texts per label.
        synthetic: All gold of the folds, by synthetic texts per label, from 0.
        worth: Of all synthetic texts that the folds could use.
        sources: The worth of each source by itself.
    """

    gold: tuple[Point, ...]
    synthetic: tuple[Point, ...]
    worth: Worth
    sources: dict[str, Worth] = field(default_factory=dict)


class FoldCounts(Part):
    """Folds of the cross-validation: the synthetic texts that each may use, of how many."""

    repeats: int
    usable: list[int]
    synthetic: int


class MixSummary(Part):
    """How much synthetic text was trained on, why, and what it is worth if that was measured."""

    share: float
    reason: str
    sources: dict[str, SourceMixSummary] = {}
    provenance: str = "unknown"
    folds: FoldCounts | None = None
    curves: Curves | None = None


class CriterionScores(Part):
    """What a judge gave one criterion: the mean, texts per score from 1 to 5, and the rejected."""

    mean: float
    counts: dict[str, int]
    rejected: int


class JudgeAgreement(Part):
    """How far the judge and the reviewers agree; see `japagen.review.feedback.Agreement`."""

    texts: int
    passed: tuple[int, int]
    agreement: float
    kappa: float | None = None
    low: float | None = None
    high: float | None = None


class JudgeSummary(Part):
    """What ``curation.judge`` scored."""

    texts: int
    criteria: dict[str, CriterionScores]
    agreement: JudgeAgreement | None = None


class MapPoint(Part):
    """A text's place on the map: a gold text itself, or the id of a synthetic one."""

    x: float
    y: float
    label: Label | None = None
    text: str = ""
    id: str = ""


class TextMap(Part):
    """A map of texts by meaning, on which only near and far mean something."""

    gold: list[MapPoint]
    synthetic: list[MapPoint]


class LengthShares(Part):
    """Shares of texts by characters: of each bin from an edge up to the next, the last open."""

    edges: list[int]
    gold: list[float]
    synthetic: list[float]


class DatasetVersion(Part):
    """Hash of the dataset and of the version before it."""

    hash: str
    parent: str | None = None


class RunSummary(Part):
    """Everything that a run measured; what was not is None.

    Attributes:
        japagen: The version that ran.
        created: When the run was begun, ISO 8601.
        sources: Each source of synthetic text, in the task's order.
        rejections: Filter to the number of texts that it rejected, most first.
        errors: Test texts that were got wrong, the surest first.
        doubtful_gold: Gold texts whose neighbours have another label.
        map: Gold and kept texts by meaning.
        cost: Totals of the ledger, and per kept text.
        seconds: Stage to seconds.
        peak_bytes: Stage to the most memory that the process held in it; empty where the system
            does not tell.
        dictionary: Identity of MeCab's dictionary.
        encoder: Identity of the encoder.
        tests: What the task holds the run to, with what came of each.
    """

    japagen: str
    task: TaskSummary
    counts: StepCounts
    per_label: dict[str, LabelCounts]
    created: str | None = None
    generator: GeneratorSummary | None = None
    seed_rows: SeedSummary | None = None
    text_fields: list[FieldSummary] | None = None
    sources: list[SourceReport] = []
    rejections: dict[str, int] = {}
    registers: RegisterSummary | None = None
    audit: AuditSummary | None = None
    rounds: LoopSummary | None = None
    until: UntilSummary | None = None
    coverage: dict[str, LabelCoverage] | None = None
    alignment: AlignmentSummary | None = None
    diversity: Diversity | None = None
    gradient_matching: SynthesisSummary | None = None
    pseudo_labels: PseudoSummary | None = None
    mix: MixSummary | None = None
    scores: ScoreSummary | None = None
    leakage: Leakage | None = None
    errors: list[ErrorCase] = []
    doubtful_gold: list[DoubtfulText] = []
    lengths: LengthShares | None = None
    map: TextMap | None = None
    cost: dict[str, Number] | None = None
    seconds: dict[str, float] = {}
    peak_bytes: dict[str, int] = {}
    versions: dict[str, str] = {}
    dictionary: str | None = None
    encoder: str | None = None
    economics: EconomicsSummary | None = None
    tests: list[TestResult] = []
    judge: JudgeSummary | None = None
    dataset: DatasetVersion | None = None

    @classmethod
    def load(cls, path: Path) -> RunSummary:
        """Reads metrics.json; what an earlier version did not write has its default.

        Raises:
            DamagedError: If the file is not whole, or is something else.
        """
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            raise DamagedError(path) from error

    def save(self, path: Path) -> None:
        """Writes metrics.json."""
        write_json(path, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Returns what metrics.json holds, JSON-ready."""
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def failed_tests(self) -> list[TestResult]:
        """The tests of the task that the run does not pass."""
        return [test for test in self.tests if not test.passed]

    @property
    def files(self) -> list[str]:
        """The names of the files that texts were read from."""
        return [source.origin for source in self.sources if source.kind == "file"]

    @property
    def synthetic_share(self) -> float | None:
        """The synthetic share of the training loss; None before training."""
        return self.mix.share if self.mix else None

    @property
    def learnt_unlabelled(self) -> bool:
        """Whether the classifier learnt from unlabelled texts."""
        return self.pseudo_labels is not None and self.pseudo_labels.texts > 0

    @property
    def not_used(self) -> bool:
        """Whether the run left all but gold out, so that both are one classifier."""
        return not self.learnt_unlabelled and self.synthetic_share == 0

    @property
    def added(self) -> str:
        """What was added to gold: ``synthetic``, ``unlabelled`` or ``both``."""
        if not self.learnt_unlabelled:
            return "synthetic"
        return "unlabelled" if self.synthetic_share == 0 else "both"
