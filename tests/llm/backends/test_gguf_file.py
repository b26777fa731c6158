from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from japagen.errors import JapagenError
from japagen.llm.backends.vocabulary import GGUFFile, write_gguf
from tests.llm.backends.tiny_model import WIDTH, vocabulary, write_tiny_model

gguf = pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_reads_what_another_program_wrote(tiny: Path) -> None:
    model = GGUFFile(tiny)
    assert model.fields["general.architecture"].value == "llama"
    assert model.fields["llama.embedding_length"].value == WIDTH
    assert model.fields["tokenizer.ggml.add_space_prefix"].value is False
    assert model.fields["tokenizer.ggml.tokens"].value == [text for text, _, _ in vocabulary()]
    assert model.fields["tokenizer.ggml.scores"].value == [score for _, score, _ in vocabulary()]
    theirs = {t.name: t for t in gguf.GGUFReader(tiny).tensors}
    assert {t.name for t in model.tensors} == set(theirs)
    for tensor in model.tensors:
        expected = theirs[tensor.name].data.tobytes()
        assert model.tensor_bytes(tensor).tobytes()[: len(expected)] == expected


def test_another_program_reads_what_it_wrote(tiny: Path, tmp_path: Path) -> None:
    model = GGUFFile(tiny)
    copy = tmp_path / "copy.gguf"
    write_gguf(copy, model.fields, [(t, model.tensor_bytes(t)) for t in model.tensors])
    before, after = gguf.GGUFReader(tiny), gguf.GGUFReader(copy)
    assert {k: f.contents() for k, f in before.fields.items()} == {
        k: f.contents() for k, f in after.fields.items()
    }
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert (old.name, old.tensor_type, list(old.shape)) == (
            new.name,
            new.tensor_type,
            list(new.shape),
        )
        np.testing.assert_array_equal(old.data, new.data)


def test_takes_items_of_arrays(tiny: Path) -> None:
    fields = GGUFFile(tiny).fields
    indices = np.array([2, 5], np.int64)
    assert fields["tokenizer.ggml.tokens"].take(indices).value == ["</s>", "<unused2>"]
    assert fields["tokenizer.ggml.token_type"].take(indices).value == [3, 3]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"PK\x03\x04" + bytes(40), "does not begin with 'GGUF'"),
        (b"GGUF" + (1).to_bytes(4, "little") + bytes(16), "GGUF version 1"),
        (b"GGUF" + (3).to_bytes(4, "big") + bytes(16), "big-endian"),
        (b"GGUF" + (3).to_bytes(4, "little") + b"\x01" * 16, "does not parse"),
        (b"", "cannot read"),
    ],
)
def test_says_what_is_wrong_with_a_file(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(JapagenError, match=found):
        GGUFFile(path)


def test_a_file_cut_short_is_refused(tiny: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.gguf"
    part.write_bytes(tiny.read_bytes()[: tiny.stat().st_size // 2])
    with pytest.raises(JapagenError, match="fewer bytes than its tensors need"):
        GGUFFile(part)
