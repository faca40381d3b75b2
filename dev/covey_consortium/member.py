"""One member: keys, folders, and a validator process that can be killed."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from covey_chain import signing
from covey_chain.anvil import free_port
from covey_chain.client import Chain
from covey_operator import keys
from covey_operator.plan.storage import TLS_CERT, TLS_KEY


@dataclass
class Member:
    """A member and its validator.

    Attributes:
        host: address at which peers reach it.
        inside: prefix of a command, for a validator in a network namespace.
        program: what Python runs as validator.
    """

    name: str
    owner_key: str
    directory: Path
    host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    status_port: int = field(default_factory=free_port)
    inside: Sequence[str] = ()
    program: Sequence[str] = ("-m", "covey_validator")
    session_key: bytes = field(default_factory=signing.new_key)
    process: Process | None = None

    @property
    def owner(self) -> str:
        """Address of the owner."""
        return signing.address_of(signing.private_key(self.owner_key))

    @property
    def endpoint(self) -> str:
        """Where peers dial."""
        return f"{self.host}:{self.port}"

    @property
    def shared(self) -> Path:
        """The directory that driver and validator share."""
        return self.directory / "shared"

    def prepare(self) -> tuple[bytes, bytes]:
        """Folders and keys, made as the operator makes them; returns (key hash, certificate as DER)."""
        for folder in ("shared", "state", "output"):
            (self.directory / folder).mkdir(parents=True)
        (self.directory / "session.key").write_text("0x" + self.session_key.hex())
        secret = {"data": keys.new_tls(self.name, dt.datetime.now(dt.UTC))}
        for entry in (TLS_KEY, TLS_CERT):
            (self.directory / entry).write_bytes(keys.read_entry(secret, entry))
        made = keys.read_tls(secret)
        return made.key_hash, made.certificate

    def configure(self, chain: Chain, task_id: bytes, task_name: str) -> None:
        """Write the validator's configuration."""
        d = self.directory
        settings = {
            "taskId": "0x" + task_id.hex(),
            "taskName": task_name,
            "site": self.owner,
            "chain": {"rpcUrl": chain.url, "chainId": chain.chain_id, "contract": chain.domain.contract},
            "exchange": {"listen": self.endpoint},
            "socket": str(self.shared / "validator.sock"),
            "sharedDir": str(self.shared),
            "stateDir": str(d / "state"),
            "outputDir": str(d / "output"),
            "statusListen": f"127.0.0.1:{self.status_port}",
            "sessionKeyFile": str(d / "session.key"),
            "tlsKeyFile": str(d / TLS_KEY),
            "tlsCertFile": str(d / TLS_CERT),
            "terminationLog": str(d / "termination.json"),
        }
        (d / "validator.json").write_text(json.dumps(settings))

    async def start(self) -> None:
        """Start the validator process (again)."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        config = str(self.directory / "validator.json")
        command = [*self.inside, sys.executable, *self.program, "--config", config]
        with (self.directory / "validator.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)

    async def kill(self) -> None:
        """As a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def exit_code(self, seconds: float = 120) -> int:
        """Wait until the validator ends."""
        assert self.process is not None
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def end(self) -> None:
        """Kill the validator if it runs."""
        if self.process is not None and self.process.returncode is None:
            await self.kill()

    @property
    def log(self) -> str:
        """All that the validator has printed."""
        return (self.directory / "validator.log").read_text()
