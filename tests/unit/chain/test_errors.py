import re
from pathlib import Path

import pytest
from covey_chain import abi
from covey_chain.anvil import AnvilMissingError, binary
from covey_chain.errors import REMEDIES, Reverted, RpcUnavailable
from covey_chain.events import EventKind

SOURCES = Path(__file__).parents[3] / "contracts/src"


def test_every_error_of_the_contracts_has_a_remedy() -> None:
    names = {
        name for file in SOURCES.glob("*.sol") for name in re.findall(r"^\s*error (\w+)\(", file.read_text(), re.M)
    }
    assert len(names) > 30
    assert names - set(REMEDIES) == set()


def test_every_remedy_is_for_an_error_that_can_reach_us() -> None:
    assert set(REMEDIES) - {entry["name"] for entry in abi.errors().values()} == set()


def test_every_event_of_the_contracts_is_known() -> None:
    found = {
        entry["name"]
        for name in ("MemberRegistry", "TaskMarket", "Settlement", "Fallback")
        for entry in abi.artifact(name).abi
        if entry["type"] == "event" and entry["name"] != "EIP712DomainChanged"
    }
    assert found == {kind.value for kind in EventKind}


def test_a_revert_says_what_to_do() -> None:
    error = Reverted("start", "TooFewMembers", (1, 3))
    assert (error.reason, error.arguments) == ("TooFewMembers", (1, 3))
    assert str(error) == (
        "start was refused by the contract: TooFewMembers(1, 3); wait until enough members have accepted"
    )


def test_secrets_of_a_url_stay_out_of_messages() -> None:
    error = RpcUnavailable("https://me:hidden@rpc.example:8545/v3?token=hidden", "ConnectionError")
    assert "hidden" not in str(error)
    assert "https://rpc.example:8545/v3" in str(error)


def test_a_machine_without_anvil_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"COVEY_ANVIL": "", "XDG_CACHE_HOME": str(tmp_path), "PATH": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AnvilMissingError, match="make tools"):
        binary()
