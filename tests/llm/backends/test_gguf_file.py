from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from japagen.errors import JapagenError
from japagen.llm.backends.gguf_file import GGUFFile
from tests.llm.backends.tiny_model import vocabulary, write_tiny_model

gguf = pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_reads_what_the_package_reads(tiny: Path) -> None:
    ours, theirs = GGUFFile(tiny), gguf.GGUFReader(tiny)
    assert {k: f.contents() for k, f in ours.fields.items()} == {
        k: f.contents() for k, f in theirs.fields.items()
    }
    assert {k: f.types for k, f in ours.fields.items()} == {
        k: f.types for k, f in theirs.fields.items()
    }
    assert ours.value("tokenizer.ggml.tokens") == [text for text, _, _ in vocabulary()]
    assert ours.value("tokenizer.ggml.add_space_prefix") is False
    assert ours.value("none") is None
    for our, their in zip(ours.tensors, theirs.tensors, strict=True):
        assert (our.name, our.data_offset) == (their.name, their.data_offset)
        np.testing.assert_array_equal(our.data, their.data)


def test_arrays_are_read_in_one_go(tiny: Path) -> None:
    """The package has one part for each item; that is what a large vocabulary is slow for."""
    fields = GGUFFile(tiny).fields
    assert len(fields["tokenizer.ggml.scores"].parts) == 4
    assert all(isinstance(p, memoryview) for p in fields["tokenizer.ggml.tokens"].parts[3:])


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    def edit(writer: Any) -> None:
        writer.add_key_value("general.license", b"\xff\xfe", gguf.GGUFValueType.STRING)

    path = write_tiny_model(tmp_path / "bytes.gguf", edit)
    with pytest.raises(JapagenError, match=r"general\.license that is not UTF-8"):
        GGUFFile(path).value("general.license")


def test_without_the_package_the_extra_is_named(tiny: Path) -> None:
    program = (
        "import sys; sys.modules['gguf'] = None\n"
        "from pathlib import Path\n"
        "from japagen.errors import MissingExtraError\n"
        "from japagen.llm.backends.vocabulary import cut_vocabulary\n"
        "from japagen.llm.backends.gguf_weights import find_weights\n"
        "path = Path(sys.argv[1])\n"
        "for use in (find_weights, cut_vocabulary):\n"
        "    try:\n"
        "        use(path, path.with_name('cut.gguf'))\n"
        "    except MissingExtraError as error:\n"
        "        print(error.hint)\n"
        "print(find_weights('gemma3-270m', cut=True).name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny)], capture_output=True, text=True, check=True
    )
    hint = "Install it with: pip install 'japagen[local]'"
    assert done.stdout.splitlines() == [hint, hint, "gemma3-270m"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"PK\x03\x04" + bytes(40), "GGUF magic invalid"),
        (b"GGUF" + (1).to_bytes(4, "little") + bytes(16), "version 1"),
        (b"GGUF" + (3).to_bytes(4, "big") + bytes(40), "the other byte order"),
        (b"GGUF" + (3).to_bytes(4, "little") + b"\x01" * 16, "cannot read"),
        (b"", "cannot read"),
        (b"GG", "cannot read"),
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
    with pytest.raises(JapagenError, match=r"Expected a whole .* cannot read"):
        GGUFFile(part)
