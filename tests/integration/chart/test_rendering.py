"""What the chart makes of values, without a cluster."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_release import CHART, DEFAULT_VALUES, FULL_VALUES, RELEASE, VALUES, Helm, Object, of_kind, the
from covey_operator.settings import Settings

DEFAULTS: Object = yaml.safe_load((CHART / "values.yaml").read_text())
FULL: Object = yaml.safe_load(FULL_VALUES.read_text())
SCHEMA: Object = json.loads((CHART / "values.schema.json").read_text())


def leaves(values: Object, schema: Object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Values that are set one by one: whatever the schema does not take apart further."""
    for key, value in values.items():
        properties = schema["properties"][key]
        if "properties" in properties and (*path, key) != ("resources",):
            yield from leaves(value, properties, (*path, key))
        else:
            yield (*path, key), value


def containers(objects: list[Object]) -> Object:
    (container,) = the(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return container


def environment(objects: list[Object]) -> dict[str, str]:
    """Variables of the operator's container, those of the downward API as they would be."""
    return {
        variable["name"]: variable.get("value", variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath"))
        for variable in containers(objects)["env"]
    }


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_lint_has_nothing_to_say(helm: Helm, values: Path):
    done = helm.run("lint", "--strict", CHART, f"--values={values}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("watchNamespace=ward", "watchNamespace"),
        ("image.repo=other", "repo"),
        ("networkPolicy.chainCidr=10.0.0.1/32", "chainCidr"),
        ("podMonitor.enable=true", "enable"),
        ("watchAllNamespace=true", "watchAllNamespace"),
        ("prometheusRule.runbookBaseUrl=docs", "prometheusRule/runbookBaseUrl"),
        ("crds.kept=true", "kept"),
        ("logLevel=VERBOSE", "logLevel"),
        ("resyncSeconds=0", "resyncSeconds"),
        ("metrics.port=80", "metrics/port"),
        ("image.digest=sha256:12", "image/digest"),
        ("image.pullPolicy=Sometimes", "image/pullPolicy"),
        ("networkPolicy.chain.cidrs={chain.example}", "networkPolicy/chain/cidrs"),
        ("watchNamespaces={ward,ward}", "watchNamespaces"),
        ("resources.requests.cpu=much", "resources/requests/cpu"),
        ("fullnameOverride=St-Mary", "fullnameOverride"),
    ],
)
def test_a_misspelt_or_senseless_value_is_refused_by_name(helm: Helm, option: str, message: str):
    done = helm.run("template", RELEASE, CHART, f"--values={DEFAULT_VALUES}", f"--set={option}")
    assert done.returncode != 0
    assert message in done.stderr


@pytest.mark.parametrize("image", ["image", "trainerImage"])
def test_images_are_never_guessed(helm: Helm, image: str):
    done = helm.run("template", RELEASE, CHART, f"--values={DEFAULT_VALUES}", f"--set={image}.repository=")
    assert done.returncode != 0
    assert f"{image}.repository is needed" in done.stderr


def test_every_value_is_described_and_every_description_has_a_value():
    def compare(values: Object, schema: Object, where: str) -> None:
        assert schema["additionalProperties"] is False, where
        assert values.keys() == schema["properties"].keys(), where
        for key, inner in schema["properties"].items():
            assert len(inner["description"]) > 3, f"{where}.{key}"
            if "properties" in inner and key != "resources":
                compare(values[key], inner, f"{where}.{key}")

    compare(DEFAULTS, SCHEMA, "values")


OVERRULED = {
    ("image", "tag"),  # by the digest
    ("image", "repository"),  # has no default: see test_images_are_never_guessed
    ("trainerImage", "repository"),
    ("global",),  # of a parent chart
}
CHANGED = [
    pytest.param(path, id=".".join(path))
    for path, value in leaves(FULL, SCHEMA)
    if path not in OVERRULED and value != dict(leaves(DEFAULTS, SCHEMA)).get(path)
]


@pytest.fixture(scope="module")
def full(helm: Helm) -> list[Object]:
    return helm.render(f"--values={FULL_VALUES}")


@pytest.mark.parametrize("path", CHANGED)
def test_every_value_changes_something(helm: Helm, full: list[Object], tmp_path: Path, path: tuple[str, ...]):
    values: Any = json.loads(json.dumps(FULL))
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    default: Any = DEFAULTS
    for key in path:
        default = default[key]
    inner[path[-1]] = default
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    assert helm.render(f"--values={file}") != full


def test_a_digest_wins_over_a_tag(helm: Helm):
    digest = f"sha256:{'a' * 64}"
    objects = helm.render(f"--values={DEFAULT_VALUES}", "--set-string=image.tag=1", f"--set=image.digest={digest}")
    assert containers(objects)["image"] == f"registry.example/covey/operator@{digest}"


def test_without_a_tag_the_images_are_of_the_chart_s_version(helm: Helm):
    objects = helm.render(f"--values={DEFAULT_VALUES}")
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert containers(objects)["image"] == f"registry.example/covey/operator:{version}"
    assert environment(objects)["COVEY_TRAINER_IMAGE"] == f"registry.example/covey/trainer:{version}"


def images(found: Any) -> set[str]:
    """Every value of a key `image`, at any depth, and of the variable that names the image of tasks."""
    if isinstance(found, list):
        return set().union(*map(images, found))
    if not isinstance(found, dict):
        return set()
    if found.get("name") == "COVEY_TRAINER_IMAGE":
        return {found["value"]}
    here = {found["image"]} if isinstance(found.get("image"), str) else set()
    return here.union(*map(images, found.values()))


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_every_image_can_come_from_a_registry_of_ones_own(helm: Helm, values: Path):
    own = "registry.hospital.example/mirror"
    digest = f"sha256:{'a' * 64}"
    options = [
        option
        for value in ("image", "trainerImage")
        for option in (f"--set={value}.repository={own}/{value.lower()}", f"--set={value}.digest={digest}")
    ]
    found = images(helm.render(f"--values={values}", *options, tests=True))
    assert found == {f"{own}/image@{digest}", f"{own}/trainerimage@{digest}"}


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_the_operator_understands_its_environment(helm: Helm, monkeypatch: pytest.MonkeyPatch, values: Path):
    variables = environment(helm.render(f"--values={values}"))
    for name, value in variables.items():
        assert name.removeprefix("COVEY_").lower() in Settings.model_fields
        monkeypatch.setenv(name, value)
    settings = Settings()  # type: ignore[call-arg]
    written = yaml.safe_load(values.read_text())
    default = [] if written.get("watchAllNamespaces") else ["covey-system"]
    assert settings.watch_namespaces == tuple(written.get("watchNamespaces", default))
    assert settings.resync_seconds == written.get("resyncSeconds", DEFAULTS["resyncSeconds"])
    assert settings.trainer_image.startswith(written["trainerImage"]["repository"])


def test_one_operator_at_a_time(helm: Helm):
    objects = helm.render(f"--values={DEFAULT_VALUES}")
    spec = the(objects, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert of_kind(objects, "PodDisruptionBudget") == [], "it would only keep nodes from being drained"


def test_a_second_replica_stands_by_and_has_a_budget(full: list[Object]):
    spec = the(full, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (2, {"type": "RollingUpdate"})
    budget = the(full, "PodDisruptionBudget")["spec"]
    assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": spec["selector"]["matchLabels"]}}


def test_alerts_reach_prometheus_as_they_are_written(helm: Helm):
    objects = helm.render(f"--values={FULL_VALUES}", "--set=prometheusRule.runbookBaseUrl=")
    assert the(objects, "PrometheusRule")["spec"] == yaml.safe_load((CHART / "alerts" / "covey.yaml").read_text())


def test_alerts_link_to_their_runbooks_where_these_have_an_address(full: list[Object]):
    rules = [rule for group in the(full, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    assert len(rules) > 5
    for rule in rules:
        page = f"https://covey.example/docs/how-to/alerts.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == page
        assert "runbook" not in rule["annotations"]


@pytest.mark.parametrize(("values", "roles"), [(VALUES[0], 2), (VALUES[2], 0)], ids=["first", "second member"])
def test_roles_for_people_are_aggregated_and_bound_to_nobody(helm: Helm, values: Path, roles: int):
    objects = helm.render(f"--values={values}")
    found = of_kind(objects, "ClusterRole")
    assert len(found) == roles
    assert all(any("aggregate-to" in label for label in role["metadata"]["labels"]) for role in found)
    assert all(rule["apiGroups"] == ["covey.dev"] for role in found for rule in role["rules"])
    assert of_kind(objects, "ClusterRoleBinding") == []


def test_nothing_is_granted_beyond_the_watched_namespaces(helm: Helm, full: list[Object]):
    assert of_kind(full, "ClusterRole") == of_kind(full, "ClusterRoleBinding") == []
    assert {role["metadata"]["namespace"] for role in of_kind(full, "Role")} == {
        "oncology",
        "cardiology",
        "covey-system",
    }
    for role in of_kind(full, "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


@pytest.fixture(scope="module")
def whole_cluster(helm: Helm) -> list[Object]:
    return helm.render(f"--values={CHART / 'ci' / 'whole-cluster-values.yaml'}")


def test_for_all_namespaces_the_same_rules_hold_in_the_cluster(helm: Helm, whole_cluster: list[Object]):
    role, binding = (
        next(found for found in of_kind(whole_cluster, kind) if found["metadata"]["name"] == RELEASE)
        for kind in ("ClusterRole", "ClusterRoleBinding")
    )
    namespaced = of_kind(helm.render(f"--values={DEFAULT_VALUES}"), "Role")
    assert role["rules"] == next(found["rules"] for found in namespaced if found["metadata"]["name"] == RELEASE)
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": RELEASE}
    assert [found["metadata"]["name"] for found in of_kind(whole_cluster, "Role")] == [f"{RELEASE}-leader"]
    assert environment(whole_cluster)["COVEY_WATCH_NAMESPACES"] == ""


def test_for_all_namespaces_head_pods_are_found_everywhere(whole_cluster: list[Object]):
    rule = next(r for r in the(whole_cluster, "NetworkPolicy")["spec"]["egress"] if r["ports"][0]["port"] == 9464)
    heads = {"matchLabels": {"covey.dev/component": "head"}}
    assert rule["to"] == [{"namespaceSelector": {}, "podSelector": heads}]
    _, validators = of_kind(whole_cluster, "PodMonitor")
    assert validators["spec"]["namespaceSelector"] == {"any": True}


def test_all_namespaces_and_a_list_of_them_exclude_each_other(helm: Helm):
    options = ["--set=watchAllNamespaces=true", "--set=watchNamespaces={ward}"]
    done = helm.run("template", RELEASE, CHART, f"--values={DEFAULT_VALUES}", *options)
    assert done.returncode != 0
    assert "leave watchNamespaces empty" in done.stderr


def test_the_pod_of_helm_test_is_as_confined_as_the_operator(helm: Helm):
    objects = helm.render(f"--values={DEFAULT_VALUES}", tests=True)
    hooks = [found for found in objects if "helm.sh/hook" in found["metadata"].get("annotations", {})]
    assert {found["metadata"]["annotations"]["helm.sh/hook"] for found in hooks} == {"test"}
    pod, operator = the(hooks, "Pod")["spec"], the(objects, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"] == operator["securityContext"]
    (check,), (container,) = pod["containers"], operator["containers"]
    assert (check["image"], check["securityContext"]) == (container["image"], container["securityContext"])
    assert all(set(rule["verbs"]) == {"get"} and rule["resourceNames"] for rule in the(hooks, "Role")["rules"])
    policy = the(hooks, "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= the(hooks, "Pod")["metadata"]["labels"].items()
    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [443, 6443]


def test_the_operator_reaches_only_what_it_needs(helm: Helm, full: list[Object]):
    spec = the(full, "NetworkPolicy")["spec"]
    assert (
        spec["podSelector"]["matchLabels"].items()
        <= the(full, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    )
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    reached = [
        ([next(iter(peer)) for peer in rule.get("to", [])], [port["port"] for port in rule["ports"]])
        for rule in spec["egress"]
    ]
    assert reached == [
        (["ipBlock", "ipBlock"], [443, 6443]),
        (["ipBlock"], [8545]),
        (["namespaceSelector", "namespaceSelector"], [9464]),
        ([], [53, 53]),
    ]


def test_an_empty_list_of_addresses_closes_the_way(helm: Helm):
    objects = helm.render(f"--values={DEFAULT_VALUES}", "--set-json=networkPolicy.chain.cidrs=[]")
    ports = [port["port"] for rule in the(objects, "NetworkPolicy")["spec"]["egress"] for port in rule["ports"]]
    assert 8545 not in ports


def test_task_policies_let_this_operator_in(helm: Helm):
    labels = the(helm.render(f"--values={DEFAULT_VALUES}"), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "covey"
    assert labels["app.kubernetes.io/component"] == "operator"


def test_pod_monitors_find_the_pods_by_label_and_port(helm: Helm, full: list[Object]):
    operator, validators = of_kind(full, "PodMonitor")
    pod = the(full, "Deployment")["spec"]["template"]
    assert operator["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert operator["spec"]["podMetricsEndpoints"][0]["port"] in [port["name"] for port in containers(full)["ports"]]
    assert validators["spec"]["namespaceSelector"]["matchNames"] == ["oncology", "cardiology"]
    assert validators["spec"]["selector"]["matchLabels"] == {"covey.dev/component": "head"}
    assert validators["spec"]["podMetricsEndpoints"][0]["port"] == "status"


@pytest.mark.parametrize("value", ["podMonitor", "prometheusRule"])
def test_monitoring_without_the_prometheus_operator_says_what_to_do(helm: Helm, value: str):
    done = helm.run("template", RELEASE, CHART, f"--values={DEFAULT_VALUES}", f"--set={value}.enabled=true")
    assert done.returncode != 0
    assert f"install it first, or set {value}.enabled to false" in done.stderr


def test_dashboards_reach_grafana_as_they_were_generated(full: list[Object]):
    data = the(full, "ConfigMap")["data"]
    files = {path.name: json.loads(path.read_text()) for path in (CHART / "dashboards").glob("*.json")}
    assert {name: json.loads(text) for name, text in data.items()} == files
    assert "{{task}}" in data["covey.json"]


@pytest.mark.parametrize(
    ("option", "annotations"),
    [("crds.keep=true", {"helm.sh/resource-policy": "keep"}), ("crds.keep=false", None)],
)
def test_definitions_are_kept_unless_told_otherwise(helm: Helm, option: str, annotations: object):
    definitions = of_kind(helm.render(f"--values={DEFAULT_VALUES}", f"--set={option}"), "CustomResourceDefinition")
    assert len(definitions) == 2
    assert all(found["metadata"].get("annotations") == annotations for found in definitions)


def test_the_chart_ships_the_generated_definitions(helm: Helm):
    shipped = {
        found["metadata"]["name"]: found["spec"]
        for found in of_kind(helm.render(f"--values={DEFAULT_VALUES}"), "CustomResourceDefinition")
    }
    generated = [yaml.safe_load(path.read_text()) for path in (CHART.parents[1] / "crds").glob("covey.dev_*.yaml")]
    assert shipped == {found["metadata"]["name"]: found["spec"] for found in generated}
