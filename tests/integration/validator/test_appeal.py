"""A member whose data are like nobody else's is flagged, appeals while the task runs, is proven, and ends ahead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from covey_chain import signing
from covey_chain.anvil import Node
from covey_chain.client import Chain
from covey_chain.types import Penalty
from covey_chain.wallet import Wallet
from covey_cli.main import cli
from covey_consortium.convene import STAKE
from covey_exchange.manifest import Array
from covey_exchange.proto import driver_pb2 as wire
from numeric_driver import SHAPE, NumericDriver
from validator_consortium import Convene
from validator_member import Site

pytestmark = pytest.mark.chain

LEFT = 3  # the left-handed member's place
ALONE = 512  # elements that only the left-handed member's records care for


def teaches(index: int) -> Array:
    """Where a site's records lie: all but the last elements for the right-handed, only these for the left-handed."""
    found = np.random.default_rng(index).normal(0, 0.05, SHAPE).astype(np.float32)
    flat = found.reshape(-1)
    if index == LEFT:
        flat[-ALONE:] += 5
    else:
        flat[:-ALONE] += 1
    return found


async def until(
    read: Callable[[bytes, str], Awaitable[Penalty | None]], task_id: bytes, member: str, held: int
) -> Penalty:
    """Wait until the chain holds so much of a member's stake."""
    async with asyncio.timeout(60):
        while True:
            found = await read(task_id, member)
            if found is not None and found.held == held:
                return found
            await asyncio.sleep(0.2)


class Desk:
    """`covey appeal`, as people use it."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node, self.key_file = node, folder / "key"
        self.chain: Chain | None = None
        self.task_id = b""

    async def say(self, verb: str, *options: str | Path, key: bytes | str | None = None) -> str:
        assert self.chain is not None
        where = ["--rpc-url", self.node.url, "--chain-id", str(self.node.chain_id)]
        where += ["--contract", self.chain.domain.contract, "--task", "0x" + self.task_id.hex()]
        if key is not None:
            self.key_file.write_text(key if isinstance(key, str) else "0x" + key.hex())
            where += ["--key-file", str(self.key_file)]
        done = await asyncio.to_thread(CliRunner().invoke, cli, ["appeal", verb, *where, *map(str, options)])
        return f"{done.exit_code} {done.output}"


class Gated(NumericDriver):
    """Trains a round that has a gate when the gate is open."""

    def __init__(self, site: Site, gates: Mapping[int, asyncio.Event]) -> None:
        super().__init__(site.directory / "shared", site.index, towards=teaches(site.index))
        self._gates = gates

    async def _answer(self, work: wire.Work) -> wire.Report:
        if work.WhichOneof("work") == "train" and work.train.round in self._gates:
            await self._gates[work.train.round].wait()
        return await super()._answer(work)


async def test_the_left_handed_member_is_flagged_appeals_is_proven_and_ends_ahead(
    convene: Convene, node: Node, tmp_path: Path
) -> None:
    auditor, desk = signing.new_key(), Desk(node, tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    np.save(data / "points.npy", np.stack([teaches(LEFT) + np.float32(i % 3 - 1) / 100 for i in range(200)]))
    held_back = ("--data", data, "--secret", tmp_path / "secret")

    async def commit(chain: Chain, task_id: bytes) -> None:
        desk.chain, desk.task_id = chain, task_id
        assert "Committed to 40 records" in await desk.say("commit", *held_back, key=node.keys[LEFT + 1])

    task = await convene(
        4,
        before_start=commit,
        program={"entrypoint": "numeric_program:Program"},
        rounds={"count": 20, "settleEvery": 1},
        incentives={"epochRounds": 2, "auditor": signing.address_of(auditor), "appealWindow": "1h"},
        aggregation={"outerLearningRate": "0.2"},
    )
    member, gates = task.sites[LEFT], {5: asyncio.Event(), 15: asyncio.Event()}
    for site in task.sites:
        site.drive(Gated(site, gates))
    await task.start()
    await member.reaches(4)
    flagged = await member.shows("standing", lambda standing: standing is not None, 60)
    assert "limit 0.2" in flagged["standing"]["words"]
    held = await until(task.chain.penalty_of, task.task_id, member.owner, held=STAKE * 15 // 1000)
    assert not held.removed

    of_member = ("--member", member.owner)
    state = ("--state", task.sites[0].directory / "state")
    opening = tmp_path / "opening"
    assert "has not appealed" in await desk.say("open", *of_member, *held_back, "--to", opening)
    assert "is on chain" in await desk.say("file", key=member.owner_key)
    assert "32 records are in" in await desk.say("open", *of_member, *held_back, "--to", opening)
    await Wallet(task.chain, task.sites[0].owner_key).fund(signing.address_of(auditor), 10**17)
    shown = ("--opening", opening, *state)
    assert "the rule makes of it: proven" in await desk.say(
        "examine", *of_member, *shown, "--records", tmp_path / "seen"
    )
    assert len(list((tmp_path / "seen").iterdir())) == 32
    assert "the records are real" in await desk.say("decide", *of_member, "--real", *shown, key=auditor)
    gates[5].set()
    await member.reaches(14)
    print(await desk.say("decide", *of_member, "--real", *shown, key=auditor))
    gates[15].set()
    await task.all_succeed(300)
    for site in task.sites:
        print(site.termination["reward"], site.termination["progress"]["standing"])
    for r in json.loads((member.directory / "state/certified/00000020.json").read_text())["rewards"].items():
        print(r)
