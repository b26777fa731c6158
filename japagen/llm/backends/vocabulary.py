"""Cuts a GGUF's vocabulary down to what Japanese text needs.

A multilingual model scores its whole vocabulary at every token. Of Gemma's 262,144 pieces a
Japanese text touches a few thousand, so most of the output layer's work, and all of the
sampler's, is spent on pieces that nobody wants. Rows of the embedding are selected whole:
nothing is requantised, and the logits of the pieces that stay are those of the full model.

Which pieces stay is a rule on their text (`keep_for_japanese`). For the tokenizer to split
Japanese text as before, every piece it may pass through while merging must stay too; the rule
is therefore closed under taking parts of a piece.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from japagen.errors import JapagenError
from japagen.generators.gguf_file import ARRAY, Field, GGUFFile, Tensor, write_gguf
from japagen.storage.files import atomic

RULE_VERSION = 1
"""Goes into cache names and generator identities: raise it when `keep_for_japanese` changes."""

ASCII_RANK = 65_536
"""ASCII pieces of several characters stay when they are among this many best-ranked ones.

In Gemma's vocabulary that keeps iPhone, USB, LINE, Amazon, Wi, Fi and YouTube whole;
Bluetooth (rank 98,054) is composed of shorter pieces.
"""

SPACED_ASCII_RANK = 16_384
"""The same for pieces that begin with a space, which are rare inside Japanese text."""

_NORMAL = 1
_PER_TOKEN = ("tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type")
# A tokenizer field outside this list might hold token ids that we would leave unmapped.
_KNOWN_FIELDS = re.compile(
    r"tokenizer\.ggml\.(model|pre|tokens|scores|token_type|\w+_token_ids?|add_\w+"
    r"|remove_extra_whitespaces|precompiled_charsmap)|tokenizer\.(chat_template.*|huggingface\.json)"
)
# ggml's types whose rows are stored one after another, each in blocks of its own: (elements,
# bytes) a block, from https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h.
_BLOCKS = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    20: (32, 18),  # IQ4_NL
    23: (256, 136),  # IQ4_XS
    30: (1, 2),  # BF16
}
_JAPANESE = re.compile(
    r"[▁\u0020-\u007e"  # ASCII
    r"\u2010-\u2027\u2030-\u205e\u2190-\u22ff\u2460-\u27bf"  # punctuation, arrows, symbols
    r"\u3000-\u30ff\u3200-\u33ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]+"
)
_EMOJI = re.compile(r"[\u200d\u20e3\u2600-\u27bf\u2b00-\u2bff\ufe0f\U0001f000-\U0001faff]+")
_ASCII = re.compile(r"[▁!-~]+")


class UncuttableVocabularyError(JapagenError):
    """The model's vocabulary cannot be cut; it works in full all the same."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of a vocabulary.

    Attributes:
        text: The piece; "▁" stands for a space.
        type: GGUF's token type (1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte).
        rank: How many normal pieces the tokenizer prefers to this one.
    """

    text: str
    type: int
    rank: int


@dataclass(frozen=True, slots=True)
class CutReport:
    """How much of a vocabulary stayed.

    Attributes:
        kept: Number of pieces in the new file.
        total: Number of pieces in the source.
    """

    kept: int
    total: int


def keep_for_japanese(piece: Piece) -> bool:
    """Says whether Japanese text needs a piece.

    Kept are: bytes, control and user-defined pieces that are in use; every character of
    JIS X 0213 or code page 932 and every emoji; pieces made of Japanese characters (kanji
    outside those two sets, such as simplified ones, are not Japanese); ASCII pieces up to
    `ASCII_RANK`. Everything else can still be written byte by byte.
    """
    text = piece.text
    if piece.type != _NORMAL:
        return not re.fullmatch(r"<unused\d+>", text)
    if len(text) == 1:
        return _in_japanese_sets(text) or bool(_EMOJI.fullmatch(text))
    if _ASCII.fullmatch(text):
        return piece.rank < (SPACED_ASCII_RANK if text.startswith("▁") else ASCII_RANK)
    if _EMOJI.fullmatch(text):
        return True
    return bool(_JAPANESE.fullmatch(text)) and all(map(_in_japanese_sets, text))


def cut_vocabulary(
    source: Path, target: Path, keep: Callable[[Piece], bool] = keep_for_japanese
) -> CutReport:
    """Writes a copy of a GGUF whose vocabulary has only the pieces that ``keep`` accepts.

    Pieces that the metadata names by id (beginning, end, padding, …) are kept whatever the
    rule says. The target appears complete or not at all, also with several writers.

    Args:
        source: A GGUF with a SentencePiece vocabulary.
        target: Where to write.
        keep: The rule.

    Raises:
        UncuttableVocabularyError: If the tokenizer is not SentencePiece, or the file holds
            something per token that this function does not know how to cut.
        JapagenError: If the source is no GGUF file.
        OSError: If the disk does not take it.
    """
    model = GGUFFile(source)
    check_cuttable(model)
    total = model.fields["tokenizer.ggml.tokens"].length
    ids = _kept_ids(model.fields, keep)
    tensors = [_cut_tensor(model, tensor, ids, total) for tensor in model.tensors]
    fields = _cut_fields(model.fields, ids, total)
    with atomic(target) as scratch:
        write_gguf(scratch, fields, tensors)
    return CutReport(kept=len(ids), total=total)


@cache
def _in_japanese_sets(character: str) -> bool:
    if character == "▁":
        return True
    for encoding in ("cp932", "euc_jis_2004"):
        try:
            character.encode(encoding)
        except UnicodeEncodeError:
            continue
        return True
    return False


def check_cuttable(model: GGUFFile) -> None:
    """Checks from the header alone that `cut_vocabulary` can cut a model.

    Raises:
        UncuttableVocabularyError: If it cannot.
    """
    kind = model.fields.get("tokenizer.ggml.model")
    if kind is None or kind.value != "llama":
        raise _uncuttable(model, f"a tokenizer of kind {kind.value if kind else 'unknown'}")
    if "tokenizer.ggml.merges" in model.fields:
        raise _uncuttable(model, f"a tokenizer of kind {kind.value} with merges")
    missing = [name for name in _PER_TOKEN if name not in model.fields]
    if missing:
        raise _uncuttable(model, f"no field {missing[0]}")
    for name in model.fields:
        if name.startswith("tokenizer.") and not _KNOWN_FIELDS.fullmatch(name):
            raise _uncuttable(model, f"the field {name}")
    if "split.count" in model.fields and int(model.fields["split.count"].value) > 1:
        raise _uncuttable(model, "one part of a split file")
    total = model.fields["tokenizer.ggml.tokens"].length
    for tensor in model.tensors:
        if total in tensor.shape:
            _row_bytes(model, tensor, total)


def _uncuttable(model: GGUFFile, found: str) -> UncuttableVocabularyError:
    return UncuttableVocabularyError(
        f"Expected a SentencePiece vocabulary that can be cut, found {found} in {model.path}.",
        "Use the model with its full vocabulary.",
    )


def _kept_ids(fields: dict[str, Field], keep: Callable[[Piece], bool]) -> npt.NDArray[np.int64]:
    """Returns the ids to keep, ascending, shape (kept,)."""
    texts, scores, types = (fields[name] for name in _PER_TOKEN)
    kinds = np.asarray(types.value)
    preferred = np.where(kinds == _NORMAL, np.asarray(scores.value), -np.inf)
    ranks = np.empty(len(kinds), np.int64)
    ranks[np.argsort(-preferred, kind="stable")] = np.arange(len(kinds))
    pieces = map(Piece, texts.value, kinds.tolist(), ranks.tolist())
    kept = {i for i, piece in enumerate(pieces) if keep(piece)}
    for name, field in fields.items():
        if _holds_ids(name):
            kept.update(i for i in np.atleast_1d(field.value).tolist() if i < len(kinds))
    return np.array(sorted(kept), np.int64)


def _holds_ids(name: str) -> bool:
    return name.startswith("tokenizer.ggml.") and name.endswith(("_token_id", "_token_ids"))


def _cut_fields(
    fields: dict[str, Field], ids: npt.NDArray[np.int64], total: int
) -> dict[str, Field]:
    new_id = np.full(total, -1, np.int64)
    new_id[ids] = np.arange(len(ids))
    cut: dict[str, Field] = {}
    for name, field in fields.items():
        if name in _PER_TOKEN:
            cut[name] = field.take(ids)
        elif name.endswith(".vocab_size"):
            cut[name] = Field.scalar(field.type, len(ids))
        elif _holds_ids(name) and field.type == ARRAY:
            cut[name] = field.mapped([int(new_id[i]) for i in field.value if i < total])
        elif _holds_ids(name):
            # An id past the vocabulary means "none" to llama.cpp; it stays past the end.
            none = field.value >= total
            cut[name] = field if none else Field.scalar(field.type, int(new_id[field.value]))
        elif name != "tokenizer.huggingface.json":  # a copy of the full vocabulary
            cut[name] = field
    return cut


def _cut_tensor(
    model: GGUFFile, tensor: Tensor, ids: npt.NDArray[np.int64], total: int
) -> tuple[Tensor, npt.NDArray[np.uint8]]:
    data = model.tensor_bytes(tensor)
    if total not in tensor.shape:
        return tensor, data
    row = _row_bytes(model, tensor, total)
    rows = data[: total * row].reshape(total, row)[ids]
    return replace(tensor, shape=(tensor.shape[0], len(ids))), rows.reshape(-1)


def _row_bytes(model: GGUFFile, tensor: Tensor, total: int) -> int:
    """Returns the length of one token's row; refuses tensors that cannot be cut by rows."""
    if tensor.name not in ("token_embd.weight", "output.weight") or tensor.shape[1:] != (total,):
        raise _uncuttable(model, f"the tensor {tensor.name} of shape {tensor.shape}")
    elements, width = _BLOCKS.get(tensor.type, (0, 0))
    if not elements or tensor.shape[0] % elements:
        raise _uncuttable(model, f"{tensor.name} in ggml type {tensor.type}, rows inseparable")
    return tensor.shape[0] // elements * width
