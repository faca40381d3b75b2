"""`make bench-ring`: the ring of signed updates against plain mutual TLS and gRPC, between network namespaces (root).

Every site has one update and must get those of all others. In the rings of plain sockets and of gRPC the same number of
bytes goes to the same neighbour in 1 MiB pieces, over one connection; nobody passes them on as they come. Plain sockets
once send one piece again and again from the cache and do not look at what comes; and once send from memory, hash what
comes and keep it in a file, which is the least that verifying and passing on costs: their share is about what a ring
that does both can reach at best. All use TLS 1.3 with certificates on both sides; connections stand before
the clock starts. Covey's ring is measured in its second round, because a task has many and the first one finds no room
in memory made; the others' buffers are of one piece, which is warm after a moment.

At last three sites exchange updates that are too large for memory (`LARGE_BYTES` each), once: how much of it they need.

    python -m covey_bench.ring                           all
    python -m covey_bench.ring KIND INDEX FOLDER [LARGE] one site; started by the above; LARGE: a file with its update
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from covey_chain.signing import Domain
from covey_chain.types import UpdateHeader
from covey_exchange import segments
from covey_exchange.envelope import Roster, SiteUpdate
from covey_exchange.exchange import Exchange

from covey_bench import report
from covey_bench.netns import Network, network
from covey_bench.report import Figure
from covey_bench.ring_baselines import grpc_stream, mtls
from covey_bench.ring_site import (
    PIECE_BYTES,
    UPDATE_BYTES,
    AnonymousMemory,
    Site,
    cpu_seconds,
    make_sites,
    measured,
    until_told,
)

SIZES = (2, 3, 5)
REPEAT = 3
DOMAIN, TASK = Domain(31337, "0x" + "c0" * 20), bytes(32)
KINDS = ("covey", "mtls", "mtls_kept", "grpc")
LARGE_SITES = 3
LARGE_BYTES = 2**31


async def covey(site: Site, payload: bytes | memoryview, rounds: int) -> None:
    """A site of Covey's exchange; the last round is measured."""
    own = site.peers[site.index]
    leaves, codec = segments.leaves(payload), hashlib.sha256().digest()
    root = segments.merkle_root(leaves)
    roster = Roster(DOMAIN, TASK, site.peers)
    exchange = Exchange(
        domain=DOMAIN, task_id=TASK, site=own.address, peers=site.peers, tls=site.files, listen=own.endpoint,
        max_update_bytes=len(payload),
    )  # fmt: skip

    async def play_round(number: int) -> None:
        header = UpdateHeader(TASK, number, 0, own.address, bytes(32), codec, len(payload), root, 1)
        exchange.offer(roster.seal(header, site.session_key), payload, leaves)
        missing = len(site.peers) - 1
        async for item in exchange.messages():
            missing -= isinstance(item, SiteUpdate)
            if not missing:
                return

    await exchange.start()
    await exchange.until_connected(len(site.peers) - 1)
    for number in range(1, rounds):
        await play_round(number)
        exchange.prune(number + 1)
    await asyncio.to_thread(until_told)
    began, cpu = time.monotonic(), cpu_seconds()
    with AnonymousMemory() as memory:
        await play_round(rounds)
    await asyncio.to_thread(measured, began, cpu, memory.peak_bytes)
    await exchange.close()


@dataclass(frozen=True)
class Played:
    """One exchange.

    Attributes:
        seconds: until the last site had all.
        cpu: seconds of all sites together.
        anonymous_bytes: the most memory that a site had of its own, without mapped files; 0 if it does not say.
    """

    seconds: float
    cpu: float
    anonymous_bytes: int


def play(kind: str, count: int, folder: Path, hosts: Network, large: Sequence[Path] = ()) -> Played:
    """One exchange; `large` are files with the sites' updates."""
    processes = [
        subprocess.Popen(
            [*hosts.inside(index), sys.executable, "-m", "covey_bench.ring", kind, str(index), str(folder),
             *map(str, large[index : index + 1])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "GRPC_VERBOSITY": "ERROR"},
        )
        for index in range(count)
    ]  # fmt: skip

    def tell() -> None:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    def hear() -> list[str]:
        lines = [process.stdout.readline() for process in processes if process.stdout is not None]
        if not all(lines):
            raise SystemExit(f"a site of {kind} ended early")
        return lines

    try:
        hear()
        tell()
        found = [json.loads(line) for line in hear()]
        tell()
        for process in processes:
            process.wait(30)
    finally:
        for process in processes:
            process.kill()
    return Played(
        max(f["seconds"] for f in found), sum(f["cpu"] for f in found), max(f["anonymous_bytes"] for f in found)
    )


def measure(count: int) -> list[Figure]:
    """Medians, in turn."""
    times: dict[str, list[Played]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as name, network(count) as hosts:
        make_sites(Path(name), count)
        for _ in range(REPEAT):
            for kind, found in times.items():
                found.append(play(kind, count, Path(name), hosts))
    gigabytes = count * (count - 1) * UPDATE_BYTES / 1e9
    seconds = {kind: statistics.median(each.seconds for each in found) for kind, found in times.items()}
    cpu = {kind: statistics.median(each.cpu for each in found) for kind, found in times.items()}
    figures = [
        Figure(f"share_of_raw_mtls_n{count}", seconds["mtls"] / seconds["covey"], "x", 0.8),
        Figure(f"share_of_kept_mtls_n{count}", seconds["mtls_kept"] / seconds["covey"], "x"),
        Figure(f"share_of_grpc_n{count}", seconds["grpc"] / seconds["covey"], "x"),
    ]
    for kind in times:
        figures += [
            Figure(f"{kind}_n{count}_gbit_per_second_all_sites", 8 * gigabytes / seconds[kind], "Gbit/s"),
            Figure(f"{kind}_n{count}_cpu_seconds_per_gb", cpu[kind] / gigabytes, "s", None, "lower"),
        ]
    return figures


def measure_large() -> list[Figure]:
    """Updates that do not fit in memory, once."""
    with tempfile.TemporaryDirectory() as name, network(LARGE_SITES) as hosts:
        folder = Path(name)
        make_sites(folder, LARGE_SITES)
        updates = [folder / f"update-{index}" for index in range(LARGE_SITES)]
        for update in updates:
            with update.open("wb") as file:
                piece = os.urandom(PIECE_BYTES)
                file.writelines(piece for _ in range(LARGE_BYTES // PIECE_BYTES))
        played = play("covey", LARGE_SITES, folder, hosts, updates)
    return [
        Figure("large_update_gigabytes", LARGE_BYTES / 1e9, "GB"),
        Figure("large_anonymous_memory_of_update", played.anonymous_bytes / LARGE_BYTES, "x", 0.1, "lower"),
        Figure("large_seconds", played.seconds, "s", None, "lower"),
    ]


def main(arguments: list[str]) -> int:
    """Measure, print, write; 1 if a goal is missed."""
    if arguments:
        kind, index, folder, *large = arguments
        site = Site.load(Path(folder), int(index))
        if large:
            with Path(large[0]).open("rb") as file:  # views of the mapping live until the process ends, now
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                asyncio.run(covey(site, memoryview(mapped), rounds=1))
        elif kind == "covey":
            asyncio.run(covey(site, os.urandom(PIECE_BYTES) * (UPDATE_BYTES // PIECE_BYTES), rounds=2))
        elif kind == "grpc":
            grpc_stream(site)
        else:
            mtls(site, kept=kind == "mtls_kept")
        return 0
    if os.geteuid() != 0:
        print("network namespaces need root")
        return 2
    figures = [figure for count in SIZES for figure in measure(count)] + measure_large()
    report.show("ring", figures)
    print(f"written: {report.write('ring', figures).relative_to(report.OUT.parents[1])}")
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
