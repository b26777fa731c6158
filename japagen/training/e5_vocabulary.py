"""Which pieces of the XLM-RoBERTa vocabulary Japanese needs, and the tokenizer over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_WORD_START = "▁"
_UNK_ID = 3
# Log-probability below which an ASCII piece that starts a word goes.
_RARE_WORD = -11.0

_JAPANESE_RANGES = (
    (0x20, 0x7E),  # ASCII
    (0xA1, 0xBF),  # Latin-1 signs
    (0xD7, 0xD7),  # ×
    (0xF7, 0xF7),  # ÷
    (0x2010, 0x2BFF),  # punctuation, currency, arrows, mathematics, box drawing, dingbats
    (0x3000, 0x30FF),  # Japanese punctuation, hiragana, katakana
    (0x31F0, 0x33FF),  # small katakana, enclosed and square forms
    (0xFE0F, 0xFE0F),  # emoji presentation
    (0xFF00, 0xFFEF),  # full-width and half-width forms
    (0x1F000, 0x1FAFF),  # emoji
)

# No text holds this code point: it stands in for one that must survive NFKC.
_STAND_IN = "\U000ffffd"


def japanese_rows(pieces: Sequence[str], scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Returns the indices of the pieces that Japanese needs, ascending."""
    scored = zip(pieces, scores.tolist(), strict=True)
    return np.flatnonzero([keep_piece(piece, score) for piece, score in scored])


def keep_piece(piece: str, score: float) -> bool:
    """Whether Japanese text needs a piece of the vocabulary.

    Kept are the special pieces; pieces made only of kana, JIS kanji, Japanese and general
    punctuation, full-width forms, symbols, emoji and ASCII; and single letters of the other
    alphabets that JIS holds (kaomoji and formulas use them). Other scripts go, and with them
    kanji outside JIS.

    Pieces of ASCII alone serve some fifty languages. Those from inside a word all stay: in
    Japanese a Latin word seldom follows a space, so they are the ones in use. Those that start
    a word stay if they are frequent; rarer words are spelt with shorter pieces.
    """
    if piece in _SPECIAL:
        return True
    body = piece.removeprefix(_WORD_START)
    if len(body) <= 1:
        return all(_is_japanese(char) or _in_jis(char) for char in body)
    if body.isascii():
        return score > _RARE_WORD or not piece.startswith(_WORD_START)
    return all(char.isascii() or _is_japanese(char) for char in body)


def _is_japanese(char: str) -> bool:
    code = ord(char)
    if _is_ideograph(code):
        return _in_jis(char)
    return any(first <= code <= last for first, last in _JAPANESE_RANGES)


def _is_ideograph(code: int) -> bool:
    return 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x3FFFF


def _in_jis(char: str) -> bool:
    """Whether JIS X 0213, or JIS X 0208 with the extensions in use (髙, 﨑), has a character."""
    if 0xE000 <= ord(char) <= 0xF8FF:
        return False  # cp932 maps its user-defined area to private-use code points
    for encoding in ("euc_jis_2004", "cp932"):
        try:
            char.encode(encoding)
        except UnicodeEncodeError:
            continue
        return True
    return False


def build_tokenizer(pieces: Sequence[str], scores: npt.NDArray[np.float32]) -> Tokenizer:
    """Builds the XLM-RoBERTa tokenizer over a vocabulary.

    Texts are normalised as SentencePiece's ``nmt_nfkc`` does: control characters go, all white
    space is a space, NFKC except that ～ stays. Each word then starts with ▁ and is cut into
    the most probable pieces (Kudo 2018, arXiv 1804.10959). A text becomes ``<s> A </s>``, a
    pair ``<s> A </s></s> B </s>``, every token of type 0.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )

    vocabulary = [(p, float(s)) for p, s in zip(pieces, scores, strict=True)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, _UNK_ID, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Nmt(),
            normalizers.Replace("～", _STAND_IN),
            normalizers.NFKC(),
            normalizers.Replace(_STAND_IN, "～"),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(_WORD_START)]
    )
    tokenizer.decoder = decoders.Metaspace(_WORD_START)
    tokenizer.add_special_tokens([AddedToken(p, normalized=False, special=True) for p in _SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", pieces.index("<s>")), ("</s>", pieces.index("</s>"))],
    )
    return tokenizer


def tokenizer_config(max_length: int) -> dict[str, Any]:
    """Returns what ``AutoTokenizer`` has to know about the tokenizer."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        # No token types, as in XLM-RoBERTa: the model then takes type 0 for every token.
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
