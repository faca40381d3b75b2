"""The operator's process seen from outside: its metrics, its memory, its processor time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
from covey_dev.operator import OperatorProcess
from prometheus_client.parser import text_string_to_metric_families

from covey_bench import cpu

WRITES = ("create", "apply", "patch", "delete", "put")


class Seen:
    """One operator process and its port of metrics and health."""

    def __init__(self, process: OperatorProcess, session: aiohttp.ClientSession) -> None:
        self.process = process
        self._session = session
        self._url = f"http://127.0.0.1:{process.port()}"

    async def ready(self) -> bool:
        """Whether it says that it is ready."""
        async with self._session.get(f"{self._url}/readyz") as response:
            return response.status == 200

    async def metrics(self) -> dict[tuple[str, ...], float]:
        """Series by name and values of the labels."""
        async with self._session.get(f"{self._url}/metrics") as response:
            text = await response.text()
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def passes(self) -> int:
        """Good passes over tasks until now."""
        return int((await self.metrics())["covey_operator_reconcile_total", "FederatedTask", "success"])

    async def leads(self) -> bool:
        """Whether it holds the Lease."""
        return bool((await self.metrics())["covey_operator_leader",])

    async def works(self) -> bool:
        """Whether it has ended a pass over a task."""
        return await self.passes() > 0

    async def through(self, tasks: int) -> bool:
        """Whether it is ready, has passed over as many tasks, and nothing is due."""
        metrics = await self.metrics()
        return await self.ready() and await self.passes() >= tasks and not metrics["covey_operator_queue_depth",]

    async def until_quiet(self, quiet_seconds: float, limit_seconds: float) -> None:
        """Wait until it has written nothing for a while, and nothing is due.

        Raises:
            TimeoutError: it goes on writing.
        """
        async with asyncio.timeout(limit_seconds):
            before, since = -1.0, time.monotonic()
            while time.monotonic() - since < quiet_seconds:
                metrics = await self.metrics()
                name = "covey_operator_api_requests_total"
                # Labels come in the order of the text: code, kind, verb.
                written = sum(value for series, value in metrics.items() if series[0] == name and series[3] in WRITES)
                if written != before or metrics["covey_operator_queue_depth",]:
                    before, since = written, time.monotonic()
                await asyncio.sleep(0.5)

    def memory_mb(self) -> tuple[float, float]:
        """Resident set now and at its largest, in units of 10⁶ bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
        return int(found["VmRSS"]) * 1024 / 1e6, int(found["VmHWM"]) * 1024 / 1e6

    def cpu_seconds(self) -> float:
        """Processor time until now, user and system."""
        return cpu.seconds_of(self.process.pid)
