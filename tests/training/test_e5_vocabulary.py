from __future__ import annotations

import numpy as np
import pytest

from japagen.training.e5_vocabulary import build_tokenizer, japanese_rows, keep_piece

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
