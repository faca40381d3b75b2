"""A stand-in for the public Python base image, made from Debian packages, for machines that reach no image registry.

It has the same name, Debian release and Python minor version, so that the Dockerfiles are the real ones.
"""

import shutil
from pathlib import Path

from covey_dev import artifact, paths
from covey_dev.buildah import buildah
from covey_dev.process import run
from covey_dev.progress import step

NAME = "docker.io/library/python:3.11-slim-bookworm"
_PACKAGES = ("ca-certificates", "netbase", "python3", "tzdata")
_USELESS = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
)
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


def ensure() -> None:
    """Put an image of that name into buildah's storage, unless one (this one or the public one) is there."""
    with artifact.locked(paths.cache() / "base-image"):
        if buildah("images", "--quiet", "--filter", f"reference={NAME}").strip():
            return
        key = artifact.digest(Path(__file__))
        root = paths.cache() / "images/base"
        artifact.ensure(root, key, "Debian bookworm with Python 3.11 (debootstrap)", _bootstrap)
        with step(f"image {NAME} (stand-in)"):
            _commit(root)
        shutil.rmtree(root)


def _bootstrap(fresh: Path) -> None:
    root = fresh / "root"
    remedy = "Check that Debian's package mirror can be reached, and that this runs as root."
    run("debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", "bookworm", root, remedy=remedy)
    for useless in _USELESS:
        shutil.rmtree(root / useless)
        (root / useless).mkdir()
    # The public image's Python belongs to the image, not to Debian: packages may be installed beside it.
    (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink(missing_ok=True)
    for name in ("python", "python3", "python3.11"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3.11")


def _commit(root: Path) -> None:
    container = buildah("from", "scratch").strip()
    try:
        buildah("copy", "--quiet", container, str(root / "root"), "/")
        buildah(
            "config", "--env", f"PATH={_PATH}", "--env", "LANG=C.UTF-8", "--cmd", "python3", container
        )  # fmt: skip
        buildah("commit", "--quiet", container, NAME)
    finally:
        buildah("rm", container)
