"""Virtual environments beside the project's own: one for each content of a requirement file, in the user's cache."""

import sys
from pathlib import Path

from covey_dev import artifact, paths, uv
from covey_dev.process import run


def ensure(stem: Path, requirements: str) -> Path:
    """The `bin` directory of the environment that `requirements/REQUIREMENTS.txt` pins, kept at `stem` with its key."""
    pinned = paths.REPOSITORY / "requirements" / f"{requirements}.txt"
    key = artifact.digest(pinned, sys.version)

    def build(fresh: Path) -> None:
        # Compiled, because a program may start a process for every message, which would compile all anew each time.
        program = uv.program()
        run(program, "venv", "-q", "--relocatable", "--clear", "-p", sys.executable, fresh)
        options = ["--require-hashes", "--compile-bytecode", "-r", str(pinned)]
        run(program, "pip", "install", "-q", "-p", fresh / "bin/python", *options)

    target = stem.with_name(f"{stem.name}-{key[:12]}")
    return artifact.ensure(target, key, f"{stem.name} and what it needs", build) / "bin"
