"""A development EVM node (Foundry's anvil) as a child process."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CHAIN_ID = 31337
# Of the past, as many as a full node of Ethereum keeps. By default anvil writes each to a file, as large as the storage
# of all contracts, and leaves these files behind.
STATES_KEPT = 128
# The first accounts of the mnemonic that every development node uses; worthless anywhere else.
FUNDED_KEYS = (
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    "0x92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    "0x4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
    "0xdbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
    "0x2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
)


class AnvilMissingError(RuntimeError):
    """There is no anvil on this machine."""


class PortTakenError(RuntimeError):
    """The node's port is somebody else's, or its address is not this machine's."""


@dataclass(frozen=True)
class Node:
    """A running development node."""

    url: str
    chain_id: int
    keys: tuple[str, ...]
    pid: int


def binary() -> str:
    """Path of anvil: COVEY_ANVIL, the tool cache, or PATH.

    Raises:
        AnvilMissingError: found nowhere.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cached = sorted((cache / "covey" / "tools").glob("foundry-*/bin/anvil"))
    found = os.environ.get("COVEY_ANVIL") or (str(cached[-1]) if cached else None) or shutil.which("anvil")
    if found is None:
        raise AnvilMissingError("anvil is not installed: run `make tools`, or set COVEY_ANVIL to its path")
    return found


_PORTS = range(15_000, 30_000)  # below those that systems give to outgoing connections
_given: set[int] = set()


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on; each is given once, as it is not held."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311 (no secret)
        with socket.socket() as probe, suppress(OSError):
            if port not in _given:
                probe.bind(("127.0.0.1", port))
                _given.add(port)
                return port


@contextmanager
def anvil(
    host: str = "127.0.0.1",
    port: int | None = None,
    block_seconds: int | None = None,
    tick_seconds: int | None = None,
    free_gas: bool = False,
) -> Iterator[Node]:
    """Run anvil until the block ends.

    Args:
        host: address to listen on.
        port: TCP port; a free one if None.
        block_seconds: time between blocks; None mines every transaction at once.
        tick_seconds: mines a block this often as well, so that the chain's clock goes on when nobody sends anything:
            the end of a roll call waits for it.
        free_gas: whether transactions cost nothing, as on the chain of a consortium.

    Raises:
        AnvilMissingError: there is no anvil on this machine.
        PortTakenError: somebody listens there already.
    """
    chosen = port or free_port()
    _require_free(host, chosen)
    command = [binary(), "--host", host, "--port", str(chosen), "--chain-id", str(CHAIN_ID), "--silent"]
    command += ["--prune-history", str(STATES_KEPT)]
    if block_seconds:
        command += ["--block-time", str(block_seconds)]
    elif tick_seconds:
        command += ["--mixed-mining", "--block-time", str(tick_seconds)]
    if free_gas:
        command += ["--base-fee", "0", "--gas-price", "0", "--disable-min-priority-fee"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    url = f"http://{host}:{chosen}"
    try:
        _await_answer(url, process)
        yield Node(url, CHAIN_ID, FUNDED_KEYS, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _require_free(host: str, port: int) -> None:
    # Otherwise whoever listens there would answer in the place of our node.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTakenError(
                f"anvil cannot listen on {host}:{port} ({error.strerror}); is the port taken?"
            ) from error


def _await_answer(url: str, process: subprocess.Popen[bytes], limit_seconds: float = 20.0) -> None:
    request = urllib.request.Request(  # noqa: S310 - our own loopback URL
        url,
        data=b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}',
        headers={"Content-Type": "application/json"},
    )
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"anvil ended with exit code {process.returncode} before it answered at {url}")
        with suppress(OSError), urllib.request.urlopen(request, timeout=1):  # noqa: S310
            return
        time.sleep(0.05)
    raise RuntimeError(f"anvil at {url} did not answer within {limit_seconds:.0f} s")
