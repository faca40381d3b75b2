"""A containerd store with all images unpacked, from which new clusters start by hard links instead of pulls."""

import shutil
import socket
from pathlib import Path

from covey_dev import artifact, images, paths, registry
from covey_dev.place import Variant
from covey_dev.process import run, spawn, until

_SOCKET_SECONDS = 20.0


def directory() -> Path:
    """Where the store lies."""
    return paths.cache() / "images/golden"


def ensure(variant: Variant) -> list[str]:
    """Build all images, and the store if their heavy layers changed; returns the images' references.

    A store with older source in its last layers still does its work: a cluster then pulls kilobytes.
    """
    references = [images.ensure(name, variant) for name in images.IMAGES]
    pause = images.pause_archive()
    key = artifact.digest(images.dependencies_key(variant), pause)
    artifact.ensure(directory(), key, "golden image store", lambda fresh: _pull(fresh, pause, references))
    return references


def copy_into(root: Path) -> None:
    """Make `root` a containerd store with the golden images, unless it exists or there is no golden store.

    Layers are hard links: nothing ever writes to a lower layer of overlayfs. The databases are real copies.
    """
    golden = directory() / "root"
    if root.exists() or not golden.exists():
        return
    partial = root.with_name("root.partial")
    if partial.exists():
        shutil.rmtree(partial)
    root.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "--archive", "--link", golden, partial)
    for database in golden.glob("*/*.db"):
        copy = partial / database.relative_to(golden)
        copy.unlink()
        shutil.copy2(database, copy)
    partial.rename(root)


def _pull(fresh: Path, pause: Path, references: list[str]) -> None:
    registry.write_hosts(fresh / "certs.d")
    address = fresh / "containerd.sock"
    config = fresh / "containerd.toml"
    config.write_text(
        f'version = 2\nroot = "{fresh}/root"\nstate = "{fresh}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\n  address = "{address}"\n'
        f'[plugins."io.containerd.internal.v1.opt"]\n  path = "{fresh}/opt"\n'
    )
    log = fresh / "containerd.log"
    # In a mount namespace of its own, so that unpacking leaves no mount behind, whatever happens.
    daemon = spawn(["unshare", "--mount", "--fork", "--kill-child", "containerd", "-c", config], log)
    ctr: list[str | Path] = ["ctr", "--address", address, "--namespace=k8s.io", "images"]
    try:
        until(lambda: _accepts(address), "containerd", _SOCKET_SECONDS, f"Read {log}.", log)
        run(*ctr, "import", pause)
        for reference in references:
            run(*ctr, "pull", "--hosts-dir", fresh / "certs.d", reference)
    finally:
        daemon.stop()
    for leftover in ("state", "opt"):
        shutil.rmtree(fresh / leftover)


def _accepts(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(address))
        except OSError:
            return False
    return True
