"""What the demo must remember between its commands: where the contracts are, and the members' keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from covey_dev import paths
from covey_dev.artifact import write_atomically
from covey_dev.place import Name
from pydantic import BaseModel, ConfigDict, Field


class DemoState(BaseModel):
    """One deployed consortium.

    Attributes:
        place: where its clusters are.
        rpc_url, chain_id: of the development chain.
        settlement, registry, market, token: addresses of the contracts.
        keys: name of the member -> 0x-hex owner key; worth nothing outside of this chain.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: Name = "sandbox"
    rpc_url: str
    chain_id: int
    settlement: str
    registry: str
    market: str
    token: str
    keys: Annotated[dict[str, str], Field(repr=False)]

    @staticmethod
    def path() -> Path:
        """Where it lies; readable by its owner only, because of the keys."""
        return paths.cache() / "demo/state.json"

    @classmethod
    def load(cls) -> DemoState | None:
        """What `save` wrote, or None."""
        path = cls.path()
        return cls.model_validate_json(path.read_bytes()) if path.exists() else None

    def save(self) -> None:
        """Write it, whole or not at all."""
        write_atomically(self.path(), self.model_dump_json(indent=1) + "\n", 0o600)
