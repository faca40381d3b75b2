"""Room for payloads on the scratch volume: files without a name, so that nothing is left behind by a crash."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from pathlib import Path
from typing import IO


class Scratch:
    """Makes files, and uses each again once nobody looks at it: its pages are in memory then, and new ones are dear."""

    def __init__(self, folder: Path | None = None) -> None:
        """Put the files into a folder; the system's for temporary files if None."""
        self._folder = folder
        self._free: list[IO[bytes]] = []

    def file(self, length: int) -> tuple[int, memoryview]:
        """Descriptor and read-only view of a file of `length` > 0 bytes, which belongs to whoever holds the view.

        The descriptor is good as long as the view. What has not been written may be anything.

        Raises:
            OSError: there can be no file.
        """
        try:
            file = self._free.pop()
        except IndexError:
            file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 (closed by the last reference)
        os.ftruncate(file.fileno(), length)
        mapped = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ)
        weakref.finalize(mapped, self._free.append, file)
        return file.fileno(), memoryview(mapped)
