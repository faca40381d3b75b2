"""`make bench-operator`: one operator with a thousand tasks and ten thousand pods.

The API server, the chain and the operator (a process of its own under its own ServiceAccount, with its default
settings) are real. There are no nodes: the benchmark says of each pod that it runs. Tasks are FederatedTasks of the
operator's own member; another member, which has no cluster, accepts each as soon as it sees it on chain.

Most tasks are applied at once; the last ones come at one a second while all others run, and their times from apply to
pods count. Then nothing happens for a while; then a standby takes over; then an operator starts anew.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from covey_chain.anvil import Node, anvil
from covey_chain.types import Deployment
from covey_dev.apiserver import ApiServer
from covey_dev.operator import OPERATOR_NAMESPACE, OperatorProcess, Operators
from covey_dev.paths import REPOSITORY
from covey_operator.kinds import CLAIM, SECRET, SUBNET, TASK, Kind, Object

from covey_bench import operator_audit as audit
from covey_bench import report
from covey_bench.operator_chain import CONSORTIUM, Partner, new_key, set_up
from covey_bench.operator_kubelet import Admin, Kubelet, admin, validators
from covey_bench.operator_watch import Seen
from covey_bench.report import Figure

NAMESPACE = "hospital"
USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:covey-operator"
BLOCK_SECONDS = 2  # transactions are mined at once; blocks without any keep the chain's clock going
QUIET_SECONDS = 5.0
LOAD_LIMIT_SECONDS = 1200.0
# The operator's own defaults, where the set-up for tests has shorter ones.
DEFAULTS = {
    "COVEY_CHAIN_POLL_SECONDS": "2",
    "COVEY_PROGRESS_POLL_SECONDS": "2",
    "COVEY_ERROR_RETRY_SECONDS": "60",
    "COVEY_RESYNC_SECONDS": "120",
    "COVEY_CLEANUP_SECONDS": "120",
}


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
    """What runs."""

    size: Size
    admin: Admin
    kubelet: Kubelet
    partner: Partner
    operators: Operators
    session: aiohttp.ClientSession
    say: Callable[[str], None]

    @asynccontextmanager
    async def operator(self, **settings: str) -> AsyncIterator[Seen]:
        """An operator process, killed at the end of the block if it runs still."""
        with _ended(self.operators.start(**DEFAULTS, **settings)) as process:
            yield await asyncio.to_thread(Seen, process, self.session)

    async def until(self, what: str, check: Callable[[], Awaitable[bool]], limit_seconds: float) -> float:
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
                await asyncio.sleep(0.1)
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
        yield Bench(size, client, kubelet, partner, operators, session, say), server


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


async def _apply(bench: Bench, name: str) -> None:
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


async def load(bench: Bench, operator: Seen) -> audit.Window:
    """Apply all tasks but the sample, and wait until every pod runs."""
    size, began = bench.size, time.time()
    count = size.tasks - size.sample
    for index in range(count):
        await _apply(bench, f"bulk-{index:04d}")
    bench.say(f"{count:,} tasks were applied in {time.time() - began:.0f} s")

    async def all_run() -> bool:
        return bench.kubelet.running >= count * size.pods

    await bench.until(f"{count * size.pods:,} pods of {count:,} tasks", all_run, LOAD_LIMIT_SECONDS)
    loaded = audit.Window(began, time.time())
    bench.say(f"all their pods run after {loaded.seconds:.0f} s")
    await operator.until_quiet(QUIET_SECONDS, LOAD_LIMIT_SECONDS)
    return loaded


async def sample(bench: Bench, operator: Seen) -> None:
    """Apply the sample at its pace, and wait until every pod runs and nothing more is written."""
    size, began = bench.size, time.monotonic()
    for index in range(size.sample):
        await asyncio.sleep(max(0.0, began + index * size.pace_seconds - time.monotonic()))
        await _apply(bench, f"sample-{index:04d}")

    async def all_run() -> bool:
        return bench.kubelet.running >= size.tasks * size.pods

    await bench.until(f"pods of {size.sample} more tasks", all_run, LOAD_LIMIT_SECONDS)
    await operator.until_quiet(QUIET_SECONDS, LOAD_LIMIT_SECONDS)
    wrong = [task["metadata"]["name"] for task in await _tasks(bench) if task["status"]["phase"] != "Training"]
    if wrong:
        raise RuntimeError(f"{len(wrong)} tasks do not train, such as {wrong[0]}")
    bench.say(f"{size.tasks:,} tasks with {size.tasks * size.pods:,} pods train")


async def _tasks(bench: Bench) -> list[Object]:
    return await bench.admin.tasks(NAMESPACE)


async def measure(size: Size, say: Callable[[str], None]) -> tuple[list[Figure], dict[str, object]]:
    """Everything in turn; returns the figures and what stands behind them."""
    async with site(size, say) as (bench, server):
        tasks, idle = f"{size.tasks}_tasks", "5min" if size.idle_seconds == 300 else f"{size.idle_seconds:g}s"
        async with bench.operator(COVEY_LEADER_ELECTION="true") as first:
            loaded = await load(bench, first)
            await sample(bench, first)
            cpu, began = first.cpu_seconds(), time.time()
            say(f"idle for {size.idle_seconds:g} s")
            await asyncio.sleep(size.idle_seconds)
            quiet, used = audit.Window(began, time.time()), first.cpu_seconds() - cpu
            memory, peak = first.memory_mb()
            async with bench.operator(COVEY_LEADER_ELECTION="true") as second:
                await asyncio.sleep(2)  # it has seen whose the Lease is
                first.process.kill()
                killed = time.monotonic()
                lease = await bench.until("the Lease", second.leads, 60)
                await bench.until("a pass of the standby", second.works, 300)
                takeover = time.monotonic() - killed
                say(f"the standby had the Lease after {lease:.1f} s, and its first pass after {takeover:.1f} s")
        began = time.time()
        async with bench.operator(COVEY_LEADER_ELECTION="false") as third:
            await bench.until("a pass over all tasks", lambda: third.through(size.tasks), 300)
            startup = time.time() - began
            say(f"a new operator was through after {startup:.1f} s")
        found = list(audit.requests(server.directory))
        names = {str(task["metadata"]["name"]): _task_id(task) for task in await _tasks(bench)}
    at_rest, at_work = (audit.traffic(found, USER, window) for window in (quiet, loaded))
    times = {name: when for name, when in audit.applied_and_made(found, size.pods).items() if name.startswith("sample")}
    if len(times) != size.sample:
        raise RuntimeError(f"the audit log has the pods of {len(times)} of {size.sample} tasks")
    whole = [made - applied for applied, made in times.values()]
    partner = bench.partner
    own = [made - partner.started[names[name]] for name, (_, made) in times.items()]
    seen = {"published": partner.published, "accepted by the other": partner.accepted, "started": partner.started}
    stages = {
        stage: [when[names[name]] - applied for name, (applied, _) in times.items()] for stage, when in seen.items()
    }
    figures = [
        Figure("apply_to_pods_p50_s", _quantile(whole, 0.5), "s"),
        Figure("apply_to_pods_p99_s", _quantile(whole, 0.99), "s", 2.0, "lower"),
        Figure("started_to_pods_p50_s", _quantile(own, 0.5), "s"),
        Figure("started_to_pods_p99_s", _quantile(own, 0.99), "s"),
        Figure(f"rss_mb_{tasks}", memory, "MB", 300.0 if size.full else None, "lower"),
        Figure(f"rss_peak_mb_{tasks}", peak, "MB"),
        Figure(f"idle_writes_{idle}", at_rest.writes, "", 0.0, "lower"),
        Figure(f"idle_lease_writes_{idle}", at_rest.lease_writes, ""),
        Figure("idle_cpu_percent", 100 * used / quiet.seconds, "%"),
        Figure("api_requests_per_second_idle", at_rest.per_second, "1/s"),
        Figure("api_requests_per_second_loaded", at_work.per_second, "1/s"),
        Figure("load_seconds", loaded.seconds, "s"),
        Figure(f"startup_seconds_{tasks}", startup, "s"),
        Figure("takeover_lease_seconds", lease, "s"),
        Figure("takeover_seconds", takeover, "s", 20.0, "lower"),
    ]
    details: dict[str, object] = {
        "size": vars(size),
        "seconds after apply, median": {
            stage: round(statistics.median(took), 3) for stage, took in {**stages, "pods": whole}.items()
        },
        "requests, loaded": dict(at_work.by_kind.most_common()),
        "requests, idle": dict(at_rest.by_kind.most_common()),
    }
    return figures, details


def _task_id(task: Object) -> bytes:
    return bytes.fromhex(task["status"]["taskId"][2:])


def _quantile(values: list[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def main() -> int:
    """Measure, print, write; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=Size.tasks)
    parser.add_argument("--pods", type=int, default=Size.pods, help="of each task")
    parser.add_argument("--sample", type=int, help="tasks that come one a second (a tenth)")
    parser.add_argument("--idle", type=float, default=Size.idle_seconds, metavar="SECONDS")
    asked = parser.parse_args()
    sample_size = asked.sample if asked.sample is not None else max(1, asked.tasks // 10)
    size = Size(asked.tasks, asked.pods, sample_size, idle_seconds=asked.idle)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    try:
        figures, details = asyncio.run(_interruptible(size, say))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    report.show("operator", figures)
    print(f"written: {report.write('operator', figures, details=details).relative_to(report.OUT.parents[1])}")
    return int(any(figure.met is False for figure in figures))


async def _interruptible(size: Size, say: Callable[[str], None]) -> tuple[list[Figure], dict[str, object]]:
    """SIGTERM ends everything as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await measure(size, say)


if __name__ == "__main__":
    sys.exit(main())
