"""What is planned for a RayCluster, whatever pods there are: properties that hold for every state of the world."""

from __future__ import annotations

from datetime import timedelta

import pytest
from covey_operator.kinds import deleting, labels_of, name_of, uid_of
from covey_operator.plan import kuberay, names
from covey_operator.plan.clock import stamp
from covey_operator.plan.pods import Site
from covey_operator.plan.storage import HeadLedger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SERVICE = {"kind": "Service", "metadata": {"name": "wdbc-gcs"}, "spec": {"clusterIP": "10.96.0.7"}}
ENDED = {"Succeeded": 0, "Failed": 1}


@pytest.fixture
def site(make):
    spec = make.subnet_spec()
    return Site("wdbc", "oncology", "eu", make.task_spec(), spec, spec.datasets[0], make.PODS)


@st.composite
def pod_lives(draw):
    """Kind, age in seconds, phase, whether it is going, whether our finalizer holds it."""
    component = draw(st.sampled_from((names.HEAD, names.WORKER)))
    phase = draw(st.sampled_from(("Pending", "Running", "Succeeded", "Failed")))
    return component, draw(st.integers(0, 600)), phase, draw(st.booleans()), draw(st.booleans())


def pod(make, number, component, age, phase, going, kept):
    containers = ("ray-head", "validator") if component == names.HEAD else ("ray-worker",)
    when = stamp(make.NOW - timedelta(seconds=age))
    ended = {"state": {"terminated": {"exitCode": ENDED[phase], "finishedAt": when}}} if phase in ENDED else {}
    status = {"phase": phase, "containerStatuses": [{"name": name, **ended} for name in containers]}
    if phase == "Running":
        status |= {"podIP": "10.1.0.5", "conditions": [{"type": "Ready", "status": "True"}]}
    metadata = {
        "name": f"wdbc-{component}-{number}",
        "uid": f"u{number}",
        "creationTimestamp": when,
        "labels": {names.TASK: "wdbc", names.TASK_COMPONENT: component},
        **({"deletionTimestamp": stamp(make.NOW)} if going else {}),
        **({"finalizers": [names.HOLD]} if kept else {}),
    }
    spec = {"containers": [{"name": name, "image": make.IMAGE} for name in containers]}
    return {"kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def children(make, lives):
    pods = [pod(make, number, *life) for number, life in enumerate(lives)]
    return make.children(pods={name_of(one): one for one in pods}, services={"wdbc-gcs": SERVICE})


@st.composite
def ledgers(draw):
    return draw(st.integers(0, 12)), draw(st.none() | st.sampled_from(["u0", "u1", "gone"])), draw(st.integers(0, 600))


def ledger(make, starts, head_uid, age):
    return HeadLedger(starts, stamp(make.NOW - timedelta(seconds=age)) if starts else None, head_uid=head_uid)


worlds = given(st.lists(pod_lives(), max_size=5), ledgers())
often = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@often
@worlds
def test_kuberay_makes_the_pods_and_we_make_what_it_needs(site, make, lives, told):
    planned = kuberay.running(site, children(make, lives), ledger(make, *told), make.NOW)
    assert [made["kind"] for made in planned.apply] == ["Service", "RayCluster"]
    (group,) = planned.apply[1]["spec"]["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == site.spec.workers.replicas
    assert planned == kuberay.running(site, children(make, lives), ledger(make, *told), make.NOW), (
        "same world, same plan"
    )


@often
@worlds
def test_a_head_is_counted_once(site, make, lives, told):
    before = ledger(make, *told)
    seen = children(make, lives)
    first = kuberay.running(site, seen, before, make.NOW).ledger
    heads = {uid_of(one) for one in seen.pods.values() if labels_of(one)[names.TASK_COMPONENT] == names.HEAD}
    assert first.starts - before.starts in (0, 1)
    assert (first.starts > before.starts) == (first.head_uid in heads and first.head_uid != before.head_uid)
    assert kuberay.running(site, seen, first, make.NOW).ledger == first


@often
@worlds
def test_only_pods_of_the_task_go_and_never_a_head_that_runs(site, make, lives, told):
    seen = children(make, lives)
    planned = kuberay.running(site, seen, ledger(make, *told), make.NOW)
    assert all(seen.pods.get(name_of(doomed)) is doomed for doomed in planned.delete)
    for doomed in planned.delete:
        if labels_of(doomed)[names.TASK_COMPONENT] == names.HEAD:
            assert doomed["status"]["phase"] in ENDED or deleting(doomed)


@often
@worlds
def test_suspension_lets_go_of_what_goes_and_deletes_nothing_itself(site, make, lives, told):
    seen = children(make, lives)
    made = kuberay.ray_cluster(site, "10.96.0.7", suspend=False)
    seen = seen.having([made])
    planned = kuberay.suspended(site, seen)
    assert [one["spec"]["suspend"] for one in planned.apply] == [True]
    assert all(deleting(one) and names.HOLD in one["metadata"]["finalizers"] for one in planned.delete)
