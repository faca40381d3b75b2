"""go-ethereum as a child process, with the accounts that anvil has: the second implementation that tests run on."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from covey_chain.anvil import FUNDED_KEYS, Node, free_port
from covey_chain.signing import address_of, private_key
from covey_dev import golang

CHAIN_ID = 1337
COINS = 1000 * 10**18


@contextmanager
def geth(period: int = 0) -> Iterator[Node]:
    """Run geth's development chain until the block ends.

    Args:
        period: seconds between blocks; 0 mines as soon as a transaction waits.
    """
    binary, port = os.environ.get("COVEY_GETH") or str(golang.geth()), free_port()
    with tempfile.TemporaryDirectory(prefix="covey-geth-") as directory:
        command = [
            binary, "--dev", "--dev.period", str(period), "--datadir", directory, "--ipcdisable", "--nodiscover",
            "--http", "--http.addr", "127.0.0.1", "--http.port", str(port), "--http.api", "eth,net,web3,txpool,debug",
            "--authrpc.port", str(free_port()), "--maxpeers", "0", "--verbosity", "1",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        node = Node(f"http://127.0.0.1:{port}", CHAIN_ID, FUNDED_KEYS, process.pid)
        try:
            _await_answer(node, process)
            _fund(node)
            yield node
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ask(node: Node, method: str, *parameters: Any) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode()
    request = urllib.request.Request(node.url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        answer = json.load(response)
    error = answer.get("error")
    if error is not None and "indexing is in progress" in error["message"]:
        return None  # just after its start it does not know yet which transactions it has
    assert error is None, answer
    return answer["result"]


def _fund(node: Node) -> None:
    """From the one account that the development chain gives coins, and whose key geth holds."""
    (rich,) = ask(node, "eth_accounts")
    # With nonces of our own: those that geth takes itself may be those of transactions that it is just mining.
    sent = [
        ask(
            node, "eth_sendTransaction",
            {"from": rich, "nonce": hex(nonce), "to": address_of(private_key(key)), "value": hex(COINS)},
        )
        for nonce, key in enumerate(node.keys)
    ]  # fmt: skip
    _until(lambda: all(ask(node, "eth_getTransactionReceipt", hash_) for hash_ in sent))


def _await_answer(node: Node, process: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"geth ended with exit code {process.returncode} before it answered")
        with suppress(OSError):
            return int(ask(node, "eth_chainId"), 16) == CHAIN_ID
        return False

    _until(answers)


def _until(condition: Any, limit_seconds: float = 60.0) -> None:
    deadline = time.monotonic() + limit_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"geth: it did not come to pass within {limit_seconds:.0f} s")
        time.sleep(0.05)
