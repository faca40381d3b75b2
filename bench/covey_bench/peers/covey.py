"""Covey: real validators in the sites, a real chain in place 0, and drivers that have nothing to train or to judge.

python -m covey_bench.peers.covey NAME CODEC ROUNDS FOLDER     in place 0 of the network NAME; started by `run`
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import grpc
from covey_api.terms import TaskTerms
from covey_chain.anvil import anvil
from covey_consortium.convene import convene
from covey_consortium.member import Member
from covey_exchange import tensorfile
from covey_exchange.proto import driver_pb2 as wire
from covey_exchange.proto.driver_pb2_grpc import ValidatorServiceStub
from eth_utils.crypto import keccak

from covey_bench.peers import payload
from covey_bench.peers.trial import SITES, Rounds, Trial
from covey_bench.star import Star

PORT, CHAIN_PORT = 7443, 8545
HOLDOUT = 100
CODECS = {"SparseLoCo": {"codec": "SparseLoCo", "density": "1/64"}, "None": {"codec": "None", "precision": "fp32"}}


def run(trial: Trial, codec: str) -> Rounds:
    module = "covey_bench.peers.covey"
    trial.start(0, sys.executable, "-m", module, trial.star.name, codec, str(trial.rounds), trial.folder)
    return trial.measure()


def terms(codec: str, rounds: int) -> TaskTerms:
    """Of the task; deadlines are never reached."""
    return TaskTerms.model_validate(
        {
            "name": "bench",
            "program": {"image": "example/bench:1", "entrypoint": "bench:Program", "config": {}},
            "data": {"schema": "bench-v1"},
            "members": {"min": SITES, "max": SITES},
            "rounds": {"count": rounds, "minUpdates": SITES},
            "workers": {},
            "compression": CODECS[codec],
            "aggregation": {},
            "validation": {"minHoldout": HOLDOUT},
            "incentives": {},
        }
    )


class Driver:
    """Answers at once: with the same delta in every round, and with losses that fall from round to round."""

    def __init__(self, shared: Path, site: int) -> None:
        self._shared = shared
        self._site = site
        self._initial = self._put("initial", payload.initial())
        self._delta = self._put("delta", payload.delta(site))

    async def run(self) -> None:
        """Until the validator says Finish."""
        while True:
            async with grpc.aio.insecure_channel(f"unix:{self._shared / 'validator.sock'}") as channel:
                ask = ValidatorServiceStub(channel).Next
                report = wire.Report(hello=wire.Hello(workers=1))
                try:
                    while True:
                        work = await ask(report)
                        if work.HasField("finish"):
                            return
                        report = self._answer(work)
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)

    def _answer(self, work: wire.Work) -> wire.Report:
        match work.WhichOneof("work"):
            case "initialise":
                start = wire.Initialised(parameters=self._initial, train_examples=400, holdout_examples=HOLDOUT)
                return wire.Report(initialised=start)
            case "train":
                number = work.train.round
                payload.mark(Path(os.environ[payload.MARKS]) / str(self._site), number)
                return wire.Report(trained=wire.Trained(round=number, delta=self._delta, samples=400, loss=1.0))
            case "evaluate":
                number = work.evaluate.round
                found = [
                    wire.Evaluation(label=candidate.label, loss_sum=self._loss(candidate.label), examples=HOLDOUT)
                    for candidate in work.evaluate.candidates
                ]
                return wire.Report(evaluated=wire.Evaluated(round=number, evaluations=found))
        return wire.Report(idle=wire.Idle())

    def _loss(self, label: str) -> float:
        return HOLDOUT * {"base": 1.0, "candidate": 0.9}.get(label, 0.95)

    def _put(self, name: str, arrays: payload.Arrays) -> wire.Tensors:
        path = self._shared / f"driver-{name}"
        return wire.Tensors(file=path.name, digest=tensorfile.write(path, arrays, hashed=True))


async def _play(name: str, codec: str, rounds: int, folder: Path) -> None:
    star = Star(name, SITES + 1, 0)
    with anvil(star.address(0), CHAIN_PORT, tick_seconds=1) as node:
        members = [
            Member(
                f"site-{site}", node.keys[site + 1], folder / f"site-{site}", star.address(site + 1), PORT,
                inside=star.inside(site + 1),
            )
            for site in range(SITES)
        ]  # fmt: skip
        chain, _ = await convene(node, terms(codec, rounds), members, keccak(text=codec))
        try:
            drivers = [Driver(member.shared, site) for site, member in enumerate(members)]
            for member in members:
                await member.start()
            driving = asyncio.gather(*(driver.run() for driver in drivers))
            for member in members:
                if code := await member.exit_code(3600):
                    raise SystemExit(f"{member.name} ended with {code}:\n{member.log[-3000:]}")
            await driving
        finally:
            for member in members:
                await member.end()
            await chain.close()


if __name__ == "__main__":
    asyncio.run(_play(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
