"""Which model file the embedded generator loads: a packaged model or the user's GGUF."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from japagen.errors import JapagenError, nearest
from japagen.generators.base import OutputTerms, PromptKind
from japagen.generators.gguf_file import GGUFFile
from japagen.generators.packaged import PACKAGED, PackagedModel, sha256
from japagen.generators.vocabulary import (
    RULE_VERSION,
    UncuttableVocabularyError,
    check_cuttable,
    cut_vocabulary,
)
from japagen.storage.cache import cache_dir
from japagen.storage.files import atomic

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Weights:
    """A model that can be loaded.

    Attributes:
        name: As users know it.
        sha256: Of the file as published, before any cut.
        source: The user's file, or the packaged model whose file is put together on first use.
        cut: Whether its vocabulary is to be cut for Japanese.
        prompt_kind: "chat" when the file carries a chat template.
        terms: What may be done with what it writes.
    """

    name: str
    sha256: str
    source: Path | PackagedModel
    cut: bool
    prompt_kind: PromptKind
    terms: OutputTerms

    @property
    def extra(self) -> str:
        """The extra of japagen that brings what it needs."""
        return self.source.extra if isinstance(self.source, PackagedModel) else "local"

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
            if not target.exists():
                self._make(target)
            elif isinstance(source, PackagedModel) and not self.cut:
                source.check(target)
        except OSError as error:
            raise JapagenError(
                f"Writing the model to {target} failed: {error.strerror or error}.",
                "Free some space there, or set JAPAGEN_CACHE to another directory.",
            ) from error
        return target

    def _make(self, target: Path) -> None:
        if isinstance(self.source, Path):
            cut_vocabulary(self.source, target)
        elif self.cut:
            with tempfile.TemporaryDirectory(dir=target.parent) as directory:
                whole = Path(directory) / "whole.gguf"
                self.source.assemble(whole)
                cut_vocabulary(whole, target)
        else:
            with atomic(target) as whole:
                self.source.assemble(whole)


def find_weights(model: str | Path, cut: bool) -> Weights:
    """Returns the weights that a name or path stands for; a user's file is read and hashed.

    Args:
        model: "gemma3-270m", "qwen" or the path of a GGUF file.
        cut: Whether to cut the vocabulary for Japanese, where that can be done.

    Raises:
        JapagenError: If there is no such model or the file is no GGUF.
    """
    if packaged := PACKAGED.get(str(model)):
        return Weights(
            name=packaged.name,
            sha256=packaged.sha256,
            source=packaged,
            cut=cut and packaged.cuttable,
            prompt_kind=packaged.prompt_kind,
            terms=packaged.terms,
        )
    path = Path(model).expanduser()
    if not path.is_file():
        known = ", ".join(f"'{key}'" for key in PACKAGED)
        raise JapagenError(
            f"Expected {known} or the path of a GGUF file, found '{model}'"
            f"{nearest(str(model), PACKAGED)}.",
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
        sha256=sha256(path),
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
