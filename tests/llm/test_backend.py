from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from japagen.llm.backend import AmbiguousOptionsError, Message, OptionScorer
from japagen.llm.backends import llama_cpp
from japagen.llm.backends.embedded import EmbeddedGenerator
from tests.llm.backends.tiny_model import write_tiny_model
from tests.scripted import ScriptedGenerator

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
OPTIONS = ["商品", "返品", "会社"]
DOCUMENTS = [f"届いた{word}。\n配送：" for word in ("商品", "本", "日本語", "会社の商品", "あい")]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedGenerator]:
    pytest.importorskip("xllamacpp")
    directory = tmp_path_factory.mktemp("choosing")
    path = write_tiny_model(directory / "tiny.gguf")
    generator = EmbeddedGenerator(path, slots=2, threads=1, context=256, cache=directory)
    yield generator
    generator.close()


def test_who_can_choose(generator: EmbeddedGenerator) -> None:
    assert isinstance(generator, OptionScorer)
    assert not isinstance(ScriptedGenerator(), OptionScorer)


def test_every_document_is_weighed_once(generator: EmbeddedGenerator) -> None:
    found = list(generator.choose(DOCUMENTS, OPTIONS))
    assert sorted(index for index, _ in found) == list(range(len(DOCUMENTS)))
    for _, row in found:
        assert len(row) == len(OPTIONS)
        assert 0 < sum(map(math.exp, row)) <= 1
    assert len({tuple(row) for _, row in found}) == len(DOCUMENTS)
    assert list(generator.choose([], OPTIONS)) == []


def test_what_is_too_unlikely_to_be_listed_is_weighed_alike(
    generator: EmbeddedGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = dict(generator.choose(DOCUMENTS, OPTIONS))
    monkeypatch.setattr(llama_cpp, "_LISTED", 1)
    forced = dict(generator.choose(DOCUMENTS, OPTIONS))
    for index, row in listed.items():
        assert forced[index] == pytest.approx(row, abs=0.05)


@pytest.mark.parametrize("listed", [100, 1])
def test_an_answer_to_chat_turns_is_weighed_behind_the_files_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: int
) -> None:
    pytest.importorskip("xllamacpp")
    monkeypatch.setattr(llama_cpp, "_LISTED", listed)
    path = write_tiny_model(tmp_path / "chat.gguf", lambda w: w.add_chat_template(TEMPLATE))
    chat = EmbeddedGenerator(path, slots=2, threads=1, context=256, cache=tmp_path)
    try:
        turns = [(Message("system", "指示"), Message("user", text)) for text in DOCUMENTS]
        found = dict(chat.choose(turns, ["A", "B", "C"]))
        documents = [f"<system>指示\n<user>{text}\n" for text in DOCUMENTS]
        rendered = dict(chat.choose(documents, ["A", "B", "C"]))
    finally:
        chat.close()
    assert sorted(found) == list(range(len(DOCUMENTS)))
    assert len({tuple(row) for row in found.values()}) > 2
    for index, row in rendered.items():
        assert found[index] == pytest.approx(row, abs=0.05)


def test_a_model_without_a_template_weighs_no_answers(generator: EmbeddedGenerator) -> None:
    with pytest.raises(llama_cpp.EngineError, match="no chat template"):
        generator.choose([(Message("user", "返品です。"),)], OPTIONS)


def test_options_that_begin_alike_are_refused(generator: EmbeddedGenerator) -> None:
    with pytest.raises(AmbiguousOptionsError, match="begin with different tokens"):
        generator.choose(DOCUMENTS, ["商品あ", "商品い"])


def test_a_document_beyond_the_context_is_an_error(generator: EmbeddedGenerator) -> None:
    with pytest.raises(llama_cpp.EngineError, match=r"llama\.cpp cannot take the request"):
        list(generator.choose(["商品" * 400], OPTIONS))
