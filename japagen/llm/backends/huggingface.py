"""Text from a checkpoint that transformers loads."""

from __future__ import annotations

import functools
import hashlib
import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Literal

import torch
from jinja2 import TemplateError
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from japagen.config.generation import GeneratorSettings
from japagen.errors import JapagenError, MissingExtraError
from japagen.llm.backend import (
    Answer,
    GeneratorInfo,
    Message,
    OutputTerms,
    Prompt,
    Request,
    Sampling,
)
from japagen.llm.backends.gguf_weights import find_weights
from japagen.transformers_loading import loading_errors, quiet_transformers, refuse_missing_weights

_SLOTS_CPU, _SLOTS_CUDA = 8, 32


class HFGenerator:
    """Answers requests in batches with a causal language model of transformers.

    Weights are read from safetensors or GGUF, never from pickles, and code that comes with a
    checkpoint is not run. The model is loaded with the first request, onto a GPU where there is
    one. A seed belongs to its request, not to the batch that it happens to be in.

    Args:
        model: A directory, the path of a GGUF file, or a name on the Hugging Face Hub.
        slots: Requests in a batch; 8 on a CPU and 32 on a GPU when None.
        device: Such as ``cpu`` or ``cuda:1``; chosen when None.

    Raises:
        MissingExtraError: If a GGUF is named and a package that reads it is missing.
    """

    def __init__(self, model: str, *, slots: int | None = None, device: str | None = None) -> None:
        if model.endswith(".gguf"):
            require_gguf_packages()
        self._name = model
        self._slots = slots
        self._device = device
        self._model: Any = None
        self._closed = threading.Event()
        self._starting = threading.Lock()

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return find_checkpoint(self._name)

    @property
    def info(self) -> GeneratorInfo:
        """Who this generator is; reads the checkpoint's settings and tokenizer.

        Raises:
            JapagenError: If there is no such checkpoint, or transformers cannot read it.
        """
        return self._checkpoint.info

    def stream(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answers every request once, batch after batch.

        The work is done in the thread that iterates, so closing the iterator leaves nothing
        behind. One batch of ``requests`` is read ahead.

        Raises:
            JapagenError: If the model cannot be loaded.
        """
        source = iter(requests)
        device = self._started()
        size = self._slots or (_SLOTS_CPU if device == "cpu" else _SLOTS_CUDA)
        while batch := list(islice(source, size)):
            for sampling, group in groupby(batch, key=lambda request: request.sampling):
                began = time.perf_counter()
                answers = self._answers(list(group), sampling)
                seconds = time.perf_counter() - began
                yield from (replace(answer, seconds=seconds) for answer in answers)

    def count_tokens(self, text: str) -> int:
        """Number of tokens of ``text``, without those that begin or end a document."""
        valid = text.encode("utf-8", "replace").decode()
        return len(self._checkpoint.tokenizer(valid, add_special_tokens=False)["input_ids"])

    def close(self) -> None:
        """Stops what is in progress and frees the model; the next request would load it again."""
        with self._starting:
            self._closed.set()
            self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _started(self) -> str:
        """Loads the model if it is not there, and returns the kind of device that it is on."""
        with self._starting:
            if self._model is None:
                device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
                # Half precision is slower than single on most CPUs, and twice as fast on GPUs.
                kind = torch.float32 if device == "cpu" else torch.bfloat16
                self._model = self._checkpoint.load().to(device, kind)
                self._closed = threading.Event()
            return str(self._model.device.type)

    def _answers(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
        """Answers requests of one sampling together, in any order."""
        config = self._model and self._model.config.get_text_config()
        context = getattr(config, "max_position_embeddings", None) or math.inf
        rows: list[tuple[Request, list[int]]] = []
        failed: list[Answer] = []
        for request in requests:
            tokens = self._tokens(request.prompt)
            if isinstance(tokens, str):
                failed.append(_failed(request, tokens))
            elif len(tokens) + sampling.max_tokens > context:
                reason = (
                    f"The prompt's {len(tokens)} tokens and max_tokens {sampling.max_tokens} "
                    f"exceed the model's context of {context}."
                )
                failed.append(_failed(request, reason))
            else:
                rows.append((request, tokens))
        return failed + self._write(rows, sampling)

    def _tokens(self, prompt: Prompt) -> list[int] | str:
        tokenizer = self._checkpoint.tokenizer
        try:
            if isinstance(prompt, str):
                prompt.encode()
                return list(tokenizer(prompt)["input_ids"])
            if not tokenizer.chat_template:
                return "The model has no chat template; it continues documents only."
            text = self._rendered(prompt)
            text.encode()
            return list(tokenizer(text, add_special_tokens=False)["input_ids"])
        except UnicodeEncodeError:
            return "The prompt holds characters that UTF-8 cannot carry."
        except TemplateError as error:
            return f"The model's chat template cannot take the prompt: {error}"

    def _rendered(self, turns: Sequence[Message]) -> str:
        try:
            rendered: str = self._checkpoint.tokenizer.apply_chat_template(
                [asdict(turn) for turn in turns],
                tokenize=False,
                add_generation_prompt=True,
                # A model that thinks first would spend max_tokens on that.
                enable_thinking=False,
            )
        except TemplateError:
            # Some templates know no system turn; what it says can stand before the user's words.
            if [turn.role for turn in turns[:2]] != ["system", "user"]:
                raise
            first = Message("user", f"{turns[0].content}\n\n{turns[1].content}")
            return self._rendered([first, *turns[2:]])
        return rendered

    def _write(self, rows: Sequence[tuple[Request, list[int]]], sampling: Sampling) -> list[Answer]:
        if not rows:
            return []
        try:
            return self._write_batch(rows, sampling)
        except torch.OutOfMemoryError as error:
            if len(rows) == 1:
                reason = f"The prompt does not fit into the GPU's memory: {error}"
                return [_failed(rows[0][0], reason)]
        half = len(rows) // 2
        return self._write(rows[:half], sampling) + self._write(rows[half:], sampling)

    def _write_batch(
        self, rows: Sequence[tuple[Request, list[int]]], sampling: Sampling
    ) -> list[Answer]:
        model, closed, tokenizer = self._model, self._closed, self._checkpoint.tokenizer
        if model is None or closed.is_set():
            return [_failed(request, "The generator was closed.") for request, _ in rows]
        pad, ends = tokenizer.pad_token_id or 0, _ends(model.generation_config, tokenizer)
        width = max(len(tokens) for _, tokens in rows)
        padded = [[pad] * (width - len(tokens)) + tokens for _, tokens in rows]
        mask = [[0] * (width - len(tokens)) + [1] * len(tokens) for _, tokens in rows]
        draw = _Draw(sampling, [request.seed for request, _ in rows])
        stop = _Stop(tokenizer, width, sampling.stop, closed)
        # A configuration of our own: checkpoints bring penalties and limits in theirs.
        config = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=sampling.max_tokens,
            do_sample=False,
            pad_token_id=pad,
            eos_token_id=ends or None,
        )
        with torch.inference_mode(), quiet_transformers():
            out = model.generate(
                torch.tensor(padded, device=model.device),
                attention_mask=torch.tensor(mask, device=model.device),
                generation_config=config,
                logits_processor=LogitsProcessorList([draw]),
                stopping_criteria=StoppingCriteriaList([stop]),
            )
        if closed.is_set():
            return [_failed(request, "The generator was closed.") for request, _ in rows]
        return [
            _read(tokenizer, ends, written, request, len(tokens))
            for written, (request, tokens) in zip(out[:, width:].tolist(), rows, strict=True)
        ]


_UNKNOWN_TERMS = OutputTerms("Terms unknown to japagen: check what the model's licence says.")


_loading = functools.partial(
    loading_errors,
    kind="a causal language model",
    hint="generator.model takes a directory with config.json, tokenizer and safetensors "
    "weights, a GGUF file, or a name on the Hugging Face Hub.",
)


@dataclass(frozen=True)
class Checkpoint:
    """A model that transformers can load.

    Attributes:
        place: Directory or Hub name.
        options: What else ``from_pretrained`` needs to load exactly this one.
        info: Who the generator is.
        tokenizer: Its tokenizer, which pads on the left.
    """

    place: str
    options: dict[str, Any]
    info: GeneratorInfo
    tokenizer: Any

    @property
    def identity(self) -> str:
        """That of the generator."""
        return self.info.identity

    def load(self) -> Any:
        """Returns the model in evaluation mode, on the CPU.

        Raises:
            JapagenError: If it cannot be loaded or weights are missing.
        """
        from transformers import AutoModelForCausalLM

        weights = {} if "gguf_file" in self.options else {"use_safetensors": True}
        with quiet_transformers(), _loading(self.info.name):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                self.place,
                trust_remote_code=False,
                output_loading_info=True,
                **weights,
                **self.options,
            )
            model, found = loaded
        refuse_missing_weights(model, self.info.name, sorted(found["missing_keys"]))
        return model.eval()


def find_checkpoint(name: str) -> Checkpoint:
    """Reads settings and tokenizer of a checkpoint; its weights are only hashed.

    Args:
        name: A directory, a GGUF file or a Hub name.

    Raises:
        JapagenError: If there is none, or it cannot be read.
    """
    from transformers import AutoConfig, AutoTokenizer

    path = Path(name).expanduser()
    options: dict[str, Any] = {}
    place = name
    if name.endswith(".gguf"):
        _check_exists(path)
        place, options = str(path.parent), {"gguf_file": path.name}
    elif path.is_dir():
        place = str(path)
    elif path.is_absolute() or name.startswith((".", "~")):
        _check_exists(path)
    with quiet_transformers(), _loading(name):
        if not path.exists():
            config = AutoConfig.from_pretrained(place, trust_remote_code=False)
            commit = getattr(config, "_commit_hash", None)
            # What the Hub calls the name may change between now and the loading of the weights.
            options = {"revision": commit} if commit else {}
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False, **options)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    identity = _hash(path) if path.exists() else str(options.get("revision", "unknown"))
    info = GeneratorInfo(
        name=path.stem if path.exists() else name,
        identity=f"hf:{path.stem if path.exists() else name}:{identity[:16]}",
        prompt_kind="chat" if tokenizer.chat_template else "document",
        local=True,
        terms=_UNKNOWN_TERMS,
    )
    return Checkpoint(place, options, info, tokenizer)


def generator_checkpoint(settings: GeneratorSettings) -> Checkpoint:
    """Finds the model of a generator in this process, to be read with transformers.

    Args:
        settings: Of the backend embedded, whose vocabulary is cut for Japanese where it can be, or
            of hf.

    Raises:
        MissingExtraError: If a package that reads a GGUF file is missing.
        JapagenError: If there is no such model.
    """
    if settings.backend != "embedded":
        return find_checkpoint(settings.model)
    weights = find_weights(settings.model)
    require_gguf_packages()
    found = find_checkpoint(str(weights.file()))
    identity = f"{weights.name}:{weights.identity}"
    info = replace(found.info, name=weights.name, identity=identity, terms=weights.terms)
    return replace(found, info=info)


def require_gguf_packages() -> None:
    """Raises MissingExtraError if a package that reads a GGUF file is missing."""
    for package in ("gguf", "accelerate"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "hf", "Reading a GGUF file with transformers")


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise JapagenError(
            f"Expected a checkpoint's directory or a GGUF file at {path}, found nothing.",
            "Check generator.model.",
        )


def _hash(path: Path) -> str:
    """SHA-256 over the names and contents of what a model's output depends on."""
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    whole = hashlib.sha256()
    for file in files:
        if file.suffix in (".safetensors", ".gguf", ".json", ".model", ".txt", ".jinja"):
            with file.open("rb") as opened:
                whole.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
    return whole.hexdigest()


def _read(
    tokenizer: Any, ends: Sequence[int], row: list[int], request: Request, prompt_tokens: int
) -> Answer:
    """Takes one completion out of a row that goes on with padding where others were longer."""
    end = next((i for i, token in enumerate(row) if token in ends), None)
    tokens = row if end is None else row[:end]
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    stops = request.sampling.stop
    cuts = [at for s in stops if (at := text.find(s)) >= 0]
    if not cuts:
        written = len(tokens) + (end is not None)
        finish: Literal["stop", "length"] = "length" if end is None else "stop"
        return Answer(request.id, text, finish, prompt_tokens, written)
    # The row ended with the token that completed the stop string.
    count = next(
        n
        for n in range(1, len(tokens) + 1)
        if any(s in tokenizer.decode(tokens[:n], skip_special_tokens=True) for s in stops)
    )
    return Answer(request.id, text[: min(cuts)], "stop", prompt_tokens, count)


def _failed(request: Request, reason: str) -> Answer:
    return Answer(request.id, "", "error", error=reason)


class _Draw(LogitsProcessor):
    """Draws every row's next token with that row's own random numbers.

    The largest of logits plus independent Gumbel noise is a draw from their softmax (Gumbel-max;
    Maddison et al. 2014, "A* Sampling"), so that the seed alone decides, whatever the batch.
    """

    def __init__(self, sampling: Sampling, seeds: Sequence[int]) -> None:
        self._sampling = sampling
        self._random = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        sampling = self._sampling
        if sampling.temperature == 0:
            return scores
        kept = min(sampling.top_k or scores.shape[-1], scores.shape[-1])
        logits, ids = scores.float().topk(kept, dim=-1)
        if sampling.min_p:
            floor = logits[:, :1] + math.log(sampling.min_p)
            logits = logits.masked_fill(logits < floor, -math.inf)
        noise = torch.stack([torch.rand(kept, generator=g) for g in self._random])
        # Zero would become infinite noise, of which two could be equal.
        noise = -(-noise.clamp_min(1e-20).log()).log()
        drawn = (logits / sampling.temperature + noise.to(logits.device)).argmax(-1, keepdim=True)
        only = torch.full_like(scores, -math.inf)
        return only.scatter(1, ids.gather(1, drawn), 0.0)


class _Stop(StoppingCriteria):
    """Ends a row at its stop string, and all rows when the generator is closed."""

    def __init__(
        self, tokenizer: Any, width: int, stops: Sequence[str], closed: threading.Event
    ) -> None:
        self._tokenizer = tokenizer
        self._width = width
        self._stops = stops
        self._closed = closed
        # A stop string is never more tokens than bytes; one more may begin before it.
        self._tail = max((len(s.encode()) for s in stops), default=0) + 1

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        size, device = input_ids.shape[0], input_ids.device
        if self._closed.is_set() or not self._stops:
            return torch.full((size,), self._closed.is_set(), device=device)
        tails = input_ids[:, max(self._width, input_ids.shape[1] - self._tail) :].tolist()
        texts = self._tokenizer.batch_decode(tails, skip_special_tokens=True)
        return torch.tensor([any(s in t for s in self._stops) for t in texts], device=device)


def _ends(config: Any, tokenizer: Any) -> list[int]:
    """Ids of the tokens that end a text."""
    declared = config.eos_token_id if config is not None else None
    ends = declared if isinstance(declared, list) else [declared]
    return sorted({e for e in [*ends, tokenizer.eos_token_id] if e is not None})
