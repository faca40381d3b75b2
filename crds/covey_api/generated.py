"""Generated files of the repository: written by `--write`, compared by `--check`."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def write(path: Path, text: str) -> bool:
    """Put `text` at `path` in one step; False when it was there already."""
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
    return True


def difference(path: Path, text: str) -> str:
    """A unified diff from the file to `text`; empty when they are equal. A missing file counts as empty."""
    old = path.read_text() if path.exists() else ""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), text.splitlines(keepends=True), str(path), f"{path} (generated)"
    )
    return "".join(lines)


def main(command: str, files: Mapping[str, str], arguments: Sequence[str] | None = None) -> int:
    """Command line of a generator.

    Args:
        command: how it is called, for the remedy: `python -m covey_api.crd`.
        files: path inside the repository -> text.
        arguments: in place of `sys.argv`.

    Returns:
        Exit status; 1 when `--check` found a difference.
    """
    parser = argparse.ArgumentParser(prog=command)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true", help="write the files")
    mode.add_argument("--check", action="store_true", help="show what --write would change; fail if it is anything")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="repository (default: %(default)s)")
    options = parser.parse_args(arguments)
    stale = 0
    for name, text in files.items():
        path = options.root / name
        if options.write:
            print(f"{'wrote' if write(path, text) else 'unchanged'} {name}")
        elif diff := difference(path, text):
            sys.stdout.write(diff)
            stale += 1
    if stale:
        print(f"{stale} generated file(s) differ: run `{command} --write` and commit.", file=sys.stderr)
    return 1 if stale else 0
