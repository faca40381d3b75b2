"""A member whose data are like nobody else's is flagged, appeals while the task runs, is proven, and ends ahead."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from covey_chain import signing
from covey_chain.anvil import Node
from covey_chain.client import Chain
from covey_chain.wallet import Wallet
from covey_cli.main import cli
from covey_consortium.convene import STAKE
from covey_exchange.manifest import Array
from covey_exchange.proto import driver_pb2 as wire
from numeric_driver import SHAPE, NumericDriver
from validator_consortium import Consortium, Convene, contract_options
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


class Desk:
    """`covey appeal` and `covey verify`, as people use them."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node, self.folder = node, folder
        self.where: list[str] = []

    def at(self, chain: Chain, task_id: bytes) -> None:
        self.where = contract_options(self.node, chain.domain.contract, task_id)

    async def say(self, verb: str, *options: str | Path, key: bytes | str | None = None) -> str:
        arguments = [verb] if verb == "verify" else ["appeal", verb]
        arguments += self.where
        if key is not None:
            (self.folder / "key").write_text(key if isinstance(key, str) else "0x" + key.hex())
            arguments += ["--key-file", str(self.folder / "key")]
        done = await asyncio.to_thread(CliRunner().invoke, cli, [*arguments, *map(str, options)])
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


TASK: dict[str, Any] = {
    "program": {"entrypoint": "numeric_program:Program"},
    "aggregation": {"outerLearningRate": "0.2"},
}


@pytest.fixture
def desk(node: Node, tmp_path: Path) -> Desk:
    return Desk(node, tmp_path)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A folder with the left-handed member's data set."""
    folder = tmp_path / "data"
    folder.mkdir()
    points = np.stack([teaches(LEFT) + np.float32(i % 3 - 1) / 100 for i in range(200)])
    np.save(folder / "points.npy", points)
    return folder


async def trained(task: Consortium, gates: Mapping[int, asyncio.Event]) -> Site:
    """The left-handed member of a task that trains, and waits at its gates; it has been flagged."""
    for site in task.sites:
        site.drive(Gated(site, gates))
    await task.start()
    member = task.sites[LEFT]
    await member.reaches(min(gates) - 1)
    flagged = await member.shows("standing", lambda standing: standing is not None, 60)
    assert "limit 0.2" in flagged["standing"]["words"]
    return member


async def holds(task: Consortium, member: Site, amount: int) -> None:
    """Wait until the chain holds so much of a member's stake."""
    async with asyncio.timeout(60):
        while True:
            found = await task.chain.penalty_of(task.task_id, member.owner)
            if found is not None and found.held == amount:
                return
            await asyncio.sleep(0.2)


def paid(task: Consortium) -> list[int]:
    return [int(site.termination["reward"]) for site in task.sites]


async def test_the_left_handed_member_is_flagged_appeals_is_proven_and_ends_ahead(
    convene: Convene, desk: Desk, records: Path, tmp_path: Path
) -> None:
    auditor = signing.new_key()
    own = ("--data", records, "--secret", tmp_path / "secret")

    async def commit(chain: Chain, task_id: bytes) -> None:
        desk.at(chain, task_id)
        assert "Committed to 40 records" in await desk.say("commit", *own, key=desk.node.keys[LEFT + 1])

    task = await convene(
        4,
        before_start=commit,
        rounds={"count": 16, "settleEvery": 1},
        incentives={"epochRounds": 2, "auditor": signing.address_of(auditor), "appealWindow": "1h"},
        **TASK,
    )
    gates = {5: asyncio.Event(), 13: asyncio.Event()}
    member = await trained(task, gates)
    await holds(task, member, STAKE * 15 // 1000)

    of_member, opening = ("--member", member.owner), tmp_path / "opening"
    assert "has not appealed" in await desk.say("open", *of_member, *own, "--to", opening)
    assert "is on chain" in await desk.say("file", key=member.owner_key)
    assert "32 records are in" in await desk.say("open", *of_member, *own, "--to", opening)
    shown = (*of_member, "--opening", opening, "--state", task.sites[0].directory / "state")
    assert "the rule makes of it: proven" in await desk.say("examine", *shown, "--records", tmp_path / "seen")
    assert len(list((tmp_path / "seen").iterdir())) == 32
    await Wallet(task.chain, task.sites[0].owner_key).fund(signing.address_of(auditor), 10**17)
    assert "the records are real" in await desk.say("decide", *shown, "--real", key=auditor)
    gates[5].set()
    proven = await member.shows("standing", lambda standing: "alone serves them" in standing["words"], 60)
    assert not proven["standing"]["removed"]

    await member.reaches(12)
    assert "the records are real" in await desk.say("decide", *shown, "--real", key=auditor)
    await task.sites[1].kill()
    await task.sites[1].start()  # and hears all of it again from the chain
    gates[13].set()
    await task.all_succeed(300)
    penalty = await task.chain.penalty_of(task.task_id, member.owner)
    assert penalty is not None
    assert (penalty.removed, penalty.held, penalty.slashed) == (False, 0, STAKE * 5 // 1000)
    words = member.termination["progress"]["standing"]["words"]
    assert "that nobody else supplied" in words
    assert "0.5 % kept for the audit" in words
    assert paid(task)[LEFT] > max(paid(task)[:LEFT])
    model = task.sites[0].directory / "output/numbers/model.safetensors"
    state = ("--state", task.sites[1].directory / "state", "--model", model)
    assert "rewards and penalties follow" in await desk.say("verify", *state)


async def test_members_that_measure_an_audit_set_prove_the_same(
    convene: Convene, desk: Desk, records: Path, tmp_path: Path
) -> None:
    sealed = tmp_path / "sealed"
    said = await desk.say("seal", "--entrypoint", TASK["program"]["entrypoint"], "--data", records, "--to", sealed)
    terms = yaml.safe_load(said[said.index("incentives:") :])["incentives"]
    gates = {5: asyncio.Event()}
    task = await convene(4, rounds={"count": 8, "settleEvery": 1}, incentives={"epochRounds": 2, **terms}, **TASK)
    desk.at(task.chain, task.task_id)
    member = await trained(task, gates)
    for judge in task.sites[:2]:
        shown = ("--member", member.owner, "--opening", sealed, "--state", judge.directory / "state")
        assert "makes of it: proven" in await desk.say("testify", *shown, key=judge.owner_key)
    gates[5].set()
    await task.all_succeed(300)
    words = member.termination["progress"]["standing"]["words"]
    assert "that nobody else supplied" in words
    assert paid(task)[LEFT] > max(paid(task)[:LEFT])
