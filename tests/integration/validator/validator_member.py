"""One member in a test: a validator process that can be killed, and a numeric driver."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import aiohttp
from covey_consortium.member import Member
from numeric_driver import NumericDriver


@dataclass
class Site(Member):
    """A member on loopback."""

    index: int = 0
    driver: NumericDriver | None = None
    driving: asyncio.Task[None] | None = None

    def drive(self, driver: NumericDriver) -> None:
        self.driver = driver
        self.driving = asyncio.create_task(driver.run())

    async def end(self) -> None:
        if self.driving is not None:
            self.driving.cancel()
            await asyncio.gather(self.driving, return_exceptions=True)
        await super().end()

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
        """Wait until /status shows a value, or one of which a predicate holds; gives the whole status."""
        async with asyncio.timeout(seconds):
            while True:
                found: dict[str, Any] = json.loads(await self.get("/status"))
                if value(found[field]) if callable(value) else found[field] == value:
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
