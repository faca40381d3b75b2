"""`make bench-ring`: the ring of signed updates against plain mutual TLS, between network namespaces (root).

Every site has one update and must get those of all others. In the ring of plain sockets the same number of bytes goes
to the same neighbour in 1 MiB pieces, over one connection; nobody keeps them or passes them on as they come. Once they
are not even looked at, and once hashed, which is the least that verifying costs. All use TLS 1.3 with certificates on
both sides; connections stand before the clock starts.

    python -m covey_bench.ring                       all
    python -m covey_bench.ring KIND INDEX FOLDER     one site; started by the above
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from covey_chain.signing import Domain, address_of, new_key
from covey_chain.types import UpdateHeader
from covey_exchange.envelope import Peer, Roster, SiteUpdate
from covey_exchange.exchange import Exchange
from covey_exchange.segments import payload_root
from covey_exchange.tls import TlsFiles, key_hash
from covey_operator import keys
from covey_operator.plan.storage import TLS_CERT, TLS_KEY

from covey_bench import report
from covey_bench.netns import bridged
from covey_bench.report import Figure

SIZES = (2, 3, 5)
UPDATE_BYTES = 2**27
PIECE_BYTES = 2**20
REPEAT = 3
PORT = 7443
BRIDGE = "cvbench"
DOMAIN, TASK = Domain(31337, "0x" + "c0" * 20), bytes(32)


@dataclass
class Site:
    """What a process needs to be one of the sites."""

    peers: list[Peer]
    index: int
    session_key: bytes
    files: TlsFiles

    @classmethod
    def load(cls, folder: Path, index: int) -> Site:
        records = json.loads((folder / "sites.json").read_text())
        peers = [
            Peer(r["owner"], address_of(bytes.fromhex(r["session"])), r["endpoint"],
                 key_hash(bytes.fromhex(r["der"])), bytes.fromhex(r["der"]))
            for r in records
        ]  # fmt: skip
        files = TlsFiles(folder / f"{index}.key", folder / f"{index}.crt")
        return cls(peers, index, bytes.fromhex(records[index]["session"]), files)


def make_sites(folder: Path, count: int) -> None:
    """Keys and certificates, in ring order."""
    owners = sorted((address_of(new_key()) for _ in range(count)), key=str.lower)
    records = []
    for index, owner in enumerate(owners):
        secret = keys.new_tls("covey", datetime.now(UTC))
        (folder / f"{index}.key").write_bytes(base64.b64decode(secret[TLS_KEY]))
        (folder / f"{index}.crt").write_bytes(base64.b64decode(secret[TLS_CERT]))
        der = keys.read_tls({"data": secret}).certificate.hex()
        records.append({"owner": owner, "session": new_key().hex(), "endpoint": f"{address(index)}:{PORT}", "der": der})
    (folder / "sites.json").write_text(json.dumps(records))


def address(index: int) -> str:
    """Of a site."""
    return f"10.98.0.{index + 1}"


# --- one site -------------------------------------------------------------------------------------------------------


def until_told() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def measured(began: float, cpu: float) -> None:
    """Say how long it took; then stay until all have, because others still need us."""
    print(json.dumps({"seconds": time.monotonic() - began, "cpu": cpu_seconds() - cpu}), flush=True)
    sys.stdin.readline()


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def covey(site: Site) -> None:
    """A site of Covey's exchange."""
    own = site.peers[site.index]
    payload = os.urandom(PIECE_BYTES) * (UPDATE_BYTES // PIECE_BYTES)
    exchange = Exchange(
        domain=DOMAIN, task_id=TASK, site=own.address, peers=site.peers, tls=site.files, listen=own.endpoint,
        max_update_bytes=UPDATE_BYTES,
    )  # fmt: skip
    root, codec = payload_root(payload), hashlib.sha256().digest()
    header = UpdateHeader(TASK, 1, 0, own.address, bytes(32), codec, len(payload), root, 1)
    envelope = Roster(DOMAIN, TASK, site.peers).seal(header, site.session_key)
    await exchange.start()
    await exchange.until_connected(len(site.peers) - 1)
    await asyncio.to_thread(until_told)
    began, cpu = time.monotonic(), cpu_seconds()
    exchange.offer(envelope, payload)
    missing = len(site.peers) - 1
    async for item in exchange.messages():
        missing -= isinstance(item, SiteUpdate)
        if not missing:
            break
    await asyncio.to_thread(measured, began, cpu)
    await exchange.close()


def mtls(site: Site, hashed: bool) -> None:
    """A site of the ring of plain sockets; `hashed`: what comes goes through SHA-256, as verifying it must."""
    total = UPDATE_BYTES * (len(site.peers) - 1)
    anchors = b"".join(peer.certificate for peer in site.peers)

    def context(protocol: int) -> ssl.SSLContext:
        made = ssl.SSLContext(protocol)
        made.minimum_version, made.check_hostname = ssl.TLSVersion.TLSv1_3, False
        made.verify_mode = ssl.CERT_REQUIRED
        made.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        made.load_cert_chain(site.files.certificate, site.files.key)
        made.load_verify_locations(cadata=anchors)
        return made

    server = socket.create_server((address(site.index), PORT))
    successor = address((site.index + 1) % len(site.peers))

    def connect() -> socket.socket:
        for _ in range(100):
            try:
                return socket.create_connection((successor, PORT))
            except ConnectionRefusedError:
                time.sleep(0.1)
        raise SystemExit("no successor")

    links: dict[str, ssl.SSLSocket] = {}

    def dial() -> None:
        links["out"] = context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(connect())

    dialling = threading.Thread(target=dial)
    dialling.start()
    links["in"] = context(ssl.PROTOCOL_TLS_SERVER).wrap_socket(server.accept()[0], server_side=True)
    dialling.join()
    until_told()
    began, cpu = time.monotonic(), cpu_seconds()

    def send() -> None:
        piece = os.urandom(PIECE_BYTES)
        for _ in range(total // PIECE_BYTES):
            links["out"].sendall(piece)

    sending = threading.Thread(target=send)
    sending.start()
    buffer, left, digest = memoryview(bytearray(PIECE_BYTES)), total, hashlib.sha256()
    while left:
        count = links["in"].recv_into(buffer)
        left -= count
        if hashed:
            digest.update(buffer[:count])
    sending.join()
    measured(began, cpu)


# --- all of them ----------------------------------------------------------------------------------------------------


def play(kind: str, count: int, folder: Path, inside: Callable[[int], list[str]]) -> tuple[float, float]:
    """Seconds until the last site had all, and CPU seconds of all sites together."""
    processes = [
        subprocess.Popen(
            [*inside(index), sys.executable, "-m", "covey_bench.ring", kind, str(index), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
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
    return max(f["seconds"] for f in found), sum(f["cpu"] for f in found)


def measure(count: int) -> list[Figure]:
    """Medians, in turn."""
    times: dict[str, list[tuple[float, float]]] = {"covey": [], "mtls": [], "mtls_sha256": []}
    with tempfile.TemporaryDirectory() as name, bridged(BRIDGE, count, address) as inside:
        make_sites(Path(name), count)
        for _ in range(REPEAT):
            for kind, found in times.items():
                found.append(play(kind, count, Path(name), inside))
    gigabytes = count * (count - 1) * UPDATE_BYTES / 1e9
    seconds = {kind: statistics.median(s for s, _ in found) for kind, found in times.items()}
    cpu = {kind: statistics.median(c for _, c in found) for kind, found in times.items()}
    figures = [
        Figure(f"share_of_raw_mtls_n{count}", seconds["mtls"] / seconds["covey"], "x", 0.8),
        Figure(f"share_of_hashed_mtls_n{count}", seconds["mtls_sha256"] / seconds["covey"], "x"),
    ]
    for kind in times:
        figures += [
            Figure(f"{kind}_n{count}_gbit_per_second_all_sites", 8 * gigabytes / seconds[kind], "Gbit/s"),
            Figure(f"{kind}_n{count}_cpu_seconds_per_gb", cpu[kind] / gigabytes, "s", None, "lower"),
        ]
    return figures


def main(arguments: list[str]) -> int:
    """Measure, print, write; 1 if a goal is missed."""
    if arguments:
        kind, index, folder = arguments
        site = Site.load(Path(folder), int(index))
        if kind == "covey":
            asyncio.run(covey(site))
        else:
            mtls(site, hashed=kind == "mtls_sha256")
        return 0
    if os.geteuid() != 0:
        print("network namespaces need root")
        return 2
    figures = [figure for count in SIZES for figure in measure(count)]
    report.show("ring", figures)
    print(f"written: {report.write('ring', figures).relative_to(report.OUT.parents[1])}")
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
