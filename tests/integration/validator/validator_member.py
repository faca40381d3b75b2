"""One member in a test: keys, folders, a validator process that can be killed, and a numeric driver."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from covey_chain import signing
from covey_chain.anvil import free_port
from covey_chain.client import Chain
from covey_operator import keys
from covey_operator.plan.storage import TLS_CERT, TLS_KEY
from numeric_driver import NumericDriver


def make_tls(directory: Path, name: str) -> tuple[bytes, bytes]:
    """Write tls.key and tls.crt, made as the operator makes them; returns (key hash, certificate as DER)."""
    secret = {"data": keys.new_tls(name, dt.datetime.now(dt.UTC))}
    for entry in (TLS_KEY, TLS_CERT):
        (directory / entry).write_bytes(keys.read_entry(secret, entry))
    made = keys.read_tls(secret)
    return made.key_hash, made.certificate


@dataclass
class Site:
    """A member on loopback."""

    name: str
    index: int
    owner_key: str
    owner: str
    directory: Path
    port: int = field(default_factory=free_port)
    status_port: int = field(default_factory=free_port)
    session_key: bytes = field(default_factory=signing.new_key)
    process: Process | None = None
    driver: NumericDriver | None = None
    driving: asyncio.Task[None] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> tuple[bytes, bytes]:
        for folder in ("shared", "state", "output"):
            (self.directory / folder).mkdir(parents=True)
        (self.directory / "session.key").write_text("0x" + self.session_key.hex())
        return make_tls(self.directory, self.name)

    def configure(self, chain: Chain, task_id: bytes) -> None:
        d = self.directory
        settings = {
            "taskId": "0x" + task_id.hex(),
            "taskName": "numbers",
            "site": self.owner,
            "chain": {"rpcUrl": chain.url, "chainId": chain.chain_id, "contract": chain.domain.contract},
            "exchange": {"listen": self.endpoint},
            "socket": str(d / "shared/validator.sock"),
            "sharedDir": str(d / "shared"),
            "stateDir": str(d / "state"),
            "outputDir": str(d / "output"),
            "statusListen": f"127.0.0.1:{self.status_port}",
            "sessionKeyFile": str(d / "session.key"),
            "tlsKeyFile": str(d / "tls.key"),
            "tlsCertFile": str(d / "tls.crt"),
            "terminationLog": str(d / "termination.json"),
        }
        (d / "validator.json").write_text(json.dumps(settings))

    def drive(self, driver: NumericDriver) -> None:
        self.driver = driver
        self.driving = asyncio.create_task(driver.run())

    async def start(self) -> None:
        """Start the validator process (again)."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        with (self.directory / "validator.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "covey_validator", "--config", str(self.directory / "validator.json"),
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip

    async def kill(self) -> None:
        """As a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def exit_code(self, seconds: float = 120) -> int:
        assert self.process is not None
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def end(self) -> None:
        if self.driving is not None:
            self.driving.cancel()
            await asyncio.gather(self.driving, return_exceptions=True)
        if self.process is not None and self.process.returncode is None:
            await self.kill()

    @property
    def log(self) -> str:
        return (self.directory / "validator.log").read_text()

    @property
    def termination(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "termination.json").read_text())
        return found

    async def get(self, path: str) -> str:
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{self.status_port}{path}") as response,
        ):
            return await response.text()

    async def shows(self, field: str, value: object, seconds: float = 90) -> dict[str, Any]:
        """Wait until /status shows a value; gives the whole status."""
        async with asyncio.timeout(seconds):
            while True:
                found: dict[str, Any] = json.loads(await self.get("/status"))
                if found[field] == value:
                    return found
                await asyncio.sleep(0.05)

    def certified(self) -> int:
        """Rounds that are certified on this site's disk."""
        return max((int(p.stem) for p in (self.directory / "state/certified").glob("*.json")), default=0)

    async def reaches(self, round_number: int, seconds: float = 90) -> None:
        """Wait until a round is certified here."""
        async with asyncio.timeout(seconds):
            while self.certified() < round_number:
                assert self.process is not None
                assert self.process.returncode is None, self.log[-2000:]
                await asyncio.sleep(0.05)
