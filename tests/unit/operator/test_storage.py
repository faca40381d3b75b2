"""What a task keeps: the validator reads its settings as the operator writes them."""

from __future__ import annotations

from datetime import UTC, datetime

from covey_api.subnet import Backend, ChainSpec, ExchangeSpec
from covey_exchange.egress import Rate
from covey_operator.plan.storage import HeadLedger, read_ledger, validator_config
from covey_validator.settings import ValidatorSettings

CHAIN = ChainSpec.model_validate(
    {
        "rpcUrl": "http://chain.example:8545",
        "fallbackRpcUrls": ["https://other.example/rpc"],
        "chainId": 31337,
        "contract": "0x" + "c0" * 20,
        "walletSecret": {"name": "wallet"},
    }
)


def settings(**exchange: object) -> ValidatorSettings:
    spec = ExchangeSpec.model_validate({"advertise": "a.example", **exchange})
    made = validator_config("wdbc", "oncology", bytes(32), "0x" + "a0" * 20, CHAIN, spec, HeadLedger())
    return ValidatorSettings.model_validate_json(made["data"]["validator.json"])


def test_caps_and_windows_reach_the_validator():
    office = {"days": ["Mon"], "from": "08:00", "to": "18:00", "timeZone": "Europe/Berlin", "maxEgressMbps": 20}
    found = settings(maxEgressMbps=100, windows=[office]).exchange
    assert found.egress(datetime(2026, 11, 30, 6, 59, 50, tzinfo=UTC)) == Rate(100e6, 10)
    assert found.egress(datetime(2026, 11, 30, 7, 0, tzinfo=UTC)).bits_per_second == 20e6


def test_all_nodes_of_the_chain_reach_the_validator():
    found = settings().chain
    assert (found.rpc_url, *found.fallback_rpc_urls) == CHAIN.rpc_urls
    assert len(CHAIN.rpc_urls) == 2


def test_without_a_cap_the_line_is_free_for_good():
    assert settings().exchange.egress() == Rate(None)


def test_the_ledger_is_read_as_it_was_written():
    spec = ExchangeSpec.model_validate({"advertise": "a.example"})
    for ledger in (HeadLedger(), HeadLedger(2, "2026-11-27T12:00:00Z", "u1", Backend.KUBERAY)):
        made = validator_config("wdbc", "oncology", bytes(32), "0x" + "a0" * 20, CHAIN, spec, ledger)
        assert read_ledger(made) == ledger
    assert read_ledger({"metadata": {"annotations": {"covey.dev/backend": "Slurm"}}}) == HeadLedger()
