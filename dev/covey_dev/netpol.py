"""NetworkPolicy (networking.k8s.io/v1) of one node as an nftables table; pure text out of a snapshot.

Pods are routed (CNI plugin ptp), so that packets between pods pass the hook `forward`, and those from a pod to its own
node the hook `input`. There a packet meets the sender's egress chain, then the receiver's ingress chain; a pod that no
policy selects has no chain. Replies are known by connection tracking. As everywhere, the node itself may reach its
pods. A pod address that is not in the snapshot yet can send and receive nothing: the table fails closed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

TABLE = "covey_netpol"
Direction = Literal["ingress", "egress"]
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Port:
    """A named port of a pod's container."""

    name: str
    protocol: str
    number: int


@dataclass(frozen=True)
class Pod:
    """A pod with an address on this node."""

    namespace: str
    name: str
    address: str
    labels: Mapping[str, str]
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True)
class Policy:
    """A NetworkPolicy: its namespace and its `spec` as the API gives it."""

    namespace: str
    spec: Json

    def selects(self, pod: Pod, direction: Direction) -> bool:
        """Whether it isolates this pod in this direction."""
        default = ["Ingress", "Egress"] if "egress" in self.spec else ["Ingress"]
        return (
            pod.namespace == self.namespace
            and direction.capitalize() in self.spec.get("policyTypes", default)
            and matches(self.spec.get("podSelector") or {}, pod.labels)
        )


@dataclass(frozen=True)
class Snapshot:
    """What the rules depend on.

    Attributes:
        pods: pods with an address of their own, once per address.
        namespaces: labels by namespace.
        policies: all policies of the cluster.
        pod_range: CIDR of all pod addresses of the node.
    """

    pods: Sequence[Pod]
    namespaces: Mapping[str, Mapping[str, str]]
    policies: Sequence[Policy]
    pod_range: str


def matches(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector (meta/v1) matches; an empty one matches everything."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions") or [])


def _holds(expression: Json, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(f"unknown operator {expression['operator']!r} in a label selector")


def render(snapshot: Snapshot) -> str:
    """Input for `nft -f -`, which replaces the whole table in one transaction."""
    pods = sorted(snapshot.pods, key=lambda pod: pod.address)
    chains: list[str] = []
    jumps: dict[Direction, list[str]] = {"egress": [], "ingress": []}
    for direction, entries in jumps.items():
        for pod in pods:
            policies = [policy for policy in snapshot.policies if policy.selects(pod, direction)]
            if policies:
                name = f"{direction}_{pod.address.replace('.', '_')}"
                rules = dict.fromkeys(_allowed(snapshot, policies, pod, direction))
                chains.append(_chain(name, [*rules, "counter drop"]))
                entries.append(f"{pod.address} : jump {name}")
    established = "ct state established,related accept"
    known_senders, known_receivers = (_unknown(pods, snapshot.pod_range, field) for field in ("saddr", "daddr"))
    egress = [f"ip saddr vmap {{ {', '.join(jumps['egress'])} }}"] if jumps["egress"] else []
    ingress = [f"ip daddr vmap {{ {', '.join(jumps['ingress'])} }}"] if jumps["ingress"] else []
    hook = "type filter hook {} priority filter - 5; policy accept;"
    forward = [hook.format("forward"), established, known_senders, known_receivers, *egress, *ingress]
    to_node = [hook.format("input"), established, known_senders, *egress]
    body = "".join([*chains, _chain("forward", forward), _chain("input", to_node)])
    # Declared before it is deleted, because deleting a table that does not exist is an error.
    return f"table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n{body}}}\n"


def _chain(name: str, rules: Sequence[str]) -> str:
    lines = "".join(f"    {rule}\n" for rule in rules)
    return f"  chain {name} {{\n{lines}  }}\n"


def _unknown(pods: Sequence[Pod], pod_range: str, field: str) -> str:
    known = f" ip {field} != {{ {', '.join(pod.address for pod in pods)} }}" if pods else ""
    return f"ip {field} {pod_range}{known} drop"


def _allowed(snapshot: Snapshot, policies: Sequence[Policy], pod: Pod, direction: Direction) -> Iterator[str]:
    # A pod may always talk to itself, also through a Service.
    yield f"ip {'saddr' if direction == 'ingress' else 'daddr'} {pod.address} return"
    for policy in policies:
        for rule in policy.spec.get(direction) or []:
            for match in _matches(snapshot, policy.namespace, rule or {}, pod, direction):
                yield f"{match} return".strip()


def _matches(snapshot: Snapshot, namespace: str, rule: Json, pod: Pod, direction: Direction) -> Iterator[str]:
    """The nft matches of one rule: every peer with every port."""
    ports: list[Json] = rule.get("ports") or []
    for address, peer in _peers(snapshot, namespace, rule, direction):
        owner = pod if direction == "ingress" else peer
        if not ports:
            yield address
        for port in ports:
            yield from (f"{address} {match}".strip() for match in _port(port, owner))


def _peers(snapshot: Snapshot, namespace: str, rule: Json, direction: Direction) -> Iterator[tuple[str, Pod | None]]:
    """An address match for each peer, with the pod behind it if it is one."""
    field = "saddr" if direction == "ingress" else "daddr"
    peers = rule.get("from" if direction == "ingress" else "to")
    if not peers:
        named = any(isinstance(port.get("port"), str) for port in rule.get("ports") or [])
        if direction == "egress" and named:  # a name means another number at every receiver
            yield from ((f"ip daddr {pod.address}", pod) for pod in snapshot.pods)
        else:
            yield "", None
    for peer in peers or []:
        if "ipBlock" in peer:
            yield from ((match, None) for match in _block(peer["ipBlock"], field))
        else:
            for pod in snapshot.pods:
                if _is_peer(snapshot, namespace, peer, pod):
                    yield f"ip {field} {pod.address}", pod


def _is_peer(snapshot: Snapshot, namespace: str, peer: Json, pod: Pod) -> bool:
    if "namespaceSelector" in peer:
        labels = snapshot.namespaces.get(pod.namespace)
        if labels is None or not matches(peer["namespaceSelector"] or {}, labels):
            return False
    elif pod.namespace != namespace:
        return False
    return matches(peer.get("podSelector") or {}, pod.labels)


def _block(block: Json, field: str) -> Iterator[str]:
    if ":" in block["cidr"]:  # IPv6; pods here have IPv4 addresses only
        return
    excepted = ", ".join(block.get("except") or [])
    yield f"ip {field} {block['cidr']}" + (f" ip {field} != {{ {excepted} }}" if excepted else "")


def _port(port: Json, owner: Pod | None) -> Iterator[str]:
    protocol, number = port.get("protocol", "TCP"), port.get("port")
    if number is None:
        yield f"meta l4proto {protocol.lower()}"
    elif isinstance(number, str):
        for named in owner.ports if owner else ():
            if (named.name, named.protocol) == (number, protocol):
                yield f"{protocol.lower()} dport {named.number}"
    else:
        last = f"-{port['endPort']}" if port.get("endPort") else ""
        yield f"{protocol.lower()} dport {number}{last}"
