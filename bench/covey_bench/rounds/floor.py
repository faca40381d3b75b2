"""The floor: plain TCP, one connection for each site; a round is the model down and the model up, all at once."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from covey_bench.rounds.outcome import Outcome, Watch, marks
from covey_bench.rounds.star import Place

PORT = 9092
READ_BYTES = 1 << 20


def run(server: Place, sites: Sequence[Place], rounds: int, model_bytes: int) -> Outcome:
    """Play all rounds."""
    path = server.directory / "marks"
    common = [sys.executable, "-m", "covey_bench.rounds.floor"]
    server.spawn([*common, "server", model_bytes, rounds, len(sites), path])
    time.sleep(1)
    for site in sites:
        site.spawn([*common, "client", model_bytes, rounds, server.address])
    watch = Watch(sites)
    watch.until(lambda: len(marks(path, "end")) == rounds, 300, [p.directory / "log" for p in (server, *sites)])
    return watch.outcome(marks(path, "end"))


def _receive(connection: socket.socket, length: int) -> None:
    buffer = bytearray(READ_BYTES)
    while length:
        got = connection.recv_into(buffer, min(length, READ_BYTES))
        if not got:
            raise SystemExit("the other side has gone")
        length -= got


def _serve(length: int, rounds: int, sites: int, path: Path) -> None:
    listener = socket.create_server(("0.0.0.0", PORT))
    connections = [listener.accept()[0] for _ in range(sites)]
    data = bytes(length)

    def both(connection: socket.socket) -> None:
        connection.sendall(data)
        _receive(connection, length)

    with path.open("a", buffering=1) as out:
        for _ in range(rounds):
            threads = [threading.Thread(target=both, args=(connection,)) for connection in connections]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print("end", time.time(), file=out)


def _join(length: int, rounds: int, address: str) -> None:
    data = bytes(length)
    with socket.create_connection((address, PORT)) as connection:
        for _ in range(rounds):
            _receive(connection, length)
            connection.sendall(data)


if __name__ == "__main__":
    _, role, length_, rounds_, *rest = sys.argv
    if role == "server":
        _serve(int(length_), int(rounds_), int(rest[0]), Path(rest[1]))
    else:
        _join(int(length_), int(rounds_), rest[0])
