"""Where things lie: the repository, and one cache directory outside of it."""

import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
DEV = PACKAGE.parent
REPOSITORY = DEV.parent


def cache() -> Path:
    """`$XDG_CACHE_HOME/covey` (or `~/.cache/covey`): built tools, images and the state of the clusters."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "covey"


def tools() -> Path:
    """Built tools, one directory per tool and version."""
    return cache() / "tools"


def state() -> Path:
    """State of clusters, registry and chain; `wipe` and `down` manage what lies here."""
    return cache() / "state"


def python() -> str:
    """The interpreter that runs these tools, for programs that they start."""
    return sys.executable
