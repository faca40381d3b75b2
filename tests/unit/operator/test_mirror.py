"""What the mirror says of its own progress; what it reads is tested against a real chain."""

import asyncio
import time

import pytest
from covey_chain.client import Chain
from covey_chain.errors import RpcUnavailable
from covey_operator.metrics import Metrics
from covey_operator.mirror import Mirror, MirrorKey

KEY = MirrorKey(("http://127.0.0.1:1",), 31337, "0x" + "11" * 20, 1)


class Looking(Mirror):
    """Looks at a node that is away; the third look never ends."""

    def __init__(self) -> None:
        super().__init__(KEY, 0.01, Metrics(), lambda _key, _delay: None)
        self.hangs = asyncio.Event()
        self._looks = 0

    async def _poll(self) -> None:
        self._looks += 1
        if self._looks == 3:
            self.hangs.set()
            await asyncio.Event().wait()
        raise RpcUnavailable(KEY.rpc_urls[0], "refused")


async def test_a_node_that_is_away_is_no_stall_and_a_look_that_never_ends_is_one():
    began = time.monotonic()
    mirror = Looking()
    running = asyncio.create_task(mirror.run())
    await mirror.hangs.wait()
    assert mirror.stalled_seconds < time.monotonic() - began, "two looks have ended, if with errors"
    before = mirror.stalled_seconds
    await asyncio.sleep(0.05)
    assert mirror.stalled_seconds >= before + 0.05
    running.cancel()


async def test_many_passes_do_not_each_ask_a_node_that_is_away(monkeypatch: pytest.MonkeyPatch):
    asked = 0

    async def connect(*_args: object, **_more: object) -> Chain:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        raise RpcUnavailable(KEY.rpc_urls[0], "no answer")

    monkeypatch.setattr(Chain, "connect", connect)
    mirror = Mirror(KEY, 60.0, Metrics(), lambda _key, _delay: None)
    running = asyncio.create_task(mirror.run())
    passes = (mirror.task_id("0x" + "22" * 20, bytes([number])) for number in range(50))
    answers = await asyncio.gather(*passes, return_exceptions=True)
    assert all(isinstance(answer, RpcUnavailable) for answer in answers)
    assert asked <= 2, "the mirror, and a pass that came before it"
    running.cancel()
