"""Clusters by kind on a Docker engine of this machine: the place for those who have Docker (`CLUSTER=kind`).

All is on Docker's network `kind`: the nodes, the registry, and at its gateway the host with the chain. Addresses are
Docker's to give and are read from it. kind brings a network plug-in that enforces policies, and a storage class.
"""

import ipaddress
import shutil
import socket
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from covey_dev import anvil, artifact, docker, docker_images, golang, paths, registry
from covey_dev.background import Service
from covey_dev.docker import Object
from covey_dev.docker import docker as run_docker
from covey_dev.errors import DevError, UnsupportedError
from covey_dev.images import IMAGES
from covey_dev.place import Name, Shared, Site, Variant
from covey_dev.process import run
from covey_dev.progress import step

NETWORK = "kind"
_PREFIX = "covey-"
_CLUSTER_LABEL = "io.x-k8s.kind.cluster"
# Where kind's provisioner makes volumes of its class `standard`, on the node.
_PROVISIONED = Path("/var/local-path-provisioner")
_READY = "180s"
_REMEDY = "Read kind's message above; for `too many open files` raise fs.inotify.max_user_instances with sysctl."


class Kind:
    """See `place.Place`."""

    name: Name = "kind"
    variant: Variant = "full"

    def ensure_tools(self) -> None:
        """Just kind itself."""
        golang.kind()

    def image(self, name: str, variant: Variant) -> str:
        """By Docker; there is no trimmed variant, for which the build mounts stubs."""
        if variant != "full":
            raise UnsupportedError("Docker builds the full images only", "Leave CLUSTER empty for trimmed ones.")
        self.registry_up()
        return docker_images.ensure(name)

    def demo_images(self) -> list[str]:
        """Full ones, from the public base image."""
        return [self.image(name, self.variant) for name in IMAGES]

    def registry_up(self) -> str:
        """A container, on the network of the nodes and on the host's loopback."""
        _ensure_network()
        docker_images.registry_up(NETWORK)
        return docker_images.PUSH

    def registry_down(self) -> None:
        """What was pushed goes with it."""
        docker_images.registry_down()

    def chain_up(self, block_seconds: int | None = None, keep_state: bool = False) -> str:
        """At the gateway of the nodes' network, which is this host."""
        return anvil.start(_chain(_ensure_network()), block_seconds, keep_state)

    def chain_down(self) -> None:
        """See `place.Place`."""
        found = docker.network(NETWORK)
        if found is not None:
            _chain(found).down()

    def shared(self) -> list[Shared]:
        """Addresses as Docker gave them."""
        found, own = docker.network(NETWORK), docker.container(docker_images.CONTAINER)
        chain = _chain(found) if found is not None else None
        at = docker.address(own, NETWORK)
        return [
            Shared("registry", f"{at}:{docker_images.PORT}" if at else "", docker.running(own)),
            Shared("chain", chain.address if chain else "", bool(chain and chain.running and chain.answers)),
        ]

    def up(self, names: Sequence[str], oldest: Collection[str] = ()) -> list[Site]:
        """Creates the clusters, or starts their nodes again; all are of the version that this kind has."""
        self.registry_up()
        with ThreadPoolExecutor(len(names)) as pool:
            return list(pool.map(_up, names))

    def preload(self, sites: Sequence[Site], references: Sequence[str]) -> None:
        """Each node pulls them from the registry."""
        with step("images on the nodes"), ThreadPoolExecutor(len(sites)) as pool:
            list(pool.map(lambda site: _pull(site.node, references), sites))

    def down(self, name: str) -> None:
        """Stops the node; Docker may give it another address when it starts again."""
        with step(f"stopping kind cluster {name}"):
            run_docker("stop", node_name(name))

    def wipe(self, name: str) -> None:
        """With its volumes."""
        with step(f"deleting kind cluster {name}"):
            _delete(name)

    def known(self) -> list[Site]:
        """By name; other clusters of kind are not ours."""
        names = [item["Config"]["Labels"][_CLUSTER_LABEL] for item in docker.containers(f"label={_CLUSTER_LABEL}")]
        ours = sorted({name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX)})
        return [_site(name, docker.container(node_name(name))) for name in ours]

    def rows(self) -> list[dict[str, str]]:
        """As far as Docker can tell."""
        return [
            {"name": site.name, "address": site.address, "state": "up" if site.address else "stopped"}
            for site in self.known()
        ]

    def enter(self, name: str) -> list[str]:
        """On the node's container."""
        return ["docker", "exec", "--interactive", node_name(name)]

    def end_shared(self) -> None:
        """Also the network, if we made it and nothing is on it."""
        self.chain_down()
        self.registry_down()
        found = docker.network(NETWORK)
        # Stopped nodes need it too when they start again, and so do nodes of clusters that are not ours.
        ours = found is not None and docker.LABEL in (found["Labels"] or {})
        if ours and not docker.containers(f"network={NETWORK}"):
            run_docker("network", "rm", NETWORK)
        if not self.known() and directory().exists():
            shutil.rmtree(directory())

    def leftovers(self) -> list[str]:
        """Directories of clusters that Docker does not know any more."""
        exist = {site.name for site in self.known()}
        return [str(path.parent) for path in directory().glob("*/volumes") if path.parent.name not in exist]


def require() -> None:
    """Raise UnsupportedError unless a Docker engine answers."""
    docker.require()


def directory() -> Path:
    """Holds what there is to keep: a directory for each cluster, and containerd's list of registries."""
    return paths.state() / "kind"


def node_name(name: str) -> str:
    """Of a cluster's only node, in Docker and in Kubernetes."""
    return f"{_PREFIX}{name}-control-plane"


def config(name: str) -> Object:
    """The configuration of a cluster, in kind's terms.

    Volumes that others prepare lie under one path on the host and on the node. Those that kind's provisioner makes are
    on the host too, so that tests can read them.
    """
    own = directory() / name
    mounts: list[Object] = [
        {"hostPath": str(own / "volumes"), "containerPath": str(own / "volumes")},
        {"hostPath": str(own / "provisioned"), "containerPath": str(_PROVISIONED)},
        {"hostPath": str(_certs()), "containerPath": "/etc/containerd/certs.d", "readOnly": True},
    ]
    return {
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "kind": "Cluster",
        "name": f"{_PREFIX}{name}",
        "networking": {"ipFamily": "ipv4"},
        "nodes": [{"role": "control-plane", "extraMounts": mounts}],
    }


def gateway(network: Object) -> str:
    """The host's IPv4 address on an inspected network.

    Raises:
        DevError: it has none.
    """
    for entry in network["IPAM"]["Config"] or []:
        found = entry.get("Gateway") or ""
        if found and ipaddress.ip_address(found).version == 4:
            return str(found)
    raise DevError(
        f"Docker's network {network['Name']} has no IPv4 gateway",
        f"Delete the clusters that use it and the network (`docker network rm {network['Name']}`); it is made anew.",
    )


def network_command(mtu: str) -> list[str]:
    """Arguments for Docker that make the network as kind does, with IPv4 alone and a mark that it is ours."""
    options = [f"--opt=com.docker.network.driver.mtu={mtu}"] if mtu else []
    masquerade = "--opt=com.docker.network.bridge.enable_ip_masquerade=true"
    return ["network", "create", "--driver=bridge", masquerade, *options, f"--label={docker.LABEL}", NETWORK]


def _ensure_network() -> Object:
    """Docker's network `kind`, made if absent: the chain needs the gateway before there is a cluster."""
    directory().mkdir(parents=True, exist_ok=True)
    with artifact.locked(directory() / "network"):
        if docker.network(NETWORK) is None:
            default = docker.network("bridge") or {}
            run_docker(*network_command((default.get("Options") or {}).get("com.docker.network.driver.mtu", "")))
        found = docker.network(NETWORK)
    assert found is not None, "the network was just made"
    with socket.socket() as probe:
        try:
            probe.bind((gateway(found), 0))
        except OSError as error:
            raise UnsupportedError(
                f"{gateway(found)}, the gateway of Docker's network {NETWORK}, is no address of this machine",
                "Use a Docker engine that runs on this machine, not in a virtual one (Docker Desktop) or elsewhere.",
            ) from error
    return found


def _chain(network: Object) -> Service:
    return Service("kind-anvil", 8545, gateway(network))


def _certs() -> Path:
    return directory() / "certs.d"


def _site(name: str, container: Object | None) -> Site:
    own = directory() / name
    return Site(
        name=name,
        node=node_name(name),
        address=docker.address(container, NETWORK) if docker.running(container) else "",
        directory=own,
        kubeconfig=own / "kubeconfig",
        elsewhere={_PROVISIONED: own / "provisioned"},
    )


def _up(name: str) -> Site:
    node, own = node_name(name), directory() / name
    with artifact.locked(own), step(f"kind cluster {name}"):
        # kind writes the kubeconfig last: a node without it is what an interrupted command left.
        found = docker.container(node) if (own / "kubeconfig").exists() else None
        if found is None:
            _delete(name)
            _create(name)
        elif not docker.running(found):
            run_docker("start", node)
        run(
            golang.kube() / "kubectl", f"--kubeconfig={own / 'kubeconfig'}", f"--cache-dir={own / 'kubectl'}",
            "wait", "--for=condition=Ready", f"node/{node}", f"--timeout={_READY}",
            remedy=f"See `docker logs {node}`.",
        )  # fmt: skip
        return _site(name, docker.container(node))


def _create(name: str) -> None:
    own = directory() / name
    for part in ("volumes", "provisioned"):
        (own / part).mkdir(parents=True)
    registry.write_hosts(_certs(), f"{docker_images.CONTAINER}:{docker_images.PORT}")
    artifact.write_atomically(own / "kind.yaml", yaml.safe_dump(config(name)))
    kubeconfig = own / "kubeconfig"
    command = ["create", "cluster", f"--config={own / 'kind.yaml'}", f"--kubeconfig={kubeconfig}", f"--wait={_READY}"]
    run(golang.kind(), *command, env={"KIND_EXPERIMENTAL_PROVIDER": "docker"}, remedy=_REMEDY)


def _delete(name: str) -> None:
    own = directory() / name
    arguments = ["delete", "cluster", f"--name={_PREFIX}{name}", f"--kubeconfig={own / 'kubeconfig'}"]
    run(golang.kind(), *arguments, env={"KIND_EXPERIMENTAL_PROVIDER": "docker"}, remedy=_REMEDY)
    if own.exists():
        # Pods own what they wrote, so that only the engine may remove it for a person who is not root.
        run_docker(*empty_command(own))
        shutil.rmtree(own)


def _pull(node: str, references: Sequence[str]) -> None:
    for reference in references:
        run_docker("exec", node, "crictl", "pull", reference)


def empty_command(own: Path) -> list[str]:
    """Arguments for Docker that remove a cluster's volumes, whoever owns what is in them."""
    there = "/cluster"
    return [
        "run", "--rm", "--network=none", f"--volume={own}:{there}", "--entrypoint=rm", docker_images.IMAGE,
        "-rf", f"{there}/volumes", f"{there}/provisioned",
    ]  # fmt: skip
