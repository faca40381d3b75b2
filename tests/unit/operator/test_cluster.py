"""The pods of a task: head first, workers bound to one life of it, back-off, and errors that end the task."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from covey_api.status import ConditionStatus
from covey_operator.kinds import name_of
from covey_operator.plan import cluster
from covey_operator.plan.clock import stamp
from covey_operator.plan.pods import Site
from covey_operator.plan.storage import HeadLedger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture
def site(make):
    spec = make.subnet_spec()
    return Site("wdbc", "oncology", "eu", make.task_spec(), spec, spec.datasets[0], make.PODS)


def created(pod, uid, status=None):
    """A planned pod as the API server would show it."""
    return {**pod, "metadata": {**pod["metadata"], "uid": uid}, "status": status or {"phase": "Pending"}}


RUNNING = {"phase": "Running", "podIP": "10.1.0.5", "conditions": [{"type": "Ready", "status": "True"}]}


def terminated(container, exit_code, report=None, finished="2026-11-23T11:59:00Z"):
    state = {"exitCode": exit_code, "finishedAt": finished}
    if report is not None:
        state["message"] = json.dumps(report)
    return {"name": container, "state": {"terminated": state}}


def plan(site, pods, make, ledger=None, now=None):
    children = make.children(pods={name_of(pod): pod for pod in pods})
    return cluster.running(site, children, ledger or HeadLedger(1, None), now or make.NOW)


def with_head(site, make, status, uid="h1"):
    head = plan(site, [], make, HeadLedger()).apply[0]
    return created(head, uid, status)


def with_workers(site, make, head, status=None):
    return [created(pod, f"w{i}", status) for i, pod in enumerate(plan(site, [head], make).apply)]


def test_the_head_comes_first_and_its_start_is_counted(site, make):
    planned = plan(site, [], make, HeadLedger())
    assert [name_of(pod) for pod in planned.apply] == ["wdbc-head"]
    assert planned.ledger == HeadLedger(1, stamp(make.NOW))


def test_workers_wait_for_the_heads_address(site, make):
    assert plan(site, [with_head(site, make, {"phase": "Pending"})], make).apply == ()
    planned = plan(site, [with_head(site, make, RUNNING)], make)
    assert [name_of(pod) for pod in planned.apply] == ["wdbc-worker-0", "wdbc-worker-1"]
    assert {"name": "RAY_HEAD_IP", "value": "10.1.0.5"} in planned.apply[0]["spec"]["containers"][0]["env"]


def test_the_cluster_is_ready_when_all_pods_are(site, make):
    head = with_head(site, make, RUNNING)
    workers = with_workers(site, make, head, RUNNING)
    assert plan(site, [head, *workers], make).status is ConditionStatus.TRUE
    workers[1]["status"] = {"phase": "Running"}
    assert plan(site, [head, *workers], make).status is ConditionStatus.FALSE


def test_another_number_of_workers_starts_the_head_anew(site, make):
    head = with_head(site, make, RUNNING)
    workers = with_workers(site, make, head, RUNNING)
    more = replace(site, spec=make.task_spec(participation={"workers": 3}))
    planned = plan(more, [head, *workers], make)
    assert {name_of(pod) for pod in planned.delete} == {"wdbc-head", "wdbc-worker-0", "wdbc-worker-1"}
    assert "from 2 to 3" in planned.message
    assert len(plan(more, [with_head(more, make, RUNNING, uid="h2")], make).apply) == 3


def test_a_head_that_has_finished_does_not_start_anew(site, make):
    ended = [terminated("ray-head", 0), terminated("validator", 0)]
    head = with_head(site, make, {"phase": "Succeeded", "containerStatuses": ended})
    more = replace(site, spec=make.task_spec(participation={"workers": 3}))
    assert plan(more, [head], make).delete == ()


def test_workers_of_another_head_go(site, make):
    head = with_head(site, make, RUNNING, uid="h1")
    workers = with_workers(site, make, head, RUNNING)
    new_head = with_head(site, make, RUNNING, uid="h2")
    planned = plan(site, [new_head, *workers], make)
    assert {name_of(pod) for pod in planned.delete} == {"wdbc-worker-0", "wdbc-worker-1"}
    assert planned.apply == ()


def test_a_failed_worker_is_replaced_after_a_moment(site, make):
    head = with_head(site, make, RUNNING)
    workers = with_workers(site, make, head, RUNNING)
    workers[0]["status"] = {
        "phase": "Failed",
        "containerStatuses": [terminated("ray-worker", 137, finished=stamp(make.NOW))],
    }
    shown = plan(site, [head, *workers], make)
    assert shown.delete == ()
    assert shown.wake_seconds == 5
    assert "137" in shown.message
    later = plan(site, [head, *workers], make, now=make.NOW + timedelta(seconds=6))
    assert [name_of(pod) for pod in later.delete] == ["wdbc-worker-0"]


def test_surplus_workers_go(site, make):
    head = with_head(site, make, RUNNING)
    workers = with_workers(site, make, head, RUNNING)
    extra = {**workers[0], "metadata": {**workers[0]["metadata"], "name": "wdbc-worker-7", "uid": "x"}}
    assert [name_of(pod) for pod in plan(site, [head, *workers, extra], make).delete] == ["wdbc-worker-7"]


def failed_head(site, make, report, container="ray-head"):
    status = {"phase": "Failed", "containerStatuses": [terminated(container, 1, report)]}
    return with_head(site, make, status)


def test_an_error_of_the_user_is_final(site, make):
    report = {"outcome": "Failed", "reason": "EntrypointNotFound", "message": "no class", "userError": True}
    planned = plan(site, [failed_head(site, make, report)], make)
    assert planned.fatal
    assert (planned.report.task_reason, planned.report.message) == ("EntrypointNotFound", "no class")
    assert planned.apply == ()


def test_any_other_failure_is_tried_again_after_the_back_off(site, make):
    head = failed_head(site, make, {"outcome": "Failed", "reason": "ProgramError", "message": "lost the node"})
    ledger = HeadLedger(3, stamp(make.NOW))
    waiting = plan(site, [head], make, ledger)
    assert (waiting.delete, waiting.wake_seconds) == ((), 20)
    assert "lost the node" in waiting.message
    due = plan(site, [head], make, ledger, make.NOW + timedelta(seconds=20))
    assert [name_of(pod) for pod in due.delete] == ["wdbc-head"]
    assert plan(site, [], make, ledger, make.NOW + timedelta(seconds=20)).ledger.starts == 4


def test_one_failed_container_is_enough(site, make):
    status = {**RUNNING, "containerStatuses": [terminated("validator", 1)]}
    planned = plan(site, [with_head(site, make, status)], make)
    assert [name_of(pod) for pod in planned.delete] == ["wdbc-head"]


def test_a_head_that_crashes_again_and_again_is_told_as_crashing(site, make):
    planned = plan(site, [], make, HeadLedger(7, stamp(make.NOW)))
    assert planned.reason == "PodsCrashing"
    assert planned.apply == ()


def test_a_completed_head_stays_and_its_report_is_read(site, make):
    head = with_head(site, make, RUNNING)
    workers = with_workers(site, make, head, RUNNING)
    report = {"outcome": "Succeeded", "modelDigest": "0x" + "1" * 64}
    head["status"] = {
        "phase": "Succeeded",
        "containerStatuses": [terminated("ray-head", 0), terminated("validator", 0, report)],
    }
    planned = plan(site, [head, *workers], make)
    assert {name_of(pod) for pod in planned.delete} == {"wdbc-worker-0", "wdbc-worker-1"}
    assert planned.report.model_digest == "0x" + "1" * 64


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "ErrImagePull", "InvalidImageName"])
def test_an_image_that_cannot_be_pulled_is_named(site, make, reason):
    waiting = {"name": "ray-worker", "state": {"waiting": {"reason": reason, "message": "no such host"}}}
    head = with_head(site, make, RUNNING)
    workers = with_workers(site, make, head, {"phase": "Pending", "containerStatuses": [waiting]})
    planned = plan(site, [head, *workers], make)
    assert planned.reason == "ImagePullFailed"
    assert make.IMAGE in planned.message
    assert "no such host" in planned.message


def test_the_schedulers_words_are_passed_on(site, make):
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no GPU."}
    planned = plan(site, [with_head(site, make, {"phase": "Pending", "conditions": [condition]})], make)
    assert planned.reason == "PodsUnschedulable"
    assert "0/3 nodes: no GPU." in planned.message


def test_suspension_removes_every_pod(site, make):
    head = with_head(site, make, RUNNING)
    workers = with_workers(site, make, head, RUNNING)
    pods = {name_of(pod): pod for pod in [head, *workers]}
    assert len(cluster.suspended(site, make.children(pods=pods)).delete) == 3


def test_back_off_grows_to_five_minutes():
    assert [cluster.backoff_seconds(n) for n in (0, 1, 2, 3, 7, 50)] == [0, 5, 10, 20, 300, 300]


pod_fates = st.sampled_from(
    [
        None,
        {"phase": "Pending"},
        RUNNING,
        {"phase": "Failed", "reason": "Evicted"},
        {"phase": "Succeeded"},
        {**RUNNING, "containerStatuses": [terminated("validator", 1)]},
        "deleting",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    fates=st.tuples(pod_fates, pod_fates, pod_fates, pod_fates),
    worker_head=st.sampled_from(["h1", "h2"]),
    starts=st.integers(0, 9),
    age=st.integers(0, 600),
)
def test_no_plan_creates_what_exists_deletes_what_goes_or_runs_a_worker_without_its_head(
    site, make, fates, worker_head, starts, age
):
    head_template = plan(site, [], make, HeadLedger()).apply[0]
    other = created(head_template, worker_head, RUNNING)
    worker_templates = plan(site, [other], make).apply
    pods = {}
    for template, uid, fate in zip((head_template, *worker_templates), ("h1", "w0", "w1"), fates, strict=False):
        if fate is None:
            continue
        pod = created(template, uid, RUNNING if fate == "deleting" else fate)
        if fate == "deleting":
            pod["metadata"]["deletionTimestamp"] = "2026-11-23T12:00:00Z"
        pods[name_of(pod)] = pod
    ledger = HeadLedger(starts, stamp(make.NOW - timedelta(seconds=age)) if starts else None)
    planned = cluster.running(site, make.children(pods=pods), ledger, make.NOW)
    again = cluster.running(site, make.children(pods=pods), ledger, make.NOW)
    assert planned == again, "the same observation gives the same plan"
    assert not {name_of(pod) for pod in planned.apply} & set(pods)
    assert all("deletionTimestamp" not in pod["metadata"] for pod in planned.delete)
    head_runs = "wdbc-head" in pods and fates[0] == RUNNING
    for pod in planned.apply:
        if name_of(pod) != "wdbc-head":
            assert head_runs
            assert pod["metadata"]["annotations"]["covey.dev/head-uid"] == "h1"
    kept = {name: pod for name, pod in pods.items() if pod not in planned.delete and name != "wdbc-head"}
    if not head_runs:
        assert all("deletionTimestamp" in pod["metadata"] for pod in kept.values()), "no worker outlives its head"
    assert planned.ledger.starts == starts + any(name_of(pod) == "wdbc-head" for pod in planned.apply)
    if not planned.apply and not planned.delete and planned.status is not ConditionStatus.TRUE:
        moving = any(fate == "deleting" for fate in fates) or head_runs or fates[0] in ({"phase": "Pending"},)
        assert (
            moving
            or planned.wake_seconds is not None
            or planned.report is not None
            or fates[0] == {"phase": "Succeeded"}
        ), "a plan that does nothing waits for something that wakes it"


def test_a_ray_head_that_does_not_end_after_success_is_not_awaited_for_ever(site, make):
    report = {"outcome": "Succeeded", "modelDigest": "0x" + "1" * 64}
    status = {**RUNNING, "containerStatuses": [terminated("validator", 0, report, finished=stamp(make.NOW))]}
    head = with_head(site, make, status)
    lingering = plan(site, [head], make)
    assert (lingering.head_ip, lingering.wake_seconds) == ("10.1.0.5", 30)
    later = plan(site, [head], make, now=make.NOW + timedelta(seconds=31))
    assert (later.head_ip, later.reason) == (None, "RoundsDone")
    assert later.report.model_digest == "0x" + "1" * 64


def test_the_other_container_may_still_say_why(site, make):
    silent = terminated("ray-head", 1, finished=stamp(make.NOW))
    head = with_head(site, make, {**RUNNING, "containerStatuses": [silent]})
    assert plan(site, [head], make).delete == ()
    assert plan(site, [head], make).wake_seconds == 10
    report = {"outcome": "Failed", "reason": "DataInvalid", "message": "no column", "userError": True}
    head["status"]["containerStatuses"].append(terminated("validator", 2, report, finished=stamp(make.NOW)))
    assert plan(site, [head], make).fatal
