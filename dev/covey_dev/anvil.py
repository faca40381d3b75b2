"""A development chain for all clusters and the host."""

from pathlib import Path

from covey_dev import foundry
from covey_dev.background import Service

CHAIN_ID = 31337
TICK_SECONDS = 2
STATES_KEPT = 128  # of the past, as a full node keeps; else anvil writes each to a file, and leaves all of them behind
SERVICE = Service("anvil", 8545)


def start(service: Service, block_seconds: int | None = None, keep_state: bool = False) -> str:
    """Start anvil unless it runs; returns its RPC URL.

    Args:
        service: says at which address of the host.
        block_seconds: mine a block at this interval only; without it, one per transaction, and one every
            `TICK_SECONDS`, so that the chain's clock goes on.
        keep_state: write the chain to a file every second and start from it the next time.
    """
    command: list[str | Path] = [foundry.ensure() / "bin/anvil", "--host", service.host]
    options = ["--port", str(service.port), "--chain-id", str(CHAIN_ID), "--silent"]
    options += ["--prune-history", str(STATES_KEPT)]
    if block_seconds:
        options += ["--block-time", str(block_seconds)]
    else:
        options += ["--mixed-mining", "--block-time", str(TICK_SECONDS)]
    if keep_state:
        options += ["--state", str(service.directory / "state.json"), "--state-interval", "1"]
    service.up([*command, *options])
    return f"http://{service.address}"
