"""Everything around the operator in its benchmark: API server, chain, another member, kubelet, one member's objects."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from covey_chain.anvil import Node, anvil
from covey_chain.types import Deployment
from covey_dev.apiserver import ApiServer
from covey_dev.operator import OperatorProcess, Operators
from covey_dev.paths import REPOSITORY
from covey_operator.kinds import CLAIM, SECRET, SUBNET, TASK, Kind, Object
from covey_operator.settings import Settings

from covey_bench.operator_chain import CONSORTIUM, Partner, new_key, set_up
from covey_bench.operator_kubelet import Admin, Kubelet, admin, validators
from covey_bench.operator_watch import Seen

NAMESPACE = "hospital"
BLOCK_SECONDS = 2  # transactions are mined at once; blocks without any keep the chain's clock going
# The operator's own defaults, where the set-up for tests has shorter ones.
SHORTER = ("chain_poll", "progress_poll", "error_retry", "resync", "cleanup")
DEFAULTS = {f"COVEY_{name.upper()}_SECONDS": str(Settings.model_fields[f"{name}_seconds"].default) for name in SHORTER}


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        tasks, pods: in all, and of each task (a head and workers).
        sample: how many of the tasks come one by one, `pace_seconds` apart.
        idle_seconds: how long nothing happens.
    """

    tasks: int = 1000
    pods: int = 10
    sample: int = 100
    pace_seconds: float = 1.0
    idle_seconds: float = 300.0

    @property
    def full(self) -> bool:
        """Whether it is what the goals are set for."""
        return self == Size()


@dataclass(frozen=True)
class Bench:
    """What runs.

    Attributes:
        parts: the processes of what runs beside the operator, for their processor time.
    """

    size: Size
    admin: Admin
    kubelet: Kubelet
    partner: Partner
    operators: Operators
    session: aiohttp.ClientSession
    say: Callable[[str], None]
    parts: Mapping[str, Sequence[int]]

    @asynccontextmanager
    async def operator(self, **settings: str) -> AsyncIterator[Seen]:
        """An operator process, killed at the end of the block if it runs still."""
        with _ended(self.operators.start(**DEFAULTS, **settings)) as process:
            yield await asyncio.to_thread(Seen, process, self.session)

    async def until(
        self, what: str, check: Callable[[], Awaitable[bool]], limit_seconds: float, pause_seconds: float = 0.1
    ) -> float:
        """Ask until the answer is yes; returns the seconds that it took.

        Raises:
            TimeoutError: it did not become true.
        """
        began = said = time.monotonic()
        async with asyncio.timeout(limit_seconds):
            while not await check():
                if time.monotonic() - said > 10:
                    said = time.monotonic()
                    self.say(f"waiting for {what}: {self.kubelet.running:,} pods run")
                await asyncio.sleep(pause_seconds)
        return time.monotonic() - began


@contextmanager
def _ended(process: OperatorProcess) -> Iterator[OperatorProcess]:
    try:
        yield process
    finally:
        if process.running:
            process.kill()


@asynccontextmanager
async def site(size: Size, say: Callable[[str], None]) -> AsyncIterator[tuple[Bench, ApiServer]]:
    """API server, chain, partner and kubelet; everything is ended with the block."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(ApiServer(audit=True))
        definitions = [f"--filename={path}" for path in sorted((REPOSITORY / "crds").glob("covey.dev_*.yaml"))]
        server.kubectl("apply", "--server-side", *definitions)
        server.kubectl("wait", "--for=condition=Established", "--timeout=30s", *definitions)
        node = stack.enter_context(anvil(tick_seconds=BLOCK_SECONDS))
        say("the API server and the chain run")
        owner, other = new_key(), new_key()
        deployed = await set_up(node, owner, other)
        partner = await Partner.join(node, deployed, other)
        stack.push_async_callback(partner.chain.close)
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="covey-operator-")))
        operators = Operators(server, logs)
        operators.prepare()
        client = await stack.enter_async_context(admin(server))
        await _prepare_member(client, node, deployed, owner)
        await stack.enter_async_context(validators())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        kubelet = Kubelet(client, NAMESPACE)
        players = [asyncio.create_task(partner.run()), asyncio.create_task(kubelet.run())]
        stack.push_async_callback(_cancel, players)
        parts = {"API server, etcd, controllers": server.pids, "chain": [node.pid], "benchmark": [os.getpid()]}
        yield Bench(size, client, kubelet, partner, operators, session, say, parts), server


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


async def _prepare_member(client: Admin, node: Node, deployed: Deployment, key: str) -> None:
    await client.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    await _create(client, SECRET, {"metadata": {"name": "wallet"}, "stringData": {"privateKey": key}})
    for name in ("data", "models"):
        storage = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        await _create(client, CLAIM, {"metadata": {"name": name}, "spec": storage})
    chain = {
        "rpcUrl": node.url,
        "chainId": node.chain_id,
        "contract": deployed.settlement,
        "walletSecret": {"name": "wallet"},
    }
    spec = {
        "consortium": CONSORTIUM,
        "chain": chain,
        "stake": "1000",
        "roles": ["Planner", "Trainer", "Validator"],
        "exchange": {"advertise": "hospital.example"},
        "datasets": [{"name": "wdbc", "schema": "wdbc-v1", "claimName": "data"}],
        "policy": {"approval": "Automatic"},
        "storage": {"outputClaim": "models"},
    }
    await _create(client, SUBNET, {"metadata": {"name": "eu"}, "spec": spec})


async def _create(client: Admin, kind: Kind, content: Object) -> None:
    await client.request("POST", kind.path(NAMESPACE), {"apiVersion": kind.api_version, "kind": kind.kind, **content})


async def apply(bench: Bench, name: str) -> None:
    """Apply a FederatedTask for this member and one other."""
    spec = {
        "subnet": "eu",
        "bounty": {"amount": "2"},
        "program": {"image": "registry.example/wdbc@sha256:" + "1" * 64, "entrypoint": "wdbc.program:Program"},
        "data": {"schema": "wdbc-v1"},
        "members": {"min": 2, "max": 2, "acceptWithin": "1h"},
        "rounds": {"count": 4, "localSteps": 5, "deadline": "1h", "minUpdates": 2},
        "workers": {"replicas": bench.size.pods - 1, "resources": {"cpu": "500m", "memory": "1Gi"}},
    }
    await _create(bench.admin, TASK, {"metadata": {"name": name}, "spec": spec})
