"""The floor: plain TCP, one connection for each site; a round takes the model there and back, to all sites at once.

python -m covey_bench.peers.floor HOST ROUNDS     the server; in a site: the same
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

from covey_bench.peers import payload
from covey_bench.peers.trial import SITES, Rounds, Trial

PORT = 9092
SIZE = 4 * payload.parameters()
PIECE = 2**20


def run(trial: Trial) -> Rounds:
    host = trial.star.address(0)
    for place in range(SITES + 1):
        trial.start(place, sys.executable, "-m", "covey_bench.peers.floor", host, str(trial.rounds))
    return trial.measure()


def _serve(host: str, rounds: int) -> None:
    with socket.create_server((host, PORT)) as server:
        links = [server.accept()[0] for _ in range(SITES)]
    model = bytes(SIZE)

    def there_and_back(link: socket.socket) -> None:
        link.sendall(model)
        _receive(link)

    for _ in range(rounds):
        threads = [threading.Thread(target=there_and_back, args=(link,)) for link in links]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _take_part(host: str, rounds: int, site: str) -> None:
    link = _connect(host)
    model = bytes(SIZE)
    for number in range(1, rounds + 1):
        _receive(link)
        payload.mark(Path(os.environ[payload.MARKS]) / site, number)
        link.sendall(model)


def _connect(host: str) -> socket.socket:
    while True:
        try:
            link = socket.create_connection((host, PORT))
        except ConnectionRefusedError:
            continue
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link


def _receive(link: socket.socket) -> None:
    buffer, left = bytearray(PIECE), SIZE
    while left:
        count = link.recv_into(buffer, min(left, PIECE))
        if not count:
            raise SystemExit("the other side is gone")
        left -= count


if __name__ == "__main__":
    if int(os.environ[payload.SITE]) < 0:
        _serve(sys.argv[1], int(sys.argv[2]))
    else:
        _take_part(sys.argv[1], int(sys.argv[2]), os.environ[payload.SITE])
