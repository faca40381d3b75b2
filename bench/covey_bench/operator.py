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
import math
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from covey_dev.operator import OPERATOR_NAMESPACE
from covey_operator.kinds import Object

from covey_bench import cpu, report
from covey_bench import operator_audit as audit
from covey_bench.operator_chain import Partner
from covey_bench.operator_site import NAMESPACE, Bench, Size, apply, site
from covey_bench.operator_watch import Seen
from covey_bench.report import Figure

USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:covey-operator"
QUIET_SECONDS = 5.0
LOAD_LIMIT_SECONDS = 1200.0
SAMPLE = "sample-"


async def load(bench: Bench, operator: Seen) -> audit.Window:
    """Apply all tasks but the sample, and wait until every pod runs."""
    size, began = bench.size, time.time()
    count = size.tasks - size.sample
    for index in range(count):
        await apply(bench, f"bulk-{index:04d}")
    bench.say(f"{count:,} tasks were applied in {time.time() - began:.0f} s")

    async def all_run() -> bool:
        return bench.kubelet.running >= count * size.pods

    await bench.until(f"{count * size.pods:,} pods of {count:,} tasks", all_run, LOAD_LIMIT_SECONDS)
    loaded = audit.Window(began, time.time())
    bench.say(f"all their pods run after {loaded.seconds:.0f} s")
    await operator.until_quiet(QUIET_SECONDS, LOAD_LIMIT_SECONDS)
    return loaded


@dataclass(frozen=True)
class Work:
    """Processor time while the sample came, in seconds.

    Attributes:
        machine: of all cores together.
        parts: of each part of what ran.
        share: of what the cores could have done; near 1 tasks wait for processors.
    """

    machine: float
    parts: dict[str, float]
    share: float


async def sample(bench: Bench, operator: Seen) -> Work:
    """Apply the sample at its pace, and wait until every pod runs and nothing more is written."""
    pids = {"operator": [operator.process.pid], **bench.parts}
    machine, before = cpu.seconds_of_machine(), {part: cpu.seconds_of(*its) for part, its in pids.items()}
    size, began = bench.size, time.monotonic()
    for index in range(size.sample):
        await asyncio.sleep(max(0.0, began + index * size.pace_seconds - time.monotonic()))
        await apply(bench, f"{SAMPLE}{index:04d}")

    async def all_run() -> bool:
        return bench.kubelet.running >= size.tasks * size.pods

    await bench.until(f"pods of {size.sample} more tasks", all_run, LOAD_LIMIT_SECONDS)
    machine = cpu.seconds_of_machine() - machine
    parts = {part: round(cpu.seconds_of(*its) - before[part], 2) for part, its in pids.items()}
    work = Work(machine, parts, machine / (time.monotonic() - began) / cpu.cores())
    await operator.until_quiet(QUIET_SECONDS, LOAD_LIMIT_SECONDS)
    wrong = [task["metadata"]["name"] for task in await _tasks(bench) if task["status"]["phase"] != "Training"]
    if wrong:
        raise RuntimeError(f"{len(wrong)} tasks do not train, such as {wrong[0]}")
    bench.say(f"{size.tasks:,} tasks with {size.tasks * size.pods:,} pods train")
    return work


async def _tasks(bench: Bench) -> list[Object]:
    return await bench.admin.tasks(NAMESPACE)


@dataclass(frozen=True)
class Measured:
    """What one run has shown; times in seconds, memory in units of 10⁶ bytes.

    Memory is the larger of two: of the operator that has made all pods, and of one that started when all were there.
    """

    loaded: audit.Window
    sampled: Work
    quiet: audit.Window
    quiet_cpu: float
    work_cpu: float
    memory: float
    peak: float
    lease: float
    takeover: float
    startup: float
    startup_cpu: float


async def measure(size: Size, say: Callable[[str], None]) -> tuple[list[Figure], dict[str, object]]:
    """Everything in turn; returns the figures and what stands behind them."""
    async with site(size, say) as (bench, server):
        measured = await _run(bench)
        requests = list(audit.requests(server.directory))
        ids = {str(task["metadata"]["name"]): _task_id(task) for task in await _tasks(bench)}
    at_rest, at_work = (audit.traffic(requests, USER, window) for window in (measured.quiet, measured.loaded))
    times, stages = _latencies(size, bench.partner, requests, ids)
    tasks, idle = f"{size.tasks}_tasks", "5min" if size.idle_seconds == 300 else f"{size.idle_seconds:g}s"
    figures = [
        *times,
        Figure(f"rss_mb_{tasks}", measured.memory, "MB", 300.0 if size.full else None, "lower"),
        Figure(f"rss_peak_mb_{tasks}", measured.peak, "MB"),
        Figure(f"idle_writes_{idle}", at_rest.writes, "", 0.0, "lower"),
        Figure(f"idle_lease_writes_{idle}", at_rest.lease_writes, ""),
        Figure("idle_cpu_percent", 100 * measured.quiet_cpu / measured.quiet.seconds, "%"),
        Figure("cpu_ms_per_task", 1000 * measured.work_cpu / size.tasks, "ms"),
        Figure("sample_share_of_cores", measured.sampled.share, "", None, "lower"),
        Figure("sample_cpu_seconds_per_task", measured.sampled.machine / size.sample, "s", None, "lower"),
        Figure("api_requests_per_second_idle", at_rest.per_second, "1/s"),
        Figure("api_requests_per_second_loaded", at_work.per_second, "1/s"),
        Figure("load_seconds", measured.loaded.seconds, "s"),
        Figure(f"startup_seconds_{tasks}", measured.startup, "s"),
        Figure(f"startup_cpu_seconds_{tasks}", measured.startup_cpu, "s"),
        Figure("takeover_lease_seconds", measured.lease, "s"),
        Figure("takeover_seconds", measured.takeover, "s", 20.0, "lower"),
    ]
    details: dict[str, object] = {
        "size": vars(size),
        "seconds after apply, median": stages,
        "CPU seconds while the sample came": measured.sampled.parts,
        "requests, loaded": dict(at_work.by_kind.most_common()),
        "requests, idle": dict(at_rest.by_kind.most_common()),
    }
    return figures, details


async def _run(bench: Bench) -> Measured:
    size = bench.size
    async with bench.operator(COVEY_LEADER_ELECTION="true") as first:
        loaded = await load(bench, first)
        sampled = await sample(bench, first)
        bench.say(f"idle for {size.idle_seconds:g} s")
        work_cpu, began = first.cpu_seconds(), time.time()
        await asyncio.sleep(size.idle_seconds)
        quiet, quiet_cpu = audit.Window(began, time.time()), first.cpu_seconds() - work_cpu
        memory, peak = first.memory_mb()
        async with bench.operator(COVEY_LEADER_ELECTION="true") as second:
            warmed = await bench.until("a warm standby", second.ready, LOAD_LIMIT_SECONDS)
            bench.say(f"a standby was ready after {warmed:.1f} s")
            await asyncio.sleep(3)  # it has seen whose the Lease is
            killed = time.monotonic()
            first.process.kill()
            await bench.until("the Lease", second.leads, 60)
            lease = time.monotonic() - killed
            await bench.until("a pass of the standby", second.works, LOAD_LIMIT_SECONDS)
            takeover = time.monotonic() - killed
    bench.say(f"the standby had the Lease after {lease:.1f} s, and its first pass after {takeover:.1f} s")
    began = time.monotonic()
    async with bench.operator(COVEY_LEADER_ELECTION="false") as third:
        # Asking for the metrics of thousands of conditions costs the operator time: not too often.
        await bench.until("a pass over all tasks", lambda: third.through(size.tasks), LOAD_LIMIT_SECONDS, 1.0)
        startup, startup_cpu = time.monotonic() - began, third.cpu_seconds()
        anew, anew_peak = third.memory_mb()
    bench.say(f"a new operator was through after {startup:.1f} s")
    memory, peak = max(memory, anew), max(peak, anew_peak)
    return Measured(loaded, sampled, quiet, quiet_cpu, work_cpu, memory, peak, lease, takeover, startup, startup_cpu)


def _latencies(
    size: Size, partner: Partner, requests: list[audit.Request], ids: dict[str, bytes]
) -> tuple[list[Figure], dict[str, float]]:
    """Figures of the sample's times, and the medians of its stages."""
    made = audit.applied_and_made(requests, size.pods)
    times = {ids[name]: when for name, when in made.items() if name.startswith(SAMPLE)}
    if len(times) != size.sample:
        raise RuntimeError(f"the audit log has the pods of {len(times)} of {size.sample} tasks")
    whole = [last - applied for applied, last in times.values()]
    # The other member looks ten times a second: pods may be there before it has seen the start.
    own = [max(0.0, last - partner.started[task_id]) for task_id, (_, last) in times.items()]
    seen = {"published": partner.published, "accepted by the other": partner.accepted, "started": partner.started}
    stages = {stage: [at[task_id] - applied for task_id, (applied, _) in times.items()] for stage, at in seen.items()}
    figures = [
        Figure("apply_to_pods_p50_s", _quantile(whole, 0.5), "s"),
        Figure("apply_to_pods_p99_s", _quantile(whole, 0.99), "s", 2.0, "lower"),
        Figure("started_to_pods_p50_s", _quantile(own, 0.5), "s"),
        Figure("started_to_pods_p99_s", _quantile(own, 0.99), "s"),
    ]
    return figures, {stage: round(statistics.median(took), 3) for stage, took in {**stages, "pods": whole}.items()}


def _task_id(task: Object) -> bytes:
    return bytes.fromhex(task["status"]["taskId"][2:])


def _quantile(values: list[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


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
    report.show(f"operator, {size.tasks:,} tasks, {size.tasks * size.pods:,} pods", figures)
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
