"""Files that survive a power cut: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_with(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file, then put it in place atomically; on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    write(temporary)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def write(path: Path, data: bytes) -> None:
    """Put bytes in place atomically; on disk when this returns."""
    write_with(path, lambda temporary: _dump(temporary, data))


def append(path: Path, data: bytes) -> None:
    """Append bytes; on disk when this returns."""
    is_new = not path.exists()
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file or directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _dump(path: Path, data: bytes) -> None:
    path.write_bytes(data)
