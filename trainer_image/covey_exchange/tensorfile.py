"""Safetensors files without the copies that the library makes: arrays go from and to the file piece by piece.

The library reads a whole file into bytes, copies each tensor out of them, and serialises into bytes before it writes.
Here a piece is hashed while it is in the processor's cache, and tensors are views of the one buffer that was read. The
format is the library's own (huggingface/safetensors): the length of the header, the header, the tensors.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO, RawIOBase
from math import prod
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[np.generic]]

PIECE_BYTES = 2**18
_UNCACHED_BYTES = 2**22
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
HEADER_BYTES_MAX = 100_000_000  # as in the library
_METADATA = "__metadata__"
_DTYPES = {
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    **{f"I{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class TensorFileInvalid(ValueError):
    """Not a safetensors file, or one with types that NumPy does not have."""


def write(
    path: Path,
    arrays: Tensors,
    metadata: Mapping[str, str] | None = None,
    *,
    hashed: bool = False,
    uncached: bool = False,
) -> bytes:
    """Write arrays; the same ones give the same file, whatever their order.

    A file that is there is written over in place, which is faster than a new one; no link is followed.

    Args:
        path: of the file.
        arrays: name -> array, little-endian.
        metadata: of the file.
        hashed: whether the digest is wanted.
        uncached: past the page cache, where the file system can: less than half of the CPU time for a large file that
            nobody will read soon.

    Returns:
        BLAKE3 of the file, 32 bytes; empty if it is not wanted.

    Raises:
        OSError: the file cannot be written.
    """
    digest = blake3()

    def pieces() -> Iterator[memoryview | bytes]:
        for piece in _pieces(arrays, metadata):
            if hashed:
                digest.update(piece)
            yield piece

    if uncached:
        try:
            _write_uncached(path, pieces())
            return digest.digest() if hashed else b""
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            digest.reset()  # a file system that cannot; write as usual
    with os.fdopen(os.open(path, _FLAGS, 0o666), "wb", buffering=0) as file:
        for piece in pieces():
            _write_all(file, piece)
        file.truncate()
    return digest.digest() if hashed else b""


def dumps(arrays: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of the file that `write` makes."""
    return b"".join(_pieces(arrays, metadata))


def read(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """Arrays and metadata of a file of ours.

    Raises:
        OSError: there is no such file.
        TensorFileInvalid: it is no safetensors file.
    """
    with path.open("rb", buffering=0) as file:
        arrays, metadata, _ = read_from(file, os.fstat(file.fileno()).st_size)
    return arrays, metadata


def loads(data: bytes) -> dict[str, NDArray[np.generic]]:
    """Arrays of the bytes of a file.

    Raises:
        TensorFileInvalid: they are none.
    """
    return read_from(BytesIO(data), len(data))[0]


def read_from(
    file: BinaryIO | RawIOBase, size: int, *, hashed: bool = False
) -> tuple[dict[str, NDArray[np.generic]], dict[str, str], bytes]:
    """Read an untrusted file once, front to back.

    Args:
        file: at its start.
        size: of it, in bytes; nothing beyond is read.
        hashed: whether the digest is wanted.

    Returns:
        Name -> array, all of one buffer that can be written to; metadata; BLAKE3, empty if it is not wanted.

    Raises:
        TensorFileInvalid: shorter than `size`, not safetensors, or with types that NumPy does not have.
    """
    digest = blake3()

    def take(count: int) -> NDArray[np.uint8]:
        found = np.empty(count, dtype=np.uint8)
        view = found.data
        for start in range(0, count, PIECE_BYTES):
            piece = view[start : start + PIECE_BYTES]
            _read_all(file, piece)
            if hashed:
                digest.update(piece)
        return found

    if size < 8:
        raise TensorFileInvalid(f"{size} bytes, too few for a header")
    (length,) = struct.unpack("<Q", take(8).tobytes())
    if length > min(size - 8, HEADER_BYTES_MAX):
        raise TensorFileInvalid(f"a header of {length} bytes does not fit")
    header = take(length).tobytes()
    data = take(size - 8 - length)
    arrays, metadata = _views(header, data)
    return arrays, metadata, digest.digest() if hashed else b""


def _write_uncached(path: Path, pieces: Iterable[memoryview | bytes]) -> None:
    """Through one aligned buffer, in whole pages; then the file is cut to its length (open(2), O_DIRECT)."""
    length = filled = 0
    buffer = memoryview(mmap.mmap(-1, _UNCACHED_BYTES))
    with os.fdopen(os.open(path, _FLAGS | os.O_DIRECT, 0o666), "wb", buffering=0) as file:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                count = min(len(rest), _UNCACHED_BYTES - filled)
                buffer[filled : filled + count] = rest[:count]
                rest, filled, length = rest[count:], filled + count, length + count
                if filled == _UNCACHED_BYTES:
                    _write_all(file, buffer)
                    filled = 0
        _write_all(file, buffer[: filled + -filled % mmap.PAGESIZE])
        file.truncate(length)


def _pieces(arrays: Tensors, metadata: Mapping[str, str] | None) -> Iterator[memoryview | bytes]:
    """The largest items first, so that all are aligned; names in order."""
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name, array in ordered:
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    yield struct.pack("<Q", len(encoded)) + encoded
    for _, array in ordered:
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        for start in range(0, len(flat), PIECE_BYTES):
            yield flat[start : start + PIECE_BYTES]


def _views(header: bytes, data: NDArray[np.uint8]) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """Arrays that fill the data without gap or overlap, as the format demands."""
    try:
        entries = json.loads(header)
        metadata = entries.pop(_METADATA, {})
        spans = [(*map(int, entry["data_offsets"]), name) for name, entry in entries.items()]
        found: dict[str, NDArray[np.generic]] = {}
        at = 0
        for start, end, name in sorted(spans):
            dtype, shape = _DTYPES[entries[name]["dtype"]], tuple(map(int, entries[name]["shape"]))
            if start != at or start % dtype.itemsize or min(shape, default=0) < 0:
                raise TensorFileInvalid(f'tensor "{name}" does not begin where the last one ends')
            if end - start != prod(shape) * dtype.itemsize or end > data.size:
                raise TensorFileInvalid(f'tensor "{name}" has not the bytes that its shape needs')
            found[name] = data[start:end].view(dtype).reshape(shape)
            at = end
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, TensorFileInvalid):
            raise
        raise TensorFileInvalid(f"the header is not valid: {error!r}") from error
    if at != data.size:
        raise TensorFileInvalid(f"{data.size - at} bytes belong to no tensor")
    if not isinstance(metadata, dict):
        raise TensorFileInvalid("the metadata is no map")
    return found, {str(key): str(value) for key, value in metadata.items()}


def _read_all(file: BinaryIO | RawIOBase, piece: memoryview) -> None:
    while piece:
        count = cast(RawIOBase, file).readinto(piece)
        if not count:
            raise TensorFileInvalid("shorter than it was")
        piece = piece[count:]


def _write_all(file: RawIOBase, piece: memoryview | bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) or 0 :]
