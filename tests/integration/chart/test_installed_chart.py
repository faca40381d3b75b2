"""The chart on a real API server: what it installs, what the operator may do, and what stays behind."""

import json
from itertools import product
from typing import Any

import pytest
import yaml
from chart_release import ACCOUNT, CHART, DEFAULT_VALUES, OTHER, RELEASE, SYSTEM, VALUES, WARD, Helm, the
from covey_dev.apiserver import ApiServer
from covey_dev.errors import CommandError
from covey_dev.process import until

pytestmark = pytest.mark.apiserver


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_the_api_server_accepts_every_object(helm: Helm, installed: ApiServer, values):
    # Schemas of built-in kinds cannot be had offline as files; the API server has them. It has no Prometheus Operator.
    monitoring = ("PodMonitor", "PrometheusRule")
    objects = [found for found in helm.render(f"--values={values}") if found["kind"] not in monitoring]
    for found in objects:
        namespace = found["metadata"].get("namespace")
        if namespace:
            ensure_namespace(installed, namespace)
    checked = installed.kubectl(
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "--force-conflicts",
        "--filename=-",
        "--output=name",
        stdin=yaml.safe_dump_all(objects),
    )
    assert len(checked.splitlines()) == len(objects)


def ensure_namespace(server: ApiServer, name: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    server.kubectl("apply", "--filename=-", stdin=json.dumps(manifest))


def test_the_operator_s_pod_passes_the_restricted_level(helm: Helm, installed: ApiServer):
    template = the(helm.render(f"--values={DEFAULT_VALUES}"), "Deployment")["spec"]["template"]
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "strict", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "operator", "namespace": "strict"},
        "spec": {key: value for key, value in template["spec"].items() if key != "serviceAccountName"},
    }
    installed.kubectl("apply", "--filename=-", stdin=json.dumps(namespace))
    installed.kubectl("wait", "--namespace=strict", "--for=create", "serviceaccount/default", "--timeout=30s")
    dry_run = ["create", "--dry-run=server", "--filename=-"]
    installed.kubectl(*dry_run, stdin=json.dumps(pod))
    # The admission is awake: the same pod with one thing less is refused.
    del pod["spec"]["containers"][0]["securityContext"]["capabilities"]
    with pytest.raises(CommandError) as refused:
        installed.kubectl(*dry_run, stdin=json.dumps(pod))
    assert 'violates PodSecurity "restricted' in refused.value.log


RULES_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"


def grants(server: ApiServer, namespace: str, account: str) -> set[tuple[str, str, str]]:
    """What an account may do in a namespace: (group/resource, name or empty, verb)."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    answer = server.kubectl(
        "create", f"--as={account}", f"--raw={RULES_REVIEW}", "--filename=-", stdin=json.dumps(review)
    )
    return {
        (f"{group}/{resource}".lstrip("/"), name, verb)
        for rule in json.loads(answer)["status"]["resourceRules"]
        for group, resource, name, verb in product(
            rule.get("apiGroups", [""]), rule["resources"], rule.get("resourceNames", [""]), rule["verbs"]
        )
    }


def of_operator(server: ApiServer, namespace: str) -> set[tuple[str, str, str]]:
    """What the operator may do beyond what every account may."""
    everybody = grants(server, namespace, f"system:serviceaccount:{OTHER}:default")
    return grants(server, namespace, ACCOUNT) - everybody


def table(text: str) -> set[tuple[str, str, str]]:
    """Lines of `resource: verb verb …`; a name may stand behind a `=`."""
    rows = (line.partition(":") for line in text.strip().splitlines())
    return {
        (resource.strip().partition("=")[0], resource.strip().partition("=")[2], verb)
        for resource, _, verbs in rows
        for verb in verbs.split()
    }


def test_in_a_watched_namespace_the_operator_may_do_exactly_this(installed: ApiServer):
    assert of_operator(installed, WARD) == table(
        """
        covey.dev/subnets: get list watch patch
        covey.dev/subnets/status: get patch
        covey.dev/subnets/finalizers: update
        covey.dev/federatedtasks: get list watch create patch delete
        covey.dev/federatedtasks/status: get patch
        covey.dev/federatedtasks/finalizers: update
        pods: get list watch create patch delete
        services: get list watch create patch delete
        configmaps: get list watch create patch delete
        persistentvolumeclaims: get list create patch delete
        secrets: get create patch delete
        networking.k8s.io/networkpolicies: get list watch create patch delete
        events: create
        ray.io/rayclusters: get list create patch delete
        """
    )


def test_in_its_own_namespace_it_may_only_hold_its_lease(installed: ApiServer):
    assert of_operator(installed, SYSTEM) == table(
        """
        coordination.k8s.io/leases: create
        coordination.k8s.io/leases=covey-operator: get update
        """
    )


@pytest.mark.parametrize("namespace", [OTHER, "kube-system", "default"])
def test_elsewhere_it_may_do_nothing(installed: ApiServer, namespace: str):
    assert of_operator(installed, namespace) == set()


@pytest.mark.parametrize(
    ("verb", "resource", "namespace"),
    [
        ("list", "secrets", WARD),
        ("watch", "secrets", WARD),
        ("get", "secrets", SYSTEM),
        ("create", "pods/exec", WARD),
        ("get", "pods/log", WARD),
        ("update", "covey.dev/federatedtasks", WARD),
        ("update", "coordination.k8s.io/leases", WARD),
        ("create", "rbac.authorization.k8s.io/rolebindings", WARD),
        ("escalate", "rbac.authorization.k8s.io/roles", WARD),
        ("impersonate", "serviceaccounts", WARD),
        ("create", "serviceaccounts/token", WARD),
        ("list", "nodes", ""),
        ("list", "namespaces", ""),
        ("list", "pods", ""),
        ("get", "apiextensions.k8s.io/customresourcedefinitions", ""),
    ],
)
def test_what_an_attacker_in_the_operator_would_want_is_denied(
    installed: ApiServer, verb: str, resource: str, namespace: str
):
    group, _, plural = resource.rpartition("/") if "." in resource else ("", "", resource)
    plural, _, subresource = plural.partition("/")
    attributes: dict[str, Any] = {"group": group, "resource": plural, "subresource": subresource, "verb": verb}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": ACCOUNT, "resourceAttributes": {**attributes, "namespace": namespace}},
    }
    answer = installed.kubectl("create", "--filename=-", "--output=json", stdin=json.dumps(review))
    assert json.loads(answer)["status"]["allowed"] is False


def as_operator(server: ApiServer, *arguments: str, stdin: str | None = None) -> str:
    return server.kubectl(f"--as={ACCOUNT}", f"--namespace={WARD}", *arguments, stdin=stdin)


@pytest.mark.parametrize(
    ("role", "may"),
    [("view", ["get", "list", "watch"]), ("edit", ["create", "get", "list", "patch", "update", "watch"])],
)
def test_people_with_the_usual_roles_may_use_the_resources(installed: ApiServer, role: str, may: list[str]):
    installed.kubectl(
        "create", "rolebinding", f"people-{role}", f"--clusterrole={role}", f"--user={role}", f"--namespace={OTHER}"
    )

    def verbs() -> list[str]:
        found = {verb for resource, _, verb in grants(installed, OTHER, role) if resource == "covey.dev/subnets"}
        return sorted(found - {"delete"})

    until(lambda: verbs() == may, f"{role} covers Subnets", 30, "See the labels of the chart's ClusterRoles.")
    assert not any(resource == "covey.dev/subnets/finalizers" for resource, _, _ in grants(installed, OTHER, role))


def test_server_side_apply_of_a_child_works_with_these_rights(installed: ApiServer):
    owner = yaml.safe_load((CHART.parents[1] / "tests/integration/crds/accepted/task-full.yaml").read_text())
    created = json.loads(as_operator(installed, "create", "--filename=-", "--output=json", stdin=json.dumps(owner)))
    reference = {
        "apiVersion": created["apiVersion"],
        "kind": created["kind"],
        "name": created["metadata"]["name"],
        "uid": created["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    child = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "full-session", "ownerReferences": [reference]},
        "stringData": {"session.key": "0x01"},
    }
    apply = ["apply", "--server-side", "--field-manager=covey-operator", "--filename=-"]
    as_operator(installed, *apply, stdin=json.dumps(child))
    finalizer = '--patch={"metadata": {"finalizers": ["covey.dev/cleanup"]}}'
    as_operator(installed, "patch", "ft", "full", "--type=merge", finalizer)
    as_operator(
        installed,
        "patch",
        "ft",
        "full",
        "--subresource=status",
        "--type=merge",
        '--patch={"status": {"phase": "Pending"}}',
    )
    as_operator(installed, "patch", "ft", "full", "--type=merge", '--patch={"metadata": {"finalizers": []}}')
    as_operator(installed, "delete", "ft", "full", "--wait=false")
    installed.kubectl("wait", f"--namespace={WARD}", "--for=delete", "secret/full-session", "--timeout=30s")


def test_the_notes_say_what_to_do_next(helm: Helm, installed: ApiServer):
    notes = helm.run("get", "notes", RELEASE, f"--namespace={SYSTEM}", server=installed).stdout
    for command in (
        f"kubectl --namespace {SYSTEM} rollout status deployment/{RELEASE}",
        f"kubectl label namespace {WARD} pod-security.kubernetes.io/enforce=restricted",
        f"kubectl --namespace {WARD} apply --filename subnet.yaml",
    ):
        assert command in notes


def test_an_upgrade_without_a_change_changes_nothing(helm: Helm, installed: ApiServer):
    before = versions(installed)
    done = helm.run("upgrade", RELEASE, CHART, f"--namespace={SYSTEM}", "--reuse-values", server=installed)
    assert done.returncode == 0, done.stderr
    assert versions(installed) == before


KINDS = "deployment,serviceaccount,role,rolebinding,networkpolicy,configmap"


def versions(server: ApiServer) -> dict[str, Any]:
    """Generation (or content version) of every object of the release, by kind and name."""
    listed = server.kubectl(
        "get", KINDS, "--all-namespaces", f"--selector=app.kubernetes.io/instance={RELEASE}", "--output=json"
    )
    return {
        f"{found['kind']} {found['metadata']['namespace']}/{found['metadata']['name']}": found["metadata"].get(
            "generation", found["metadata"]["resourceVersion"]
        )
        for found in json.loads(listed)["items"]
    }


def test_definitions_and_objects_outlive_the_release(helm: Helm, installed: ApiServer):
    """Last in this file: it removes what the others look at, and puts it back."""
    sample = CHART.parents[1] / "tests/integration/crds/accepted/subnet-minimal.yaml"
    installed.kubectl("apply", f"--namespace={WARD}", f"--filename={sample}")

    done = helm.run("uninstall", RELEASE, f"--namespace={SYSTEM}", "--wait", server=installed)
    assert done.returncode == 0, done.stderr
    assert versions(installed) == {}
    assert "minimal" in installed.kubectl("get", "sn", f"--namespace={WARD}", "--output=name")

    again = [f"--namespace={SYSTEM}", f"--values={DEFAULT_VALUES}", f"--set=watchNamespaces={{{WARD}}}"]
    done = helm.run("install", RELEASE, CHART, *again, server=installed)
    assert done.returncode == 0, done.stderr
