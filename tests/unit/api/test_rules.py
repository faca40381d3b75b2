"""Rules beyond types hold for what comes from the chain too, where no API server has looked."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from covey_api.subnet import Dataset, SubnetSpec
from covey_api.task import CompressionSpec, MembersSpec, RoundsSpec, TaskSpec, ValidationSpec
from covey_api.terms import MAX_TERMS_BYTES, TaskTerms, TermsError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

SAMPLES = Path(__file__).parents[2] / "integration" / "crds"
MODELS = {"Subnet": SubnetSpec, "FederatedTask": TaskSpec}


def sample(folder: str, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((SAMPLES / folder / f"{name}.yaml").read_text())
    return loaded


def names(folder: str) -> list[str]:
    return sorted(path.stem for path in (SAMPLES / folder).glob("*.yaml"))


# Rules on lists and names that only the API server keeps: the operator never sees an object that breaks them.
ONLY_THE_API_SERVER = {
    "subnet-name-too-long",
    "task-name-starts-with-a-digit",
    "task-name-with-a-dot",
    "subnet-repeated-role",
    "subnet-datasets-of-one-name",
    "subnet-window-on-a-day-twice",
}


@pytest.mark.parametrize("name", names("accepted"))
def test_accepted_samples_parse(name: str):
    loaded = sample("accepted", name)
    MODELS[loaded["kind"]].model_validate(loaded["spec"])


@pytest.mark.parametrize("name", sorted(set(names("refused")) - ONLY_THE_API_SERVER))
def test_what_the_api_server_refuses_the_models_refuse(name: str):
    loaded = sample("refused", name)
    with pytest.raises(ValidationError):
        MODELS[loaded["kind"]].model_validate(loaded["spec"])


@pytest.mark.parametrize("name", ["task-minimal", "task-full"])
def test_terms_survive_the_way_over_the_chain(name: str):
    terms = TaskTerms.of("demo", TaskSpec.model_validate(sample("accepted", name)["spec"]))
    assert TaskTerms.parse(terms.canonical()) == terms


def test_members_with_different_spelling_publish_the_same_terms():
    loaded = sample("accepted", "task-full")["spec"]
    spelt = {**loaded, "workers": {**loaded["workers"], "resources": {"cpu": "16", "memory": "128Gi"}}}
    terms = [TaskTerms.of("demo", TaskSpec.model_validate(spec)).canonical() for spec in (loaded, spelt)]
    assert terms[0] == terms[1]


def test_local_fields_are_not_published():
    text = TaskTerms.of("demo", TaskSpec.model_validate(sample("accepted", "task-full")["spec"])).canonical().decode()
    for local in ("suspend", "participation", "subnet", "bounty"):
        assert local not in text


@pytest.mark.parametrize(
    ("mangle", "message"),
    [
        (lambda data: b"{", "not valid"),
        (lambda data: data.replace(b'"min":3', b'"min":4'), "members.min must not exceed members.max"),
        (lambda data: data.replace(b'"density":"1"', b'"density":"0"'), "must be greater than 0"),
        (lambda data: data.replace(b'"minUpdates":3', b'"minUpdates":4'), "could never close a round"),
        (lambda data: data.replace(b'"name":"demo"', b'"name":"demo","sudo":true'), "sudo"),
        (lambda data: data + b" ", "canonical"),
        (lambda data: data + b" " * MAX_TERMS_BYTES, "at most"),
    ],
)
def test_a_planner_cannot_publish_around_the_rules(mangle, message: str):
    good = TaskTerms.of("demo", TaskSpec.model_validate(sample("accepted", "task-full")["spec"])).canonical()
    with pytest.raises(TermsError, match=message):
        TaskTerms.parse(mangle(good))


@given(low=st.integers(1, 64), high=st.integers(1, 64))
def test_min_members_never_exceeds_max(low: int, high: int):
    if low <= high:
        assert MembersSpec(min=low, max=high).min == low
    else:
        with pytest.raises(ValidationError, match=r"members\.min must not exceed members\.max"):
            MembersSpec(min=low, max=high)


@given(numerator=st.integers(0, 200), denominator=st.integers(1, 200))
def test_density_is_a_share_that_is_not_nothing(numerator: int, denominator: int):
    if 0 < numerator <= denominator:
        CompressionSpec(density=f"{numerator}/{denominator}")
    else:
        with pytest.raises(ValidationError, match="greater than 0 and at most 1"):
            CompressionSpec(density=f"{numerator}/{denominator}")


@pytest.mark.parametrize("text", ["0", "1", "5/5", "0/3"])
def test_something_is_held_out_and_something_is_left(text: str):
    with pytest.raises(ValidationError, match="less than 1"):
        ValidationSpec(holdout_fraction=text)


@pytest.mark.parametrize("text", ["", "0s", "8761h", "10", "1m1h", "1.5h", "-1m"])
def test_durations_that_are_none(text: str):
    with pytest.raises(ValidationError):
        RoundsSpec(count=1, deadline=text)


@pytest.mark.parametrize("path", ["/etc", "..", "a/../../b", "a/.."])
def test_a_data_set_lies_inside_its_volume(path: str):
    with pytest.raises(ValidationError, match="relative path inside the volume"):
        Dataset(name="a", schema_name="b", claim_name="c", path=path)


def test_a_path_with_dots_in_a_name_is_fine():
    assert Dataset(name="a", schema_name="b", claim_name="c", path="v1..2/x").path == "v1..2/x"
