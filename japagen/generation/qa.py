"""What a model is asked about passages: questions, answers, wrong options and choices.

The names of the templates are those of the requests, and of the steps that a plan lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from japagen.config.qa import QATask
from japagen.data.dataset import Rejection
from japagen.data.documents import Passage
from japagen.data.qa import NO_ANSWER, Question, lettered, question_id
from japagen.llm.answers import read_answer, read_label, read_texts
from japagen.llm.backend import Answer, GeneratorInfo, Request, Sampling
from japagen.llm.prompts import PromptLibrary
from japagen.llm.requests import make_request

TEMPLATES = ("qa_write", "qa_answer", "qa_distract", "qa_choose")
_LETTERS_TOKENS = 20
NOT_ANSWERED = Rejection("failed", 1, 0, "no answer that can be read")


@dataclass(frozen=True)
class Interview:
    """Makes the requests of a task, and reads their answers.

    Attributes:
        task: The task.
        prompts: The templates.
        generator: Whom they go to.

    Raises:
        JapagenError: If the generator continues documents.
    """

    task: QATask
    prompts: PromptLibrary
    generator: GeneratorInfo

    def __post_init__(self) -> None:
        self.generator.need_chat("to ask questions")

    @property
    def fingerprint(self) -> list[Any]:
        """What answers depend on beside the passages."""
        hashes = [self.prompts.template_hash(f"{name}.chat") for name in TEMPLATES]
        others = {"budget", "most_passages", "prompts"}
        settings = self.task.generation.model_dump(mode="json", exclude=others)
        return [self.generator.identity, hashes, self.task.description, self.task.seed, settings]

    def write(self, passage: Passage) -> Request:
        """Asks for questions on a passage, each followed by its answer."""
        settings = self.task.generation
        number = settings.per_passage
        shown = {"title": passage.title, "number": number}
        shown |= {"longest": self.task.curation.max_answer_characters}
        return self._request(
            "qa_write",
            passage.text,
            shown,
            passage.id,
            tokens=2 * number * settings.max_tokens,
            each=[[kind] for _ in range(number) for kind in ("question", "answer")],
        )

    def answer(self, question: Question, passage: Passage | None) -> Request:
        """Asks a question again, with a passage or without any."""
        text = passage.text if passage else ""
        shown = {"question": question.question, "no_answer": NO_ANSWER}
        tokens = self.task.generation.max_tokens
        return self._request("qa_answer", text, shown, question.id, tokens=tokens)

    def distract(self, question: Question, passage: Passage) -> Request:
        """Asks for the wrong options of a question."""
        settings = self.task.generation
        number = settings.options - 1
        shown = {"question": question.question, "answer": question.answer, "number": number}
        return self._request(
            "qa_distract",
            passage.text,
            shown,
            question.id,
            tokens=number * settings.max_tokens,
            each=[["option"]] * number,
        )

    def choose(self, question: Question, passage: Passage | None) -> Request:
        """Has one of the options of a question chosen, with its passage or without."""
        options = lettered(question.options)
        text = passage.text if passage else ""
        return self._request(
            "qa_choose",
            text,
            {"question": question.question, "options": options},
            question.id,
            tokens=_LETTERS_TOKENS,
            options=[letter for letter, _ in options],
        )

    def _request(
        self,
        template: str,
        passage: str,
        shown: Mapping[str, Any],
        place: str,
        tokens: int,
        each: Sequence[Sequence[str]] = (),
        options: Sequence[str] = (),
    ) -> Request:
        task = self.task
        # What is written should vary; what is answered should not.
        writes = template in ("qa_write", "qa_distract")
        temperature = task.generation.temperature if writes else 0.0
        return make_request(
            template,
            {"description": task.description, "passage": passage, **shown},
            [task.seed, template, place],
            self.prompts,
            self.generator,
            Sampling(temperature, max_tokens=tokens),
            each=each,
            options=options,
        )


def read_questions(request: Request, answer: Answer, passage: Passage) -> list[Question]:
    """The questions of an answer, each with the answer behind it; offsets are found later.

    A pair that was cut off is left out. An answer without a pair gives a rejected question.
    """
    texts = read_texts(request, answer)
    said = [text for text, rejected in texts if rejected is None]
    why = next((rejected for _, rejected in texts if rejected), None)
    if len(said) < 2:
        empty = why or Rejection("unreadable", len(said), 2, "no question with an answer")
        return [_question(request, passage, "", "", empty)]
    pairs = zip(said[::2], said[1::2], strict=False)
    return [_question(request, passage, question, found) for question, found in pairs]


def not_written(request: Request, passage: Passage) -> Question:
    """What stands for the questions of a request without an answer."""
    return _question(request, passage, "", "", NOT_ANSWERED)


def _question(
    request: Request, passage: Passage, question: str, answer: str, why: Rejection | None = None
) -> Question:
    name = question_id("extractive", passage.id, question, answer or request.id)
    return Question(
        name,
        "extractive",
        passage.id,
        question,
        answer,
        -1,
        request_id=request.id,
        rejected=why,
    )


def read_reply(request: Request, answer: Answer) -> str:
    """What was answered to a question; empty where that cannot be read."""
    text, rejected = read_answer(request, answer)
    return "" if rejected else text


def read_options(request: Request, answer: Answer) -> list[str]:
    """The wrong options of an answer, as far as they can be read."""
    return [text for text, rejected in read_texts(request, answer) if rejected is None]


def read_choice(question: Question, answer: Answer) -> str:
    """The option that was chosen; empty where none was."""
    options = dict(lettered(question.options))
    return options.get(read_label(answer.text, list(options)), "")
