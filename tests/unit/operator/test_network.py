"""NetworkPolicies and end points: nothing is open but what is named."""

from __future__ import annotations

from covey_operator.plan.network import endpoint, exchange_service, policies


def of(task="wdbc", rpc=("http://10.66.0.1:8545",), peers=("10.66.0.12:30002",), monitoring=""):
    made = policies(task, "oncology", rpc, peers, "covey-system", monitoring)
    return {policy["metadata"]["name"]: policy["spec"] for policy in made}


def test_everything_is_denied_that_is_not_allowed():
    deny = of()["wdbc-deny"]
    assert deny == {"podSelector": {"matchLabels": {"covey.dev/task": "wdbc"}}, "policyTypes": ["Ingress", "Egress"]}


def test_a_worker_reaches_head_and_fellows_and_nothing_else_not_even_dns():
    worker = of()["wdbc-worker"]
    same_task = {"podSelector": {"matchLabels": {"covey.dev/task": "wdbc"}}}
    assert worker["egress"] == [{"to": [same_task]}]
    assert worker["ingress"] == [{"from": [same_task]}]


def test_a_head_with_addresses_needs_no_dns():
    egress = of()["wdbc-head"]["egress"]
    assert {"ports": [{"port": 8545, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.66.0.1/32"}}]} in egress
    assert {"ports": [{"port": 30002, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.66.0.12/32"}}]} in egress
    assert not [rule for rule in egress if any(port["port"] == 53 for port in rule.get("ports", []))]
    assert all("to" in rule for rule in egress)


def test_a_head_reaches_every_node_of_the_chain():
    egress = of(rpc=["http://10.66.0.1:8545", "http://10.66.0.2:8546"])["wdbc-head"]["egress"]
    for address, port in (("10.66.0.1/32", 8545), ("10.66.0.2/32", 8546)):
        assert {"ports": [{"port": port, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": address}}]} in egress


def test_names_open_their_port_to_anywhere_and_dns():
    egress = of(rpc=["https://rpc.example/key"], peers=("covey.example:7443",))["wdbc-head"]["egress"]
    assert {"ports": [{"port": 443, "protocol": "TCP"}]} in egress
    assert {"ports": [{"port": 7443, "protocol": "TCP"}]} in egress
    assert {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]} in egress


def test_the_status_port_is_open_to_the_operator_and_to_monitoring_only():
    def status_sources(spec):
        return next(
            rule["from"] for rule in spec["ingress"] if {"port": 9464, "protocol": "TCP"} in rule.get("ports", [])
        )

    (operator,) = status_sources(of()["wdbc-head"])
    assert operator["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "covey-system"}
    assert operator["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "operator"
    assert len(status_sources(of(monitoring="prometheus")["wdbc-head"])) == 2


def test_end_points(make):
    node_port = make.subnet_spec(exchange={"advertise": "st-mary.example"}).exchange
    assert endpoint(node_port, None) is None
    assert endpoint(node_port, make.node_port_service()) == "st-mary.example:30001"
    fixed = make.subnet_spec(exchange={"advertise": "st-mary.example:443"}).exchange
    assert endpoint(fixed, None) == "st-mary.example:443"
    balanced = make.subnet_spec(exchange={"advertise": "a.example", "service": {"type": "LoadBalancer"}}).exchange
    assert endpoint(balanced, None) == "a.example:7443"


def test_a_fixed_node_port_is_asked_for(make):
    exchange = make.subnet_spec(exchange={"advertise": "a.example", "service": {"nodePort": 31000}}).exchange
    service = exchange_service("wdbc", "oncology", exchange)
    assert service["spec"]["ports"][0]["nodePort"] == 31000
    assert service["spec"]["publishNotReadyAddresses"] is True
