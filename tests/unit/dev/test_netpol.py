"""A NetworkPolicy becomes exactly the rules that the API documents."""

import string

import pytest
from covey_dev.netpol import Pod, Policy, Port, Snapshot, matches, render
from hypothesis import given
from hypothesis import strategies as st

WEB = Pod("shop", "web", "10.244.0.2", {"app": "web"}, (Port("http", "TCP", 8080), Port("dns", "UDP", 53)))
API = Pod("shop", "api", "10.244.0.3", {"app": "api", "tier": "back"}, (Port("http", "TCP", 9090),))
SPY = Pod("spy", "spy", "10.244.0.4", {"app": "spy"})
NAMESPACES = {"shop": {"team": "red"}, "spy": {"team": "blue"}}


def rules(*specs: dict, namespace: str = "shop") -> str:
    policies = [Policy(namespace, spec) for spec in specs]
    return render(Snapshot([WEB, API, SPY], NAMESPACES, policies, "10.244.0.0/24"))


def chain(text: str, name: str) -> list[str]:
    body = text.split(f"  chain {name} {{\n")[1].split("  }\n")[0]
    return [line.strip() for line in body.splitlines()]


def allows(text: str, name: str) -> list[str]:
    """What a chain lets through beside a pod's traffic with itself, which is its first rule; the last one drops."""
    first, *middle, last = chain(text, name)
    assert first.endswith("return")
    assert last == "counter drop"
    return [rule.removesuffix(" return") for rule in middle]


def test_without_policies_pods_are_free_and_unknown_addresses_are_not():
    text = rules()
    known = "{ 10.244.0.2, 10.244.0.3, 10.244.0.4 }"
    assert chain(text, "forward")[1:] == [
        "ct state established,related accept",
        f"ip saddr 10.244.0.0/24 ip saddr != {known} drop",
        f"ip daddr 10.244.0.0/24 ip daddr != {known} drop",
    ]
    assert "jump" not in text


def test_a_node_without_pods_closes_the_whole_range():
    text = render(Snapshot([], {}, [], "10.244.0.0/24"))
    assert "    ip saddr 10.244.0.0/24 drop\n" in text


def test_default_deny_leaves_a_pod_only_itself():
    text = rules({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    for address in ("10_244_0_2", "10_244_0_3"):
        assert allows(text, f"ingress_{address}") == []
        assert allows(text, f"egress_{address}") == []
    assert "ingress_10_244_0_4" not in text


def test_egress_also_guards_the_way_to_the_node():
    text = rules({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"]})
    assert chain(text, "input")[-1] == "ip saddr vmap { 10.244.0.2 : jump egress_10_244_0_2 }"
    assert chain(text, "forward")[-1] == "ip saddr vmap { 10.244.0.2 : jump egress_10_244_0_2 }"


def test_policies_add_up():
    one = {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": 80}]}]}
    two = {"podSelector": {}, "ingress": [{"ports": [{"port": 443}]}]}
    assert allows(rules(one, two), "ingress_10_244_0_2") == ["tcp dport 80", "tcp dport 443"]


def test_a_pod_selector_means_pods_of_the_same_namespace():
    spec = {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [{"podSelector": {}}]}]}
    assert allows(rules(spec), "ingress_10_244_0_2") == ["ip saddr 10.244.0.3"]


def test_a_namespace_selector_crosses_namespaces_and_a_pod_selector_beside_it_narrows():
    blue = {"namespaceSelector": {"matchLabels": {"team": "blue"}}}
    spec = {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [blue]}]}
    assert allows(rules(spec), "ingress_10_244_0_2") == ["ip saddr 10.244.0.4"]
    narrowed = blue | {"podSelector": {"matchLabels": {"app": "nobody"}}}
    spec = {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [narrowed]}]}
    assert allows(rules(spec), "ingress_10_244_0_2") == []


def test_an_empty_rule_allows_everything_and_an_absent_one_nothing():
    assert allows(rules({"podSelector": {}, "ingress": [{}]}), "ingress_10_244_0_2") == ["return"]
    assert allows(rules({"podSelector": {}, "ingress": []}), "ingress_10_244_0_2") == []


def test_an_address_block_with_exceptions_and_a_port_range():
    block = {"ipBlock": {"cidr": "10.66.0.0/24", "except": ["10.66.0.13/32", "10.66.0.14/32"]}}
    ports = [{"port": 7000, "endPort": 7100}, {"protocol": "UDP"}]
    spec = {"podSelector": {"matchLabels": {"app": "web"}}, "egress": [{"to": [block], "ports": ports}]}
    block_match = "ip daddr 10.66.0.0/24 ip daddr != { 10.66.0.13/32, 10.66.0.14/32 }"
    assert allows(rules(spec), "egress_10_244_0_2") == [
        f"{block_match} tcp dport 7000-7100",
        f"{block_match} meta l4proto udp",
    ]


def test_an_ipv6_block_opens_nothing_here():
    spec = {"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "::/0"}}]}], "policyTypes": ["Egress"]}
    assert allows(rules(spec), "egress_10_244_0_2") == []


def test_a_named_port_is_the_receivers():
    ingress = {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": "http"}]}]}
    assert allows(rules(ingress), "ingress_10_244_0_2") == ["tcp dport 8080"]
    egress = {"podSelector": {"matchLabels": {"app": "web"}}, "egress": [{"ports": [{"port": "http"}]}]}
    assert allows(rules(egress), "egress_10_244_0_2") == [
        "ip daddr 10.244.0.2 tcp dport 8080",
        "ip daddr 10.244.0.3 tcp dport 9090",
    ]


def test_a_policy_without_types_isolates_egress_only_if_it_speaks_of_it():
    assert "egress_" not in rules({"podSelector": {}, "ingress": []})
    assert "egress_10_244_0_2" in rules({"podSelector": {}, "egress": []})


@pytest.mark.parametrize(
    ("operator", "values", "selected"),
    [
        ("In", ["back"], True),
        ("In", ["front"], False),
        ("NotIn", ["back"], False),
        ("NotIn", ["front"], True),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
    ],
)
def test_label_expressions_on_a_label_that_is_there(operator, values, selected):
    expression = {"key": "tier", "operator": operator, "values": values}
    assert matches({"matchExpressions": [expression]}, API.labels) is selected


@pytest.mark.parametrize(
    ("operator", "selected"), [("In", False), ("NotIn", True), ("Exists", False), ("DoesNotExist", True)]
)
def test_label_expressions_on_a_label_that_is_not_there(operator, selected):
    assert matches({"matchExpressions": [{"key": "tier", "operator": operator, "values": ["back"]}]}, {}) is selected


labels = st.dictionaries(st.sampled_from("abc"), st.text(string.ascii_lowercase, max_size=2), max_size=3)


@given(labels, st.sampled_from("abc"), st.lists(st.text(string.ascii_lowercase, max_size=2), min_size=1, max_size=3))
def test_opposite_operators_disagree(pod_labels, key, values):
    def selected(operator: str) -> bool:
        return matches({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}, pod_labels)

    assert selected("In") is not selected("NotIn")
    assert selected("Exists") is not selected("DoesNotExist")


@given(labels)
def test_an_empty_selector_matches_everything(pod_labels):
    assert matches({}, pod_labels)
