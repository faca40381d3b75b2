"""The operator's mirror of a chain whose history is rewritten, when the node fails while it is read again."""

from __future__ import annotations

import pytest
from covey_chain import signing
from covey_chain.errors import RpcUnavailable
from covey_operator.metrics import Metrics
from covey_operator.mirror import Mirror, MirrorKey
from lab import Lab

pytestmark = pytest.mark.chain


@pytest.mark.parametrize("question", ["members", "tasks"])
async def test_what_is_cut_off_in_the_middle_is_read_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    await lab.enrol()
    mirror = Mirror(
        MirrorKey((lab.node.url,), lab.node.chain_id, lab.deployment.settlement, 1), 1.0, Metrics(), lambda *_: None
    )
    await mirror.refresh()
    before = await mirror.view("oncology-eu")
    assert before is not None
    # The block that is replaced must not be empty: a second empty one of the same second would be the same block.
    await lab.wallets[1].fund(signing.address_of(signing.new_key()), 1)
    await mirror.refresh()
    await lab.rpc("anvil_reorg", 1, [])
    leaver = lab.wallets[0]
    await leaver.unstake_down_to(before.consortium.id, 0)

    async def cut_off(*_: object) -> None:
        raise RpcUnavailable(lab.node.url, "cut off")

    chain = await mirror.chain()
    with monkeypatch.context() as patched:
        patched.setattr(chain, question, cut_off)
        with pytest.raises(RpcUnavailable):
            await mirror.refresh()
    assert await mirror.view("oncology-eu") == before, "what was known stays as a whole"
    await mirror.refresh()
    after = await mirror.view("oncology-eu")
    assert after is not None
    told = after.member(leaver.address)
    assert told is not None
    assert told.stake == 0
    await mirror.close()
