"""The sections of a task file: the settings of every stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from japagen.japanese.registers import Keigo

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
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
        per_label: Draw this many a label (seeded) instead of using all; gold alone.
    """

    path: Path
    columns: Columns = {}
    encoding: str = "utf-8"
    per_label: Count | None = None


class SourceEntry(Section):
    """Who wrote synthetic texts: some LLM that left a file, or the task's own generator.

    Attributes:
        name: What the source is called in data and reports: letters, digits, ``_``, ``.`` and
            ``-``; a source has it alone.
        path: CSV, JSONL or Parquet of labelled texts that were written already; relative to the
            task file.
        columns: Our column name to the file's, for example ``{text: 本文, label: 分類}``.
        encoding: The file's encoding; CSV and JSONL only.
        generator: In place of a path, the task's ``generator`` writes ``generation.per_label``
            texts a label; one source at most.
        yen: What the texts have cost. Those of the generator count by its price when absent.
    """

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.\-]+$")]
    path: Path | None = None
    columns: Columns = {}
    encoding: str = "utf-8"
    generator: bool = False
    yen: Annotated[float, Field(ge=0)] | None = None

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
        return Source(path=self.path, columns=self.columns, encoding=self.encoding)


def _distinct(sources: tuple[SourceEntry, ...]) -> tuple[SourceEntry, ...]:
    if not sources:
        raise ValueError("name at least one source, or leave the key out for the generator alone")
    names = [source.name for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two sources are called '{twice}'; give each a name of its own")
    own = [source.name for source in sources if source.generator]
    if len(own) > 1:
        raise ValueError(
            f"the generator of the task can be one source alone, found {' and '.join(own)}"
        )
    return sources


Sources = Annotated[tuple[SourceEntry, ...], AfterValidator(_distinct)]


class Budget(Section):
    """What generation may use in all, over every session of a run; it is never passed.

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


class BalanceValue(Section):
    """One value of an attribute that must not go with a label, such as a gender.

    Attributes:
        words: Words that show the value; a list of words alone is read as these.
        share: Wanted share among the texts that show any value; None for an equal part of what
            the other values leave.
    """

    words: Annotated[tuple[Item, ...], Field(min_length=1)]
    share: Share | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {"words": value} if isinstance(value, list | tuple) else value


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


class Curation(Section):
    """What is turned down.

    Attributes:
        min_characters: Shorter texts are rejected.
        max_characters: Longer texts are rejected.
        min_japanese_share: Least share of kana and kanji among the letters; product and
            programme names in Latin letters are ordinary, whole sentences of them are not.
        max_gold_overlap: Largest share of a text's character 5-grams found in one gold text.
        max_similarity: Largest Jaccard similarity of character bigrams with an earlier text or
            with gold; 1 leaves near-duplicates in.
        max_passage_copy: Longest run of characters that a text may share with a passage that its
            prompt, or another, showed.
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
            ``replace`` a fake that is the same throughout, ``reject`` turns the text down,
            ``ignore`` does not look.
        naturalness: Signs of unnatural writing that a text may have.
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
    personal_data: Literal["flag", "mask", "replace", "reject", "ignore"] = "flag"
    naturalness: Naturalness = Naturalness()


class JapaneseSettings(Section):
    """What the Japanese analysis knows beside UniDic-lite.

    Attributes:
        user_dictionary: A compiled MeCab user dictionary; relative to the task file.
        honorifics: Own honorific words to their class, or a YAML file of them.
    """

    user_dictionary: Path | None = None
    honorifics: Path | dict[str, Keigo] = {}


AlignmentMethod = Literal["entropy", "dsir", "gradient_matching", "labels", "none"]


class AlignmentSettings(Section):
    """How synthetic text is weighted towards gold.

    Attributes:
        method: ``entropy`` (entropy balancing with tolerance), ``dsir`` (importance of word
            n-grams), ``gradient_matching``, ``labels`` for label shares alone, or ``none``.
        strength: How far a run follows the weights within a label, 0 to 1. They are bounded too:
            no text counts for more than twice its label's mean, and one that is farther from
            gold than gold is from itself for no more than that.
        floor: Least effective sample size, as a share of the examples within each label.
        label_trust: How likely each text's label is, which its weight is multiplied by.
            ``encoder`` asks a linear classifier trained on gold alone; ``pool`` asks the generator
            too, as a few-shot classifier, and weighs both by how well they do on gold that they
            have not seen; ``none`` trusts all labels alike.
        resample: Draw this many of the kept texts by weight, without replacement, in place of
            weights; those drawn weigh alike but for their labels' trust. None for weights.
    """

    method: AlignmentMethod = "entropy"
    strength: Share = 0.5
    floor: Annotated[float, Field(gt=0, le=1)] = 0.3
    label_trust: Literal["pool", "encoder", "none"] = "pool"
    resample: Count | None = None


class Training(Section):
    """How the classifier is fine-tuned.

    Attributes:
        encoder: ``embedded``, a local directory, or a Hub name.
        trust_remote_code: Run code that comes with the encoder. Off unless you trust it.
        synthetic_share: Share of the total loss that synthetic examples carry, or ``auto`` for
            what their number and the reliability of their labels suggest; 0 trains on gold alone.
        pseudo_labels: Whether unlabelled texts are learnt from as well, with the probabilities that
            labelers give their labels: ``auto`` where a generator can be asked, and labelers do
            better than chance on gold left out. Of classes alone.
        pseudo_label_texts: Unlabelled texts that are labelled, at most; a quarter of them all is
            left to compare later traffic with.
        labeler: Who labels unlabelled texts beside the encoder: ``generator`` is the task's own;
            ``auto`` takes the embedded chat model in place of the embedded base model, or where
            all texts come from files, if the extra local-chat is installed.
        tune: Whether the encoder is tuned, or only a head fitted to its vectors; ``auto`` tunes
            where all texts together count for 16 gold texts per label, or 300 pairs.
        epochs: Passes over gold and synthetic text together.
        min_steps: Lower bound on optimiser steps, for small data.
        max_steps: Upper bound on optimiser steps; None for no bound.
        batch_size: Texts in an optimiser step.
        learning_rate: Of the encoder's layers, where it is tuned; when None, 5e-5, but 2e-5
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


class Mixing(Section):
    """How the worth of synthetic text in gold is measured.

    Attributes:
        repeats: Repeats of the cross-validation on gold that the learning curves are made with.
    """

    repeats: Annotated[int, Field(ge=1, le=50)] = 2


class Evaluation(Section):
    """How the classifier is scored.

    Attributes:
        test_share: Share of gold held out where no test file is given.
        bootstrap: Resamples for intervals.
        metric: What the verdict goes by: ``macro_f1``, ``accuracy`` or ``matthews`` for classes;
            ``macro_f1``, ``micro_f1`` or ``exact_match`` for several labels a text; ``spearman``
            or ``pearson`` for numbers. The first of them when absent; all are shown.
        baselines: Whether to fit what a reader would try first, and show it beside japagen:
            logistic regression on TF-IDF of character n-grams, and plain fine-tuning of the
            encoder, each on gold and on gold with all kept synthetic texts. Of classes and tags.
        zero_shot: Whether the generator labels up to 200 test texts itself, as a baseline: ``auto``
            asks one that answers chat turns on another machine, ``always`` any that can say
            which label a text has. Of classes alone.
    """

    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    bootstrap: Annotated[int, Field(ge=100)] = 2000
    metric: str | None = None
    baselines: bool = True
    zero_shot: Literal["auto", "always", "never"] = "auto"
