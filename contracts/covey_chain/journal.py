"""Transactions on their way, by intent: in memory, or in a file that survives a restart."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sent:
    """A transaction that was signed for an intent.

    Attributes:
        transaction: its newest form.
        hashes: of all forms.
        sent_at: when the newest was sent, seconds since 1970.
        raw: the newest form, signed, 0x-hex. Signing again may give another hash where the signer is not this process.
    """

    transaction: dict[str, Any]
    hashes: tuple[str, ...]
    sent_at: float
    raw: str

    @property
    def nonce(self) -> int:
        """The nonce that all forms share; only one of them can ever be mined."""
        return int(self.transaction["nonce"])


class Journal:
    """What has been sent and is not known to be mined.

    Args:
        path: a file (JSON) to remember it in; None keeps it in memory. One wallet and chain a file.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        stored = json.loads(path.read_text()) if path is not None and path.exists() else {}
        # An older version kept no `raw`: the node refuses nothing at all, and the next rise of the fees signs anew.
        self._sent = {
            intent: Sent(entry["transaction"], tuple(entry["hashes"]), entry["sent_at"], entry.get("raw", "0x"))
            for intent, entry in stored.items()
        }

    def get(self, intent: str) -> Sent | None:
        """What has been sent for `intent`, if anything."""
        return self._sent.get(intent)

    def all(self) -> dict[str, Sent]:
        """Everything that is remembered, by intent."""
        return dict(self._sent)

    def put(self, intent: str, sent: Sent) -> None:
        """Remember what is about to be sent; on disk before this returns."""
        self._sent[intent] = sent
        self._save()

    def forget(self, intent: str) -> None:
        """The intent's transaction was mined, or can never be mined."""
        if self._sent.pop(intent, None) is not None:
            self._save()

    def _save(self) -> None:
        if self._path is None:
            return
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        with os.fdopen(handle, "w") as file:
            json.dump({intent: asdict(sent) for intent, sent in self._sent.items()}, file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
