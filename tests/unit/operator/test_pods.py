"""The pods pass the `restricted` Pod Security level and hold no more than they need."""

from __future__ import annotations

import pytest
from covey_operator.plan.kuberay import ray_cluster
from covey_operator.plan.pods import Site, cpu_number, head_pod, worker_pod


@pytest.fixture
def site(make):
    spec = make.subnet_spec(
        compute={
            "runtimeClassName": "nvidia",
            "nodeSelector": {"gpu": "yes"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "queue": "research",
        }
    )
    task = make.task_spec(workers={"replicas": 2, "gpus": 1, "resources": {"cpu": "1500m", "memory": "8Gi"}})
    return Site("wdbc", "oncology", "eu", task, spec, spec.datasets[0], make.PODS)


def both(site):
    return [head_pod(site), worker_pod(site, 1, "uid", "10.1.0.5")]


def test_pods_are_restricted_and_have_no_token(site):
    for pod in both(site):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["restartPolicy"] == "Never"
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any("hostPath" in volume for volume in spec["volumes"])
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}


def test_every_mount_has_its_volume(site):
    for pod in both(site):
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        mounts = {mount["name"] for container in pod["spec"]["containers"] for mount in container["volumeMounts"]}
        assert mounts == volumes


def test_keys_are_where_no_program_runs(site):
    head, worker = both(site)
    ray, validator = head["spec"]["containers"]
    keys = {"session", "tls"}
    assert keys <= {mount["name"] for mount in validator["volumeMounts"]}
    assert not keys & {mount["name"] for mount in ray["volumeMounts"]}
    assert not keys & {volume["name"] for volume in worker["spec"]["volumes"]}


def test_the_programs_image_runs_in_workers_only(site, make):
    head, worker = both(site)
    assert {container["image"] for container in head["spec"]["containers"]} == {make.PODS.image}
    assert worker["spec"]["containers"][0]["image"] == make.IMAGE


def images(found):
    """Every value of a key `image`, at any depth."""
    if isinstance(found, list):
        return set().union(*map(images, found))
    if not isinstance(found, dict):
        return set()
    here = {found["image"]} if isinstance(found.get("image"), str) else set()
    return here.union(*map(images, found.values()))


def test_no_pod_runs_an_image_that_nobody_named(site, make):
    named = {make.PODS.image, make.IMAGE}
    assert images(both(site)) == named
    assert images(ray_cluster(site, "10.96.3.4", suspend=False)) == named


def test_a_worker_asks_nobody_for_names_and_does_not_wait_for_an_answer(site):
    spec = worker_pod(site, 0, "uid", "10.0.0.1")["spec"]
    assert spec["dnsPolicy"] == "None"
    assert spec["dnsConfig"] == {"nameservers": ["127.0.0.1"]}
    assert "dnsPolicy" not in head_pod(site)["spec"], "the head may have to look for the chain"


def test_a_worker_gets_its_gpus_and_its_data_read_only(site):
    worker = worker_pod(site, 1, "uid", "10.1.0.5")
    container = worker["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"cpu": "1500m", "memory": "8Gi", "nvidia.com/gpu": "1"}
    assert container["resources"]["requests"] == container["resources"]["limits"]
    data = next(mount for mount in container["volumeMounts"] if mount["name"] == "data")
    assert data == {"name": "data", "mountPath": "/data", "readOnly": True, "subPath": "part-1"}
    assert worker["spec"]["runtimeClassName"] == "nvidia"
    assert worker["spec"]["nodeSelector"] == {"gpu": "yes"}
    assert worker["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"


def test_ray_is_never_open(site):
    for pod in both(site):
        ray = pod["spec"]["containers"][0]
        environment = {entry["name"]: entry.get("value") for entry in ray["env"]}
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN_PATH"] == "/var/run/ray/token"


@pytest.mark.parametrize(("quantity", "number"), [("500m", "0.5"), ("2", "2"), ("1.5", "1.5"), ("1500m", "1.5")])
def test_cpu_quantities_become_numbers(quantity, number):
    assert cpu_number(quantity) == number
