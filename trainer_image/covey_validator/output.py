"""What is left at the end: the model and a report on the output volume, and the termination message."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from covey_chain.merkle import RewardTree
from covey_exchange.manifest import Array

from covey_validator import durable, tensors
from covey_validator.errors import TaskFailed
from covey_validator.progress import Progress
from covey_validator.records import CertifiedRound

KUBELET_LOG = Path("/dev/termination-log")
MESSAGE_BYTES_MAX = 4096  # Kubernetes cuts off the rest
METRICS_MAX = 32  # as many as the status of a task shows
TRANSACTIONS_MAX = 8  # the newest; earlier ones were seen while the rounds ran
_log = logging.getLogger(__name__)


def write_output(folder: Path, parameters: dict[str, Array], record: CertifiedRound, progress: Progress) -> Path:
    """Write model.safetensors, then report.json; each whole or not at all.

    Returns:
        Path of the model.

    Raises:
        OSError: the volume is full or read-only.
    """
    model = folder / "model.safetensors"
    tensors.write_file(model, parameters)
    report = {
        "task": progress.task,
        "taskId": "0x" + record.task_id.hex(),
        "rounds": record.round,
        "modelDigest": "0x" + record.model_digest.hex(),
        "loss": progress.loss,
        "metrics": progress.metrics,
        "bytesSent": progress.bytes_sent,
        "compressionRatio": progress.compression_ratio,
        "standing": progress.standing.as_json() if progress.standing else None,
        "rewards": {site: str(amount) for site, amount in record.rewards.items()},
        "result": json.loads(record.to_json()),
    }
    durable.write(folder / "report.json", json.dumps(report, indent=2).encode())
    return model


def success(record: CertifiedRound, site: str, location: str, progress: Progress) -> dict[str, Any]:
    """The termination message of a task that is done.

    It has all that the owner's operator needs to claim the reward, and the final figures, which nobody can ask for any
    more. Metrics, whose names a program chooses, come last and as far as there is room.
    """
    proof = RewardTree(record.rewards, record.task_id).proof(site)
    early = record.round < progress.rounds
    done = (
        f"{record.round} of {progress.rounds} rounds done, and nothing left to learn"
        if early
        else f"{record.round} rounds done"
    )
    metrics: dict[str, str] = {}
    document = {
        "outcome": "Succeeded",
        "reason": "RoundsDone",
        "message": f"{done}; the model is at {location}",
        "modelDigest": "0x" + record.model_digest.hex(),
        "modelLocation": location,
        "reward": str(record.rewards[site]),
        "rewardProof": ["0x" + sibling.hex() for sibling in proof],
        "round": record.round,
        "userError": False,
        "progress": {
            "round": progress.round,
            "rounds": progress.rounds,
            "loss": None if progress.loss is None else _number(progress.loss),
            "bytesSent": progress.bytes_sent,
            "rawBytes": progress.raw_bytes,
            "payloadBytes": progress.payload_bytes,
            "standing": progress.standing.as_json() if progress.standing else None,
            "transactions": [
                {"purpose": purpose, "hash": tx_hash} for purpose, tx_hash in progress.transactions[-TRANSACTIONS_MAX:]
            ],
            "metrics": metrics,
        },
    }
    room = MESSAGE_BYTES_MAX - len(_encoded(document))
    for name, value in sorted(progress.metrics.items())[:METRICS_MAX]:
        needed = len(_encoded({name: _number(value)})) - 1  # a comma more and two braces less
        if needed <= room:
            room -= needed
            metrics[name] = _number(value)
    return document


def failure(error: TaskFailed, round_number: int) -> dict[str, Any]:
    """The termination message of a task that failed here."""
    return {
        "outcome": "Failed",
        "reason": error.reason,
        "message": error.message,
        "round": round_number,
        "userError": error.user_error,
    }


def write_termination(path: Path | None, document: dict[str, Any]) -> None:
    """Leave the last word where the kubelet, or whoever is named in the settings, reads it."""
    target = path or (KUBELET_LOG if KUBELET_LOG.exists() else None)
    if target is None:
        return
    message = str(document["message"])
    while len(data := _encoded(document)) > MESSAGE_BYTES_MAX and message:
        # A character takes up to four bytes, so this never cuts too much; a few turns of the loop suffice.
        message = message[: -max(1, (len(data) - MESSAGE_BYTES_MAX) // 4)]
        document = {**document, "message": message}
    target.write_bytes(data)  # in place: the kubelet mounts this very file


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _number(value: float) -> str:
    """As a string: JSON has neither infinity nor NaN."""
    return f"{value:.9g}"
