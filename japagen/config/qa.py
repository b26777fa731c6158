"""The task file of a run that makes questions on documents (``kind: qa``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from japagen.config.generation import Budget, GeneratorSettings
from japagen.config.sections import Count, JapaneseSettings, Name, Privacy, Section, Share
from japagen.config.task import TaskFile

Similarity = Annotated[float, Field(gt=0, le=1)]


class PassageSettings(Section):
    """How documents are cut into passages of whole sentences.

    Attributes:
        characters: Most characters of a passage.
        overlap: Most characters that two neighbours share.
        least: Passages with fewer characters are left out.
    """

    characters: Annotated[int, Field(ge=50, le=8000)] = 400
    overlap: Annotated[int, Field(ge=0)] = 80
    least: Count = 40

    @model_validator(mode="after")
    def _goes_on(self) -> PassageSettings:
        if self.overlap > self.characters // 2:
            raise ValueError(
                f"overlap: expected at most half of characters ({self.characters}), found "
                f"{self.overlap}"
            )
        return self


class QAGeneration(Section):
    """How many questions to ask for, and how.

    Attributes:
        per_passage: Questions that are asked for on a passage.
        most_passages: Passages to ask on, evenly spread over the documents; all when absent.
        multiple_choice: Share of the kept questions that a multiple-choice one is made of.
        options: Options of it, the right one among them.
        unanswerable: Share of the kept questions that are asked of a neighbouring passage too,
            which does not answer them.
        temperature: Of writing questions and wrong options; answers are greedy.
        max_tokens: Longest question, answer or option.
        prompts: Directory of templates to use in place of the built-in ones.
        budget: Upper bounds on tokens and yen.
    """

    per_passage: Annotated[int, Field(ge=1, le=10)] = 3
    most_passages: Count | None = None
    multiple_choice: Share = 0.3
    options: Annotated[int, Field(ge=3, le=6)] = 4
    unanswerable: Share = 0.3
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.7
    max_tokens: Count = 120
    prompts: Path | None = None
    budget: Budget = Budget()


class QACuration(Section):
    """What a question has to pass.

    Attributes:
        max_answer_characters: Longest answer.
        max_given_away: Largest share of an answer's character bigrams that its question may have.
        max_similarity: Largest Jaccard similarity of character bigrams with an earlier question.
        least_round_trip: Least character F1 of what is answered with the passage; equal answers
            have 1.
        max_closed_book: Largest character F1 of what is answered without the passage.
    """

    max_answer_characters: Count = 60
    max_given_away: Share = 0.7
    max_similarity: Similarity = 0.7
    least_round_trip: Share = 0.8
    max_closed_book: Share = 0.7


class Retrieval(Section):
    """What the questions are searched with.

    Attributes:
        encoder: An encoder beside BM25: ``embedded``, a directory or a Hub name; None for BM25
            alone.
    """

    encoder: str | None = "embedded"


class QATask(TaskFile):
    """A task that makes questions on documents.

    Attributes:
        kind: ``qa``.
        name: Identifies the task; a run directory belongs to one name.
        description: One Japanese phrase that says what the documents are.
        documents: A folder of documents (txt, md, html, docx, pdf), or one of them.
        seed: Random seed of everything.
    """

    kind: Literal["qa"]
    name: Name
    description: str = ""
    documents: Path
    passages: PassageSettings = PassageSettings()
    generator: GeneratorSettings = GeneratorSettings(model="qwen")
    generation: QAGeneration = QAGeneration()
    curation: QACuration = QACuration()
    retrieval: Retrieval = Retrieval()
    privacy: Privacy = Privacy()
    japanese: JapaneseSettings = JapaneseSettings()
    seed: int = 0

    def __repr__(self) -> str:
        return f"<QATask {self.name}: {self.documents}>"
