"""The demo's steps, in their order; each may be done again and changes nothing when it is done."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from covey_dev import choice, golang
from covey_dev.errors import DevError, NotReadyError
from covey_dev.place import Place
from covey_dev.process import run, until
from covey_dev.progress import say, step

from covey_demo import ledger, machine, manifests, progress, records
from covey_demo.cluster import Cluster
from covey_demo.manifests import DATA_CLAIM, OUTPUT_CLAIM, Object
from covey_demo.members import (
    AUTOMATIC,
    CHART,
    MANUAL,
    MEMBERS,
    NAMESPACE,
    PLANNER,
    SYSTEM_NAMESPACE,
    TASK,
    TASK_FILE,
    Member,
)
from covey_demo.state import DemoState

SUBNET = "oncology-eu"
READY_SECONDS = 180
TRAINING_SECONDS = 600.0
_POLL_SECONDS = 1.0


class TaskFailedError(DevError):
    """A task did not succeed at some member; `log` holds what that member's cluster says about it."""


@dataclass(frozen=True)
class Stage:
    """What the story plays on.

    Attributes:
        place: where the clusters are.
        clusters: by name of the member.
        state: contracts and keys.
        program: image of the task's program; empty when nothing was built.
    """

    place: Place
    clusters: dict[str, Cluster]
    state: DemoState
    program: str = ""

    @property
    def planner(self) -> Cluster:
        """The cluster of the Planner."""
        return self.clusters[PLANNER.name]


def prepare() -> Stage:
    """Steps 1 to 4: machine, chain, data, and three members that are Ready."""
    place = choice.chosen()
    machine.refuse_what_is_not_ours(place)
    with step("tools, registry and images"):
        images = machine.images(place)
    with step("chain, contracts and wallets"):
        rpc_url, chain_id = machine.chain(place)
        state, new = asyncio.run(ledger.open_consortium(place.name, rpc_url, chain_id, MEMBERS))
    if new:
        machine.forget_clusters(place)
    with step("three clusters"):
        clusters = machine.clusters(place, images)
    with step("records for every member"):
        records.deal(clusters)
    stage = Stage(place, clusters, state, images.wdbc)
    with ThreadPoolExecutor(len(MEMBERS)) as pool:
        list(pool.map(lambda member: _enrol(stage, member, images), MEMBERS))
    return stage


def as_it_is() -> Stage:
    """The stage of an earlier `prepare`.

    Raises:
        DevError: there was none.
    """
    state = DemoState.load()
    if state is None:
        raise DevError("the demo has not been set up", "Run `make demo`.")
    place = choice.named(state.place)
    return Stage(place, machine.running_clusters(place), state)


def train(stage: Stage) -> dict[str, Object]:
    """Steps 5 and 6: one task, published, joined, trained; name of the member -> its object of the task."""
    task_id = publish(stage, manifests.task(TASK_FILE.read_text(), stage.program))
    say(f"  {PLANNER.name} published {TASK} as {task_id}")
    join(stage, task_id)
    with step("training together"):
        ended = follow(stage, task_id)
    with step("rewards"):
        until(
            lambda: asyncio.run(ledger.books(stage.state, bytes.fromhex(task_id[2:]))).all_claimed,
            "the claim of every reward", 60, "See `kubectl describe ft` and the operators' logs.", every_seconds=1,
        )  # fmt: skip
    return ended


def finished(stage: Stage) -> dict[str, Object]:
    """The members' objects of the demo's task, which has succeeded.

    Raises:
        DevError: it has not.
    """
    task_id = progress.status(stage.planner.get("ft", TASK)).get("taskId")
    tasks = tasks_of(stage, task_id) if task_id else {}
    whole = {name: task for name, task in tasks.items() if task is not None}
    if len(whole) < len(MEMBERS) or not progress.ended(tasks):
        raise DevError(f"task {TASK} has not succeeded at all members", "Run `make demo`.")
    return whole


def publish(stage: Stage, task: Object) -> str:
    """Apply a task at the Planner and wait until it is on chain; returns its id (0x-hex).

    A task of this name that failed or ran another image makes way: the terms of a task never change.
    """
    name = task["metadata"]["name"]
    known = stage.planner.get("ft", name)
    if known is not None and (
        progress.phase(known) == progress.FAILED or known["spec"]["program"] != task["spec"]["program"]
    ):
        with step(f"removing the older task {name}"):
            stage.planner.kubectl("delete", "ft", name, f"--namespace={NAMESPACE}", "--timeout=180s")
        known = None
    if known is None:
        stage.planner.apply(task)
    stage.planner.wait(f"ft/{name}", "condition=Published", READY_SECONDS)
    return str(progress.status(stage.planner.get("ft", name))["taskId"])


def join(stage: Stage, task_id: str) -> None:
    """See the second member accept by its policy, and answer for the third, which asks a person."""
    automatic = await_task(stage, AUTOMATIC, task_id, lambda task: _accepted(task) == "True")
    say(f"  {AUTOMATIC.name} accepted by policy ({progress.condition(automatic, 'Accepted')['reason']})")
    manual = await_task(
        stage, MANUAL, task_id,
        lambda task: _accepted(task) == "True" or progress.phase(task) == "AwaitingApproval",
    )  # fmt: skip
    if _accepted(manual) == "True":
        say(f"  {MANUAL.name} had accepted before")
        return
    say(f"  {MANUAL.name} waits for a person ({progress.condition(manual, 'Accepted')['reason']})")
    decide(stage.clusters[MANUAL.name], manual["metadata"]["name"])
    await_task(stage, MANUAL, task_id, lambda task: _accepted(task) == "True")
    say(f"  {MANUAL.name} joined")


def decide(cluster: Cluster, task: str, decision: str = "Join") -> None:
    """A person's answer, as they would give it."""
    patch = json.dumps({"spec": {"participation": {"decision": decision}}})
    cluster.kubectl("patch", "ft", task, f"--namespace={NAMESPACE}", "--type=merge", "-p", patch)


def tasks_of(stage: Stage, task_id: str) -> dict[str, Object | None]:
    """Name of the member -> its object of a task."""
    return {name: progress.task_of(cluster.objects("ft"), task_id) for name, cluster in stage.clusters.items()}


def await_task(
    stage: Stage, member: Member, task_id: str, wanted: Callable[[Object], bool], seconds: float = READY_SECONDS
) -> Object:
    """Wait until a member's object of a task is as wanted, and return it.

    Raises:
        NotReadyError: it was not in time; carries its description.
    """
    cluster = stage.clusters[member.name]
    deadline = time.monotonic() + seconds
    while True:
        task = progress.task_of(cluster.objects("ft"), task_id)
        if task is not None and wanted(task):
            return task
        if time.monotonic() > deadline:
            log = diagnosis(cluster, task["metadata"]["name"]) if task else "there is no object of this task"
            raise NotReadyError(f"{member.name}: task {task_id} is not where it should be", "Read the above.", log)
        time.sleep(_POLL_SECONDS)


def follow(stage: Stage, task_id: str, seconds: float = TRAINING_SECONDS) -> dict[str, Object]:
    """Print every change of a task at any member until it has succeeded at all of them.

    Raises:
        TaskFailedError: it failed at a member, or took too long; carries descriptions and logs of the pods.
    """
    began, shown = time.monotonic(), dict.fromkeys(stage.clusters, "")
    while True:
        tasks = tasks_of(stage, task_id)
        for name, task in tasks.items():
            now = progress.line(task)
            if now != shown[name]:
                say(f"  {time.monotonic() - began:6.1f} s  {name:<10} {now}")
                shown[name] = now
        if progress.ended(tasks):
            return {name: task for name, task in tasks.items() if task is not None}
        broken = progress.broken(tasks)
        if broken or time.monotonic() - began > seconds:
            where = broken or [name for name, task in tasks.items() if progress.phase(task) != progress.SUCCEEDED]
            log = "\n".join(_diagnosis_of(stage, name, tasks[name]) for name in where)
            why = "failed" if broken else f"did not end within {seconds:.0f} s"
            raise TaskFailedError(f"the task {why} at {', '.join(where)}", "Read the descriptions and logs above.", log)
        time.sleep(_POLL_SECONDS)


def diagnosis(cluster: Cluster, task: str) -> str:
    """All that a cluster says about a task: description, pods, events, logs of pods and operator."""
    namespace = f"--namespace={NAMESPACE}"
    selector = f"--selector=covey.dev/task={task}"
    questions = (
        ("describe", "ft", task, namespace),
        ("get", "pods", namespace, selector, "-o", "wide"),
        ("get", "events", namespace, "--sort-by=.lastTimestamp"),
        ("logs", namespace, selector, "--all-containers", "--prefix", "--tail=40"),
        ("logs", f"--namespace={SYSTEM_NAMESPACE}", "deployment/covey", "--tail=40"),
    )
    answers = [cluster.attempt(*question) for question in questions]
    return "\n".join(
        f"--- {cluster.name}: kubectl {' '.join(question)}\n{answer.stdout}{answer.stderr}"
        for question, answer in zip(questions, answers, strict=True)
    )


def _diagnosis_of(stage: Stage, member: str, task: Object | None) -> str:
    if task is None:
        return f"--- {member}: there is no object of this task"
    return diagnosis(stage.clusters[member], task["metadata"]["name"])


def _enrol(stage: Stage, member: Member, images: machine.Images) -> None:
    cluster = stage.clusters[member.name]
    address, rpc_url = cluster.site.address, stage.state.rpc_url
    cluster.apply(*manifests.namespaces())
    cluster.apply(
        *manifests.volume(DATA_CLAIM, cluster.volume(DATA_CLAIM), cluster.site.node, writable=False),
        *manifests.volume(OUTPUT_CLAIM, cluster.volume(OUTPUT_CLAIM), cluster.site.node, writable=True),
        manifests.wallet(stage.state.keys[member.name]),
    )
    with step(f"{member.name}: helm install covey"):
        run(
            golang.helm(), "upgrade", "--install", "covey", CHART, f"--namespace={SYSTEM_NAMESPACE}",
            "--values", member.values, *manifests.digest_values(images.operator, images.trainer),
            *manifests.network_values(address, rpc_url),
            "--wait", f"--timeout={READY_SECONDS}s",
            env=cluster.environment,
            remedy=f"KUBECONFIG={cluster.kubeconfig} kubectl -n {SYSTEM_NAMESPACE} describe pods",
        )  # fmt: skip
    with step(f"{member.name}: Subnet {SUBNET}"):
        cluster.apply(manifests.subnet(member.subnet.read_text(), address, rpc_url, stage.state.settlement))
        cluster.wait(f"subnet/{SUBNET}", "condition=Ready", READY_SECONDS)


def _accepted(task: Object) -> str:
    return str(progress.condition(task, "Accepted").get("status") or "")
