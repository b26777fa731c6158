"""The task file: what is asked for, validated, with unknown keys refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from japagen.config.curation import Curation, Refinement, Selection, check_gradients
from japagen.config.fields import check_text
from japagen.config.generation import (
    STRATEGY,
    BoundaryCase,
    Generation,
    GeneratorSettings,
    GradientMatching,
    Knowledge,
    with_diversity,
)
from japagen.config.sections import (
    TESTED,
    AlignmentSettings,
    Economics,
    Evaluation,
    Item,
    JapaneseSettings,
    Mixing,
    Name,
    Privacy,
    Section,
    Share,
    Training,
    problem,
    refused,
    validated,
)
from japagen.config.sources import GivenSource, Pair, SourceEntry, Sources
from japagen.config.yaml_file import (
    from_directory,
    placed,
    read_mapping,
    read_topics,
    set_key,
)
from japagen.data.dataset import Dataset, html_table
from japagen.data.files import to_yaml
from japagen.data.labels import Kind, LabelSpace, anchor_name
from japagen.data.registry import metrics_of
from japagen.errors import JapagenError, nearest
from japagen.japanese.registers import PRESETS

# What a list of concepts asks for: each in this share, together in no more than half.
_CONCEPT_SHARE, _LISTED_SHARE = 0.1, 0.5
# What is wanted of the texts of each class.
_BY_CLASS = ("concepts", "rare_cases", "boundary_cases")


class TaskFile(Section):
    """The settings of a task, of whatever kind, that stand in a file of their own."""

    @classmethod
    def load(
        cls,
        path: str | Path,
        overrides: Mapping[str, Any] | None = None,
        *,
        recorded: bool = False,
    ) -> Self:
        """Reads a task file; relative paths in it are taken from its directory.

        Args:
            path: A YAML file.
            overrides: Dotted keys to values that replace the file's, for example
                ``{"generation.per_label": 20}``. Paths here are relative to the
                current directory.
            recorded: The file was written by a run, perhaps of an earlier version: settings
                removed since are left out.

        Raises:
            JapagenError: If the file is missing, is not YAML, or a key or value is wrong.
        """
        path = Path(path)
        raw = read_mapping(path)
        from_directory(raw, path.parent)
        for key, value in (overrides or {}).items():
            set_key(raw, key, value)
        read_topics(raw, Path())
        for setting in REMOVED if recorded else ():
            if (section := _section_with(raw, setting)) is not None:
                del section[setting.partition(": ")[0].rpartition(".")[2]]
        return cls.parse(raw, str(path))

    @classmethod
    def parse(cls, raw: Mapping[str, Any], where: str = "the task") -> Self:
        """Validates a mapping; see `load`.

        Raises:
            JapagenError: Naming every wrong key at once.
        """
        if removed := removed_settings(raw):
            raise refused(where, removed)
        return validated(cls, raw, where)

    def to_yaml(self, directory: Path | None = None) -> str:
        """The task as a file.

        Args:
            directory: Where the file will lie: what is near is named from there. Paths are
                absolute when None.
        """
        return to_yaml(placed(self.model_dump(mode="json"), directory))


OTHER_KINDS = ("qa", "code")
"""What ``kind`` may be in a task file whose texts have no labels."""


def need_labels(raw: Mapping[str, Any], where: str) -> None:
    """Refuses a task file of a kind that makes no texts with labels.

    Args:
        raw: The file, as it is written.
        where: What it is called in the error.

    Raises:
        JapagenError: If it is one.
    """
    if raw.get("kind") in OTHER_KINDS:
        raise JapagenError(
            f"Expected a task whose texts have labels, found kind: {raw['kind']} in {where}.",
            "This goes with tasks that train a classifier. `japagen report`, `japagen data export` "
            "and `japagen data merge` take runs of every kind.",
        )


class Task(TaskFile):
    """A task: labels, data, and the settings of every stage.

    In code, gold and every other file of texts may also be a path alone; a `Dataset`, DataFrame or
    list of records; or one of these as ``data`` beside ``columns`` and ``per_label``. ``sources``
    may be a mapping from the name of a writer to any of these.

    >>> Task(name="t", labels=["配送", "返品"], gold=[("届かない。", "配送"), ("不要。", "返品")])
    <Task t: classification, 配送, 返品>

    Attributes:
        name: Identifies the task; a run directory belongs to one name.
        description: One Japanese phrase that says what the texts are.
        text_type: What one text is called in Japanese, for example 問い合わせ.
        kind: ``classification`` (one label per text), ``multi_label`` (any number of them) or
            ``regression`` (a number); told by ``scale`` when absent.
        pair: What the two texts are called where texts come in pairs.
        label_type: What a label is called in Japanese, for example 分類 or 類似度.
        labels: Label to its Japanese description, a text or a list of phrases. Of a regression
            the anchors of its scale.
        scale: Numbers to what they mean, for regression, in place of ``labels``. These are
            asked for; gold may have any number between.
        domain: Background that prompts may mention.
        gold: Labelled texts to learn from; optional.
        test: Labelled texts to score on; held out from gold when absent.
        unlabelled: Unlabelled texts from the target population; optional. They show how often
            labels and words occur, and can be trained on (``training.pseudo_labels``).
        sources: The writers of synthetic texts, each under a name: files of texts that were
            written already, and the task's generator. Of near-duplicates the earlier source's is
            kept. Only the generator when absent.
        registers: Shares over polite, plain, casual and honorific, or ``from_gold``.
        label_prior: How often labels occur: where to take it from, or a mapping.
        concepts: Label to the terms that its texts must cover, with the share of its texts for
            each; of a list a tenth each, or less where that would be more than half in all.
        rare_cases: Label to descriptions of rare situations.
        boundary_cases: Pairs of labels that are easily confused.
        tests: What the finished classifier is held to: a metric of the task's kind, ``label_f1``
            (of the worst label) or ``register_match`` to the least that passes, ``ece`` or
            ``leakage`` (largest overlap with a test text) to the most. What was not measured fails.
            A failed test ends ``japagen run`` with code 3.
        seed: Random seed of everything.
    """

    name: Name
    description: str = ""
    text_type: str = "文章"
    kind: Kind = "classification"
    pair: Pair | None = None
    label_type: str = "分類"
    labels: Annotated[dict[str, str], Field(min_length=2)]
    scale: dict[float, str] | None = None
    domain: str = ""
    gold: GivenSource = None
    test: GivenSource = None
    unlabelled: GivenSource = None
    sources: Sources = (SourceEntry(name="generator", generator=True),)
    registers: Literal["from_gold"] | dict[str, Share] = "from_gold"
    label_prior: Literal["auto", "gold", "uniform"] | dict[str, Share] = "auto"
    concepts: dict[str, dict[Item, Share]] = Field({})
    rare_cases: dict[str, tuple[Item, ...]] = Field({})
    boundary_cases: tuple[BoundaryCase, ...] = ()
    generator: GeneratorSettings = GeneratorSettings()
    generation: Generation = Generation()
    refinement: Refinement = Refinement()
    privacy: Privacy = Privacy()
    curation: Curation = Curation()
    selection: Selection = Selection()
    gradient_matching: GradientMatching = GradientMatching()
    japanese: JapaneseSettings = JapaneseSettings()
    alignment: AlignmentSettings = AlignmentSettings()
    training: Training = Training()
    mixing: Mixing = Mixing()
    evaluation: Evaluation = Evaluation()
    economics: Economics = Economics()
    tests: dict[str, Annotated[float, Field(ge=-1, le=1, strict=True)]] = Field({})
    seed: int = 0

    @classmethod
    def parse(cls, raw: Mapping[str, Any], where: str = "the task") -> Self:
        """Validates a mapping; see `TaskFile.parse`."""
        need_labels(raw, where)
        return super().parse(raw, where)

    def __init__(self, /, **given: Any) -> None:
        """Makes a task in code; `load` and `parse` read one.

        Raises:
            JapagenError: Naming every wrong key at once.
        """
        if removed := removed_settings(given):
            raise refused("the task", removed)
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise refused("the task", [problem(Task, dict(e)) for e in error.errors()]) from None

    # Validation goes past it, as it goes past that of pydantic.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<Task {self.name}: {self.kind}, {', '.join(self.labels)}>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """What a notebook shows: the labels, and where texts come from."""
        rows = [[label, text] for label, text in self.labels.items()]
        named = {"gold": self.gold, "test": self.test, "unlabelled": self.unlabelled}
        rows += [
            [name, str(source.data or source.path)] for name, source in named.items() if source
        ]
        sources = [source.name for source in self.sources]
        return html_table(f"{self.name} ({self.kind})", [], [*rows, ["sources", sources]])

    @model_validator(mode="before")
    @classmethod
    def _labels_from_scale(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        raw = with_diversity(raw)
        if not isinstance(raw.get("scale"), dict):
            return raw
        # What is no number is refused where the field itself is read.
        names = {anchor_name(number): text for number, text in raw["scale"].items()}
        return {"kind": "regression", "label_type": "度合い", "labels": names, **raw}

    @model_validator(mode="after")
    def _kind_fits(self) -> Task:
        if (self.kind == "regression") != (self.scale is not None):
            raise ValueError(
                "kind: regression goes with a scale, such as {0: 別の意味, 5: 同じ意味}"
            )
        if self.scale is not None and [float(n) for n in self.labels] != list(self.scale):
            raise ValueError("labels and scale differ; give only the scale")
        if self.gold is None and self.training.synthetic_share == 0:
            raise ValueError(
                "training.synthetic_share: 0 trains on gold only, and there is none; use auto"
            )
        self.label_space().check()
        check_gradients(self)
        known, found = metrics_of(self.kind), self.evaluation.metric
        if found not in (None, *known):
            wanted = f"expected one of {', '.join(known)} for {self.kind}"
            raise ValueError(
                f"evaluation.metric: {wanted}, found '{found}'{nearest(str(found), known)}"
            )
        self._check_tests((*known, *TESTED))
        self._check_coverage_kind()
        if self.kind == "regression" and isinstance(self.label_prior, dict):
            raise ValueError("label_prior: shares of labels do not go with numbers; use auto")
        return self

    def _check_tests(self, known: Sequence[str]) -> None:
        if self.kind == "regression":
            known = [name for name in known if name not in ("label_f1", "ece")]
        for name, bound in self.tests.items():
            if name not in known:
                raise ValueError(
                    f"tests: expected one of {', '.join(known)}, found '{name}'"
                    f"{nearest(name, known)}"
                )
            if name in TESTED and bound < 0:
                raise ValueError(f"tests.{name}: expected a number from 0 to 1, found {bound:g}")

    def _check_coverage_kind(self) -> None:
        if self.kind == "classification" and self.pair is None:
            return
        if self.pair and self.generation.grid_labels:
            raise ValueError(
                "generation.attributes: first texts of pairs have no label yet; give one grid for "
                "all labels"
            )
        given = [name for name in _BY_CLASS if getattr(self, name)]
        given += ["generation.rounds"] if self.generation.rounds > 1 else []
        given += ["generation.until"] if self.generation.until else []
        if given:
            raise ValueError(
                f"{', '.join(given)}: only where every text is alone and has one of the labels; "
                "generation.knowledge goes with all tasks"
            )

    @model_validator(mode="after")
    def _fields_fit(self) -> Task:
        generation = self.generation
        check_text(generation.text, generation.fields, self.curation.register_miss != "ignore")
        if not generation.fields:
            return self
        given = ["pair"] if self.pair else []
        given += ["refinement.rounds"] if self.refinement.rounds else []
        given += ["gradient_matching"] if generation.strategy == STRATEGY else []
        if given:
            raise ValueError(
                f"generation.fields: expected no {' or '.join(given)}, which would change a text "
                "and leave its fields as they were; leave one of them out"
            )
        return self

    def label_space(self, gold: Dataset | None = None) -> LabelSpace:
        """The label space of the task.

        Args:
            gold: Shows whether a text may have none.
        """
        empty = gold is not None and self.kind == "multi_label" and not all(gold.labels)
        return LabelSpace(self.kind, tuple(self.labels), empty)

    def describe(self, name: str) -> str:
        """The description of a label, or of all the tags, that a name stands for."""
        texts = [self.labels[tag] for tag in self.label_space().tags(name) if self.labels[tag]]
        return "／".join(texts)

    @property
    def generator_source(self) -> str | None:
        """The name of the source that the task's generator is; None where it writes nothing."""
        return next((source.name for source in self.sources if source.generator), None)

    @property
    def metric(self) -> str:
        """The metric of the verdict."""
        return self.evaluation.metric or metrics_of(self.kind)[0]

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_from_list(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {label: _phrases(described) for label, described in value.items()}
        if not isinstance(value, list):
            return value
        nested = next((each for each in value if isinstance(each, dict | list)), None)
        if nested is not None:
            raise ValueError(
                "expected names in the list, or label: description without hyphens, found "
                f"{str(nested)[:40]}"
            )
        return dict.fromkeys(value, "")

    @field_validator("seed", mode="before")
    @classmethod
    def _seed_is_no_table(cls, value: Any) -> Any:
        if isinstance(value, dict):
            raise ValueError("expected a number; a table of rows for prompts is generation.seed")
        return value

    @field_validator("concepts", mode="before")
    @classmethod
    def _concepts_from_lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            label: dict.fromkeys(terms, min(_CONCEPT_SHARE, _LISTED_SHARE / max(len(terms), 1)))
            if isinstance(terms, list) and not any(isinstance(t, dict | list) for t in terms)
            else terms
            for label, terms in value.items()
        }

    @model_validator(mode="after")
    def _coverage_is_possible(self) -> Task:
        known = self.generation.knowledge
        for key, named in (
            ("concepts", self.concepts),
            ("rare_cases", self.rare_cases),
            ("boundary_cases", [name for case in self.boundary_cases for name in case.labels]),
            ("generation.knowledge", known if isinstance(known, dict) else ()),
            ("generation.attributes", self.generation.grid_labels),
        ):
            for name in named:
                if name not in self.labels:
                    raise ValueError(
                        f"{key} names the label '{name}'{nearest(name, self.labels)}; expected "
                        f"one of {', '.join(self.labels)}"
                    )
        for case in self.boundary_cases:
            if case.labels[0] == case.labels[1]:
                raise ValueError(f"boundary_cases needs two labels, found '{case.labels[0]}' twice")
        for label in self.labels:
            total = sum(self.wanted_shares(label).values())
            if total > 1 + 1e-9:
                raise ValueError(
                    f"concepts, rare_cases and boundary_cases of '{label}' should add up to at "
                    f"most 1, found {total:g}"
                )
        return self

    def wanted_shares(self, label: str) -> dict[Knowledge, float]:
        """What the task wants a label's texts to cover, with the share of them that should."""
        wanted = {Knowledge("concept", k): s for k, s in self.concepts.get(label, {}).items()}
        cases = self.rare_cases.get(label, ())
        wanted |= {Knowledge("rare", c): self.generation.rare_share / len(cases) for c in cases}
        for case in self.boundary_cases:
            if case.labels[0] == label:
                key = Knowledge("boundary", case.labels[1])
                wanted[key] = wanted.get(key, 0.0) + case.share
        return {key: share for key, share in wanted.items() if share > 0}

    @model_validator(mode="after")
    def _shares_are_distributions(self) -> Task:
        for key, known in (("registers", PRESETS), ("label_prior", self.labels)):
            shares = getattr(self, key)
            if isinstance(shares, dict):
                for name in shares:
                    if name not in known:
                        raise ValueError(
                            f"{key} names '{name}', which is none of {', '.join(known)}"
                        )
                if not abs(sum(shares.values()) - 1) < 1e-6:
                    raise ValueError(f"{key} should add up to 1, found {sum(shares.values()):g}")
        return self


def _phrases(described: Any) -> Any:
    """A description that is a list of phrases, as one text."""
    if isinstance(described, list) and all(isinstance(phrase, str) for phrase in described):
        return "、".join(described)
    return described


def curation_from_options(settings: Curation, overrides: Mapping[str, Any]) -> Curation:
    """The settings with some keys of ``--set`` replaced.

    Raises:
        JapagenError: If a key is unknown or a value wrong.
    """
    raw = settings.model_dump()
    for key, value in overrides.items():
        set_key(raw, key, value)
    return validated(Curation, raw, "--set")


# A dotted key, or a key with one of its values.
REMOVED = {
    "label_prior: estimate": "label_prior: estimate was removed in 0.2, since estimated shares "
    "lost as much as they gained; use auto, or give the shares",
    "alignment.method: auto": "alignment.method: auto was removed in 0.2, since most of the "
    "methods that it chose among were; use entropy, the default",
    "alignment.method: dsir": "alignment.method: dsir was removed in 0.2, since it cost two of "
    "three tasks up to .036 macro-F1; use entropy, the default",
    "alignment.method: dsir_characters": "alignment.method: dsir_characters was removed in 0.2, "
    "since nothing showed that it helps; use entropy, the default",
    "alignment.method: kernel_mean": "alignment.method: kernel_mean was removed in 0.2, since "
    "nothing showed that it helps; use entropy, the default",
    "alignment.method: density_ratio": "alignment.method: density_ratio was removed in 0.2, since "
    "nothing showed that it helps; use entropy, the default",
    "alignment.method: sliced_transport": "alignment.method: sliced_transport was removed in 0.2, "
    "since nothing showed that it helps; use entropy, the default",
    "alignment.method: gradient_matching": "alignment.method: gradient_matching was removed in "
    "0.2, since choosing texts by their gradients did better; use selection.per_label",
    "alignment.resample": "alignment.resample was removed in 0.2, since nothing showed that "
    "drawing texts beats weighting them; leave it out",
    "balance": "balance was removed in 0.2, since nothing showed that it helps; say with concepts "
    "or generation.attributes what texts should vary in",
    "curation.personal_data: replace": "curation.personal_data: replace was removed in 0.2, since "
    "nothing was measured with fakes; use mask",
    "generation.paraphrase_share": "generation.paraphrase_share was removed in 0.2, since nothing "
    "showed that gold in other words helps; leave it out",
    "training.soft_labels": "training.soft_labels was removed in 0.2, since a text now counts for "
    "as much as its label can be relied on; leave it out",
    "mixing.confirm": "mixing.confirm was removed in 0.2, since the share of synthetic text now "
    "follows from the reliability of its labels; leave it out",
    "mixing.confirm_folds": "mixing.confirm_folds was removed in 0.2, since nothing is confirmed "
    "by fine-tuning any more; leave it out",
    "mixing.confirm_minutes": "mixing.confirm_minutes was removed in 0.2, since nothing is "
    "confirmed by fine-tuning any more; leave it out",
    "selection.method": "selection.method was removed in 0.2, since greedy did better than "
    "matching_pursuit; leave it out",
    "selection.diversity": "selection.diversity was removed in 0.2, since nothing showed that it "
    "helps; leave it out",
    "gradient_matching.method": "gradient_matching.method was removed in 0.2, since edits were no "
    "better than the choice of texts; leave it out, or use selection.per_label",
    "gradient_matching.edits": "gradient_matching.edits was removed in 0.2, since edits were no "
    "better than the choice of texts; leave it out, or use selection.per_label",
    "gradient_matching.model": "gradient_matching.model was removed in 0.2, since no figure was "
    "measured with it; leave it out, and the generator's own model is read",
}


def removed_settings(raw: Mapping[str, Any]) -> list[str]:
    """Lists the removed settings that an unvalidated task still has, each with what to use now."""
    return [text for setting, text in REMOVED.items() if _section_with(raw, setting) is not None]


def _section_with(raw: Mapping[str, Any], setting: str) -> Any:
    """The section of an unvalidated task that holds a removed setting; None where it is absent."""
    dotted, _, value = setting.partition(": ")
    *sections, key = dotted.split(".")
    section: Any = raw
    for name in sections:
        section = section.get(name) if isinstance(section, Mapping) else None
    there = isinstance(section, Mapping) and key in section
    return section if there and (not value or section[key] == value) else None
