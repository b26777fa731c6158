from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from japagen.errors import JapagenError
from japagen.llm.backends.vocabulary import (
    ASCII_RANK,
    SPACED_ASCII_RANK,
    GGUFFile,
    Piece,
    UncuttableVocabularyError,
    cut_vocabulary,
    keep_for_japanese,
)
from tests.llm.backends.tiny_model import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    vocabulary,
    write_tiny_model,
)

gguf = pytest.importorskip("gguf")

FAR = 200_000


@pytest.mark.parametrize("text", [*"日髙﨑々〆剝ｱＡ〜～…㈱①℃※éα😀A", "☺️", "🙏🙏"])
def test_keeps_characters_that_japanese_text_has(text: str) -> None:
    assert keep_for_japanese(Piece(text, NORMAL, FAR))


@pytest.mark.parametrize("text", ["です", "お届け", "▁うち", "「はい」", "返品・交換", "5月"])
def test_keeps_japanese_pieces(text: str) -> None:
    assert keep_for_japanese(Piece(text, NORMAL, FAR))


@pytest.mark.parametrize("text", ["们", "这是一", "привет", "한국", "한", "ção", "รัก"])
def test_drops_what_it_has_not(text: str) -> None:
    assert not keep_for_japanese(Piece(text, NORMAL, FAR))


def test_ascii_pieces_stay_by_rank() -> None:
    assert keep_for_japanese(Piece("iPhone", NORMAL, ASCII_RANK - 1))
    assert not keep_for_japanese(Piece("iPhone", NORMAL, ASCII_RANK))
    assert keep_for_japanese(Piece("▁the", NORMAL, SPACED_ASCII_RANK - 1))
    assert not keep_for_japanese(Piece("▁the", NORMAL, SPACED_ASCII_RANK))
    assert keep_for_japanese(Piece("▁", NORMAL, FAR))


@pytest.mark.parametrize(
    ("text", "type_", "kept"),
    [
        ("<0xE3>", BYTE, True),
        ("<unk>", UNKNOWN, True),
        ("<bos>", CONTROL, True),
        ("<end_of_turn>", CONTROL, True),
        ("<unused12>", CONTROL, False),
        ("\n\n", USER_DEFINED, True),
        ("\t", USER_DEFINED, True),
        ("▁▁", USER_DEFINED, True),
        ("<|im_start|>", USER_DEFINED, True),
    ],
)
def test_special_pieces(text: str, type_: int, kept: bool) -> None:
    assert keep_for_japanese(Piece(text, type_, FAR)) is kept


@given(
    st.text(st.sampled_from("あアー漢々、。「」▁aZ9!-～①※…お届们한π"), min_size=2, max_size=6),
    st.integers(0, FAR),
    st.data(),
)
def test_parts_of_a_kept_piece_are_kept(text: str, rank: int, data: st.DataObject) -> None:
    """The tokenizer merges parts into pieces; parts are ranked before the whole."""
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    if keep_for_japanese(Piece(text, NORMAL, rank)):
        assert keep_for_japanese(Piece(text[start:end], NORMAL, rank))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("vocabulary") / "tiny.gguf")


def test_selects_rows_and_renumbers(tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "cut.gguf"
    cut_vocabulary(tiny, target)
    dropped = {"<unused0>", "<unused1>", "<unused2>", "привет", "한국", "们"}
    kept = [i for i, (text, _, _) in enumerate(vocabulary()) if text not in dropped]
    before, after = gguf.GGUFReader(tiny), gguf.GGUFReader(target)
    assert after.fields["llama.vocab_size"].contents() == len(kept)
    for name in ("tokens", "scores", "token_type"):
        old = before.fields[f"tokenizer.ggml.{name}"].contents()
        assert after.fields[f"tokenizer.ggml.{name}"].contents() == [old[i] for i in kept]
    for old, new in zip(before.tensors, after.tensors, strict=True):
        rows = old.name in ("token_embd.weight", "output.weight")
        np.testing.assert_array_equal(new.data, old.data[kept] if rows else old.data)
    assert not list(tmp_path.glob(".*"))


def test_quantised_rows_are_selected_whole(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(len(vocabulary()), 64)).astype(np.float32)
    quantised = gguf.quants.quantize(rows, gguf.GGMLQuantizationType.Q8_0)

    def edit(writer: Any) -> None:
        # The embedding becomes Q8_0; the rest of the file stays as it is.
        del writer.tensors[0]["token_embd.weight"]
        writer.add_tensor("token_embd.weight", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    source = write_tiny_model(tmp_path / "q8.gguf", edit)
    cut_vocabulary(source, tmp_path / "cut.gguf")
    embedding = next(
        t for t in gguf.GGUFReader(tmp_path / "cut.gguf").tensors if t.name == "token_embd.weight"
    )
    texts = [text for text, _, _ in vocabulary()]
    cut = GGUFFile(tmp_path / "cut.gguf").value("tokenizer.ggml.tokens")
    np.testing.assert_array_equal(embedding.data, quantised[[texts.index(t) for t in cut]])


def _is_byte(piece: Piece) -> bool:
    return piece.type == BYTE


def test_pieces_that_the_metadata_names_stay_and_are_renumbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [text for text, _, _ in vocabulary()]

    def edit(writer: Any) -> None:
        writer.add_pad_token_id(texts.index("<unused2>"))
        writer.add_eot_token_id(texts.index("</s>"))
        writer.add_uint32("tokenizer.ggml.seperator_token_id", 2**32 - 1)
        writer.add_array("tokenizer.ggml.eos_token_ids", [2, texts.index("<unused1>")])

    source = write_tiny_model(tmp_path / "ids.gguf", edit)
    monkeypatch.setattr("japagen.llm.backends.vocabulary.keep_for_japanese", _is_byte)
    cut_vocabulary(source, tmp_path / "cut.gguf")
    model = GGUFFile(tmp_path / "cut.gguf")
    tokens = model.value("tokenizer.ggml.tokens")

    def named(field: str) -> str:
        return str(tokens[model.value(f"tokenizer.ggml.{field}_token_id")])

    assert [named(f) for f in ("bos", "eos", "unknown", "padding", "eot")] == [
        "<s>",
        "</s>",
        "<unk>",
        "<unused2>",
        "</s>",
    ]
    assert model.value("tokenizer.ggml.seperator_token_id") == 2**32 - 1
    ends = [tokens[i] for i in model.value("tokenizer.ggml.eos_token_ids")]
    assert ends == ["</s>", "<unused1>"]
    assert len(tokens) == 256 + 5


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda w: w.add_token_merges(["a b"]), "a tokenizer of kind llama with merges"),
        (lambda w: w.add_array("tokenizer.ggml.suppress", [1]), "tokenizer.ggml.suppress"),
        (
            lambda w: w.add_tensor("output.bias", np.zeros(len(vocabulary()), np.float32)),
            "output.bias",
        ),
        (lambda w: w.add_uint16("split.count", 2), "split file"),
    ],
)
def test_what_cannot_be_cut_is_refused(tmp_path: Path, edit: Any, found: str) -> None:
    source = write_tiny_model(tmp_path / "odd.gguf", edit)
    with pytest.raises(UncuttableVocabularyError, match=found):
        cut_vocabulary(source, tmp_path / "cut.gguf")
    assert not (tmp_path / "cut.gguf").exists()


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
        "from japagen.llm.backends.gguf_weights import find_weights\n"
        "def cut(path):\n"
        "    from japagen.llm.backends.vocabulary import cut_vocabulary\n"
        "    cut_vocabulary(path, path.with_name('cut.gguf'))\n"
        "path = Path(sys.argv[1])\n"
        "for use in (find_weights, cut):\n"
        "    try:\n"
        "        use(path)\n"
        "    except MissingExtraError as error:\n"
        "        print(error.hint)\n"
        "print(find_weights('gemma3-270m').name)\n"
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
