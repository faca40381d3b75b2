"""One site of the ring benchmark: who it is, and how it tells the others when it starts and has ended."""

from __future__ import annotations

import base64
import json
import resource
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from covey_chain.signing import address_of, new_key
from covey_exchange.envelope import Peer
from covey_exchange.tls import TlsFiles, key_hash
from covey_operator import keys
from covey_operator.plan.storage import TLS_CERT, TLS_KEY

from covey_bench.netns import address

UPDATE_BYTES = 2**27
PIECE_BYTES = 2**20
PORT = 7443
_LOOK_SECONDS = 0.05


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


def common_name(index: int) -> str:
    """Of a site's certificate; gRPC tells trust anchors apart by it."""
    return f"site{index}"


def make_sites(folder: Path, count: int) -> None:
    """Keys and certificates, in ring order."""
    owners = sorted((address_of(new_key()) for _ in range(count)), key=str.lower)
    records = []
    for index, owner in enumerate(owners):
        secret = keys.new_tls(common_name(index), datetime.now(UTC))
        (folder / f"{index}.key").write_bytes(base64.b64decode(secret[TLS_KEY]))
        (folder / f"{index}.crt").write_bytes(base64.b64decode(secret[TLS_CERT]))
        der = keys.read_tls({"data": secret}).certificate.hex()
        records.append({"owner": owner, "session": new_key().hex(), "endpoint": f"{address(index)}:{PORT}", "der": der})
    (folder / "sites.json").write_text(json.dumps(records))


def until_told() -> None:
    """Say that we are ready, and wait for the start."""
    print("ready", flush=True)
    sys.stdin.readline()


def measured(began: float, cpu: float, anonymous_bytes: int = 0) -> None:
    """Say how long it took; then stay until all have, because others still need us."""
    found = {
        "seconds": time.monotonic() - began,
        "cpu": cpu_seconds() - cpu,
        "anonymous_bytes": anonymous_bytes,
    }
    print(json.dumps(found), flush=True)
    sys.stdin.readline()


class AnonymousMemory:
    """The most memory without mapped files that this process has while the context lasts, looked at now and then."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> AnonymousMemory:
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._looking.join()

    def _look(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            (kilobytes,) = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")]
            self.peak_bytes = max(self.peak_bytes, 1024 * int(kilobytes))
            if self._over.wait(_LOOK_SECONDS):
                return


def cpu_seconds() -> float:
    """Of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
