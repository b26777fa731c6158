"""Sections of a task file on curation: filters, validators, the judge, rewriting, selection."""

from __future__ import annotations

from hashlib import sha256
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    model_validator,
)

from japagen.config.generation import STRATEGY, GeneratorSettings
from japagen.config.sections import Count, Item, Limit, Name, Section, Share
from japagen.data.registry import FILTERS
from japagen.errors import nearest

if TYPE_CHECKING:
    from japagen.config.task import Task


class Naturalness(Section):
    """How many signs of unnatural writing a text may have; None allows any number.

    Attributes:
        repeated_words: Runs of four words that come again.
        unfinished: A last word that leaves the sentence open.
        unclosed: Brackets without their partner, and lost characters.
        opening_formula: An answer's first words (以下に, 承知しました).
        can_do: することができます and することが可能です.
        bullets: Marks of lists, headings and bold type.
        missing_particles: Nouns that run into a verb or adjective.
        translationese: Phrases of translated text (最も…の一つ, を可能にする).
        machine_phrases: Phrases that models like (と言えるでしょう, いかがでしたか).
    """

    repeated_words: Limit = 2
    unfinished: Limit = 0
    unclosed: Limit = 0
    opening_formula: Limit = 0
    can_do: Limit = 1
    bullets: Limit = 1
    missing_particles: Limit = 2
    translationese: Limit = 2
    machine_phrases: Limit = 1


def _plugged_in(filters: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Filters with their parameters, and with the version that results depend on as well."""
    plugged_in = [name for name in FILTERS if name not in FILTERS.own]
    found = {}
    for name, given in filters.items():
        if name in FILTERS.own:
            raise ValueError(f"the filter '{name}' is japagen's own; set it by its own keys")
        if name not in plugged_in:
            known = f"one of {', '.join(plugged_in)}" if plugged_in else "a filter of a plug-in"
            raise ValueError(f"expected {known}, found '{name}'{nearest(name, plugged_in)}")
        entry = FILTERS[name]
        parameters = [*signature(entry.load()).parameters][1:]
        for key in given.keys() - {*parameters, "version"}:
            raise ValueError(
                f"the filter '{name}' has no parameter '{key}'{nearest(key, parameters)}"
            )
        found[name] = {**given, "version": entry.version}
    return found


CODE_VARIABLE = "JAPAGEN_ALLOW_CODE"
"""The environment variable that, set to 1, lets a task run functions that lie beside it."""


class Validator(Section):
    """One validator of the user, a function or a service (docs/curation.md).

    Attributes:
        function: ``MODULE:FUNCTION`` of a Python file in the task file's folder. It takes
            ``--allow-code`` on the command line, too: a task file may come from anywhere.
        url: In place of it, an address that texts are posted to.
        timeout: Seconds that it may take for a batch.
        batch: Texts that it is given at a time.
        folder: Where the module lies; filled in, and no part of what is written.
        version: Hash of the module; filled in.
    """

    function: Annotated[str, Field(pattern=r"^[^\W\d]\w*:[^\W\d]\w*$")] | None = None
    url: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    timeout: Annotated[float, Field(gt=0)] = 60
    batch: Count = 64
    folder: str = Field("", exclude=True)
    version: str = ""

    @model_validator(mode="before")
    @classmethod
    def _with_version(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not isinstance(raw.get("function"), str):
            return raw
        path = Path(str(raw.get("folder", ""))) / f"{raw['function'].partition(':')[0]}.py"
        # A run's record can be read without the code.
        found = sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""
        return {**raw, "version": found}

    @model_validator(mode="after")
    def _one_place(self) -> Validator:
        if (self.function is None) == (self.url is None):
            raise ValueError("expected either function or url")
        return self

    @property
    def home(self) -> str:
        """Where it is: a file and its function, or an address."""
        if self.function is None:
            return str(self.url)
        module, _, function = self.function.partition(":")
        return f"{Path(self.folder) / module}.py:{function}"


def _not_filters(validators: dict[str, Validator]) -> dict[str, Validator]:
    if taken := next((name for name in validators if name in FILTERS), None):
        raise ValueError(f"'{taken}' is the name of a filter; give the validator another")
    return validators


# What a judge scores unless the task says otherwise; in Japanese, as the prompt is.
_CRITERIA = {
    "naturalness": "その場面で実在の人が書いた文章として自然か。文法の誤り、ぎこちない言い回し、"
    "機械らしい決まり文句や繰り返しがあれば下げる",
    "label": "付いているラベルの実例としてふさわしいか。ほかのラベルとも取れるなら3、"
    "ほかのラベルのほうが合うなら1か2",
    "register": "求めた文体で書かれているか。一部だけ違えば3、全体が別の文体なら1",
    "harmlessness": "学習データとして使っても害がないか。中傷、差別、脅し、"
    "個人を特定できる情報があれば1か2",
}


class Judge(Section):
    """A chat model that scores each kept text by a rubric, 1 to 5 (docs/judge.md).

    Attributes:
        criteria: Name of each criterion to what is to be scored by it.
        least: Criterion to the least score that a text may have; others reject nothing.
        generator: The model that scores; the task's generator when absent.
    """

    criteria: Annotated[dict[Name, Item], Field(min_length=1)] = _CRITERIA
    least: dict[str, Annotated[float, Field(ge=1, le=5)]] = {}
    generator: GeneratorSettings | None = None

    @model_validator(mode="after")
    def _known_criteria(self) -> Judge:
        for name in self.least:
            if name not in self.criteria:
                raise ValueError(
                    f"expected criteria in least, found '{name}'{nearest(name, self.criteria)}"
                )
        return self

    @property
    def bounds(self) -> dict[str, float]:
        """The score from which a text passes each criterion: ``least``, or else the middle."""
        return {name: self.least.get(name, 3.0) for name in self.criteria}


class Curation(Section):
    """Thresholds of the filters, and what to do with texts off register or with doubtful labels.

    Attributes:
        min_characters: Shorter texts are rejected.
        max_characters: Longer texts are rejected.
        min_japanese_share: Least share of kana and kanji among the letters; product and
            programme names in Latin letters are ordinary, whole sentences of them are not.
        max_gold_overlap: Largest share of a text's character 5-grams found in one gold text.
        max_similarity: Largest Jaccard similarity of character bigrams with an earlier text or
            with gold; 1 leaves near-duplicates in.
        max_passage_copy: Longest run of characters that a text may share with a passage that its
            prompt, or another, showed, or with what it said of who writes (``generation.seed``).
        max_meaning_similarity: Largest cosine similarity of encoder vectors with an earlier text
            or with gold, the mean vector taken off; None does not compare.
        forbid_label_name: Reject texts that contain their label's name.
        forbidden_words: Reject texts that contain one of these.
        register_miss: What to do, in this order, with a text that is not in the register
            asked for: ``keep`` it for what it is where that register of its label has room,
            ``rewrite`` it. What neither can place is rejected. ``ignore`` leaves all as
            they are.
        rewrite_attempts: Requests to the model for one text that the rules cannot rewrite;
            0 for rules alone.
        label_miss: What to do with a text that most likely has another label than the one
            asked for (see ``alignment.label_trust``): ``relabel`` it where the other label
            is as likely as ``label_confidence``, ``reject`` it, or ``keep`` it with the little
            weight that its label's probability gives it. What is not relabelled is rejected.
        label_confidence: Least probability of a text's label, unless all are kept.
        personal_data: What to do with names, numbers, addresses and the like in synthetic
            text: ``flag`` counts them for the report, ``mask`` puts 〔電話番号〕 in their place,
            ``reject`` rejects the text, ``ignore`` does not look.
        naturalness: Signs of unnatural writing that a text may have.
        filters: Filters of plug-ins to apply, by name, each with its parameters, as in
            ``{shouting: {most: 2}}`` (docs/extending.md). The plug-in's version is filled in.
        validators: Functions or services of your own that judge what the filters leave, by name.
        judge: A chat model that scores what all of these leave by a rubric; not asked when null.
    """

    min_characters: Count = 6
    max_characters: Count = 300
    min_japanese_share: Share = 0.3
    max_gold_overlap: Share = 0.6
    max_similarity: Annotated[float, Field(gt=0, le=1)] = 0.7
    max_passage_copy: Count = 15
    max_meaning_similarity: Annotated[float, Field(gt=0, le=1)] | None = None
    forbid_label_name: bool = False
    forbidden_words: tuple[str, ...] = ()
    register_miss: Literal["ignore"] | tuple[Literal["keep", "rewrite"], ...] = (
        "keep",
        "rewrite",
    )
    rewrite_attempts: Annotated[int, Field(ge=0, le=8)] = 1
    label_miss: Literal["relabel", "reject", "keep"] = "relabel"
    label_confidence: Share = 0.5
    personal_data: Literal["flag", "mask", "reject", "ignore"] = "flag"
    naturalness: Naturalness = Naturalness()
    filters: Annotated[dict[str, dict[str, Any]], AfterValidator(_plugged_in)] = {}
    validators: Annotated[dict[str, Validator], AfterValidator(_not_filters)] = {}
    judge: Judge | None = None


class Refinement(Section):
    """Self-refinement: a chat model criticises and rewrites doubtful texts. It needs gold.

    Attributes:
        rounds: Most times that a text is rewritten; 0 switches refinement off.
        doubt: A text is doubtful if a classifier trained on gold gives its label a lower
            probability than this.
        generator: The model that criticises and rewrites; the task's generator when absent.
    """

    rounds: Annotated[int, Field(ge=0, le=5)] = 0
    doubt: Share = 0.7
    generator: GeneratorSettings | None = None


class GradientPrivacy(Section):
    """Differential privacy of the selection with respect to gold.

    Attributes:
        epsilon: ε, for replacing one gold text by another of the same label.
        delta: δ; should be below one over the number of gold texts.
        clip: Norm that one text's gradients, of all checkpoints together, are clipped to.
    """

    epsilon: Annotated[float, Field(gt=0)]
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    clip: Annotated[float, Field(gt=0)] = 1.0


class Selection(Section):
    """Selection of the texts to train on, among those that curation kept.

    Attributes:
        per_label: Keep this many texts of each label, those whose mean gradient is closest to
            gold's; None keeps all.
        privacy: Clip gold's gradients and add noise; None uses them unchanged.
    """

    per_label: Count | None = None
    privacy: GradientPrivacy | None = None


def check_gradients(task: Task) -> None:
    """Raises ValueError where a task wants gradients matched and lacks what that needs."""
    if task.selection.per_label is not None and task.kind != "classification":
        raise ValueError(f"selection.per_label: only for classification, found {task.kind}")
    if task.selection.per_label is not None and task.gold is None:
        raise ValueError("selection.per_label: needs gold, whose gradients are to be matched")
    if task.generation.strategy != STRATEGY:
        return
    key = f"generation.strategy: {STRATEGY}"
    if task.kind != "classification" or task.pair is not None:
        found = "pairs" if task.pair is not None else task.kind
        raise ValueError(
            f"{key}: expected single texts with one label each, found {found}; use few_shot"
        )
    if task.gold is None:
        raise ValueError(
            f"{key}: expected gold, whose gradients are to be matched, found none; give gold "
            "or use zero_shot"
        )
    if task.selection.privacy is not None:
        raise ValueError(
            f"{key}: expected no selection.privacy, found one; what synthesises texts reads "
            "gold without noise"
        )
    if task.generator.backend not in ("embedded", "hf"):
        raise ValueError(
            f"{key}: expected the generator embedded or hf, found {task.generator.backend}; give "
            "texts of another as a source"
        )
