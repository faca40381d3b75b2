"""Where uv is: beside the interpreter that runs these tools, as the Makefile installs it, or else on the PATH."""

import shutil
from pathlib import Path

from covey_dev import paths
from covey_dev.errors import UnsupportedError
from covey_dev.process import run


def program() -> Path:
    """The program itself, which also runs inside of an image.

    Raises:
        UnsupportedError: there is none.
    """
    own = Path(paths.python()).with_name("uv")
    if own.is_file():
        return own
    found = shutil.which("uv")
    if found is None:
        raise UnsupportedError("uv is not installed", "Run `make venv`, which installs it, or `pip install uv`.")
    if Path(found).read_bytes()[:2] == b"#!":  # a shim of pyenv, which would not run inside of an image
        return Path(run("pyenv", "which", "uv").strip())
    return Path(found)
