"""Compilation with Numba, and where the machine code is kept between processes.

The cache is executed, so its directory must be ours alone; pods have a read-only root and a private /tmp.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])

_log = logging.getLogger(__name__)
_preferred: list[Path] = []


def cache_in(directory: Path) -> None:
    """Prefer this directory; call before anything is compiled."""
    _preferred.append(directory)


def jit(function: F) -> F:
    """Compile for the types of each first call; releases the interpreter lock; IEEE arithmetic, nothing reordered."""
    kept = cache_directory() is not None
    return cast(F, numba.njit(nogil=True, cache=kept, error_model="numpy")(function))


@cache
def cache_directory() -> Path | None:
    """The first directory that is ours and writable; None: every process compiles anew."""
    for directory in _candidates():
        if is_ours(directory):
            numba.config.CACHE_DIR = str(directory)  # type: ignore[attr-defined] # set by numba at run time
            return directory
    _log.warning("no private writable directory for compiled code: it is compiled anew in each process")
    return None


def _candidates() -> Iterator[Path]:
    yield from _preferred
    if os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(os.environ["NUMBA_CACHE_DIR"])
    base = os.environ.get("XDG_CACHE_HOME")
    with suppress(RuntimeError):  # no home directory
        yield (Path(base) if base else Path.home() / ".cache") / "covey" / "kernels"
    yield Path(tempfile.gettempdir()) / f"covey-kernels-{os.getuid()}"


def is_ours(directory: Path) -> bool:
    """Whether only we can write there; makes it if it is missing."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
            return False
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False
