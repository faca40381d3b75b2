"""Things that are built once, kept under a key, and never seen half-made."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from covey_dev.progress import step

_KEY_FILE = ".covey-key"


def digest(*parts: str | bytes | Path) -> str:
    """SHA-256 (hex) over strings and over the contents of files; a directory counts with names and contents."""
    whole = hashlib.sha256()
    for part in parts:
        for chunk in _chunks(part):
            whole.update(len(chunk).to_bytes(8, "little") + chunk)
    return whole.hexdigest()


def _chunks(part: str | bytes | Path) -> Iterator[bytes]:
    if isinstance(part, str):
        yield part.encode()
    elif isinstance(part, bytes):
        yield part
    elif part.is_dir():
        for path in sorted(p for p in part.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            yield str(path.relative_to(part)).encode()
            yield path.read_bytes()
    else:
        yield part.read_bytes()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock named after `path` (`path` itself need not exist); other processes wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def built(path: Path, key: str) -> bool:
    """Whether `path` holds what was built under `key`."""
    stamp = path / _KEY_FILE
    return stamp.is_file() and stamp.read_text() == key


def ensure(path: Path, key: str, what: str, build: Callable[[Path], None]) -> Path:
    """Return the directory `path` holding what `build` makes for `key`, building it when absent or out of date.

    `build` writes into a fresh directory beside `path`, which takes its place by one rename, so that an interrupted
    build leaves nothing; a second process that wants the same waits and finds it made.
    """
    if built(path, key):
        return path
    with locked(path):
        if built(path, key):
            return path
        for leftover in path.parent.glob(f".{path.name}.*.partial"):
            shutil.rmtree(leftover)
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        fresh.chmod(0o755)
        with step(what):
            build(fresh)
        (fresh / _KEY_FILE).write_text(key)
        if path.exists():
            stale = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
            path.rename(stale / "old")
            fresh.rename(path)
            shutil.rmtree(stale)
        else:
            fresh.rename(path)
    return path


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write `path` whole or not at all, with the permissions `mode` from its first moment on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(handle, "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(name, path)


def write_json(path: Path, value: object, mode: int = 0o644) -> None:
    """Write `value` as JSON, whole or not at all."""
    write_atomically(path, json.dumps(value, indent=1) + "\n", mode)
