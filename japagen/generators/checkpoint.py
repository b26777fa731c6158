"""Finds a causal language model's checkpoint for transformers and says what it is."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from japagen.errors import JapagenError, MissingExtraError
from japagen.from_transformers import (
    loading_errors,
    quiet_transformers,
    refuse_missing_weights,
)
from japagen.generators.base import GeneratorInfo, OutputTerms
from japagen.generators.weights import find_weights
from japagen.tasks.generator_settings import GeneratorSettings

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
    weights = find_weights(settings.model, cut=True)
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
