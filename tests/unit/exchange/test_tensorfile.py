"""Our reader and writer and the library's understand each other, and nothing broken is taken for a file."""

from __future__ import annotations

import json
import mmap
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from covey_exchange import tensorfile
from covey_exchange.tensorfile import TensorFileInvalid
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load, save

ARRAYS: dict[str, NDArray[np.generic]] = {
    "weight": np.arange(200_000, dtype=np.float32).reshape(400, 500),  # of several pieces
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "scalar": np.array(-0.0, dtype=np.float32),
    "indices": np.array([1, 2**40], dtype=np.int64),
    "bytes ü": np.array([1, 2, 3], dtype=np.uint8),
    "halves": np.array([0.5], dtype=np.float16),
}


def same(found: dict[str, NDArray[np.generic]]) -> None:
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    digest = tensorfile.write(tmp_path / "file", ARRAYS, {"kind": "ü"}, hashed=True)
    data = (tmp_path / "file").read_bytes()
    same(load(data))
    assert digest == blake3(data).digest()
    assert tensorfile.dumps(ARRAYS, {"kind": "ü"}) == data
    with safe_open(tmp_path / "file", framework="numpy") as file:
        assert file.metadata() == {"kind": "ü"}


@pytest.mark.parametrize("refused", ["nothing", "open", "write"])
def test_what_goes_past_the_page_cache_is_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    monkeypatch.setattr(tensorfile, "_UNCACHED_BYTES", 4 * mmap.PAGESIZE)
    path = tmp_path / "file"
    path.write_bytes(b"x" * 2_000_000)
    if refused == "open":
        monkeypatch.setattr(
            tensorfile.os, "O_DIRECT", os.O_DIRECTORY | os.O_CREAT
        )  # EINVAL, as file systems without it
    elif refused == "write":
        monkeypatch.setattr(mmap, "PAGESIZE", 100)  # not what the disk asks for
    assert tensorfile.write(path, ARRAYS, hashed=True, uncached=True) == blake3(tensorfile.dumps(ARRAYS)).digest()
    assert path.read_bytes() == tensorfile.dumps(ARRAYS)


def test_an_error_of_the_disk_is_told_past_the_page_cache_too(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tensorfile.write(tmp_path / "none" / "file", ARRAYS, uncached=True)


def test_we_read_what_the_library_writes(tmp_path: Path) -> None:
    data = save({name: np.array(array, order="C") for name, array in ARRAYS.items()}, {"kind": "model"})
    (tmp_path / "file").write_bytes(data)
    found, metadata = tensorfile.read(tmp_path / "file")
    same(found)
    same(tensorfile.loads(data))
    assert metadata == {"kind": "model"}
    found["weight"][0, 0] = np.float32(7)  # of our own buffer, not of the file
    assert (tmp_path / "file").read_bytes() == data
    with (tmp_path / "file").open("rb") as file:
        assert tensorfile.read_from(file, len(data), hashed=True)[2] == blake3(data).digest()


def test_a_file_that_is_there_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 2_000_000)
    kept = path.stat().st_ino
    tensorfile.write(path, ARRAYS)
    same(tensorfile.read(path)[0])
    assert path.stat().st_ino == kept


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OSError, match="symbolic"):
        tensorfile.write(tmp_path / "link", ARRAYS)
    assert (tmp_path / "real").read_bytes() == b"precious"


def entry(start: int, end: int, shape: object = (1,), dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": entry(0, 4)}, 8),
        ({"a": entry(0, 4)}, 3),
        ({"a": entry(4, 8)}, 8),
        ({"a": entry(0, 4), "b": entry(0, 4)}, 4),
        ({"a": entry(0, 4), "b": entry(4, 8)}, 4),
        ({"a": entry(0, 4, shape=(2,))}, 4),
        ({"a": entry(0, 4, shape=(-1, -1))}, 4),
        ({"a": entry(0, 4, shape="x")}, 4),
        ({"a": entry(0, 4, dtype="BF16")}, 4),
        ({"a": entry(0, 4, dtype=["F32"])}, 4),
        ({"a": entry(0, 1, dtype="U8"), "b": entry(1, 5)}, 5),
        ({"a": {"dtype": "F32", "shape": [1]}}, 4),
        ({"a": 7}, 4),
        ([], 0),
        ({"__metadata__": 3}, 0),
    ],
)
def test_what_is_no_safetensors_file_is_refused(header: object, data: int) -> None:
    encoded = json.dumps(header).encode()
    with pytest.raises(TensorFileInvalid):
        tensorfile.loads(struct.pack("<Q", len(encoded)) + encoded + bytes(data))


@pytest.mark.parametrize("data", [b"", b"1234567", struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 2) + b"{"])
def test_what_is_too_short_is_refused(data: bytes) -> None:
    with pytest.raises(TensorFileInvalid):
        tensorfile.loads(data)


@pytest.mark.parametrize("cut", [1, 9, 40, 300_000])
def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path, cut: int) -> None:
    tensorfile.write(tmp_path / "file", ARRAYS)
    size = (tmp_path / "file").stat().st_size
    with (tmp_path / "file").open("r+b") as file:
        file.truncate(size - cut)
        with pytest.raises(TensorFileInvalid, match="shorter"):
            tensorfile.read_from(file, size)
