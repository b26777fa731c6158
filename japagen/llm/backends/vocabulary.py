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

import mmap
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from japagen.data.files import atomic
from japagen.errors import JapagenError

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


# Reads and writes the GGUF container: metadata, tensor table, tensor bytes.
#
# The layout is that of GGUF versions 2 and 3 (little-endian), as specified in
# https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Metadata is kept as bytes until
# asked for, so a field that this module has never heard of survives a copy unchanged.

STRING, ARRAY = 8, 9
# GGUF's numbers of the scalar types, as `struct` codes.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class Field:
    """One metadata value.

    Attributes:
        type: GGUF's number of the value's type.
        raw: The value as it stands in the file, without key and type.
    """

    type: int
    raw: bytes

    @property
    def value(self) -> Any:
        """The value in Python: a number, a string (bytes that are no UTF-8 replaced) or a list."""
        return _decode(self.type, self.raw)

    @property
    def strings(self) -> list[bytes]:
        """The items of an array of strings, undecoded."""
        return list(_array_strings(self.raw))

    @property
    def length(self) -> int:
        """Number of items of an array."""
        return int(struct.unpack_from("<Q", self.raw, 4)[0])

    @classmethod
    def scalar(cls, type_: int, value: int) -> Field:
        """Builds a number of GGUF type ``type_``."""
        return cls(type_, struct.pack("<" + _SCALARS[type_], value))

    def mapped(self, values: list[int]) -> Field:
        """Returns an array of the same element type with other numbers."""
        element = struct.unpack_from("<I", self.raw)[0]
        body = struct.pack(f"<{len(values)}{_SCALARS[element]}", *values)
        return Field(ARRAY, struct.pack("<IQ", element, len(values)) + body)

    def take(self, indices: npt.NDArray[np.int64]) -> Field:
        """Returns the array with only the items at ``indices``, in that order."""
        element = struct.unpack_from("<I", self.raw)[0]
        if element == STRING:
            items = self.strings
            body = b"".join(struct.pack("<Q", len(items[i])) + items[i] for i in indices)
        else:
            body = np.frombuffer(self.raw, "<" + _SCALARS[element], offset=12)[indices].tobytes()
        return Field(ARRAY, struct.pack("<IQ", element, len(indices)) + body)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's entry in the table.

    Attributes:
        name: Its name.
        shape: Dimensions in GGUF's order: the first is contiguous, the last counts rows.
        type: ggml's number of the element type.
        offset: Where its bytes begin, counted from the start of the file.
        size: Its length in bytes, padding included.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    size: int


class GGUFFile:
    """A GGUF file mapped into memory.

    Args:
        path: The file.

    Raises:
        JapagenError: If it is missing, no GGUF, or of a version or byte order not handled.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields: dict[str, Field] = {}
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise JapagenError(
                f"Expected a GGUF model, cannot read {path}: {error}.", "Check the path."
            ) from error
        try:
            self._parse()
        except (struct.error, KeyError, IndexError, UnicodeDecodeError) as error:
            raise self._broken(f"a header that does not parse ({error})") from error

    @property
    def tensors(self) -> list[Tensor]:
        """The tensor table, in file order."""
        return self._tensors

    def tensor_bytes(self, tensor: Tensor) -> npt.NDArray[np.uint8]:
        """Returns the bytes of a tensor, shape (size,), without copying."""
        return np.frombuffer(self._map, np.uint8, count=tensor.size, offset=tensor.offset)

    def _parse(self) -> None:
        if self._map[:4] != b"GGUF":
            raise self._broken("a file that does not begin with 'GGUF'")
        version, tensor_count, field_count = struct.unpack_from("<IQQ", self._map, 4)
        if version not in (2, 3):
            raise self._broken(f"GGUF version {version} (or big-endian)")
        at = 24
        for _ in range(field_count):
            key, at = _string(self._map, at)
            (type_,) = struct.unpack_from("<I", self._map, at)
            end = _skip(self._map, at + 4, type_)
            self.fields[key.decode()] = Field(type_, self._map[at + 4 : end])
            at = end
        self._tensors = self._read_table(at, tensor_count)

    def _read_table(self, at: int, count: int) -> list[Tensor]:
        rows: list[tuple[str, tuple[int, ...], int, int]] = []
        for _ in range(count):
            name, at = _string(self._map, at)
            (n_dims,) = struct.unpack_from("<I", self._map, at)
            *shape, type_, offset = struct.unpack_from(f"<{n_dims}QIQ", self._map, at + 4)
            rows.append((name.decode(), tuple(shape), type_, offset))
            at += 4 + 8 * n_dims + 12
        start = _aligned(at, alignment_of(self.fields))
        ends = [*sorted(row[3] for row in rows), len(self._map) - start]
        if rows and ends[-1] < ends[-2]:
            raise self._broken("fewer bytes than its tensors need")
        following = dict(pairwise(ends))
        return [Tensor(n, s, t, start + o, following[o] - o) for n, s, t, o in rows]

    def _broken(self, found: str) -> JapagenError:
        return JapagenError(
            f"Expected a little-endian GGUF file of version 2 or 3, found {found}: {self.path}.",
            "Download or convert the model again.",
        )


def alignment_of(fields: dict[str, Field]) -> int:
    """Returns the multiple of bytes at which tensors begin."""
    field = fields.get("general.alignment")
    return int(field.value) if field else _DEFAULT_ALIGNMENT


def write_gguf(
    path: Path, fields: dict[str, Field], tensors: Iterable[tuple[Tensor, npt.NDArray[np.uint8]]]
) -> None:
    """Writes a GGUF file of version 3.

    Args:
        path: Where to write; overwritten.
        fields: The metadata, in order.
        tensors: The table's entries (their offset and size are ignored) with their bytes.
    """
    alignment = alignment_of(fields)
    tensors = list(tensors)
    header = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(fields))]
    for key, field in fields.items():
        header += [_packed(key), struct.pack("<I", field.type), field.raw]
    offset = 0
    for tensor, data in tensors:
        dims = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        header += [_packed(tensor.name), dims, struct.pack("<IQ", tensor.type, offset)]
        offset += _aligned(data.size, alignment)
    with path.open("wb") as file:
        file.write(_padded(b"".join(header), alignment))
        for _, data in tensors:
            data.tofile(file)
            file.write(bytes(-data.size % alignment))


def _aligned(n: int, alignment: int) -> int:
    return n + -n % alignment


def _padded(data: bytes, alignment: int) -> bytes:
    return data.ljust(_aligned(len(data), alignment), b"\0")


def _packed(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _string(buffer: mmap.mmap | bytes, at: int) -> tuple[bytes, int]:
    end = at + 8 + int(struct.unpack_from("<Q", buffer, at)[0])
    return buffer[at + 8 : end], end


def _skip(buffer: mmap.mmap | bytes, at: int, type_: int) -> int:
    if type_ == STRING:
        return _string(buffer, at)[1]
    if type_ != ARRAY:
        return at + struct.calcsize("<" + _SCALARS[type_])
    element, count = struct.unpack_from("<IQ", buffer, at)
    at += 12
    if element in _SCALARS:
        return int(at + count * struct.calcsize("<" + _SCALARS[element]))
    for _ in range(count):
        at = _skip(buffer, at, element)
    return at


def _array_strings(raw: bytes) -> Iterator[bytes]:
    (count,) = struct.unpack_from("<Q", raw, 4)
    at = 12
    for _ in range(count):
        item, at = _string(raw, at)
        yield item


def _decode(type_: int, raw: bytes) -> Any:
    if type_ == STRING:
        return _string(raw, 0)[0].decode("utf-8", "replace")
    if type_ != ARRAY:
        return struct.unpack("<" + _SCALARS[type_], raw)[0]
    (element,) = struct.unpack_from("<I", raw)
    if element == STRING:
        return [item.decode("utf-8", "replace") for item in _array_strings(raw)]
    return np.frombuffer(raw, "<" + _SCALARS[element], offset=12).tolist()
