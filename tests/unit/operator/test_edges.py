"""The small parts around the plans: comparison of objects, keys, reports, reasons of errors, settings, metrics."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from covey_api.status import Condition, ConditionStatus, Reason
from covey_chain import errors
from covey_operator import failures
from covey_operator.keys import BadKeyError, new_session, new_tls, read_entry, read_tls, wallet_key
from covey_operator.kube import holds, with_hash
from covey_operator.metrics import Metrics
from covey_operator.plan.report import Record, Report, read_record, read_report
from covey_operator.plan.status import Conditions, duration_words, number_words
from covey_operator.settings import Settings
from cryptography import x509
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from pydantic import ValidationError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(st.text(max_size=3), json_values, max_size=4),
    st.dictionaries(st.text(min_size=4, max_size=6), json_values),
)
def test_what_others_add_does_not_count_as_a_change(desired, additions):
    assert holds(desired, {**desired, **additions})


@pytest.mark.parametrize(
    ("desired", "live"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": [{"x": 1}]}, {"a": [{"x": 2}]}),
        ({"a": "b"}, {}),
        ({"a": {"b": 1}}, {"a": None}),
    ],
)
def test_what_differs_in_our_fields_is_a_change(desired, live):
    assert not holds(desired, live)


def test_a_field_that_is_no_longer_wanted_changes_the_digest():
    one = with_hash({"metadata": {"name": "a"}, "spec": {"x": 1, "y": 2}})
    other = with_hash({"metadata": {"name": "a"}, "spec": {"x": 1}})
    assert one["metadata"]["annotations"] != other["metadata"]["annotations"]


def test_a_wallet_key_gives_its_address_with_or_without_prefix_and_newline():
    account = Account.create()
    key = bytes(account.key).hex()
    for text in (key, "0x" + key, f"0x{key}\n"):
        assert wallet_key(text.encode()) == ("0x" + key, account.address)


@pytest.mark.parametrize("text", ["", "0x12", "zz" * 32, "0" * 64, "f" * 64, "0x" + "1" * 63])
def test_a_bad_wallet_key_is_refused_and_never_shown(text):
    with pytest.raises(BadKeyError) as caught:
        wallet_key(text.encode())
    assert not text or text not in str(caught.value)


def test_secrets_without_the_key_name_what_they_have():
    with pytest.raises(BadKeyError, match=r'"privateKey" is missing; it has: other'):
        read_entry({"data": {"other": ""}}, "privateKey")


def test_a_made_certificate_carries_the_hash_of_its_key():
    data = new_tls("eu", datetime(2026, 11, 23, tzinfo=UTC))
    tls = read_tls({"data": data})
    certificate = x509.load_der_x509_certificate(tls.certificate)
    assert certificate.public_key().curve.name == "secp256r1"
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 3651
    assert len(tls.key_hash) == 32
    assert new_tls("eu", datetime(2026, 11, 23, tzinfo=UTC)) != data


def test_a_session_key_is_a_key():
    text = base64.b64decode(new_session()["session.key"])
    assert wallet_key(text)[0].encode() == text


@given(st.text(max_size=200))
def test_any_termination_message_is_read_or_ignored(text):
    assert read_report(text) is None or isinstance(read_report(text), Report)


def test_an_unknown_reason_of_a_program_is_the_programs():
    report = read_report('{"outcome": "Failed", "reason": "Whatever", "userError": true}')
    assert report.task_reason is Reason.PROGRAM_ERROR


def test_a_record_survives_its_config_map():
    record = Record(outcome="Failed", reason=Reason.DATA_INVALID, message="no column", report=Report(outcome="Failed"))
    assert read_record(record.config_map("wdbc", "oncology")) == record
    assert read_record({"data": {"result.json": "{"}}) is None


def subclasses(kind):
    return {kind, *(found for child in kind.__subclasses__() for found in subclasses(child))}


def test_every_chain_error_has_a_reason():
    assert subclasses(errors.ChainError) - {errors.ChainError} == set(failures.CHAIN_REASONS)


def test_a_chain_errors_words_reach_the_person():
    problem = failures.of_chain(errors.RpcUnavailable("http://10.0.0.1:8545", "refused"))
    assert problem.reason is Reason.RPC_UNAVAILABLE
    assert "http://10.0.0.1:8545" in problem.message
    assert "check chain.rpcUrl" in problem.message


def test_the_transition_time_moves_only_with_the_status():
    then, now = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    first = Conditions(("Ready",), 1, (), then)
    first.false("Ready", Reason.PENDING, "x")
    (before,) = first.build()
    same = Conditions(("Ready",), 2, (before,), now)
    same.false("Ready", Reason.RPC_UNAVAILABLE, "y")
    assert same.build()[0].last_transition_time == before.last_transition_time
    other = Conditions(("Ready",), 2, (before,), now)
    other.true("Ready", Reason.AS_EXPECTED, "z")
    assert other.build()[0].last_transition_time == "2026-02-01T00:00:00Z"


def test_words_for_people():
    assert [duration_words(s) for s in (4.4, 75, 3600, 11_400)] == ["4s", "1m", "1h", "3h10m"]
    assert [number_words(v) for v in (0.123456789, "0.5", "n/a")] == ["0.12346", "0.5", "n/a"]


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("COVEY_NAMESPACE", "covey-system")
    monkeypatch.setenv("COVEY_TRAINER_IMAGE", "covey:1")
    monkeypatch.setenv("COVEY_WATCH_NAMESPACES", "oncology, cardiology")
    monkeypatch.setenv("COVEY_MONITORING_NAMESPACE", "prometheus")
    settings = Settings()
    assert settings.watch_namespaces == ("oncology", "cardiology")
    assert settings.monitoring_namespace == "prometheus"


def test_a_missing_image_is_refused(monkeypatch):
    monkeypatch.setenv("COVEY_NAMESPACE", "covey-system")
    monkeypatch.delenv("COVEY_TRAINER_IMAGE", raising=False)
    with pytest.raises(ValidationError, match="trainer_image"):
        Settings()


def test_series_of_vanished_objects_vanish():
    metrics = Metrics()
    key = ("FederatedTask", "oncology", "wdbc")
    condition = Condition(type="Failed", status=ConditionStatus.FALSE, reason="AsExpected", last_transition_time="t")
    metrics.conditions.show(key, [condition])
    assert metrics.snapshot("covey_operator_status_condition")[*key, "Failed", "False"] == 1
    metrics.conditions.drop(key)
    assert metrics.snapshot("covey_operator_status_condition") == {}


def test_every_series_has_the_prefix_and_known_labels_start_at_zero():
    metrics = Metrics()
    text = generate_latest(metrics.registry).decode()
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    assert all(name.startswith("covey_operator_") for name in names)
    assert 'covey_operator_reconcile_total{kind="Subnet",result="error"} 0.0' in text
