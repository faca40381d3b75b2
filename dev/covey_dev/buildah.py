"""buildah with a storage of its own, so that the images of other programs stay untouched and `clean` is complete."""

from pathlib import Path

from covey_dev import paths
from covey_dev.process import run


def storage() -> Path:
    """Where the images and their layers lie."""
    return paths.cache() / "images/storage"


def buildah(*arguments: str) -> str:
    """Run buildah and return what it prints on standard output."""
    root = storage()
    return run(
        "buildah",
        f"--root={root}",
        f"--runroot={root.with_name('run')}",
        "--storage-driver=overlay",
        *arguments,
        env={"BUILDAH_ISOLATION": "oci", "TMPDIR": "/var/tmp"},  # noqa: S108 (layers are too large for a RAM disk)
        remedy="Read buildah's message above; `python -m covey_dev image clean` starts from nothing.",
    )
