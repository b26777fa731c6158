"""What sections of a task file are made of, and those on alignment, training and evaluation."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from japagen.data.registry import METHODS, METRICS
from japagen.errors import JapagenError, nearest
from japagen.japanese.registers import Keigo

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
# What is planned request by request and held in memory.
Texts = Annotated[int, Field(ge=1, le=1_000_000)]
# Names of files and directories too: neither hidden, an option, nor a way out.
NAME = r"^\w[\w.\-]*$"
Name = Annotated[str, Field(pattern=NAME)]
Limit = Annotated[int, Field(ge=0)] | None
# What a prompt can name: one line of text.
Item = Annotated[str, Field(pattern=r"^[^\r\n]*\S[^\r\n]*$")]


class Section(BaseModel):
    """A part of the task file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_Model = TypeVar("_Model", bound=Section)


def validated(model: type[_Model], raw: Mapping[str, Any], where: str) -> _Model:
    """A section from a mapping.

    Raises:
        JapagenError: Naming every wrong key at once.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise refused(where, [problem(model, dict(e)) for e in error.errors()]) from None


def refused(where: str, problems: Sequence[str]) -> JapagenError:
    """The error that names all that is wrong with what stands somewhere."""
    return JapagenError(
        f"{where} has {len(problems)} problem(s):\n" + "\n".join(f"  - {p}" for p in problems),
        "Correct the keys named above.",
    )


def _section_keys(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    for part in location:
        # Keys of a mapping and places in a list lead no deeper.
        if part in model.model_fields:
            inner = section_in(model.model_fields[str(part)].annotation)
            if inner is None:
                return []
            model = inner
    return list(model.model_fields)


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a type holds, in however many mappings and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = map(section_in, getattr(annotation, "__args__", ()))
    return next((section for section in found if section), None)


def problem(model: type[BaseModel], error: Mapping[str, Any]) -> str:
    """One error that pydantic found in a section, in a sentence."""
    location = tuple(error["loc"])
    dotted = ".".join(str(p) for p in location)
    if error["type"] == "extra_forbidden":
        known = _section_keys(model, location[:-1])
        return f"unknown key '{dotted}'{nearest(str(location[-1]), known)}"
    if error["type"] == "missing":
        return f"the key '{dotted}' is missing"
    found = error.get("input")
    shown = f", found {found!r}" if isinstance(found, str | int | float | bool) else ""
    if error["type"] == "string_type" and location[-1] == "[key]":
        dotted = ".".join(str(p) for p in location[:-2])
        return f"{dotted}: expected text, found {found!r}; put it in quotes"
    if error["type"] == "string_type" and shown:
        return f"{dotted}: expected text{shown}; put it in quotes"
    if error["type"] == "string_pattern_mismatch":
        return f"{dotted}: expected letters, digits, _, . and - only, not . or - first{shown}"
    if error["type"] in ("dict_type", "model_type"):
        kind = "nothing" if found is None else f"{reprlib.repr(found):.80}"
        return f"{dotted}: expected keys with values, found {kind}"
    if error["type"] == "too_short":
        context = error["ctx"]
        return (
            f"{dotted}: expected at least {context['min_length']}, found {context['actual_length']}"
        )
    message = str(error["msg"]).removeprefix("Value error, ")
    message = re.sub(r"^Input should be ", "expected ", message)
    message = message[:1].lower() + message[1:]
    return f"{dotted}: {message}{shown}" if dotted else message


class Privacy(Section):
    """What happens to personal data in texts that leave this machine.

    Attributes:
        prompts: ``mask`` replaces it in prompts to a generator elsewhere, ``refuse`` stops
            before anything is sent, ``allow`` sends it.
    """

    prompts: Literal["mask", "refuse", "allow"] = "mask"


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


TEXT_WEIGHT = 0.5
"""Gold texts that one synthetic text counts for by default: the expectation for a writer of whom
nothing is known (`japagen.curation.reliability`)."""
TUNED_FROM = 16
"""Gold texts per label, on average, from which tuning the encoder beats its frozen vectors."""
PAIRS_TUNED_FROM = 300
"""The same for pairs. At 100 per label comparing still beat tuning by far, so this is cautious."""


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

    def tunes(self, texts: float, labels: int, is_pair: bool = False) -> bool:
        """Whether there is enough text for fine-tuning to beat a head on frozen vectors.

        Args:
            texts: How many gold texts all texts count for.
            labels: Number of labels.
            is_pair: Whether they are pairs.
        """
        if self.tune == "auto":
            return texts >= (PAIRS_TUNED_FROM if is_pair else TUNED_FROM) * labels
        return self.tune == "always"

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
