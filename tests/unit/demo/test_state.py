"""What the demo remembers."""

import stat

import pytest
from covey_demo.state import DemoState
from pydantic import ValidationError

STATE = DemoState(
    rpc_url="http://10.66.0.1:8545", chain_id=31337, settlement="0x1", registry="0x2", market="0x3", token="0x4",
    keys={"st-mary": "0x5"},
)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_state_survives_and_only_its_owner_can_read_it():
    assert DemoState.load() is None
    STATE.save()
    assert DemoState.load() == STATE
    assert stat.S_IMODE(STATE.path().stat().st_mode) == 0o600


def test_a_damaged_file_is_refused():
    STATE.save()
    STATE.path().write_text('{"rpc_url": "x"}')
    with pytest.raises(ValidationError):
        DemoState.load()
