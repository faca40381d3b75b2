"""A task that has started: keep its cluster, watch its rounds, settle, claim, and record the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from covey_api.quantity import token_words
from covey_api.status import ConditionStatus, Reason
from covey_api.task import Decision, TaskSpec

from covey_operator.kinds import Object
from covey_operator.plan import cluster, names, policy
from covey_operator.plan.backend import backend
from covey_operator.plan.clock import moment
from covey_operator.plan.cluster import ClusterPlan
from covey_operator.plan.draft import TaskDraft
from covey_operator.plan.model import (
    Claim,
    ConsortiumOnChain,
    MakeRayToken,
    Own,
    TaskOnChain,
    TaskPlan,
)
from covey_operator.plan.network import exchange_service, policies
from covey_operator.plan.pods import OUTPUT_DIR, Site
from covey_operator.plan.report import Progress, Record, Report, final_figures
from covey_operator.plan.settlement import say_settlement
from covey_operator.plan.status import (
    ACCEPTED,
    CLUSTER_READY,
    SETTLED,
    SUCCEEDED,
    TRAINING,
)
from covey_operator.plan.storage import read_ledger, state_claim, validator_config

WAIT_SECONDS = 15.0
CONNECT_SECONDS = 120.0  # sites do not start at the same moment


def plan_rounds(
    draft: TaskDraft,
    spec: TaskSpec,
    own: Own,
    chain: ConsortiumOnChain,
    on_chain: TaskOnChain,
    answer: policy.Decided,
) -> TaskPlan:
    """The task has started (or even ended) on chain and this member takes part."""
    _say_accepted(draft, spec, answer)
    say_settlement(draft, on_chain)
    draft.members(f"{len(on_chain.participants)}/{len(on_chain.participants)}")
    record = draft.seen.record
    if record is not None and record.report is not None:
        return _settle(draft, own, on_chain, record, record.report)
    if spec.participation.decision is Decision.DECLINE:
        text = "spec.participation.decision is Decline: this member left the running task."
        return _stand_by(draft, Reason.DECLINED_BY_PERSON, text)
    suspended = "spec.suspend is true: the pods are gone, the state is kept."
    if answer.dataset is None:
        reason, text = (Reason.SUSPENDED, suspended) if spec.suspend else (answer.reason, answer.message)
        return _stand_by(draft, reason, text)
    site = Site(
        task=draft.task.name,
        namespace=draft.task.namespace,
        subnet_name=own.name,
        spec=spec,
        subnet=own.spec,
        dataset=answer.dataset,
        pods=draft.seen.around.pods,
    )
    if spec.suspend:
        return _suspend(draft, site, suspended)
    if not draft.seen.children.ray_token:
        draft.conditions.false(CLUSTER_READY, Reason.PODS_STARTING, "The Ray token is being made.")
        return draft.plan(action=MakeRayToken())
    if draft.seen.missing_claims:
        missing = ", ".join(draft.seen.missing_claims)
        text = (
            f"PersistentVolumeClaim {missing} does not exist in namespace {draft.task.namespace}. Create it, or "
            f'correct spec.datasets[].claimName or spec.storage.outputClaim of Subnet "{own.name}".'
        )
        draft.conditions.false(CLUSTER_READY, Reason.CLAIM_NOT_FOUND, text)
        draft.message = text
        return draft.plan(wake_seconds=WAIT_SECONDS)
    no_kuberay = draft.seen.children.no_kuberay
    if no_kuberay is not None:
        draft.conditions.false(CLUSTER_READY, no_kuberay.reason, no_kuberay.message)
        draft.conditions.false(TRAINING, no_kuberay.reason, no_kuberay.message)
        draft.message = no_kuberay.message
        return draft.plan(wake_seconds=WAIT_SECONDS)
    return _run(draft, site, own, on_chain)


def remove_cluster(draft: TaskDraft, reason: Reason, message: str, keep_completed: bool = False) -> None:
    """No pods are wanted, nor the Service that leads to them."""
    draft.conditions.false(CLUSTER_READY, reason, message)
    draft.delete(*cluster.remains(draft.seen.children, keep_completed), *draft.seen.children.services.values())


def ended(draft: TaskDraft, record: Record) -> TaskPlan:
    """The end is on record: say it, and keep nothing that costs anything."""
    draft.published()
    if draft.seen.on_chain is not None and draft.seen.own is not None:
        draft.show_chain(draft.seen.on_chain, draft.seen.own)
    if record.progress is not None:
        draft.show_progress(record.progress)
    if record.members:
        draft.members(f"{record.members}/{record.members}")
    draft.set(restarts=read_ledger(_config(draft)).restarts or None)
    if record.outcome == "Failed":
        draft.conditions.unknown(ACCEPTED, record.reason, "The task has ended.")
        return draft.fail(record.reason, record.message)
    assert record.report is not None
    remove_cluster(draft, Reason.ROUNDS_DONE, "The rounds are done.", keep_completed=True)
    _say_accepted_in_the_past(draft, record)
    _say_report(draft, record.report)
    claimed = record.claimed or "0"
    paid = f"The reward of {claimed} has been paid." if claimed != "0" else "This member earned no reward."
    draft.conditions.false(TRAINING, Reason.ROUNDS_DONE, _why_over(record.progress))
    draft.conditions.true(SETTLED, Reason.REWARD_CLAIMED, f"The result is settled on chain. {paid}")
    where = "on the output volume" if record.took_part else "on the output volumes of the members"
    draft.conditions.true(SUCCEEDED, Reason.AS_EXPECTED, f"The model is trained, settled, and {where}.")
    if record.took_part:
        draft.set(reward=claimed, claimed=claimed)
    draft.message = f"Done: the model lies at {record.report.model_location}. {paid}"
    return draft.plan(wake_seconds=draft.seen.around.resync_seconds)


def _run(draft: TaskDraft, site: Site, own: Own, on_chain: TaskOnChain) -> TaskPlan:
    """Bring the cluster about and watch it."""
    assert draft.seen.task_id is not None
    children = draft.seen.children
    ledger = read_ledger(_config(draft))
    # A task ends where it began, even if the Subnet names another back end by now.
    chosen = ledger.backend or own.spec.compute.backend
    planned = backend(chosen).running(site, children, replace(ledger, backend=chosen), draft.seen.now)
    draft.apply(*_furniture(draft, site, own, on_chain, planned))
    if names.state(site.task) not in children.claims:
        draft.apply(state_claim(site.task, site.namespace, own.spec.storage))
    draft.apply(*planned.apply)
    draft.delete(*planned.delete)
    draft.conditions.say(CLUSTER_READY, planned.status, planned.reason, planned.message)
    draft.set(restarts=planned.ledger.restarts or None)
    if planned.wake_seconds is not None:
        draft.wake_in(planned.wake_seconds)
    draft.watch_head = planned.head_ip
    if planned.report is not None and planned.fatal:
        return _failed_here(draft, on_chain, planned.report)
    if planned.reason is Reason.ROUNDS_DONE and planned.head_ip is None:
        return _head_done(draft, own, on_chain, planned)
    progress = draft.seen.progress if planned.report is None else final_figures(draft.seen.progress, planned.report)
    if progress is not None:
        draft.show_progress(progress, on_chain.decimals)
    _say_training(draft, planned)
    return draft.plan()


def _furniture(draft: TaskDraft, site: Site, own: Own, on_chain: TaskOnChain, planned: ClusterPlan) -> list[Object]:
    """What the pods need around them, in the order in which it must be there: policies before pods."""
    assert draft.seen.task_id is not None
    peers = [
        participant.endpoint
        for participant in on_chain.participants
        if participant.address.lower() != own.address.lower()
    ]
    around = draft.seen.around
    return [
        *policies(
            site.task,
            site.namespace,
            own.spec.chain.rpc_urls,
            peers,
            around.operator_namespace,
            around.monitoring_namespace,
        ),
        exchange_service(site.task, site.namespace, own.spec.exchange),
        validator_config(
            site.task,
            site.namespace,
            draft.seen.task_id,
            own.address,
            own.spec.chain,
            own.spec.exchange,
            planned.ledger,
        ),
    ]


def _head_done(draft: TaskDraft, own: Own, on_chain: TaskOnChain, planned: ClusterPlan) -> TaskPlan:
    """The head has exited with 0: record what it reported."""
    report = planned.report
    progress = final_figures(draft.seen.progress, report)
    if progress is not None:
        draft.show_progress(progress, on_chain.decimals)
    if report is None or report.outcome != "Succeeded" or report.model_digest is None:
        text = (
            "The head pod ended without a report of success. Look at the logs of its containers; delete the pod to "
            "have it started again from its state."
        )
        draft.conditions.false(TRAINING, Reason.ROUNDS_DONE, text)
        draft.message = text
        return draft.plan()
    inside = (report.model_location or "").removeprefix(OUTPUT_DIR).lstrip("/")
    told = report.model_copy(update={"model_location": f"{own.spec.storage.output_claim}/{inside}"})
    record = Record(
        outcome="Succeeded",
        reason=Reason.ROUNDS_DONE,
        report=told,
        progress=progress,
        members=len(on_chain.participants),
    )
    draft.record(record)
    draft.conditions.false(TRAINING, Reason.ROUNDS_DONE, _why_over(record.progress))
    draft.conditions.unknown(SETTLED, Reason.SETTLING, "The result is on its way to the chain.")
    return draft.plan(wake_seconds=1.0)


def _settle(draft: TaskDraft, own: Own, on_chain: TaskOnChain, record: Record, report: Report) -> TaskPlan:
    """The rounds are done here: wait for the last result on chain, compare, claim, and close the record."""
    remove_cluster(draft, Reason.ROUNDS_DONE, "The rounds are done.", keep_completed=True)
    if record.progress is not None:
        draft.show_progress(record.progress)
    draft.set(restarts=read_ledger(_config(draft)).restarts or None)
    _say_report(draft, report)
    draft.conditions.false(TRAINING, Reason.ROUNDS_DONE, _why_over(record.progress))
    settlement = on_chain.settlement
    if settlement is None or not settlement.last:
        draft.conditions.unknown(SETTLED, Reason.SETTLING, "The last result is on its way to the chain.")
        draft.message = "Waiting for the last result on chain."
        return draft.plan(wake_seconds=WAIT_SECONDS)
    settled_digest = "0x" + settlement.model_digest.hex()
    if settled_digest != report.model_digest:
        text = (
            f"This member's model has the digest {report.model_digest}, the settled one {settled_digest}. Do not use "
            "the model on the output volume; take the settled one from another member."
        )
        draft.conditions.false(SETTLED, Reason.MODEL_MISMATCH, text)
        failed = Record(
            outcome="Failed",
            reason=Reason.MODEL_MISMATCH,
            message=text,
            progress=record.progress,
            members=record.members,
        )
        return draft.fail(Reason.MODEL_MISMATCH, text, failed)
    reward, claimed = int(report.reward), on_chain.claimed.get(own.address, 0)
    draft.set(reward=token_words(reward, on_chain.decimals))
    draft.conditions.true(SETTLED, Reason.SETTLED_ON_CHAIN, "The last result is settled on chain.")
    if claimed >= reward:
        paid = token_words(claimed, on_chain.decimals)
        draft.record(record.model_copy(update={"settled": True, "claimed": paid}))
        draft.conditions.true(SETTLED, Reason.REWARD_CLAIMED, "The result is settled on chain and the reward is paid.")
        draft.conditions.true(SUCCEEDED, Reason.AS_EXPECTED, "The model is trained, settled, and on the output volume.")
        return draft.plan(wake_seconds=1.0)
    failure = draft.seen.failure
    if failure is not None:
        text = f"The result is settled; the reward is not yet claimed: {failure.message}"
        draft.conditions.true(SETTLED, Reason.SETTLED_ON_CHAIN, text)
        draft.message = text
        return draft.plan(wake_seconds=draft.seen.around.error_retry_seconds)
    proof = tuple(bytes.fromhex(part.removeprefix("0x")) for part in report.reward_proof)
    return draft.plan(action=Claim(reward, proof))


def _failed_here(draft: TaskDraft, on_chain: TaskOnChain, report: Report) -> TaskPlan:
    text = report.message or "The program failed; the logs of the head pod say more."
    progress = final_figures(draft.seen.progress, report)
    if progress is not None:
        draft.show_progress(progress, on_chain.decimals)
    record = Record(
        outcome="Failed",
        reason=report.task_reason,
        message=text,
        report=report,
        progress=progress,
        members=len(on_chain.participants),
    )
    return draft.fail(report.task_reason, text, record)


def _stand_by(draft: TaskDraft, reason: Reason, message: str) -> TaskPlan:
    """The pods go, the state stays."""
    draft.delete(*cluster.remains(draft.seen.children, keep_completed=True))
    return _idle(draft, reason, message)


def _suspend(draft: TaskDraft, site: Site, message: str) -> TaskPlan:
    """The pods go, the state stays, and so does what the back end may keep for the next start."""
    ledger = read_ledger(_config(draft))
    planned = backend(ledger.backend or site.subnet.compute.backend).suspended(site, draft.seen.children)
    draft.apply(*planned.apply)
    draft.delete(*planned.delete)
    return _idle(draft, Reason.SUSPENDED, message)


def _idle(draft: TaskDraft, reason: Reason, message: str) -> TaskPlan:
    if draft.seen.progress is not None:  # how far it has come stands; whom it reaches, and until when, is not known
        draft.show_progress(draft.seen.progress.model_copy(update={"peers_connected": None, "eta_seconds": None}))
    draft.conditions.false(CLUSTER_READY, reason, message)
    draft.conditions.false(TRAINING, reason, message)
    if reason is Reason.DECLINED_BY_PERSON:
        draft.conditions.false(ACCEPTED, reason, message)
    draft.message = message
    return draft.plan()


def _say_accepted(draft: TaskDraft, spec: TaskSpec, answer: policy.Decided) -> None:
    by_person = spec.participation.decision is Decision.JOIN
    reason = Reason.ACCEPTED_BY_PERSON if by_person else Reason.ACCEPTED_BY_POLICY
    words = answer.message if answer.answer is policy.Answer.ACCEPT else "The task was accepted before it started."
    draft.conditions.true(ACCEPTED, reason, words)


def _say_accepted_in_the_past(draft: TaskDraft, record: Record) -> None:
    if not record.took_part:
        draft.sponsoring = True
        draft.conditions.false(ACCEPTED, Reason.NOT_A_TRAINER, "This member paid for the task and did not take part.")
        return
    by_person = draft.task.spec is not None and draft.task.spec.participation.decision is Decision.JOIN
    reason = Reason.ACCEPTED_BY_PERSON if by_person else Reason.ACCEPTED_BY_POLICY
    draft.conditions.true(ACCEPTED, reason, "This member took part.")


def _say_report(draft: TaskDraft, report: Report) -> None:
    if report.model_digest is not None:
        draft.show_model(report.model_digest, report.model_location or "")
    if report.round is not None:
        draft.set(round=report.round, rounds=f"{report.round}/{_rounds(draft)}")


def _say_training(draft: TaskDraft, planned: ClusterPlan) -> None:
    progress = draft.seen.progress
    if planned.status is not ConditionStatus.TRUE:
        draft.conditions.false(TRAINING, planned.reason, planned.message)
        draft.message = planned.message
        return
    if progress is None:
        draft.conditions.false(TRAINING, Reason.PODS_STARTING, "The validator has not answered yet.")
        draft.message = "Waiting for the validator."
        draft.wake_in(WAIT_SECONDS)
        return
    if progress.is_over:  # the peers may have gone already
        draft.conditions.false(TRAINING, Reason.ROUNDS_DONE, progress.why_over)
        draft.message = f"{progress.why_over}{f' {progress.phase}.' if progress.phase else ''}"
        return
    if progress.peers and not progress.peers_connected:
        young = _seconds_since_start(draft, planned)
        if young < CONNECT_SECONDS:
            draft.conditions.false(TRAINING, Reason.PODS_STARTING, "The peers are connecting.")
            draft.message = "Waiting for the peers."
            draft.wake_in(CONNECT_SECONDS - young + 1)
            return
        text = (
            "No peer of this task is reachable. Check spec.exchange.advertise of the Subnets, the firewall, and that "
            "the exchange port is open."
        )
        draft.conditions.false(TRAINING, Reason.PEERS_UNREACHABLE, text)
        draft.message = text
        return
    doing = f": {progress.phase}" if progress.phase else ""
    text = f"Round {(progress.round or 0) + 1} of {_rounds(draft)}{doing}.{_who_is_away(progress)}"
    draft.conditions.true(TRAINING, Reason.ROUNDS_RUNNING, f"The rounds are running.{_who_is_away(progress)}")
    draft.message = text


def _who_is_away(progress: Progress) -> str:
    """A sentence for each member whose stake does not count until it answers a roll call."""
    return "".join(
        f" {member} has not answered the roll since round {since}: its stake does not count until it returns, "
        "which it does by itself; it keeps the stake."
        for member, since in sorted((progress.suspended or {}).items())
    )


def _seconds_since_start(draft: TaskDraft, planned: ClusterPlan) -> float:
    started_at = planned.ledger.started_at
    return (draft.seen.now - moment(started_at)).total_seconds() if started_at else CONNECT_SECONDS


def _why_over(progress: Progress | None) -> str:
    return (progress or Progress()).why_over


def _rounds(draft: TaskDraft) -> int:
    assert draft.task.spec is not None
    return draft.task.spec.rounds.count


def _config(draft: TaskDraft) -> Object | None:
    config_maps: Mapping[str, Object] = draft.seen.children.config_maps
    return config_maps.get(names.config(draft.task.name))
