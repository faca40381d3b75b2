"""The image registry of all clusters, on the bridge; images are named registry.local/…"""

import urllib.error
import urllib.request
from pathlib import Path

from covey_dev import network, paths
from covey_dev.artifact import write_atomically
from covey_dev.background import Service

NAME = "registry.local"
SERVICE = Service("registry", 5000)
_MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.manifest.v1",
        "docker.distribution.manifest.v2",
        "oci.image.index.v1",
        "docker.distribution.manifest.list.v2",
    )
)


def storage() -> Path:
    """Where pushed layers lie; they stay when the registry stops."""
    return paths.cache() / "images/registry"


def up() -> None:
    """Start the registry unless it runs."""
    config = SERVICE.directory / "config.yml"
    write_atomically(
        config,
        "version: 0.1\n"
        "log: {level: warn, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {storage()}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{SERVICE.address}'}}\n",
    )
    network.ensure_bridge()
    SERVICE.up(["docker-registry", "serve", config])


def digest(address: str, repository: str, reference: str) -> str | None:
    """The digest (sha256:…) of an image in a running registry, or None.

    Args:
        address: HOST:PORT of the registry.
        repository: NAME/… of the image.
        reference: a tag or a digest.
    """
    request = urllib.request.Request(
        f"http://{address}/v2/{repository}/manifests/{reference}", method="HEAD", headers={"Accept": _MANIFESTS}
    )
    try:
        with _opener().open(request, timeout=10) as answer:
            return str(answer.headers["Docker-Content-Digest"])
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def answers(address: str) -> bool:
    """Whether there is a registry at HOST:PORT."""
    try:
        _opener().open(f"http://{address}/v2/", timeout=5).close()
    except OSError:
        return False
    return True


def write_hosts(certs: Path, address: str = SERVICE.address) -> None:
    """Write containerd's `certs.d` directory, by which registry.local means the registry at HOST:PORT."""
    write_atomically(
        certs / NAME / "hosts.toml",
        f'server = "http://{address}"\n\n[host."http://{address}"]\n  capabilities = ["pull", "resolve"]\n',
    )


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy knows these addresses
