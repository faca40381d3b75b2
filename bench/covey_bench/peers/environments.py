"""Virtual environments of the peers, in the user's cache: one for each content of their requirement files."""

from __future__ import annotations

import sys
from pathlib import Path

from covey_dev import artifact, paths, uv
from covey_dev.process import run


def ensure(peer: str) -> Path:
    """The `bin` directory of a peer's environment, made of what `requirements/peers-NAME.txt` pins."""
    requirements = paths.REPOSITORY / "requirements" / f"peers-{peer}.txt"
    key = artifact.digest(requirements, sys.version)
    target = paths.cache() / "peers" / f"{peer}-{key[:12]}"

    def build(fresh: Path) -> None:
        # Compiled, because Flower starts a process for every message, which would compile torch anew each time.
        program = uv.program()
        run(program, "venv", "-q", "--relocatable", "--clear", "-p", sys.executable, fresh)
        pinned = ["--require-hashes", "--compile-bytecode", "-r", str(requirements)]
        run(program, "pip", "install", "-q", "-p", fresh / "bin/python", *pinned)

    return artifact.ensure(target, key, f"{peer} and what it needs", build) / "bin"
