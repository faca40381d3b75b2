"""The image registry of all clusters, on the bridge; images are named registry.local/…"""

import urllib.error
import urllib.request
from pathlib import Path

from covey_dev import paths
from covey_dev.artifact import write_atomically
from covey_dev.background import Service

NAME = "registry.local"
SERVICE = Service("registry", 5000)
_MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


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
    SERVICE.up(["docker-registry", "serve", config])


def holds(repository: str, reference: str) -> bool:
    """Whether the running registry has this image (`reference`: a tag or a digest)."""
    request = urllib.request.Request(
        f"http://{SERVICE.address}/v2/{repository}/manifests/{reference}", method="HEAD", headers={"Accept": _MANIFESTS}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10):
            return True
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return False
        raise


def write_hosts(certs: Path) -> None:
    """Write containerd's `certs.d` directory, by which registry.local means the registry on the bridge."""
    write_atomically(
        certs / NAME / "hosts.toml",
        f'server = "http://{SERVICE.address}"\n\n'
        f'[host."http://{SERVICE.address}"]\n  capabilities = ["pull", "resolve"]\n',
    )
