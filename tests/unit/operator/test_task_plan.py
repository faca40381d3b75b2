"""What is decided for a task: from its publication to its end, and what keeps it from them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from covey_api.status import Reason
from covey_api.terms import TaskTerms
from covey_chain.merkle import RewardTree
from covey_chain.types import MAX_TASK_SECONDS, SettlementState, TaskStatus
from covey_operator.kinds import name_of
from covey_operator.plan import model
from covey_operator.plan.report import Progress, Record, Report, Transaction, read_record
from covey_operator.plan.status import TASK_TYPES
from covey_operator.plan.task import plan_task
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DIGEST = bytes(range(32))
HASHES = ["0x" + "ab" * 32, "0x" + "cd" * 32]


def said(plan):
    return {c.type: (str(c.status), c.reason) for c in plan.status.conditions}


def applied(plan):
    return [(obj["kind"], name_of(obj)) for obj in plan.apply]


def test_a_new_task_is_published_with_its_bounty_in_base_units(make):
    plan = plan_task(make.task(), make.task_seen())
    action = plan.action
    assert isinstance(action, model.Publish)
    assert action.bounty == 200 * make.UNIT
    assert action.token == make.TOKEN_ADDRESS
    assert action.accept_by == int(make.NOW.timestamp()) + 3600
    assert action.deadline > action.accept_by + 4 * 600
    assert TaskTerms.parse(action.spec).rounds.count == 4
    assert len(action.salt) == 32


def test_a_task_ends_before_the_market_would_refuse_it(make):
    spec = make.task_spec(rounds={"count": 100_000, "deadline": "8760h", "minUpdates": 2, "answerWindow": "90s"})
    action = plan_task(make.task(spec), make.task_seen()).action
    assert isinstance(action, model.Publish)
    assert action.deadline - int(make.NOW.timestamp()) < MAX_TASK_SECONDS
    assert action.answer_window == 90


def test_the_same_object_always_has_the_same_salt_and_another_object_another(make):
    one = plan_task(make.task(), make.task_seen()).action.salt
    assert plan_task(make.task(), make.task_seen(now=make.NOW + timedelta(hours=1))).action.salt == one
    other = replace(make.task(), uid="7c9e6679-7425-40de-944b-e07fc1f90ae7")
    assert plan_task(other, make.task_seen()).action.salt != one


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"own": "trainer"}, "NotAPlanner"),
        ({"members": ()}, "SubnetNotReady"),
        ({"failure": model.Problem(Reason("InsufficientFunds"), "x")}, "InsufficientFunds"),
        ({"bounty_decimals": 0, "spec": {"bounty": {"amount": "0.5"}}}, "InvalidSpec"),
    ],
)
def test_what_keeps_a_task_from_publication(make, changes, reason):
    changes = dict(changes)
    spec = make.task_spec(**changes.pop("spec", {}))
    if changes.pop("own", None):
        changes["own"] = model.Own("eu", "u", make.subnet_spec(roles=["Trainer"]), make.OWN)
    if "members" in changes:
        changes["chain"] = make.consortium(members=changes.pop("members"))
    plan = plan_task(make.task(spec), make.task_seen(**changes))
    assert said(plan)["Published"] == ("False", reason)
    assert plan.action is None


def test_an_unreadable_spec_is_told(make):
    task = replace(make.task(), spec=None, invalid="rounds.count: must be at least 1")
    plan = plan_task(task, make.task_seen())
    assert said(plan)["Published"] == ("False", "InvalidSpec")
    assert "rounds.count" in plan.status.message


def test_what_runs_is_left_alone_when_the_chain_is_out_of_sight(make):
    pods = {"wdbc-head": {"metadata": {"name": "wdbc-head"}, "status": {"phase": "Running"}}}
    seen = make.task_seen(
        own=None,
        chain=None,
        problem=model.Problem(Reason("RpcUnavailable"), "no answer"),
        children=make.children(pods=pods),
    )
    plan = plan_task(make.task(), seen)
    assert (plan.apply, plan.delete, plan.action) == ((), (), None)
    assert said(plan)["Training"] == ("Unknown", "RpcUnavailable")


def open_seen(make, *participants, **changes):
    task = make.on_chain(TaskStatus.OPEN, tuple(participants))
    return make.task_seen(make.consortium(task, **changes.pop("consortium", {})), **changes)


@pytest.mark.parametrize(("rounds", "reason", "words"), [(34, "ShortTask", "7 epochs"), (35, "AsExpected", "")])
def test_members_see_that_a_published_task_is_short(make, rounds, reason, words):
    task = make.task(make.task_spec(rounds={"count": rounds}))
    plan = plan_task(task, open_seen(make))
    assert said(plan)["Published"] == ("True", reason)
    published = next(condition for condition in plan.status.conditions if condition.type == "Published")
    assert words in published.message


def test_acceptance_goes_key_then_service_then_chain(make):
    plan = plan_task(make.task(), open_seen(make, children=make.children(session_address=None)))
    assert plan.action == model.MakeSession()
    plan = plan_task(make.task(), open_seen(make, children=make.children(services={})))
    assert applied(plan) == [("Service", "wdbc-exchange")]
    assert plan.action is None
    assert said(plan)["Accepted"] == ("Unknown", "EndpointPending")
    plan = plan_task(make.task(), open_seen(make))
    assert plan.action == model.Accept(roles=6, endpoint="10.66.0.11:30001")


def test_a_changed_endpoint_or_key_is_told_to_the_chain(make):
    old = make.participant(endpoint="10.66.0.11:29999")
    assert isinstance(plan_task(make.task(), open_seen(make, old)).action, model.Accept)
    other_key = make.participant(session="0x" + "11" * 20)
    assert isinstance(plan_task(make.task(), open_seen(make, other_key)).action, model.Accept)


def test_who_changes_his_mind_before_the_start_steps_back(make):
    spec = make.task_spec(participation={"decision": "Decline"})
    plan = plan_task(make.task(spec), open_seen(make, make.participant()))
    assert plan.action == model.Withdraw()


def test_the_planner_starts_when_nobody_more_can_come(make):
    both = (make.participant(), make.participant(make.OTHER, session="0x" + "11" * 20))
    assert plan_task(make.task(), open_seen(make, *both)).action == model.Start()
    three = (*(make.chain_member(a) for a in (make.OWN, make.OTHER)), make.chain_member("0x" + "ee" * 20))
    waiting = plan_task(make.task(), open_seen(make, *both, consortium={"members": three}))
    assert waiting.action is None, "a third member could still come"
    assert said(waiting)["Training"] == ("False", "AwaitingMembers")
    assert waiting.wake_seconds == pytest.approx(3601)
    unstaked = (*three[:2], make.chain_member("0x" + "ee" * 20, stake=0))
    assert plan_task(make.task(), open_seen(make, *both, consortium={"members": unstaked})).action == model.Start()
    late = open_seen(make, *both, consortium={"members": three}, now=make.NOW + timedelta(hours=2))
    assert plan_task(make.task(), late).action == model.Start()


def test_the_bounty_comes_back_when_too_few_came_in_time(make):
    late = open_seen(make, make.participant(), now=make.NOW + timedelta(hours=2))
    assert plan_task(make.task(), late).action == model.Cancel()
    cancelled = make.on_chain(TaskStatus.CANCELLED, (make.participant(),))
    seen = make.task_seen(make.consortium(cancelled), now=make.NOW + timedelta(hours=2))
    plan = plan_task(make.task(), seen)
    assert said(plan)["Failed"] == ("True", "NotEnoughMembers")


def started(make, settlement=None, status=TaskStatus.STARTED, **changes):
    both = (
        make.participant(),
        make.participant(make.OTHER, session="0x" + "11" * 20, endpoint="10.66.0.12:30002"),
    )
    claimed = changes.pop("claimed", {})
    return make.task_seen(make.consortium(make.on_chain(status, both, settlement, claimed)), **changes)


def test_a_started_task_gets_policies_and_settings_before_its_pods(make):
    plan = plan_task(make.task(), started(make))
    kinds = [kind for kind, _ in applied(plan)]
    assert kinds.index("Pod") > kinds.index("NetworkPolicy")
    assert kinds.index("Pod") > kinds.index("ConfigMap")
    assert kinds.index("Pod") > kinds.index("PersistentVolumeClaim")
    assert ("Pod", "wdbc-head") in applied(plan)


def test_a_task_that_started_without_us_has_no_pods(make):
    task = make.on_chain(TaskStatus.STARTED, (make.participant(make.OTHER),))
    plan = plan_task(make.task(), make.task_seen(make.consortium(task)))
    assert said(plan)["Accepted"] == ("False", "StartedWithoutUs")
    assert applied(plan) == []


def test_a_lost_session_key_is_replaced_on_chain_before_anything_runs(make):
    seen = started(make, children=make.children(session_address=None))
    assert plan_task(make.task(), seen).action == model.MakeSession()
    seen = started(make, children=make.children(session_address="0x" + "99" * 20))
    plan = plan_task(make.task(), seen)
    assert isinstance(plan.action, model.Accept)
    assert "Pod" not in [kind for kind, _ in applied(plan)]


def test_a_missing_claim_is_named_and_nothing_starts(make):
    plan = plan_task(make.task(), started(make, missing_claims=("data",)))
    assert said(plan)["ClusterReady"] == ("False", "ClaimNotFound")
    assert "data" in plan.status.message
    assert applied(plan) == []


REPORT = Report(
    outcome="Succeeded",
    model_digest="0x" + DIGEST.hex(),
    model_location="models/wdbc",
    reward=str(50 * 10**18),
    reward_proof=("0x" + "22" * 32,),
    round=4,
)
DONE = Record(
    outcome="Succeeded", reason=Reason.ROUNDS_DONE, report=REPORT, progress=Progress(loss=0.25, rounds=4, round=3)
)


def last(digest=DIGEST):
    return SettlementState(4, digest, bytes(32), 50 * 10**18, last=True)


def test_the_end_waits_for_the_last_result_then_claims_then_is_recorded(make):
    plan = plan_task(make.task(), started(make, record=DONE))
    assert said(plan)["Settled"] == ("Unknown", "Settling")
    finished = {"status": TaskStatus.FINISHED, "record": DONE}
    plan = plan_task(make.task(), started(make, last(), **finished))
    assert plan.action == model.Claim(50 * 10**18, (bytes.fromhex("22" * 32),))
    plan = plan_task(make.task(), started(make, last(), claimed={make.OWN: 50 * 10**18}, **finished))
    assert plan.action is None
    assert ("ConfigMap", "wdbc-result") in applied(plan)
    assert said(plan)["Succeeded"] == ("True", "AsExpected")


SEEN_BEFORE = Progress(
    round=3, rounds=4, loss=0.5, metrics={"auc": 0.8}, bytes_sent=900, raw_bytes=1000, payload_bytes=10, peers=1,
    peers_connected=0, eta_seconds=75, phase="Voting", transactions=(Transaction(purpose="result", hash=HASHES[0]),),
)  # fmt: skip
LAST_WORD = {
    "outcome": "Succeeded", "modelDigest": "0x" + DIGEST.hex(), "modelLocation": "/output/wdbc/model.safetensors",
    "reward": str(50 * 10**18), "rewardProof": ["0x" + "22" * 32], "round": 4,
    "progress": {
        "round": 4, "rounds": 4, "loss": "0.25", "metrics": {"auc": "0.9"}, "bytesSent": 1200, "rawBytes": 4000,
        "payloadBytes": 20, "transactions": [{"purpose": "result", "hash": HASHES[1]}],
    },
}  # fmt: skip


def head_that_ended(make, message, exit_code=0):
    """The pods of a task of which the head has ended."""
    pods = {name_of(pod): pod for pod in plan_task(make.task(), started(make)).apply if pod["kind"] == "Pod"}
    state = {"terminated": {"exitCode": exit_code, "finishedAt": "2026-11-23T11:59:00Z"}}
    validator = {"name": "validator", "state": {"terminated": {**state["terminated"], "message": json.dumps(message)}}}
    pods["wdbc-head"]["metadata"]["uid"] = "uid-of-head"
    pods["wdbc-head"]["status"] = {
        "phase": "Failed" if exit_code else "Succeeded",
        "containerStatuses": [{"name": "ray-head", "state": state}, validator],
    }
    return make.children(pods=pods)


def recorded(plan):
    return read_record(next(obj for obj in plan.apply if name_of(obj) == "wdbc-result"))


def figures(status):
    return (status.rounds, status.members, status.loss, status.metrics, status.bytes_sent, status.compression_ratio)


FINAL = ("4/4", "2/2", "0.25", {"auc": "0.9"}, 1200, "200x")


def test_the_last_word_of_the_validator_stands_in_the_status_and_no_time_is_left(make):
    seen = {"children": head_that_ended(make, LAST_WORD), "progress": SEEN_BEFORE}
    plan = plan_task(make.task(), started(make, **seen))
    assert figures(plan.status) == FINAL
    record = recorded(plan)
    for settlement, claimed in ((None, {}), (last(), {}), (last(), {make.OWN: 50 * 10**18})):
        plan = plan_task(make.task(), started(make, settlement, record=record, claimed=claimed))
        assert figures(plan.status) == FINAL
        assert plan.status.eta is None
        assert [sent.hash for sent in plan.status.transactions] == HASHES
    record = recorded(plan)
    blind = make.task_seen(own=None, chain=None, problem=model.Problem(Reason("RpcUnavailable"), "x"), record=record)
    status = plan_task(make.task(), blind).status
    assert status.phase == "Succeeded"
    assert figures(status) == FINAL
    assert status.eta is None


def test_a_suspended_task_says_how_far_it_has_come(make):
    status = plan_task(make.task(make.task_spec(suspend=True)), started(make, progress=SEEN_BEFORE)).status
    assert (status.phase, *figures(status)) == ("Suspended", "3/4", "2/2", "0.5", {"auc": "0.8"}, 900, "100x")
    assert status.eta is None


def test_an_end_that_was_never_asked_about_has_the_same_figures(make):
    plan = plan_task(make.task(), started(make, children=head_that_ended(make, LAST_WORD)))
    assert figures(plan.status) == FINAL


def test_the_last_answer_must_do_where_the_last_word_has_no_figures(make):
    message = {key: value for key, value in LAST_WORD.items() if key != "progress"}
    seen = {"children": head_that_ended(make, message), "progress": SEEN_BEFORE}
    record = recorded(plan_task(make.task(), started(make, **seen)))
    status = plan_task(make.task(), started(make, last(), record=record)).status
    assert figures(status) == ("4/4", "2/2", "0.5", {"auc": "0.8"}, 900, "100x")
    assert status.eta is None


def test_a_task_that_failed_has_no_time_left_either(make):
    message = {"outcome": "Failed", "reason": "ProgramError", "message": "boom", "userError": True}
    seen = {"children": head_that_ended(make, message, 2), "progress": SEEN_BEFORE}
    plan = plan_task(make.task(), started(make, **seen))
    assert (plan.status.phase, plan.status.loss, plan.status.eta) == ("Failed", "0.5", None)
    again = plan_task(make.task(), started(make, record=recorded(plan)))
    assert (again.status.phase, again.status.loss, again.status.eta) == ("Failed", "0.5", None)


def pods_that_are_ready(make):
    """The head and the workers of a task, all at work."""
    pods = head_that_ended(make, LAST_WORD).pods
    ready = {"phase": "Running", "podIP": "10.1.0.5", "conditions": [{"type": "Ready", "status": "True"}]}
    pods["wdbc-head"]["status"] = ready
    for pod in plan_task(make.task(), started(make, children=make.children(pods=pods))).apply:
        if pod["kind"] == "Pod":
            pods[name_of(pod)] = {**pod, "status": ready}
    return pods


def test_peers_that_leave_after_the_last_round_are_no_alarm(make):
    pods = pods_that_are_ready(make)
    done = SEEN_BEFORE.model_copy(update={"round": 4, "phase": "Settling"})
    plan = plan_task(make.task(), started(make, children=make.children(pods=pods), progress=done))
    assert said(plan)["ClusterReady"] == ("True", "AsExpected")
    assert said(plan)["Training"] == ("False", "RoundsDone")
    assert plan.status.message == "All rounds are done. Settling."


def test_a_task_that_ends_before_its_last_round_says_why(make):
    """Its validator settles; peers that are gone are no alarm."""
    pods = pods_that_are_ready(make)
    done = SEEN_BEFORE.model_copy(update={"phase": "Settling"})
    plan = plan_task(make.task(), started(make, children=make.children(pods=pods), progress=done))
    assert said(plan)["Training"] == ("False", "RoundsDone")
    text = "The model got no better for so long that round 3 of 4 was the last."
    assert plan.status.message == f"{text} Settling."

    early = {**LAST_WORD, "round": 3, "progress": {**LAST_WORD["progress"], "round": 3}}
    plan = plan_task(make.task(), started(make, children=head_that_ended(make, early)))
    record = recorded(plan)
    for settlement, claimed in ((None, {}), (last(), {}), (last(), {make.OWN: 50 * 10**18})):
        plan = plan_task(make.task(), started(make, settlement, record=record, claimed=claimed))
        assert next(c.message for c in plan.status.conditions if c.type == "Training") == text
        assert figures(plan.status)[0] == "3/4"


def test_the_metric_that_the_task_names_is_shown(make):
    spec = make.task_spec(validation={"metric": "auc"})
    record = DONE.model_copy(update={"progress": SEEN_BEFORE})
    assert plan_task(make.task(spec), started(make, record=record)).status.metric == "auc=0.8"
    assert plan_task(make.task(), started(make, record=record)).status.metric is None


def test_success_needs_the_settled_model(make):
    plan = plan_task(make.task(), started(make, last(bytes(32)), status=TaskStatus.FINISHED, record=DONE))
    assert said(plan)["Failed"] == ("True", "ModelMismatch")
    assert plan.action is None


def test_what_has_ended_is_told_without_chain_and_without_pods(make):
    record = DONE.model_copy(update={"settled": True, "claimed": "50"})
    seen = make.task_seen(own=None, chain=None, problem=model.Problem(Reason("RpcUnavailable"), "x"), record=record)
    plan = plan_task(make.task(), seen)
    assert said(plan)["Succeeded"] == ("True", "AsExpected")
    assert said(plan)["Settled"] == ("True", "RewardClaimed")
    assert (plan.status.phase, plan.status.rounds, plan.status.loss) == ("Succeeded", "4/4", "0.25")
    assert applied(plan) == []


def test_a_task_that_outlived_its_deadline_is_ended_by_its_planner(make):
    late = started(make, now=make.NOW + timedelta(days=2))
    assert plan_task(make.task(), late).action == model.Expire()
    plan = plan_task(make.task(), started(make, status=TaskStatus.FINISHED))
    assert said(plan)["Failed"] == ("True", "DeadlinePassed")


def test_members_have_a_window_before_a_task_expires(make):
    on_chain = make.on_chain(TaskStatus.STARTED, (make.participant(),))
    deadline = datetime.fromtimestamp(on_chain.published.deadline, UTC)
    plan = plan_task(make.task(), started(make, now=deadline + timedelta(seconds=1)))
    assert said(plan)["Settled"] == ("False", "NoQuorum")
    assert not isinstance(plan.action, model.Expire)
    window = timedelta(seconds=on_chain.published.fallback_window)
    assert plan_task(make.task(), started(make, now=deadline + window)).action != model.Expire()
    assert plan_task(make.task(), started(make, now=deadline + window + timedelta(minutes=2))).action == model.Expire()


def by_medians(make, rewards, claimed=None, **changes):
    both = (make.participant(), make.participant(make.OTHER, session="0x" + "11" * 20))
    settlement = SettlementState(2, DIGEST, DIGEST, sum(rewards.values()), False)
    on_chain = replace(make.on_chain(TaskStatus.FINISHED, both, settlement, claimed or {}), medians=rewards)
    return plan_task(make.task(), make.task_seen(make.consortium(on_chain), **changes))


def test_what_medians_give_is_claimed_before_the_task_is_over(make):
    own = make.task_seen().own.address
    rewards = {own: 3 * make.UNIT, make.OTHER: make.UNIT}
    plan = by_medians(make, rewards)
    task_id = make.on_chain().published.task_id
    assert plan.action == model.Claim(3 * make.UNIT, tuple(RewardTree(rewards, task_id).proof(own)))
    refused = by_medians(make, rewards, failure=model.Problem(Reason("RpcUnavailable"), "no answer"))
    assert (refused.action, said(refused)["Settled"]) == (None, ("True", "SettledByMedians"))
    assert refused.status.phase != "Failed"
    paid = by_medians(make, rewards, {own: 3 * make.UNIT})
    assert (paid.action, said(paid)["Failed"]) == (None, ("True", "SettledByMedians"))
    assert (paid.status.reward, paid.status.claimed) == ("3", "3")
    assert read_record(next(obj for obj in paid.apply if obj["kind"] == "ConfigMap")).reason == "SettledByMedians"


def test_who_has_earned_nothing_by_medians_claims_nothing(make):
    plan = by_medians(make, {make.OTHER: make.UNIT})
    assert (plan.action, said(plan)["Failed"]) == (None, ("True", "SettledByMedians"))


worlds = st.fixed_dictionaries(
    {
        "status": st.sampled_from([TaskStatus.OPEN, TaskStatus.STARTED, TaskStatus.FINISHED, TaskStatus.CANCELLED]),
        "ours": st.booleans(),
        "theirs": st.booleans(),
        "on_chain": st.booleans(),
        "mirror": st.booleans(),
        "session": st.booleans(),
        "service": st.booleans(),
        "token": st.booleans(),
        "record": st.sampled_from([None, DONE, DONE.model_copy(update={"settled": True, "claimed": "50"})]),
        "settled": st.booleans(),
        "suspend": st.booleans(),
        "decision": st.sampled_from([None, "Join", "Decline"]),
        "problem": st.sampled_from([None, model.Problem(Reason("RpcUnavailable"), "x")]),
        "failure": st.sampled_from([None, model.Problem(Reason("TransactionReverted"), "y")]),
        "approval": st.sampled_from(["Manual", "Automatic"]),
        "hours": st.integers(0, 40),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(worlds)
def test_in_every_world_the_plan_is_whole_and_repeatable(make, world):
    participation = {"decision": world["decision"]} if world["decision"] else {}
    spec = make.task_spec(suspend=world["suspend"], participation=participation)
    joined = (make.participant(),) * world["ours"] + (make.participant(make.OTHER),) * world["theirs"]
    planner = make.OTHER if world["mirror"] else make.OWN
    on_chain = make.on_chain(world["status"], joined, last() if world["settled"] else None, planner=planner)
    seen = make.task_seen(
        make.consortium(*([on_chain] if world["on_chain"] else [])),
        own=model.Own("eu", "u", make.subnet_spec(policy={"approval": world["approval"]}), make.OWN),
        children=make.children(
            session_address=make.SESSION if world["session"] else None,
            services={"wdbc-exchange": make.node_port_service()} if world["service"] else {},
            ray_token=world["token"],
        ),
        record=world["record"],
        problem=world["problem"],
        failure=world["failure"],
        now=make.NOW + timedelta(hours=world["hours"]),
    )
    task = make.task(spec, make.TASK_ID if world["mirror"] else None)
    plan = plan_task(task, seen)
    assert plan == plan_task(task, seen)
    assert tuple(c.type for c in plan.status.conditions) == TASK_TYPES
    assert all(c.observed_generation == task.generation for c in plan.status.conditions)
    assert all(c.message for c in plan.status.conditions)
    told = said(plan)
    assert not (told["Succeeded"][0] == "True" and told["Failed"][0] == "True")
    assert plan.wake_seconds > 0
    if world["failure"] is not None and plan.action is not None:
        assert isinstance(plan.action, model.MakeSession | model.MakeRayToken)
    if isinstance(plan.action, model.Accept):
        assert world["decision"] != "Decline" or world["status"] is TaskStatus.STARTED
    if "Pod" in [kind for kind, _ in applied(plan)]:
        assert world["status"] is TaskStatus.STARTED or world["settled"]
        assert not world["suspend"]
        assert world["ours"]


def test_a_planner_that_does_not_train_sees_the_end_from_the_chain(make):
    own = model.Own("eu", "u", make.subnet_spec(roles=["Planner"]), make.OWN)
    others = (make.participant(make.OTHER),)
    running = make.on_chain(TaskStatus.STARTED, others)
    plan = plan_task(make.task(), make.task_seen(make.consortium(running), own=own))
    assert said(plan)["Accepted"] == ("False", "NotATrainer")
    assert plan.status.phase == "Training"
    assert applied(plan) == []
    finished = make.on_chain(TaskStatus.FINISHED, others, last())
    plan = plan_task(make.task(), make.task_seen(make.consortium(finished), own=own))
    assert said(plan)["Succeeded"] == ("True", "AsExpected")
    assert plan.status.model.digest == "0x" + DIGEST.hex()
    assert plan.status.phase == "Succeeded"
