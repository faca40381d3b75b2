"""Debian packages that the clusters need; installed when missing, never upgraded or removed."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

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
    with locked(cache() / "apt"), step(f"installing Debian packages: {names}"), _no_services_started():
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", "-q", env=quiet)
        run("apt-get", "install", "-q", "-y", "--no-install-recommends", *missing, env=quiet)
        services = sorted({"containerd", "docker-registry"} & set(missing))
        if services and Path("/run/systemd/system").exists():
            run("systemctl", "disable", *services)


@contextlib.contextmanager
def _no_services_started() -> Iterator[None]:
    """Debian starts a package's service when it is installed, unless `policy-rc.d` answers 101; ours run apart."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():  # the machine has its own rule
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _missing() -> list[str]:
    programs = [p for p, program in {**NODE, **IMAGES}.items() if not shutil.which(program, path=_SYSTEM_PATH)]
    return programs + [p for p, file in _CNI_PLUGINS.items() if not os.path.exists(file)]
