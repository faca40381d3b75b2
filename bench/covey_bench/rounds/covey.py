"""Covey's round: its real validators and a real chain; training and evaluation are nil.

python -m covey_bench.rounds.covey convene DIRECTORY ADDRESS ROUNDS CODEC SITE=ADDRESS …   in the server's namespace
python -m covey_bench.rounds.covey drive DIRECTORY                                       beside a validator
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
from covey_api.quantity import duration_seconds
from covey_api.terms import TaskTerms
from covey_chain import signing
from covey_chain.anvil import FUNDED_KEYS, anvil
from covey_chain.client import Chain
from covey_chain.deploy import deploy_all, mint
from covey_chain.types import Role
from covey_chain.wallet import Wallet
from covey_exchange.proto import driver_pb2 as wire
from covey_exchange.proto.driver_pb2_grpc import ValidatorServiceStub
from covey_operator.keys import new_tls, read_tls
from covey_operator.plan.storage import TLS_CERT, TLS_KEY
from eth_utils import keccak
from safetensors.numpy import save_file

from covey_bench.rounds.outcome import PARAMETERS_HIDDEN, Outcome, Watch
from covey_bench.rounds.star import Place

STAKE, BOUNTY = 10**20, 10**21
PORT, RPC_PORT = 7443, 8545
LIMIT_SECONDS = 600.0
HOLDOUT = 100
CODECS: dict[str, dict[str, object]] = {
    "sparse": {"codec": "SparseLoCo", "density": "1/64"},
    "dense": {"codec": "None", "precision": "fp32"},
}
H = PARAMETERS_HIDDEN
SHAPES = {"0": (H, 784), "2": (H, H), "4": (H // 4, H), "6": (10, H // 4)}


def run(server: Place, sites: Sequence[Place], rounds: int, codec: str) -> Outcome:
    """Play all rounds; a round ends when the last site has its result certified on disk."""
    module = [sys.executable, "-m", "covey_bench.rounds.covey"]
    places = [f"{site.directory}={site.address}" for site in sites]
    logs = [place.directory / "log" for place in (server, *sites)]
    server.spawn([*module, "convene", server.directory, server.address, rounds, codec, *places])
    watch = Watch(sites)
    watch.until(lambda: (server.directory / "started").exists(), 120, logs)
    for site in sites:
        site.spawn([*module, "drive", site.directory, site.index])
        site.spawn([sys.executable, "-m", "covey_validator", "--config", site.directory / "validator.json"])
    watch.until(lambda: all(len(_certified(site)) == rounds for site in sites), LIMIT_SECONDS, logs)
    return watch.outcome([max(moment) for moment in zip(*map(_certified, sites), strict=True)])


def _certified(site: Place) -> list[float]:
    return sorted(path.stat().st_mtime for path in (site.directory / "state/certified").glob("*.json"))


# --- the server's namespace -------------------------------------------------------------------------------------------


async def convene(directory: Path, address: str, rounds: int, codec: str, places: Sequence[tuple[Path, str]]) -> None:
    """A chain, a consortium, and a started task; stays until it is killed."""
    with anvil(address, RPC_PORT, tick_seconds=2) as node:
        deployment = await deploy_all(node.url, node.keys[0])
        chain = await Chain.connect(node.url, node.chain_id, deployment.settlement)
        wallets = [Wallet(chain, key) for key in FUNDED_KEYS[1 : len(places) + 1]]
        for wallet in wallets:
            await mint(node.url, node.keys[0], deployment.token, wallet.address, STAKE + BOUNTY)
        consortium = keccak(text="rounds")
        await wallets[0].create_consortium("rounds", deployment.token, 1)
        roles = Role.TRAINER | Role.VALIDATOR
        for wallet, (folder, host) in zip(wallets, places, strict=True):
            key_hash, certificate = _make_tls(folder)
            await wallet.join(consortium, roles | Role.PLANNER, key_hash, f"{host}:{PORT}", bytes(32), certificate)
            await wallet.stake_up_to(consortium, deployment.token, STAKE)
        terms = _terms(len(places), rounds, codec)
        now, spec = await chain.timestamp(), terms.canonical()
        task_id, _ = await wallets[0].publish(
            consortium=consortium, spec=spec, spec_hash=keccak(spec), token=deployment.token, bounty=BOUNTY,
            min_members=len(places), max_members=len(places), rounds=rounds, accept_by=now + 600, deadline=now + 7200,
            answer_window=duration_seconds(terms.rounds.answer_window), salt=bytes(32),
        )  # fmt: skip
        for wallet, (folder, host) in zip(wallets, places, strict=True):
            session = signing.new_key()
            (folder / "session.key").write_text("0x" + session.hex())
            account = signing.address_of(session)
            await wallet.fund(account, 10**17)
            await wallet.accept(task_id, roles, account, f"{host}:{PORT}")
            _configure(folder, chain, task_id, wallet.address, host)
        await wallets[0].start(task_id)
        (directory / "started").touch()
        await asyncio.Event().wait()


def _terms(members: int, rounds: int, codec: str) -> TaskTerms:
    return TaskTerms.model_validate(
        {
            "name": "rounds",
            "program": {"image": "example/rounds:1", "entrypoint": "rounds:Program", "config": {}},
            "data": {"schema": "rounds-v1"},
            "members": {"min": members, "max": members},
            "rounds": {"count": rounds, "localSteps": 1, "deadline": "5m", "minUpdates": members, "settleEvery": 1},
            "workers": {},
            "compression": CODECS[codec],
            "aggregation": {},
            "validation": {"minHoldout": 10},
        }
    )


def _make_tls(folder: Path) -> tuple[bytes, bytes]:
    secret = new_tls(folder.name, datetime.now(UTC))
    for entry in (TLS_KEY, TLS_CERT):
        (folder / entry).write_bytes(base64.b64decode(secret[entry]))
    made = read_tls({"data": secret})
    return made.key_hash, made.certificate


def _configure(folder: Path, chain: Chain, task_id: bytes, owner: str, host: str) -> None:
    for name in ("shared", "state", "output"):
        (folder / name).mkdir()
    settings = {
        "taskId": "0x" + task_id.hex(),
        "taskName": "rounds",
        "site": owner,
        "chain": {"rpcUrl": chain.url, "chainId": chain.chain_id, "contract": chain.domain.contract},
        "exchange": {"listen": f"{host}:{PORT}"},
        "socket": str(folder / "shared/validator.sock"),
        "sharedDir": str(folder / "shared"),
        "stateDir": str(folder / "state"),
        "outputDir": str(folder / "output"),
        "statusListen": "127.0.0.1:8080",
        "sessionKeyFile": str(folder / "session.key"),
        "tlsKeyFile": str(folder / TLS_KEY),
        "tlsCertFile": str(folder / TLS_CERT),
        "terminationLog": str(folder / "termination.json"),
    }
    (folder / "validator.json").write_text(json.dumps(settings))


# --- beside a validator -----------------------------------------------------------------------------------------------


async def drive(folder: Path, index: int) -> None:
    """A driver whose training is nil: it has one dense update at hand, and likes every candidate."""
    shared = folder / "shared"
    initial, delta = _model(shared / "made-initial", 0), _model(shared / "made-delta", index)
    report = wire.Report(hello=wire.Hello(workers=1))
    while True:
        async with grpc.aio.insecure_channel(f"unix:{shared / 'validator.sock'}") as channel:
            try:
                while True:
                    report = _answer(await ValidatorServiceStub(channel).Next(report), shared, initial, delta)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)


def _answer(work: wire.Work, shared: Path, initial: bytes, delta: bytes) -> wire.Report:
    match work.WhichOneof("work"):
        case "initialise":
            start = wire.Tensors(file="made-initial", sha256=initial)
            return wire.Report(
                initialised=wire.Initialised(parameters=start, train_examples=400, holdout_examples=HOLDOUT)
            )
        case "train":
            name = f"delta-{work.train.round}"
            (shared / name).unlink(missing_ok=True)
            os.link(shared / "made-delta", shared / name)
            files = wire.Tensors(file=name, sha256=delta)
            return wire.Report(trained=wire.Trained(round=work.train.round, delta=files, samples=400, loss=1.0))
        case "evaluate":
            losses = {"base": 1.0, "candidate": 0.9}
            found = [
                wire.Evaluation(label=c.label, loss_sum=HOLDOUT * losses.get(c.label, 0.95), examples=HOLDOUT)
                for c in work.evaluate.candidates
            ]
            return wire.Report(evaluated=wire.Evaluated(round=work.evaluate.round, evaluations=found))
    return wire.Report(idle=wire.Idle())


def _model(path: Path, seed: int) -> bytes:
    """Write normal numbers in the shapes of the model; gives the file's SHA-256."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in SHAPES.items():
        tensors[f"{name}.weight"] = random.standard_normal(shape, dtype=np.float32) * np.float32(0.01)
        tensors[f"{name}.bias"] = random.standard_normal(shape[0], dtype=np.float32) * np.float32(0.01)
    save_file(tensors, path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


if __name__ == "__main__":
    _, verb, folder_, *rest = sys.argv
    if verb == "drive":
        asyncio.run(drive(Path(folder_), int(rest[0])))
    else:
        address_, rounds_, codec_, *sites_ = rest
        pairs = [(Path(folder), host) for folder, _, host in (site.partition("=") for site in sites_)]
        asyncio.run(convene(Path(folder_), address_, int(rounds_), codec_, pairs))
