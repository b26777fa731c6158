"""The sections of a task file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from inspect import signature
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args
from unicodedata import normalize

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from japagen.config.fields import Fields, FieldSet
from japagen.data.dataset import Dataset, Split, as_dataset
from japagen.data.registry import BACKENDS, FILTERS, METHODS, METRICS
from japagen.errors import JapagenError, nearest
from japagen.japanese.registers import Keigo

if TYPE_CHECKING:
    from japagen.config.task import Task


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
# What is planned request by request and held in memory.
Texts = Annotated[int, Field(ge=1, le=1_000_000)]
# Names of files and directories too: neither hidden, an option, nor a way out.
Name = Annotated[str, Field(pattern=r"^\w[\w.\-]*$")]
Limit = Annotated[int, Field(ge=0)] | None
# What a prompt can name: one line of text.
Item = Annotated[str, Field(pattern=r"^[^\r\n]*\S[^\r\n]*$")]
_COLUMNS = ("text", "text_pair", "label", "id", "weight")


def _known_columns(columns: dict[str, str]) -> dict[str, str]:
    for name in columns:
        if name not in _COLUMNS:
            raise ValueError(f"'{name}' is none of {', '.join(_COLUMNS)}; write OURS: YOURS")
    return columns


# Our column name to the file's.
Columns = Annotated[dict[str, str], AfterValidator(_known_columns)]


class Section(BaseModel):
    """A part of the task file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Pair(Section):
    """Texts come in pairs.

    Attributes:
        first: What the first text is called in Japanese, for example 前提.
        second: What the second is called, for example 仮説.
    """

    first: Annotated[str, Field(min_length=1)] = "文1"
    second: Annotated[str, Field(min_length=1)] = "文2"


class Source(Section):
    """A file of examples.

    Attributes:
        path: CSV, JSONL or Parquet; relative to the task file.
        columns: Our column name to the file's, for example ``{text: 本文, label: 分類}``.
        encoding: The file's encoding; CSV and JSONL only.
        per_label: Draw this many texts per label (seeded) instead of using all; for gold only.
    """

    path: Path
    columns: Columns = {}
    encoding: str = "utf-8"
    per_label: Count | None = None
    # In place of the file; a run writes it into its directory, and reads it there from then on.
    _data: Dataset | None = PrivateAttr(None)

    @property
    def data(self) -> Dataset | None:
        """The examples, where they are given in code."""
        return self._data


class SourceEntry(Section):
    """A writer of synthetic texts: an LLM whose texts are in a file, or the task's own generator.

    Attributes:
        name: What the source is called in data and reports: letters, digits, ``_``, ``.`` and
            ``-``; a source has it alone.
        path: CSV, JSONL or Parquet of labelled texts that were written already; relative to the
            task file.
        columns: Our column name to the file's, for example ``{text: 本文, label: 分類}``.
        encoding: The file's encoding; CSV and JSONL only.
        generator: In place of a path, the task's ``generator`` writes ``generation.per_label``
            texts per label; one source at most.
        yen: What the texts cost. The generator's are counted at its price when absent.
    """

    name: Annotated[Name, Field(max_length=64)]
    path: Path | None = None
    columns: Columns = {}
    encoding: str = "utf-8"
    generator: bool = False
    yen: Annotated[float, Field(ge=0)] | None = None
    _data: Dataset | None = PrivateAttr(None)

    @property
    def data(self) -> Dataset | None:
        """The texts, where they are given in code."""
        return self._data

    @model_validator(mode="after")
    def _file_or_generator(self) -> SourceEntry:
        if self.generator == (self.path is not None):
            raise ValueError(
                f"the source '{self.name}' needs a path or generator: true, and not both"
            )
        return self

    @property
    def file(self) -> Source | None:
        """The file; None of the generator."""
        if self.path is None:
            return None
        source = Source(path=self.path, columns=self.columns, encoding=self.encoding)
        source._data = self._data
        return source


def _distinct(sources: tuple[SourceEntry, ...]) -> tuple[SourceEntry, ...]:
    if not sources:
        raise ValueError("name at least one source, or leave the key out to use only the generator")
    names = [source.name for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two sources are called '{twice}'; give each a name of its own")
    own = [source.name for source in sources if source.generator]
    if len(own) > 1:
        raise ValueError(
            f"the generator of the task can be only one source, found {' and '.join(own)}"
        )
    return sources


_SPLITS: Mapping[str | None, Split] = {"gold": "train", "test": "test", "sources": "synthetic"}


def _with_data(value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Reads a source that code gives: its path alone, examples in memory, or those with keys."""
    data = None
    if isinstance(value, str | Path):
        value = {"path": value}
    elif isinstance(value, Mapping) and "data" in value:
        data, value = value["data"], {key: part for key, part in value.items() if key != "data"}
    elif value is not None and not isinstance(value, Section | Mapping):
        data, value = value, {}
    if data is None:
        return validate(value)
    source = validate({"path": Path(type(data).__name__), **value})
    split = _SPLITS.get(info.field_name, "unlabelled")
    source._data = as_dataset(data, columns=source.columns, split=split)
    return source


GivenSource = Annotated[Source | None, WrapValidator(_with_data)]
"""A file, or what `as_dataset` takes: alone, or as ``data`` beside ``columns``."""


def _listed(value: Any) -> Any:
    """Sources as code may give them: texts by the names of their writers, or texts alone."""
    if isinstance(value, Mapping) and "text" in value:  # columns
        return [{"name": "synthetic", "data": value}]
    if isinstance(value, Mapping):
        # A task file that forgot the list has the keys of an entry.
        misplaced = value and value.keys() <= SourceEntry.model_fields.keys()
        return value if misplaced else [_named(name, one) for name, one in value.items()]
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, list | tuple) and not _are_records(value):
        return value
    return [{"name": "synthetic", "data": value}]


def _named(name: str, one: Any) -> dict[str, Any]:
    if isinstance(one, str | Path):
        return {"name": name, "path": one}
    if not isinstance(one, Source | SourceEntry):
        return {"name": name, "data": one}
    if one.data is not None:
        return {"name": name, "data": one.data}
    return {**one.model_dump(exclude={"name", "per_label"}), "name": name}


def _are_records(values: Sequence[Any]) -> bool:
    return bool(values) and all(
        isinstance(one, tuple) or (isinstance(one, Mapping) and "text" in one) for one in values
    )


Sources = Annotated[
    tuple[Annotated[SourceEntry, WrapValidator(_with_data)], ...],
    BeforeValidator(_listed),
    AfterValidator(_distinct),
]


class Budget(Section):
    """Upper bounds on what a run may use, over all of its sessions; they are never exceeded.

    Attributes:
        tokens: Tokens read and written.
        yen: Their price, by ``generator.price``.
    """

    tokens: Count | None = None
    yen: Annotated[float, Field(gt=0)] | None = None


class Privacy(Section):
    """What happens to personal data in texts that leave this machine.

    Attributes:
        prompts: ``mask`` replaces it in prompts to a generator elsewhere, ``refuse`` stops
            before anything is sent, ``allow`` sends it.
    """

    prompts: Literal["mask", "refuse", "allow"] = "mask"


class BoundaryCase(Section):
    """Texts of one label that could be mistaken for another.

    Attributes:
        labels: The label that the texts have, and the one they could be mistaken for.
        share: Share of the first label's requests.
    """

    labels: tuple[str, str]
    share: Share = 0.05


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


class JapaneseSettings(Section):
    """Dictionaries of the Japanese analysis in addition to UniDic-lite.

    Attributes:
        user_dictionary: A compiled MeCab user dictionary; relative to the task file.
        honorifics: Own honorific words to their class, or a YAML file of them.
    """

    user_dictionary: Path | None = None
    honorifics: Path | dict[str, Keigo] = {}


class AlignmentSettings(Section):
    """How synthetic text is weighted towards gold.

    Attributes:
        method: What finds the weights.
        strength: How far a run follows the weights within a label, 0 to 1. They are bounded too:
            no text counts for more than twice its label's mean, and one that is farther from
            gold than gold is from itself for no more than that.
        floor: Least effective sample size, as a share of the examples within each label.
        label_trust: Where the confidence in each text's label comes from, which multiplies its
            weight. ``encoder`` asks a linear classifier trained on gold only; ``pool`` also asks
            the generator, as a few-shot classifier, and weights both by their accuracy on held-out
            gold; ``none`` is confident in all labels alike.
    """

    method: Annotated[str, METHODS] = "entropy"
    strength: Share = 0.5
    floor: Annotated[float, Field(gt=0, le=1)] = 0.3
    label_trust: Literal["pool", "encoder", "none"] = "pool"


TRUST_VARIABLE = "JAPAGEN_TRUST_REMOTE_CODE"
"""The environment variable that, set to 1, lets a task run code that comes with its encoder."""


class Training(Section):
    """How the classifier is fine-tuned.

    Attributes:
        encoder: ``embedded``, a local directory, or a Hub name.
        trust_remote_code: Run code that comes with the encoder. It takes ``--trust-remote-code`` on
            the command line, too: a task file may come from anywhere.
        synthetic_share: Mixing ratio: the share of the total loss that synthetic examples carry.
            ``auto`` derives it from their number and the reliability of their labels; 0 trains on
            gold only.
        pseudo_labels: Whether to train on unlabelled texts too, with the label probabilities that
            labelers give them: ``auto`` does where a generator can be asked and the labelers beat
            chance on held-out gold. For classes only.
        pseudo_label_texts: Most unlabelled texts to label; a quarter of them all is left to
            compare later traffic with.
        labeler: Who labels unlabelled texts in addition to the encoder: ``generator`` is the task's
            own; ``auto`` takes the embedded chat model in place of the embedded base model, or
            where all texts come from files, if the extra local-chat is installed.
        tune: Whether the encoder is tuned, or only a head fitted to its vectors; ``auto`` tunes
            where all texts together count for 16 gold texts per label, or 300 pairs.
        epochs: Passes over gold and synthetic text together.
        min_steps: Lower bound on optimiser steps, for small data.
        max_steps: Upper bound on optimiser steps; None for no bound.
        batch_size: Texts in an optimiser step.
        learning_rate: Of the encoder's layers, where it is tuned; None means 5e-5, or 2e-5
            where all texts together count for fewer than 40 gold texts per label.
        head_learning_rate: Of the head, where the encoder is tuned.
        max_length: Tokens of a text, or pair of texts, that the encoder reads; the rest is cut.
        seeds: Independent fine-tunings for the comparison; the first one is saved.
    """

    encoder: str = "embedded"
    trust_remote_code: bool = False
    synthetic_share: Literal["auto"] | Annotated[float, Field(ge=0, lt=1)] = "auto"
    pseudo_labels: Literal["auto", "always", "never"] = "auto"
    pseudo_label_texts: Count = 300
    labeler: Literal["auto", "generator"] = "auto"
    tune: Literal["auto", "always", "never"] = "auto"
    epochs: Count = 3
    min_steps: Count = 60
    max_steps: Count | None = None
    batch_size: Count = 16
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    head_learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    max_length: Annotated[int, Field(ge=8, le=512)] = 128
    seeds: Count = 1

    @model_validator(mode="after")
    def _trusted_by_the_user(self) -> Training:
        if self.trust_remote_code and os.environ.get(TRUST_VARIABLE) != "1":
            raise ValueError("trust_remote_code: only with --trust-remote-code on the command line")
        return self


class Mixing(Section):
    """How the label-equivalent value of synthetic text is measured: learning curves on gold.

    Attributes:
        repeats: Repeats of the cross-validation on gold behind the learning curves.
    """

    repeats: Annotated[int, Field(ge=1, le=50)] = 2


class Evaluation(Section):
    """How the classifier is scored.

    Attributes:
        test_share: Share of gold held out where no test file is given.
        bootstrap: Resamples for intervals.
        metric: The metric of the verdict; when absent, the first of the task's ``kind``. All of
            them are shown.
        baselines: Whether to fit simple baselines, and show them next to japagen:
            logistic regression on TF-IDF of character n-grams, and plain fine-tuning of the
            encoder, each on gold and on gold with all kept synthetic texts. For classes and tags.
        zero_shot: Whether the generator labels up to 200 test texts itself, as a baseline: ``auto``
            asks a chat model on another machine, ``always`` any that can say which label a text
            has. For classes only.
    """

    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    bootstrap: Annotated[int, Field(ge=100)] = 2000
    metric: Annotated[str, Field(json_schema_extra=METRICS.describe)] | None = None
    baselines: bool = True
    zero_shot: Literal["auto", "always", "never"] = "auto"


# What a run can be tested on beside the metrics of its task, and whether the bound is the least or
# the most that passes.
TESTED: Mapping[str, Literal["least", "most"]] = {
    "label_f1": "least",
    "ece": "most",
    "leakage": "most",
    "register_match": "least",
}


class Price(Section):
    """Prices of tokens, from the provider's price list.

    Attributes:
        input_per_million: For a million tokens read.
        output_per_million: For a million tokens written.
        currency: Of the two prices.
        yen_per_unit: Exchange rate to yen; needed for any currency but JPY.
        batch: Share of these prices that requests in a batch cost (see `GeneratorSettings.batch`).
    """

    input_per_million: Annotated[float, Field(ge=0)]
    output_per_million: Annotated[float, Field(ge=0)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "JPY"
    yen_per_unit: Annotated[float, Field(gt=0)] = 1.0
    batch: Share = 0.5

    @model_validator(mode="after")
    def _convertible(self) -> Price:
        if self.currency != "JPY" and "yen_per_unit" not in self.model_fields_set:
            raise ValueError(f"yen_per_unit is needed to convert {self.currency}")
        return self


ALLOWED_VARIABLES = "JAPAGEN_ALLOW_ENV"
"""Names, with commas between, of the environment variables that a task may send to a server."""
# Parts of a request that make it the one that was recorded.
_OWNED = frozenset({"model", "messages", "prompt", "stream", "n"})


class GeneratorSettings(Section):
    """Which model writes the text.

    Attributes:
        backend: What runs the model.
        model: ``gemma3-270m``, ``qwen`` (a chat model, of the extra local-chat) or a GGUF path for
            embedded; the server's model name for openai; a directory, GGUF path or Hub name for
            hf; a run directory for replay.
        base_url: The server's address, for openai; or a list of the addresses of several that run
            the same model and share the requests, each with its own slots and limits.
        api_key_env: The environment variable that holds the key, for openai. Its name ends in
            ``_API_KEY``, unless ``japagen --allow-env NAME`` allows another.
        api: ``chat`` or ``completions``, for openai.
        slots: Requests at a time; chosen by the backend when absent.
        requests_per_minute: Most requests sent in a minute, retries included, for openai.
        tokens_per_minute: Most tokens in a minute, prompts and ``max_tokens``, for openai.
        batch: Send requests by the provider's batch API, for openai: cheaper, answered within
            a day, and a run that is stopped meanwhile takes up its batches where it left them.
        timeout: Seconds after which an attempt is given up, for openai; when absent, 60 at first
            and more where answers are seen to take longer.
        headers: Header to the environment variable that holds its value, for openai, named as
            that of the key.
        extra_body: What else to send with each request, for openai, such as
            ``{reasoning_effort: low}`` or ``{chat_template_kwargs: {enable_thinking: false}}``.
        omit: Options not to send, for openai, such as ``top_k``. A server that refuses one by name
            is asked without it anyway.
        price: What tokens cost; for plans, budgets and reports.
    """

    backend: Annotated[str, BACKENDS] = "embedded"
    model: str = "gemma3-270m"
    base_url: str | tuple[str, ...] | None = None
    api_key_env: str = "OPENAI_API_KEY"
    api: Literal["chat", "completions"] = "chat"
    slots: Count | None = None
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    batch: bool = False
    timeout: Annotated[float, Field(gt=0)] | None = None
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")], str] = {}
    extra_body: dict[str, Any] = {}
    omit: tuple[str, ...] = ()
    price: Price | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> GeneratorSettings:
        for name in ("batch", "timeout", "headers", "extra_body", "omit"):
            if getattr(self, name) and self.backend != "openai":
                raise ValueError(f"{name} goes with the backend openai, found {self.backend}")
        if isinstance(self.base_url, tuple):
            if not self.base_url or len(set(self.base_url)) < len(self.base_url):
                raise ValueError("base_url: expected at least one address, and none twice")
            if self.batch:
                raise ValueError("batch goes with one base_url, found a list")
        if owned := sorted(_OWNED & self.extra_body.keys()):
            raise ValueError(f"extra_body: {owned[0]} is japagen's own to send")
        return self

    def check_variables(self) -> None:
        """Holds back what a task file is not to send to a server: it may come from anywhere.

        Raises:
            JapagenError: If a variable is not one of keys, and the user has not allowed it.
        """
        allowed = os.environ.get(ALLOWED_VARIABLES, "").split(",")
        where = ", ".join(self.base_url) if isinstance(self.base_url, tuple) else self.base_url
        where = where or "OpenAI"
        for name in (self.api_key_env, *self.headers.values()):
            if not name.endswith("_API_KEY") and name not in allowed:
                raise JapagenError(
                    "Expected the task to name environment variables that end in _API_KEY, found "
                    f"'{name}', whose value would go to {where}.",
                    f"If you want that, use japagen --allow-env {name} COMMAND …",
                )

    @property
    def price_now(self) -> Price | None:
        """The price of the requests as they are sent: of a batch, where they go in one."""
        if self.price is None or not self.batch:
            return self.price
        share = self.price.batch
        read, written = self.price.input_per_million, self.price.output_per_million
        changed = {"input_per_million": read * share, "output_per_million": written * share}
        return self.price.model_copy(update=changed)


Judge.model_rebuild()
Curation.model_rebuild()


class SeedSource(Section):
    """A table whose columns prompts may name: each text is asked for with one of its rows.

    Attributes:
        path: CSV, Excel, JSONL, Parquet or a directory of `datasets`; relative to the task file.
        columns: The columns that prompts may name, in the order in which the built-in ones say
            them; all but ``id``, ``uuid`` and ``weight`` if not set.
        role: What a row is to the built-in prompts: the ``writer`` of the text, or ``material``
            that it is about.
        order: ``in_order`` takes the rows as they stand, from the first one for every label,
            ``shuffled`` in an order that the task's ``seed`` draws; either way no row comes again
            before the others of its label did. ``weighted`` takes them as often as they weigh.
        weight: The column of weights; a row of weight 0 is never drawn.
        encoding: The file's encoding; CSV and JSONL only.
    """

    path: Path
    columns: tuple[str, ...] = ()
    role: Literal["writer", "material"] = "writer"
    order: Literal["in_order", "shuffled", "weighted"] = "shuffled"
    weight: str | None = None
    encoding: str = "utf-8"

    @model_validator(mode="after")
    def _weight_when_weighted(self) -> SeedSource:
        if (self.order == "weighted") != (self.weight is not None):
            raise ValueError("order: weighted and a weight, the name of a column, go together")
        return self


class UntilKept(Section):
    """Asking again until enough texts of each label are kept (docs/closed_loop.md).

    Attributes:
        kept: Texts of each label that filters and register control are to keep.
        rounds: Most times that a label is asked for; no time for more than ``kept`` texts.
        least_yield: A label of whose last texts a smaller share was kept is not asked for again.
    """

    kept: Texts
    rounds: Annotated[int, Field(ge=1, le=20)] = 5
    least_yield: Annotated[float, Field(gt=0, le=1)] = 0.1


def _kept_alone(value: Any) -> Any:
    return {"kept": value} if isinstance(value, int | str) else value


Attributes = dict[Item, tuple[Item, ...]]
_BELOW = "："
"""Between a topic and what is below it in a tree."""


def _leaves(tree: Any, path: str = "") -> list[Any]:
    """The leaves of a topic tree, each with the topics above it; branches take turns."""
    if not isinstance(tree, Mapping):
        leaves = tree if isinstance(tree, list | tuple) else [] if tree is None else [tree]
        found = [path + leaf if isinstance(leaf, str) else leaf for leaf in leaves]
    else:
        branches = [_leaves(below, f"{path}{name}{_BELOW}") for name, below in tree.items()]
        turns = zip_longest(*branches)
        found = [leaf for turn in turns for leaf in turn if leaf is not None]
    if not found and path:
        raise ValueError(f"the topic '{path.removesuffix(_BELOW)}' has nothing below it")
    return found


def _by_label(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {label: _leaves(tree) for label, tree in value.items()}


Topics = tuple[Item, ...] | dict[str, tuple[Item, ...]]


def _topics_differ(given: Topics) -> Topics:
    lists = given if isinstance(given, dict) else {"": given}
    for label, leaves in lists.items():
        keys = [normalize("NFKC", leaf).casefold() for leaf in leaves]
        twice = [leaf for leaf, key in zip(leaves, keys, strict=True) if keys.count(key) > 1]
        where = ".".join(filter(None, ["generation.knowledge", label]))
        if twice:
            raise ValueError(f"{where}: the topic '{twice[0]}' comes more than once")
        if label and not leaves:
            raise ValueError(f"{where}: expected topics, found none")
    return given


TEXTS_PER_REQUEST = 5
"""Of a chat model; one that continues documents writes one text per request."""
Diversity = Literal["low", "medium", "high"]

# What each level sets where the task file does not: section to key to value. The middle one is
# the defaults of the sections themselves.
LEVELS: dict[str, dict[str, dict[str, Any]]] = {
    "low": {
        "generation": {"temperature": 0.6, "shots": 12},
        "curation": {"max_similarity": 0.8},
    },
    "medium": {},
    "high": {
        "generation": {"temperature": 1.0, "shots": 6, "completions_per_shot_set": 4},
        "curation": {"max_similarity": 0.6},
    },
}


class Generation(Section):
    """How many texts to ask for, and how.

    Attributes:
        per_label: Texts to ask for, per label; not read beside ``until``.
        until: In place of asking once, ask again until so many texts of each label are kept: a
            number, or ``kept`` beside ``rounds`` and ``least_yield``.
        texts_per_request: Texts that one request asks a chat model for, which are then told not to
            resemble each other; 5 if not set. A model that continues documents writes one text a
            request. So do pairs, and templates of your own that do not use ``number``.
        strategy: ``few_shot`` shows gold examples, ``zero_shot`` only describes the label;
            ``auto`` is few-shot where there is gold. ``gradient_matching`` is few-shot, and
            resynthesises texts after the label check, so that their gradients come closer to
            gold's (see `gradient_matching`); it measured no better.
        diversity: How far texts may differ from gold and from each other: sets ``temperature``,
            ``shots``, ``completions_per_shot_set`` and ``curation.max_similarity`` where they are
            not given. ``medium`` leaves their defaults.
        shots: Gold examples in a prompt.
        completions_per_shot_set: Texts that are written from one set of shots (and, a text a
            request, from one prompt prefix); the set is never used again.
        temperature: Of sampling; higher is more varied and less coherent.
        top_k: Sample from this many likeliest tokens; 0 for all. Sent where a server takes it.
        min_p: Least probability of a token, as a fraction of the likeliest one's.
        max_tokens: Longest text; one that is longer is rejected as ``truncated``. A request for
            several texts has that many times as much.
        rounds: Rounds of iterative generation. From the second on, requests name what the texts
            so far have too little of; 1 asks for everything at once.
        knowledge: Items of task knowledge (genres, objects, symptoms), or for each label a list
            or a tree of topics, whose leaves are the items; also the path of a YAML file with
            these (docs/topics.md). Requests that name nothing else name one of them, in turn.
        attributes: What varies from text to text. ``auto`` tells a chat model who writes each text
            and how (mood, length, slips of writing), by the kind of text; ``none`` tells it
            nothing. In place of these, attribute to its values, such as 話題 and 立場, or such a
            grid for each label: texts that name nothing else take one value of each, every
            combination about as often; a base model is told of the first attribute alone.
        corpus: Texts of your own as material. Requests that name nothing else get a passage each,
            found by the words of their examples and of the label's description. Copies of
            passages are rejected.
        seed: A table whose columns prompts may name, such as personas: every text is asked for
            with a row of its own (docs/seed.md).
        fields: What each text consists of, name to field (docs/fields.md); for chat models.
        text: What of the fields the classifier reads, such as ``"{subject} {body}"``; the first
            field if not set.
        rare_share: Share of a label's requests that describe one of its ``rare_cases``.
        prompts: Directory of templates to use in place of the built-in ones.
        instruction: A sentence that prompts add to what they ask for.
        budget: Upper bounds on tokens and yen.
    """

    per_label: Texts = 150
    until: Annotated[UntilKept, BeforeValidator(_kept_alone)] | None = None
    texts_per_request: Annotated[int, Field(ge=1, le=20)] | None = None
    strategy: Literal["auto", "few_shot", "zero_shot", "gradient_matching"] = "auto"
    diversity: Diversity = "medium"
    shots: Count = 10
    completions_per_shot_set: Annotated[int, Field(ge=1, le=8)] = 8
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.8
    top_k: Annotated[int, Field(ge=0)] = 100
    min_p: Share = 0.05
    max_tokens: Count = 120
    rounds: Annotated[int, Field(ge=1, le=20)] = 1
    knowledge: Annotated[Topics, BeforeValidator(_by_label), AfterValidator(_topics_differ)] = ()
    attributes: Literal["auto", "none"] | Attributes | dict[str, Attributes] = "auto"
    corpus: GivenSource = None
    seed: SeedSource | None = None
    fields: Fields = {}
    text: str | None = None
    rare_share: Share = 0.1
    prompts: Path | None = None
    instruction: Annotated[str, Field(pattern=r"^[^\r\n]*$")] = ""
    budget: Budget = Budget()

    def topics(self, label: str) -> tuple[str, ...]:
        """The task's knowledge for a label."""
        return self.knowledge.get(label, ()) if isinstance(self.knowledge, dict) else self.knowledge

    def grid(self, label: str) -> Mapping[str, tuple[str, ...]]:
        """Attribute to values of a label's grid in the task file; empty where it has none."""
        given: Mapping[str, Any] = {} if isinstance(self.attributes, str) else self.attributes
        if any(isinstance(values, dict) for values in given.values()):
            given = given.get(label, {})
        return given

    @property
    def grid_labels(self) -> list[str]:
        """The labels that have a grid of their own; none where one serves all."""
        if isinstance(self.attributes, str):
            return []
        return [name for name, values in self.attributes.items() if isinstance(values, dict)]

    @model_validator(mode="after")
    def _one_loop(self) -> Generation:
        if self.until and self.rounds > 1:
            raise ValueError(
                f"until: expected one kind of rounds, found rounds: {self.rounds} besides; "
                "leave one of the two out"
            )
        return self

    def asked_fields(self, request: int = 1) -> FieldSet | None:
        """The fields that a request asks for, the first with the text; None without any."""
        return FieldSet.of(self.fields, self.text, request)

    @property
    def first_texts(self) -> int:
        """Texts per label that are asked for whatever becomes of them."""
        return self.until.kept if self.until else self.per_label

    @model_validator(mode="after")
    def _grids_are_grids(self) -> Generation:
        grids = [self.grid(name) for name in self.grid_labels] or [self.grid("")]
        for name, values in (item for grid in grids for item in grid.items()):
            if "：" in name:
                raise ValueError(f"attributes: a name without '：' is needed, found '{name}'")
            if len(set(values)) < 2 or len(set(values)) < len(values):
                found = "、".join(values) or "none"
                raise ValueError(f"attributes.{name}: two or more different values, found {found}")
        return self


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


def with_diversity(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Fills in the keys that the level of diversity sets, in a task that is not validated yet."""
    found = dict(raw)
    section = found.get("generation")
    level = section.get("diversity") if isinstance(section, dict) else None
    for name, keys in LEVELS.get(level, {}).items() if isinstance(level, str) else ():
        given = found.get(name)
        if given is None or isinstance(given, dict):
            found[name] = {**keys, **(given or {})}
    return found


STRATEGY = "gradient_matching"


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


class GradientMatching(Section):
    """How ``generation.strategy: gradient_matching`` resynthesises texts.

    Attributes:
        perplexity: Largest ratio of a text's perplexity to that of the text it came from.
    """

    perplexity: Annotated[float, Field(ge=1)] = 1.5


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


Kind = Literal[
    "concept",
    "rare",
    "boundary",
    "word",
    "ending",
    "length_band",
    "knowledge",
    "attribute",
    "passage",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Found missing by comparison with gold, where the others are named in the task file.
MISSING: tuple[Kind, ...] = ("word", "ending", "length_band")


@dataclass(frozen=True, slots=True)
class Knowledge:
    """One topic that a request names.

    Attributes:
        kind: Where it comes from. ``concept``, ``rare`` (a situation), ``boundary`` (the label it
            could be mistaken for), ``knowledge`` (an item of the task's knowledge), ``attribute``
            (values of attributes) and ``passage`` (of the user's corpus) are the user's; ``word``,
            ``ending`` and ``length_band`` are what the texts so far have too little of.
        item: What to name, as people write it; of several attributes a line for each.
        gold_ids: Gold examples that it was found in. A fold that holds one of them out must drop
            the texts generated from it, just as if the prompt had shown it.
    """

    kind: Kind
    item: str
    gold_ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}:{self.item}"

    @property
    def named(self) -> tuple[str, ...]:
        """What a request records, as ``KIND:ITEM``: each attribute by itself."""
        items = self.item.split("\n") if self.kind == "attribute" else [self.item]
        return tuple(f"{self.kind}:{item}" for item in items)

    @classmethod
    def parse(cls, text: str) -> Knowledge:
        """Inverse of ``str``; the gold ids are not in it."""
        kind, _, item = text.partition(":")
        return cls(next(k for k in KINDS if k == kind), item)


Amount = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]


class Economics(Section):
    """Assumptions of the return on investment; none was measured, and the report shows them all.

    Attributes:
        yen_per_hour: What an hour of labelling costs.
        texts_per_hour: Texts that one person labels in an hour.
        queries_per_month: Texts to classify in a month.
        llm_yen_per_1000: What a language model charges to classify 1,000 texts. When absent, what
            the run's own answers have cost by ``generator.price``; without that it is unknown.
        machine_yen_per_hour: What an hour of the machine that runs japagen costs; its time is
            not counted when absent.
    """

    yen_per_hour: Amount = 2000
    texts_per_hour: Rate = 100
    queries_per_month: Rate = 10_000
    llm_yen_per_1000: Amount | None = None
    machine_yen_per_hour: Amount | None = None
