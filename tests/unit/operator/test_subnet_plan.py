"""What is decided for a Subnet: keys, registration, stake, and mirrors of the tasks of others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from covey_api.status import Reason
from covey_api.task import TaskSpec
from covey_chain.types import TaskStatus
from covey_operator.plan import model, names
from covey_operator.plan.report import Progress
from covey_operator.plan.status import SUBNET_TYPES
from covey_operator.plan.subnet import plan_subnet
from hypothesis import given
from hypothesis import strategies as st


def said(plan):
    return {c.type: (str(c.status), c.reason) for c in plan.status.conditions}


def test_key_then_registration_then_stake_then_ready(make):
    nobody = make.consortium(members=())
    plan = plan_subnet(make.subnet(), make.subnet_seen(chain=nobody, tls=None))
    assert plan.action == model.MakeTls()
    plan = plan_subnet(make.subnet(), make.subnet_seen(chain=nobody))
    assert plan.action == model.Register(7, "10.66.0.11")
    unstaked = make.consortium(members=(make.chain_member(stake=0),))
    plan = plan_subnet(make.subnet(), make.subnet_seen(chain=unstaked))
    assert plan.action == model.RaiseStake(1000 * make.UNIT)
    assert said(plan)["Ready"] == ("False", "Pending")
    plan = plan_subnet(make.subnet(), make.subnet_seen())
    assert plan.action is None
    assert said(plan)["Ready"] == ("True", "AsExpected")


@pytest.mark.parametrize(
    "change",
    [
        {"exchange": {"advertise": "elsewhere.example"}},
        {"roles": ["Trainer", "Validator"]},
    ],
)
def test_a_changed_entry_is_brought_to_the_chain(make, change):
    plan = plan_subnet(make.subnet(make.subnet_spec(**change)), make.subnet_seen())
    assert isinstance(plan.action, model.Register)


def test_a_new_certificate_is_brought_to_the_chain(make):
    plan = plan_subnet(make.subnet(), make.subnet_seen(tls=model.Tls(b"der", b"n" * 32)))
    assert isinstance(plan.action, model.Register)


def test_more_stake_than_asked_for_is_left(make):
    rich = make.consortium(members=(make.chain_member(stake=5000),))
    assert plan_subnet(make.subnet(), make.subnet_seen(chain=rich)).action is None


def test_a_stake_below_the_consortiums_minimum_is_told(make):
    plan = plan_subnet(make.subnet(make.subnet_spec(stake="99")), make.subnet_seen())
    assert said(plan)["Staked"] == ("False", "InvalidSpec")
    assert plan.action is None


def test_all_conditions_are_there_from_the_first_pass_and_carry_the_generation(make):
    problem = model.Problem(Reason.RPC_UNAVAILABLE, "no answer")
    plan = plan_subnet(make.subnet(), make.subnet_seen(chain=None, address=None, problem=problem))
    assert tuple(c.type for c in plan.status.conditions) == SUBNET_TYPES
    assert {c.observed_generation for c in plan.status.conditions} == {2}
    assert said(plan)["ChainSynced"] == ("False", "RpcUnavailable")
    assert said(plan)["Registered"] == ("Unknown", "RpcUnavailable")


def test_reachability_is_what_the_validators_say(make):
    assert said(plan_subnet(make.subnet(), make.subnet_seen()))["ExchangeReachable"] == ("Unknown", "NotStarted")
    young = make.subnet_seen(progress=(Progress(peers=2, peers_connected=0),))
    assert said(plan_subnet(make.subnet(), young))["ExchangeReachable"] == ("Unknown", "PodsStarting")
    alone = replace(young, cut_off=("wdbc",))
    assert said(plan_subnet(make.subnet(), alone))["ExchangeReachable"] == ("False", "PeersUnreachable")
    connected = make.subnet_seen(progress=(Progress(peers=2, peers_connected=1),))
    plan = plan_subnet(make.subnet(), connected)
    assert said(plan)["ExchangeReachable"] == ("True", "AsExpected")
    before = replace(make.subnet(), conditions=tuple(plan.status.conditions))
    assert said(plan_subnet(before, make.subnet_seen(unheard=True)))["ExchangeReachable"] == ("True", "AsExpected")
    assert said(plan_subnet(before, replace(alone, unheard=True)))["ExchangeReachable"] == ("True", "AsExpected")
    assert said(plan_subnet(before, make.subnet_seen()))["ExchangeReachable"] == ("Unknown", "NotStarted")


def test_open_tasks_of_others_are_mirrored_once(make):
    chain = make.consortium(make.on_chain(planner=make.OTHER))
    plan = plan_subnet(make.subnet(), make.subnet_seen(chain=chain))
    (mirror,) = plan.mirrors
    assert mirror["metadata"]["name"] == "wdbc"
    assert mirror["metadata"]["annotations"][names.TASK_ID] == "0x" + make.TASK_ID.hex()
    assert mirror["metadata"]["finalizers"] == [names.FINALIZER]
    assert not {"participation", "suspend"} & set(mirror["spec"]), "people's part is never applied by the operator"
    spec = TaskSpec.model_validate(mirror["spec"])
    assert (spec.subnet, spec.bounty.amount, spec.bounty.token) == ("eu", "200", make.TOKEN_ADDRESS)
    again = make.subnet_seen(chain=chain, mirrored=frozenset({make.TASK_ID}))
    assert plan_subnet(make.subnet(), again).mirrors == ()


@pytest.mark.parametrize("status", [TaskStatus.STARTED, TaskStatus.FINISHED, TaskStatus.CANCELLED])
def test_what_cannot_be_joined_is_not_mirrored(make, status):
    chain = make.consortium(make.on_chain(status, planner=make.OTHER))
    assert plan_subnet(make.subnet(), make.subnet_seen(chain=chain)).mirrors == ()


def test_own_tasks_are_not_mirrored(make):
    assert plan_subnet(make.subnet(), make.subnet_seen(chain=make.consortium(make.on_chain()))).mirrors == ()


def test_terms_of_another_version_are_reported_and_skipped(make):
    chain = make.consortium(make.on_chain(planner=make.OTHER, spec=None))
    task = chain.tasks[make.TASK_ID]
    odd = make.consortium(make.replace(task, published=make.replace(task.published, spec=b'{"name":"x"}')))
    plan = plan_subnet(make.subnet(), make.subnet_seen(chain=odd))
    assert (plan.mirrors, plan.unreadable) == ((), (make.TASK_ID,))


@given(
    st.from_regex(r"^[a-z]([-a-z0-9]*[a-z0-9])?$", fullmatch=True).filter(lambda n: len(n) <= 47),
    st.binary(min_size=32, max_size=32),
)
def test_a_mirrors_name_is_the_planners_or_one_that_fits_and_is_free(name, task_id):
    assert names.mirror(name, task_id, frozenset()) == name
    other = names.mirror(name, task_id, frozenset({name}))
    assert other != name
    assert len(other) <= names.MAX_TASK_NAME
    assert other.endswith("-" + task_id.hex()[:6])
    assert "--" + task_id.hex()[:6] not in other


def test_another_block_alone_is_no_news(make):
    """Two operators side by side have never read to the same block; they must not write in turns."""
    first = plan_subnet(make.subnet(), make.subnet_seen()).status
    later = replace(make.consortium(), block=make.consortium().block + 7)
    shown = replace(make.subnet(), conditions=tuple(first.conditions), shown=first)
    assert plan_subnet(shown, make.subnet_seen(chain=later)).status == first
    richer = plan_subnet(shown, make.subnet_seen(chain=later, balance=77 * make.UNIT)).status
    assert richer.block == later.block
