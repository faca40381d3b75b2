"""Debian packages that the clusters need; installed when missing, never upgraded or removed."""

import os
import shutil

from covey_dev.artifact import locked
from covey_dev.errors import UnsupportedError
from covey_dev.paths import cache
from covey_dev.process import run
from covey_dev.progress import step

# package -> a program that it brings
NODE = {
    "busybox-static": "busybox",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "iproute2": "ip",
    "iptables": "iptables",
    "nftables": "nft",
    "runc": "runc",
    "util-linux": "unshare",
}
IMAGES = {"buildah": "buildah", "debootstrap": "debootstrap", "docker-registry": "docker-registry"}
_CNI_PLUGINS = {"containernetworking-plugins": "/usr/lib/cni/ptp"}
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def ensure() -> None:
    """Install what is missing of the packages above.

    Raises:
        UnsupportedError: not root, or no apt, while something is missing; names the packages.
    """
    missing = _missing()
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0:
        raise UnsupportedError(f"missing packages: {names}", f"Run `sudo apt-get install {names}`, then this again.")
    if not shutil.which("apt-get"):
        raise UnsupportedError(f"missing programs of: {names}", "Install them with this system's package manager.")
    with locked(cache() / "apt"), step(f"installing Debian packages: {names}"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        # Services of these packages must not start: the clusters run containerd and the registry themselves.
        mask = {"RUNLEVEL": "1"}
        run("apt-get", "update", "-q", env=quiet)
        run("apt-get", "install", "-q", "-y", "--no-install-recommends", *missing, env=quiet | mask)


def _missing() -> list[str]:
    programs = [p for p, program in {**NODE, **IMAGES}.items() if not shutil.which(program, path=_SYSTEM_PATH)]
    return programs + [p for p, file in _CNI_PLUGINS.items() if not os.path.exists(file)]
