"""Reads and writes the GGUF container: metadata, tensor table, tensor bytes.

The layout is that of GGUF versions 2 and 3 (little-endian), as specified in
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Metadata is kept as bytes until
asked for, so a field that this module has never heard of survives a copy unchanged.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from japagen.errors import JapagenError

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
