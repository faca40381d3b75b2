"""The answer to a task: the data owner's rules first, then a person, then the default."""

from __future__ import annotations

import pytest
from covey_operator.plan.policy import Answer, decide
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

OWN, OTHER = "0x" + "aa" * 20, "0x" + "bb" * 20


@pytest.mark.parametrize(
    ("task", "subnet", "planner", "answer", "reason"),
    [
        ({}, {}, OTHER, "Accept", "AcceptedByPolicy"),
        ({}, {"policy": {"approval": "Manual"}}, OTHER, "Wait", "AwaitingApproval"),
        ({}, {"policy": {"approval": "Manual"}}, OWN, "Accept", "AcceptedByPolicy"),
        (
            {"participation": {"decision": "Join"}},
            {"policy": {"approval": "Manual"}},
            OTHER,
            "Accept",
            "AcceptedByPerson",
        ),
        ({"participation": {"decision": "Decline"}}, {}, OWN, "Decline", "DeclinedByPerson"),
        ({}, {"roles": ["Planner"]}, OWN, "Decline", "NotATrainer"),
        ({}, {"policy": {"images": ["other/*"]}}, OTHER, "Decline", "ImageNotAllowed"),
        (
            {},
            {"policy": {"approval": "Automatic", "images": ["registry.example/*"]}},
            OTHER,
            "Accept",
            "AcceptedByPolicy",
        ),
        ({"program": {"image": "a:1", "entrypoint": "m:C"}}, {}, OTHER, "Decline", "ImageNotPinned"),
        (
            {"program": {"image": "a:1", "entrypoint": "m:C"}},
            {"policy": {"approval": "Automatic", "requireDigest": False}},
            OTHER,
            "Accept",
            "AcceptedByPolicy",
        ),
        ({}, {"policy": {"sponsors": ["0x" + "ee" * 20]}}, OTHER, "Decline", "SponsorNotAllowed"),
        ({}, {"policy": {"sponsors": ["0x" + "ee" * 20]}}, OWN, "Accept", "AcceptedByPolicy"),
        ({}, {"policy": {"maxRounds": 3}}, OTHER, "Decline", "TooManyRounds"),
        ({}, {"policy": {"maxWorkers": 1}}, OTHER, "Decline", "TooManyWorkers"),
        ({"data": {"schema": "x"}}, {}, OWN, "Decline", "UnknownDataSchema"),
    ],
)
def test_answers(make, task, subnet, planner, answer, reason):
    decided = decide(make.task_spec(**task), make.subnet_spec(**subnet), "eu", planner, OWN)
    assert (decided.answer, decided.reason) == (Answer(answer), reason)


def two_datasets(make):
    sets = [{"name": name, "schema": "wdbc-v1", "claimName": name} for name in ("north", "south")]
    return make.subnet_spec(datasets=sets)


def test_several_data_sets_wait_for_a_choice(make):
    decided = decide(make.task_spec(), two_datasets(make), "eu", OTHER, OWN)
    assert (decided.answer, decided.reason) == (Answer.WAIT, "DatasetAmbiguous")
    assert "north, south" in decided.message


def test_the_chosen_data_set_is_used(make):
    spec = make.task_spec(participation={"decision": "Join", "dataset": "south"})
    decided = decide(spec, two_datasets(make), "eu", OTHER, OWN)
    assert decided.answer is Answer.ACCEPT
    assert decided.dataset.name == "south"


rules = st.fixed_dictionaries(
    {},
    optional={
        "images": st.sampled_from([["other/*"], ["registry.example/*"]]),
        "sponsors": st.sampled_from([[OTHER], ["0x" + "ee" * 20]]),
        "maxRounds": st.integers(1, 8),
        "maxWorkers": st.integers(1, 4),
        "approval": st.sampled_from(["Manual", "Automatic"]),
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rules, st.sampled_from([None, "Join", "Decline"]), st.sampled_from([OWN, OTHER]))
def test_no_answer_of_a_person_breaks_a_rule_of_the_data_owner(make, policy, decision, planner):
    participation = {"decision": decision} if decision else {}
    spec = make.task_spec(participation=participation)
    decided = decide(spec, make.subnet_spec(policy=policy), "eu", planner, OWN)
    broken = (
        policy.get("images") == ["other/*"]
        or (planner == OTHER and policy.get("sponsors") == ["0x" + "ee" * 20])
        or policy.get("maxRounds", 99) < 4
        or policy.get("maxWorkers", 99) < 2
    )
    assert (decided.answer is Answer.DECLINE) == (broken or decision == "Decline")
    if decided.answer is Answer.ACCEPT:
        assert decided.dataset is not None
        assert decision == "Join" or planner == OWN or policy.get("approval") == "Automatic"
