"""Who may talk to a task's pods: the exchange Service and the NetworkPolicies."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from covey_api.subnet import ExchangeSpec, ServiceType

from covey_operator.kinds import Object
from covey_operator.plan import names

NAMESPACE_NAME = "kubernetes.io/metadata.name"
DNS_PORT = 53


def exchange_service(task: str, namespace: str, exchange: ExchangeSpec) -> Object:
    """The Service through which other members reach this one's validator."""
    port: Object = {
        "name": "exchange",
        "port": names.EXCHANGE_PORT,
        "targetPort": names.EXCHANGE_PORT,
        "protocol": "TCP",
    }
    if exchange.service.node_port is not None and exchange.service.type is not ServiceType.CLUSTER_IP:
        port["nodePort"] = exchange.service.node_port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": names.exchange(task), "namespace": namespace, "labels": names.labels(task)},
        "spec": {
            "type": exchange.service.type.value,
            "selector": {names.TASK: task, names.TASK_COMPONENT: names.HEAD},
            # Peers dial while the head is still waiting for its workers.
            "publishNotReadyAddresses": True,
            "ports": [port],
        },
    }


def endpoint(exchange: ExchangeSpec, service: Object | None) -> str | None:
    """`host:port` that other members dial; None while the Service has not got its port."""
    host, _, port = exchange.advertise.partition(":")
    if port:
        return exchange.advertise
    if exchange.service.type is not ServiceType.NODE_PORT:
        return f"{host}:{names.EXCHANGE_PORT}"
    ports = ((service or {}).get("spec") or {}).get("ports") or []
    node_port = ports[0].get("nodePort") if ports else None
    return f"{host}:{node_port}" if node_port else None


def policies(
    task: str,
    namespace: str,
    rpc_urls: Iterable[str],
    peer_endpoints: Iterable[str],
    operator_namespace: str,
    monitoring_namespace: str,
) -> list[Object]:
    """The NetworkPolicies of a task's pods: nothing but what is listed here.

    Workers talk to their head and their fellows, and to nothing else, not even DNS. The head hears the exchange from
    anywhere (TLS with pinned keys guards it) and the status port from the operator; it reaches its workers, the chain
    and the peers.
    """
    mine = {"matchLabels": {names.TASK: task}}
    return [
        _policy(f"{task}-deny", task, namespace, mine),
        _policy(
            f"{task}-worker",
            task,
            namespace,
            _component(task, names.WORKER),
            ingress=[{"from": [{"podSelector": mine}]}],
            egress=[{"to": [{"podSelector": mine}]}],
        ),
        _policy(
            f"{task}-head",
            task,
            namespace,
            _component(task, names.HEAD),
            ingress=_head_ingress(task, operator_namespace, monitoring_namespace),
            egress=_head_egress(task, rpc_urls, peer_endpoints),
        ),
    ]


def _component(task: str, component: str) -> Object:
    return {"matchLabels": {names.TASK: task, names.TASK_COMPONENT: component}}


def _head_ingress(task: str, operator_namespace: str, monitoring_namespace: str) -> list[Object]:
    operator = {
        "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: operator_namespace}},
        "podSelector": {"matchLabels": {names.NAME: "covey", names.COMPONENT: "operator"}},
    }
    scrapers: list[Object] = [operator]
    if monitoring_namespace:
        scrapers.append({"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: monitoring_namespace}}})
    return [
        {"ports": [_port(names.EXCHANGE_PORT)]},
        {"ports": [_port(names.STATUS_PORT)], "from": scrapers},
        {"from": [{"podSelector": _component(task, names.WORKER)}]},
    ]


def _head_egress(task: str, rpc_urls: Iterable[str], peer_endpoints: Iterable[str]) -> list[Object]:
    rules: list[Object] = [{"to": [{"podSelector": _component(task, names.WORKER)}]}]
    targets = {*map(_rpc_target, rpc_urls), *(_target(endpoint) for endpoint in peer_endpoints)}
    needs_dns = False
    open_ports: set[int] = set()
    for host, port in sorted(targets):
        if _is_address(host):
            rules.append({"ports": [_port(port)], "to": [{"ipBlock": {"cidr": _single(host)}}]})
        else:
            needs_dns = True
            open_ports.add(port)
    # A policy cannot name hosts: a peer known by name may be anywhere, so its port is open to anywhere.
    rules.extend({"ports": [_port(port)]} for port in sorted(open_ports))
    if needs_dns:
        rules.append({"ports": [_port(DNS_PORT, "UDP"), _port(DNS_PORT, "TCP")]})
    return rules


def _policy(
    name: str,
    task: str,
    namespace: str,
    selector: Object,
    ingress: list[Object] | None = None,
    egress: list[Object] | None = None,
) -> Object:
    spec: Object = {"podSelector": selector, "policyTypes": ["Ingress", "Egress"]}
    if ingress:
        spec["ingress"] = ingress
    if egress:
        spec["egress"] = egress
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "labels": names.labels(task)},
        "spec": spec,
    }


def _port(port: int, protocol: str = "TCP") -> Object:
    return {"port": port, "protocol": protocol}


def _rpc_target(rpc_url: str) -> tuple[str, int]:
    url = urlsplit(rpc_url)
    return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)


def _target(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _single(address: str) -> str:
    return f"{address}/{ip_address(address).max_prefixlen}"
