"""The promises of the local clusters, on two real ones of two Kubernetes (run as root, with the marker `cluster`)."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
import yaml
from covey_dev import cluster, golang, images, network, paths, registry, teardown
from covey_dev.nodeconfig import Node
from covey_dev.sandbox import Sandbox

pytestmark = pytest.mark.cluster

NAMESPACE = "ward"
PROBE = """
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
try:
    socket.create_connection((host, port), timeout=3).close()
    print("open")
except OSError:
    print("closed")
"""
EAGER = f"""
import socket, time
started = time.monotonic()
while time.monotonic() - started < 5:
    try:
        socket.create_connection(("{network.HOST}", {registry.SERVICE.port}), timeout=0.2).close()
        print("leaked after", time.monotonic() - started)
        raise SystemExit(1)
    except OSError:
        pass
print("nothing got out")
"""
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}


@pytest.fixture(scope="module")
def image() -> str:
    return images.ensure("operator", "trimmed")


@pytest.fixture(scope="module")
def sites(image: str) -> Iterator[list[Node]]:
    nodes = cluster.up(["probe-a", "probe-b"], oldest=["probe-b"])
    try:
        for node in nodes:
            apply(node, namespace(NAMESPACE))
            for name in ("server", "client"):
                apply(node, pod(name, image, ["python", "-m", "http.server", "8080"]))
        for node in nodes:
            cluster.kubectl(node, "wait", "-n", NAMESPACE, "--for=condition=Ready", "pod", "--all", "--timeout=60s")
        yield nodes
    finally:
        teardown.only(Sandbox(), [node.name for node in nodes])


@pytest.fixture
def site(sites: list[Node]) -> Iterator[Node]:
    yield sites[0]
    cluster.kubectl(sites[0], "delete", "networkpolicies", "-n", NAMESPACE, "--all")


def namespace(name: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }


def pod(name: str, image: str, command: list[str], claim: str = "") -> dict:
    mounts = [{"name": "data", "mountPath": "/data"}] if claim else []
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    container = {"name": "main", "image": image, "command": command, "securityContext": RESTRICTED}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container | {"volumeMounts": mounts}],
            "volumes": volumes,
        },
    }


def service(name: str, node_port: int) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"type": "NodePort", "selector": {"app": name}, "ports": [{"port": 8080, "nodePort": node_port}]},
    }


def policy(name: str, spec: dict) -> dict:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


def claim(name: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }


def apply(node: Node, manifest: dict) -> None:
    cluster.kubectl(node, "apply", "-f", "-", stdin=yaml.safe_dump(manifest))


def address(node: Node, name: str) -> str:
    return cluster.kubectl(node, "get", "pod", name, "-n", NAMESPACE, "-o", "jsonpath={.status.podIP}")


def reaches(node: Node, host: str, port: int) -> bool:
    answer = cluster.kubectl(
        node, "exec", "-n", NAMESPACE, "client", "--", "python", "-c", PROBE, host, str(port)
    ).strip()
    assert answer in ("open", "closed")
    return answer == "open"


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


DENY_ALL = policy("deny-all", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})


def test_old_and_new_kubernetes_stand_side_by_side(sites: list[Node]) -> None:
    told = [
        cluster.kubectl(node, "get", "node", node.name, "-o=jsonpath={.status.nodeInfo.kubeletVersion}")
        for node in sites
    ]
    servers = [json.loads(cluster.kubectl(node, "version", "-o=json"))["serverVersion"]["gitVersion"] for node in sites]
    assert told == servers == [f"v{golang.KUBERNETES_VERSION}", f"v{golang.OLDEST_KUBERNETES_VERSION}"]


def test_a_restricted_pod_reaches_names_neighbours_and_the_host(site: Node) -> None:
    assert reaches(site, address(site, "server"), 8080)
    assert reaches(site, "kubernetes.default.svc.cluster.local", 443)
    assert reaches(site, "host.covey.test", registry.SERVICE.port)
    assert reaches(site, network.HOST, registry.SERVICE.port)


def test_a_pod_reaches_a_node_port_of_another_cluster(sites: list[Node]) -> None:
    here, there = sites
    apply(there, service("server", 30080))
    assert eventually(lambda: reaches(here, there.address, 30080))
    assert eventually(lambda: reaches(here, f"{there.name}.covey.test", 30080))


def test_default_deny_closes_pods_the_host_names_and_other_clusters(sites: list[Node], site: Node) -> None:
    server = address(site, "server")
    apply(sites[1], service("server", 30080))
    apply(site, DENY_ALL)
    assert eventually(lambda: not reaches(site, server, 8080))
    assert not reaches(site, network.HOST, registry.SERVICE.port)
    assert not reaches(site, "10.96.0.1", 443)
    assert not reaches(site, site.address, 6443)
    assert not reaches(site, sites[1].address, 30080)
    assert not reaches(site, "kubernetes.default.svc.cluster.local", 443)


def test_allow_rules_open_what_they_name_and_nothing_else(site: Node) -> None:
    server = address(site, "server")
    apply(site, DENY_ALL)
    to_server = [{"to": [{"podSelector": {"matchLabels": {"app": "server"}}}], "ports": [{"port": 8080}]}]
    apply(site, policy("out", {"podSelector": {"matchLabels": {"app": "client"}}, "egress": to_server}))
    from_client = [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]
    selected = {"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]}
    assert eventually(lambda: not reaches(site, server, 8080))
    apply(site, policy("in", selected | {"ingress": from_client}))
    assert eventually(lambda: reaches(site, server, 8080))
    assert not reaches(site, network.HOST, registry.SERVICE.port)


def test_a_new_pod_is_confined_from_its_first_packet_on(site: Node, image: str) -> None:
    apply(site, DENY_ALL)
    apply(site, pod("eager", image, ["python", "-c", EAGER]))
    finished = "--for=jsonpath={.status.containerStatuses[0].state.terminated}"
    cluster.kubectl(site, "wait", "-n", NAMESPACE, finished, "pod/eager", "--timeout=60s")
    assert cluster.kubectl(site, "logs", "-n", NAMESPACE, "eager").strip() == "nothing got out"
    cluster.kubectl(site, "delete", "pod", "-n", NAMESPACE, "eager")


def test_a_claim_binds_is_writable_and_its_volume_returns_empty(site: Node, image: str) -> None:
    def free() -> int:
        volumes = json.loads(cluster.kubectl(site, "get", "persistentvolumes", "-o", "json"))["items"]
        return sum(volume["status"]["phase"] == "Available" for volume in volumes)

    before = free()
    apply(site, claim("data"))
    apply(site, pod("writer", image, ["sh", "-c", "echo private > /data/file && ls /data"], claim="data"))
    succeeded = "--for=jsonpath={.status.phase}=Succeeded"
    cluster.kubectl(site, "wait", "-n", NAMESPACE, succeeded, "pod/writer", "--timeout=60s")
    assert list(site.directory.glob("volumes/*/file"))
    cluster.kubectl(site, "delete", "-n", NAMESPACE, "pod/writer", "persistentvolumeclaim/data")
    assert eventually(lambda: free() == before)
    assert not list(site.directory.glob("volumes/*/file"))


def test_a_cluster_holds_no_credentials_of_another(sites: list[Node]) -> None:
    here, there = sites
    seen = subprocess.run(
        [*cluster.enter(here), "find", str(paths.state()), "-maxdepth", "2"], capture_output=True, text=True, check=True
    ).stdout
    assert str(here.kubeconfig) in seen
    assert str(there.directory) not in seen
    assert here.kubeconfig.stat().st_mode & 0o077 == 0
