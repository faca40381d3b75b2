"""One simulated member: its keys, its folders, and its two processes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from covey_chain import signing
from covey_chain.anvil import free_port
from covey_chain.client import Chain
from covey_operator.keys import new_tls, read_tls
from covey_operator.plan.storage import TLS_CERT, TLS_KEY

from covey_cli.errors import CommandError

_LOG_LINES = 15
_STOP_SECONDS = 10.0


@dataclass
class Site:
    """A member of the simulated consortium, on loopback."""

    name: str
    owner_key: str
    directory: Path
    data: Path
    port: int = field(default_factory=free_port)
    status_port: int = field(default_factory=free_port)
    session_key: bytes = field(default_factory=signing.new_key)
    processes: dict[str, Process] = field(default_factory=dict)
    last_status: dict[str, Any] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """Where peers dial."""
        return f"127.0.0.1:{self.port}"

    def make_keys(self) -> tuple[bytes, bytes]:
        """Write TLS and session keys; returns (SHA-256 of the public key, certificate as DER)."""
        self.directory.mkdir(parents=True, exist_ok=True)
        secret = new_tls(self.name, datetime.now(UTC))
        for entry in (TLS_KEY, TLS_CERT):
            self._private(entry, base64.b64decode(secret[entry]))
        self._private("session.key", ("0x" + self.session_key.hex()).encode())
        made = read_tls({"data": secret})
        return made.key_hash, made.certificate

    def _private(self, name: str, data: bytes) -> None:
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_bytes(data)

    async def start(self, chain: Chain, task_id: bytes, task_name: str, owner: str, program: Path) -> None:
        """Start validator and driver."""
        shared = self.directory / "shared"
        for folder in (shared, self.directory / "state", self.directory / "output"):
            folder.mkdir(exist_ok=True)
        config = {
            "taskId": "0x" + task_id.hex(),
            "taskName": task_name,
            "site": owner,
            "chain": {
                "rpcUrl": chain.url,
                "chainId": chain.chain_id,
                "contract": chain.domain.contract,
                "confirmations": 1,
            },
            "exchange": {"listen": self.endpoint},
            "socket": str(shared / "validator.sock"),
            "sharedDir": str(shared),
            "stateDir": str(self.directory / "state"),
            "outputDir": str(self.directory / "output"),
            "statusListen": f"127.0.0.1:{self.status_port}",
            "sessionKeyFile": str(self.directory / "session.key"),
            "tlsKeyFile": str(self.directory / TLS_KEY),
            "tlsCertFile": str(self.directory / TLS_CERT),
            "terminationLog": str(self.directory / "validator-termination.json"),
        }
        (self.directory / "validator.json").write_text(json.dumps(config, indent=1))
        path = os.pathsep.join([str(program), *sys.path])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        await self._spawn("validator", environment, "covey_validator", "--config", self.directory / "validator.json")
        await self._spawn(
            "driver", environment, "covey_trainer.local",
            "--socket", config["socket"], "--shared", shared, "--data", self.data,
            "--termination-log", self.directory / "driver-termination.json",
        )  # fmt: skip

    async def _spawn(self, part: str, environment: dict[str, str], module: str, *arguments: object) -> None:
        with (self.directory / f"{part}.log").open("ab") as log:
            self.processes[part] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, *map(str, arguments),
                env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    async def status(self, client: aiohttp.ClientSession) -> dict[str, Any]:
        """The validator's newest status; the last known one while it does not answer."""
        with suppress(aiohttp.ClientError, TimeoutError):
            async with client.get(f"http://127.0.0.1:{self.status_port}/status") as response:
                self.last_status = await response.json()
        return self.last_status

    def finished(self) -> bool:
        """Whether the validator has ended well.

        Raises:
            CommandError: one of the processes has ended badly; with the end of its log.
        """
        for part, process in self.processes.items():
            if process.returncode not in (None, 0):
                raise CommandError(
                    f"the {part} of {self.name} ended with {process.returncode}: {self._last_word(part)}"
                )
        return self.processes["validator"].returncode == 0

    def report(self) -> dict[str, Any]:
        """What the validator said at its end."""
        found: dict[str, Any] = json.loads((self.directory / "validator-termination.json").read_text())
        return found

    def _last_word(self, part: str) -> str:
        said = self.directory / f"{part}-termination.json"
        if said.exists() and (text := said.read_text()):
            found = json.loads(text)
            return f"{found.get('reason')}: {found.get('message')}"
        log = self.directory / f"{part}.log"
        return "\n  ".join(["", *log.read_text(errors="replace").splitlines()[-_LOG_LINES:]])

    async def stop(self) -> None:
        """End both processes."""
        for process in self.processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
