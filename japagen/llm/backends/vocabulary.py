"""Cuts a GGUF's vocabulary down to what Japanese text needs.

A multilingual model scores its whole vocabulary at every token. Of Gemma's 262,144 pieces a
Japanese text touches a few thousand, so most of the output layer's work, and all of the
sampler's, is spent on pieces that nobody wants. Rows of the embedding are selected whole:
nothing is requantised, and the logits of the pieces that stay are those of the full model. For
Gemma 3 270M that is about 1.7 times the speed and 40% of the memory; foreign words outside the
vocabulary are written in shorter pieces.

Which pieces stay is a rule on their text (`keep_for_japanese`); when that changes, raise
`RULE_VERSION` of `gguf_weights`. For the tokenizer to split
Japanese text as before, every piece it may pass through while merging must stay too; the rule
is therefore closed under taking parts of a piece. Importing this module imports ``gguf``.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from japagen.data.files import atomic
from japagen.errors import JapagenError, MissingExtraError
from japagen.japanese.normalization import is_encodable

try:
    from gguf import GGUFReader, GGUFValueType, GGUFWriter
except ImportError as error:
    raise MissingExtraError("gguf", "local", "Reading a GGUF file") from error

ASCII_RANK = 65_536
"""ASCII pieces of several characters stay when they are among this many best-ranked ones.

In Gemma's vocabulary that keeps iPhone, USB, LINE, Amazon, Wi, Fi and YouTube whole;
Bluetooth (rank 98,054) is composed of shorter pieces.
"""

SPACED_ASCII_RANK = 16_384
"""The same for pieces that begin with a space, which are rare inside Japanese text."""

_NORMAL = 1
_TOKENS = "tokenizer.ggml.tokens"
_PER_TOKEN = (_TOKENS, "tokenizer.ggml.scores", "tokenizer.ggml.token_type")
# A tokenizer field outside this list might hold token ids that we would leave unmapped.
_KNOWN_FIELDS = re.compile(
    r"tokenizer\.ggml\.(model|pre|tokens|scores|token_type|\w+_token_ids?|add_\w+"
    r"|remove_extra_whitespaces|precompiled_charsmap)|tokenizer\.(chat_template.*|huggingface\.json)"
)
_JAPANESE = re.compile(
    r"[▁\u0020-\u007e"  # ASCII
    r"\u2010-\u2027\u2030-\u205e\u2190-\u22ff\u2460-\u27bf"  # punctuation, arrows, symbols
    r"\u3000-\u30ff\u3200-\u33ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]+"
)
_EMOJI = re.compile(r"[\u200d\u20e3\u2600-\u27bf\u2b00-\u2bff\ufe0f\U0001f000-\U0001faff]+")
_ASCII = re.compile(r"[▁!-~]+")


class UncuttableVocabularyError(JapagenError):
    """The model's vocabulary cannot be cut; it works in full all the same."""


class GGUFFile(GGUFReader):
    """A GGUF file mapped into memory; see `gguf.GGUFReader`.

    Args:
        path: The file.

    Raises:
        JapagenError: If it is missing, no GGUF, damaged, or of a version or byte order not handled.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            super().__init__(path)
        except OSError as error:
            raise JapagenError(
                f"Expected a GGUF model, cannot read {path}: {error}.", "Check the path."
            ) from error
        except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
            raise self._broken(f"what the gguf package cannot read ({error})") from error
        if self.byte_order != "I":
            raise self._broken("the other byte order")

    def value(self, name: str) -> Any:
        """Returns what a field holds, in Python; None where there is no such field."""
        field = self.get_field(name)
        try:
            return field and field.contents()
        except UnicodeDecodeError as error:
            raise self._broken(f"text in {name} that is not UTF-8") from error

    def _get_field_parts(
        self, orig_offs: int, raw_type: int
    ) -> tuple[int, list[npt.NDArray[Any]], list[int], list[GGUFValueType]]:
        """Reads an array in one go.

        The package makes NumPy views of every item, which for the three arrays of Gemma's
        262,144 pieces takes 11 s and 700 MB where this takes 0.3 s and 80 MB. Should a version
        of it read fields by another method, files are read as slowly as it reads them.
        """
        if raw_type != GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        start, view = int(orig_offs) + 12, self.data.data
        element, count = struct.unpack_from("<IQ", view, start - 12)
        types = [GGUFValueType.ARRAY, GGUFValueType(element)]
        if element in self.gguf_scalar_to_np:
            items = self._get(start, self.gguf_scalar_to_np[types[1]], count)
            if len(items) < count:
                raise ValueError(f"an array of {count} items in which only {len(items)} stand")
            return 12 + items.nbytes, [items], [0], types
        if element != GGUFValueType.STRING:
            raise ValueError("arrays of arrays")
        strings, at = [], start
        for _ in range(count):
            end = at + 8 + struct.unpack_from("<Q", view, at)[0]
            strings.append(view[at + 8 : end])
            at = end
        # `contents` asks of a part only its bytes, which a memoryview gives as an array does.
        return at - start + 12, strings, list(range(count)), types  # type: ignore[return-value]

    def _broken(self, found: str) -> JapagenError:
        return JapagenError(
            f"Expected a whole little-endian GGUF file of version 2 or 3, found {found}: "
            f"{self.path}.",
            "Download or convert the model again.",
        )


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


def cut_vocabulary(source: Path, target: Path) -> None:
    """Writes a copy of a GGUF whose vocabulary has only the pieces that Japanese needs.

    Pieces that the metadata names by id (beginning, end, padding, …) are kept whatever the
    rule says. The target appears complete or not at all, also with several writers.

    Args:
        source: A GGUF with a SentencePiece vocabulary.
        target: Where to write.

    Raises:
        UncuttableVocabularyError: If the tokenizer is not SentencePiece, or the file holds
            something per token that this function does not know how to cut.
        JapagenError: If the source is no GGUF file.
        OSError: If the disk does not take it.
    """
    model = GGUFFile(source)
    check_cuttable(model)
    total = len(model.fields[_TOKENS].data)
    ids = _kept_ids(model)
    values = _cut_values(model, ids, total)
    with atomic(target) as scratch:
        writer = GGUFWriter(scratch, model.value("general.architecture"))
        writer.data_alignment = model.alignment
        for name, value in values.items():
            kind, *items = model.fields[name].types
            writer.add_key_value(name, value, kind, *items)
        for tensor in model.tensors:
            data = tensor.data[ids] if total in tensor.shape else tensor.data
            writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def _in_japanese_sets(character: str) -> bool:
    return character == "▁" or is_encodable(character)


def check_cuttable(model: GGUFFile) -> None:
    """Checks from the header alone that `cut_vocabulary` can cut a model.

    Raises:
        UncuttableVocabularyError: If it cannot.
    """
    kind = model.value("tokenizer.ggml.model")
    if kind != "llama":
        raise _uncuttable(model, f"a tokenizer of kind {kind or 'unknown'}")
    if "tokenizer.ggml.merges" in model.fields:
        raise _uncuttable(model, f"a tokenizer of kind {kind} with merges")
    missing = [name for name in _PER_TOKEN if name not in model.fields]
    if missing:
        raise _uncuttable(model, f"no field {missing[0]}")
    for name in model.fields:
        if name.startswith("tokenizer.") and not _KNOWN_FIELDS.fullmatch(name):
            raise _uncuttable(model, f"the field {name}")
    if (model.value("split.count") or 1) > 1:
        raise _uncuttable(model, "one part of a split file")
    total = len(model.fields[_TOKENS].data)
    for tensor in model.tensors:
        shape = tuple(tensor.shape.tolist())
        known = tensor.name in ("token_embd.weight", "output.weight")
        if total in shape and not (known and shape[1:] == (total,)):
            raise _uncuttable(model, f"the tensor {tensor.name} of shape {shape}")


def _uncuttable(model: GGUFFile, found: str) -> UncuttableVocabularyError:
    return UncuttableVocabularyError(
        f"Expected a SentencePiece vocabulary that can be cut, found {found} in {model.path}.",
        "Use the model with its full vocabulary.",
    )


def _kept_ids(model: GGUFFile) -> npt.NDArray[np.int64]:
    """Returns the ids to keep, ascending, shape (kept,)."""
    texts, scores, types = (model.value(name) for name in _PER_TOKEN)
    kinds = np.asarray(types)
    preferred = np.where(kinds == _NORMAL, np.asarray(scores), -np.inf)
    ranks = np.empty(len(kinds), np.int64)
    ranks[np.argsort(-preferred, kind="stable")] = np.arange(len(kinds))
    pieces = map(Piece, texts, types, ranks.tolist())
    kept = {i for i, piece in enumerate(pieces) if keep_for_japanese(piece)}
    for name in filter(_holds_ids, model.fields):
        kept.update(i for i in np.atleast_1d(model.value(name)).tolist() if i < len(kinds))
    return np.array(sorted(kept), np.int64)


def _holds_ids(name: str) -> bool:
    return name.startswith("tokenizer.ggml.") and name.endswith(("_token_id", "_token_ids"))


def _cut_values(model: GGUFFile, ids: npt.NDArray[np.int64], total: int) -> dict[str, Any]:
    """Returns the metadata of the cut file: field to its value."""
    new_id = dict(zip(ids.tolist(), range(len(ids)), strict=True))
    cut: dict[str, Any] = {}
    for name in model.fields:
        value = model.value(name)
        if name in _PER_TOKEN:
            value = [value[i] for i in ids]
        elif name.endswith(".vocab_size"):
            value = len(ids)
        elif _holds_ids(name) and isinstance(value, list):
            value = [new_id[i] for i in value if i < total]
        elif _holds_ids(name):
            # An id past the vocabulary means "none" to llama.cpp; it stays past the end.
            value = new_id.get(value, value)
        # Left out are a copy of the full vocabulary, what the package writes of itself, and
        # arrays without items, which it cannot write.
        written = name.startswith("GGUF.") or name == "general.architecture"
        if name != "tokenizer.huggingface.json" and not written and value != []:
            cut[name] = value
    return cut
