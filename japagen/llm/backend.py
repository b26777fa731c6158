"""The protocol of a backend: requests in, answers out, options scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from japagen.config.fields import FieldSet
from japagen.config.generation import GeneratorSettings
from japagen.data.files import digest
from japagen.data.registry import BACKENDS
from japagen.errors import JapagenError
from japagen.japanese.registers import Register

if TYPE_CHECKING:
    from japagen.config.code import CodeGeneration
    from japagen.config.generation import Generation
    from japagen.llm.backends.offline import Files

PromptKind = Literal["document", "chat"]
MOST_REPLIES = 3
"""Replies to one request that a backend lets itself be charged for, before it gives up."""
TOKENS_PER_CHARACTER = 0.8
"""A rough figure for Japanese, until a model has counted."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


Prompt = str | tuple[Message, ...]
"""A document to continue, or chat turns to answer."""


def prompt_texts(prompt: Prompt) -> list[str]:
    """The document alone, or what each turn says."""
    return [prompt] if isinstance(prompt, str) else [turn.content for turn in prompt]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn from the model.

    Attributes:
        temperature: Softmax temperature; 0 is greedy.
        top_k: Number of most likely tokens kept; 0 keeps all.
        min_p: Tokens less likely than this share of the most likely one are dropped.
        max_tokens: Upper bound on the answer's length in tokens.
        stop: The answer ends before the first of these strings.
    """

    temperature: float = 1.0
    top_k: int = 100
    min_p: float = 0.02
    max_tokens: int = 120
    stop: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Generation | CodeGeneration, texts: int = 1) -> Sampling:
        """How a task wants answers of so many texts to be drawn."""
        s = settings
        return cls(s.temperature, s.top_k, s.min_p, s.max_tokens * texts)


def _object_with(contents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": contents,
        "required": list(contents),
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": next(iter(contents)), "strict": True, "schema": schema},
    }


TEXT_OBJECT: dict[str, Any] = _object_with({"text": {"type": "string"}})
"""What an answer to chat turns looks like, for decoders that can be held to a JSON schema."""


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to send, and all that is needed to say later why it was sent.

    Attributes:
        id: Stable hash of the prompt, sampling, seed and generator.
        prompt: A document to continue (str) or chat turns (tuple of `Message`).
        label: The label asked for.
        register: The register asked for.
        template: Name of the prompt template.
        shot_ids: Ids of the gold examples that the prompt shows or descends from.
        knowledge: What the prompt names and why, each as ``KIND:ITEM``.
        round: Which round of the closed loop, from 0.
        options: Labels to choose one of, where that is asked; empty where a text is wanted.
        each: Where the answer is a list of texts, what each of them names: part of ``knowledge``.
            Empty where one text, or a label, is wanted.
        settings: How each text is to be written (who writes, how long), a line ``NAME：VALUE`` for
            each attribute; one entry per text, or none where nothing is said.
        seed_rows: Ids of the rows of ``generation.seed`` that the prompt tells of, one per text.
        fields: What each text consists of, where it is more than a text.
        criteria: What a text is to be scored by, 1 to 5, where that is asked.
    """

    id: str
    prompt: Prompt
    sampling: Sampling
    seed: int
    label: str
    register: Register
    template: str
    shot_ids: tuple[str, ...] = ()
    knowledge: tuple[str, ...] = ()
    round: int = 0
    options: tuple[str, ...] = ()
    each: tuple[tuple[str, ...], ...] = ()
    settings: tuple[str, ...] = ()
    seed_rows: tuple[str, ...] = ()
    fields: FieldSet | None = field(default=None, hash=False)
    criteria: tuple[str, ...] = ()

    @property
    def texts(self) -> int:
        """How many texts are asked for; none where only more fields of one are."""
        if self.fields and not self.fields.text:
            return 0
        return len(self.each) or 1

    def text_ids(self) -> list[str]:
        """What the examples are called that its texts become, in their order."""
        if not self.each:
            return [f"s-{self.id}"]
        return [f"s-{self.id}.{number}" for number in range(1, len(self.each) + 1)]


def answer_format(request: Request, *, counted: bool = True) -> dict[str, Any]:
    """The ``response_format`` of chat turns: an object with a text, texts, an option, or scores.

    Args:
        request: What is asked.
        counted: Whether the decoder is told how many texts; some know no bounds of a list.
    """
    if request.criteria:
        score = {"type": "integer", "enum": [1, 2, 3, 4, 5]}
        return _object_with(dict.fromkeys(request.criteria, score))
    text = request.fields.answer_schema if request.fields else {"type": "string"}
    if request.fields and request.fields.verbatim:
        return _object_with(request.fields.answer_schema["properties"])
    if request.each:
        texts: dict[str, Any] = {"type": "array", "items": text}
        if counted:
            texts |= {"minItems": request.texts, "maxItems": request.texts}
        return _object_with({"texts": texts})
    if not request.options:
        return _object_with({"text": text}) if request.fields else TEXT_OBJECT
    return _object_with({"label": {"type": "string", "enum": list(request.options)}})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request.

    Attributes:
        request_id: The request answered.
        text: The raw text of the completion; empty when `error` is set.
        finish: "stop" at a natural end, "length" at the token limit, "error" on failure.
        prompt_tokens: Tokens read, cached ones included.
        completion_tokens: Tokens written.
        seconds: Time from sending to the last token.
        error: Why there is no answer, or an empty string.
        scores: Log-probability of each of the request's options, where the backend knows it;
            otherwise empty.
    """

    request_id: str
    text: str
    finish: Literal["stop", "length", "error"]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    error: str = ""
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class OutputTerms:
    """What may be done with the text that a generator writes.

    Attributes:
        summary: One sentence for dataset and model cards.
        url: Where the full terms are.
        may_train: Whether the text may train another model; None when the user must check.
        may_publish: Whether the text may be published; None when the user must check.
    """

    summary: str
    url: str = ""
    may_train: bool | None = None
    may_publish: bool | None = None


@dataclass(frozen=True, slots=True)
class GeneratorInfo:
    """Who a generator is, for fingerprints, cards and reports.

    Attributes:
        name: Model name as users know it.
        identity: Everything that changes its output (weights' hash, engine version).
        prompt_kind: Whether it continues documents or answers chat turns.
        local: True when prompts do not leave this machine.
        terms: What may be done with its output.
        resumable: True when what is in flight goes on without this process, and is taken up by
            asking for it again.
    """

    name: str
    identity: str
    prompt_kind: PromptKind
    local: bool
    terms: OutputTerms = field(default_factory=lambda: OutputTerms("Terms unknown: check them."))
    resumable: bool = False

    def need_chat(self, purpose: str) -> None:
        """Raises JapagenError unless this is a chat model.

        Args:
            purpose: What it is needed for, such as ``to write programs``.
        """
        if self.prompt_kind == "document":
            raise JapagenError(
                f"Expected a chat model {purpose}, found {self.name}, which continues documents "
                "and follows no instructions.",
                "Set generator to a chat model, such as {model: qwen} or "
                "{backend: openai, model: …}.",
            )


class Generator(Protocol):
    """A backend that answers requests, in any order, as they are finished."""

    @property
    def info(self) -> GeneratorInfo:
        """Who this generator is."""

    def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answers every request exactly once, failures included, in order of completion.

        Closing the iterator stops the work in flight.
        """

    def count_tokens(self, text: str) -> int:
        """Number of tokens of ``text`` under the model's tokenizer, or the best estimate."""

    def close(self) -> None:
        """Frees what the generator holds; calling it twice is harmless."""


@runtime_checkable
class Announcer(Protocol):
    """A generator that takes requests before it sends them to servers, and tells when it does.

    Attributes:
        on_send: Called from any thread: with True before a request is sent, with False where that
            did not reach the server.
    """

    on_send: Callable[[Request, bool], None]

    def load(self) -> Mapping[str, tuple[int, int]]:
        """Server to the requests that it has, and the most that it gets at present."""


@dataclass(frozen=True)
class Waiting:
    """What a step that asks a model is waiting for.

    Attributes:
        in_flight: Requests sent and not answered yet.
        unsent: Requests that wait for their turn.
        servers: Server to the requests that it has, and the most that it gets at present: none
            while it is left alone. Empty where that is not known.
        tokens_left: What is left of a budget in tokens, beside what is set aside for requests in
            flight; None without one.
        yen_left: The same in yen.
    """

    in_flight: int = 0
    unsent: int = 0
    servers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    tokens_left: int | None = None
    yen_left: float | None = None


@runtime_checkable
class Watcher(Protocol):
    """A listener that shows what is waited for."""

    def watch(self, what: str, tell: Callable[[], Waiting]) -> None:
        """May ask ``tell`` from now on, from any thread, what a step is waiting for."""


def load_generator(
    settings: GeneratorSettings,
    batches: Path | None = None,
    note: Callable[[str], None] = lambda _: None,
    files: Files | None = None,
) -> Generator:
    """Returns the backend; models and connections start with the first request.

    Args:
        settings: Which, and how.
        batches: Where batches are noted; without it nothing goes by the batch API.
        note: Told what the user should know while waiting.
        files: What is answered from a file, and written to one.

    Raises:
        JapagenError: If the settings do not go together, an extra is missing, or a plug-in fails.
    """
    backend = BACKENDS.find(settings.backend)
    if backend.model and settings.model == GeneratorSettings().model:
        raise JapagenError(
            f"generator.backend {backend.name} needs {backend.model}, found the embedded default.",
            "Set generator.model.",
        )
    settings.check_variables()
    with backend.blamed():
        given = {"settings": settings, "batches": batches, "note": note, "files": files}
        loaded: Generator = backend.bind({**dict(settings), **given})()
    return loaded


class AmbiguousOptionsError(JapagenError):
    """Two options begin with the same token, so the next token does not tell them apart."""


def choice_key(identity: str, prompt: Prompt, options: Sequence[str]) -> str:
    """What a ledger knows a weighing of options by.

    Args:
        identity: Of the generator.
        prompt: What came before.
        options: What might come next, in order.
    """
    before = prompt if isinstance(prompt, str) else [[t.role, t.content] for t in prompt]
    return digest([identity, before, list(options)])


def scores_options(generator: Generator) -> bool:
    """Whether it says so: its answers to requests with options may hold `Answer.scores`."""
    return bool(getattr(generator, "scores_options", False))


@runtime_checkable
class OptionScorer(Protocol):
    """A generator that can also weigh given continuations of a document or openings of an answer.

    Ask with ``isinstance(generator, OptionScorer)``: a backend that only writes has no such method.
    """

    def choose(
        self, prompts: Sequence[Prompt], options: Sequence[str]
    ) -> Iterator[tuple[int, list[float]]]:
        """Weighs the options after every prompt.

        Args:
            prompts: What comes before: documents, or else chat turns. Those that begin alike
                should stand together.
            options: What may come next. No two may begin with the same token.

        Yields:
            A prompt's index and the log-probability of every option's first token, over the
            whole vocabulary; each prompt once, in order of completion.

        Raises:
            AmbiguousOptionsError: If two options begin with the same token.
            JapagenError: If a prompt is too long.
        """
